"""What a caller may: windows on the clock, bans that grow and are forgotten, a table that is full, a clock that is set back."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rates import subjects
from gateway.rates.limiter import ALLOWED, BANNED, REFUSED, Verdict
from gateway.rates.rules import COUNT_MAX, DAY_S, RateLimits, Window
from gateway.rates.subjects import NOBODY, of_address, of_key, of_name, of_peer, of_session
from gateway.rates.table import PROBES
from tests.rates.naive import Naive, Said
from tests.rates.support import MIDNIGHT_MS, SMALL, Clocked

ROOT = Path(__file__).resolve().parents[2]
ALICE = of_address("203.0.113.7")
BOB = of_address("203.0.113.8")

IPS = {"ip 1": ALICE, "ip 2": BOB, "ip 3": of_address("2001:db8::1")}
KEYS = {"key a": of_key("a"), "key b": of_key("b"), "": NOBODY}
NAMES = {name: of_name(name) for name in ("name x", "name y")}
PEERS = {"peer p": of_peer("p"), "peer 1": of_peer("203.0.113.7")}
STEPS_MS = (0, 1, 999, 5_000, 10_000, 59_000, 125_000, 1_000_000, 3_600_000, DAY_S * 1000 + 1)
BACK_MS = (1, 1_500, 20_000, 50_000)

steps = st.one_of(
    st.tuples(st.just("request"), st.sampled_from(sorted(IPS)), st.sampled_from(sorted(KEYS)), st.integers(0, 9)),
    st.tuples(st.just("charge"), st.sampled_from(sorted(IPS)), st.sampled_from(sorted(KEYS)), st.integers(1, 30)),
    st.tuples(st.just("connection"), st.sampled_from(sorted(IPS))),
    st.tuples(st.just("order"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("give_back"), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.just("sign_in"), st.sampled_from(sorted(NAMES)), st.sampled_from(sorted(PEERS)), st.booleans()),
    st.tuples(st.just("pass"), st.sampled_from(STEPS_MS)),
    st.tuples(st.just("back"), st.sampled_from(BACK_MS)),
)


@given(st.lists(steps, max_size=120), st.integers(0, 2**63 - 1))
def test_any_sequence_of_calls_is_answered_as_by_counting_in_dictionaries(calls: list[tuple], seed: int) -> None:
    world, naive = Clocked(seed=seed), Naive(SMALL)
    limiter = world.limiter
    set_back_ms = 0
    for name, *given_ in calls:
        naive.now_ms = world.now_ms
        verdict, said = None, None
        if name == "pass":
            world.now_ms += given_[0]
            set_back_ms = 0
        elif name == "back":
            # Within a minute in all: what is set back further is another test.
            if set_back_ms + given_[0] < 60_000:
                world.now_ms -= given_[0]
                set_back_ms += given_[0]
        elif name == "request":
            ip, key, weight = given_
            verdict = limiter.check_request(IPS[ip], KEYS[key], weight)
            amounts = {"ip_weight": weight, "ip_requests": 1, "key_weight": weight}
            said = naive.take([ip, key] if key else [ip], "request", amounts)
        elif name == "charge":
            ip, key, weight = given_
            limiter.charge(IPS[ip], KEYS[key], weight)
            naive.add(ip, "ip_weight", weight)
            if key:
                naive.add(key, "key_weight", weight)
        elif name == "connection":
            verdict = limiter.count_connection(IPS[given_[0]])
            said = naive.take(given_, "connection", {"ip_connections": 1})
        elif name == "order":
            verdict = limiter.count_order(*given_)
            said = naive.take([f"account {given_[0]}"], "order", {"account_orders": given_[1]})
        elif name == "give_back":
            if all(subject != f"account {given_[0]}" for subject, *_ in naive.counts):
                continue  # nobody gives back what was never counted
            limiter.give_back(*given_)
            naive.add(f"account {given_[0]}", "account_orders", -given_[1])
        else:
            who, peer, right = given_
            verdict = limiter.begin_sign_in(NAMES[who], PEERS[peer])
            amounts = {"sign_ins_of_name": 1, "sign_ins_from_peer": 1}
            said = naive.take([who, peer], "sign_in", amounts)
            if right and said.code == ALLOWED:
                limiter.passed_sign_in(NAMES[who], PEERS[peer])
                naive.add(who, "sign_ins_of_name", -1)
                naive.add(peer, "sign_ins_from_peer", -1)
        if verdict is not None:
            assert said == Said(verdict.code, verdict.retry_ms)
    naive.now_ms = world.now_ms
    for account in (1, 2, 3):
        verdict = limiter.count_order(account, 0)
        if verdict.code == ALLOWED:
            expected = [naive.count(f"account {account}", "account_orders", window_s)[1] for window_s in (DAY_S, 10)]
            assert expected == verdict.counts[:2]


def test_windows_are_those_of_the_clock_and_not_of_the_first_request() -> None:
    world = Clocked()
    world.now_ms = MIDNIGHT_MS + 9_000
    assert [ALLOWED] * 5 + [REFUSED] == world.orders(7, 6)
    refused = world.limiter.count_order(7)
    assert (1_000, 1) == (refused.retry_ms, refused.retry_s)
    world.now_ms += 999
    assert [REFUSED] == world.orders(7, 1)
    world.now_ms += 1
    assert [ALLOWED] * 5 == world.orders(7, 5)


def test_counts_are_told_for_headers() -> None:
    limiter = Clocked().limiter
    key = of_key("k")
    limiter.check_request(ALICE, key, 5)
    used = limiter.used(limiter.check_request(ALICE, key, 2), ALICE, key)
    told = {(rule.counter.name, rule.suffix): count for rule, count in used}
    expected = {("ip_weight", "1M"): 7, ("ip_requests", "5M"): 2, ("ip_connections", "5M"): 0, ("key_weight", "1M"): 7}
    assert expected == told
    orders = limiter.used(limiter.count_order(7, 3), subjects.of_account(7))
    assert {"1D": 3, "10S": 3} == {rule.suffix: count for rule, count in orders}


def test_request_that_is_refused_by_key_counts_neither_there_nor_by_address() -> None:
    limiter = Clocked().limiter
    limiter.charge(BOB, of_key("k"), 20)
    refused = limiter.check_request(ALICE, of_key("k"), 6)
    assert (REFUSED, "key_weight") == (refused.code, limiter.rules[refused.rule].counter.name)
    assert [0, 0, 0] == refused.counts[:3]
    assert ALLOWED == limiter.check_request(ALICE, of_key("k"), 5).code


def test_refusal_names_the_limit_that_lasts_longest() -> None:
    world = Clocked()
    for _ in range(8):
        world.orders(7, 5)
        world.now_ms += 10_000
    refused = world.limiter.count_order(7)
    assert DAY_S == world.limiter.rules[refused.rule].window_s
    assert DAY_S * 1000 - 80_000 == refused.retry_ms


def test_order_entry_weighs_nothing_until_it_fails_and_is_refused_once_failures_have_used_the_weight_up() -> None:
    limiter = Clocked().limiter
    assert [ALLOWED] * 10 == [limiter.check_request(ALICE, weight=0).code for _ in range(10)]
    limiter.charge(ALICE, NOBODY, 20)
    assert ALLOWED == limiter.check_request(ALICE, weight=0).code
    limiter.charge(ALICE, NOBODY, 1)
    assert REFUSED == limiter.check_request(ALICE, weight=0).code


def test_fills_give_orders_back_and_never_more_than_was_counted() -> None:
    world = Clocked()
    assert [ALLOWED] * 5 + [REFUSED] == world.orders(7, 6)
    world.limiter.give_back(7, 2)
    assert [ALLOWED] * 2 + [REFUSED] == world.orders(7, 3)
    world.limiter.give_back(7, 1000)
    world.limiter.give_back(8, 1000)
    assert [ALLOWED] * 5 + [REFUSED] == world.orders(7, 6)
    assert [ALLOWED] * 5 + [REFUSED] == world.orders(8, 6)


def banned_s(world: Clocked) -> int:
    """Have ALICE go on until banned; how long."""
    verdict = world.limiter.check_request(ALICE, weight=21)
    while verdict.code == REFUSED:
        verdict = world.limiter.check_request(ALICE, weight=21)
    assert BANNED == verdict.code
    assert world.now_ms + verdict.retry_ms == verdict.until_ms
    return verdict.retry_s


def test_who_goes_on_while_refused_is_banned_for_twice_as_long_each_time_up_to_the_longest() -> None:
    world = Clocked()
    lasted = []
    for _ in range(6):
        lasted.append(banned_s(world))
        world.now_ms += lasted[-1] * 1000
    assert [120, 240, 480, 960, 1000, 1000] == lasted
    world.now_ms += 3 * DAY_S * 1000
    assert 960 == banned_s(world), "three days without a ban take three of six steps back, and this is one more"


def test_default_bans_grow_from_two_minutes_to_three_days() -> None:
    world = Clocked(RateLimits(rows=64))
    lasted = []
    for _ in range(14):
        verdict = Verdict(ALLOWED, [])
        while verdict.code != BANNED:
            verdict = world.limiter.check_request(ALICE, weight=6001)
        lasted.append(verdict.retry_s)
        world.now_ms += verdict.retry_ms
    assert ([120, 240, 480], [122_880, 245_760, 259_200, 259_200]) == (lasted[:3], lasted[10:])


def test_refusals_before_a_ban_are_done_with_when_it_is_over() -> None:
    world = Clocked(msgspec.structs.replace(SMALL, ban_first_s=1))
    assert 1 == banned_s(world)
    world.now_ms += 1_000
    codes = [world.limiter.check_request(ALICE, weight=21).code for _ in range(4)]
    assert [REFUSED] * 3 + [BANNED] == codes


def test_weight_that_is_charged_without_end_stays_at_the_largest_count() -> None:
    world = Clocked()
    for _ in range(3):
        world.limiter.charge(ALICE, NOBODY, COUNT_MAX)
    verdict = world.limiter.check_request(ALICE, weight=0)
    used = {rule.counter.name: count for rule, count in world.limiter.used(verdict, ALICE)}
    assert (REFUSED, COUNT_MAX) == (verdict.code, used["ip_weight"])
    world.now_ms += 60_000
    assert ALLOWED == world.limiter.check_request(ALICE).code


def test_ban_refuses_everything_of_the_address_and_nothing_of_others() -> None:
    world = Clocked()
    banned_s(world)
    assert BANNED == world.limiter.check_request(ALICE, weight=0).code
    assert BANNED == world.limiter.count_connection(ALICE).code
    assert ALLOWED == world.limiter.check_request(BOB).code
    world.now_ms += 119_999
    assert BANNED == world.limiter.check_request(ALICE).code
    world.now_ms += 1
    assert ALLOWED == world.limiter.check_request(ALICE).code


def test_refusals_that_are_spread_over_minutes_ban_nobody() -> None:
    world = Clocked()
    world.limiter.count_order(7, 5)
    for _ in range(50):
        assert REFUSED == world.limiter.count_order(7, 100).code
        world.now_ms += 20_001


def test_account_that_is_banned_from_ordering_still_logs_on() -> None:
    world = Clocked()
    world.orders(7, 5)
    assert [REFUSED] * 3 + [BANNED] * 2 == world.orders(7, 5)
    assert [ALLOWED, ALLOWED, REFUSED] == [world.limiter.count_logon(7).code for _ in range(3)]


def test_guessing_keeps_a_name_out_for_a_window_and_never_bans_it() -> None:
    world = Clocked()
    name, peer = of_name("alice"), of_peer("198.51.100.1")
    codes = [world.limiter.begin_sign_in(name, peer).code for _ in range(50)]
    assert [ALLOWED] * 3 + [REFUSED] * 47 == codes
    assert [] == world.limiter.banned()
    world.now_ms += 300_000
    assert ALLOWED == world.limiter.begin_sign_in(name, peer).code


def test_session_messages_are_limited() -> None:
    world = Clocked()
    session = of_session("ALICE-1")
    assert [ALLOWED] * 4 + [REFUSED] == [world.limiter.count_message(session).code for _ in range(5)]
    assert ALLOWED == world.limiter.count_message(of_session("ALICE-2"), 4).code


def test_unban_ends_a_ban_and_those_before_it_but_not_the_window() -> None:
    world = Clocked()
    world.limiter.check_request(ALICE, weight=20)
    banned_s(world)
    (ban,) = world.limiter.banned()
    assert (ALICE, world.now_ms + 120_000, 1) == ban
    assert world.limiter.unban(ALICE)
    assert not world.limiter.unban(ALICE)
    assert not world.limiter.unban(BOB)
    assert REFUSED == world.limiter.check_request(ALICE).code
    world.now_ms += 60_000
    assert 120 == banned_s(world)


# --- addresses --------------------------------------------------------------------------------------------------------


def test_addresses_of_one_ipv6_network_are_one_and_those_of_ipv4_are_whole() -> None:
    assert of_address("2001:db8:1:2::1") == of_address("2001:db8:1:2:ffff:ffff:ffff:ffff")
    assert of_address("2001:db8:1:2::1") != of_address("2001:db8:1:3::1")
    assert of_address("::ffff:203.0.113.7") == ALICE != BOB
    assert of_address("fe80::1%eth0") == of_address("fe80::2")
    assert of_peer("203.0.113.7") == of_peer("::ffff:203.0.113.7") != of_peer("local")


@pytest.mark.parametrize("text", ["203.0.113.7", "0.0.0.0", "255.255.255.255", "2001:db8:1:2::/64", "ffff::/64"])
def test_address_is_shown_as_it_is_counted(text: str) -> None:
    assert text == subjects.address_text(of_address(text.removesuffix("/64")))


def test_label_that_is_of_another_row_is_not_shown() -> None:
    network = of_address("2001:db8::")
    assert "" == subjects.address_text(network._replace(label=network.label + 1))


@given(st.binary(min_size=1, max_size=40), st.integers(1, 2**31 - 1))
def test_kinds_never_share_a_row(data: bytes, account: int) -> None:
    text = data.hex()
    found = {
        *(of_key(text), of_session(text), of_name(text), of_peer(text)),
        *(subjects.of_account(account), subjects.of_logons(account), of_address(f"2001:db8:{text[:4]}::")),
    }
    assert 7 == len({subject.identity for subject in found})
    assert {0} == {subject.identity >> 63 for subject in found}


# --- clock ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back_ms", [1, 4_000, 59_000])
def test_clock_that_goes_back_a_little_gives_nobody_a_second_limit(back_ms: int) -> None:
    world = Clocked()
    assert [ALLOWED] * 5 == world.orders(7, 5)
    world.now_ms -= back_ms
    refused = world.limiter.count_order(7)
    assert (REFUSED, 10_000 + back_ms) == (refused.code, refused.retry_ms)
    world.now_ms += back_ms + 10_000
    assert [ALLOWED] == world.orders(7, 1)


def test_clock_that_is_set_back_by_years_keeps_nobody_out() -> None:
    world = Clocked()
    world.orders(7, 5)
    banned_s(world)
    world.now_ms -= 3 * 365 * DAY_S * 1000
    assert [ALLOWED] * 5 + [REFUSED] == world.orders(7, 6)
    verdict = world.limiter.check_request(ALICE)
    assert (BANNED, 120) == (verdict.code, verdict.retry_s), "the ban lasts no longer than it could have"
    world.now_ms += 120_000
    assert ALLOWED == world.limiter.check_request(ALICE).code


def test_clock_before_the_first_window_counts_all_the_same() -> None:
    world = Clocked()
    world.now_ms = 5_000
    assert [ALLOWED] * 5 + [REFUSED] == world.orders(7, 6)


# --- the table --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**63 - 1))
def test_full_table_refuses_those_for_whom_there_is_no_place_together_and_forgets_nobody(seed: int) -> None:
    world = Clocked(seed=seed)
    accounts = range(1, 301)
    allowed = [world.orders(account, 6).count(ALLOWED) for account in accounts]
    assert set(allowed) <= {0, 1, 2, 3, 4, 5}
    assert allowed.count(5) <= SMALL.rows + 1
    assert sum(allowed) <= (SMALL.rows + 1) * 5
    assert [REFUSED] == list({world.limiter.count_order(account).code for account in accounts} - {BANNED})
    shown = world.limiter.status()
    assert (64, ["account"]) == (shown["rows_used"], shown["shared"])
    # Those who share a place are never banned: it would be for what others did.
    lone = [account for account, count in zip(accounts, allowed, strict=True) if count == 0]
    assert {REFUSED} == {world.limiter.count_order(account).code for account in lone for _ in range(5)}


def test_full_table_gives_the_oldest_rows_away_once_their_windows_are_over() -> None:
    settings = RateLimits(rows=64, ip_weight=(Window(60, 20),), ip_requests=(), ip_connections=())
    world = Clocked(settings)
    for second in range(3):
        for host in range(300):
            world.limiter.check_request(of_address(f"198.{second}.{host >> 8}.{host & 255}"))
        assert ["ip"] == world.limiter.status()["shared"]
        world.now_ms += 60_000
    fresh = of_address("203.0.113.99")
    assert [ALLOWED] * 20 + [REFUSED] == [world.limiter.check_request(fresh).code for _ in range(21)]


def test_row_that_is_given_away_brings_neither_counts_nor_bans_of_the_former_subject() -> None:
    world = Clocked(RateLimits(rows=64, ip_weight=(Window(1, 1),), ip_requests=(), ip_connections=(), ban_after=2))
    addresses = [of_address(f"198.51.{n >> 8}.{n & 255}") for n in range(400)]
    for address in addresses:
        for _ in range(4):
            world.limiter.check_request(address)
    assert world.limiter.banned()
    world.now_ms += DAY_S * 1000
    for account in range(1, 21):
        assert [ALLOWED, ALLOWED] == world.orders(account, 2)
        assert 2 == world.limiter.count_order(account, 0).counts[0]
    assert [] == world.limiter.banned()


def test_row_that_is_given_away_forgets_how_often_the_former_subject_was_banned() -> None:
    settings = RateLimits(rows=64, ip_weight=(Window(1, 1),), ip_requests=(), ip_connections=(), ban_after=1)
    world = Clocked(settings)
    for n in range(400):
        world.limiter.check_request(of_address(f"198.51.{n >> 8}.{n & 255}"), weight=2)
    assert {1} == {ban.level for ban in world.limiter.banned()}
    world.now_ms += 200_000
    lasts_s = [world.limiter.check_request(of_address(f"203.0.113.{n}"), weight=2).retry_s for n in range(20)]
    assert [120] * 20 == lasts_s


def test_row_that_another_process_takes_a_moment_before_is_its_own() -> None:
    program = (
        "from tests.rates.support import Clocked\n"
        "from gateway.rates import kernels\n"
        "world, real, others = Clocked(), kernels.compare_exchange, []\n"
        "def late(words, at, expected, value):\n"
        "    if at % 8 == 0 and not others:\n"
        "        others.append(at)\n"
        "        words[at] = 3 << 60 | 99\n"
        "    return real(words, at, expected, value)\n"
        "kernels.compare_exchange = late\n"
        "assert [0] * 5 + [1] == world.orders(7, 6)\n"
        "assert 1 == len(others)\n"
        "row = world.limiter._words[others[0]:][:8].tolist()\n"
        "assert [3 << 60 | 99] + [0] * 7 == row, row\n"
    )
    in_plain_python(program)


def test_rows_with_something_in_force_are_given_to_nobody() -> None:
    world = Clocked()
    banned_s(world)
    world.orders(7, 5)
    world.now_ms += 60_000
    for n in range(2000):
        world.limiter.check_request(of_address(f"198.51.{n >> 8}.{n & 255}"), weight=1)
    assert BANNED == world.limiter.check_request(ALICE).code
    assert 5 == world.limiter.count_order(7, 0).counts[0]


def test_subjects_are_spread_by_a_seed_that_nobody_knows() -> None:
    crowd = [of_address(f"198.51.100.{n}") for n in range(64)]
    places = []
    for seed in (1, 2):
        world = Clocked(seed=seed)
        for address in crowd[: PROBES * 2]:
            world.limiter.check_request(address)
        places.append([int(word) for word in world.limiter._rows()[:, 0]])
    assert places[0] != places[1]


def test_all_is_the_same_in_plain_python() -> None:
    program = (
        "from tests.rates import test_limiter as t\n"
        "t.test_counts_are_told_for_headers()\n"
        "t.test_who_goes_on_while_refused_is_banned_for_twice_as_long_each_time_up_to_the_longest()\n"
        "t.test_full_table_gives_the_oldest_rows_away_once_their_windows_are_over()\n"
        "t.test_clock_that_is_set_back_by_years_keeps_nobody_out()\n"
        "t.test_request_that_is_refused_by_key_counts_neither_there_nor_by_address()\n"
    )
    in_plain_python(program)


def in_plain_python(program: str) -> None:
    """Run a program without the compiler."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    environment.pop("NUMBA_CACHE_DIR")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr
