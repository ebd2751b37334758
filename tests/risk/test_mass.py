"""Mass cancels by side and session, and dead-man timers."""

from collections.abc import Callable

import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol import reasons as r
from risk import state as s
from tests.engine.oracle_more import Halt, halt_slot
from tests.risk.desk import WHO, Desk, head

GATEWAY = e.SOURCE_FIRST_GATEWAY
SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000_000_000_000
MINE = build.session_of(GATEWAY, 1)


def timer(**fields: int) -> np.ndarray:
    return build.dead_man(**({"account": 1, "duration_ns": SECOND_NS} | fields))


CASES: list[tuple[str, Callable[[], np.ndarray], int]] = [
    *[(f"session {n}", lambda n=n: build.cancel_all(session=n), r.BAD_SESSION)
      for n in (1, GATEWAY << 16, build.session_of(1, 1), build.session_of(64, 1), -1, 1 << 40)],
    ("another gateway's session", lambda: build.cancel_all(session=build.session_of(9, 1)), r.OTHER_SESSION),
    *[(f"sides {n}", lambda n=n: build.cancel_all(account=1, sides=n), r.CANCEL_SIDES) for n in (-1, 3)],
    *[(f"cause {n}", lambda n=n: build.cancel_all(account=1, session=MINE, cause=n), r.CANCEL_CAUSE) for n in (-1, 2, 3)],
    ("end of no session", lambda: build.cancel_all(account=1, cause=1), r.CANCEL_CAUSE),
    ("side of nothing", lambda: build.cancel_all(sides=1), r.UNKNOWN_ACCOUNT),
    *[(f"timer of {n} ns", lambda n=n: timer(duration_ns=n), r.DEAD_MAN_DURATION)
      for n in (-1, 1, SECOND_NS - 1, 86_400 * SECOND_NS + 1)],
    *[(f"timer of account {n}", lambda n=n: timer(account=n), r.UNKNOWN_ACCOUNT) for n in (0, -1, 5)],
    ("timer of instrument 2", lambda: timer(instrument=2), r.UNKNOWN_INSTRUMENT),
    ("timer of session 1 of nobody", lambda: timer(session=1), r.BAD_SESSION),
    ("timer of another gateway's session", lambda: timer(session=build.session_of(9, 1)), r.OTHER_SESSION),
]  # fmt: skip


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(("group", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_mass_cancel_that_makes_no_sense_is_refused_by_name(
    desk: Desk, group: Callable[[], np.ndarray], reason: int
) -> None:
    assert r.NAME[reason] == r.NAME[desk.send(group())]


def test_operator_may_name_any_gateways_session(desk: Desk) -> None:
    assert r.ACCEPTED == desk.send(build.cancel_all(session=build.session_of(9, 1)), e.SOURCE_CONTROL)


def test_client_order_id_stays_taken_when_the_session_ended_and_is_free_when_its_owner_asked() -> None:
    desk = Desk()
    desk.fund(1, quote=1_000)
    desk.ts_ns = START_NS
    order = build.with_client_order_id(desk.limit(1, e.BUY, 10, 5), "mine")
    order["session"][0] = 1
    for cause, second in ((e.CAUSE_ASKED, r.ACCEPTED), (e.CAUSE_DISCONNECT, r.DUPLICATE_CLIENT_ID)):
        desk.do(order)
        desk.do(build.cancel_all(account=1, session=MINE, cause=cause))
        assert 1 == desk.outcomes[-1]["qty_lots"]
        assert second == desk.send(order)
        desk.send(build.cancel_all(account=1))


def expire(desk: Desk, ts_ns: int) -> None:
    desk.ts_ns = ts_ns
    desk.do(head(e.EXPIRE))


def test_timers_that_are_due_together_fire_by_time_and_their_cancels_come_back_once() -> None:
    desk = Desk()
    meta = desk.engine.risk.meta
    desk.ts_ns = START_NS
    for account, seconds in ((2, 2), (1, 2), (3, 1), (1, 9)):
        instrument = int(seconds == 9)
        desk.do(timer(account=account, duration_ns=seconds * SECOND_NS, instrument=instrument))
    expire(desk, START_NS + SECOND_NS - 1)
    assert (4, 0) == (meta[s.DEAD_MEN], meta[s.OUTBOX_PUSHED])
    expire(desk, START_NS + 3 * SECOND_NS)
    assert (1, 3, 3) == (meta[s.DEAD_MEN], meta[s.OUTBOX_PUSHED], meta[s.DEAD_MEN_FIRED])
    seq = desk.engine.last_seq
    for number, account in enumerate((3, 1, 2), 1):
        assert r.ACCEPTED == desk.sequence(halt_slot(Halt(0, seq, 0, account, 0, e.CANCEL_ALL), number))
    assert (3, 0) == (meta[s.OUTBOX_SETTLED], meta[s.DEAD_MEN_FIRED])


def test_timer_of_an_account_that_was_closed_meanwhile_finds_nothing() -> None:
    desk = Desk()
    desk.ts_ns = START_NS
    desk.do(timer())
    desk.do(build.close_account(1, *WHO))
    expire(desk, START_NS + SECOND_NS)
    assert r.ACCEPTED == desk.sequence(halt_slot(Halt(0, desk.engine.last_seq, 0, 1, 0, e.CANCEL_ALL), 1))


def test_as_many_timers_as_there_are_rows_are_armed_and_those_that_fired_count_until_their_cancels_are_back() -> None:
    desk = Desk()
    desk.ts_ns = START_NS
    for number in range(1, s.DEAD_MEN_MAX + 1):
        desk.do(timer(session=build.session_of(GATEWAY, number)))
    assert r.DEAD_MAN_TABLE_FULL == desk.send(timer())
    desk.do(timer(session=build.session_of(GATEWAY, 5), duration_ns=3 * SECOND_NS))
    desk.do(timer(session=build.session_of(GATEWAY, 7), duration_ns=0))
    desk.do(timer(session=build.session_of(GATEWAY, 7), duration_ns=0))
    desk.do(timer())
    expire(desk, START_NS + SECOND_NS)
    assert (1, s.DEAD_MEN_MAX - 1) == (desk.engine.risk.meta[s.DEAD_MEN], desk.engine.risk.meta[s.DEAD_MEN_FIRED])
    assert r.DEAD_MAN_TABLE_FULL == desk.send(timer(account=2))
