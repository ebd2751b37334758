"""Client order ids: when one is taken, when it is free, and what a second use is told."""

import random

import msgspec
import numpy as np
import pytest
from numba import njit

from protocol import board as b
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.instance import Limits
from protocol.records import EXT_IDS_SLOT, OUTCOME_DUPLICATE
from ringbuf.arena import private_arena
from ringbuf.bundle import Bundle
from risk import client_ids as ci
from risk import state as s
from tests.engine.driver import Variant
from tests.engine.operators import COMMAND_NS, START_TS_NS, numbered
from tests.risk.desk import LIMITS, WHO, Desk, head

TABLES = {"orders": 64, "client_ids": 8, "client_id_ttl_ms": 20}
pytestmark = pytest.mark.timeout(600)  # the first test may have to compile all kernels


class IdDesk(Desk):
    """A desk where accounts 1 and 2 have funds; a slot takes a millisecond, and a finished id is taken for 20."""

    def __init__(self, variant: Variant | None = None, **changes: int) -> None:
        super().__init__(variant, limits=msgspec.structs.replace(LIMITS, **(TABLES | changes)))
        self.fund(1, quote=100_000, base=100_000)
        self.fund(2, quote=100_000, base=100_000)

    def order(
        self, name: str, account: int = 1, side: int = e.BUY, price: int = 10, lots: int = 5, **fields: int
    ) -> int:
        """Reason of the refusal of an order with a client order id."""
        return self.send(build.with_client_order_id(self.limit(account, side, price, lots, **fields), name))

    def cancel(self, order_id: int, account: int = 1) -> None:
        self.do(build.cancel(account=account, instrument=1, order_id=order_id))

    def let_pass(self, slots: int) -> None:
        for _ in range(slots):
            self.do(head(e.TICK))

    @property
    def first(self) -> np.void:
        """What the last refusal says of the first order."""
        row: np.void = self.outcomes.view(OUTCOME_DUPLICATE.slot_dtype)[-1]
        assert (e.OUT_REJECTED, r.DUPLICATE_CLIENT_ID, e.OUTCOME_LAST) == (row["kind"], row["reason"], row["flags"])
        return row


def test_second_use_of_an_open_orders_id_is_refused_and_told_of_the_first() -> None:
    desk = IdDesk()
    desk.order("x", lots=5)
    first = desk.order_id
    desk.do(desk.limit(2, e.SELL, 10, 2))
    assert r.DUPLICATE_CLIENT_ID == desk.order("x")
    row = desk.first
    assert (first, e.ORDER_STATE_LIVE, 0, 1) == tuple(
        row[k] for k in ("first_order_id", "first_state", "first_reason", "first_instrument")
    )
    assert (2, 3, 20, 0) == tuple(
        row[k] for k in ("first_cum_qty_lots", "first_leaves_qty_lots", "first_value_units", "first_ended_ts_ns")
    )
    assert (desk.order_id, 10, 5) == (row["order_id"], row["price_ticks"], row["qty_lots"])


def test_ids_are_an_accounts_own() -> None:
    desk = IdDesk()
    assert [0, 0] == [desk.order("x", account=1), desk.order("x", account=2)]


@pytest.mark.parametrize("name", ["a", "eight888", "eight8889", "z" * 36])
def test_ids_that_differ_in_one_character_differ(name: str) -> None:
    desk = IdDesk()
    others = [name[:at] + "_" + name[at + 1 :] for at in range(len(name))]
    assert {0} == {desk.order(text, lots=1) for text in [name, name[:-1] or "b", *others]}
    assert r.DUPLICATE_CLIENT_ID == desk.order(name)


def test_id_is_free_at_once_after_the_owners_cancel() -> None:
    desk = IdDesk()
    desk.order("x")
    desk.cancel(desk.order_id)
    assert r.ACCEPTED == desk.order("x")


def test_id_is_free_at_once_after_a_refusal_of_risk_and_of_the_matcher() -> None:
    desk = IdDesk()
    assert r.INSUFFICIENT_FUNDS == desk.order("x", lots=1_000_000)
    assert r.ACCEPTED == desk.order("x", lots=1)
    desk.do(desk.limit(2, e.SELL, 11, 5))
    assert r.POST_ONLY_WOULD_TAKE == desk.order("y", price=11, tif=e.POST_ONLY)
    assert r.FOK_UNFILLED == desk.order("y", price=10, tif=e.FOK)
    assert r.ACCEPTED == desk.order("y")


def ended(desk: IdDesk, how: str) -> None:
    """Let the order "x" of account 1 end."""
    if how in {"filled as taker", "expired"}:
        if how == "filled as taker":
            desk.do(desk.limit(2, e.SELL, 10, 5))
        desk.order("x", tif=e.IOC)
    else:
        desk.order("x")
        if how == "filled as maker":
            desk.do(desk.limit(2, e.SELL, 10, 5))
        elif how == "self-trade prevention":
            desk.do(desk.limit(1, e.SELL, 10, 5, stp=e.STP_EXPIRE_MAKER, tif=e.IOC))
        elif how == "decremented":
            desk.do(desk.limit(1, e.SELL, 10, 5, stp=e.STP_DECREMENT))
        elif how == "operator's cancel-all":
            desk.send(build.cancel_all(account=1), e.SOURCE_CONTROL)
        elif how == "cancel-all of the instrument":
            desk.send(build.cancel_all(instrument=1))


ENDS = {
    "filled as taker": (e.ORDER_STATE_FILLED, 0, 5),
    "filled as maker": (e.ORDER_STATE_FILLED, 0, 5),
    "expired": (e.ORDER_STATE_EXPIRED, r.BY_IOC, 0),
    "self-trade prevention": (e.ORDER_STATE_CANCELED, r.BY_STP, 0),
    "decremented": (e.ORDER_STATE_EXPIRED, r.BY_STP, 0),
    "operator's cancel-all": (e.ORDER_STATE_CANCELED, r.BY_CANCEL_ALL, 0),
    "cancel-all of the instrument": (e.ORDER_STATE_CANCELED, r.BY_CANCEL_ALL, 0),
}


@pytest.mark.parametrize("how", ENDS)
def test_id_of_an_ended_order_stays_taken_for_its_time(how: str) -> None:
    state, reason, traded = ENDS[how]
    desk = IdDesk()
    ended(desk, how)
    end_ns = int(desk.outcomes[0]["ts_ns"])
    while START_TS_NS + desk.engine.last_seq * COMMAND_NS < end_ns + 18 * COMMAND_NS:
        desk.tick()
    assert r.DUPLICATE_CLIENT_ID == desk.order("x")  # 19 ms after
    row = desk.first
    assert (state, reason, traded, 0) == tuple(
        row[k] for k in ("first_state", "first_reason", "first_cum_qty_lots", "first_leaves_qty_lots")
    )
    assert (end_ns, 19 * COMMAND_NS) == (row["first_ended_ts_ns"], row["ts_ns"] - end_ns)
    assert r.ACCEPTED == desk.order("x")  # two slots later: 21 ms
    assert r.DUPLICATE_CLIENT_ID == desk.order("x")
    assert e.ORDER_STATE_LIVE == desk.first["first_state"]


@pytest.mark.parametrize(("after_ms", "reason"), [(19, r.DUPLICATE_CLIENT_ID), (20, r.ACCEPTED)])
def test_id_is_free_from_the_very_end_of_its_time(after_ms: int, reason: int) -> None:
    desk = IdDesk()
    ended(desk, "expired")
    desk.let_pass(after_ms - 2)  # an order with an id has two slots, and the time of the first
    assert reason == desk.order("x")
    assert after_ms * COMMAND_NS == desk.outcomes[0]["ts_ns"] - desk.engine.risk.finished["ended_ts_ns"][0]


def test_owners_cancel_all_through_a_clients_gateway_frees_the_ids() -> None:
    desk = IdDesk()
    desk.order("x")
    desk.send(build.cancel_all(account=1), e.SOURCE_FIRST_GATEWAY)
    assert r.ACCEPTED == desk.order("x")


def test_without_time_an_id_is_free_at_once_whatever_ends_the_order() -> None:
    for how in ENDS:
        desk = IdDesk(client_id_ttl_ms=0)
        ended(desk, how)
        assert r.ACCEPTED == desk.order("x")
        assert 0 == desk.engine.risk.meta[s.FINISHED]


def test_full_table_lets_the_oldest_go_early_and_says_how_far_it_reaches() -> None:
    desk = IdDesk(client_ids=3, client_id_ttl_ms=1_000)
    for name in "abc":
        desk.order(name, tif=e.IOC)
    assert 1_000 * COMMAND_NS == covered_ns(desk)
    assert r.DUPLICATE_CLIENT_ID == desk.order("a")
    desk.order("d", tif=e.IOC)
    # b, c and d are left, two slots after one another but for the refused one.
    assert (6 * COMMAND_NS, 1) == (covered_ns(desk), desk.engine.risk.meta[s.FINISHED_EARLY])
    assert [r.ACCEPTED, r.DUPLICATE_CLIENT_ID] == [desk.order("a"), desk.order("b")]


def covered_ns(desk: Desk) -> int:
    return int(desk.engine.rings.board[b.CLIENT_IDS_COVERED_NS])


def test_duplicate_is_told_before_all_that_may_have_changed_since_the_first_order() -> None:
    desk = IdDesk()
    desk.order("x", lots=10_000)  # which takes all the money
    for group in (build.freeze(1, *WHO), build.halt(1, *WHO)):
        desk.do(group)
    assert r.DUPLICATE_CLIENT_ID == desk.order("x", lots=10_000)
    assert r.DUPLICATE_CLIENT_ID == desk.order("x", price=0, lots=-1, tif=77)
    assert r.ACCOUNT_FROZEN == desk.order("y")
    assert r.UNKNOWN_ACCOUNT == desk.order("x", account=5)


def test_amend_keeps_the_id_and_its_own_slot_of_ids_is_not_looked_at() -> None:
    desk = IdDesk()
    desk.order("x")
    first = desk.order_id
    amend = build.amend(account=1, instrument=1, order_id=first, price_ticks=11, qty_lots=4)
    desk.do(build.with_client_order_id(amend, "x"))
    assert r.DUPLICATE_CLIENT_ID == desk.order("x")
    assert first == desk.first["first_order_id"]


def test_slot_of_ids_without_a_client_order_id_takes_none() -> None:
    desk = IdDesk()
    for _ in range(2):
        group = build.with_client_order_id(desk.limit(1, e.BUY, 10, 1), "x", link_id=7)
        group.view(EXT_IDS_SLOT.slot_dtype)["client_order_id"][1] = b""
        assert r.ACCEPTED == desk.send(group)


def test_only_what_is_found_waits() -> None:
    """Ten orders with ids of their own are accepted ahead; the second use waits for what may free the id."""
    desk = IdDesk(Variant("long", budget=4096))
    waits = desk.engine.risk.meta
    slots = [build.with_client_order_id(desk.limit(1, e.BUY, 10, 1), f"n{k}") for k in range(10)]
    desk.engine.feed(stamped(desk, slots))
    assert 0 == waits[s.EXACT_WAITS]
    first = int(desk.engine.risk.holds["order_id"].max())
    again = [build.cancel(account=1, instrument=1, order_id=first), slots[-1]]
    desk.engine.feed(stamped(desk, again))
    assert 1 == waits[s.EXACT_WAITS]
    assert 10 == int(waits[s.HOLDS_USED])


def stamped(desk: Desk, groups: list[np.ndarray]) -> np.ndarray:
    slots = build.stamp(np.concatenate([g.copy() for g in groups]), e.SOURCE_FIRST_GATEWAY, desk.number)
    desk.number += len(slots)
    return numbered(slots, desk.engine.last_seq + 1)


# ------------------------------------------------------------------------------------------------------- the index

TAKE, FIND, FREE, FINISH = range(4)
ROWS, RING = 10, 4


@njit
def do_ids(state, words, operations, out):
    """Operations int64[n, 4]: what, hold row, account, slot of ``words``."""
    for n in range(len(operations)):
        what = operations[n, 0]
        hold = operations[n, 1]
        account = operations[n, 2]
        slot = operations[n, 3]
        tag = ci.client_tag(account, words, slot)
        if what == TAKE:
            state.holds[hold]["account"] = account
            for word in range(5):
                state.hold_ids[hold, word] = words[slot, 3 + word]
            ci.take_client_id(state, hold, tag, words, slot)
        elif what == FREE:
            ci.free_client_id(state, hold)
        elif what == FINISH:
            ci.finish_client_id(state, hold, n, 1, 0)
        out[n] = ci.find_client_id(state, tag, account, words, slot)


@njit
def tags_of(words, out):
    for slot in range(len(out)):
        out[slot] = ci.client_tag(1, words, slot)


def crowded_words(mask: int) -> np.ndarray:
    """Slots with ids whose homes are the last two and the first place of the index, so that probe paths run around its end."""
    words = np.zeros((2_000, 16), dtype=np.int64)
    words[:, 3] = np.arange(1, 2_001)
    tags = np.zeros(2_000, dtype=np.int64)
    tags_of(words, tags)
    return words[np.isin(tags & mask, [mask - 1, mask, 0])][:24]


@pytest.mark.parametrize("seed", range(5))
def test_index_with_crowded_probe_paths_finds_what_a_dict_finds(seed: int) -> None:
    limits = Limits(accounts=4, assets=3, instruments=2, orders=ROWS, leaves=4, withdrawal_holds=4, outbox=4, timers=1,
                    client_ids=RING, client_id_ttl_ms=10_000)  # fmt: skip
    state: Bundle = s.make_state(private_arena(s.state_spec(limits, 256)))
    s.reset(state, limits)
    words = crowded_words(len(state.client_index) - 1)
    assert 24 == len(words)
    rng = random.Random(seed)
    where: dict[int, int] = {}
    ring: list[int] = []
    operations, expected = [], []
    for _ in range(2_000):
        slot = rng.randrange(len(words))
        held = {row: key for key, row in where.items() if row < ROWS}
        what = rng.choice((TAKE, TAKE, FIND, FREE, FINISH))
        hold = 0
        if what == TAKE and slot not in where and len(held) < ROWS:
            hold = rng.choice([row for row in range(ROWS) if row not in held])
            where[slot] = hold
        elif what in {FREE, FINISH} and held:
            hold = rng.choice(list(held))
            slot = held[hold]
            del where[slot]
            if what == FINISH:
                at = ROWS + len(ring) % RING
                where = {key: row for key, row in where.items() if row != at}
                where[slot] = at
                ring.append(slot)
        else:
            what = FIND
        operations.append((what, hold, 1, slot))
        expected.append(where.get(slot, ci.NOT_FOUND))
    out = np.zeros(len(operations), dtype=np.int64)
    do_ids(state, words, np.array(operations, dtype=np.int64), out)
    assert expected == out.tolist()
    assert len(where) == np.count_nonzero(state.client_index)
