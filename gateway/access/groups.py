"""What the engine's groups of an account must be as the directory has it: main account, firm, self-trade group. Pure.

Master and firm follow from whose an account is, always. The self-trade group does where no operator has chosen one: accounts of one user
do not trade with each other, because a trade of someone with themselves changes no owner, and is what wash trading is made of. What an
operator chose stands in the engine and nowhere else, and is told apart by its number, so that it survives whatever happens to the database.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.access.directory import Directory

STP_OPERATOR_MAX: Final = 999_999_999
"""Self-trade groups that operators number are 1 to this."""
STP_USER: Final = 1_000_000_000
"""Plus the main account: the group of all accounts of a user."""
STP_ALONE: Final = 2_000_000_000
"""Plus the account: an operator wants it alone, for 0 is what nobody has chosen."""
ACCOUNTS_MAX: Final = (1 << 31) - 1 - STP_ALONE


class Groups(NamedTuple):
    """What the engine has of an account; 0 = its own master, no firm, alone."""

    master: int
    firm: int
    stp_group: int


def stp_is_chosen(stp_group: int) -> bool:
    """Whether an operator has chosen this self-trade group."""
    return 0 < stp_group <= STP_OPERATOR_MAX or stp_group >= STP_ALONE


def stp_words(stp_group: int) -> str:
    """A self-trade group in words."""
    if stp_group >= STP_ALONE:
        return "alone, by an operator"
    if stp_group >= STP_USER:
        return f"accounts of main account {stp_group - STP_USER}"
    return f"{stp_group}, by an operator" if stp_group else "alone"


def wanted(directory: Directory, account: int, now: Groups) -> Groups:
    """Groups of an account of the directory, of which the engine has ``now``."""
    row = directory.accounts[account]
    stp_group = now.stp_group if stp_is_chosen(now.stp_group) else STP_USER + row.main
    return Groups(0 if row.main == account else row.main, directory.users[row.user_id].firm_id, stp_group)
