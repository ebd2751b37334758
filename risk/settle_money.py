"""Money commands, decided where balances are exact without any wait."""

from __future__ import annotations

from protocol import enums as e
from protocol import reasons as r
from protocol.fixed_point import AMOUNT_LIMIT
from protocol.jit import inner
from risk import state as s
from risk.ledger import add_withdrawal, balance_row, find_withdrawal, post, remove_withdrawal
from risk.outcomes import emit_balance, emit_rejected
from risk.settle_locks import release_promise


@inner
def settle_money(state, rings, c, pending):
    """Money commands are decided here, where balances are exact without any wait."""
    release_promise(state, pending)
    state.accounts[c["account"]]["activity"] -= 1
    kind = c["type"]
    if kind == e.TRANSFER:
        settle_transfer(state, rings, c, pending)
        return
    if kind == e.DEPOSIT or kind == e.ADJUST:
        code = settle_external(state, c, c["asset"], c["qty_lots"])
    elif kind == e.WITHDRAW_HOLD:
        code = settle_withdraw_hold(state, c, pending)
    else:
        code = settle_withdrawal(state, rings, c)
        if code == 0:
            return
    if code != 0:
        emit_rejected(state, rings, c, code)
    else:
        emit_balance(state, rings, c, c["account"], c["asset"], c["qty_lots"], e.OUTCOME_LAST)


@inner
def settle_external(state, c, asset, units):
    """A deposit or adjustment moves units between the account and the asset's external account."""
    row = balance_row(state, c["account"], asset)
    total = state.assets[asset]["net_deposits_units"]
    if units > 0 and total >= AMOUNT_LIMIT - units:
        return r.RANGE
    if units < 0 and state.balances[row + s.FREE] < -units:
        return r.INSUFFICIENT_FUNDS
    state.assets[asset]["net_deposits_units"] = total + units
    post(state, row, units, 0, c["seq"])
    return 0


@inner
def settle_withdraw_hold(state, c, pending):
    """Free to locked, under the hold's own id."""
    units = c["qty_lots"]
    if state.balances[pending["balance"] + s.FREE] < units:
        return r.INSUFFICIENT_FUNDS
    if find_withdrawal(state, c["order_id"]) >= 0:
        return r.HOLD_EXISTS
    if state.meta[s.WITHDRAWALS_USED] >= state.withdrawals.shape[0] // 2:
        return r.HOLD_TABLE_FULL
    state.meta[s.WITHDRAWALS_USED] += 1
    add_withdrawal(state, c["order_id"], c["account"], c["asset"], units, c["seq"])
    post(state, pending["balance"], -units, units, c["seq"])
    return 0


@inner
def settle_withdrawal(state, rings, c):
    """Settle (out of the exchange) or release (back to free) an open withdrawal hold."""
    position = find_withdrawal(state, c["order_id"])
    if position < 0 or state.withdrawals[position]["account"] != c["account"]:
        return r.UNKNOWN_HOLD
    asset = state.withdrawals[position]["asset"]
    units = state.withdrawals[position]["amount_units"]
    row = balance_row(state, c["account"], asset)
    if c["type"] == e.WITHDRAW_SETTLE:
        state.assets[asset]["net_deposits_units"] -= units
        post(state, row, 0, -units, c["seq"])
        units = -units
    else:
        post(state, row, units, -units, c["seq"])
    remove_withdrawal(state, position)
    state.meta[s.WITHDRAWALS_USED] -= 1
    emit_balance(state, rings, c, c["account"], asset, units, e.OUTCOME_LAST)
    return 0


@inner
def settle_transfer(state, rings, c, pending):
    """Free of one account to free of another, together."""
    to = c["sub_account"]
    asset = c["asset"]
    units = c["qty_lots"]
    state.accounts[to]["activity"] -= 1
    if state.balances[pending["balance"] + s.FREE] < units:
        emit_rejected(state, rings, c, r.INSUFFICIENT_FUNDS)
        return
    post(state, pending["balance"], -units, 0, c["seq"])
    post(state, balance_row(state, to, asset), units, 0, c["seq"])
    emit_balance(state, rings, c, c["account"], asset, -units, 0)
    emit_balance(state, rings, c, to, asset, units, e.OUTCOME_LAST)
