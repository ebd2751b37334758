import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from protocol import codec
from protocol.codec import as_words, decode, encode, encode_span
from protocol.enums import FLAG_BATCH, FLAG_MORE
from protocol.records import COMMAND_DTYPE, COMMAND_VIEWS, command_slots

OUT_WORDS = 4096
TS_MAX = (1 << 63) - 1
WORD = st.one_of(st.just(0), st.integers(-(1 << 63), (1 << 63) - 1))


def ordered(words, first_seq, prev_ts_ns, gaps_ns, more):
    """Number the slots, give them rising times, and make groups of them."""
    ts_ns = prev_ts_ns
    for i in range(len(words)):
        ts_ns += gaps_ns[i]
        words[i, 0] = first_seq + i
        words[i, 1] = ts_ns
        flags = (int(words[i, 2]) >> 32) & ~(FLAG_MORE | FLAG_BATCH)
        flags |= FLAG_MORE if more[i] and i + 1 < len(words) else 0
        low = int(words[i, 2]) & 0xFFFFFFFF
        words.view(np.uint64)[i, 2] = (flags & 0xFFFFFFFF) << 32 | low
    return words


@st.composite
def spans(draw):
    count = draw(st.integers(1, 12))
    words = np.array(draw(st.lists(st.lists(WORD, min_size=16, max_size=16), min_size=count, max_size=count)), np.int64)
    own_ids = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    for i in range(count):
        if own_ids[i]:
            words[i, 4] = (words[i, 8] & 0xFFFF) << 40 | words[i, 9]
    gap = st.one_of(st.integers(0, 10_000), st.integers((1 << 48) - 2, (1 << 48) + 2), st.integers(0, 1 << 58))
    gaps = draw(st.lists(gap, min_size=count, max_size=count))
    more = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    first_seq = draw(st.integers(1, 1 << 50))
    prev_ts_ns = draw(st.integers(0, 1 << 58))
    return ordered(words, first_seq, prev_ts_ns, gaps, more), prev_ts_ns


def test_plain_limit_order_takes_64_bytes():
    slots = command_slots(1)
    for name in (
        "seq",
        "ts_ns",
        "type",
        "account",
        "instrument",
        "price_ticks",
        "qty_lots",
        "source",
        "source_seq",
        "entry_ts_ns",
    ):
        slots[name] = 3
    slots["order_id"] = 3 << 40 | 3
    out = np.zeros(OUT_WORDS, np.int64)
    assert 64 == encode(as_words(slots), 1, out, 0)


@given(spans())
def test_every_slot_comes_back_bit_for_bit(span):
    words, prev_ts_ns = span
    out = np.full(OUT_WORDS, -1, np.int64)
    size_bytes = encode(words, len(words), out, prev_ts_ns)
    assert 0 < size_bytes <= len(words) * codec.RECORD_BYTES_MAX
    back = np.full((len(words) + 3, 16), 77, np.int64)
    assert len(words) == decode(out, size_bytes, back, words[0, 0], prev_ts_ns)
    assert np.array_equal(words, back[: len(words)])
    assert (back[len(words) :] == 77).all()


@pytest.mark.parametrize("record", COMMAND_VIEWS, ids=lambda record: record.name)
def test_each_record_comes_back_with_every_field_at_its_extremes(record):
    rng = np.random.default_rng(5)
    for fill in (0, 255, None):
        raw = rng.integers(0, 256, (50, 128), dtype=np.uint8) if fill is None else np.full((50, 128), fill, np.uint8)
        words = ordered(raw.view(np.int64), 9, 1000, [3] * 50, [False] * 50)
        out = np.zeros(OUT_WORDS, np.int64)
        back = np.zeros((50, 16), np.int64)
        assert 50 == decode(out, encode(words, 50, out, 1000), back, 9, 1000)
        expected = words.view(record.slot_dtype).reshape(50)
        actual = back.view(record.slot_dtype).reshape(50)
        for field in record.fields:
            assert expected[field.name].tobytes() == actual[field.name].tobytes(), field.name


@given(spans(), st.data())
def test_every_cut_of_the_bytes_gives_whole_slots_or_an_error(span, data):
    words, prev_ts_ns = span
    out = np.zeros(OUT_WORDS, np.int64)
    size_bytes = encode(words, len(words), out, prev_ts_ns)
    cut = 8 * data.draw(st.integers(0, size_bytes // 8))
    back = np.zeros((len(words), 16), np.int64)
    result = decode(out, cut, back, words[0, 0], prev_ts_ns)
    if result >= 0:
        assert np.array_equal(words[:result], back[:result])
        assert cut == (encode(words, result, out, prev_ts_ns) if result else 0)
    else:
        assert result in {codec.ERROR_TRUNCATED, codec.ERROR_GROUP}


@given(
    npst.arrays(np.int64, st.integers(0, 40), elements=st.one_of(WORD, st.integers(0, 1 << 17))),
    st.integers(0, 6),
    st.one_of(st.integers(1, 100), st.integers(TS_MAX - 10, TS_MAX)),
    st.one_of(st.integers(0, 100), st.integers(TS_MAX - (1 << 48), TS_MAX)),
)
def test_garbage_gives_an_error_or_slots_that_encode_to_the_same_bytes(garbage, rows, first_seq, prev_ts_ns):
    guarded = np.full((rows + 2, 16), 77, np.int64)
    result = decode(garbage, 8 * len(garbage), guarded[:rows], first_seq, prev_ts_ns)
    assert (guarded[rows:] == 77).all()
    if result > 0:
        out = np.zeros(len(garbage), np.int64)
        assert 8 * len(garbage) == encode(guarded[:rows], result, out, prev_ts_ns)
        assert np.array_equal(garbage, out)
    else:
        assert result in codec.ERROR_TEXT or (result == 0 and len(garbage) == 0)


@given(spans(), st.integers(0, 200))
def test_output_too_small_takes_whole_groups_only_and_writes_nothing_behind(span, out_words):
    words, prev_ts_ns = span
    out = np.full(out_words + 20, -7, np.int64)
    slots, size_bytes, last_ts_ns = encode_span(words, 0, -1, len(words), words[0, 0], out[:out_words], prev_ts_ns)
    assert (out[out_words:] == -7).all()
    assert size_bytes <= 8 * out_words
    whole = np.zeros(OUT_WORDS, np.int64)
    complete = encode(words, len(words), whole, prev_ts_ns)
    assert (slots == len(words)) == (complete <= 8 * out_words)
    assert (encode(words, len(words), out[:out_words], prev_ts_ns) == codec.ERROR_TRUNCATED) == (slots < len(words))
    if slots:
        assert (words[slots - 1, 2] >> 32) & (FLAG_MORE | FLAG_BATCH) == 0
        assert last_ts_ns == words[slots - 1, 1]
        assert np.array_equal(whole[: size_bytes // 8], out[: size_bytes // 8])
    else:
        assert (0, prev_ts_ns) == (size_bytes, last_ts_ns)


def test_ring_is_encoded_across_its_end():
    words = ordered(np.arange(8 * 16, dtype=np.int64).reshape(8, 16).copy(), 5, 10, [1] * 8, [False] * 8)
    ring = np.roll(words, 5, axis=0)
    straight, wrapped = np.zeros(200, np.int64), np.zeros(200, np.int64)
    expected = encode_span(words, 0, -1, 8, 5, straight, 10)
    assert tuple(expected) == tuple(encode_span(ring, 5, 7, 8, 5, wrapped, 10))
    assert np.array_equal(straight, wrapped)


def three_slots():
    return ordered(np.ones((3, 16), np.int64), 1, 100, [5, 5, 5], [False] * 3)


def test_gap_in_seq_is_refused():
    words = three_slots()
    words[2, 0] = 4
    out = np.zeros(100, np.int64)
    assert (codec.ERROR_SEQ, 0, 2) == encode_span(words, 0, -1, 3, 1, out, 100)
    assert codec.ERROR_SEQ == encode(words, 3, out, 100)


def test_time_that_falls_is_refused():
    words = three_slots()
    out = np.zeros(100, np.int64)
    assert (codec.ERROR_TS, 0, 0) == encode_span(words, 0, -1, 3, 1, out, 106)
    words[1, 1] = 104
    assert (codec.ERROR_TS, 0, 1) == encode_span(words, 0, -1, 3, 1, out, 100)
    words[1, 1] = -1
    assert codec.ERROR_TS == encode(words, 3, out, 0)


@pytest.mark.parametrize("gap_ns", [0, 1, (1 << 48) - 1, 1 << 48, (1 << 48) + 1, TS_MAX])
def test_any_gap_of_time_comes_back(gap_ns):
    words = ordered(np.ones((1, 16), np.int64), 1, 0, [gap_ns], [False])
    out = np.zeros(100, np.int64)
    size_bytes = encode(words, 1, out, 0)
    back = np.zeros((1, 16), np.int64)
    assert 1 == decode(out, size_bytes, back, 1, 0)
    assert gap_ns == back[0, 1]
    assert size_bytes == 8 * (15 + (gap_ns >= 1 << 48))


@pytest.mark.parametrize("slots", [127, 128, 129, 200])
def test_group_has_at_most_128_slots(slots):
    words = ordered(np.ones((slots, 16), np.int64), 1, 0, [0] * slots, [True] * slots)
    out = np.zeros(OUT_WORDS, np.int64)
    size_bytes = encode(words, slots, out, 0)
    if slots > 128:
        assert codec.ERROR_GROUP == size_bytes
    else:
        assert slots == decode(out, size_bytes, np.zeros((slots, 16), np.int64), 1, 0)


def test_decoder_refuses_a_group_of_129_slots():
    records = np.array([header(4), FLAG_MORE << 32] * 128 + [header(0)], dtype=np.int64)
    slots = np.zeros((200, 16), np.int64)
    assert 128 == decode(records[2:], 8 * (len(records) - 2), slots, 1, 0)
    assert codec.ERROR_GROUP == decode(records, 8 * len(records), slots, 1, 0)


def test_arguments_outside_their_arrays_are_refused():
    words = three_slots()
    out = np.zeros(100, np.int64)
    assert codec.ERROR_ARGUMENT == encode(words, 4, out, 0)
    assert codec.ERROR_ARGUMENT == encode(words, 0, out, 0)
    for first, mask, count in ((0, -1, 4), (1, -1, 3), (-1, -1, 1), (0, 3, 1), (0, 1, 3), (0, -1, -1)):
        assert codec.ERROR_ARGUMENT == encode_span(words, first, mask, count, 1, out, 0)[0]
    for size_bytes in (-8, 7, 808):
        assert codec.ERROR_ARGUMENT == decode(out, size_bytes, words, 1, 0)
    assert codec.ERROR_ARGUMENT == decode(out, 8, words, 0, 0)
    assert codec.ERROR_ARGUMENT == decode(out, 8, words, 1, -1)
    assert codec.ERROR_ARGUMENT == decode(out, 8, words, TS_MAX, 0)
    assert codec.ERROR_ARGUMENT == decode(out, 8, np.zeros((3, 8), np.int64), 1, 0)


def header(mask, delta_ns=0):
    return delta_ns << 16 | mask


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([header(4), 0], codec.ERROR_FORM),  # a word that is named and zero
        ([header(1)], codec.ERROR_FORM),  # an order id that follows from nothing
        ([header(1 | 1 << 4 | 1 << 9), 9, 9], codec.ERROR_FORM),  # an order id twice
        ([header(1 << 4 | 1 << 9), 9, 9], codec.ERROR_FORM),  # an order id that should be left out
        ([header(2, 1), 1 << 50], codec.ERROR_FORM),  # a time twice
        ([header(2), 100], codec.ERROR_FORM),  # a time that fits the header
        ([header(2), -5], codec.ERROR_TS),
        ([header(2)], codec.ERROR_TRUNCATED),
        ([header(4)], codec.ERROR_TRUNCATED),
        ([header(4), FLAG_MORE << 32], codec.ERROR_GROUP),
        ([header(0)] * 4, codec.ERROR_TOO_MANY),
    ],
)
def test_each_other_form_is_refused(records, code):
    buffer = np.array(records, dtype=np.int64)
    assert code == decode(buffer, 8 * len(records), np.zeros((3, 16), np.int64), 1, 0)


def test_time_beyond_64_bits_is_refused():
    assert codec.ERROR_TS == decode(np.array([header(0, 2)], np.int64), 8, np.zeros((1, 16), np.int64), 1, TS_MAX - 1)


def test_every_error_has_a_text():
    codes = {v for k, v in vars(codec).items() if k.startswith("ERROR_") and isinstance(v, int)}
    assert codes == set(codec.ERROR_TEXT)


def test_as_words_is_a_view():
    slots = np.zeros(4, COMMAND_DTYPE)
    as_words(slots)[2, 5] = 99
    assert 99 == slots[2]["price_ticks"]
