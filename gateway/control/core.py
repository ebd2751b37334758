"""The control gateway without its socket: requests become numbered command groups, outcomes become replies.

A command gets a number only when the lane admits it and the engine runs; until then a refusal is safe to repeat. After that
it is a promise: its reply waits for its last outcome to be durable, across restarts of the engine, and a peer that
has left changes nothing. A query waits until the journal has every row that its answer was made of.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from gateway import admission
from gateway.admission import Kind, Refusal
from gateway.control import messages as m
from gateway.control import queries
from gateway.control.catalog import Catalog
from gateway.control.drafts import Draft, Drafter
from gateway.control.messages import OUTCOME_UNKNOWN, Refused, Reply, Request, reason_error, refusal
from gateway.control.names import NameBook
from gateway.control.replies import Progress
from gateway.control.view import EngineView
from gateway.lane import ProducerLane
from protocol import board as lines
from protocol import build, reasons
from protocol import enums as e
from protocol.instance import Limits, Overload
from ringbuf import Ring, load_acquire, publish

PENDING_MAX: Final = 1 << 14
"""Commands and queries without an answer yet; the reserved share of them is for urgent commands too."""
_ORDER_OPS: Final = frozenset({"order", "amend", "quote"})
_DEFAULT: Final = Overload()
_CANCEL_TYPES: Final = frozenset({e.CANCEL, e.CANCEL_ALL, e.KILL})


class Answer(msgspec.Struct, frozen=True):
    """A reply and the peer that it is for."""

    peer: int
    reply: Reply


class _Pending(msgspec.Struct):
    peer: int
    request: Request
    draft: Draft
    progress: Progress
    received_ns: int
    settled_seq: int


class _Query(msgspec.Struct):
    peer: int
    request: Request
    reply: Reply
    seq: int


class ControlCore:
    """Numbers commands, keeps what waits, and answers.

    Parameters
    ----------
    ring : Ring
        The ingress ring of ``source``; this process is its writer.
    board : np.ndarray
        int64 board of the instance.
    limits : Limits
        Sizes of the engine's tables.
    names : NameBook
        Account names.
    source : int
        Producer slot.
    view : EngineView, optional
        The engine's tables; without them (no engine yet) commands and queries are refused.
    overload : Overload
        When new orders are refused.
    """

    def __init__(
        self,
        ring: Ring,
        board: np.ndarray,
        limits: Limits,
        names: NameBook,
        *,
        source: int = e.SOURCE_CONTROL,
        view: EngineView | None = None,
        overload: Overload = _DEFAULT,
    ) -> None:
        self.ring = ring
        self.board = board
        self.source = source
        self.catalog = Catalog(view, limits, names)
        self.unknown = 0
        self._drafter = Drafter(self.catalog)
        self._pending: dict[int, _Pending] = {}
        self._queries: list[_Query] = []
        self._lane = ProducerLane(ring, board, source, overload)
        self._unseen_number = self._lane.next_number - 1
        """Up to here nobody here knows what became of commands: an earlier life of the gateway sent them, or they were given up."""
        self._unseen_seq = -1

    @property
    def waiting(self) -> int:
        """Requests that have no answer yet."""
        return len(self._pending) + len(self._queries)

    @property
    def commands_waiting(self) -> int:
        """Commands that wait for their last outcome."""
        return len(self._pending)

    @property
    def queries_waiting(self) -> int:
        """Queries that wait for the journal."""
        return len(self._queries)

    @property
    def needed_seq(self) -> int:
        """Outcomes of commands after this one are waited for."""
        return min((pending.settled_seq for pending in self._pending.values()), default=(1 << 63) - 1)

    def groups_are_final(self, account: int) -> bool:
        """Whether no SET_GROUPS of the account is under way, so that what the engine's tables say of its groups will last."""
        if self._unseen_seq < 0:
            if load_acquire(self.board, lines.LANE_SEQUENCED + self.source) < self._unseen_number:
                return False
            self._unseen_seq = int(load_acquire(self.board, lines.SEQUENCED_SEQ))
        if load_acquire(self.board, lines.SETTLED_SEQ) < self._unseen_seq:
            return False
        drafts = (pending.draft for pending in self._pending.values())
        return not any(draft.type == e.SET_GROUPS and int(draft.group[0]["account"]) == account for draft in drafts)

    def submit(self, peer: int, request: Request, now_ns: int, utc_ns: int) -> Reply | None:
        """Take a request received at ``now_ns`` (monotonic) and ``utc_ns``; None = the reply comes later."""
        try:
            if request.op == "status":
                return Reply(request.id, ok=True, result=self._status(now_ns))
            self._check_service()
            if request.op == "name_account":
                return self._name_account(request)
            if request.op in m.QUERY_OPS:
                _refuse(self._full(Kind.OTHER))
                self._queries.append(self._asked(peer, request))
                return None
            if request.op in _ORDER_OPS:
                # Before the work of a draft: a gateway that is slow to refuse is what its cancels would wait for.
                _refuse(self._lane.late(Kind.ORDER, now_ns))
            self._number(peer, request, self._drafter.draft(request), now_ns, utc_ns)
        except Refused as refused:
            return refusal(request.id, refused)
        return None

    def take(self, outcomes: np.ndarray, now_ns: int) -> list[Answer]:
        """Take released outcomes, in order; gives the replies of the commands that they complete."""
        answers = []
        for outcome in outcomes:
            if int(outcome["source"]) != self.source:
                continue
            pending = self._pending.get(int(outcome["source_seq"]))
            if pending is None:
                continue
            # A row of the array would show what the next poll writes there.
            pending.progress.add(outcome.copy())
            if pending.progress.done:
                answers.append(self._answered(pending, now_ns))
        return answers

    def take_durable(self, durable_seq: int) -> list[Answer]:
        """Give the replies of the queries whose rows are durable now."""
        ready = [query for query in self._queries if query.seq <= durable_seq]
        if ready:
            self._queries = [query for query in self._queries if query.seq > durable_seq]
        return [Answer(query.peer, query.reply) for query in ready]

    def give_up(self, now_ns: int) -> list[Answer]:
        """Answer every command that waits as unknown: its outcomes were missed, or the gateway ends."""
        answers = []
        for pending in list(self._pending.values()):
            progress = pending.progress
            result = {"state": "unknown", "order_id": progress.order_id, "source_seq": self._release(pending)}
            result["latency_ns"] = now_ns - pending.received_ns
            reply = Reply(pending.request.id, ok=False, error=reason_error(OUTCOME_UNKNOWN), result=result)
            answers.append(Answer(pending.peer, reply))
            self.unknown += 1
        self._see_anew()
        return answers

    def give_up_queries(self) -> list[Answer]:
        """Answer every query that waits with ENGINE_DOWN."""
        queries_waiting, self._queries = self._queries, []
        down = Refused(reasons.ENGINE_DOWN)
        return [Answer(query.peer, refusal(query.request.id, down)) for query in queries_waiting]

    def change_epoch(self, view: EngineView) -> list[Answer]:
        """Read another epoch's tables; queries that wait are asked again, for their rows may be lost."""
        self.catalog.attach(view)
        self._see_anew()
        waiting, self._queries = self._queries, []
        answers = []
        for query in waiting:
            try:
                self._queries.append(self._asked(query.peer, query.request))
            except Refused as refused:
                answers.append(Answer(query.peer, refusal(query.request.id, refused)))
        return answers

    def forget(self, peer: int) -> None:
        """Drop what would be said to a peer that has left; its numbered commands go on."""
        self._queries = [query for query in self._queries if query.peer != peer]

    def _see_anew(self) -> None:
        self._unseen_number, self._unseen_seq = self._lane.next_number - 1, -1

    def _status(self, now_ns: int) -> dict[str, Any]:
        before = self._lane.before(now_ns)
        queued = {"queue_slots": before.slots, "queue_ms": -(-before.wait_ns // 1_000_000)}
        return queries.status(self.board) | queued | {"pending": self.waiting}

    def _full(self, kind: Kind) -> Refusal | None:
        """Why no further request may wait for its answer, or None."""
        free, rule = PENDING_MAX - self.waiting, self._lane.rule
        return admission.full(kind, 1, free, PENDING_MAX, rule, "requests that may wait for answers")

    def _check_service(self) -> None:
        if load_acquire(self.board, lines.ENGINE_STATE) != lines.ENGINE_RUNNING:
            raise Refused(reasons.ENGINE_DOWN)
        if load_acquire(self.board, lines.DIVERGED) == lines.DIVERGED_STOP:
            raise Refused(reasons.DIVERGED)
        # Also down until the tables and the outcome ring of an epoch are attached: nobody would see the answer.
        _ = self.catalog.view

    def _number(self, peer: int, request: Request, draft: Draft, now_ns: int, utc_ns: int) -> None:
        count = len(draft.group)
        if draft.type not in _CANCEL_TYPES and load_acquire(self.board, lines.JOURNAL_SPACE) != 0:
            raise Refused(reasons.JOURNAL_SPACE)
        kind = admission.kind_of(draft.type, int(draft.group[0]["flags"]))
        _refuse(self._lane.count(kind, self._full(kind)) or self._lane.full(kind, count))
        first = self._lane.next_number
        draft.group["entry_ts_ns"][0] = utc_ns
        build.stamp(draft.group, self.source, first)
        for position, slot in enumerate(draft.group, first):
            self.ring.slots[(position - 1) & (len(self.ring.slots) - 1)] = slot
        settled = int(load_acquire(self.board, lines.SETTLED_SEQ))
        publish(self.ring, first + count - 1)
        progress = Progress(draft, int(draft.group[0]["order_id"]))
        self._pending[first] = _Pending(peer, request, draft, progress, now_ns, settled)
        self._drafter.sent(draft)

    def _answered(self, pending: _Pending, now_ns: int) -> Answer:
        progress, draft = pending.progress, pending.draft
        source_seq = self._release(pending)
        error = progress.error(self.catalog)
        result = progress.result(self.catalog)
        if progress.first is not None:
            first = progress.first
            self._drafter.is_duplicate(draft, int(first["first_order_id"]), int(first["first_instrument"]))
        if error is None and draft.name:
            try:
                self.catalog.names.assign(draft.name, draft.account)
            except OSError as failure:
                result |= {"name": None, "warning": f"the name is lost, its file cannot be written: {failure}"}
        result["source_seq"] = source_seq
        result["latency_ns"] = now_ns - pending.received_ns
        return Answer(pending.peer, Reply(pending.request.id, ok=error is None, result=result, error=error))

    def _release(self, pending: _Pending) -> int:
        source_seq = int(pending.draft.group[0]["source_seq"])
        del self._pending[source_seq]
        self._drafter.answered(pending.draft)
        return source_seq

    def _asked(self, peer: int, request: Request) -> _Query:
        result, seq = queries.ANSWERS[request.op](self.catalog, request.args)
        return _Query(peer, request, Reply(request.id, ok=True, result=result), seq)

    def _name_account(self, request: Request) -> Reply:
        args = request.args
        assert isinstance(args, m.NameAccount)
        account = self.catalog.account(args.account)
        row = self.catalog.view.account(account)
        if row.status == e.ACCOUNT_NONE:
            raise Refused(reasons.UNKNOWN_ACCOUNT, str(account), "args.account")
        if self.catalog.names.number(args.name) != account:
            self._drafter.check_free_name(args.name)
        self.catalog.names.assign(args.name, account)
        return Reply(request.id, ok=True, result={"account": account, "name": args.name})


def _refuse(refused: Refusal | None) -> None:
    if refused is not None:
        raise Refused(refused.code, refused.detail, retry_ms=refused.retry_ms)
