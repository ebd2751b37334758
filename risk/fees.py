"""Fees: versions of schedules, who has which, tiers by 30-day volume, and what a fill is charged (risk specification, 4.1).

All of it is settle's: reserve needs no fee, because fees come out of what is received. The schedule of a fill is that of the first of
(account in the instrument, account, firm, instrument, venue) that has one in force; without any, the instrument's own rates count.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT, E8, fee_charge, muldiv_ceil, muldiv_floor
from protocol.instruments import fees_are_valid
from protocol.jit import entry, inner
from risk import state as s
from risk.ledger import home_of, post

LEAST_SHARE: Final = 4
"""Tenths of the first tier's rate that another tier has at least: 60 % is the largest discount."""
LEVELS: Final = 5


@entry
def effective_rate(rate_e8, discount_e8):
    """Rate after the API discount: charges round up, rebates do not change."""
    if rate_e8 <= 0:
        return rate_e8
    return muldiv_ceil(rate_e8, E8 - discount_e8, E8)


@entry
def fee_or_rebate(units, rate_e8):
    """Charge for rate >= 0, minus the rebate below."""
    if rate_e8 >= 0:
        return fee_charge(units, rate_e8)
    return -muldiv_floor(units, -rate_e8, E8)


@inner
def tier_row(version, tier):
    """First word of a tier in ``fee_tiers``."""
    return (version * e.FEE_TIERS_MAX + tier) * s.FEE_WORDS


@entry
def tier_of(state, version, volume_units):
    """Highest tier of a version that the volume reaches."""
    tier = 0
    tiers = state.fee_versions[version]["tiers"]
    while tier + 1 < tiers and state.fee_tiers[tier_row(version, tier + 1) + s.FEE_MIN] <= volume_units:
        tier += 1
    return tier


# --- volume -----------------------------------------------------------------------------------------------------------


@inner
def master_of(state, account):
    """The account whose volume and user limits count."""
    master = state.accounts[account]["master"]
    return master if master != 0 else account


@inner
def turn_day(state, master, ts_ns):
    """Bring a master's volumes to the UTC day of ``ts_ns``: what the days before had is summed once, at the first look."""
    a = state.accounts[master]
    day = ts_ns // s.DAY_NS
    last = a["volume_day"]
    if last == day:
        return
    row = master * s.VOLUME_RING
    state.volumes[row + last % s.VOLUME_RING] = a["today_units"]
    for empty in range(max(last + 1, day - s.VOLUME_RING), day):
        state.volumes[row + empty % s.VOLUME_RING] = 0
    total = 0
    for back in range(1, s.VOLUME_DAYS + 1):
        total = min(total + state.volumes[row + (day - back) % s.VOLUME_RING], AMOUNT_LIMIT - 1)
    a["volume_day"] = day
    a["volume_units"] = total
    a["today_units"] = 0


@inner
def add_volume(state, account, units, ts_ns):
    """Count a side of a fill, in units of the volume asset."""
    master = master_of(state, account)
    turn_day(state, master, ts_ns)
    a = state.accounts[master]
    a["today_units"] = min(a["today_units"] + units, AMOUNT_LIMIT - 1)


@inner
def count_volume(state, row, taker, maker, value_units, ts_ns):
    """Both sides of a fill count, at the rate of the quote asset."""
    rate_e8 = state.assets[row["quote"]]["volume_rate_e8"]
    if rate_e8 == 0:
        return
    units = muldiv_floor(value_units, rate_e8, E8)
    if units < 0 or units >= AMOUNT_LIMIT:
        units = AMOUNT_LIMIT - 1
    add_volume(state, taker, units, ts_ns)
    add_volume(state, maker, units, ts_ns)


# --- which rule -------------------------------------------------------------------------------------------------------


@inner
def version_at(state, schedule, ts_ns):
    """Row of the version in force, 0 = none; planned ones whose time has come take their place."""
    row = state.schedules[schedule]
    while row["planned"] != 0 and state.fee_versions[row["planned"]]["effective_ts_ns"] <= ts_ns:
        row["current"] = row["planned"]
        row["planned"] = state.fee_versions[row["current"]]["next"]
    return row["current"]


@inner
def contract_row(state, account, instrument):
    """Position of (account, instrument) in ``contracts``, or of the empty row where it would stand."""
    mask = state.contracts.shape[0] - 1
    i = home_of(np.int64(account) << 32 | np.int64(instrument), mask)
    while state.contracts[i]["account"] != 0 and (
        state.contracts[i]["account"] != account or state.contracts[i]["instrument"] != instrument
    ):
        i = (i + 1) & mask
    return i


@inner
def schedule_at_level(state, account, instrument, level):
    """Schedule of a level of the order of resolution, most specific first; 0 = none."""
    a = state.accounts[account]
    if level == 0:
        return state.contracts[contract_row(state, account, instrument)]["schedule"] if a["contracts"] != 0 else 0
    if level == 1:
        return a["schedule"]
    if level == 2:
        return state.firm_schedules[a["firm"]]
    if level == 3:
        return state.instruments[instrument]["schedule"]
    return state.meta[s.VENUE_SCHEDULE] if state.instruments[instrument]["follows_venue"] != 0 else 0


@inner
def rule_of(state, account, instrument, ts_ns):
    """Row of the version that prices a side of a fill, 0 = the instrument's own rates."""
    if state.meta[s.FEE_VERSIONS] == 0:
        return 0
    for level in range(LEVELS):
        schedule = schedule_at_level(state, account, instrument, level)
        if schedule != 0:
            version = version_at(state, schedule, ts_ns)
            if version != 0:
                return version
    return 0


@inner
def rate_of(state, hold, row, side_word, ts_ns):
    """(rate, rule, tier) of an order in a fill; ``side_word``: FEE_MAKER or FEE_TAKER."""
    h = state.holds[hold]
    rule = rule_of(state, h["account"], h["instrument"], ts_ns)
    if rule == 0:
        return row["taker_rate_e8"] if side_word == s.FEE_TAKER else row["maker_rate_e8"], 0, 0
    master = master_of(state, h["account"])
    turn_day(state, master, ts_ns)
    tier = tier_of(state, rule, state.accounts[master]["volume_units"])
    word = tier_row(rule, tier) + side_word
    if (h["flags"] & s.HOLD_API) != 0:
        return state.fee_tiers[word + s.FEE_MAKER_API - s.FEE_MAKER], rule, tier + e.FEE_TIER_API
    return state.fee_tiers[word], rule, tier


@inner
def charge(state, account_row, asset, units, taker, seq):
    """Move a fee to FEE, or a rebate (negative) out of it, and count it under its type."""
    if units == 0:
        return
    post(state, account_row, -units, 0, seq)
    row = state.assets[asset]
    row["fee_units"] += units
    if taker:
        row["taker_fee_units"] += units
    elif units > 0:
        row["maker_fee_units"] += units
    else:
        row["rebate_units"] -= units
    if row["fee_units"] < 0:
        state.meta[s.FAULT] = s.FAULT_NEGATIVE_BALANCE


# --- configuration: rare, checked against all that may meet -----------------------------------------------------------


@inner
def lowest_of_schedules(state, ts_ns):
    """Fill each schedule's lowest rates over the versions in force and planned."""
    for schedule in range(1, state.schedules.shape[0]):
        row = state.schedules[schedule]
        row["lowest_maker_e8"] = E8
        row["lowest_taker_e8"] = E8
        if row["versions"] == 0:
            continue
        version = version_at(state, schedule, ts_ns)
        if version == 0:
            version = row["planned"]
        while version != 0:
            v = state.fee_versions[version]
            for tier in range(v["tiers"]):
                word = tier_row(version, tier)
                row["lowest_maker_e8"] = min(row["lowest_maker_e8"], state.fee_tiers[word + s.FEE_MAKER_API])
                row["lowest_taker_e8"] = min(row["lowest_taker_e8"], state.fee_tiers[word + s.FEE_TAKER_API])
            version = v["next"] if version != row["current"] else row["planned"]


@inner
def lowest_anywhere(state):
    """(maker, taker): lowest rates of the schedules of accounts and firms, which meet in every instrument; 100 % where there are none."""
    maker = E8
    taker = E8
    accounts = state.meta[s.ACCOUNTS_HIGH] + 1
    for k in range(1, accounts + state.firm_schedules.shape[0]):
        schedule = state.accounts[k]["schedule"] if k < accounts else state.firm_schedules[k - accounts]
        if schedule != 0:
            maker = min(maker, state.schedules[schedule]["lowest_maker_e8"])
            taker = min(taker, state.schedules[schedule]["lowest_taker_e8"])
    return maker, taker


@inner
def take_lowest(state, row, schedule):
    """What a schedule's lowest rates add to an instrument's."""
    if schedule != 0:
        row["lowest_maker_e8"] = min(row["lowest_maker_e8"], state.schedules[schedule]["lowest_maker_e8"])
        row["lowest_taker_e8"] = min(row["lowest_taker_e8"], state.schedules[schedule]["lowest_taker_e8"])


@inner
def fees_are_sound(state, ts_ns, maker_e8, taker_e8):
    """Whether no maker's rebate exceeds a taker's rate that it may meet, in any instrument, and beside an instrument of these own rates.

    An instrument's own rates count unless a schedule of its own is in force, the venue's where it follows the venue; so a schedule that
    begins later is checked beside what it will replace.
    """
    lowest_of_schedules(state, ts_ns)
    maker, taker = lowest_anywhere(state)
    if min(maker, maker_e8) + min(taker, taker_e8) < 0:
        return False
    for instrument in range(1, state.instruments.shape[0]):
        row = state.instruments[instrument]
        row["lowest_maker_e8"] = maker
        row["lowest_taker_e8"] = taker
        schedule = row["schedule"]
        take_lowest(state, row, schedule)
        if schedule != 0 and state.schedules[schedule]["current"] != 0:
            continue
        schedule = state.meta[s.VENUE_SCHEDULE] if row["follows_venue"] != 0 else 0
        take_lowest(state, row, schedule)
        if schedule == 0 or state.schedules[schedule]["current"] == 0:
            row["lowest_maker_e8"] = min(row["lowest_maker_e8"], row["maker_rate_e8"])
            row["lowest_taker_e8"] = min(row["lowest_taker_e8"], row["taker_rate_e8"])
    for i in range(state.contracts.shape[0]):
        c = state.contracts[i]
        if c["schedule"] != 0:
            take_lowest(state, state.instruments[c["instrument"]], c["schedule"])
    for instrument in range(1, state.instruments.shape[0]):
        row = state.instruments[instrument]
        if row["status"] != e.INSTRUMENT_NONE and row["lowest_maker_e8"] + row["lowest_taker_e8"] < 0:
            return False
    return True


@inner
def listing_fees_code(state, ts_ns, maker_e8, taker_e8):
    """0 or FEES_NET_NEGATIVE of an instrument that is about to be listed."""
    if state.meta[s.FEE_VERSIONS] == 0:
        return 0
    schedule = state.meta[s.VENUE_SCHEDULE]
    if maker_e8 == 0 and taker_e8 == 0 and schedule != 0:
        lowest_of_schedules(state, ts_ns)
        row = state.schedules[schedule]
        in_force = row["current"] != 0
        maker_e8 = row["lowest_maker_e8"] if in_force else min(row["lowest_maker_e8"], 0)
        taker_e8 = row["lowest_taker_e8"] if in_force else min(row["lowest_taker_e8"], 0)
    return 0 if fees_are_sound(state, ts_ns, maker_e8, taker_e8) else r.FEES_NET_NEGATIVE


@inner
def schedule_fields_code(c, ext, words, ints, slot):
    """0 or BAD_SCHEDULE: form and rates of a version, in its slot ``words[slot]``, ``ints[slot]``."""
    if ext["type"] != e.EXT_FEES or ext["product"] != e.PRODUCT_SPOT:
        return r.BAD_SCHEDULE
    tiers = ext["tiers"]
    if tiers < 1 or tiers > e.FEE_TIERS_MAX or c["trigger_price_ticks"] < 0 or c["trigger_price_ticks"] >= E8:
        return r.BAD_SCHEDULE
    before = 0
    for tier in range(tiers):
        if tier > 0:
            least = words[slot, 2 + tier]
            if least <= before or least >= AMOUNT_LIMIT:
                return r.BAD_SCHEDULE
            before = least
        maker = np.int64(ints[slot, 18 + tier])
        taker = np.int64(ints[slot, 25 + tier])
        if taker < 0 or taker >= E8 or maker <= -E8 or maker >= E8:
            return r.BAD_SCHEDULE
        if 10 * taker < LEAST_SHARE * np.int64(ints[slot, 25]) or (
            maker > 0 and 10 * maker < LEAST_SHARE * np.int64(ints[slot, 18])
        ):
            return r.BAD_SCHEDULE
    return 0


@inner
def settle_schedule(state, rings, c):
    """SET_SCHEDULE: 0 or the reason of refusal. The version takes its place by its effective time, behind those of the same time."""
    seq = c["seq"]
    ts_ns = c["ts_ns"]
    slot = seq & (rings.commands.slots.shape[0] - 1)
    number = c["qty_lots"]
    if number < 1 or number >= state.schedules.shape[0]:
        return r.UNKNOWN_SCHEDULE
    code = schedule_fields_code(c, rings.fee_slots[slot], rings.command_words, rings.command_ints, slot)
    if code != 0:
        return code
    version = state.meta[s.FEE_VERSIONS] + 1
    if version >= state.fee_versions.shape[0]:
        return r.FEE_TABLE_FULL
    write_version(state, rings, c, version, slot)
    version_at(state, number, ts_ns)
    schedule = state.schedules[number]
    v = state.fee_versions[version]
    effective = v["effective_ts_ns"]
    former = schedule["current"]
    before = 0
    if effective <= ts_ns:
        schedule["current"] = version
    else:
        following = schedule["planned"]
        while following != 0 and state.fee_versions[following]["effective_ts_ns"] <= effective:
            before = following
            following = state.fee_versions[following]["next"]
        v["next"] = following
        if before == 0:
            schedule["planned"] = version
        else:
            state.fee_versions[before]["next"] = version
    schedule["versions"] += 1
    v["version"] = schedule["versions"]
    state.meta[s.FEE_VERSIONS] = version
    if fees_are_sound(state, ts_ns, E8, E8):
        return 0
    state.meta[s.FEE_VERSIONS] = version - 1
    schedule["versions"] -= 1
    if effective <= ts_ns:
        schedule["current"] = former
    elif before == 0:
        schedule["planned"] = v["next"]
    else:
        state.fee_versions[before]["next"] = v["next"]
    return r.FEES_NET_NEGATIVE


@inner
def write_version(state, rings, c, version, slot):
    """Fill a row of ``fee_versions`` and its tiers."""
    v = state.fee_versions[version]
    v["schedule"] = c["qty_lots"]
    v["next"] = 0
    v["tiers"] = rings.fee_slots[slot]["tiers"]
    v["effective_ts_ns"] = max(c["price_ticks"], c["ts_ns"])
    v["api_discount_e8"] = c["trigger_price_ticks"]
    v["seq"] = c["seq"]
    for tier in range(e.FEE_TIERS_MAX):
        word = tier_row(version, tier)
        given = tier < v["tiers"]
        maker = np.int64(rings.command_ints[slot, 18 + tier]) if given else 0
        taker = np.int64(rings.command_ints[slot, 25 + tier]) if given else 0
        state.fee_tiers[word + s.FEE_MIN] = rings.command_words[slot, 2 + tier] if given and tier > 0 else 0
        state.fee_tiers[word + s.FEE_MAKER] = maker
        state.fee_tiers[word + s.FEE_TAKER] = taker
        state.fee_tiers[word + s.FEE_MAKER_API] = effective_rate(maker, v["api_discount_e8"])
        state.fee_tiers[word + s.FEE_TAKER_API] = effective_rate(taker, v["api_discount_e8"])


@inner
def give_schedule(state, c, contract, schedule):
    """Set the schedule of the command's scope; what it was. The scope is known to exist."""
    scope = c["price_ticks"]
    if scope == e.SCOPE_VENUE:
        former = state.meta[s.VENUE_SCHEDULE]
        state.meta[s.VENUE_SCHEDULE] = schedule
    elif scope == e.SCOPE_ACCOUNT:
        former = np.int64(state.accounts[c["account"]]["schedule"])
        state.accounts[c["account"]]["schedule"] = schedule
    elif scope == e.SCOPE_FIRM:
        former = np.int64(state.firm_schedules[c["trigger_price_ticks"]])
        state.firm_schedules[c["trigger_price_ticks"]] = schedule
    elif scope == e.SCOPE_INSTRUMENT:
        former = np.int64(state.instruments[c["instrument"]]["schedule"])
        state.instruments[c["instrument"]]["schedule"] = schedule
    else:
        former = np.int64(state.contracts[contract]["schedule"])
        state.contracts[contract]["schedule"] = schedule
    return former


@inner
def settle_assignment(state, c):
    """ASSIGN_FEES of a scope that reserve has found: 0 or the reason of refusal. An instrument without a schedule follows the venue."""
    schedule = c["qty_lots"]
    if schedule < 0 or schedule >= state.schedules.shape[0]:
        return r.UNKNOWN_SCHEDULE
    if schedule != 0 and state.schedules[schedule]["versions"] == 0:
        return r.UNKNOWN_SCHEDULE
    scope = c["price_ticks"]
    contract = np.int64(0)
    is_new = False
    if scope == e.SCOPE_CONTRACT:
        contract = np.int64(contract_row(state, c["account"], c["instrument"]))
        is_new = state.contracts[contract]["account"] == 0
    if is_new:
        if state.meta[s.CONTRACTS] >= state.contracts.shape[0] // 2:
            return r.FEE_TABLE_FULL
        enter_contract(state, contract, c["account"], c["instrument"], 1)
    followed = np.int64(0)
    if scope == e.SCOPE_INSTRUMENT:
        followed = np.int64(state.instruments[c["instrument"]]["follows_venue"])
        state.instruments[c["instrument"]]["follows_venue"] = 1
    former = give_schedule(state, c, contract, schedule)
    if fees_are_sound(state, c["ts_ns"], E8, E8):
        return 0
    give_schedule(state, c, contract, former)
    if is_new:
        enter_contract(state, contract, c["account"], 0, -1)
    if scope == e.SCOPE_INSTRUMENT:
        state.instruments[c["instrument"]]["follows_venue"] = followed
    return r.FEES_NET_NEGATIVE


@inner
def enter_contract(state, contract, account, instrument, change):
    """Take an empty row of ``contracts``, or (``change`` -1) give back the one that was taken last."""
    state.meta[s.CONTRACTS] += change
    state.contracts[contract]["account"] = account if change > 0 else 0
    state.contracts[contract]["instrument"] = instrument
    state.accounts[account]["contracts"] += change


@inner
def settle_own_rates(state, c):
    """SET_FEES: the instrument's own rates, in place of any schedule it has; 0 or the reason of refusal."""
    if not fees_are_valid(c["price_ticks"], c["qty_lots"]):
        return r.BAD_FEE
    row = state.instruments[c["instrument"]]
    maker = row["maker_rate_e8"]
    taker = row["taker_rate_e8"]
    schedule = row["schedule"]
    follows = row["follows_venue"]
    row["maker_rate_e8"] = c["price_ticks"]
    row["taker_rate_e8"] = c["qty_lots"]
    row["schedule"] = 0
    row["follows_venue"] = 0
    if state.meta[s.FEE_VERSIONS] == 0 or fees_are_sound(state, c["ts_ns"], E8, E8):
        return 0
    row["maker_rate_e8"] = maker
    row["taker_rate_e8"] = taker
    row["schedule"] = schedule
    row["follows_venue"] = follows
    return r.FEES_NET_NEGATIVE
