import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import records
from protocol.codec import as_words, decode, encode
from protocol.enums import FLAG_BATCH, FLAG_MORE
from protocol.fields import Field, Record, schema_hash
from protocol.records import COMMAND, COMMAND_VIEWS, EVENT, OUTCOME_VIEWS, VERDICT

ALL = (*COMMAND_VIEWS, *OUTCOME_VIEWS, VERDICT, EVENT)
BY_NAME = pytest.mark.parametrize("record", ALL, ids=lambda record: record.name)


def fields_of(record):
    fields = record.slot_dtype.fields
    assert fields is not None
    return fields


def values_of(field):
    dtype = np.dtype(field.dtype)
    if dtype.kind == "S":
        # numpy drops zeros at the end of a string, which are padding in every layout.
        return st.binary(max_size=dtype.itemsize).map(lambda text: text.rstrip(b"\0"))
    info = np.iinfo(dtype)
    return st.one_of(st.just(0), st.integers(int(info.min), int(info.max)))


@st.composite
def filled(draw, record):
    slot = np.zeros(1, dtype=record.slot_dtype)
    for field in record.fields:
        slot[field.name] = draw(values_of(field))
    return slot


@pytest.mark.parametrize(
    ("record", "size_bytes"),
    [
        *((record, 128) for record in COMMAND_VIEWS),
        *((record, 128) for record in OUTCOME_VIEWS),
        (VERDICT, 32),
        (EVENT, 64),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_size_of_a_slot(record, size_bytes):
    assert size_bytes == record.size == record.slot_dtype.itemsize == 8 * record.words


def test_matcher_reads_the_first_cache_line_only():
    needed = (
        *("seq", "ts_ns", "type", "side", "tif", "stp", "flags", "account", "instrument", "order_id"),
        *("price_ticks", "qty_lots", "trigger_price_ticks"),
    )
    for name in needed:
        dtype, offset = fields_of(COMMAND)[name][:2]
        assert offset + dtype.itemsize <= 64, name


def test_views_of_a_command_agree_on_what_all_readers_look_at():
    for record in COMMAND_VIEWS:
        fields = fields_of(record)
        assert [0, 8, 16, 20] == [fields[name][1] for name in ("seq", "ts_ns", "type", "flags")], record.name
        assert ["<i8", "<i8", "|u1", "<u4"] == [fields[name][0].str for name in ("seq", "ts_ns", "type", "flags")]


def test_views_of_an_outcome_agree_on_what_all_readers_look_at():
    for record in OUTCOME_VIEWS:
        fields = fields_of(record)
        names = ("seq", "ts_ns", "index", "kind", "flags", "account", "instrument")
        assert [0, 8, 16, 20, 21, 24, 28] == [fields[name][1] for name in names], record.name


@BY_NAME
def test_slot_begins_with_its_seq(record):
    dtype, offset = fields_of(record)["seq"][:2]
    assert ("<i8", 0) == (dtype.str, offset)


@BY_NAME
def test_fields_are_aligned_and_do_not_overlap(record):
    covered = np.zeros(record.size, dtype=int)
    for field in record.fields:
        width = np.dtype(field.dtype).itemsize
        assert field.dtype.startswith("S") or field.offset % width == 0
        covered[field.offset : field.offset + width] += 1
    assert covered.max() == 1


@BY_NAME
def test_producer_never_sends_what_the_engine_or_its_gateway_stamps(record):
    stamped = {"ts_ns", "source", "source_seq", "version", "session", "entry_ts_ns", "stp_group"}
    if record in COMMAND_VIEWS:
        assert not stamped & set(record.wire_dtype.names)
        assert "seq" not in record.wire_dtype.names
        assert record.name == "ext_ids" or "account" not in record.wire_dtype.names


@BY_NAME
@given(data=st.data())
def test_slot_to_wire_and_back_keeps_every_wire_field(record, data):
    slot = data.draw(filled(record))[0]
    wire = record.to_wire(slot)
    assert record.wire_dtype.itemsize == len(wire)
    back = record.from_wire(wire)
    for field in record.fields:
        expected = slot[field.name] if field.wire else np.zeros(1, field.dtype)[0]
        assert expected == back[field.name], field.name
    assert wire == record.to_wire(back)


@pytest.mark.parametrize("record", COMMAND_VIEWS, ids=lambda record: record.name)
@given(data=st.data())
def test_slot_to_journal_and_back_keeps_every_bit(record, data):
    slot = data.draw(filled(record))
    slot["seq"] = data.draw(st.integers(1, 1 << 60))
    slot["ts_ns"] = data.draw(st.integers(0, 1 << 62))
    slot["flags"] &= np.uint32(~(FLAG_MORE | FLAG_BATCH) & 0xFFFFFFFF)
    out = np.zeros(16, np.int64)
    back = np.zeros((1, 16), np.int64)
    assert 1 == decode(out, encode(as_words(slot), 1, out, 0), back, slot["seq"][0], 0)
    assert slot.tobytes() == back.tobytes()


@BY_NAME
def test_wire_message_of_another_length_is_refused(record):
    size_bytes = record.wire_dtype.itemsize
    for data in (b"", bytes(size_bytes + 1)):
        with pytest.raises(ValueError, match=f"{record.name}: a wire message has {size_bytes} bytes, got {len(data)}"):
            record.from_wire(data)


def test_field_list_that_overlaps_misaligns_or_does_not_fit_is_refused():
    with pytest.raises(AssertionError, match="overlaps"):
        Record("bad", 16, (Field("a", "<i8", 0, ""), Field("b", "<i4", 4, "")))
    with pytest.raises(AssertionError, match="not aligned"):
        Record("bad", 16, (Field("a", "<i8", 4, ""),))
    with pytest.raises(AssertionError, match="fields end at 20"):
        Record("bad", 16, (Field("a", "S20", 0, ""),))
    with pytest.raises(AssertionError, match="whole number of words"):
        Record("bad", 12, ())


def test_schema_hash_changes_with_any_field_and_not_with_its_text():
    one = Record("r", 16, (Field("a", "<i8", 0, "text"),))
    assert schema_hash(one) == schema_hash(Record("r", 16, (Field("a", "<i8", 0, "other text"),)))
    changed = (
        Record("q", 16, one.fields),
        Record("r", 24, one.fields),
        Record("r", 16, (Field("b", "<i8", 0, ""),)),
        Record("r", 16, (Field("a", "<u8", 0, ""),)),
        Record("r", 16, (Field("a", "<i8", 8, ""),)),
    )
    assert 6 == len({schema_hash(one), *map(schema_hash, changed)})
    assert all(0 < schema_hash(record) < 1 << 63 for record in ALL)


def test_new_slots_carry_the_version_and_are_zero_otherwise():
    slots = records.command_slots(3)
    assert [records.VERSION] * 3 == slots["version"].tolist()
    slots["version"] = 0
    assert not as_words(slots).any()
