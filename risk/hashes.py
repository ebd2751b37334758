"""Hashes of the settled state by named structure, and conservation of money.

In-flight promises, barriers and cursors are in none of them.
"""

from __future__ import annotations

from typing import Final

from protocol import enums as e
from protocol.hashing import mix, wrapping_add
from protocol.jit import entry, inner
from risk import state as s
from risk.fees import tier_row
from risk.ledger import balance_row

STRUCTURES: Final = (
    "accounts",
    "balances",
    "assets",
    "instruments",
    "holds",
    "withdrawals",
    "outbox",
    "timers",
    "client_ids",
    "fees",
    "limits",
)


@inner
def accounts_hash(state):
    """Account numbers, statuses, groups and volumes."""
    total = 0
    for account in range(1, state.meta[s.ACCOUNTS_HIGH] + 1):
        a = state.accounts[account]
        if a["status"] == e.ACCOUNT_NONE:
            continue
        h = mix(mix(1, account), a["status"])
        if a["master"] != 0 or a["firm"] != 0 or a["stp_group"] != 0:
            h = mix(mix(mix(h, a["master"]), a["firm"]), a["stp_group"])
        if a["schedule"] != 0:
            h = mix(mix(h, -1), a["schedule"])
        if a["volume_day"] != 0:
            h = mix(mix(mix(h, a["volume_day"]), a["volume_units"]), a["today_units"])
            for day in range(s.VOLUME_RING):
                h = mix(h, state.volumes[account * s.VOLUME_RING + day])
        total = wrapping_add(total, h)
    return total


@inner
def balances_hash(state):
    """Free and locked of every (account, asset) that has any."""
    total = 0
    for account in range(1, state.meta[s.ACCOUNTS_HIGH] + 1):
        for asset in range(1, state.assets.shape[0]):
            row = balance_row(state, account, asset)
            free = state.balances[row + s.FREE]
            locked = state.balances[row + s.LOCKED]
            if free != 0 or locked != 0:
                total = wrapping_add(total, mix(mix(mix(mix(2, account), asset), free), locked))
    return total


@inner
def assets_hash(state):
    """Fees by type, net deposits and volume rate of every asset."""
    total = 0
    for asset in range(1, state.assets.shape[0]):
        row = state.assets[asset]
        if row["status"] != 0:
            h = mix(mix(mix(mix(3, asset), row["scale"]), row["fee_units"]), row["net_deposits_units"])
            h = mix(mix(mix(h, row["taker_fee_units"]), row["maker_fee_units"]), row["rebate_units"])
            total = wrapping_add(total, mix(h, row["volume_rate_e8"]))
    return total


@inner
def instruments_hash(state):
    """Listing, state, fees, bands and reference of every instrument, and the state of the venue."""
    total = mix(16, state.meta[s.VENUE_STATE])
    for instrument in range(1, state.instruments.shape[0]):
        row = state.instruments[instrument]
        if row["status"] == e.INSTRUMENT_NONE:
            continue
        h = mix(mix(mix(mix(4, instrument), row["status"]), row["base"]), row["quote"])
        h = mix(mix(mix(h, row["tick_e8"]), row["lot_atoms"]), row["multiplier"])
        h = mix(mix(h, row["maker_rate_e8"]), row["taker_rate_e8"])
        h = mix(mix(h, row["follows_venue"]), row["schedule"])
        h = mix(mix(mix(h, row["band_up_e8"]), row["band_down_e8"]), row["breaker_e8"])
        h = mix(mix(mix(h, row["reference_e8"]), row["last_price_ticks"]), row["breaker_pending"])
        h = mix(mix(mix(h, row["dynamic_e8"]), row["auction_ns"]), row["random_ns"])
        h = mix(mix(mix(h, row["extensions"]), row["extended"]), row["indicative_ticks"])
        h = mix(mix(mix(h, row["auction_seq"]), row["auction_end_ts_ns"]), row["auction_then"])
        for k in range(row["sample_count"]):
            h = mix(h, state.samples_e8[instrument, k])
        total = wrapping_add(total, mix(h, row["sample_next"]))
    return total


@inner
def holds_hash(state):
    """Live orders as risk holds them."""
    total = 0
    for hold in range(state.meta[s.HOLDS_HIGH]):
        h = state.holds[hold]
        if h["state"] != e.HOLD_LIVE:
            continue
        x = mix(mix(mix(mix(5, h["order_id"]), h["account"]), h["instrument"]), h["side"])
        x = mix(mix(mix(x, h["price_ticks"]), h["left_lots"]), h["total_lots"])
        x = mix(mix(mix(x, h["traded_lots"]), h["prevented_lots"]), h["value_units"])
        x = mix(x, h["locked_units"])
        if (h["flags"] & s.HOLD_HAS_CLIENT_ID) != 0:
            x = mix(x, h["client_tag"])
        if (h["flags"] & s.HOLD_API) != 0:
            x = mix(x, 1)
        if (h["flags"] & s.HOLD_QUOTE) != 0:
            x = mix(x, 3)
        if (h["flags"] & s.HOLD_TERMS) != 0:
            x = mix(mix(mix(mix(x, 2), h["display_lots"]), h["shown_lots"]), h["expiry_ts_ns"])
        if (h["flags"] & s.HOLD_STOP) != 0:
            x = mix(mix(x, 3), h["flags"] & s.HOLD_WAITS)
        if h["next"] != 0:
            for word in range(s.EXITS_FIRST + state.exits[h["next"], s.EXITS_SLOTS] * s.EXIT_WORDS):
                x = mix(x, state.exits[h["next"], word])
        if (h["flags"] & s.HOLD_LINKED) != 0:
            x = mix(mix(x, 4), state.holds[state.hold_links[hold]]["order_id"])
        total = wrapping_add(total, x)
    return total


@inner
def withdrawals_hash(state):
    """Open withdrawal holds."""
    total = 0
    if state.meta[s.WITHDRAWALS_USED] == 0:
        return total
    for i in range(state.withdrawals.shape[0]):
        row = state.withdrawals[i]
        if row["hold_id"] != 0:
            total = wrapping_add(
                total, mix(mix(mix(mix(6, row["hold_id"]), row["account"]), row["asset"]), row["amount_units"])
            )
    return total


@inner
def outbox_hash(state):
    """Risk's commands that have not come back, in order."""
    h = mix(7, state.meta[s.OUTBOX_PUSHED])
    for k in range(state.meta[s.OUTBOX_SETTLED], state.meta[s.OUTBOX_PUSHED]):
        for word in range(state.outbox.shape[1]):
            h = mix(h, state.outbox[k % state.outbox.shape[0], word])
    return h


@inner
def timers_hash(state):
    """Periods of the timers that run, what dead-man timers would cancel when, and who is protected where."""
    total = mix(17, state.meta[s.DEAD_MEN_FIRED])
    for i in range(state.meta[s.DEAD_MEN]):
        row = state.dead_men[i]
        h = mix(mix(mix(18, row["account"]), row["instrument"]), row["session"])
        total = wrapping_add(total, mix(h, row["until_ns"]))
    for i in range(state.meta[s.PROTECTIONS]):
        total = wrapping_add(total, mix(mix(19, state.protections[i]["account"]), state.protections[i]["instrument"]))
    for row in range(state.timer_periods_ns.shape[0]):
        if state.timer_periods_ns[row] != 0:
            total = wrapping_add(total, mix(mix(8, row), state.timer_periods_ns[row]))
    return total


@inner
def client_ids_hash(state):
    """Client order ids of ended orders, in the order of their ends; rolled up as they end, for a scan would take too long."""
    return mix(mix(9, state.meta[s.FINISHED]), state.meta[s.FINISHED_HASH])


@inner
def fees_hash(state):
    """Versions with their tiers, contracts, schedules of firms and of the venue. What is in force follows from the time."""
    total = mix(10, state.meta[s.VENUE_SCHEDULE])
    for version in range(1, state.meta[s.FEE_VERSIONS] + 1):
        v = state.fee_versions[version]
        h = mix(mix(mix(mix(11, v["schedule"]), v["version"]), v["tiers"]), v["effective_ts_ns"])
        h = mix(mix(h, version), v["api_discount_e8"])
        for tier in range(v["tiers"]):
            for word in range(s.FEE_MAKER_API):
                h = mix(h, state.fee_tiers[tier_row(version, tier) + word])
        total = wrapping_add(total, h)
    if state.meta[s.CONTRACTS] > 0:
        for i in range(state.contracts.shape[0]):
            row = state.contracts[i]
            if row["account"] != 0:
                total = wrapping_add(total, mix(mix(mix(12, row["account"]), row["instrument"]), row["schedule"]))
    for firm in range(1, state.firm_schedules.shape[0]):
        if state.firm_schedules[firm] != 0:
            total = wrapping_add(total, mix(mix(13, firm), state.firm_schedules[firm]))
    return total


@inner
def limits_hash(state):
    """Limits and kill switches; what is counted against them follows from the orders."""
    total = mix(14, 0)
    if state.meta[s.LIMITED] == 0:
        return total
    for row in range(state.limits.shape[0]):
        limit = state.limits[row]
        if limit["is_on"] != 0:
            h = mix(mix(mix(mix(15, row), limit["qty_max_lots"]), limit["notional_max_units"]), limit["collar_e8"])
            h = mix(mix(mix(h, limit["open_orders_max"]), limit["orders_per_s"]), limit["killed"])
            total = wrapping_add(total, h)
    return total


@entry
def named_hashes(state, out):
    """Fill ``out`` int64[len(STRUCTURES)] in the order of STRUCTURES."""
    out[0] = accounts_hash(state)
    out[1] = balances_hash(state)
    out[2] = assets_hash(state)
    out[3] = instruments_hash(state)
    out[4] = holds_hash(state)
    out[5] = withdrawals_hash(state)
    out[6] = outbox_hash(state)
    out[7] = timers_hash(state)
    out[8] = client_ids_hash(state)
    out[9] = fees_hash(state)
    out[10] = limits_hash(state)


@entry
def state_hash(state):
    """One number over all structures of risk."""
    h = mix(0, accounts_hash(state))
    h = mix(h, balances_hash(state))
    h = mix(h, assets_hash(state))
    h = mix(h, instruments_hash(state))
    h = mix(h, holds_hash(state))
    h = mix(h, withdrawals_hash(state))
    h = mix(mix(h, outbox_hash(state)), timers_hash(state))
    return mix(mix(mix(h, client_ids_hash(state)), fees_hash(state)), limits_hash(state))


@entry
def first_unbalanced_asset(state):
    """0, or the first asset whose money does not add up; -asset for a negative balance.

    free + locked + fee must be the net deposits, and ``locked`` what live orders and withdrawal holds need. Exact between
    commands; everything reserved must be settled.
    """
    for asset in range(1, state.assets.shape[0]):
        total = state.assets[asset]["fee_units"]
        locked_total = 0
        for account in range(1, state.meta[s.ACCOUNTS_HIGH] + 1):
            row = balance_row(state, account, asset)
            free = state.balances[row + s.FREE]
            locked = state.balances[row + s.LOCKED]
            if free < 0 or locked < 0:
                return -asset
            total += free + locked
            locked_total += locked
        if total != state.assets[asset]["net_deposits_units"] or locked_total != locked_for(state, asset):
            return asset
    return 0


@inner
def locked_for(state, asset):
    """What live orders and withdrawal holds lock of an asset."""
    total = 0
    for hold in range(state.meta[s.HOLDS_HIGH]):
        h = state.holds[hold]
        if h["state"] == e.HOLD_LIVE:
            row = state.instruments[h["instrument"]]
            if asset == (row["quote"] if h["side"] == e.BUY else row["base"]):
                total += h["locked_units"]
    if state.meta[s.WITHDRAWALS_USED] > 0:
        for i in range(state.withdrawals.shape[0]):
            if state.withdrawals[i]["hold_id"] != 0 and state.withdrawals[i]["asset"] == asset:
                total += state.withdrawals[i]["amount_units"]
    return total
