"""Which live orders are an account's quote in an instrument: what a new quote there takes the place of."""

from __future__ import annotations

from protocol.jit import inner
from risk.ledger import home_of


@inner
def quote_row(state, account, instrument):
    """Row of a pair in ``quotes``, or the free one where it would stand."""
    table = state.quotes
    mask = table.shape[0] - 1
    i = home_of(account * 65_537 + instrument, mask)
    while table[i]["account"] != 0 and (table[i]["account"] != account or table[i]["instrument"] != instrument):
        i = (i + 1) & mask
    return i


@inner
def quote_hold(state, account, instrument, side):
    """Hold row of the live order on one side of a quote, -1 = none; exact where everything before is settled."""
    row = state.quotes[quote_row(state, account, instrument)]
    return row["hold"][side] - 1 if row["account"] != 0 else -1


@inner
def keep_quote(state, hold):
    """An order of a quote lives from here on."""
    h = state.holds[hold]
    row = state.quotes[quote_row(state, h["account"], h["instrument"])]
    row["account"] = h["account"]
    row["instrument"] = h["instrument"]
    row["hold"][h["side"]] = hold + 1


@inner
def forget_quote(state, hold):
    """An order of a quote has ended; the pair's row goes with its last one (backward-shift deletion)."""
    h = state.holds[hold]
    table = state.quotes
    mask = table.shape[0] - 1
    i = quote_row(state, h["account"], h["instrument"])
    table[i]["hold"][h["side"]] = 0
    if table[i]["hold"][0] != 0 or table[i]["hold"][1] != 0:
        return
    j = i
    while True:
        j = (j + 1) & mask
        if table[j]["account"] == 0:
            break
        home = home_of(table[j]["account"] * 65_537 + table[j]["instrument"], mask)
        if ((j - home) & mask) >= ((j - i) & mask):
            table[i]["account"] = table[j]["account"]
            table[i]["instrument"] = table[j]["instrument"]
            table[i]["hold"][0] = table[j]["hold"][0]
            table[i]["hold"][1] = table[j]["hold"][1]
            i = j
    table[i]["account"] = 0
    table[i]["hold"][0] = 0
    table[i]["hold"][1] = 0
