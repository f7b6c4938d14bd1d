r"""The grammar of a delimited file, and the careful cutter: it finds records and cells, and what is wrong with them.

The format is RFC 4180 with any one-character delimiter and quote, and `\n`, `\r\n` or `\r` at the end of a
line. A quote has a meaning only as the first character of a cell; anywhere else it is text. A quoted cell may
hold delimiters, line ends and doubled quotes. A malformed record costs one physical line only: reading goes on at the
next.

The work is proportional to the number of bytes: delimiters are counted before cells are created, no more cells of a
record are created than are wanted, and a record longer than `MAX_RECORD_BYTES` quarantines the file as soon as that is
known.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from ordertrail.errors import QuarantineError

MAX_CELL_BYTES = 1 << 20
"""An opening quote that is not closed within this many bytes makes its line malformed: it is not meant as a quote."""

MAX_RECORD_BYTES = 4 << 20
"""Longest record, its line end included; a text file has no longer ones. Must exceed MAX_CELL_BYTES."""

TEXT_FOLLOWS = "text or a stray quote follows a quoted cell"
NEVER_CLOSED = "a quoted cell is never closed"
NOT_IN_LINE = "a quoted cell does not end in its line, and newlines_in_cells is false"

_LINE_FEED, _RETURN = ord("\n"), ord("\r")

Quotes: TypeAlias = "NDArray[np.int64]"
"""Offsets of the quotes in a text, ascending."""

Cells: TypeAlias = "list[bytes | None]"
"""Bytes of cells without their quotes; None for an empty cell."""


class Record(Struct):
    """One record.

    Attributes:
        cells: Its first cells, at most as many as were wanted; empty when it is malformed.
        count: How many cells it has.
        start: Offset of its first byte.
        end: Offset just after its line end; when it is malformed, offset of the cell at fault.
        wrong: What is wrong with its quotes; None when nothing is.
    """

    cells: Cells
    count: int
    start: int
    end: int
    wrong: str | None = None

    @property
    def blank(self) -> bool:
        """Whether it is a blank line, which does not count as a record."""
        return self.count == 1 and not (self.cells[0] or b"").strip()


class Scan(Struct):
    """What the careful cutter found in some bytes.

    Attributes:
        columns: The cells of the well-formed records, one list a column.
        good: For each of them its number among the records (0 = first), the offset of its first byte and the offset
            just after its line end.
        broken: The same for the others, and what is wrong: with the quotes, or how many cells there are.
        records: Number of records, well-formed and broken.
        nothing: How many of these hold nothing but delimiters, more or fewer than there should be.
        end: Offset just after the last complete record.
    """

    columns: list[Cells]
    good: list[tuple[int, int, int]] = field(default_factory=list)
    broken: list[tuple[int, int, int, str | int]] = field(default_factory=list)
    records: int = 0
    nothing: int = 0
    end: int = 0


class Grammar:
    """RFC 4180 for one delimiter and one quote.

    Args:
        delimiter: One ASCII character.
        quote: One ASCII character.
        newlines: Whether quoted cells may hold line ends; if not, a quote that its line does not close is malformed.
    """

    def __init__(self, delimiter: str, quote: str, *, newlines: bool = True) -> None:
        self.delimiter = delimiter
        self.quote = quote
        self.newlines = newlines
        self._d = delimiter.encode("ascii")
        self._q = quote.encode("ascii")
        d, q = re.escape(self._d), re.escape(self._q)
        # Unquoted text up to a delimiter or a line end, or a quoted cell followed by one of them or by the end.
        self._plain = re.compile(rb"[^" + d + rb"\r\n]*")
        inner = rb"[^" + q + (rb"]" if newlines else rb"\r\n]")
        self._quoted = re.compile(q + rb"((?:" + inner + rb"|" + q + q + rb")*+)" + q + rb"(?=[" + d + rb"\r\n]|\Z)")
        self._blanks = re.compile(b"[" + re.escape(bytes(set(b" \t\r\n\x0b\x0c") - set(self._d + self._q))) + b"]*")
        self._line = re.compile(rb"[^\r\n]*")
        self._line_end = re.compile(rb"\r\n|\n|\r")

    # -- record by record -----------------------------------------------------------------------------------

    def first(self, data: bytes, *, ended: bool, most: int, line: int) -> Record | None:
        """The first record that is not blank, such as the header.

        Args:
            data: Begins at the start of a record.
            ended: Whether the file ends with `data`.
            most: How many of its cells are wanted.
            line: Number of the first line of `data`.

        Returns:
            The record; when only blank lines are complete, a blank one whose end is after all of them; None when no
            line is complete.

        Raises:
            QuarantineError: It is longer than allowed.
        """
        # Millions of blank lines are skipped in one step.
        at = _behind_last_line(data, self._stop_of(self._blanks, data, 0))
        found = Record([None], 1, 0, at) if at else None
        while at < len(data):
            record = self._record(data, at, most)
            if record.wrong is not None:
                if self._may_close(data, record.end, ended=ended):
                    break
                return record
            if self._may_go_on(data, record.end, ended=ended):
                break
            self.require_short(data, at, record.end, line)
            found, at = record, record.end
            if not record.blank:
                return record
        self.require_short(data, at, len(data), line)
        return found

    def scan(self, data: bytes, *, ended: bool, width: int, line: int, fill: bool = False) -> Scan:
        """Follow the grammar record by record.

        Args:
            data: Begins at the start of a record.
            ended: Whether the file ends with `data`; if not, a record that reaches its end is left for later.
            width: How many cells a record must have.
            line: Number of the first line of `data`.
            fill: Whether cells that a record lacks at its end are empty.

        Raises:
            QuarantineError: A record is longer than a record may be.
        """
        found = Scan([[] for _ in range(width)])
        while found.end < len(data):
            at = found.end
            record = self._record(data, at, width)
            end, wrong = record.end, record.wrong
            if wrong is not None:
                # Unless more bytes may still close the quote, the line in which it opens is malformed, and only that
                # line.
                if self._may_close(data, end, ended=ended):
                    break
                end = self._end_of_line(data, at)
            if self._may_go_on(data, end, ended=ended):
                break
            self.require_short(data, at, end, line)
            found.end = end
            if wrong is None and record.blank:
                continue
            if fill and wrong is None and record.count < width:
                record.cells += [None] * (width - record.count)
                record.count = width
            if wrong is None and record.count == width:
                found.good.append((found.records, at, end))
                for column, cell in zip(found.columns, record.cells, strict=True):
                    column.append(cell)
            elif wrong is None and not data[at:end].strip(self._d + b"\r\n"):
                found.nothing += 1
            else:
                found.broken.append((found.records, at, end, record.count if wrong is None else wrong))
            found.records += 1
        if found.end == 0 and len(data) > MAX_RECORD_BYTES + MAX_CELL_BYTES:  # no quote is being looked for any more
            self.require_short(data, 0, len(data), line)
        return found

    def require_short(self, data: bytes, at: int, end: int, line: int) -> None:
        """Refuse a record that is too long.

        Args:
            data: The record and what is before it.
            at: Offset of its first byte.
            end: Offset just after it, or after the known part of it.
            line: Number of the first line of `data`.

        Raises:
            QuarantineError: Rule `line_length`.
        """
        if end - at > MAX_RECORD_BYTES:
            where = line + data.count(b"\n", 0, at)
            raise QuarantineError(
                f"the record in line {where} is longer than {MAX_RECORD_BYTES:,} bytes",
                rule="line_length",
                hint="send a text file with one record a line; check whether a quote is closed too late",
            )

    def _record(self, data: bytes, at: int, most: int) -> Record:
        stop = self._stop_of(self._line, data, at)
        if data.find(self._q, at, stop) < 0:
            count = data.count(self._d, at, stop) + 1
            cells: Cells = [cell or None for cell in data[at:stop].split(self._d)] if count <= most else []
            return Record(cells, count, at, self._behind(data, stop))
        return self._quoted_record(data, at, most)

    def _quoted_record(self, data: bytes, start: int, most: int) -> Record:
        """A record cell by cell, because there is a quote in its first line."""
        cells: Cells = []
        count, at = 0, start
        while True:
            cell: bytes | None = None
            if data.startswith(self._q, at):
                # A byte more, because the look-ahead would see an end where the window cuts the text.
                match = self._quoted.match(data, at, at + MAX_CELL_BYTES + 1)
                if match is None or match.end() > at + MAX_CELL_BYTES:
                    return Record([], count, start, at, self._why_not(data, at))
                if count < most:
                    cell = match[1].replace(self._q + self._q, self._q)
            else:
                match = self._plain.match(data, at)
                assert match is not None  # it may be empty
                if count < most:
                    cell = match[0]
            at = match.end()
            count += 1
            if count <= most:
                cells.append(cell or None)
            if not data.startswith(self._d, at):
                return Record(cells, count, start, self._behind(data, at))
            at += 1

    def _may_close(self, data: bytes, at: int, *, ended: bool) -> bool:
        """Whether more bytes may close the quote of a cell, whose offset is given."""
        if ended or not self.newlines:
            return not ended and self._stop_of(self._line, data, at) == len(data)
        return len(data) < at + MAX_CELL_BYTES

    def _why_not(self, data: bytes, at: int) -> str:
        if not self.newlines and data.find(self._q, at + 1, self._stop_of(self._line, data, at)) < 0:
            return NOT_IN_LINE
        closing = data.find(self._q, at + 1, at + MAX_CELL_BYTES)
        return NEVER_CLOSED if closing < 0 else TEXT_FOLLOWS

    def _may_go_on(self, data: bytes, end: int, *, ended: bool) -> bool:
        r"""Whether more of a record may follow: a final `\r` may be half of `\r\n`."""
        return not ended and end == len(data) and not data.endswith(b"\n", 0, end)

    def _stop_of(self, pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
        match = pattern.match(data, at)
        return match.end() if match else at

    def _behind(self, data: bytes, stop: int) -> int:
        """The offset just after a line end, if there is one at `stop`."""
        match = self._line_end.match(data, stop)
        return match.end() if match else stop

    def end_of_first_line(self, data: bytes, *, ended: bool) -> int | None:
        """The offset just after the first line end, whatever is quoted; None while there is none.

        Args:
            data: Some bytes.
            ended: Whether the file ends with them.
        """
        match = self._line_end.search(data)
        if match is None or self._may_go_on(data, match.end(), ended=ended):
            return None
        return match.end()

    def _end_of_line(self, data: bytes, at: int) -> int:
        match = self._line_end.search(data, at)
        return match.end() if match else len(data)

    # -- is a text plain? -----------------------------------------------------------------------------------

    def quotes(self, data: bytes) -> Quotes:
        """Offsets of all quotes."""
        if self._q not in data:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == self._q[0])

    def delimiters(self, data: bytes) -> NDArray[np.int64]:
        """Offsets of all delimiters."""
        return np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == self._d[0])

    def plain_end(self, data: bytes, *, ended: bool, line: int) -> tuple[int, Quotes] | None:
        """Where the last whole record of a plain text ends.

        A text is plain when each of its quotes opens or closes a cell, or is doubled, as the grammar says; then a line
        end ends a record if there is an even number of quotes before it.

        Args:
            data: Begins at the start of a record.
            ended: Nothing comes after `data`: all of it is whole.
            line: Number of the first line of `data`.

        Returns:
            The offset just after the record, 0 when there is no line end yet, and the offsets of the quotes before it;
            None when the text up to there is not plain.

        Raises:
            QuarantineError: A record is longer than a record may be.
        """
        end = len(data) if ended else _behind_last_line(data, len(data))
        if not end:
            self.require_short(data, 0, len(data), line)
            return 0, np.empty(0, dtype=np.int64)
        quotes = self.quotes(data)
        inside = int(np.searchsorted(quotes, end))
        if inside % 2 and not ended:
            end = _behind_last_line(data, int(quotes[inside - 1]))
            inside = int(np.searchsorted(quotes, end))
        quotes = quotes[:inside]
        if end == 0 or not self._well_quoted(data, quotes, end):
            return None
        if end > MAX_RECORD_BYTES:
            feeds = line_ends(with_line_feeds(data[:end], quotes), quotes)
            starts, stops = np.concatenate(([0], feeds + 1)), np.concatenate((feeds + 1, [end]))
            longest = int(np.argmax(stops - starts))
            self.require_short(data, int(starts[longest]), int(stops[longest]), line)
        return end, quotes

    def _well_quoted(self, data: bytes, quotes: Quotes, end: int) -> bool:
        """Every odd quote opens a cell or doubles the one before; every even one closes or is doubled."""
        if len(quotes) == 0:
            return True
        if len(quotes) % 2:
            return False
        opening, closing = quotes[0::2], quotes[1::2]
        if end >= MAX_CELL_BYTES:
            cells = ends_of_cells(quotes)
            if int((cells[1::2] - cells[0::2]).max()) >= MAX_CELL_BYTES:
                return False
        if not self.newlines and np.any(np.searchsorted(quotes, _breaks(data[:end])) % 2):
            return False
        around = np.zeros(256, dtype=bool)
        around[list(b"\r\n" + self._d + self._q)] = True
        octets = np.frombuffer(data, dtype=np.uint8)
        before = opening[opening > 0] - 1
        after = closing[closing < end - 1] + 1
        return bool(around[octets[before]].all() and around[octets[after]].all())


def outside(offsets: NDArray[np.int64], quotes: Quotes) -> NDArray[np.int64]:
    """The offsets in a plain text that are outside quoted cells."""
    return offsets[np.searchsorted(quotes, offsets) % 2 == 0] if len(quotes) else offsets


def ends_of_cells(quotes: Quotes) -> Quotes:
    """Of the quotes of a plain text, or those of quoted cells, the ones that open and close cells: none is doubled."""
    doubled = np.flatnonzero(np.diff(quotes)[1::2] == 1) * 2 + 1
    return np.delete(quotes, np.concatenate((doubled, doubled + 1)))


def _breaks(data: bytes) -> NDArray[np.int64]:
    """Offsets of all line feeds and returns."""
    octets = np.frombuffer(data, dtype=np.uint8)
    return np.flatnonzero((octets == _LINE_FEED) | (octets == _RETURN))


def line_ends(data: bytes, quotes: Quotes) -> NDArray[np.int64]:
    """Offsets of the line feeds in a plain text that end a line."""
    return outside(np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == _LINE_FEED), quotes)


def with_line_feeds(data: bytes, quotes: Quotes) -> bytes:
    r"""The plain text with lines that end with `\n`, or all with `\r\n`; a lone `\r` becomes a line end of its own."""
    if data.find(b"\r") < 0 or data.count(b"\r") == data.count(b"\r\n"):
        return data
    octets = np.frombuffer(data, dtype=np.uint8).copy()
    octets[outside(np.flatnonzero(octets == _RETURN), quotes)] = _LINE_FEED
    return octets.tobytes()


def _behind_last_line(data: bytes, before: int) -> int:
    r"""The offset just after the last line end before an offset; 0 when there is none.

    A `\r` at the end of the data may be half of `\r\n`, so it does not count yet.
    """
    last = data.rfind(b"\n", 0, before)
    if data.find(b"\r", last + 1, before) >= 0:
        last = max(last, data.rfind(b"\r", 0, min(before, len(data) - 1)))
    return last + 1
