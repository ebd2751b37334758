"""One connection of the control socket, without the socket: bytes in, requests and bytes out.

Checked here: line length, JSON, types, unknown and missing fields, operator and reason. Not checked here: whether
instruments, accounts and orders exist, and whether prices and quantities fit (``core``). What is wrong is answered,
names the field and costs nothing else: the next line is read. A line that is too long is skipped up to its end with
constant memory.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gateway.control.access_args import ACCESS_ARGS, ACCESS_QUERIES, WITHOUT_REASON
from gateway.control.messages import ARGS, ORDER_OPS, QUERY_OPS, Args, Refused, Reply, Request, RequestId, refusal
from protocol import reasons
from protocol.build import OPERATOR_BYTES, REASON_BYTES

LINE_MAX_BYTES: Final = 64 << 10

_PATH = re.compile(r" - at `\$\.?([^`]*)`")
_FIELD = re.compile(r"field `([^`]*)`")
_MARK = "`"


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    id: RequestId = None
    op: str = ""
    args: msgspec.Raw = msgspec.Raw(b"{}")
    operator: str = ""
    reason: str = ""


class _IdOnly(msgspec.Struct):
    id: RequestId = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ID_ONLY = msgspec.json.Decoder(_IdOnly)
_ARGS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    op: msgspec.json.Decoder(kind) for op, kind in {**ARGS, **ACCESS_ARGS}.items()
}
_UNSIGNED: Final = QUERY_OPS | ACCESS_QUERIES
_REASONLESS: Final = ORDER_OPS | WITHOUT_REASON
_ENCODER = msgspec.json.Encoder()


class ControlSession:
    """Frames and decodes what a peer sends; encodes what it is told."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._skipping = False
        self._outgoing = bytearray()
        self._closing = False

    def receive_data(self, data: bytes) -> list[Request]:
        """Take bytes from the peer; gives the requests that they complete. Malformed ones are answered at once."""
        requests: list[Request] = []
        start = 0
        while not self._closing:
            end = data.find(b"\n", start)
            if end < 0:
                self._keep(data[start:])
                return requests
            self._keep(data[start:end])
            start = end + 1
            line = bytes(self._partial).strip()
            self._partial.clear()
            if self._skipping:
                self._skipping = False
            elif line:
                request = self._decoded(line)
                if request is not None:
                    requests.append(request)
        return requests

    def receive_eof(self) -> list[Request]:
        """Note that the peer sends no more; gives the request of a last line without end. Replies may still be sent."""
        requests = self.receive_data(b"\n") if self._partial else []
        self._closing = True
        return requests

    def send(self, reply: Reply) -> None:
        """Queue a reply."""
        self._outgoing += _ENCODER.encode(reply)
        self._outgoing += b"\n"

    def data_to_send(self) -> bytes:
        """Bytes for the peer; each call gives what came since the last."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def close_expected(self) -> bool:
        """Whether the peer has ended its side."""
        return self._closing

    def _keep(self, part: bytes) -> None:
        if self._skipping:
            return
        if len(self._partial) + len(part) > LINE_MAX_BYTES:
            self._skipping = True
            self._partial.clear()
            self.send(refusal(None, Refused(reasons.MALFORMED, f"a line has at most {LINE_MAX_BYTES} bytes")))
            return
        self._partial += part

    def _decoded(self, line: bytes) -> Request | None:
        try:
            return _request(line)
        except Refused as refused:
            self.send(refusal(_id_of(line), refused))
            return None


def _request(line: bytes) -> Request:
    envelope = _decode(_ENVELOPE, line, "")
    assert isinstance(envelope, _Envelope)
    decoder = _ARGS.get(envelope.op)
    if decoder is None:
        what = f"there is no operation {envelope.op[:40]!r}" if envelope.op else "the operation is missing"
        raise Refused(reasons.MALFORMED, f"{what}; one of {', '.join(_ARGS)}", "op")
    args = _decode(decoder, bytes(envelope.args), "args")
    assert isinstance(args, Args)
    if envelope.op not in _UNSIGNED:
        _check_text(envelope.operator, OPERATOR_BYTES, "operator", needed=True)
        _check_text(envelope.reason, REASON_BYTES, "reason", needed=envelope.op not in _REASONLESS)
    return Request(envelope.id, envelope.op, args, envelope.operator, envelope.reason)


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes, prefix: str) -> object:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        text = str(error)
        path = _PATH.search(text)
        named = _FIELD.search(text)
        parts = [prefix, path[1] if path else "", named[1] if named else ""]
        detail = _PATH.sub("", text).replace(_MARK, "'")
        raise Refused(reasons.MALFORMED, detail, ".".join(part for part in parts if part)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(reasons.MALFORMED, f"not a JSON object: {error}", prefix) from None
    except RecursionError:
        raise Refused(reasons.MALFORMED, "JSON nested too deeply", prefix) from None


def _check_text(value: str, limit_bytes: int, field: str, *, needed: bool) -> None:
    if needed and not value.strip():
        raise Refused(reasons.MALFORMED, f"'{field}' is needed: each command says who acts and why", field)
    if value and not value.isprintable():
        raise Refused(reasons.MALFORMED, f"'{field}' has characters that cannot be printed", field)
    size_bytes = len(value.encode())
    if size_bytes > limit_bytes:
        raise Refused(reasons.MALFORMED, f"'{field}' has {size_bytes} bytes; {limit_bytes} are kept", field)


def _id_of(line: bytes) -> int | str | None:
    """Id of a request that is malformed elsewhere, where it can be read."""
    try:
        return _ID_ONLY.decode(line).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
