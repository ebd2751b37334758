"""The engine's groups follow the users, whatever is cut off in between; what an operator chose stays."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest

from gateway.access import changes, codes
from gateway.access.cache import AccessCache
from gateway.access.groups import STP_ALONE, STP_USER, Groups, stp_is_chosen, stp_words, wanted
from gateway.control import fees
from gateway.control.catalog import Catalog
from gateway.control.groups import GroupKeeper
from gateway.control.messages import Refused, Reply, Request, SetGroups, reason_error
from gateway.control.names import NameBook
from gateway.control.view import AccountRow
from protocol import enums as e
from protocol import reasons
from protocol.instance import Limits
from tests.access.support import NOW_NS
from tests.gateway.support import FakeView
from tests.gateway.test_desk import MemoryCache

FIRMS = 5


class Venue:
    """A directory and an engine that knows groups, with one gateway after the other."""

    def __init__(self, accounts: int = 12) -> None:
        self.cache = MemoryCache()
        self.view = FakeView()
        self.view.account_rows = {n: AccountRow(n, e.ACCOUNT_OPEN, 1) for n in range(1, accounts + 1)}
        self.view.group_rows = dict.fromkeys(self.view.account_rows, Groups(0, 0, 0))
        self.catalog = Catalog(self.view, Limits(accounts=accounts, firms=FIRMS), NameBook())
        self.sent: list[Request] = []
        self.cut = False
        """Whether what is sent is lost."""
        self.start()

    def start(self) -> None:
        self.keeper = GroupKeeper(cast("AccessCache", self.cache), self.catalog)
        self.keeper.executes_by(self._execute, lambda _account: True)

    async def _execute(self, request: Request) -> Reply:
        if self.cut:
            raise Refused(reasons.ENGINE_DOWN)
        self.sent.append(request)
        reason = self.send(request.args)
        error = reason_error(reason) if reason else None
        return Reply(None, ok=error is None, result={"seq": len(self.sent)}, error=error)

    def send(self, args: Any) -> int:
        """SET_GROUPS as risk decides it; 0 or the reason."""
        head = fees.groups_group(self.catalog, args, "ann", "why")[0]
        account, master = int(head["account"]), int(head["price_ticks"])
        if account in self.view.active:
            return reasons.ACCOUNT_HAS_ORDERS
        of_master = self.view.group_rows[master].master if master else 0
        if of_master or (master and any(row.master == account for row in self.view.group_rows.values())):
            return reasons.BAD_GROUP
        self.view.group_rows[account] = Groups(master, int(head["qty_lots"]), int(head["trigger_price_ticks"]))
        return 0

    def accounts_sent(self) -> list[int | str]:
        return [request.args.account for request in self.sent if isinstance(request.args, SetGroups)]

    def do(self, change: Any) -> None:
        asyncio.run(self.cache.act(change, actor="ann"))

    def user(self, name: str, *accounts: int) -> None:
        self.do(lambda d: changes.create_user(d, name, "", NOW_NS, temporary=False))
        for account in accounts:
            self.do(lambda d, a=account: changes.attach_account(d, name, a, ""))

    def firm(self, user: str, firm: str) -> None:
        self.do(lambda d: changes.assign_firm(d, user, firm))

    def turn(self) -> None:
        """Let the keeper run until it has looked at everything and waits."""

        async def scenario() -> None:
            running = asyncio.ensure_future(self.keeper.run())
            for _ in range(400):
                await asyncio.sleep(0)
            running.cancel()

        asyncio.run(scenario())

    def differing(self) -> list[int]:
        directory, rows = self.cache.directory, self.view.group_rows
        return [a for a in directory.accounts if wanted(directory, a, rows[a]) != rows[a]]


def test_master_firm_and_self_trade_group_follow_the_user() -> None:
    venue = Venue()
    venue.do(lambda d: changes.create_firm(d, "acme", 1, FIRMS))
    venue.user("alice", 3, 4, 5)
    venue.firm("alice", "acme")
    venue.turn()
    group = STP_USER + 3
    assert [Groups(0, 1, group), Groups(3, 1, group), Groups(3, 1, group)] == [
        venue.view.group_rows[a] for a in (3, 4, 5)
    ]
    assert Groups(0, 0, 0) == venue.view.group_rows[6]
    assert {"checked": True, "different": 0, "accounts": []} == venue.keeper.status()
    count = len(venue.sent)
    venue.turn()
    venue.start()
    venue.turn()
    assert count == len(venue.sent), "nothing is sent twice"
    venue.firm("alice", "")
    venue.turn()
    assert Groups(3, 0, group) == venue.view.group_rows[4]


def test_account_with_orders_waits_and_follows_when_they_have_ended() -> None:
    venue = Venue()
    venue.view.active.add(4)
    venue.user("alice", 3, 4)
    venue.turn()
    assert [3] == venue.accounts_sent()
    status = venue.keeper.status()
    assert (1, 4) == (status["different"], status["accounts"][0]["account"])
    assert "open orders" in status["accounts"][0]["why"]
    venue.view.active.clear()
    venue.turn()
    assert (0, []) == (venue.keeper.status()["different"], venue.differing())


def test_groups_chosen_by_an_operator_survive_and_can_be_given_back() -> None:
    venue = Venue()
    venue.user("alice", 3, 4, 5)
    venue.turn()
    assert 0 == venue.send(SetGroups(account=4, stp_group=77))
    assert 0 == venue.send(SetGroups(account=5, stp_group=0))
    venue.do(lambda d: changes.create_firm(d, "acme", 1, FIRMS))
    venue.firm("alice", "acme")
    venue.start()
    venue.turn()
    assert [Groups(3, 1, 77), Groups(3, 1, STP_ALONE + 5)] == [venue.view.group_rows[a] for a in (4, 5)]
    assert 0 == venue.send(SetGroups(account=4, stp_group="user"))
    venue.turn()
    assert Groups(3, 1, STP_USER + 3) == venue.view.group_rows[4]


def test_operator_sets_no_master_or_firm_of_an_account_that_has_an_owner() -> None:
    venue = Venue()
    venue.user("alice", 3, 4)
    venue.keeper.refuse_foreign(SetGroups(account=4, master=3, firm=0, stp_group=9))
    venue.keeper.refuse_foreign(SetGroups(account=6, master=3, firm=2))
    for args in (SetGroups(account=4, master=4), SetGroups(account=3, firm=2)):
        with pytest.raises(Refused) as refused:
            venue.keeper.refuse_foreign(args)
        assert codes.BAD_VALUE == refused.value.code


def test_change_of_groups_under_way_is_waited_for() -> None:
    venue = Venue()
    venue.user("alice", 3)
    venue.keeper.executes_by(venue._execute, lambda _account: False)
    venue.turn()
    assert [] == venue.sent
    assert 1 == venue.keeper.status()["different"]


def test_refusal_of_the_engine_is_told_and_not_repeated_at_once() -> None:
    venue = Venue()
    venue.view.group_rows[6] = Groups(4, 0, 0)
    venue.user("alice", 3, 4)
    venue.turn()
    venue.turn()
    assert [3, 4] == venue.accounts_sent()
    assert "BAD_GROUP" in venue.keeper.status()["accounts"][0]["why"]


@pytest.mark.parametrize("seed", range(20))
def test_groups_follow_after_any_history_of_changes_kills_and_outages(seed: int) -> None:
    rng = random.Random(seed)
    venue = Venue(40)
    chosen: dict[int, int] = {}
    for number in range(1, FIRMS + 1):
        venue.do(lambda d, n=number: changes.create_firm(d, f"firm{n}", 1, FIRMS))
    free = list(venue.view.account_rows)
    rng.shuffle(free)
    for k in range(6):
        venue.user(f"user{k}")
    for _ in range(120):
        what = rng.random()
        user = f"user{rng.randrange(6)}"
        if what < 0.3 and free:
            venue.do(lambda d, u=user: changes.attach_account(d, u, free.pop(), ""))
        elif what < 0.5:
            venue.firm(user, rng.choice(["", *(f"firm{n}" for n in range(1, FIRMS + 1))]))
        elif what < 0.6:
            account = rng.randrange(1, 41)
            group = rng.choice([0, 5, 6, STP_ALONE])
            if account not in venue.view.active and not venue.send(
                SetGroups(account=account, stp_group=group % STP_ALONE)
            ):
                chosen[account] = venue.view.group_rows[account].stp_group
        elif what < 0.75:
            venue.view.active ^= {rng.randrange(1, 41)}
        elif what < 0.85:
            venue.start()
        elif what < 0.92:
            venue.cut = not venue.cut
        else:
            venue.turn()
    venue.view.active.clear()
    venue.cut = False
    if rng.random() < 0.5:
        venue.start()
    venue.turn()
    assert [] == venue.differing(), f"seed {seed}"
    assert chosen == {account: venue.view.group_rows[account].stp_group for account in chosen}
    assert all(stp_is_chosen(group) for group in chosen.values())


def test_self_trade_groups_in_words() -> None:
    assert ["alone", "7, by an operator", "accounts of main account 7", "alone, by an operator"] == [
        stp_words(group) for group in (0, 7, STP_USER + 7, STP_ALONE + 7)
    ]
