"""Passkeys: registration and assertion, copies, challenges that are good once."""

import pytest

from gateway.access import changes, codes, passkeys
from gateway.access.passkeys import CHALLENGE_NS, Challenges, Site
from tests.access.authenticator import SoftPasskey
from tests.access.support import World, denied

SITE = Site("exchange.test", "https://exchange.test")


def with_passkey() -> tuple[World, SoftPasskey, Challenges]:
    world, soft, challenges = World(), SoftPasskey(SITE), Challenges()
    user_id = world.user("ann", 1)
    challenge = challenges.give(user_id, world.now_ns)
    made = passkeys.registered(SITE, user_id, challenge, soft.register(challenge), "phone", world.now_ns)
    world.apply(changes.add_passkey(world.directory, "ann", made))
    return world, soft, challenges


def test_passkey_signs_in_as_second_factor() -> None:
    world, soft, challenges = with_passkey()
    assert codes.SECOND_FACTOR == denied(lambda: world.sign_in("ann"))
    challenge = challenges.give(1, world.now_ns)
    world.sign_in("ann", assertion=soft.sign(challenge), challenge=challenge, site=SITE)
    assert "passkey" == world.directory.sessions[1].factor
    assert soft.count == world.directory.passkeys[soft.id].sign_count


def test_assertion_works_once() -> None:
    world, soft, challenges = with_passkey()
    challenge = challenges.give(1, world.now_ns)
    answer = soft.sign(challenge)
    world.sign_in("ann", assertion=answer, challenge=challenge, site=SITE)
    again = lambda: world.sign_in("ann", assertion=answer, challenge=challenge, site=SITE)  # noqa: E731
    assert codes.CODE_USED == denied(again)


def test_copy_whose_count_does_not_grow_is_refused() -> None:
    world, soft, challenges = with_passkey()
    for count, expected in ((5, 0), (3, codes.CODE_USED), (5, codes.CODE_USED), (6, 0)):
        soft.count = count
        challenge = challenges.give(1, world.now_ns)
        answer = soft.sign(challenge)
        assert expected == denied(lambda: world.sign_in("ann", assertion=answer, challenge=challenge, site=SITE))  # noqa: B023


@pytest.mark.parametrize("fault", ["origin", "challenge", "site", "other key", "no such key", "nonsense"])
def test_assertion_that_does_not_fit_is_refused(fault: str) -> None:
    world, soft, challenges = with_passkey()
    challenge = challenges.give(1, world.now_ns)
    site = Site("other.test", SITE.origin) if fault == "site" else SITE
    answer = soft.sign(
        bytes(32) if fault == "challenge" else challenge, origin="https://evil.test" if fault == "origin" else ""
    )
    if fault == "other key":
        other = SoftPasskey(SITE)
        other.id = soft.id
        answer = other.sign(challenge)
    elif fault == "no such key":
        answer = SoftPasskey(SITE).sign(challenge)
    elif fault == "nonsense":
        answer = {"id": "§", "response": None}
    assert codes.CODE_USED == denied(lambda: world.sign_in("ann", assertion=answer, challenge=challenge, site=site))


def test_passkey_of_somebody_else_does_not_sign_in() -> None:
    world, soft, challenges = with_passkey()
    world.user("bob", 2)
    own = SoftPasskey(SITE)
    challenge = challenges.give(2, world.now_ns)
    made = passkeys.registered(SITE, 2, challenge, own.register(challenge), "", world.now_ns)
    world.apply(changes.add_passkey(world.directory, "bob", made))
    challenge = challenges.give(2, world.now_ns)
    answer = soft.sign(challenge)
    assert codes.CODE_USED == denied(lambda: world.sign_in("bob", assertion=answer, challenge=challenge, site=SITE))


@pytest.mark.parametrize("fault", ["origin", "challenge", "nonsense"])
def test_registration_that_does_not_fit_is_refused(fault: str) -> None:
    soft, challenge = SoftPasskey(SITE), bytes(range(32))
    answer = soft.register(
        bytes(32) if fault == "challenge" else challenge, origin="https://evil.test" if fault == "origin" else ""
    )
    answer = {"id": "x"} if fault == "nonsense" else answer
    assert codes.BAD_CREDENTIALS == denied(lambda: passkeys.registered(SITE, 1, challenge, answer, "", 0))


def test_challenge_is_good_once_and_for_five_minutes() -> None:
    challenges = Challenges()
    first = challenges.give(1, 0)
    second = challenges.give(1, 0)
    assert first != second
    assert second == challenges.take(1, CHALLENGE_NS - 1)
    assert codes.BAD_CREDENTIALS == denied(lambda: challenges.take(1, 0))
    challenges.give(1, 0)
    assert codes.BAD_CREDENTIALS == denied(lambda: challenges.take(1, CHALLENGE_NS))
