"""What must hold: while things fail, of what was acknowledged and of money; at the end, of everything, by an independent model."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from persistence.journal import JournalReader
from protocol import board as b
from protocol import build
from protocol import enums as e
from protocol import reasons as r
from protocol.instance import Engine
from ringbuf.atomics import load_acquire
from risk import state as s
from tests.chaos.check import Rebuilt, numbers, oracle, replies
from tests.sim.audit import ROOMY
from tests.sim.model import SmallOracle

if TYPE_CHECKING:
    from tests.sim.producers import Producer
    from tests.sim.world import World

_SENT_WORDS = slice(2, None)
"""Of a slot's 16 words all but seq and time are as the producer sent them."""


class Wrong(Exception):
    """Something that must hold does not; the text says what."""


class Judge:
    """Keeps what was sent and what was told, outside of everything that can fail.

    Attributes
    ----------
    durable_seq : int
        Highest durable cursor that was ever shown: recovery may never find less.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.durable_seq = 0
        self._sent: dict[int, list[np.ndarray]] = {}
        self._told: dict[tuple[int, int, int], bytes] = {}
        self._lives: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._answered: list[tuple[int, int, int]] = []
        self._replies: list[dict[str, Any]] = []
        self._told_seq = 0
        self._journal = np.zeros((0, 16), dtype=np.int64)

    # ------------------------------------------------------------------------------------------------ while things fail

    def sent(self, source: int, number: int, group: np.ndarray) -> None:
        """A group was published in a producer's ring as its commands from ``number`` on."""
        rows = self._sent.setdefault(source, [])
        assert number == len(rows) + 1, f"source {source} goes on with number {number} after {len(rows)}"
        rows.extend(group.view(np.int64).reshape(-1, 16).copy())

    def ring_made(self, source: int, number: int) -> None:
        """A ring was made anew: of what was sent after command ``number`` nothing is left anywhere."""
        rows = self._sent.get(source, [])
        if len(rows) < number:
            raise Wrong(f"source {source}: recovery found number {number}, only {len(rows)} were sent")
        del rows[number:]

    def told(self, producer: "Producer", outcomes: np.ndarray) -> None:
        """Outcomes left a gateway."""
        life = self._lives.setdefault((producer.source, producer.life), [])
        for outcome in outcomes:
            number = (int(outcome["seq"]), int(outcome["index"]))
            if life and number <= life[-1]:
                raise Wrong(f"source {producer.source} is told {number} after {life[-1]}")
            life.append(number)
            key = (producer.source, *number)
            data = outcome.tobytes()
            if self._told.setdefault(key, data) != data:
                raise Wrong(f"source {producer.source} was told outcome {number} before, and otherwise")
        self._told_seq = max(self._told_seq, life[-1][0])

    def answered(self, producer: "Producer", seq: int) -> None:
        """The last outcome of one of its own commands was told to a gateway that had missed nothing since it sent it."""
        self._answered.append((producer.source, producer.life, seq))

    def replied(self, reply: dict[str, Any]) -> None:
        """The control gateway answered; a query only when the journal had what the answer was made of."""
        result = reply.get("result") or {}
        if "source_seq" in result:
            self.world.walk("control: answered a command")
            self._replies.append(reply | {"error": reply.get("error")})
            return
        self.world.walk("control: answered a query")
        if int(result.get("seq", 0)) > self.durable_seq:
            raise Wrong(f"a query was answered as of seq {result['seq']}, durable is {self.durable_seq}: {reply}")

    def stepped(self) -> None:
        """Cursors of the running engine keep their order and the window."""
        parts = self.world.parts
        if parts is None:
            return
        durable = int(load_acquire(self.world.board, b.DURABLE_SEQ))
        sequenced, reserved, settled = parts.sequenced_seq, parts.reserved_seq, parts.settled_seq
        if (
            not settled <= reserved <= sequenced
            or reserved - settled > parts.config.rings.window
            or durable > sequenced
        ):
            raise Wrong(
                f"cursors: durable {durable}, settled {settled}, reserved {reserved}, sequenced {sequenced}, "
                f"window {parts.config.rings.window}"
            )
        self.durable_seq = max(self.durable_seq, durable)

    def balanced(self) -> None:
        """Money of the running engine is conserved."""
        parts = self.world.parts
        broken = parts.unbalanced_asset() if parts is not None else 0
        if broken:
            raise Wrong(f"asset {abs(broken)} is not balanced after command {parts.settled_seq}")  # type: ignore[union-attr]

    def recovered(self, last_seq: int) -> None:
        """Recovery ends at ``last_seq``: everything acknowledged is there, and the history before is what it was."""
        if last_seq < max(self.durable_seq, self._told_seq):
            raise Wrong(
                f"recovery ends at seq {last_seq}; seq {self.durable_seq} was durable, {self._told_seq} was told of"
            )
        journal = self._read(last_seq)
        known = self._journal[: self.durable_seq]
        if not np.array_equal(known, journal[: len(known)]):
            row = int(np.argmax((known != journal[: len(known)]).any(axis=1)))
            raise Wrong(f"recovery found something else at seq {row + 1}, which was durable")
        # What recovery found is durable from here on.
        self.durable_seq = last_seq
        self._journal = journal

    def _read(self, last_seq: int) -> np.ndarray:
        reader = JournalReader(self.world.disk, to_seq=last_seq)
        parts = [slots.view(np.int64).reshape(-1, 16).copy() for slots in reader] if last_seq else []
        return np.concatenate([np.zeros((0, 16), dtype=np.int64), *parts])

    # ------------------------------------------------------------------------------------------------------- at the end

    def finish(self) -> dict[str, int]:
        """Everything, when all is settled and durable; the hashes of the state. Raises Wrong."""
        world = self.world
        parts = world.parts
        assert parts is not None
        words = self._read(parts.sequenced_seq)
        if len(words) != parts.sequenced_seq:
            raise Wrong(f"the journal ends at seq {len(words)}, {parts.sequenced_seq} is durable")
        if not np.array_equal(self._journal[: self.durable_seq], words[: len(self._journal)][: self.durable_seq]):
            raise Wrong("the journal changed what was durable")
        slots = words.view(parts.commands.slots.dtype).reshape(-1)
        rebuilt = Rebuilt(slots, Engine(limits=parts.config.limits, rings=ROOMY))
        wrong = (
            numbers(rebuilt) + self._content(rebuilt) + self._acknowledged(rebuilt) + replies(rebuilt, self._replies)
        )
        hashes, live = rebuilt.engine.hashes(), parts.hashes()
        wrong += [f"hash of {name}: live {live[name]}, replayed {h}" for name, h in hashes.items() if live[name] != h]
        naive = SmallOracle(rebuilt.limits)
        wrong += oracle(rebuilt, naive)
        wrong += world.audit.wrong(slots, Engine(limits=parts.config.limits, rings=ROOMY))
        if wrong:
            raise Wrong("\n".join(wrong))
        for code, count in naive.codes.items():
            world.walk(f"refused: {r.NAME.get(code, code)}" if code else "command accepted", count)
        self._note_outcomes(rebuilt.outcomes)
        if np.any((rebuilt.heads["source"] == e.SOURCE_RISK) & (rebuilt.heads["type"] == e.HALT)):
            world.walk("breaker: halted an instrument through the outbox")
        if parts.risk.meta[s.EXACT_WAITS]:
            world.walk("reserve: waits for exact state")
        return hashes

    def _note_outcomes(self, outcomes: np.ndarray) -> None:
        uncrossed = outcomes[(outcomes["kind"] == e.OUT_UNCROSSED) & (outcomes["qty_lots"] != 0)]
        own = outcomes["source"] == e.SOURCE_RISK
        told = {
            "auction: where it stands was published": outcomes["kind"] == e.OUT_AUCTION,
            "auction: orders met": uncrossed["kind"] != 0,
            "auction: ended by itself": uncrossed["source"] == e.SOURCE_RISK,
            "exits: entered": (outcomes["kind"] == e.OUT_NEW) & own,
            "exits: were refused": (outcomes["kind"] == e.OUT_REJECTED) & own,
            "orders: one ended the one that it was linked with": outcomes["reason"] == r.BY_LINK,
            "orders: a peg moved": outcomes["kind"] == e.OUT_PEGGED,
            "orders: set off by a price": outcomes["kind"] == e.OUT_TRIGGERED,
        }
        for situation, met in told.items():
            if met.any():
                self.world.walk(situation, int(met.sum()))

    def _content(self, rebuilt: Rebuilt) -> list[str]:
        """Each producer's numbers hold what it sent, all of it."""
        wrong = []
        heads = build.heads(rebuilt.slots)
        source_of = rebuilt.heads["source"][np.cumsum(heads) - 1]
        words = rebuilt.slots.view(np.int64).reshape(-1, 16)
        for source, rows in self._sent.items():
            found = words[source_of == source]
            if len(found) != len(rows):
                wrong.append(f"source {source}: {len(rows)} slots were sent, the journal has {len(found)}")
            sent = np.array(rows[: len(found)]).reshape(-1, 16)
            different = np.flatnonzero((found[: len(sent), _SENT_WORDS] != sent[:, _SENT_WORDS]).any(axis=1))
            if len(different):
                wrong.append(f"source {source}: number {different[0] + 1} is something else than was sent")
        return wrong

    def _acknowledged(self, rebuilt: Rebuilt) -> list[str]:
        """What was told is what the journal gives; nobody who missed nothing waits for anything."""
        due = {
            (int(seq), int(index)): k
            for k, (seq, index) in enumerate(zip(rebuilt.outcomes["seq"], rebuilt.outcomes["index"], strict=True))
        }
        wrong = []
        for (source, *number), data in self._told.items():
            row = due.get((number[0], number[1]))
            if row is None:
                wrong.append(f"source {source}: outcome {tuple(number)} was told, and is lost")
            elif rebuilt.outcomes[row].tobytes() != data:
                wrong.append(f"source {source}: outcome {tuple(number)} was told otherwise than it is now")
        counts = np.bincount(rebuilt.outcomes["seq"])
        told_of = {life: Counter(seq for seq, _ in numbers_told) for life, numbers_told in self._lives.items()}
        for source, life, seq in self._answered:
            if told_of[source, life][seq] != counts[seq]:
                wrong.append(
                    f"source {source}: only {told_of[source, life][seq]} of {counts[seq]} outcomes of seq {seq} were told"
                )
        for producer in self.world.producers:
            if producer.pending:
                wrong.append(f"source {producer.source}: no answer to commands {sorted(producer.pending)[:5]}")
            told = self._lives.get((producer.source, producer.life), [])
            if not (producer.whole and producer.thorough) or not told:
                continue
            mine = rebuilt.outcomes
            mine = mine[
                (mine["source"] == producer.source) | (mine["order_id"] >> e.ORDER_ID_SOURCE_SHIFT == producer.source)
            ]
            concerns = list(zip(mine["seq"].tolist(), mine["index"].tolist(), strict=True))
            if told != [number for number in concerns if number >= told[0]]:
                missing = sorted(set(concerns) - set(told) - {n for n in concerns if n < told[0]})
                wrong.append(
                    f"source {producer.source}: outcomes {missing[:5]} were never told, and none was said to be missed"
                )
        return wrong[:5]
