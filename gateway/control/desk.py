"""Who acts on the control socket, and what they may: checked before a command is numbered.

Whoever reaches the socket is the home's owner by the rules of the system, and may act without signing in, as whoever a request's
``operator`` says: that is how an exchange begins. The name of a registered operator is not for the taking: a connection must have
signed in as it, and can then do what its roles allow, no more; what needs four eyes becomes a proposal. With ``owner_acts`` off the
owner, too, must sign in as soon as there are operators who can do everything else between them. Over TCP nobody is the owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.access import changes, codes, keys, login, proposals, recovery, totp
from gateway.access.authentication import token_hash
from gateway.access.cache import AccessCache
from gateway.access.changes import IDENTITY, Change
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.login import Lifetime, Origin, Second
from gateway.access.operators import FOUR_EYES, OWN
from gateway.access.passwords import Passwords, checked, generated
from gateway.access.records import OPERATOR, Proposal, Record, Restriction, Session, User, shown
from gateway.access.rights import SCOPES, Principal, explained, may
from gateway.control import access_args as a
from gateway.control import desk_reads, rate_desk
from gateway.control.access_args import ACCESS_ARGS, ACCESS_QUERIES
from gateway.control.catalog import Catalog
from gateway.control.groups import GroupKeeper
from gateway.control.messages import ARGS, QUERY_OPS, Refused, Reply, Request, SetGroups, refusal
from gateway.control.names import write_whole
from gateway.rates.limiter import Limiter
from protocol.build import OPERATOR_BYTES
from protocol.enums import ACCOUNT_NONE

FILE_NAME: Final = "operators.json"
"""Names that are registered, so that they are not for the taking while the database is away at a start."""
ISSUER: Final = "Cambist"
STARTING_RETRY_MS: Final = 200
_READS: Final = QUERY_OPS | ACCESS_QUERIES
_OF_USERS: Final = ACCESS_ARGS.keys() | ACCESS_QUERIES | {"sign_in"}
_LIFETIME: Final = Lifetime(idle_ns=12 * 3600 * 1_000_000_000)
_NAMES: Final = msgspec.json.Decoder(list[str])

Later = Awaitable[Reply]
Handler = Callable[["Actor", Any], Awaitable[dict[str, Any]]]


class Seat(msgspec.Struct):
    """Who signed in on a connection; nobody at first."""

    name: str = ""
    principal: Principal = Principal()
    address: str = ""
    """Of a peer on TCP, who is nobody before signing in; empty on the control socket."""


class Actor(msgspec.Struct, frozen=True):
    """Who does something and why: the owner, an operator on its seat, or two who agreed."""

    name: str
    reason: str
    seat: Seat | None = None
    is_owner: bool = False


class Desk:
    """Judges requests, and does those that are about users and operators.

    Parameters
    ----------
    cache : AccessCache or None
        None where the exchange has no database: then the owner acts, and there are no users.
    catalog : Catalog
        Accounts of the engine.
    passwords : Passwords
    limiter : Limiter
        Of sign-ins.
    home : Path or None
        Where FILE_NAME is kept.
    owner_acts : bool
    """

    def __init__(
        self,
        cache: AccessCache | None,
        catalog: Catalog,
        passwords: Passwords,
        limiter: Limiter,
        home: Path | None = None,
        *,
        owner_acts: bool = True,
    ) -> None:
        self._cache = cache
        self._catalog = catalog
        self._passwords = passwords
        self._limiter = limiter
        self._file = None if home is None else home / FILE_NAME
        self._owner_acts = owner_acts
        self._execute: Callable[[Request], Later] | None = None
        self._groups = None if cache is None else GroupKeeper(cache, catalog)
        self._enrolling: dict[int, bytes] = {}
        self._reserved = frozenset[str]()
        if self._file is not None and self._file.exists():
            self._reserved = frozenset(_NAMES.decode(self._file.read_bytes()))
        if cache is not None:
            cache.on_change(self._note_operators)
        self._handlers: dict[str, Handler] = {
            "own_password": self._own_password,
            "own_totp": self._own_totp,
            "user_create": self._user_create,
            "user_close": self._user_close,
            "user_password": self._user_password,
            "user_factors": self._user_factors,
            "account_attach": self._account_attach,
            "session_revoke": self._session_revoke,
            "key_create": self._key_create,
            "key_revoke": self._key_revoke,
            "firm_create": self._firm_create,
            "firm_assign": self._firm_assign,
            "restrict": self._restrict,
            "lift": self._lift,
            "operator_create": self._operator_create,
            "operator_roles": self._operator_roles,
            "approve": self._approve,
            "deny": self._deny,
            "unban": self._unban,
        }

    def executes_by(self, execute: Callable[[Request], Later], groups_are_final: Callable[[int], bool]) -> None:
        """Have commands sent to the engine by ``execute``, which gives their replies: approved ones, and groups of accounts."""
        self._execute = execute
        if self._groups is not None:
            self._groups.executes_by(execute, groups_are_final)

    async def keep_groups(self) -> None:
        """Keep the engine's groups of accounts as the users are, until cancelled."""
        if self._groups is not None:
            await self._groups.run()

    def judge(self, seat: Seat, request: Request) -> Later | None:
        """None: the request may go to the engine. Otherwise what answers it. Raises Refused."""
        op = request.op
        if seat.address and not seat.name and op != "sign_in":
            raise Refused(codes.SIGN_IN_NEEDED, "on TCP everybody signs in first")
        if op in _OF_USERS and self._cache is not None and not self._cache.loaded.is_set():
            raise Refused(codes.STARTING, self._cache.why, retry_ms=STARTING_RETRY_MS)
        if op == "sign_in":
            return self._answered(request, self._sign_in(seat, request.args))
        if seat.name and request.operator not in {"", seat.name}:
            raise Refused(
                codes.SIGN_IN_NEEDED, f"this connection is {seat.name}'s, the request names {request.operator}"
            )
        if self._groups is not None and isinstance(request.args, SetGroups):
            self._groups.refuse_foreign(request.args)
        if seat.name:
            verdict = may(self._directory, seat.principal, op, 0, self._now_ns)
            if verdict.code == codes.APPROVAL_NEEDED:
                return self._propose(seat, request)
            if not verdict.allowed:
                raise Refused(verdict.code, verdict.text.partition(": ")[2])
        else:
            self._check_owner(request)
        if op == "rate_limits":
            return self._answered(request, self._rate_limits())
        if op in ACCESS_QUERIES:
            return self._answered(request, desk_reads.answer(self._known, op, request.args))
        if op in ACCESS_ARGS:
            actor = Actor(seat.name or request.operator, request.reason, seat if seat.name else None, not seat.name)
            return self._answered(request, self._handlers[op](actor, request.args))
        return None

    def admits(self, address: str) -> bool:
        """Whether one more connection from an address may be, on TCP."""
        return rate_desk.admits(self._limiter, address)

    def status(self) -> dict[str, Any]:
        """How far the users are known."""
        if self._cache is None or self._groups is None:
            return {}
        return {"access": self._cache.status() | {"groups": self._groups.status()}}

    # --- who ----------------------------------------------------------------------------------------------------------

    @property
    def _known(self) -> AccessCache:
        if self._cache is None:
            raise Denied(codes.UNAVAILABLE, "postgres.enabled = false: this exchange has no users")
        return self._cache

    @property
    def _directory(self) -> Directory:
        return self._known.directory

    @property
    def _now_ns(self) -> int:
        return self._known.clock_ns()

    def _is_registered(self, name: str) -> bool:
        user = None if self._cache is None else self._cache.directory.user(name)
        return name == IDENTITY or name in self._reserved or (user is not None and user.kind == OPERATOR)

    def _check_owner(self, request: Request) -> None:
        if self._is_registered(request.operator) or request.op in OWN:
            raise Refused(codes.SIGN_IN_NEEDED, request.operator)
        if self._owner_acts or request.op in _READS or self._cache is None:
            return
        if not self._cache.loaded.is_set():
            raise Refused(codes.STARTING, self._cache.why, retry_ms=STARTING_RETRY_MS)
        if _is_complete(self._cache.directory):
            raise Refused(codes.SIGN_IN_NEEDED, "control.owner_acts = false: sign in as an operator")

    def _note_operators(self, rows: list[Record]) -> None:
        names = {row.name for row in rows if isinstance(row, User) and row.kind == OPERATOR}
        if not names <= self._reserved:
            self._reserved |= names
            if self._file is not None:
                write_whole(self._file, msgspec.json.encode(sorted(self._reserved)) + b"\n")

    async def _sign_in(self, seat: Seat, args: Any) -> dict[str, Any]:
        assert isinstance(args, a.SignIn)
        cache = self._known
        token = generated()

        def decide(directory: Directory) -> Change:
            return login.sign_in(
                *(directory, args.name, check, Second(args.code), _origin(seat), token_hash(token)),
                *(_LIFETIME, cache.seal, self._now_ns, OPERATOR),
            )

        with rate_desk.sign_in_attempt(self._limiter, args.name, seat.address):
            check = await self._hashing(self._passwords.check, cache.directory.user(args.name), args.password)
            change = await cache.act(decide, actor=args.name)
        session_id = next(row.session_id for row in change.rows if isinstance(row, Session) and not row.revoked_ns)
        user = changes.the_user(cache.directory, args.name)
        seat.name, seat.principal = user.name, Principal(session_id=session_id, operator_id=user.user_id)
        return {"operator": user.name, "roles": list(user.roles), "temporary": user.temporary}

    # --- two people ---------------------------------------------------------------------------------------------------

    async def _propose(self, seat: Seat, request: Request) -> Reply:
        given = request.args
        if isinstance(given, a.OperatorCreate):
            # Operators choose no passwords for others, and a proposal is read by many.
            given = msgspec.structs.replace(given, password=None)
        args = msgspec.json.encode(given).decode()
        try:
            change = await self._known.act(
                lambda d: proposals.propose(d, request.op, args, seat.name, request.reason, self._now_ns),
                actor=seat.name,
                reason=request.reason,
            )
        except Denied as denied:
            return refusal(request.id, Refused(denied.code, denied.detail))
        row = change.rows[0]
        assert isinstance(row, Proposal)
        why = f"{request.op} {FOUR_EYES[request.op]}; proposal {row.proposal_id} waits, `cambist role approve {row.proposal_id}`"
        reply = refusal(request.id, Refused(codes.APPROVAL_NEEDED, why))
        return msgspec.structs.replace(reply, result={"proposal": row.proposal_id, "expires_ns": row.expires_ns})

    async def _approve(self, actor: Actor, args: a.OfProposal) -> dict[str, Any]:
        cache, number = self._known, args.proposal
        change = await cache.act(
            lambda d: proposals.decide(d, number, actor.name, self._now_ns, approve=True),
            actor=actor.name,
            reason=actor.reason,
        )
        row = change.rows[0]
        assert isinstance(row, Proposal)
        both = f"{row.operator}+{actor.name}".encode()[:OPERATOR_BYTES].decode(errors="ignore")
        kind = ARGS.get(row.op) or ACCESS_ARGS[row.op]
        request = Request(None, row.op, msgspec.json.decode(row.args, type=kind), both, row.reason)
        if row.op in ACCESS_ARGS:
            reply = await self._answered(request, self._handlers[row.op](Actor(both, row.reason), request.args))
        else:
            assert self._execute is not None
            reply = await self._execute(request)
        said = {"seq": (reply.result or {}).get("seq"), "error": reply.error and reply.error.name}
        await cache.act(
            lambda d: proposals.finish(d, number, msgspec.json.encode(said).decode(), ok=reply.ok), actor=actor.name
        )
        result = {"proposal": number, "op": row.op, "operator": row.operator, "result": reply.result}
        if reply.error is not None:
            raise Refused(reply.error.code, f"proposal {number} was approved and then refused: {reply.error.detail}")
        return result

    async def _deny(self, actor: Actor, args: a.OfProposal) -> dict[str, Any]:
        await self._act(actor, lambda d: proposals.decide(d, args.proposal, actor.name, self._now_ns, approve=False))
        return {"proposal": args.proposal, "state": proposals.DENIED}

    # --- operators ----------------------------------------------------------------------------------------------------

    async def _own_password(self, actor: Actor, args: a.OwnPassword) -> dict[str, Any]:
        assert actor.seat is not None
        with rate_desk.sign_in_attempt(self._limiter, actor.name, actor.seat.address):
            check = await self._hashing(self._passwords.check, self._directory.user(actor.name), args.password)
            if not check.ok:
                raise Denied(codes.BAD_CREDENTIALS)
        hashed = await self._hashing(self._passwords.hash, checked(args.new))
        await self._act(actor, lambda d: changes.set_password(d, actor.name, hashed, self._now_ns, temporary=False))
        # All sessions have ended with the former password.
        actor.seat.name, actor.seat.principal = "", Principal()
        return {"operator": actor.name, "signed_in": False}

    async def _own_totp(self, actor: Actor, args: a.OwnTotp) -> dict[str, Any]:
        user = changes.the_user(self._directory, actor.name, OPERATOR)
        if not args.code:
            secret = self._enrolling[user.user_id] = totp.new_secret()
            return {"secret": totp.text_of(secret), "uri": totp.uri(secret, user.name, ISSUER)}
        secret = self._enrolling.get(user.user_id, b"")
        if not secret:
            raise Denied(codes.BAD_VALUE, "ask for a secret first, without a code")
        seal = self._known.seal
        await self._act(actor, lambda d: changes.set_totp(d, actor.name, secret, args.code, seal, self._now_ns))
        del self._enrolling[user.user_id]
        given = recovery.new_codes()
        await self._act(actor, lambda d: changes.set_recovery(d, actor.name, given))
        return {"operator": actor.name, "recovery_codes": list(given)}

    async def _operator_create(self, actor: Actor, args: a.OperatorCreate) -> dict[str, Any]:
        password, hashed = await self._password(actor, args.password)
        temporary = args.temporary or not actor.is_owner

        def decide(d: Directory) -> Change:
            return changes.create_operator(d, args.name, args.roles, hashed, self._now_ns, temporary=temporary)

        await self._act(actor, decide)
        return {"operator": args.name, "roles": args.roles, "password": password, "temporary": temporary}

    async def _operator_roles(self, actor: Actor, args: a.OperatorRoles) -> dict[str, Any]:
        await self._act(actor, lambda d: changes.set_roles(d, args.name, args.roles))
        return {"operator": args.name, "roles": args.roles}

    # --- users, firms, accounts ---------------------------------------------------------------------------------------

    async def _user_create(self, actor: Actor, args: a.UserCreate) -> dict[str, Any]:
        password, hashed = await self._password(actor, args.password)
        temporary = args.temporary or not actor.is_owner

        def decide(d: Directory) -> Change:
            return changes.create_user(d, args.name, hashed, self._now_ns, temporary=temporary, firm=args.firm)

        await self._act(actor, decide)
        return {"user": args.name, "password": password, "temporary": temporary}

    async def _user_close(self, actor: Actor, args: a.OfUser) -> dict[str, Any]:
        await self._act(actor, lambda d: changes.close_user(d, args.user, self._now_ns))
        return {"user": args.user}

    async def _user_password(self, actor: Actor, args: a.OfUser) -> dict[str, Any]:
        password, hashed = await self._password(actor, None)
        await self._act(actor, lambda d: changes.set_password(d, args.user, hashed, self._now_ns, temporary=True))
        return {"user": args.user, "password": password, "temporary": True}

    async def _user_factors(self, actor: Actor, args: a.OfUser) -> dict[str, Any]:
        await self._act(actor, lambda d: changes.reset_factors(d, args.user, self._now_ns))
        return {"user": args.user}

    async def _account_attach(self, actor: Actor, args: a.AccountAttach) -> dict[str, Any]:
        account = self._catalog.account(args.account)
        if self._catalog.view.account(account).status == ACCOUNT_NONE:
            raise Denied(codes.UNKNOWN_NAME, f"account {account} was not created")
        await self._act(actor, lambda d: changes.attach_account(d, args.user, account, args.label))
        return shown(self._directory.accounts[account]) | await self._settled(actor, [account])

    async def _session_revoke(self, actor: Actor, args: a.SessionRevoke) -> dict[str, Any]:
        await self._act(actor, lambda d: changes.revoke_sessions(d, args.user, self._now_ns, args.session))
        return {"user": args.user, "session": args.session}

    async def _firm_create(self, actor: Actor, args: a.FirmCreate) -> dict[str, Any]:
        most = self._catalog.limits.firms
        await self._act(actor, lambda d: changes.create_firm(d, args.name, self._now_ns, most))
        return shown(changes.the_firm(self._directory, args.name))

    async def _firm_assign(self, actor: Actor, args: a.FirmAssign) -> dict[str, Any]:
        await self._act(actor, lambda d: changes.assign_firm(d, args.user, args.firm))
        user = changes.the_user(self._directory, args.user)
        accounts = [row.account for row in self._directory.accounts_of(user.user_id)]
        return {"user": args.user, "firm": args.firm} | await self._settled(actor, accounts)

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def _key_create(self, actor: Actor, args: a.KeyCreate) -> dict[str, Any]:
        key_id = keys.new_id(args.kind) if args.key_id is None else keys.check_id(args.key_id)
        secret = b"" if args.kind in keys.PAIRS else keys.new_secret()
        accounts = [self._catalog.account(account, "args.accounts") for account in args.accounts]

        def decide(d: Directory) -> Change:
            return changes.create_key(
                *(d, args.user, args.kind),
                key_id=key_id,
                secret=secret,
                public_pem=args.public_key,
                permissions=args.permissions,
                networks=args.networks,
                accounts=accounts,
                label=args.label,
                comp_id=args.comp_id,
                expires_ns=args.expires_ns,
                seal=self._known.seal,
                now_ns=self._now_ns,
            )

        await self._act(actor, decide)
        told = keys.introspected(self._directory, self._directory.keys[key_id], self._now_ns)
        return told | ({"secret": secret.decode()} if secret else {})

    async def _key_revoke(self, actor: Actor, args: a.OfKey) -> dict[str, Any]:
        await self._act(actor, lambda d: changes.revoke_key(d, args.key_id, self._now_ns))
        return keys.introspected(self._directory, self._directory.keys[args.key_id], self._now_ns)

    # --- account states -----------------------------------------------------------------------------------------------

    async def _restrict(self, actor: Actor, args: a.Restrict) -> dict[str, Any]:
        given = [name for name in ("user", "account", "firm") if getattr(args, name) is not None]
        if len(given) != 1:
            raise Denied(codes.BAD_VALUE, "a state is of a user, an account or a firm: one of them")
        subject = given[0]

        def decide(d: Directory) -> Change:
            if args.user is not None:
                number = changes.the_user(d, args.user).user_id
            elif args.firm is not None:
                number = changes.the_firm(d, args.firm).firm_id
            else:
                assert args.account is not None
                number = self._catalog.account(args.account)
            return changes.restrict(d, subject, number, args.scopes, args.text, self._now_ns, args.expires_ns)

        change = await self._act(actor, decide)
        return _state(change.rows[0])

    async def _lift(self, actor: Actor, args: a.Lift) -> dict[str, Any]:
        change = await self._act(actor, lambda d: changes.lift(d, args.state, self._now_ns))
        return _state(change.rows[0])

    # --- rate limits --------------------------------------------------------------------------------------------------

    async def _rate_limits(self) -> dict[str, Any]:
        return rate_desk.shown(self._limiter, None if self._cache is None else self._cache.directory)

    async def _unban(self, actor: Actor, args: a.Unban) -> dict[str, Any]:
        subject, words = rate_desk.banned_subject(self._catalog, args)
        if self._cache is not None:
            # Said before it is done, so that nothing is done that is not in the history.
            await self._act(actor, lambda _: Change((), "ban ended", words))
        return {"who": words, "was_banned": self._limiter.unban(subject)}

    # --- small --------------------------------------------------------------------------------------------------------

    async def _answered(self, request: Request, doing: Awaitable[dict[str, Any]]) -> Reply:
        try:
            return Reply(request.id, ok=True, result=await doing)
        except Denied as denied:
            return refusal(request.id, Refused(denied.code, denied.detail))
        except Refused as refused:
            return refusal(request.id, refused)

    async def _act(self, actor: Actor, decide: Callable[[Directory], Change]) -> Change:
        return await self._known.act(decide, actor=actor.name, reason=actor.reason)

    async def _settled(self, actor: Actor, accounts: list[int]) -> dict[str, Any]:
        """Have the engine's groups follow; what cannot be now, is later."""
        assert self._groups is not None
        return {"groups": await self._groups.settle(accounts, actor.name, actor.reason)}

    async def _password(self, actor: Actor, given: str | None) -> tuple[str | None, str]:
        """A password to show, or None where the owner chose it, and its hash. Operators never choose for others."""
        chosen = None if given is None or not actor.is_owner else checked(given)
        made = None if chosen else generated()
        return made, await self._hashing(self._passwords.hash, chosen or made)

    async def _hashing(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """A hash takes a tenth of a second of a core, and no answer waits for somebody else's."""
        return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def _is_complete(directory: Directory) -> bool:
    """Whether operators can do without the owner: one gives roles, and another one approves."""
    able = {role: {u.user_id for u in directory.users.values() if role in u.roles} for role in ("security", "approver")}
    return len(able["security"] | able["approver"]) >= 2 and all(able.values())


def _origin(seat: Seat) -> Origin:
    return Origin(seat.address, "control gateway") if seat.address else Origin("local", "control socket")


def _state(row: Record) -> dict[str, Any]:
    assert isinstance(row, Restriction)
    return {**shown(row), "words": explained(row), "scopes_in_words": [SCOPES[scope] for scope in row.scopes]}
