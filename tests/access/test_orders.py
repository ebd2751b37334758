"""The API discount goes to whoever signed with a key, and to nobody else."""

import pytest

from gateway.access import keys
from gateway.access.orders import order_flags
from gateway.access.rights import Principal
from protocol import enums as e
from tests.access.support import World
from tests.risk.test_fees import FeeDesk


@pytest.fixture
def world() -> World:
    made = World()
    made.user("alice", 2)
    return made


def test_orders_of_keys_of_every_kind_are_flagged_and_those_of_people_are_not(world: World) -> None:
    for kind, comp_id in ((keys.HMAC, ""), (keys.FIX, "ALICE"), (keys.BINARY, "")):
        assert e.FLAG_API == order_flags(world.hmac_key("alice", f"alice.{kind}", kind=kind, comp_id=comp_id))
    assert [0, 0, 0] == [
        order_flags(who) for who in (Principal(session_id=4), Principal(operator_id=2, session_id=5), Principal())
    ]


def test_order_with_the_flags_of_a_key_pays_a_tenth_less(world: World) -> None:
    desk = FeeDesk()
    desk.schedule(1, (0, 0, 100_000), api_discount_e8=10_000_000)
    desk.assign(e.SCOPE_VENUE, 1)
    fees = []
    for principal in (world.hmac_key("alice"), Principal(session_id=1)):
        desk.do(desk.limit(1, e.SELL, 1, 10_000))
        order = desk.limit(2, e.BUY, 1, 10_000)
        order["flags"][0] |= order_flags(principal)
        desk.do(order)
        taker = desk.outcomes[(desk.outcomes["kind"] == e.OUT_TRADE) & (desk.outcomes["account"] == 2)]
        fees.append((int(taker["fee_units"][0]), int(taker["fee_tier"][0])))
    assert [(900, e.FEE_TIER_API), (1_000, 0)] == fees
