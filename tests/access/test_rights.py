"""Nobody acts outside their rights, whatever was done before: the function against a slow model that keeps a list of what happened."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import changes, codes, proposals
from gateway.access.operators import FOUR_EYES, OWN, ROLES, TAKES_OVER
from gateway.access.records import Restriction
from gateway.access.rights import ACTIONS, PERMISSIONS, SCOPES, Principal, explained, may, states_of
from tests.access.support import PASSWORD, SECOND_NS, World, denied

USERS = {"ann": (1, 11, 12), "bob": (2, 21)}
ACCOUNTS = (1, 11, 12, 2, 21, 3)


class Event(NamedTuple):
    """Something that happened, at a time in seconds."""

    at: int
    what: str
    fields: dict[str, Any]


class Model:
    """Answers from the whole history, each time anew. Written from the documentation, shares nothing with the code."""

    def __init__(self) -> None:
        self.history: list[Event] = []
        self.owner = {account: user for user, accounts in USERS.items() for account in accounts}

    def said(self, what: str) -> list[Event]:
        return [event for event in self.history if event.what == what]

    def forbids(self, scope: str, now: int, subjects: list[tuple[str, str | int]]) -> bool:
        lifted = {event.fields["state"] for event in self.said("lift")}
        return any(
            scope in event.fields["scopes"]
            and event.fields["subject"] in subjects
            and event.fields["state"] not in lifted
            and (event.fields["until"] is None or now < event.fields["until"])
            for event in self.said("restrict")
        )

    def firm_of(self, user: str) -> list[tuple[str, str | int]]:
        found = [event.fields["firm"] for event in self.said("firm") if event.fields["user"] == user]
        return [("firm", found[-1])] if found and found[-1] else []

    def may(self, who: tuple[str, Any], action: str, account: int, now: int, to: int) -> bool:
        kind, name = who
        made = [event for event in self.said(kind) if event.fields["id"] == name]
        if not made or any(event.fields["id"] == name for event in self.said(f"end {kind}")):
            return False
        fields = made[0].fields
        user = fields["user"]
        if any(event.fields["user"] == user for event in self.said("close")):
            return False
        about = [("user", user), *self.firm_of(user)]
        if kind == "key":
            if (fields["until"] is not None and now >= fields["until"]) or self.forbids("api", now, about):
                return False
            needed = {"read": "read", "trade": "trade", "cancel": "trade", "deposit": "read"}.get(action, action)
            if action == "manage" or needed not in fields["permissions"]:
                return False
        else:
            later = self.history[fields["order"] + 1 :]
            if any(event.what == "password" and event.fields["user"] == user for event in later):
                return False
            last = max([fields["at"], *(e.at for e in self.said("use") if e.fields["id"] == name)])
            if now - last >= 1800 or now - fields["at"] >= 86_400 or self.forbids("login", now, about):
                return False
        named = [account, to] if action == "transfer" else [account]
        for number in named:
            if number == 0 and action in {"read", "manage"}:
                continue
            if self.owner.get(number) != user:
                return False
            if kind == "key" and fields["accounts"] and number not in fields["accounts"]:
                return False
            about = [*about, ("account", number)]
        return action in {"read", "cancel", "manage"} or not self.forbids(action, now, about)


class Both:
    """The code and the model, given the same acts."""

    def __init__(self) -> None:
        self.world, self.model, self.now = World(), Model(), 0
        for user, accounts in USERS.items():
            self.world.user(user, *accounts)
        self.world.apply(changes.create_firm(self.world.directory, "firm", self.world.now_ns, 9))
        self.principals: list[tuple[tuple[str, Any], Principal]] = []
        self.tokens: dict[int, str] = {}

    def note(self, what: str, **fields: Any) -> None:
        self.model.history.append(Event(self.now, what, fields))

    def act(self, step: tuple[Any, ...]) -> None:
        world, now_ns = self.world, self.world.now_ns
        match step:
            case "key", user, permissions, accounts, lasts:
                name = f"k{len(self.principals)}"
                only = tuple(a for a in accounts if a in USERS[user])
                until = None if lasts is None else self.now + lasts
                expires = 0 if lasts is None else now_ns + lasts * SECOND_NS
                principal = world.hmac_key(user, name, permissions=permissions, accounts=only, expires_ns=expires)
                self.principals.append((("key", name), principal))
                self.note("key", id=name, user=user, permissions=permissions, accounts=only, until=until)
            case "session", user:
                code = denied(lambda: self.tokens.update({len(self.tokens): world.sign_in(user)}))
                if code == 0:
                    number = len(self.tokens) - 1
                    self.principals.append((("session", number), world.session(self.tokens[number])))
                    self.note("session", id=number, user=user, at=self.now, order=len(self.model.history))
            case "use", index:
                sessions = [(who, p) for who, p in self.principals if who[0] == "session"]
                if sessions:
                    (_, number), _principal = sessions[index % len(sessions)]
                    if world.authenticator.session(self.tokens[number], now_ns)[0].allowed:
                        world.directory.touch(_principal.session_id, now_ns)
                        self.note("use", id=number)
            case "end", index:
                if self.principals:
                    (kind, name), principal = self.principals[index % len(self.principals)]
                    if kind == "key":
                        world.apply(changes.revoke_key(world.directory, name, now_ns))
                    else:
                        user = world.directory.users[world.directory.sessions[principal.session_id].user_id].name
                        if denied(
                            lambda: world.apply(
                                changes.revoke_sessions(world.directory, user, now_ns, principal.session_id)
                            )
                        ):
                            return
                    self.note(f"end {kind}", id=name)
            case "restrict", (subject, named), scopes, lasts:
                user_row = world.directory.user(str(named))
                of = 1 if subject == "firm" else named if user_row is None else user_row.user_id
                expires = 0 if lasts is None else now_ns + lasts * SECOND_NS
                world.apply(changes.restrict(world.directory, subject, of, scopes, "because", now_ns, expires))
                until = None if lasts is None else self.now + lasts
                state = max(world.directory.restrictions)
                self.note("restrict", state=state, subject=(subject, named), scopes=scopes, until=until)
            case "lift", index:
                states = sorted(world.directory.restrictions)
                if states:
                    state = states[index % len(states)]
                    if not denied(lambda: world.apply(changes.lift(world.directory, state, now_ns))):
                        self.note("lift", state=state)
            case "firm", user, firm:
                if not denied(lambda: world.apply(changes.assign_firm(world.directory, user, firm))):
                    self.note("firm", user=user, firm=firm)
            case "password", user:
                hashed = world.passwords.hash(PASSWORD)
                if not denied(
                    lambda: world.apply(changes.set_password(world.directory, user, hashed, now_ns, temporary=False))
                ):
                    self.note("password", user=user)
            case "close", user:
                if not denied(lambda: world.apply(changes.close_user(world.directory, user, now_ns))):
                    self.note("close", user=user)
            case "wait", seconds:
                self.now += seconds
                world.now_ns += seconds * SECOND_NS

    def compare(self) -> None:
        for who, principal in self.principals:
            for action in ACTIONS:
                for account in (*ACCOUNTS, 0):
                    for to in (1, 21) if action == "transfer" else (0,):
                        expected = self.model.may(who, action, account, self.now, to)
                        verdict = may(self.world.directory, principal, action, account, self.world.now_ns, to)
                        assert expected == verdict.allowed, (who, action, account, to, verdict)
                        assert verdict.allowed or codes.TEXT[verdict.code] in verdict.text


users = st.sampled_from(sorted(USERS))
some = st.sets(st.sampled_from(sorted(PERMISSIONS)), min_size=1).map(lambda found: tuple(sorted(found)))
scopes = st.sets(st.sampled_from(sorted(SCOPES)), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))
lasts = st.none() | st.sampled_from((60, 2000))
subjects = (
    st.tuples(st.just("user"), users)
    | st.tuples(st.just("account"), st.sampled_from(ACCOUNTS[:5]))
    | st.just(("firm", "firm"))
)
index = st.integers(0, 20)
steps = st.one_of(
    st.tuples(st.just("key"), users, some, st.sets(st.sampled_from(ACCOUNTS), max_size=2).map(sorted), lasts),
    st.tuples(st.just("session"), users),
    st.tuples(st.just("use"), index),
    st.tuples(st.just("end"), index),
    st.tuples(st.just("restrict"), subjects, scopes, lasts),
    st.tuples(st.just("lift"), index),
    st.tuples(st.just("firm"), users, st.sampled_from(("firm", ""))),
    st.tuples(st.just("password"), users),
    st.tuples(st.just("wait"), st.sampled_from((1, 59, 900, 1799, 40_000))),
)


@given(st.lists(steps, max_size=14), st.none() | users)
def test_nobody_acts_outside_their_rights_whatever_was_done_before(
    history: list[tuple[Any, ...]], closed: str | None
) -> None:
    both = Both()
    both.act(("firm", "ann", "firm"))
    both.act(("key", "ann", ("read", "trade"), (), None))
    both.act(("session", "bob"))
    for step in history:
        if closed is not None and step[0] in {"key", "session"} and step[1] == closed and both.model.said("close"):
            continue
        both.act(step)
        if closed is not None and step[0] == "wait" and not both.model.said("close"):
            both.act(("close", closed))
    both.compare()


def test_key_of_one_sub_account_reaches_no_other_and_transfers_to_none() -> None:
    world = World()
    world.user("ann", 1, 11, 12)
    principal = world.hmac_key("ann", accounts=(11,))
    ask = lambda action, account, to=0: may(world.directory, principal, action, account, world.now_ns, to).code  # noqa: E731
    assert 0 == ask("trade", 11)
    assert [codes.KEY_OTHER_ACCOUNT] * 4 == [
        ask("trade", 1),
        ask("read", 12),
        ask("transfer", 11, 12),
        ask("transfer", 1, 11),
    ]


def test_transfer_to_somebody_elses_account_is_refused() -> None:
    world = World()
    world.user("ann", 1, 11)
    world.user("bob", 2)
    principal = world.hmac_key("ann")
    verdicts = [
        may(world.directory, principal, "transfer", *pair) for pair in ((1, world.now_ns, 2), (2, world.now_ns, 1))
    ]
    assert [codes.NOT_YOUR_ACCOUNT] * 2 == [verdict.code for verdict in verdicts]
    assert may(world.directory, principal, "transfer", 1, world.now_ns, 11).allowed


def test_account_state_is_explained_with_scope_reason_and_end() -> None:
    world = World()
    world.user("ann", 1)
    principal = world.hmac_key("ann")
    until = 1_760_000_600 * SECOND_NS
    world.apply(changes.restrict(world.directory, "user", 1, ["withdraw"], "new device", world.now_ns, until))
    verdict = may(world.directory, principal, "withdraw", 1, world.now_ns)
    assert (codes.RESTRICTED, "not allowed until 2025-10-09 09:03:20 UTC: withdraw. Reason: new device") == (
        verdict.code,
        verdict.text.partition(": ")[2],
    )
    assert may(world.directory, principal, "trade", 1, world.now_ns).allowed
    assert may(world.directory, principal, "withdraw", 1, until).allowed
    state = Restriction(1, "user", 1, ("trade",), "asked")
    assert explained(state).startswith("not allowed until it is lifted: place or change orders.")


def test_states_of_a_user_are_its_own_its_firms_and_its_accounts() -> None:
    world = World()
    world.user("ann", 1)
    world.apply(changes.create_firm(world.directory, "firm", 1, 9))
    world.apply(changes.assign_firm(world.directory, "ann", "firm"))
    for subject in ("user", "account", "firm"):
        world.apply(changes.restrict(world.directory, subject, 1, ["trade"], subject, world.now_ns))
    world.apply(changes.restrict(world.directory, "user", 1, ["trade"], "over", world.now_ns, world.now_ns + 1))
    assert {"user", "account", "firm"} == {state.text for state in states_of(world.directory, 1, world.now_ns + 1)}


def test_cancelling_stays_possible_for_who_may_trade_no_more() -> None:
    world = World()
    world.user("ann", 1)
    principal = world.hmac_key("ann")
    world.apply(changes.restrict(world.directory, "account", 1, ["trade"], "loss limit", world.now_ns))
    assert not may(world.directory, principal, "trade", 1, world.now_ns).allowed
    assert may(world.directory, principal, "cancel", 1, world.now_ns).allowed


# --- operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", sorted(ROLES))
def test_no_single_role_moves_a_clients_money_however_many_have_it(role: str) -> None:
    world = World()
    world.user("ann", 1)
    one, two = world.operator("one", role), world.operator("two", role)
    for op in sorted(TAKES_OVER):
        assert not may(world.directory, one, op, 1, world.now_ns).allowed
        row = denied(lambda: world.apply(proposals.propose(world.directory, op, "{}", "one", "why", world.now_ns)))  # noqa: B023
        assert 0 == row
        number = max(world.directory.proposals)
        for name in ("one", "two"):
            act = lambda: proposals.decide(world.directory, number, name, world.now_ns, approve=True)  # noqa: B023, E731
            assert denied(act) in {codes.OWN_PROPOSAL, codes.ROLE_MISSING}
    assert not may(world.directory, two, "adjust", 1, world.now_ns).allowed


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("propose", "approve", "approve", "deny", "roles", "finish", "wait")),
            st.sampled_from(("one", "two", "three")),
            st.sampled_from(("adjust", "adjust", "key_create")),
            st.sampled_from([*sorted(ROLES), "both"]),
            st.integers(0, 5),
        ),
        max_size=25,
    )
)
def test_what_needs_four_eyes_is_executed_once_by_two_who_may(history: list[tuple[str, str, str, str, int]]) -> None:
    world = World()
    roles: dict[str, tuple[str, ...]] = {"one": ("treasury",), "two": ("approver",), "three": ("treasury", "approver")}
    for name, given_roles in roles.items():
        world.operator(name, *given_roles)
    proposed: dict[int, tuple[str, str, int]] = {}
    decided: dict[int, str] = {}
    for what, name, op, role, at in history:
        number = at % max(1, len(proposed) + (at == 5)) + 1
        directory, now_ns = world.directory, world.now_ns
        if what == "propose":
            operator = directory.user(name)
            assert operator is not None
            verdict = may(directory, Principal(operator_id=operator.user_id), op, 0, now_ns)
            holds = any(op in ROLES[one].ops for one in roles[name])
            assert (codes.APPROVAL_NEEDED if holds else codes.ROLE_MISSING) == verdict.code
            if holds:
                world.apply(proposals.propose(directory, op, "{}", name, "why", now_ns))
                proposed[len(proposed) + 1] = (name, op, now_ns)
        elif what in {"approve", "deny"}:
            act = lambda: world.apply(  # noqa: E731
                proposals.decide(directory, number, name, now_ns, approve=what == "approve")  # noqa: B023
            )
            by, asked, since = proposed.get(number, ("", "", 0))
            expected = (
                number in proposed
                and number not in decided
                and by != name
                and "approver" in roles[name]
                and now_ns - since < 24 * 3600 * SECOND_NS
                and (what == "deny" or any(asked in ROLES[one].ops for one in roles[by]))
            )
            assert expected == (denied(act) == 0)
            if expected:
                decided[number] = what
        elif what == "finish" and decided.get(number) == "approve":
            decided[number] = "done"
            world.apply(proposals.finish(directory, number, "{}", ok=True))
        elif what == "roles":
            roles[name] = ("treasury", "approver") if role == "both" else (role,)
            world.apply(changes.set_roles(directory, name, roles[name]))
        elif what == "wait":
            world.now_ns += 10 * 3600 * SECOND_NS
    for number, row in world.directory.proposals.items():
        expected_state = {"approve": "executing", "deny": "denied", "done": "executed"}.get(
            decided.get(number, ""), "open"
        )
        assert expected_state == row.state
        if row.state in {"executing", "executed"}:
            assert row.decided_by != row.operator


def test_nobody_approves_what_they_proposed_and_nothing_twice_nor_late() -> None:
    world = World()
    world.operator("one", "treasury", "approver")
    world.operator("two", "approver")
    approve = lambda number, name: denied(  # noqa: E731
        lambda: world.apply(proposals.decide(world.directory, number, name, world.now_ns, approve=True))
    )
    for _ in range(3):
        world.apply(proposals.propose(world.directory, "adjust", "{}", "one", "why", world.now_ns))
    assert [codes.OWN_PROPOSAL, 0, codes.PROPOSAL_CLOSED] == [approve(1, "one"), approve(1, "two"), approve(1, "two")]
    world.apply(changes.set_roles(world.directory, "one", ["auditor"]))
    assert codes.ROLE_MISSING == approve(2, "two")
    world.apply(changes.set_roles(world.directory, "one", ["treasury"]))
    world.now_ns += proposals.LIFETIME_NS
    assert codes.PROPOSAL_CLOSED == approve(2, "two")


def test_temporary_password_of_an_operator_is_good_for_choosing_another_one_only() -> None:
    world = World()
    hashed = world.passwords.hash(PASSWORD)
    world.apply(changes.create_operator(world.directory, "olga", ["treasury"], hashed, world.now_ns, temporary=True))
    principal = Principal(operator_id=1)
    assert codes.PASSWORD_TEMPORARY == may(world.directory, principal, "status", 0, world.now_ns).code
    assert all(may(world.directory, principal, op, 0, world.now_ns).allowed for op in OWN)


def test_operator_whose_session_was_ended_does_nothing_more() -> None:
    world = World()
    operator = world.operator("olga", "auditor")
    token = world.sign_in("olga", kind="operator")
    session_id = max(world.directory.sessions)
    signed_in = Principal(operator_id=operator.operator_id, session_id=session_id)
    assert may(world.directory, signed_in, "status", 0, world.now_ns).allowed
    assert not world.authenticator.session(token, world.now_ns)[0].allowed, "an operator's session is no client's"
    world.apply(changes.revoke_sessions(world.directory, "olga", world.now_ns))
    assert codes.SESSION_REVOKED == may(world.directory, signed_in, "status", 0, world.now_ns).code


def test_every_operation_that_needs_four_eyes_belongs_to_a_role_and_has_a_reason() -> None:
    granted = frozenset().union(*(role.ops for role in ROLES.values()))
    assert set() == set(FOUR_EYES) - granted
    assert all(FOUR_EYES.values())
