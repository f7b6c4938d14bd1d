r"""Cut the bytes of a delimited file into records and cells, each record with its number.

The format is RFC 4180 with any one-character delimiter and quote, and `\n`, `\r\n` or `\r` at the end of a
line. A quote has a meaning only as the first character of a cell; anywhere else it is text. A quoted cell may
hold delimiters, line ends and doubled quotes.

Two cutters read the same grammar. Arrow's is fast and takes a block only after a proof that it is *plain*: every
quote in it opens, closes or doubles as the grammar says, and every record has the header's number of cells. All
other blocks go to the *careful* one, a regular expression that follows the grammar cell by cell and can say what
is wrong with which record. A record that is wrong breaks one physical line only: reading goes on at the next.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from ordertrail.errors import QuarantineError
from ordertrail.model import Reject
from ordertrail.parse.encoding import count_lines, utf8_chunks, utf8_text

CHUNK_BYTES = 1 << 20
"""Read size. Blocks are about this long: short enough that a small file too is cut and checked side by side."""

MAX_CELL_BYTES = 1 << 20
"""A quote that is not closed within this many bytes breaks its line: it was never meant to open a cell."""

MAX_LINE_BYTES = 64 << 20
"""A line longer than this is not a record of a text file. Must exceed CHUNK_BYTES and MAX_CELL_BYTES."""

Quotes: TypeAlias = "NDArray[np.int64]"
"""Offsets of the quotes in a text, ascending."""

_AHEAD = 4
"""Blocks cut ahead of the reader; bounds memory to about 3 x _AHEAD x CHUNK_BYTES."""


@dataclass(frozen=True, slots=True)
class RecordBlock:
    """Consecutive records of one file.

    Attributes:
        cells: One text column a header cell, NULL for an empty cell; shape (good records, header cells).
        rows: Record numbers of `cells`, int64, 1 = first after the header.
        raw: The text of each record of `cells`, line end included, or None when it was not asked for.
        broken: Records that are no row: ragged or misquoted.
        records: Good and broken together.
    """

    cells: pa.RecordBatch
    rows: NDArray[np.int64]
    raw: pa.StringArray | None
    broken: tuple[Reject, ...]
    records: int


@dataclass(slots=True)
class _Cut:
    """What a cutter makes of one block, before record numbers are known."""

    cells: pa.RecordBatch
    index: NDArray[np.int64]
    raw: pa.StringArray | None
    broken: list[tuple[int, Reject]]
    records: int


class RecordReader:
    """The records of one file, in blocks, in order.

    Args:
        stream: At the file's first byte; read once, to its end.
        delimiter: One ASCII character.
        quote: One ASCII character.
        encoding: As in `utf8_chunks`.
        pool: Cuts blocks side by side; None cuts in the caller's thread.
        raw: Also give the text of every record.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        delimiter: str = ",",
        quote: str = '"',
        encoding: str | None = None,
        pool: Executor | None = None,
        raw: bool = False,
    ) -> None:
        self._chunks = utf8_chunks(stream, encoding, CHUNK_BYTES)
        self._grammar = Grammar(delimiter, quote)
        self._pool = pool
        self._raw = raw
        self._buffer = b""
        self._ended = False
        self._line = 1

    def header(self) -> tuple[str, ...] | None:
        """Read the first record that is not blank, once, before `blocks`.

        Returns:
            The header's cells, stripped of white space, or None when the file has no record at all.

        Raises:
            QuarantineError: The header cannot be read.
        """
        while True:
            scan = self._grammar.scan(self._buffer, ended=self._ended, limit=1)
            if scan.cells or scan.broken or self._ended:
                break
            self._fill()
        if scan.broken:
            raise QuarantineError(
                f"the header in line {self._line} cannot be read: {scan.broken[0][2]}",
                rule="header",
                hint="send the file again with a well-formed header",
            )
        names: tuple[str, ...] | None = None
        for record in scan.cells:
            line = self._line + count_lines(self._buffer[: record.start])
            names = tuple(utf8_text(cell or b"", line).strip() for cell in record.cells)
        self._line += count_lines(self._buffer[: scan.end])
        self._buffer = self._buffer[scan.end :]
        return names

    def blocks(self, width: int) -> Iterator[RecordBlock]:
        """All records after the header.

        Args:
            width: Number of header cells.

        Raises:
            QuarantineError: The bytes are no text of the encoding, or one line is longer than MAX_LINE_BYTES.
        """
        base = 0
        waiting: deque[Future[_Cut] | _Cut] = deque()
        for block, quotes, line in self._split():
            job = (block, quotes, width, line, self._raw)
            waiting.append(self._pool.submit(self._grammar.cut, *job) if self._pool else self._grammar.cut(*job))
            if len(waiting) >= (_AHEAD if self._pool else 1):
                done = _numbered(waiting.popleft(), base)
                base += done.records
                yield done
        while waiting:
            done = _numbered(waiting.popleft(), base)
            base += done.records
            yield done

    def _split(self) -> Iterator[tuple[bytes, Quotes | None, int]]:
        """Blocks that end where a record ends, each with its quotes if it is plain and its first line's number."""
        while True:
            if not self._ended:
                self._fill()
            end, quotes = self._grammar.last_record_end(self._buffer, ended=self._ended)
            if end == 0 and not self._ended:
                if len(self._buffer) > MAX_LINE_BYTES:
                    raise QuarantineError(
                        f"line {self._line} is longer than {MAX_LINE_BYTES >> 20} MiB",
                        rule="line_length",
                        hint="send a text file with one record a line",
                    )
                continue
            block, line = self._buffer[:end], self._line
            self._line += count_lines(block)
            self._buffer = self._buffer[end:]
            if block:
                yield block, quotes, line
            if self._ended:
                return

    def _fill(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
        else:
            self._buffer = self._buffer + chunk if self._buffer else chunk


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the careful cutter sees it.

    Attributes:
        index: Its number among the records of the block, 0 = first.
        start: Offset of its first byte.
        end: Offset behind its line end.
        cells: Each cell's bytes without quotes, None when empty.
    """

    index: int
    start: int
    end: int
    cells: list[bytes | None]


@dataclass(frozen=True, slots=True)
class Scan:
    """What the careful cutter found.

    Attributes:
        cells: The well-formed records.
        broken: (record index, raw line, what is wrong).
        records: Number of records, well-formed and broken.
        end: Offset behind the last whole record.
    """

    cells: list[Record]
    broken: list[tuple[int, bytes, str]]
    records: int
    end: int


class Grammar:
    """RFC 4180 for one delimiter and one quote."""

    def __init__(self, delimiter: str, quote: str) -> None:
        self.delimiter = delimiter
        self.quote = quote
        self._d = delimiter.encode("ascii")
        self._q = quote.encode("ascii")
        d, q = re.escape(self._d), re.escape(self._q)
        # Unquoted text up to a delimiter or a line end, or a quoted cell followed by one of them or by the end.
        self._plain = re.compile(rb"[^" + d + rb"\r\n]*")
        self._quoted = re.compile(q + rb"((?:[^" + q + rb"]|" + q + q + rb")*+)" + q + rb"(?=[" + d + rb"\r\n]|\Z)")
        self._line_end = re.compile(rb"\r\n|\n|\r")

    # -- the careful cutter ---------------------------------------------------------------------------------

    def scan(self, data: bytes, *, ended: bool, limit: int | None = None) -> Scan:
        """Follow the grammar cell by cell.

        Args:
            data: Begins at the start of a record.
            ended: Nothing comes after `data`; else a record that reaches its end is left for later.
            limit: Stop after this many records.
        """
        found: list[Record] = []
        broken: list[tuple[int, bytes, str]] = []
        records, at = 0, 0
        while at < len(data) and (limit is None or records < limit):
            cells, end, wrong = self._record(data, at)
            if wrong is not None:
                # Unless more bytes may still close the quote, the line it opens on is broken, and only that one.
                if not ended and len(data) < end + MAX_CELL_BYTES:
                    break
                end = self._end_of_line(data, at)
            if not ended and not data.endswith(b"\n", 0, end) and end == len(data):
                break  # more of this record may follow; a final `\r` may be half of `\r\n`
            if wrong is not None:
                broken.append((records, data[at:end].rstrip(b"\r\n"), wrong))
                records += 1
            elif len(cells) > 1 or (cells[0] or b"").strip():
                found.append(Record(records, at, end, cells))
                records += 1
            at = end
        return Scan(found, broken, records, at)

    def _record(self, data: bytes, at: int) -> tuple[list[bytes | None], int, str | None]:
        """One record from `at`: its cells, the offset behind its line end, and what is wrong with it.

        When something is wrong the offset is that of the cell at fault.
        """
        cells: list[bytes | None] = []
        while True:
            if data.startswith(self._q, at):
                window = at + MAX_CELL_BYTES
                match = self._quoted.match(data, at, window)
                # Where the window cuts the text the look-ahead sees an end that is none.
                if match is None or match.end() == window < len(data):
                    return cells, at, self._why_not(data, at)
                cell, at = match[1].replace(self._q + self._q, self._q), match.end()
            else:
                match = self._plain.match(data, at)
                cell, at = (match[0], match.end()) if match else (b"", at)
            cells.append(cell or None)
            if data.startswith(self._d, at):
                at += 1
                continue
            line_end = self._line_end.match(data, at)
            return cells, line_end.end() if line_end else at, None

    def _why_not(self, data: bytes, at: int) -> str:
        closing = data.find(self._q, at + 1, at + MAX_CELL_BYTES)
        return "a quoted cell is never closed" if closing < 0 else "text or a stray quote follows a quoted cell"

    def _end_of_line(self, data: bytes, at: int) -> int:
        match = self._line_end.search(data, at)
        return match.end() if match else len(data)

    # -- the fast cutter ------------------------------------------------------------------------------------

    def last_record_end(self, data: bytes, *, ended: bool) -> tuple[int, Quotes | None]:
        """Where the last whole record ends, and whether the text up to there is plain.

        Args:
            data: Begins at the start of a record.
            ended: Nothing comes after `data`: all of it is whole.

        Returns:
            The offset behind the record, 0 when there is none yet; the offsets of the quotes before it when the
            text is plain, else None.
        """
        quotes = self._quotes(data)
        end = len(data) if ended else data.rfind(b"\n") + 1
        inside = int(np.searchsorted(quotes, end))
        if inside % 2 and not ended:
            end = data.rfind(b"\n", 0, int(quotes[inside - 1])) + 1
            inside = int(np.searchsorted(quotes, end))
        if end and self._plain_line_ends(data, end) and self._well_quoted(data, quotes[:inside], end):
            return end, quotes[:inside]
        return (end if ended else self.scan(data, ended=False).end), None

    def cut(self, block: bytes, quotes: Quotes | None, width: int, line: int, raw: bool) -> _Cut:
        """Cut one block of whole records by the fast way if it is plain, else by the careful one.

        Args:
            block: Whole records.
            quotes: Offsets of its quotes if it is plain, else None.
            width: Cells a record must have.
            line: Number of the block's first line, for messages.
            raw: Also give the text of every record.
        """
        cells = None if quotes is None else self._cut_fast(block, width, line)
        if cells is not None and quotes is not None:
            text = _raw_records(block, quotes) if raw else None
            if text is None or len(text) == cells.num_rows:
                return _Cut(cells, np.arange(cells.num_rows, dtype=np.int64), text, [], cells.num_rows)
        return self._cut_carefully(block, width, line)

    def _cut_fast(self, block: bytes, width: int, line: int) -> pa.RecordBatch | None:
        names = _cell_names(width)
        options = pacsv.ParseOptions(
            delimiter=self.delimiter,
            quote_char=self.quote,
            double_quote=True,
            newlines_in_values=True,
            ignore_empty_lines=True,
        )
        try:
            table = pacsv.read_csv(
                pa.BufferReader(pa.py_buffer(block)),
                read_options=pacsv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
                parse_options=options,
                convert_options=_convert_options(names, check_utf8=not block.isascii()),
            )
        except pa.ArrowInvalid:
            utf8_text(block, line)  # raises where the bytes are at fault; else the careful cutter says what is
            return None
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else _empty(names)

    def _cut_carefully(self, block: bytes, width: int, line: int) -> _Cut:
        utf8_text(block, line)
        scan = self.scan(block, ended=True)
        broken = [(i, _broken("quote", f"{why}: close it or double it", raw)) for i, raw, why in scan.broken]
        good: list[Record] = []
        for record in scan.cells:
            if len(record.cells) == width:
                good.append(record)
            else:
                reason = f"the row has {len(record.cells)} cells, the header has {width}"
                text = block[record.start : record.end].rstrip(b"\r\n")
                broken.append((record.index, _broken("ragged", reason, text)))
        columns = [pa.array([_text(record.cells[i]) for record in good], pa.string()) for i in range(width)]
        return _Cut(
            pa.RecordBatch.from_arrays(columns, names=_cell_names(width)),
            np.array([record.index for record in good], dtype=np.int64),
            pa.array([_text(block[record.start : record.end]) for record in good], pa.string()),
            sorted(broken, key=lambda item: item[0]),
            scan.records,
        )

    # -- is a block plain? ----------------------------------------------------------------------------------

    def _quotes(self, data: bytes) -> Quotes:
        if self._q not in data:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == self._q[0])

    @staticmethod
    def _plain_line_ends(data: bytes, end: int) -> bool:
        return data.find(b"\r", 0, end) < 0 or data.count(b"\r", 0, end) == data.count(b"\r\n", 0, end)

    def _well_quoted(self, data: bytes, quotes: Quotes, end: int) -> bool:
        """Every odd quote opens a cell or doubles the one before; every even one closes or is doubled."""
        if len(quotes) == 0:
            return True
        if len(quotes) % 2:
            return False
        opening, closing = quotes[0::2], quotes[1::2]
        if int((closing - opening).max()) >= MAX_CELL_BYTES:
            return False
        around = np.zeros(256, dtype=bool)
        around[list(b"\r\n" + self._d + self._q)] = True
        octets = np.frombuffer(data, dtype=np.uint8)
        before = opening[opening > 0] - 1
        after = closing[closing < end - 1] + 1
        return bool(around[octets[before]].all() and around[octets[after]].all())


def _raw_records(block: bytes, quotes: Quotes) -> pa.StringArray:
    """The records of a plain block as text, without a copy: line ends outside quotes part them, blank lines trail."""
    line_ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
    line_ends = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
    starts = np.concatenate(([0], line_ends + 1))
    stops = np.concatenate((line_ends, [len(block)]))
    octets = np.frombuffer(block + b"\n", dtype=np.uint8)
    blank = (stops <= starts) | ((stops == starts + 1) & (octets[starts] == ord("\r")))
    offsets = np.concatenate((starts[~blank], [len(block)])).astype(np.int32)
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(block))


def _numbered(job: Future[_Cut] | _Cut, base: int) -> RecordBlock:
    cut = job.result() if isinstance(job, Future) else job
    broken = tuple(replace(reject, file_row=base + index + 1) for index, reject in cut.broken)
    return RecordBlock(cut.cells, cut.index + (base + 1), cut.raw, broken, cut.records)


def _broken(rule: str, reason: str, raw: bytes) -> Reject:
    return Reject(None, None, None, rule, reason, raw.decode("utf-8", "replace"))


def _cell_names(width: int) -> list[str]:
    return [f"c{i}" for i in range(width)]


def _convert_options(names: list[str], *, check_utf8: bool) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        check_utf8=check_utf8,
    )


def _empty(names: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names=names)


def _text(cell: bytes | None) -> str | None:
    return None if cell is None else cell.decode("utf-8")
