"""Passwords, second factors, sessions."""

import msgspec
import pytest

from gateway.access import changes, codes, login, recovery, totp
from gateway.access.login import Lifetime
from gateway.access.passwords import Parameters, Passwords
from gateway.access.rights import may
from tests.access.support import CHEAP, PASSWORD, SECOND_NS, World, denied


def with_authenticator() -> tuple[World, bytes]:
    world = World()
    world.user("ann", 1)
    secret = totp.new_secret()
    code = totp.code(secret, world.now_ns // totp.STEP_NS)
    world.apply(changes.set_totp(world.directory, "ann", secret, code, world.seal, world.now_ns))
    world.now_ns += totp.STEP_NS
    return world, secret


def code_now(world: World, secret: bytes, steps: int = 0) -> str:
    return totp.code(secret, world.now_ns // totp.STEP_NS + steps)


@pytest.mark.parametrize(
    ("now_s", "digits"),
    [(59, "94287082"), (1111111109, "07081804"), (1234567890, "89005924"), (20000000000, "65353130")],
)
def test_codes_are_those_of_rfc_6238(now_s: int, digits: str) -> None:
    assert digits[2:] == totp.code(b"12345678901234567890", now_s // 30)


def test_right_password_makes_a_session() -> None:
    world = World()
    user_id = world.user("ann", 1)
    principal = world.session(world.sign_in("ann"))
    assert user_id == world.directory.sessions[principal.session_id].user_id


def test_unknown_name_and_wrong_password_get_the_same_answer_for_the_same_work() -> None:
    world = World()
    world.user("ann", 1)
    world.passwords.check(None, "warm the decoy")
    answers, works = [], []
    for name, password in (("ann", "wrong"), ("nobody", "wrong"), ("nobody", PASSWORD)):
        before = world.passwords.work
        answers.append(denied(lambda: world.sign_in(name, password)))  # noqa: B023 - called at once
        works.append(world.passwords.work - before)
    assert [codes.BAD_CREDENTIALS] * 3 == answers
    assert [1, 1, 1] == works


def test_wrong_password_does_not_tell_that_a_second_factor_or_a_restriction_is_there() -> None:
    world, _ = with_authenticator()
    world.apply(changes.restrict(world.directory, "user", 1, ["login"], "asked for it", world.now_ns))
    assert codes.BAD_CREDENTIALS == denied(lambda: world.sign_in("ann", "wrong"))
    assert codes.RESTRICTED == denied(lambda: world.sign_in("ann"))


def test_older_parameters_are_replaced_at_the_next_sign_in() -> None:
    world = World()
    world.user("ann", 1)
    before = world.directory.users[1].password
    world.passwords = Passwords(Parameters(time_cost=2, memory_kib=16, lanes=1))
    world.sign_in("ann")
    after = world.directory.users[1].password
    assert "m=8,t=1" in before
    assert "m=16,t=2" in after
    world.sign_in("ann")
    assert after == world.directory.users[1].password


def test_hash_of_a_password_that_changed_meanwhile_is_void() -> None:
    world = World()
    world.user("ann", 1)
    check = world.passwords.check(world.directory.user("ann"), PASSWORD)
    other = world.passwords.hash("another password")
    world.apply(changes.set_password(world.directory, "ann", other, world.now_ns, temporary=False))
    sign_in = lambda: login.sign_in(  # noqa: E731
        *(world.directory, "ann", check, login.Second(), login.Origin(), b"t", Lifetime(), world.seal, world.now_ns),
        "client",
    )
    assert codes.BAD_CREDENTIALS == denied(sign_in)


def test_password_of_a_client_does_not_sign_in_an_operator_nor_the_other_way() -> None:
    world = World()
    world.user("ann", 1)
    world.operator("olga", "auditor")
    assert codes.BAD_CREDENTIALS == denied(lambda: world.sign_in("ann", kind="operator"))
    assert codes.BAD_CREDENTIALS == denied(lambda: world.sign_in("olga"))


def test_second_factor_is_asked_for_and_its_code_works_once() -> None:
    world, secret = with_authenticator()
    assert codes.SECOND_FACTOR == denied(lambda: world.sign_in("ann"))
    code = code_now(world, secret)
    world.sign_in("ann", code=code)
    assert codes.CODE_USED == denied(lambda: world.sign_in("ann", code=code))


def test_code_that_enrolled_the_authenticator_does_not_sign_in() -> None:
    world, secret = with_authenticator()
    world.now_ns -= totp.STEP_NS
    assert codes.CODE_USED == denied(lambda: world.sign_in("ann", code=code_now(world, secret)))


def test_codes_of_the_steps_beside_now_work_and_those_further_do_not() -> None:
    for steps, expected in ((-2, codes.CODE_USED), (-1, 0), (0, 0), (1, 0), (2, codes.CODE_USED)):
        world, secret = with_authenticator()
        world.now_ns += 10 * totp.STEP_NS
        assert expected == denied(lambda: world.sign_in("ann", code=code_now(world, secret, steps)))  # noqa: B023


def test_earlier_code_does_not_work_after_a_later_one() -> None:
    world, secret = with_authenticator()
    world.now_ns += 10 * totp.STEP_NS
    world.sign_in("ann", code=code_now(world, secret, 1))
    assert codes.CODE_USED == denied(lambda: world.sign_in("ann", code=code_now(world, secret)))


def test_used_code_stays_used_after_the_factors_were_reset_and_enrolled_again() -> None:
    world, secret = with_authenticator()
    code = code_now(world, secret)
    world.sign_in("ann", code=code)
    world.apply(changes.reset_factors(world.directory, "ann", world.now_ns))
    again = lambda: changes.set_totp(world.directory, "ann", secret, code, world.seal, world.now_ns)  # noqa: E731
    assert codes.CODE_USED == denied(again)


def test_five_wrong_codes_in_a_row_keep_the_user_out_for_a_quarter_of_an_hour() -> None:
    world, secret = with_authenticator()
    wrong = [denied(lambda: world.sign_in("ann", code="000000x")) for _ in range(5)]
    assert [codes.CODE_USED] * 5 == wrong
    assert codes.RESTRICTED == denied(lambda: world.sign_in("ann", code=code_now(world, secret)))
    world.now_ns += login.PAUSE_NS
    assert 0 == denied(lambda: world.sign_in("ann", code=code_now(world, secret)))


def test_right_code_begins_the_count_of_wrong_ones_anew() -> None:
    world, secret = with_authenticator()
    for _ in range(4):
        denied(lambda: world.sign_in("ann", code="wrong"))
    world.sign_in("ann", code=code_now(world, secret))
    world.now_ns += 2 * totp.STEP_NS
    denied(lambda: world.sign_in("ann", code="wrong"))
    assert 0 == denied(lambda: world.sign_in("ann", code=code_now(world, secret)))


def test_recovery_code_works_once_however_it_is_written() -> None:
    world, _ = with_authenticator()
    given = recovery.new_codes()
    world.apply(changes.set_recovery(world.directory, "ann", given))
    world.sign_in("ann", code=given[3].upper().replace("-", " "))
    assert codes.CODE_USED == denied(lambda: world.sign_in("ann", code=given[3]))
    assert 9 == len(world.directory.users[1].recovery)
    assert 0 == denied(lambda: world.sign_in("ann", code=given[4]))


def test_recovery_codes_are_nobody_elses() -> None:
    given = recovery.new_codes()[0]
    assert recovery.hash_of(1, given) != recovery.hash_of(2, given)


def test_session_ends_when_idle_when_old_and_when_revoked() -> None:
    world = World()
    world.user("ann", 1)
    lifetime = Lifetime(idle_ns=600 * SECOND_NS, absolute_ns=1500 * SECOND_NS)
    idle, used, ended = (world.sign_in("ann", lifetime=lifetime) for _ in range(3))
    world.apply(changes.revoke_sessions(world.directory, "ann", world.now_ns, 3))
    codes_at = {}
    for seconds in (590, 1180, 1499, 1500):
        world.now_ns = world.directory.sessions[1].created_ns + seconds * SECOND_NS
        codes_at[seconds] = world.authenticator.session(used, world.now_ns)[0].code
    assert {590: 0, 1180: 0, 1499: 0, 1500: codes.SESSION_EXPIRED} == codes_at
    assert codes.SESSION_EXPIRED == world.authenticator.session(idle, world.now_ns)[0].code
    assert codes.SESSION_REVOKED == world.authenticator.session(ended, world.now_ns)[0].code


def test_new_password_ends_all_sessions() -> None:
    world = World()
    world.user("ann", 1)
    token = world.sign_in("ann")
    other = world.passwords.hash("another password")
    world.apply(changes.set_password(world.directory, "ann", other, world.now_ns, temporary=False))
    assert codes.SESSION_REVOKED == world.authenticator.session(token, world.now_ns)[0].code


def test_temporary_password_is_good_for_choosing_another_one_only() -> None:
    world = World()
    world.user("ann", 1)
    same = world.passwords.hash(PASSWORD)
    world.apply(changes.set_password(world.directory, "ann", same, world.now_ns, temporary=True))
    principal = world.session(world.sign_in("ann"))
    assert codes.PASSWORD_TEMPORARY == may(world.directory, principal, "read", 1, world.now_ns).code
    assert may(world.directory, principal, "manage", 0, world.now_ns).allowed


def test_devices_are_listed_with_where_and_when() -> None:
    world = World()
    world.user("ann", 1)
    for device in ("phone", "desk", "phone"):
        world.sign_in("ann", device=device)
        world.now_ns += SECOND_NS
    world.apply(changes.revoke_sessions(world.directory, "ann", world.now_ns, 1))
    shown = [(row["device"], row["sessions"], row["open"]) for row in login.devices(world.directory, 1)]
    assert [("phone", 2, 1), ("desk", 1, 1)] == shown


def test_fifty_first_session_ends_the_oldest() -> None:
    world = World()
    world.user("ann", 1)
    tokens = [world.sign_in("ann") for _ in range(login.SESSIONS_MAX + 1)]
    good = [world.authenticator.session(token, world.now_ns)[0].allowed for token in tokens]
    assert [False] + [True] * login.SESSIONS_MAX == good


def test_parameters_of_a_hash_can_be_read_in_it() -> None:
    assert Passwords(CHEAP).hash(PASSWORD).startswith("$argon2id$v=19$m=8,t=1,p=1$")


def test_touch_never_brings_an_ended_session_back() -> None:
    world = World()
    world.user("ann", 1)
    token = world.sign_in("ann")
    before = world.directory.sessions[1]
    world.apply(changes.revoke_sessions(world.directory, "ann", world.now_ns))
    world.directory.touch(1, world.now_ns + SECOND_NS)
    assert codes.SESSION_REVOKED == world.authenticator.session(token, world.now_ns)[0].code
    assert (
        msgspec.structs.replace(before, revoked_ns=world.now_ns, seen_ns=world.now_ns + SECOND_NS)
        == (world.directory.sessions[1])
    )
