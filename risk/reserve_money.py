"""Verdicts of money commands, as far as they do not depend on balances."""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT
from protocol.jit import inner
from risk import state as s
from risk.fees import master_of
from risk.judging import WAIT, account_code, asset_code
from risk.ledger import balance_row, promise


@inner
def reserve_money(state, c, pending):
    """Verdict of money commands, as far as it does not depend on balances: those are looked at when the command is settled."""
    kind = c["type"]
    account = c["account"]
    qty = c["qty_lots"]
    code = account_code(state, account)
    if code != 0:
        return code
    if kind == e.DEPOSIT or kind == e.WITHDRAW_HOLD or kind == e.ADJUST:
        code = asset_code(state, c["asset"])
        if code != 0:
            return code
        if qty == 0 or (qty < 1 and kind != e.ADJUST):
            return r.BAD_QUANTITY
        if qty >= AMOUNT_LIMIT or qty <= -AMOUNT_LIMIT:
            return r.RANGE
        if kind == e.WITHDRAW_HOLD and state.accounts[account]["status_reserve"] == e.ACCOUNT_FROZEN:
            return r.ACCOUNT_FROZEN
        pending["balance"] = balance_row(state, account, c["asset"])
        outgoing = 0
        if kind == e.WITHDRAW_HOLD:
            outgoing = qty
        elif kind == e.ADJUST and qty < 0:
            outgoing = -qty
        if state.balances[pending["balance"] + s.INFLIGHT] >= AMOUNT_LIMIT - outgoing:
            # Promises are not bounded by what is there; their sum must stay an amount. Settled state has none.
            return WAIT
        pending["inflight_units"] = outgoing
        promise(state, pending["balance"], outgoing)
    state.accounts[account]["activity"] += 1
    return 0


@inner
def reserve_transfer(state, c, pending):
    """Verdict of TRANSFER, as far as it does not depend on balances. Masters change on exact state only, so they are known here."""
    account = c["account"]
    to = c["sub_account"]
    qty = c["qty_lots"]
    code = account_code(state, account)
    if code == 0:
        code = account_code(state, to)
    if code == 0:
        code = asset_code(state, c["asset"])
    if code != 0:
        return code
    if account == to:
        return r.BAD_FIELD
    if master_of(state, account) != master_of(state, to):
        return r.OTHER_MASTER
    if qty < 1:
        return r.BAD_QUANTITY
    if qty >= AMOUNT_LIMIT:
        return r.RANGE
    if state.accounts[account]["status_reserve"] == e.ACCOUNT_FROZEN:
        return r.ACCOUNT_FROZEN
    balance = balance_row(state, account, c["asset"])
    if state.balances[balance + s.INFLIGHT] >= AMOUNT_LIMIT - qty:
        return WAIT
    pending["balance"] = balance
    pending["inflight_units"] = qty
    promise(state, balance, qty)
    state.accounts[account]["activity"] += 1
    state.accounts[to]["activity"] += 1
    return 0
