"""PostgreSQL's binary COPY format from structured arrays, without a Python object a row.

::

    signature (11)  flags (4)  extension (4)                      once
    fields (2)  [ length (4)  value (length) ] …                  a row, big-endian
    -1 (2)                                                        at the end
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

_START: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = -1


def encode(rows: np.ndarray, text: str = "") -> bytes:
    """All of a COPY for ``rows``; columns are the fields in order.

    Parameters
    ----------
    rows : structured array of <i2, <i4 and <i8 fields
    text : str
        Field of kind S that is a text column; empty is NULL.
    """
    return b"".join((_START, *_bodies(rows, text), _END))


def _bodies(rows: np.ndarray, text: str) -> Sequence[bytes]:
    if not text:
        return [_body(rows, "", 0)]
    # Rows whose texts are equally long have one layout.
    lengths = np.char.str_len(rows[text])
    return [_body(rows[lengths == length], text, int(length)) for length in np.unique(lengths)]


def _body(rows: np.ndarray, text: str, text_bytes: int) -> bytes:
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    names = rows.dtype.names or ()
    for name in names:
        layout.append((f"{name} length", ">i4"))
        if name != text:
            layout.append((name, rows.dtype[name].newbyteorder(">").str))
        elif text_bytes:
            layout.append((name, f"S{text_bytes}"))
    out = np.empty(len(rows), dtype=layout)
    out["fields"] = len(names)
    for name in names:
        is_text = name == text
        out[f"{name} length"] = (text_bytes or _NULL) if is_text else rows.dtype[name].itemsize
        if not is_text or text_bytes:
            out[name] = rows[name]
    return out.tobytes()
