"""Put a dialect's marks into the bytes of a text, and take them out of what was cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from ordertrail.errors import QuarantineError
from ordertrail.parse.encoding import physical_ends
from ordertrail.rules.dialects import Dialect, Mark

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
    escapes = [mark for mark in dialect.marks if mark.raw != mark.cell]
    if escapes:
        data = _guarded(data, escapes)
    for mark in dialect.marks:
        if mark.raw == mark.cell:
            data = data.replace(mark.raw.encode(), mark.char.encode())
    return data


def _guarded(data: bytes, escapes: Sequence[Mark]) -> bytes:
    """A text with a mark in place of each escape and what it guards: of escapes that follow each other, by twos."""
    escape = escapes[0].raw[0].encode()
    if escape not in data:
        return data
    octets = np.frombuffer(data, dtype=np.uint8)
    at = np.flatnonzero(octets == escape[0])
    numbers = np.arange(len(at))
    first = np.concatenate(([True], np.diff(at) > 1))
    at = at[(numbers - np.maximum.accumulate(np.where(first, numbers, 0))) % 2 == 0]
    marked, stays = octets.copy(), np.ones(len(octets), dtype=bool)
    for mark in escapes:
        guarded = mark.raw[1:].encode()
        places = at[at + len(guarded) < len(octets)]
        for n, octet in enumerate(guarded, 1):
            places = places[octets[places + n] == octet]
        marked[places] = ord(mark.char)
        for n in range(1, len(guarded) + 1):
            stays[places + n] = False
    return marked[stays].tobytes()


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
    bounds = np.cumsum(widths).tolist()
    written = np.concatenate(([0], np.cumsum(octets != ord(" "))))
    lines = np.flatnonzero(written[stops] > written[begins])
    at = []
    for bound in bounds:  # fewer lines reach each further column
        lines = lines[first[lines] + bound <= past[lines]]
        behind = chars[first[lines] + bound]
        at.append(behind if bound != bounds[-1] else behind[written[stops[lines]] > written[behind]])
    return np.insert(octets, np.sort(np.concatenate(at)), mark[0]).tobytes()


def without_marks(texts: pa.StringArray, dialect: Dialect, *, raw: bool = False) -> pa.StringArray:
    """Texts that were cut from a marked text.

    Args:
        texts: Cells, or raw records.
        dialect: Whose marks.
        raw: Whether they are raw records.
    """
    import pyarrow.compute as pc  # which few files need, and which takes 50 ms

    octets = np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)
    for mark in dialect.marks:
        if (octets == ord(mark.char)).any():
            texts = pc.replace_substring(texts, mark.char, mark.raw if raw else mark.cell)
    return texts


def present(data: bytes, dialect: Dialect) -> bool:
    """Whether a text may hold marks inside cells: any but delimiters, or delimiters and quotes."""
    return any(mark.char.encode() in data for mark in dialect.marks if mark.char != dialect.delimiter) or (
        bool(dialect.marks) and dialect.quote.encode() in data
    )
