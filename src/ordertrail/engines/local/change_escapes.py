"""Texts as they stand in JSON and CSV, column by column; most need no change, which is seen in their bytes at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ESCAPES = {
    "\\": "\\\\",  # first, because the others put backslashes in
    '"': '\\"',
    **{chr(octet): f"\\u{octet:04X}" for octet in range(0x20)},
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}
"""The characters that JSON wants escaped, and how DuckDB's `to_json` writes them."""


def json_escaped(texts: pa.StringArray) -> pa.StringArray:
    """The texts as they stand in JSON between quotes, escaped as DuckDB's `to_json` does it; NULL stays NULL."""
    _, found = _bytes_of(texts)
    if not len(found):
        return texts
    from pyarrow.compute import replace_substring

    wanted = _ESCAPES if found.min() < 0x20 else '\\"'
    for one in [one for one in wanted if (found == ord(one)).any()]:
        texts = replace_substring(texts, one, _ESCAPES[one])
    return texts


def csv_quoted(texts: pa.StringArray) -> pa.StringArray:
    """The texts as they stand in CSV: an empty one between quotes, because it is not NULL; NULL stays NULL."""
    ends, found = _bytes_of(texts)
    special = found == ord(",")
    for one in '"\n\r':
        special |= found == ord(one)
    quoted = ends[1:] == ends[:-1]
    if special.any():
        # Of an empty text this is a byte of its neighbour, but an empty one is quoted anyway.
        inside = ends[:-1][: int(np.searchsorted(ends[:-1], len(found)))]
        quoted[: len(inside)] |= np.logical_or.reduceat(special, inside)
    if not quoted.any():
        return texts
    from pyarrow.compute import binary_join_element_wise, if_else, replace_substring

    doubled = replace_substring(texts, '"', '""') if (found == ord('"')).any() else texts
    between = binary_join_element_wise('"', doubled, '"', "")
    return between if quoted.all() else if_else(pa.array(quoted), between, texts)


def _bytes_of(texts: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Where the texts begin and end in their bytes, shape (n + 1,), and the bytes."""
    _, ends, data = texts.buffers()
    if not len(texts):
        return np.zeros(1, np.int32), np.empty(0, np.uint8)
    of_all = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return of_all - of_all[0], np.frombuffer(data or b"", np.uint8)[of_all[0] : of_all[-1]]
