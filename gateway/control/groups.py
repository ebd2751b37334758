"""Keeps the engine's groups of accounts as the directory of users has them.

Whose an account is stands in PostgreSQL, and what follows from it (master, firm, self-trade group) in the engine, set by a sequenced
command. Nothing makes the two one transaction: a gateway may die between them, an account with orders cannot change its groups, another
gateway may have made the change. So each difference is looked for (at the start, in each epoch, after each change, and in turn for
ever) and what is missing is sent until there is none; sending it twice changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from gateway.access import codes
from gateway.access.cache import AccessCache
from gateway.access.changes import IDENTITY
from gateway.access.groups import Groups, stp_is_chosen, wanted
from gateway.access.records import CLIENT, Account, Record, User
from gateway.control.catalog import Catalog
from gateway.control.messages import Refused, Reply, Request, SetGroups
from protocol import enums as e

PAUSE_S: Final = 1.0
REFUSED_S: Final = 30.0
SLICE: Final = 512
"""Accounts looked at in one turn, so that nobody waits long for a look at all of them."""
SHOWN_MAX: Final = 20
_BUSY: Final = "it has open orders or money in flight; cancel them, and the groups follow by themselves"
_UNDER_WAY: Final = "a change of its groups is under way"

Execute = Callable[[Request], Awaitable[Reply]]


class GroupKeeper:
    """Compares and sends.

    Parameters
    ----------
    cache : AccessCache
    catalog : Catalog
        Whose view has the engine's groups.
    """

    def __init__(self, cache: AccessCache, catalog: Catalog) -> None:
        self._cache = cache
        self._catalog = catalog
        self._execute: Execute | None = None
        self._is_final: Callable[[int], bool] = lambda _account: True
        self._view: Any = None
        self._left: list[int] = []
        """Accounts that this round has not looked at yet."""
        self._is_checked = False
        self._differing: dict[int, str] = {}
        """Why, by account."""
        self._touched: set[int] = set()
        """Accounts of which the directory has something new."""
        self._refused: dict[int, tuple[Groups, float]] = {}
        """What the engine refused, and when: each refusal is a command in the journal."""
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        cache.on_change(self._note)

    def executes_by(self, execute: Execute, is_final: Callable[[int], bool]) -> None:
        """Have commands sent by ``execute``; ``is_final`` says that no SET_GROUPS of an account is under way."""
        self._execute, self._is_final = execute, is_final

    def status(self) -> dict[str, Any]:
        """Accounts whose groups are not as the directory has them, and why; ``checked``: all were looked at in this epoch."""
        shown = [
            {"account": account, "why": self._differing[account]} for account in sorted(self._differing)[:SHOWN_MAX]
        ]
        return {"checked": self._is_checked, "different": len(self._differing), "accounts": shown}

    async def run(self) -> None:
        """Look and send until cancelled."""
        while True:
            self._changed.clear()
            try:
                self._look()
                for account in [*self._differing, *self._touched]:
                    await self._send(account, IDENTITY, "")
                    self._touched.discard(account)
            except Refused:
                # No engine, or no tables of it yet.
                self._is_checked = False
            if self._left and not self._is_checked and self._view is not None:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def settle(self, accounts: Iterable[int], operator: str, reason: str) -> dict[str, Any]:
        """Send for these accounts now, as ``operator``; gives what to tell: accounts that have their groups, and why others have not."""
        told: dict[str, Any] = {"set": [], "waiting": {}}
        for account in accounts:
            try:
                why = await self._send(account, operator, reason)
            except Refused as refused:
                why = str(refused)
            if why:
                self._differing[account] = told["waiting"][str(account)] = why
            else:
                told["set"].append(account)
        return told

    def refuse_foreign(self, args: SetGroups) -> None:
        """Raise Refused where an operator would set by hand what follows from whose the account is."""
        account = self._catalog.account(args.account)
        row = self._cache.directory.accounts.get(account)
        if row is None:
            return
        user = self._cache.directory.users[row.user_id]
        if args.master is not None and self._catalog.account(args.master, "args.master") != row.main:
            raise Refused(
                codes.BAD_VALUE, f"account {account} is {user.name}'s: its master is {row.main}", "args.master"
            )
        if args.firm is not None and args.firm != user.firm_id:
            detail = f"account {account} is {user.name}'s: its firm is that of `cambist firm assign {user.name}`"
            raise Refused(codes.BAD_VALUE, detail, "args.firm")

    # --- looking ------------------------------------------------------------------------------------------------------

    def _note(self, rows: list[Record]) -> None:
        directory = self._cache.directory
        for row in rows:
            if isinstance(row, Account):
                self._touched.add(row.account)
            elif isinstance(row, User) and row.kind == CLIENT:
                self._touched.update(account.account for account in directory.accounts_of(row.user_id))
        if self._touched:
            self._changed.set()

    def _look(self) -> None:
        """Compare the next accounts of the round; a new epoch begins a new one."""
        directory = self._cache.directory
        view = self._catalog.view
        if view is not self._view:
            self._view, self._left, self._is_checked = view, list(directory.accounts), False
        elif not self._left:
            self._left = list(directory.accounts)
        turn, self._left = self._left[:SLICE], self._left[SLICE:]
        for account in turn:
            if account not in self._differing and self._difference(account) is not None:
                self._differing[account] = _UNDER_WAY
        if not self._left and self._cache.loaded.is_set():
            self._is_checked = True

    def _difference(self, account: int) -> Groups | None:
        """Groups that the account must have and has not; None where it has them, or where nothing can trade."""
        if account > self._catalog.limits.accounts:
            return None
        if self._catalog.view.account(account).status in {e.ACCOUNT_NONE, e.ACCOUNT_CLOSED}:
            return None
        now = self._catalog.view.groups(account)
        must = wanted(self._cache.directory, account, now)
        return None if must == now else must

    async def _send(self, account: int, operator: str, reason: str) -> str:
        """Bring one account up to date; why it is not, or "". Raises Refused where there is no engine."""
        async with self._lock:
            must = self._difference(account)
            if must is None and self._is_final(account):
                self._differing.pop(account, None)
                return ""
            why = await self._sent(account, must, operator, reason)
            if why:
                self._differing[account] = why
            else:
                self._differing.pop(account, None)
            return why

    async def _sent(self, account: int, must: Groups | None, operator: str, reason: str) -> str:
        if must is None or not self._is_final(account):
            # What an operator has just chosen would be overwritten with what was read before.
            return _UNDER_WAY
        if self._catalog.view.is_active(account):
            return _BUSY
        if must.firm > self._catalog.limits.firms:
            return f"firm {must.firm} is beyond tables.firms = {self._catalog.limits.firms}"
        refused, at_s = self._refused.get(account, (None, 0.0))
        if refused == must and time.monotonic() < at_s + REFUSED_S:
            return self._differing.get(account, _UNDER_WAY)
        assert self._execute is not None
        args = SetGroups(account=account, master=must.master or account, firm=must.firm)
        if not stp_is_chosen(must.stp_group):
            args.stp_group = "user"
        user = self._cache.directory.users[self._cache.directory.accounts[account].user_id]
        reply = await self._execute(
            Request(None, "set_groups", args, operator, reason or f"account of user {user.name}")
        )
        self._refused.pop(account, None)
        if reply.error is None:
            return ""
        if reply.result is not None:
            self._refused[account] = must, time.monotonic()
        return f"{reply.error.name}: {reply.error.detail or reply.error.text}"
