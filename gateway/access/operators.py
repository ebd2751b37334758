"""What each role of an operator may do, and what takes two people. Data, so that an auditor reads it as it is enforced.

Least privilege: an operation that no role names can be done by the owner of the home only. Whoever approves has a role for nothing
else, so that no single role, held by however many operators, moves a client's money.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Role(NamedTuple):
    """Operations of the control gateway, and what the role is for."""

    words: str
    ops: frozenset[str]


_READ: Final = frozenset(
    {
        *("balance", "account", "accounts", "assets", "instruments", "orders", "book", "status", "fees", "limits"),
        *("user_list", "user_show", "key_list", "key_show", "firm_list", "role_list", "proposals", "access_events"),
        "rate_limits",
    }
)
OWN: Final = frozenset({"sign_in", "own_password", "own_totp"})
"""What each operator may do about itself, whatever its roles."""

ROLES: Final[dict[str, Role]] = {
    "auditor": Role("looks at everything, changes nothing", _READ),
    "support": Role(
        "helps users: ends sessions and keys, resets what they lost, sets and lifts account states",
        _READ
        | {"session_revoke", "key_revoke", "restrict", "lift", "user_password", "user_factors", "key_create", "cancel"}
        | {"unban"},
    ),
    "accounts": Role(
        "registers users and firms, opens accounts",
        _READ
        | {
            "create_account",
            "name_account",
            "user_create",
            "firm_create",
            "firm_assign",
            "account_attach",
            "set_groups",
        },
    ),
    "treasury": Role(
        "books deposits, withdrawals and corrections",
        _READ | {"deposit", "withdraw_hold", "withdraw_settle", "withdraw_release", "adjust", "transfer"},
    ),
    "markets": Role(
        "lists instruments, sets their market states, bands, fees and timers",
        _READ
        | {
            "list_asset",
            "list_instrument",
            "set_fees",
            "set_schedule",
            "assign_fees",
            "set_volume_rate",
            "set_bands",
            "halt",
            "resume",
            "set_state",
            "set_prices",
            "set_timer",
            "tick",
            "cancel_all",
        },
    ),
    "risk": Role(
        "stops who must be stopped: freezes, cancels, restricts, limits, kills",
        _READ
        | {
            "freeze",
            "unfreeze",
            "close_account",
            "cancel",
            "cancel_all",
            "dead_man",
            "halt",
            "set_state",
            "restrict",
            "lift",
        }
        | {"set_limits", "kill", "revive", "unban"},
    ),
    "dealing": Role(
        "trades for a client who telephones",
        _READ | {"order", "amend", "cancel", "cancel_all", "dead_man", "quote", "protect"},
    ),
    "security": Role(
        "registers operators and gives them roles",
        _READ | {"operator_create", "operator_roles", "user_close", "session_revoke", "key_revoke"},
    ),
    "approver": Role("second pair of eyes: approves or denies what others propose", _READ | {"approve", "deny"}),
}

FOUR_EYES: Final[dict[str, str]] = {
    "deposit": "credits money",
    "withdraw_hold": "locks a client's money for a withdrawal",
    "withdraw_settle": "says that money has left",
    "withdraw_release": "gives held money back",
    "adjust": "changes a balance",
    "transfer": "moves money between accounts",
    "order": "spends a client's money",
    "amend": "spends a client's money",
    "quote": "spends a client's money",
    "protect": "changes what bounds a client's losses",
    "set_fees": "changes what clients pay",
    "set_schedule": "changes what clients pay",
    "assign_fees": "changes what a client pays",
    "set_volume_rate": "changes what clients pay",
    "set_groups": "changes whose volume counts for whom",
    "list_instrument": "sets what clients pay",
    "name_account": "changes whom a name means",
    "firm_assign": "changes what a user pays and where it stops",
    "account_attach": "makes somebody the owner of an account and what is in it",
    "key_create": "lets somebody act for a client",
    "user_password": "lets somebody sign in for a client",
    "user_factors": "takes a client's second factor away",
    "operator_create": "makes an operator",
    "operator_roles": "changes what an operator may do",
}
"""Operations that a second operator must approve, and why."""

_PRICES: Final = frozenset(
    {"set_fees", "set_schedule", "assign_fees", "set_volume_rate", "set_groups", "list_instrument", "firm_assign"}
)
TAKES_OVER: Final = FOUR_EYES.keys() - _PRICES
"""Those that move a client's money, or let whoever does them move it."""

assert all(FOUR_EYES.keys() & role.ops == set() or "approve" not in role.ops for role in ROLES.values())
