"""Put a dialect's marks into the bytes of a text, and take them out of what was cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from ordertrail.errors import QuarantineError
from ordertrail.parse.encoding import physical_ends
from ordertrail.rules.dialects import Dialect

_LONGEST_LINE_BYTES = 8 << 20
"""What a longer line holds does not matter: no record may be so long."""


def marked_chunks(chunks: Iterable[bytes], dialect: Dialect) -> Iterator[bytes]:
    """The chunks of a text with marks; they then end where a line ends.

    Args:
        chunks: UTF-8.
        dialect: Says what becomes a mark.

    Raises:
        QuarantineError: Rule `binary`: the text holds a control character that is a mark.
    """
    if not dialect.marks:
        yield from chunks
        return
    rest = b""
    for chunk in chunks:
        rest += chunk
        end = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
        if end or len(rest) > _LONGEST_LINE_BYTES:
            end = end or len(rest)
            yield _marked(rest[:end], dialect)
            rest = rest[end:]
    if rest:
        yield _marked(rest, dialect)


def _marked(data: bytes, dialect: Dialect) -> bytes:
    for mark in dialect.marks:
        if mark.char.encode() in data:
            raise QuarantineError(
                f"the file holds the control character U+{ord(mark.char):04X}, which is no text",
                rule="binary",
                hint="ask the vendor where it comes from; delimiters of several characters and escape need it",
            )
    if dialect.widths:
        return _divided(data, dialect.widths, dialect.delimiter.encode())
    for mark in dialect.marks:
        data = data.replace(mark.raw.encode(), mark.char.encode())
    return data


def _divided(data: bytes, widths: Sequence[int], mark: bytes) -> bytes:
    """Lines of fixed width with a mark before each column that they reach, and before what goes beyond the last one.

    Blanks beyond the last column are nothing. A character is a code point of UTF-8.
    """
    octets = np.frombuffer(data, dtype=np.uint8)
    ends = physical_ends(data)
    begins = np.concatenate(([0], ends + 1))
    stops = np.append(ends, len(data))
    if data.find(b"\r\n") >= 0:
        stops -= (
            (octets[np.minimum(stops, len(data) - 1)] == ord("\n")) & (octets[stops - 1] == ord("\r")) & (stops > 0)
        )
    chars = np.append(np.flatnonzero((octets & 0xC0) != 0x80), len(data))
    first, past = np.searchsorted(chars, begins), np.searchsorted(chars, stops)
    bounds = np.cumsum(widths)
    written = np.concatenate(([0], np.cumsum(octets != ord(" "))))
    reached = first[:, None] + bounds[None, :] <= past[:, None]
    reached &= (written[stops] > written[begins])[:, None]
    behind = chars[np.minimum(first + bounds[-1], len(chars) - 1)]
    reached[:, -1] &= written[stops] > written[np.minimum(behind, stops)]
    at = chars[(first[:, None] + bounds[None, :])[reached]]
    return np.insert(octets, at, mark[0]).tobytes()


def without_marks(texts: pa.StringArray, dialect: Dialect, *, raw: bool = False) -> pa.StringArray:
    """Texts that were cut from a marked text.

    Args:
        texts: Cells, or raw records.
        dialect: Whose marks.
        raw: Whether they are raw records.
    """
    import pyarrow.compute as pc  # which few files need, and which takes 50 ms

    for mark in dialect.marks:
        texts = pc.replace_substring(texts, mark.char, mark.raw if raw else mark.cell)
    return texts


def present(data: bytes, dialect: Dialect) -> bool:
    """Whether a text may hold marks inside cells: any but delimiters, or delimiters and quotes."""
    return any(mark.char.encode() in data for mark in dialect.marks if mark.char != dialect.delimiter) or (
        bool(dialect.marks) and dialect.quote.encode() in data
    )
