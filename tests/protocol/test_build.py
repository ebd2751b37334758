import numpy as np
import pytest

from protocol import build
from protocol import enums as e
from protocol.instruments import Asset, Instrument
from protocol.records import EXT_ADMIN_SLOT, EXT_ASSET_SLOT, EXT_IDS_SLOT, EXT_LISTING_SLOT

USD = Asset(1, "USD", 4)
BTC = Asset(2, "BTC", 8)
MARKET = Instrument(
    7, "BTCUSD", BTC, USD, 1_000_000, 1_000_000, -5, 10, band_up_e8=3, reference_ticks=9, qty_max_lots=11
)
WHO = ("ops", "because")

OPERATOR_GROUPS = {
    "deposit": build.deposit(1, 2, 3, *WHO),
    "adjust": build.adjust(1, 2, -3, *WHO),
    "withdraw_hold": build.withdraw_hold(1, 2, 3, *WHO),
    "withdraw_settle": build.withdraw_settle(1, 99, *WHO),
    "withdraw_release": build.withdraw_release(1, 99, *WHO),
    "create_account": build.create_account(1, *WHO),
    "close_account": build.close_account(1, *WHO),
    "freeze": build.freeze(1, *WHO),
    "unfreeze": build.unfreeze(1, *WHO),
    "halt": build.halt(7, *WHO),
    "resume": build.resume(7, *WHO),
    "set_fees": build.set_fees(7, -1, 2, *WHO),
    "set_bands": build.set_bands(
        7, band_up_e8=1, band_down_e8=2, breaker_e8=3, reference_ticks=4, operator="ops", reason="because"
    ),
    "set_timer": build.set_timer(1, 10, 3, *WHO),
    "list_asset": build.list_asset(BTC, *WHO),
    "list_instrument": build.list_instrument(MARKET, *WHO),
}


def limit() -> np.ndarray:
    return build.limit(
        account=4, instrument=7, side=e.SELL, price_ticks=100, qty_lots=5, tif=e.POST_ONLY, stp=e.STP_DECREMENT
    )


@pytest.mark.parametrize("name", OPERATOR_GROUPS)
def test_an_operators_command_ends_with_who_and_why(name: str) -> None:
    group = OPERATOR_GROUPS[name]
    last = group[-1:].view(EXT_ADMIN_SLOT.slot_dtype)[0]
    assert (e.EXT_ADMIN, b"ops", b"because") == (last["type"], last["operator"], last["reason"])


@pytest.mark.parametrize("name", OPERATOR_GROUPS)
def test_all_slots_of_a_group_but_the_last_say_that_it_goes_on(name: str) -> None:
    more = (OPERATOR_GROUPS[name]["flags"] & e.FLAG_MORE) != 0
    assert [True] * (len(more) - 1) + [False] == more.tolist()


def test_a_listing_is_carried_whole() -> None:
    row = build.list_instrument(MARKET, *WHO)[1:2].view(EXT_LISTING_SLOT.slot_dtype)[0]
    got = (
        row["type"],
        row["symbol"],
        row["base"],
        row["quote"],
        row["tick_e8"],
        row["lot_atoms"],
        row["maker_rate_e8"],
    )
    assert (e.EXT_LISTING, b"BTCUSD", 2, 1, 1_000_000, 1_000_000, -5) == got
    rest = (row["taker_rate_e8"], row["band_up_e8"], row["band_down_e8"], row["reference_ticks"], row["qty_max_lots"])
    assert (10, 3, 0, 9, 11) == rest


def test_an_asset_is_carried_whole() -> None:
    group = build.list_asset(BTC, *WHO)
    row = group[1:2].view(EXT_ASSET_SLOT.slot_dtype)[0]
    assert (2, b"BTC", 8) == (group["asset"][0], row["symbol"], row["scale"])


def test_a_client_order_id_of_36_characters_is_kept_whole_in_the_second_slot() -> None:
    text = "0123456789abcdefghijklmnopqrstuvwxyz"
    group = build.with_client_order_id(limit(), text, link_id=5, tag=6)
    row = group[1:2].view(EXT_IDS_SLOT.slot_dtype)[0]
    assert (text.encode(), 5, 6) == (row["client_order_id"], row["link_id"], row["tag"])
    assert [e.FLAG_MORE, 0] == group["flags"].tolist()


def test_a_client_order_id_comes_before_the_operators_slot() -> None:
    group = build.with_client_order_id(build.deposit(1, 2, 3, *WHO), "x")
    assert [e.DEPOSIT, e.EXT_IDS, e.EXT_ADMIN] == group["type"].tolist()


@pytest.mark.parametrize("text", ["", "x" * 37, "ä" * 19])
def test_a_client_order_id_that_does_not_fit_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="client order id"):
        build.with_client_order_id(limit(), text)


def test_a_reason_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"reason .* takes 1 to 72 bytes"):
        build.freeze(1, "ops", "y" * 73)


def test_stamping_numbers_every_slot_and_names_new_orders_and_holds() -> None:
    slots = np.concatenate([build.freeze(1, *WHO), limit(), build.withdraw_hold(1, 2, 3, *WHO)])
    build.stamp(slots, source=9, first_source_seq=20, session=3)
    assert [20, 21, 22, 23, 24] == slots["seq"].tolist()
    at = [0, 2, 3]
    assert [(9, 3, 20), (9, 3, 22), (9, 3, 23)] == slots[["source", "session", "source_seq"]][at].tolist()
    assert [0, build.order_id_of(9, 22), build.order_id_of(9, 23)] == slots["order_id"][at].tolist()


def test_stamping_leaves_what_later_slots_of_a_group_carry() -> None:
    before = build.freeze(1, *WHO)
    after = build.stamp(before.copy(), source=9, first_source_seq=20)
    row = after[1:2].view(EXT_ADMIN_SLOT.slot_dtype)[0]
    assert (21, b"ops", b"because") == (row["seq"], row["operator"], row["reason"])


def test_half_a_group_is_not_numbered() -> None:
    with pytest.raises(ValueError, match="whole groups only"):
        build.stamp(build.freeze(1, *WHO)[:1], source=9, first_source_seq=1)


def test_an_order_has_every_field_it_was_given() -> None:
    head = limit()[0]
    names = ("type", "account", "instrument", "side", "price_ticks", "qty_lots", "tif", "stp", "version")
    assert (e.LIMIT, 4, 7, e.SELL, 100, 5, e.POST_ONLY, e.STP_DECREMENT, 1) == tuple(head[n] for n in names)
