"""Who may do what on the control socket: the owner, operators with roles, two pairs of eyes. The cache is a directory in memory."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from gateway.access import codes, totp
from gateway.access.cache import AccessCache
from gateway.access.changes import Change
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.passwords import Passwords
from gateway.access.sealing import Seal
from gateway.control.access_args import ACCESS_ARGS
from gateway.control.catalog import Catalog
from gateway.control.desk import FILE_NAME, Desk, Seat
from gateway.control.messages import ARGS, Refused, Reply, Request, refusal
from gateway.control.names import NameBook
from gateway.control.session import ControlSession
from gateway.rates import subjects, table
from gateway.rates.limiter import BANNED, Limiter
from gateway.rates.rules import RateLimits, Window
from protocol.instance import Limits
from tests.access.support import CHEAP, NOW_NS, PASSWORD
from tests.gateway.support import FakeView

HASHER = Passwords(CHEAP)
RATES = RateLimits(
    rows=64, sign_ins_of_name=(Window(300, 7),), sign_ins_from_peer=(Window(300, 12),), account_orders=(Window(10, 1),)
)
ADJUST = {"account": 7, "asset": "USDT", "amount": "-5"}


class MemoryCache:
    """What the desk needs of a cache, without a database."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.seal = Seal(bytes(32))
        self.now_ns = NOW_NS
        self.loaded = asyncio.Event()
        self.loaded.set()
        self.why = "not connected yet"
        self.log: list[tuple[str, str, str]] = []
        self._callbacks: list[Callable[[Any], None]] = []

    def status(self) -> dict[str, Any]:
        return {}

    def clock_ns(self) -> int:
        return self.now_ns

    def on_change(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    async def act(self, decide: Callable[[Directory], Change], *, actor: str, reason: str = "") -> Change:
        change = decide(self.directory)
        self.directory.put(change.rows)
        self.log.append((actor, change.action, reason))
        for callback in self._callbacks:
            callback(change.rows)
        if change.denied is not None:
            raise change.denied
        return change


class Office:
    """A desk, and an engine that says yes."""

    def __init__(self, home: Path | None = None, *, owner_acts: bool = True) -> None:
        self.cache = MemoryCache()
        catalog = Catalog(FakeView(), Limits(accounts=1000), NameBook())
        self.limiter = Limiter(table.private(RATES), RATES, lambda: self.cache.now_ns)
        self.desk = Desk(cast("AccessCache", self.cache), catalog, HASHER, self.limiter, home, owner_acts=owner_acts)
        self.desk.executes_by(self._execute, lambda _account: True)
        self.executed: list[Request] = []

    async def _execute(self, request: Request) -> Reply:
        self.executed.append(request)
        return Reply(request.id, ok=True, result={"seq": 77})

    def ask(self, seat: Seat, op: str, args: dict[str, Any] | None = None, operator: str = "") -> Reply:
        """The reply; one of {"engine": True} where the request may go there."""
        kind = ARGS.get(op) or ACCESS_ARGS[op]
        request = Request(1, op, msgspec.convert(args or {}, kind), operator or seat.name or "owner", "why")

        async def scenario() -> Reply:
            try:
                later = self.desk.judge(seat, request)
            except Refused as refused:
                return refusal(1, refused)
            return Reply(1, ok=True, result={"engine": True}) if later is None else await later

        return asyncio.run(scenario())

    def code(self, seat: Seat, op: str, args: dict[str, Any] | None = None, operator: str = "") -> int:
        reply = self.ask(seat, op, args, operator)
        return 0 if reply.error is None else reply.error.code

    def operator(self, name: str, *roles: str) -> Seat:
        """An operator who has signed in."""
        made = {"name": name, "roles": roles, "password": PASSWORD, "temporary": False}
        assert 0 == self.code(Seat(), "operator_create", made)
        seat = Seat()
        assert 0 == self.code(seat, "sign_in", {"name": name, "password": PASSWORD}, name)
        return seat


def test_owner_acts_without_signing_in_and_commands_go_on_to_the_engine() -> None:
    office = Office()
    assert {"engine": True} == office.ask(Seat(), "adjust", ADJUST).result
    assert {"engine": True} == office.ask(Seat(), "orders").result


@pytest.mark.parametrize(
    ("op", "args"), [("user_list", {}), ("user_create", {"name": "bob"}), ("sign_in", {"name": "o", "password": "p"})]
)
def test_until_users_have_been_read_what_is_about_them_is_for_later_and_nothing_else_waits(
    op: str, args: dict[str, Any]
) -> None:
    office = Office()
    office.cache.loaded.clear()
    error = office.ask(Seat(), op, args).error
    assert error is not None
    assert (codes.STARTING, "not connected yet", True) == (error.code, error.detail, error.retry_ms > 0)
    assert {"engine": True} == office.ask(Seat(), "adjust", ADJUST).result
    office.cache.loaded.set()
    assert codes.STARTING != office.code(Seat(), op, args)


def test_owner_who_must_sign_in_where_there_are_operators_waits_until_it_is_known_whether_there_are() -> None:
    office = Office(owner_acts=False)
    office.cache.loaded.clear()
    assert codes.STARTING == office.code(Seat(), "adjust", ADJUST)
    office.cache.loaded.set()
    assert 0 == office.code(Seat(), "adjust", ADJUST)


def test_name_of_a_registered_operator_is_not_for_the_taking() -> None:
    office = Office()
    seat = office.operator("olga", "treasury")
    assert codes.SIGN_IN_NEEDED == office.code(Seat(), "halt", {"instrument": "BTCUSDT"}, "olga")
    assert codes.SIGN_IN_NEEDED == office.code(seat, "orders", operator="paul")
    assert codes.BAD_CREDENTIALS == office.code(Seat(), "sign_in", {"name": "olga", "password": "wrong"}, "olga")


def test_over_tcp_nobody_is_the_owner_and_signing_in_is_all_that_may_be_asked() -> None:
    office = Office()
    office.operator("olga", "auditor")
    remote = Seat(address="203.0.113.5")
    assert {codes.SIGN_IN_NEEDED} == {office.code(remote, op) for op in ("orders", "status", "user_list", "role_list")}
    assert codes.SIGN_IN_NEEDED == office.code(remote, "adjust", ADJUST, "owner")
    made = {"name": "mallory", "roles": ["security"]}
    assert codes.SIGN_IN_NEEDED == office.code(remote, "operator_create", made, "owner")
    assert codes.SIGN_IN_NEEDED == office.code(remote, "own_password", {"password": PASSWORD, "new": "x"}, "olga")
    assert codes.BAD_CREDENTIALS == office.code(remote, "sign_in", {"name": "olga", "password": "wrong"}, "olga")
    assert codes.SIGN_IN_NEEDED == office.code(remote, "orders", operator="olga")
    office.cache.loaded.clear()
    assert (codes.SIGN_IN_NEEDED, codes.STARTING) == (
        office.code(remote, "user_list"),
        office.code(remote, "sign_in", {"name": "olga", "password": PASSWORD}, "olga"),
    )
    office.cache.loaded.set()
    assert 0 == office.code(remote, "sign_in", {"name": "olga", "password": PASSWORD}, "olga")
    assert {"engine": True} == office.ask(remote, "orders").result
    assert codes.ROLE_MISSING == office.code(remote, "adjust", ADJUST)
    session = list(office.cache.directory.sessions.values())[-1]
    assert ("203.0.113.5", "control gateway") == (session.address, session.device)


def test_operator_does_what_its_roles_allow_and_no_more() -> None:
    office = Office()
    seat = office.operator("mara", "markets")
    assert 0 == office.code(seat, "halt", {"instrument": "BTCUSDT"})
    assert codes.ROLE_MISSING == office.code(seat, "freeze", {"account": 7})
    assert codes.ROLE_MISSING == office.code(seat, "adjust", ADJUST)
    assert codes.ROLE_MISSING == office.code(seat, "operator_roles", {"name": "mara", "roles": ["security"]})
    assert 0 == office.code(seat, "orders")


def test_money_moves_once_when_a_second_operator_approves_and_both_names_stand_in_the_command() -> None:
    office = Office()
    olga, paul = office.operator("olga", "treasury", "approver"), office.operator("paul", "approver")
    reply = office.ask(olga, "adjust", ADJUST)
    assert reply.error is not None
    assert (codes.APPROVAL_NEEDED, 1) == (reply.error.code, (reply.result or {})["proposal"])
    assert [] == office.executed
    assert codes.OWN_PROPOSAL == office.code(olga, "approve", {"proposal": 1})
    assert {"seq": 77} == (office.ask(paul, "approve", {"proposal": 1}).result or {})["result"]
    assert codes.PROPOSAL_CLOSED == office.code(paul, "approve", {"proposal": 1})
    (request,) = office.executed
    assert ("adjust", "olga+paul", "why") == (request.op, request.operator, request.reason)
    assert ADJUST == {name: getattr(request.args, name) for name in ADJUST}
    assert "executed" == office.cache.directory.proposals[1].state


def test_denied_proposal_is_not_executed() -> None:
    office = Office()
    olga, paul = office.operator("olga", "treasury"), office.operator("paul", "approver")
    office.ask(olga, "adjust", ADJUST)
    assert 1 == (office.ask(paul, "proposals").result or {})["count"]
    assert 0 == office.code(paul, "deny", {"proposal": 1})
    assert codes.PROPOSAL_CLOSED == office.code(paul, "approve", {"proposal": 1})
    assert [] == office.executed


def test_approved_change_of_roles_is_made() -> None:
    office = Office()
    sven, paul = office.operator("sven", "security"), office.operator("paul", "approver")
    office.operator("olga", "treasury")
    assert codes.APPROVAL_NEEDED == office.code(sven, "operator_roles", {"name": "olga", "roles": ["auditor"]})
    assert 0 == office.code(paul, "approve", {"proposal": 1})
    user = office.cache.directory.user("olga")
    assert user is not None
    assert ("auditor",) == user.roles
    assert ("sven+paul", "roles set", "why") in office.cache.log


def test_approved_operator_gets_a_temporary_password_whatever_was_proposed() -> None:
    office = Office()
    sven, paul = office.operator("sven", "security"), office.operator("paul", "approver")
    office.ask(
        sven, "operator_create", {"name": "eve", "roles": ["treasury"], "password": PASSWORD, "temporary": False}
    )
    assert PASSWORD not in repr(office.ask(paul, "proposals"))
    assert 0 == office.code(paul, "approve", {"proposal": 1})
    user = office.cache.directory.user("eve")
    assert user is not None
    assert user.temporary
    assert not HASHER.check(user, PASSWORD).ok


def test_rights_that_are_taken_away_are_gone_on_open_connections() -> None:
    office = Office()
    seat = office.operator("mara", "markets")
    office.ask(Seat(), "operator_roles", {"name": "mara", "roles": []})
    assert codes.ROLE_MISSING == office.code(seat, "halt", {"instrument": "BTCUSDT"})
    office.ask(Seat(), "session_revoke", {"user": "mara"})
    assert codes.SESSION_REVOKED == office.code(seat, "orders")


def test_operator_chooses_no_password_for_others_and_gives_temporary_ones_only() -> None:
    office = Office()
    seat = office.operator("anna", "accounts")
    result = office.ask(seat, "user_create", {"name": "alice", "password": "known to anna", "temporary": False}).result
    assert result is not None
    assert result["temporary"]
    assert result["password"] not in {None, "known to anna"}
    user = office.cache.directory.user("alice")
    assert HASHER.check(user, result["password"]).ok


def test_operator_with_a_temporary_password_must_choose_one() -> None:
    office = Office()
    made = office.ask(Seat(), "operator_create", {"name": "olga", "roles": ["auditor"]}).result
    assert made is not None
    seat = Seat()
    assert 0 == office.code(seat, "sign_in", {"name": "olga", "password": made["password"]}, "olga")
    assert codes.PASSWORD_TEMPORARY == office.code(seat, "orders")
    new = {"password": made["password"], "new": "a password of her own"}
    assert 0 == office.code(seat, "own_password", new)
    assert codes.SIGN_IN_NEEDED == office.code(seat, "orders", operator="olga"), "the session has ended"
    assert 0 == office.code(seat, "sign_in", {"name": "olga", "password": new["new"]}, "olga")
    assert 0 == office.code(seat, "orders")


def test_authenticator_of_an_operator_is_enrolled_and_then_asked_for() -> None:
    office = Office()
    seat = office.operator("olga", "auditor")
    secret = base64.b32decode((office.ask(seat, "own_totp").result or {})["secret"])
    code = lambda: totp.code(secret, office.cache.now_ns // totp.STEP_NS)  # noqa: E731
    assert 10 == len((office.ask(seat, "own_totp", {"code": code()}).result or {})["recovery_codes"])
    office.cache.now_ns += totp.STEP_NS
    login = {"name": "olga", "password": PASSWORD}
    assert codes.SECOND_FACTOR == office.code(Seat(), "sign_in", login, "olga")
    assert 0 == office.code(Seat(), "sign_in", login | {"code": code()}, "olga")
    assert codes.CODE_USED == office.code(Seat(), "sign_in", login | {"code": code()}, "olga")


def test_owner_must_sign_in_once_there_are_operators_where_so_configured() -> None:
    office = Office(owner_acts=False)
    assert 0 == office.code(Seat(), "adjust", ADJUST)
    office.operator("sven", "security")
    office.operator("paul", "approver")
    assert codes.SIGN_IN_NEEDED == office.code(Seat(), "adjust", ADJUST)
    assert codes.SIGN_IN_NEEDED == office.code(Seat(), "operator_create", {"name": "eve", "roles": ["treasury"]})
    assert 0 == office.code(Seat(), "orders")


def test_registered_names_stay_reserved_while_the_database_is_away_at_a_start(tmp_path: Path) -> None:
    Office(tmp_path).operator("olga", "treasury")
    assert 0o600 == (tmp_path / FILE_NAME).stat().st_mode & 0o777
    later = Office(tmp_path)
    assert codes.SIGN_IN_NEEDED == later.code(Seat(), "halt", {"instrument": "BTCUSDT"}, "olga")


def test_exchange_without_a_database_has_an_owner_and_no_users() -> None:
    limiter = Limiter(table.private(RATES), RATES)
    desk = Desk(None, Catalog(FakeView(), Limits(accounts=1000), NameBook()), HASHER, limiter)
    request = Request(1, "adjust", msgspec.convert(ADJUST, ARGS["adjust"]), "owner", "why")
    assert desk.judge(Seat(), request) is None
    with pytest.raises(Denied, match="no users"):
        desk.judge(Seat(), Request(1, "user_list", msgspec.convert({}, ACCESS_ARGS["user_list"])))


def test_user_gets_account_key_and_state_and_shows_them_without_a_secret() -> None:
    office = Office()
    owner = Seat()
    made = office.ask(owner, "user_create", {"name": "alice", "password": PASSWORD, "temporary": False}).result
    assert made == {"user": "alice", "password": None, "temporary": False}
    assert codes.UNKNOWN_NAME == office.code(owner, "account_attach", {"user": "alice", "account": 8})
    assert 0 == office.code(owner, "account_attach", {"user": "alice", "account": 7})
    key = office.ask(owner, "key_create", {"user": "alice", "permissions": ["read"], "accounts": [7]}).result
    assert key is not None
    state = {"user": "alice", "scopes": ["withdraw"], "text": "new device"}
    assert 0 == office.code(owner, "restrict", state)
    shown = office.ask(owner, "user_show", {"user": "alice"}).result
    assert shown is not None
    assert "not allowed until it is lifted: withdraw. Reason: new device" == shown["states"][0]["words"]
    text = msgspec.json.encode(shown).decode() + repr(office.cache.directory.keys)
    assert key["secret"] not in text
    assert "argon2" not in text


def test_wrong_passwords_slow_down_under_a_name_whether_it_is_known_or_not_and_the_right_one_waits_too() -> None:
    office = Office()
    office.operator("olga", "auditor")
    # Signing in well does not count.
    assert 0 == office.code(Seat(), "sign_in", {"name": "olga", "password": PASSWORD}, "olga")
    for name, limited in (("olga", 7), ("nobody", 5)):
        wrong = {"name": name, "password": "wrong"}
        assert [codes.BAD_CREDENTIALS] * limited == [
            office.code(Seat(), "sign_in", wrong, name) for _ in range(limited)
        ]
        reply = office.ask(Seat(), "sign_in", wrong, name)
        assert reply.error is not None
        assert ("RATE_LIMITED", 0) == (reply.error.name, (NOW_NS // 1_000_000 + reply.error.retry_ms) % 300_000)
    right = {"name": "olga", "password": PASSWORD}
    assert codes.RATE_LIMITED == office.code(Seat(), "sign_in", right, "olga")
    assert {"engine": True} == office.ask(Seat(), "adjust", ADJUST).result, "the owner, who does not sign in, acts"
    office.cache.now_ns += 300_000_000_000
    assert 0 == office.code(Seat(), "sign_in", right, "olga")


def test_wrong_passwords_from_one_address_slow_down_that_address_alone() -> None:
    office = Office()
    office.operator("olga", "auditor")
    remote = Seat(address="203.0.113.5")
    wrong = [office.code(remote, "sign_in", {"name": f"guess-{n}", "password": "x"}, "x") for n in range(13)]
    assert [codes.BAD_CREDENTIALS] * 12 + [codes.RATE_LIMITED] == wrong
    right = {"name": "olga", "password": PASSWORD}
    assert codes.RATE_LIMITED == office.code(remote, "sign_in", right, "olga")
    assert 0 == office.code(Seat(address="203.0.113.6"), "sign_in", right, "olga")


def test_connections_of_one_address_are_counted() -> None:
    office = Office()
    (rule,) = (rule for rule in office.limiter.rules.values() if rule.counter.name == "ip_connections")
    admitted = [office.desk.admits("203.0.113.5") for _ in range(rule.limit + 1)]
    assert [True] * rule.limit + [False] == admitted
    assert office.desk.admits("203.0.113.6")


def test_guesses_that_are_made_at_one_time_count_before_they_are_answered() -> None:
    office = Office()
    office.operator("olga", "auditor")
    wrong = Request(
        1, "sign_in", msgspec.convert({"name": "olga", "password": "wrong"}, ACCESS_ARGS["sign_in"]), "olga"
    )

    async def scenario() -> list[Reply]:
        return list(await asyncio.gather(*(cast("Any", office.desk.judge(Seat(), wrong)) for _ in range(10))))

    found = [reply.error.name for reply in asyncio.run(scenario()) if reply.error is not None]
    assert (7, 3) == (found.count("BAD_CREDENTIALS"), found.count("RATE_LIMITED"))


def test_second_factors_that_are_asked_for_do_not_count_and_wrong_ones_do() -> None:
    office = Office()
    seat = office.operator("olga", "auditor")
    secret = base64.b32decode((office.ask(seat, "own_totp").result or {})["secret"])
    office.ask(seat, "own_totp", {"code": totp.code(secret, office.cache.now_ns // totp.STEP_NS)})
    login = {"name": "olga", "password": PASSWORD}
    assert {codes.SECOND_FACTOR} == {office.code(Seat(), "sign_in", login, "olga") for _ in range(20)}
    tried = [office.code(Seat(), "sign_in", login | {"code": "000000"}, "olga") for _ in range(6)]
    # Who has the password is stopped by the account state before, which survives a restart.
    assert [codes.CODE_USED] * 5 + [codes.RESTRICTED] == tried
    (rule,) = (rule for rule in office.limiter.rules.values() if rule.counter.name == "sign_ins_of_name")
    verdict = office.limiter.begin_sign_in(subjects.of_name("olga"), subjects.of_peer("x"))
    assert 6 == verdict.counts[rule.number % 4]


def test_own_password_is_not_for_guessing_at_a_seat_that_somebody_left() -> None:
    office = Office()
    seat = office.operator("olga", "auditor")
    wrong = {"password": "wrong", "new": "a password of another"}
    tried = [office.code(seat, "own_password", wrong) for _ in range(8)]
    assert [codes.BAD_CREDENTIALS] * 7 + [codes.RATE_LIMITED] == tried


def test_ban_is_shown_and_ended_by_roles_that_may_with_the_reason_in_the_history() -> None:
    office = Office()
    mara, rita = office.operator("mara", "markets"), office.operator("rita", "risk")
    address, key = subjects.of_address("2001:db8::1"), subjects.of_key("key-1")
    for verdict in (
        lambda: office.limiter.check_request(address, weight=10**6),
        lambda: office.limiter.check_request(address, weight=10**6),
        lambda: office.limiter.count_order(7, 2),
    ):
        while verdict().code != BANNED:
            pass
    shown = office.ask(mara, "rate_limits").result
    assert shown is not None
    assert {("ip", "2001:db8::/64", 1), ("account", "7", 1)} == {
        (row["of"], row["who"], row["level"]) for row in shown["banned"]
    }
    assert shown == office.ask(Seat(), "rate_limits").result
    assert codes.ROLE_MISSING == office.code(mara, "unban", {"ip": "2001:db8::2"})
    ended = [
        office.ask(rita, "unban", {"ip": "2001:db8::2"}).result,
        office.ask(rita, "unban", {"account": 7}).result,
        office.ask(rita, "unban", {"key": "key-1"}).result,
    ]
    assert [("ip 2001:db8::/64", True), ("account 7", True), ("key key-1", False)] == [
        (row["who"], row["was_banned"]) for row in ended if row is not None
    ]
    assert [] == office.limiter.banned()
    assert ("rita", "ban ended", "why") == office.cache.log[-1]
    assert not office.limiter.unban(key)
    for wrong in ({}, {"ip": "1.2.3.4", "account": 7}, {"ip": "1.2.3"}):
        assert codes.BAD_VALUE == office.code(rita, "unban", wrong)


def test_banned_key_is_named_by_the_directory() -> None:
    office = Office()
    office.ask(Seat(), "user_create", {"name": "alice", "password": PASSWORD, "temporary": False})
    key = (office.ask(Seat(), "key_create", {"user": "alice", "permissions": ["read"]}).result or {})["key_id"]
    for name in (key, "not of the directory"):
        subject = subjects.of_key(name)
        while office.limiter.check_request(subject, weight=10**6).code != BANNED:
            pass
    shown = office.ask(Seat(), "rate_limits").result
    assert shown is not None
    assert {key, "unknown"} == {row["who"] for row in shown["banned"]}


def test_requests_about_users_are_checked_in_form() -> None:
    session = ControlSession()
    lines = [
        b'{"id": 1, "op": "user_create", "args": {"name": "alice"}, "operator": "ann"}',
        b'{"id": 2, "op": "user_create", "args": {"nome": "alice"}, "operator": "ann", "reason": "x"}',
        b'{"id": 3, "op": "user_list"}',
        b'{"id": 4, "op": "sign_in", "args": {"name": "ann", "password": "secret-text"}, "operator": "ann"}',
        b'{"id": 5, "op": "sign_in", "args": {"name": "ann", "password": 7}, "operator": "ann"}',
    ]
    requests = session.receive_data(b"\n".join(lines) + b"\n")
    assert [3, 4] == [request.id for request in requests]
    assert b"secret-text" not in session.data_to_send()
