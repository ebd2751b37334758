import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.messages import ARGS, Reply
from gateway.control.session import LINE_MAX_BYTES, ControlSession

ORDER = {"account": 7, "instrument": "BTCUSDT", "side": "buy", "price": "100.00", "qty": "0.5"}


def message(op: str = "order", args: object = None, **more: object) -> bytes:
    fields = {"id": 1, "op": op, "args": ORDER if args is None else args, "operator": "ann", "reason": "why", **more}
    return json.dumps(fields).encode() + b"\n"


def replies(session: ControlSession) -> list[Reply]:
    return [msgspec.json.decode(line, type=Reply) for line in session.data_to_send().splitlines()]


def only_error(data: bytes) -> tuple[str, str]:
    session = ControlSession()
    assert [] == session.receive_data(data)
    (reply,) = replies(session)
    assert reply.error is not None
    return reply.error.name, reply.error.field


def test_a_request_is_found_however_its_bytes_are_cut() -> None:
    data = message() + message("balance", {"account": "alice"})
    for cut in range(len(data)):
        session = ControlSession()
        requests = session.receive_data(data[:cut]) + session.receive_data(data[cut:])
        assert ["order", "balance"] == [request.op for request in requests]
        assert b"" == session.data_to_send()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{\n", ""),
        (b"[]\n", ""),
        (b"\xff\xfe\n", ""),
        (b'{"id": 1}\n', "op"),
        (message("fly"), "op"),
        (message(id=1.5), "id"),
        (message(id=[1]), "id"),
        (message(id=1 << 70), "id"),
        (message(more=1), "more"),
        (message(args=[1]), "args"),
        (message(args={**ORDER, "price": 100.0}), "args.price"),
        (message(args={**ORDER, "side": "hold"}), "args.side"),
        (message(args={**ORDER, "tif": 7}), "args.tif"),
        (message(args={**ORDER, "source": 4}), "args.source"),
        (message(args={k: v for k, v in ORDER.items() if k != "instrument"}), "args.instrument"),
        (message(operator=""), "operator"),
        (message(operator="  "), "operator"),
        (message(operator="o" * 33), "operator"),
        (message(operator="a\nb"), "operator"),
        (message("freeze", {"account": 7}, reason=""), "reason"),
        (message("freeze", {"account": 7}, reason=" "), "reason"),
        (message("freeze", {"account": 7}, reason="w" * 73), "reason"),
        (message("deposit", {"account": 7, "asset": "USDT", "amount": 5}), "args.amount"),
        (message("book", {"instrument": "BTCUSDT", "levels": 0}), "args.levels"),
        (b'{"id": 1, "op": "order", "args": {"account": ' + b"[" * 5000 + b"]" * 5000 + b"}}\n", ""),
    ],
)
def test_a_malformed_request_is_answered_with_the_field_at_fault(data: bytes, field: str) -> None:
    assert ("MALFORMED", field) == only_error(data)


def test_the_id_comes_back_where_it_can_be_read() -> None:
    session = ControlSession()
    session.receive_data(message(args={**ORDER, "price": 1}, id="mine"))
    assert ["mine"] == [reply.id for reply in replies(session)]


def test_an_order_needs_no_reason_and_a_query_no_operator() -> None:
    session = ControlSession()
    requests = session.receive_data(message(reason="") + b'{"op": "status"}\n')
    assert ["order", "status"] == [request.op for request in requests]


def test_a_line_that_is_too_long_is_skipped_and_the_next_one_read() -> None:
    session = ControlSession()
    for _ in range(40):
        assert [] == session.receive_data(b"x" * 10_000)
    assert 1 == len(session.receive_data(b"\n" + message()))
    assert ["MALFORMED"] == [reply.error.name for reply in replies(session) if reply.error]


def test_the_longest_line_is_read() -> None:
    line = message()[:-1]
    session = ControlSession()
    assert 1 == len(session.receive_data(line + b" " * (LINE_MAX_BYTES - len(line)) + b"\n"))


def test_a_last_line_without_end_counts_when_the_peer_ends() -> None:
    session = ControlSession()
    assert [] == session.receive_data(message()[:-1])
    assert ["order"] == [request.op for request in session.receive_eof()]
    assert session.close_expected()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
arg_names = sorted({field.name for kind in ARGS.values() for field in msgspec.structs.fields(kind)})
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "op": st.sampled_from(sorted(ARGS)) | st.text(max_size=5),
        "args": st.dictionaries(st.sampled_from(arg_names), json_values | st.sampled_from(["buy", "1", "0.5"])),
        "operator": st.text(max_size=40) | json_values,
        "reason": st.text(max_size=80) | json_values,
    },
)
lines = (
    st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"x"))
    | envelopes.map(lambda value: json.dumps(value).encode())
    | envelopes.map(lambda value: json.dumps(value).encode()[: len(json.dumps(value)) // 2])
    | st.just(b"y" * (LINE_MAX_BYTES + 1))
)


@given(st.lists(lines, max_size=6), st.integers(1, 5000))
def test_whatever_comes_each_line_is_a_request_or_gets_one_answer(pieces: list[bytes], chunk: int) -> None:
    data = b"".join(piece + b"\n" for piece in pieces)
    session = ControlSession()
    requests = 0
    for start in range(0, len(data), chunk):
        requests += len(session.receive_data(data[start : start + chunk]))
    answers = replies(session)
    assert sum(1 for piece in pieces if piece.strip()) == requests + len(answers)
    assert all(reply.error is not None and reply.error.name == "MALFORMED" for reply in answers)
