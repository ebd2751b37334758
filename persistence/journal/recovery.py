"""What a journal holds after a crash: the scan, the new segment that begins an epoch, and the report of ``describe``.

A bad batch at the end is either what a crash left of an unfinished write, or damage to something that was
acknowledged. It is damage where anything states that the disk had held it: a newer segment, the segment's own header,
a sound batch further on, or the caller, who knows the durable cursor of the same boot. Damage is refused with its
position; a tail is cut, and said.

What the scan read may be in the page cache only, and a file on which a sync has failed cannot be trusted to sync
again. So each start copies the sound part of the newest segment into a new file and syncs that;
``start_new_segment_after_recovery`` says in which order.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from persistence.journal.errors import RESTORE_ADVICE, JournalCorrupt, JournalError
from persistence.journal.layout import (
    BATCH_BYTES_MAX,
    BLOCK_BYTES,
    JOURNAL_ID_BYTES,
    SEGMENT_BYTES,
    SEGMENT_NUMBER_MAX,
    BatchHeader,
    SegmentHeader,
    chain_start,
    pack_batch_header,
    pack_segment_header,
    prepared_name,
    segment_name,
    segment_number,
    unpack_batch_header,
)
from persistence.journal.segments import (
    SegmentCursor,
    decode_batch,
    end_of_data,
    later_durable_seq,
    lineage,
    payload_words,
    read_segment_header,
)
from persistence.journal.store import DirectoryStore, JournalStore, read_bytes
from persistence.journal.writer import WriterPosition, check_segment_bytes
from protocol.versions import Written, executable, this_program

_WINDOW_BYTES: Final = 4 * BATCH_BYTES_MAX


class Cut(NamedTuple):
    """An unfinished write at the end, which no one was told of and which is left behind."""

    segment: str
    offset: int
    size_bytes: int
    reason: str


class SegmentInfo(NamedTuple):
    """One segment file. ``last_seq`` is ``first_seq`` - 1 where it has no batch; ``problem`` is empty where ``ok``.

    ``first_ts_ns`` and ``last_ts_ns`` are the times of its first and last slot, 0 where they were not looked at.
    ``history`` is the header's.
    """

    name: str
    segment: int
    epoch: int
    first_seq: int
    last_seq: int
    batches: int
    used_bytes: int
    size_bytes: int
    created_ts_ns: int
    ok: bool
    problem: str
    written: Written
    first_ts_ns: int = 0
    last_ts_ns: int = 0
    history: str = ""


class ScanResult(NamedTuple):
    """What the journal holds: slots ``first_seq`` to ``last_seq``, the last of them at ``last_ts_ns``.

    ``first_seq`` is 1 and ``last_seq`` 0 for a journal not begun; ``first_seq`` is above 1 where old segments were
    removed. ``epoch`` is the highest so far. ``segments`` are those that count, oldest first; ``leftovers`` the file
    names that a crash left and that count for nothing.
    """

    journal_id: bytes
    epoch: int
    first_seq: int
    last_seq: int
    last_ts_ns: int
    segments: tuple[SegmentInfo, ...]
    cut: Cut | None
    leftovers: tuple[str, ...]


class _Walk(NamedTuple):
    info: SegmentInfo
    crc: int
    last_ts_ns: int


def as_store(journal: JournalStore | Path | str) -> JournalStore:
    """A store as it is, a path as a DirectoryStore."""
    return DirectoryStore(journal) if isinstance(journal, Path | str) else journal


def scan(
    journal: JournalStore | Path | str, known_durable_seq: int | None = None, verify_from_seq: int = 1
) -> ScanResult:
    """Read all segments, check everything, and find where the history ends.

    Parameters
    ----------
    journal : JournalStore or directory
    known_durable_seq : int, optional
        Durable cursor that is known from elsewhere (the board of the same boot, the replica): less than it is
        corruption.
    verify_from_seq : int
        Of segments that end before this seq only the headers are read, as suits a start from a snapshot.

    Raises
    ------
    JournalCorrupt
        Damage, with file, offset, the seq expected and what was found.
    JournalMismatch
        Another format, schema or journal.
    """
    store = as_store(journal)
    known = known_durable_seq or 0
    headers, leftovers = lineage(store)
    if not headers:
        if known > 0:
            raise JournalCorrupt(store.label("."), 0, 1, f"no segment, but seq {known} was durable", RESTORE_ADVICE)
        return ScanResult(b"", 0, 1, 0, 0, (), None, leftovers)
    walks: list[_Walk] = []
    cut = None
    for i, header in enumerate(headers):
        following = headers[i + 1] if i + 1 < len(headers) else None
        if following is not None and following.first_seq <= verify_from_seq:
            walks.append(_assume(header, following))
        else:
            walk, cut = _walk(store, header, following, known)
            walks.append(walk)
    last = walks[-1].info
    if last.last_seq < known:
        found = f"the end of the journal, but seq {known} was durable"
        raise JournalCorrupt(last.name, BLOCK_BYTES + last.used_bytes, last.last_seq + 1, found, RESTORE_ADVICE)
    return ScanResult(
        journal_id=headers[-1].journal_id,
        epoch=headers[-1].epoch,
        first_seq=headers[0].first_seq,
        last_seq=last.last_seq,
        last_ts_ns=walks[-1].last_ts_ns,
        segments=tuple(walk.info for walk in walks),
        cut=cut,
        leftovers=leftovers,
    )


def _assume(header: SegmentHeader, following: SegmentHeader) -> _Walk:
    info = _info(header, segment_name(header.segment), following.first_seq - 1, 0, 0, "not examined")
    return _Walk(info, following.previous_crc, following.prev_ts_ns)


def _info(
    header: SegmentHeader,
    name: str,
    last_seq: int,
    batches: int,
    used_bytes: int,
    problem: str = "",
    ts_ns: tuple[int, int] = (0, 0),
) -> SegmentInfo:
    return SegmentInfo(
        name=name,
        segment=header.segment,
        epoch=header.epoch,
        first_seq=header.first_seq,
        last_seq=last_seq,
        batches=batches,
        used_bytes=used_bytes,
        size_bytes=header.segment_bytes,
        created_ts_ns=header.created_ts_ns,
        ok=problem in {"", "not examined"},
        problem=problem,
        written=header.written,
        first_ts_ns=ts_ns[0],
        last_ts_ns=ts_ns[1],
        history=header.history,
    )


def _walk(
    store: JournalStore, header: SegmentHeader, following: SegmentHeader | None, known: int
) -> tuple[_Walk, Cut | None]:
    """Check one segment to its end; what follows the last sound batch is a clean end, a tail to cut, or corruption."""
    name = segment_name(header.segment)
    label = store.label(name)
    bytes_of = _Windows(store, name, header.segment_bytes)
    seed = chain_start(header.journal_id)
    cursor = SegmentCursor(header, seed)
    batches = 0
    first_ts_ns, last_ts_ns = 0, header.prev_ts_ns
    last_at = 0
    problem = ""
    while not cursor.at_end:
        batch = cursor.examine(bytes_of.batch_at(cursor.offset))
        if isinstance(batch, str):
            problem = batch
            break
        last_at = cursor.offset
        last_header = batch.header
        cursor.take(batch)
        if batches == 0:
            first_ts_ns = int(_decoded(label, bytes_of.batch_at(last_at), last_at, last_header)[0, 1])
        batches += 1
    if batches:
        last_ts_ns = int(_decoded(label, bytes_of.batch_at(last_at), last_at, last_header)[-1, 1])
    times = (first_ts_ns, last_ts_ns if batches else 0)
    info = _info(header, name, cursor.next_seq - 1, batches, cursor.offset - BLOCK_BYTES, ts_ns=times)
    cut = None
    if not bytes_of.zero_from(cursor.offset):
        data = read_bytes(store, name, 0, header.segment_bytes)
        end = end_of_data(data, cursor.offset)
        durable_seq = max(known, header.durable_seq, later_durable_seq(data, cursor.offset, header.segment, seed))
        if following is not None:
            durable_seq = max(durable_seq, following.durable_seq, cursor.next_seq)
        if durable_seq >= cursor.next_seq:
            found = f"{problem}, though seq {durable_seq} was durable"
            raise JournalCorrupt(label, cursor.offset, cursor.next_seq, found, RESTORE_ADVICE)
        cut = Cut(label, cursor.offset, end - cursor.offset, problem)
    _check_seam(label, cursor, last_ts_ns, following)
    return _Walk(info, cursor.crc, last_ts_ns), cut


class _Windows:
    """The bytes of a segment through one small buffer: to have a system make memory for a whole one takes longer than to check it."""

    def __init__(self, store: JournalStore, name: str, size_bytes: int) -> None:
        self._store = store
        self._name = name
        self._size_bytes = size_bytes
        self._buffer = np.empty(_WINDOW_BYTES, dtype=np.uint8).data
        self._start = 0
        self._end = 0

    def batch_at(self, offset: int) -> memoryview:
        """What lies at ``offset``: all of the batch that begins there, if one does."""
        view = self._at(offset, BLOCK_BYTES)
        parsed = unpack_batch_header(view)
        return view if isinstance(parsed, str) else self._at(offset, parsed[0].size_bytes)

    def zero_from(self, offset: int) -> bool:
        """Whether nothing but zeros follows."""
        while offset < self._size_bytes:
            view = self._at(offset, BLOCK_BYTES)
            if np.frombuffer(view, dtype=np.int64).any():
                return False
            offset += len(view)
        return True

    def _at(self, offset: int, wanted_bytes: int) -> memoryview:
        """``wanted_bytes`` or more from ``offset`` on; fewer where the segment ends, or no batch is so long."""
        if offset < self._start or self._end - offset < wanted_bytes:
            self._start = offset
            target = self._buffer[: min(_WINDOW_BYTES, self._size_bytes - offset)]
            self._end = offset + self._store.read_into(self._name, offset, target)
        return self._buffer[offset - self._start : self._end - self._start]


def _decoded(label: str, view: memoryview, offset: int, header: BatchHeader) -> np.ndarray:
    words = decode_batch(payload_words(view, 0, header), header)
    if isinstance(words, str):
        raise JournalCorrupt(label, offset, header.first_seq, words, RESTORE_ADVICE)
    return words


def _check_seam(label: str, cursor: SegmentCursor, last_ts_ns: int, following: SegmentHeader | None) -> None:
    """Raise where the segment after does not continue this one, or this one has less than its header promises."""
    if following is None:
        if cursor.next_seq <= cursor.header.durable_seq:
            found = f"the end of the journal, but seq {cursor.header.durable_seq} was durable"
            raise JournalCorrupt(label, cursor.offset, cursor.next_seq, found, RESTORE_ADVICE)
        return
    mine = (cursor.next_seq, cursor.crc, last_ts_ns)
    if mine != (following.first_seq, following.previous_crc, following.prev_ts_ns):
        found = f"the end of the segment, but {segment_name(following.segment)} goes on from seq {following.first_seq}"
        raise JournalCorrupt(label, cursor.offset, cursor.next_seq, found, RESTORE_ADVICE)


def start_new_segment_after_recovery(
    journal: JournalStore | Path | str,
    result: ScanResult,
    epoch: int,
    created_ts_ns: int,
    segment_bytes: int = SEGMENT_BYTES,
    journal_id: bytes | None = None,
) -> WriterPosition:
    """Begin an epoch: put the sound part of the newest segment, synced, into a new one, and say where to write on.

    Only after this is anything durable that the scan found beyond the old durable cursor. The order, for newest
    segment N:

    1. The directory is synced, so that the names that the scan went by last; then files that count for nothing are
       removed (``*.next``, segments that were replaced already).
    2. ``N+1.next`` is made: header (``replaces`` = N), the batches of N with new headers, zeros; file synced. It does
       not count yet.
    3. It is renamed to ``N+1.seg``, directory synced. From the rename on it counts and N does not, because
       ``previous_segment`` of N+1 is that of N; until then only N does.
    4. N is removed, directory synced.

    So at every moment, and for every subset of the unsynced names that a power loss leaves, exactly one history is
    valid, and it holds everything that was durable. A first start makes segment 1. Where another version of schema or
    rules wrote segment N, N+1 keeps the name of that version, and an empty N+2 follows with this program's: a segment
    holds commands of one version.

    Parameters
    ----------
    journal : JournalStore or directory
    result : ScanResult
        Of a scan just made; nothing may have written since.
    epoch : int
        Of the new start; above all earlier ones.
    created_ts_ns : int
        UTC, for the header.
    segment_bytes : int
        Size of the new segment; larger if what is copied needs more.
    journal_id : bytes, optional
        16 bytes that name a new journal; random by default.
    """
    check_segment_bytes(segment_bytes)
    store = as_store(journal)
    if epoch <= result.epoch:
        raise JournalError(
            f"epoch {epoch} does not come after {result.epoch}, the last one in the journal; "
            f"begin with {result.epoch + 1}"
        )
    store.lock()
    try:
        # The recovery before this one may have died between naming its segment and syncing the name.
        store.sync_directory()
        for name in result.leftovers:
            store.remove(name)
        store.sync_directory()
        if not result.segments:
            header = _first_header(epoch, created_ts_ns, segment_bytes, journal_id)
            return _install(store, header, b"", header.previous_crc, 0, 0)
        old = result.segments[-1]
        position = _replace(store, old, result, epoch, created_ts_ns, segment_bytes)
        store.remove(old.name)
        store.sync_directory()
        if executable(old.written):
            return position
        return _begin_behind(store, position, this_program(), position.branch, created_ts_ns, segment_bytes)
    finally:
        store.unlock()


def _first_header(epoch: int, created_ts_ns: int, segment_bytes: int, journal_id: bytes | None) -> SegmentHeader:
    identity = os.urandom(JOURNAL_ID_BYTES) if journal_id is None else journal_id
    assert len(identity) == JOURNAL_ID_BYTES, "a journal id has 16 bytes"
    written = this_program()
    return SegmentHeader(
        segment=1,
        schema=written.schema,
        journal_id=identity,
        first_seq=1,
        prev_ts_ns=0,
        durable_seq=0,
        created_ts_ns=created_ts_ns,
        segment_bytes=segment_bytes,
        epoch=epoch,
        previous_crc=chain_start(identity),
        previous_segment=0,
        replaces=0,
        rules=written.rules,
        release=written.release,
    )


def _replace(
    store: JournalStore, old: SegmentInfo, result: ScanResult, epoch: int, created_ts_ns: int, segment_bytes: int
) -> WriterPosition:
    before = read_segment_header(store, old.name)
    if isinstance(before, str):
        raise JournalCorrupt(store.label(old.name), 0, 0, before, "scan again")
    header = before._replace(
        segment=old.segment + 1,
        durable_seq=result.last_seq,
        created_ts_ns=created_ts_ns,
        segment_bytes=max(segment_bytes, BLOCK_BYTES + old.used_bytes),
        epoch=epoch,
        replaces=old.segment,
    )
    if header.segment > SEGMENT_NUMBER_MAX:
        raise JournalError(
            f"journal {store.label('.')}: segment numbers are used up at {old.segment}; "
            f"begin a new journal from a snapshot"
        )
    batches, crc = _rewritten(store, before, old, header)
    return _install(store, header, batches, crc, result.last_seq, result.last_ts_ns)


def begin_branch(journal: JournalStore | Path | str, created_ts_ns: int) -> SegmentHeader:
    """Have a journal that nobody writes go on in a branch of its own, an empty segment behind its end; that one's header.

    So a home that was made of another one's history is told apart from it in all that comes. Raises JournalError where the journal is
    damaged or ends in an unfinished write.
    """
    store = as_store(journal)
    newest = lineage(store).headers[-1]
    walk, cut = _walk(store, newest, None, 0)
    assert cut is None, "what is branched from ends with a whole batch"
    position = WriterPosition(
        journal_id=newest.journal_id,
        epoch=newest.epoch,
        segment=newest.segment,
        offset=newest.segment_bytes,
        segment_bytes=newest.segment_bytes,
        crc=walk.crc,
        last_seq=walk.info.last_seq,
        last_ts_ns=walk.last_ts_ns,
    )
    branch = int.from_bytes(os.urandom(8)) | 1
    _begin_behind(store, position, newest.written, branch, created_ts_ns, newest.segment_bytes)
    return lineage(store).headers[-1]


def _begin_behind(
    store: JournalStore,
    position: WriterPosition,
    written: Written,
    branch: int,
    created_ts_ns: int,
    segment_bytes: int,
) -> WriterPosition:
    """An empty segment behind the end of one of another version or branch."""
    header = SegmentHeader(
        segment=position.segment + 1,
        schema=written.schema,
        journal_id=position.journal_id,
        first_seq=position.last_seq + 1,
        prev_ts_ns=position.last_ts_ns,
        durable_seq=position.last_seq,
        created_ts_ns=created_ts_ns,
        segment_bytes=segment_bytes,
        epoch=position.epoch,
        previous_crc=position.crc,
        previous_segment=position.segment,
        replaces=0,
        rules=written.rules,
        release=written.release,
        branch=branch,
    )
    return _install(store, header, b"", position.crc, position.last_seq, position.last_ts_ns)


def _rewritten(
    store: JournalStore, before: SegmentHeader, old: SegmentInfo, header: SegmentHeader
) -> tuple[bytes, int]:
    """The batches of the old segment with headers that name the new one, and the CRC at their end."""
    data = read_bytes(store, old.name, 0, BLOCK_BYTES + old.used_bytes)
    blocks = np.frombuffer(data, dtype=np.uint8)
    seed = chain_start(header.journal_id)
    cursor = SegmentCursor(before, seed)
    crc = header.previous_crc
    while cursor.offset < len(data):
        start = cursor.offset
        batch = cursor.examine(data[start:])
        if isinstance(batch, str):
            raise JournalCorrupt(
                store.label(old.name),
                start,
                cursor.next_seq,
                f"{batch}, where the scan found a sound batch",
                RESTORE_ADVICE,
            )
        cursor.take(batch)
        changed = batch.header._replace(segment=header.segment, previous_crc=crc)
        crc = pack_batch_header(blocks[start : cursor.offset], changed, seed)
    if cursor.next_seq - 1 != old.last_seq:
        raise JournalCorrupt(
            store.label(old.name), cursor.offset, old.last_seq, "another end than the scan did", "scan again"
        )
    return bytes(data[BLOCK_BYTES:]), crc


def _install(
    store: JournalStore, header: SegmentHeader, batches: bytes, crc: int, last_seq: int, last_ts_ns: int
) -> WriterPosition:
    name = segment_name(header.segment)
    prepared = prepared_name(header.segment)
    store.create(prepared, header.segment_bytes, pack_segment_header(header) + batches)
    store.rename(prepared, name)
    store.sync_directory()
    return WriterPosition(
        journal_id=header.journal_id,
        epoch=header.epoch,
        segment=header.segment,
        offset=BLOCK_BYTES + len(batches),
        segment_bytes=header.segment_bytes,
        crc=crc,
        last_seq=last_seq,
        last_ts_ns=last_ts_ns,
        branch=header.branch,
    )


def describe(journal: JournalStore | Path | str, *, quick: bool = False) -> list[SegmentInfo]:
    """Every segment file with what is in it and what is wrong with it; damage is reported, not raised. Changes nothing.

    Files that do not count (replaced, or being prepared) are not listed; a damaged lineage is reported on the segment
    concerned, and the others are then examined each by itself. With ``quick`` only the newest segment is read, and the
    headers of the others.
    """
    store = as_store(journal)
    names = [name for name in store.names() if segment_number(name)]
    headers: tuple[SegmentHeader, ...]
    try:
        headers = lineage(store).headers
    except JournalError as error:
        return [_describe_alone(store, name, str(error)) for name in names]
    infos = []
    for i, header in enumerate(headers):
        following = headers[i + 1] if i + 1 < len(headers) else None
        if quick and following is not None:
            infos.append(_assume(header, following).info._replace(problem="", last_ts_ns=following.prev_ts_ns))
            continue
        try:
            walk, cut = _walk(store, header, following, 0)
        except JournalError as error:
            infos.append(_describe_alone(store, segment_name(header.segment), str(error)))
            continue
        problem = f"an unfinished write of {cut.size_bytes} bytes at offset {cut.offset}: {cut.reason}" if cut else ""
        infos.append(walk.info._replace(problem=problem))
    return infos


def _describe_alone(store: JournalStore, name: str, problem: str) -> SegmentInfo:
    """What can be said of a segment in a damaged journal; ``problem`` is kept where it names this file."""
    try:
        header = read_segment_header(store, name)
    except JournalError as error:
        header = str(error)
    if isinstance(header, str):
        unknown = Written(0, 0, "")
        return SegmentInfo(name, segment_number(name), 0, 0, 0, 0, 0, store.size_bytes(name), 0, False, header, unknown)
    cursor = SegmentCursor(header, chain_start(header.journal_id))
    data = read_bytes(store, name, 0, header.segment_bytes)
    batches = 0
    while not cursor.at_end:
        batch = cursor.examine(data[cursor.offset :])
        if isinstance(batch, str):
            break
        cursor.take(batch)
        batches += 1
    own = problem if store.label(name) in problem else ""
    return _info(header, name, cursor.next_seq - 1, batches, cursor.offset - BLOCK_BYTES, own)
