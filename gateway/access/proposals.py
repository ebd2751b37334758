"""Four eyes: what one operator proposes, another approves; it is executed once, and not after it has expired.

::

    open ──approve──▶ executing ──▶ executed | failed
      └──deny──▶ denied          (an open one that is too old counts as expired)

Approving moves it to executing before anything is done, so that whatever stops in between, it is not done twice; one that stays there was
cut off, and the audit trail says what became of it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.access import codes
from gateway.access.changes import Change
from gateway.access.codes import Denied
from gateway.access.directory import Directory
from gateway.access.operators import FOUR_EYES
from gateway.access.records import Proposal
from gateway.access.rights import Principal, may

OPEN: Final = "open"
EXECUTING: Final = "executing"
EXECUTED: Final = "executed"
FAILED: Final = "failed"
DENIED: Final = "denied"
STATES: Final = (OPEN, EXECUTING, EXECUTED, FAILED, DENIED)
LIFETIME_NS: Final = 24 * 3600 * 1_000_000_000
OPEN_MAX: Final = 1000


def propose(directory: Directory, op: str, args: str, operator: str, reason: str, now_ns: int) -> Change:
    """Keep an act for a second operator."""
    assert op in FOUR_EYES
    if sum(is_open(row, now_ns) for row in directory.proposals.values()) >= OPEN_MAX:
        raise Denied(codes.TOO_MANY, f"at most {OPEN_MAX} proposals wait")
    number = directory.next_id(directory.proposals)
    row = Proposal(number, op, args, operator, reason, OPEN, created_ns=now_ns, expires_ns=now_ns + LIFETIME_NS)
    return Change((row,), f"{op} proposed", f"proposal {number}")


def decide(directory: Directory, number: int, operator: str, now_ns: int, *, approve: bool) -> Change:
    """Approve, after which it is executed, or deny. Whoever does must have the role, and the proposer still have his.

    ``operator`` is a registered one, or the home's owner, who has no roles and needs none.
    """
    row = directory.proposals.get(number)
    if row is None:
        raise Denied(codes.UNKNOWN_NAME, f"proposal {number}")
    decider = directory.user(operator)
    if decider is not None:
        verdict = may(directory, Principal(operator_id=decider.user_id), "approve" if approve else "deny", 0, now_ns)
        if not verdict.allowed:
            raise Denied(verdict.code, f"{operator} decides nothing")
    if row.operator == operator:
        raise Denied(codes.OWN_PROPOSAL)
    if not is_open(row, now_ns):
        raise Denied(codes.PROPOSAL_CLOSED, "expired" if row.state == OPEN else row.state)
    proposer = directory.user(row.operator)
    still = (
        codes.UNKNOWN_NAME
        if proposer is None
        else may(directory, Principal(operator_id=proposer.user_id), row.op, 0, now_ns).code
    )
    if approve and still != codes.APPROVAL_NEEDED:
        raise Denied(codes.ROLE_MISSING, f"{row.operator} may propose {row.op} no more")
    state = EXECUTING if approve else DENIED
    decided = msgspec.structs.replace(row, state=state, decided_by=operator, decided_ns=now_ns)
    return Change((decided,), f"{row.op} {'approved' if approve else 'denied'}", f"proposal {number}")


def finish(directory: Directory, number: int, result: str, *, ok: bool) -> Change:
    """Note how an approved act ended."""
    row = directory.proposals[number]
    assert row.state == EXECUTING, "executed once"
    done = msgspec.structs.replace(row, state=EXECUTED if ok else FAILED, result=result[:500])
    return Change((done,), f"{row.op} {done.state}", f"proposal {number}")


def is_open(row: Proposal, now_ns: int) -> bool:
    """Whether it may still be decided."""
    return row.state == OPEN and now_ns < row.expires_ns
