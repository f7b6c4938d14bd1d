"""Read a file as numbered records: in blocks, in order, cut in parallel.

`grammar` defines a record, and `cutter` turns blocks of them into columns. Memory is bounded by the lengths of a block
and of a record, whatever the file contains.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from ordertrail.errors import QuarantineError
from ordertrail.model import Reject
from ordertrail.parse.blocks import Block, Broken, Cut
from ordertrail.parse.cutter import Cutter, RowShape
from ordertrail.parse.encoding import count_lines, utf8_chunks, utf8_text, without_nul
from ordertrail.parse.grammar import Grammar, Record
from ordertrail.parse.marking import marked_chunks
from ordertrail.parse.preamble import header_at
from ordertrail.parse.swallowing import Swallowed
from ordertrail.parse.trailer import Trailer
from ordertrail.parse.unpacking import Readable
from ordertrail.rules.dialects import dialect_of
from ordertrail.rules.header_lines import SEARCHED_LINES, HeaderRule

CHUNK_BYTES = 1 << 20
"""Read size. Blocks are about this long: short enough that even a small file is cut and checked in parallel."""

HEAD_BYTES = 1 << 16
"""How many of a text's first bytes are searched for its header."""

_SEPARATOR = re.compile(rb'"?[sS][eE][pP]=([!-~\t])"?[\t ,;]*(?:\r\n|\n|\r|\Z)')
"""The line in which Excel says what separates cells."""

MAX_COLUMNS = 10_000
"""Most cells of a header, unless the contract sets another bound."""

_AHEAD = 4
"""Blocks cut ahead of the reader; bounds memory to about 3 x _AHEAD x CHUNK_BYTES."""


class RecordBlock(Struct, frozen=True):
    """Consecutive records of one file.

    Attributes:
        cells: One text column a header cell, NULL for an empty cell; shape (good records, header cells).
        rows: Record numbers of `cells`, int64, 1 = first after the header.
        raw: The text of each record of `cells`, line end included; None unless it was asked for.
        lines: The number of the first line of each record of `cells` in the file, int64; None when `raw` is None.
        broken: Records that are not rows, ragged or misquoted; None when there are none, or `raw` was not asked for.
        records: Number of records, good, broken and skipped.
        skipped: Number of those that are no rows and no faults either.
        swallowed: Lines inside of them that look like records of their own; None when none does.
    """

    cells: pa.RecordBatch
    rows: NDArray[np.int64]
    raw: pa.StringArray | None
    lines: NDArray[np.int64] | None
    broken: Broken | None
    records: int
    skipped: int = 0
    swallowed: Swallowed | None = None

    @property
    def parsed(self) -> int:
        """Number of rows, good and broken."""
        return self.records - self.skipped

    def rejects(self) -> Iterator[Reject]:
        """The records that are not rows, as rejects."""
        return iter(()) if self.broken is None else self.broken.rejects()


class Written(Struct, frozen=True):
    """How a text is written.

    Attributes:
        delimiter: One character or several.
        quote: One ASCII character; "" for texts without quoting.
        escape: One ASCII character that takes from a quote, a delimiter or itself what it means; "" for none.
        encoding: As in `utf8_chunks`.
        max_columns: A header with more cells quarantines the file.
        rule: Tells the header from other lines; None takes the first record.
        trailer: What the last lines look like that are no rows; None for texts without a trailer.
        newlines: Whether quoted cells may hold line ends.
        fill: Whether cells that a record lacks at its end are empty.
        widths: Of the columns of a text of fixed width, in characters; delimiter, quote and escape then mean nothing.
        final_newline: Whether a text whose last line has no line end is an error.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    encoding: str | None = None
    max_columns: int = MAX_COLUMNS
    rule: HeaderRule | None = None
    trailer: Trailer | None = None
    newlines: bool = True
    fill: bool = False
    widths: tuple[int, ...] = ()
    final_newline: bool = False


class RecordReader:
    """The records of one text, in blocks, in order.

    Args:
        stream: Positioned at the text's first byte; read once, to its end.
        written: How it is written.
        pool: Cuts blocks in parallel; None cuts in the caller's thread.
        raw: Whether to return the text of every record, and the broken records.
        line: Number of the text's first line.
    """

    def __init__(
        self,
        stream: Readable,
        written: Written | None = None,
        *,
        pool: Executor | None = None,
        raw: bool = False,
        line: int = 1,
    ) -> None:
        written = written or Written()
        self._dialect = dialect_of(written.delimiter, written.quote, written.escape, written.widths)
        self._chunks = marked_chunks(utf8_chunks(stream, written.encoding, CHUNK_BYTES), self._dialect)
        self._grammar = Grammar(self._dialect.delimiter, self._dialect.quote, newlines=written.newlines)
        self._trailer = written.trailer
        self._fill_rows = written.fill
        self._final_newline = written.final_newline
        self._header: tuple[str, ...] = ()
        self._trailing = False
        self.lines_skipped = 0
        self._pool = pool
        self._raw = raw
        self._max_columns = written.max_columns
        self._buffer = b""
        self._ended = False
        self._line = line
        self._in_line = False
        self._rule = written.rule
        self._head = b""

    @property
    def head(self) -> str:
        """The first lines of the text, once the header was read; for messages."""
        return self._dialect.written(self._head.decode("utf-8", "replace"))

    def header(self) -> tuple[str, ...] | None:
        """Read the header, once, before `blocks`: the one that the rule finds, else the first record.

        Returns:
            The header's cells, stripped of white space, or None when the file has no record at all.

        Raises:
            QuarantineError: The header cannot be read, or has too many cells.
        """
        rule = self._rule
        if rule is not None:
            self._begin(rule)
            if rule.columns:
                self._header = rule.columns
                self._settle_width()
                return rule.columns if self._buffer.strip() or not self._ended else None
        record, line = self._first_record()
        if record is None:
            return None
        if record.wrong is not None:
            raise QuarantineError(
                f"the header in line {line} cannot be read: {record.wrong}",
                rule="header",
                hint="send the file again with a well-formed header",
            )
        if record.count > self._max_columns:
            raise QuarantineError(
                f"the header in line {line} has {record.count:,} columns, more than {self._max_columns:,}",
                rule="unknown_column",
                hint="see whether the delimiter is right; else ask the vendor to leave columns out",
            )
        self._header = tuple(self._dialect.cell(utf8_text(cell or b"", line)) for cell in record.cells)
        if self._dialect.widths:
            self._header = self._whole_header(line)
        if rule is not None:
            self._settle_width()
        return tuple(cell.strip() for cell in self._header)

    def _whole_header(self, line: int) -> tuple[str, ...]:
        """The header of a text of fixed width: unpadded, with a cell for each column."""
        count = len(self._dialect.widths)
        if len(self._header) > count:
            raise QuarantineError(
                f"the header in line {line} is longer than the {sum(self._dialect.widths)} characters of widths",
                rule="header",
                hint="correct widths of the vendor, then run ordertrail replay --all-quarantined",
            )
        return tuple(cell.strip() for cell in (*self._header, *[""] * (count - len(self._header))))

    def _settle_width(self) -> None:
        """See whether records end with a delimiter that the header lacks, or the other way round.

        The first record decides, if more of those after it are like it than as wide as the header.
        """
        width = len(self._header)
        if self._dialect.widths:
            return
        records = list(self._peeked())
        if not records or 2 * sum(one.count == records[0].count for one in records) <= len(records):
            return
        first = records[0]
        if first.count == width + 1 and not first.cells[-1]:
            self._trailing = True
        elif width > 1 and not self._header[-1].strip() and first.count == width - 1:
            self._header = self._header[:-1]

    def _peeked(self) -> Iterator[Record]:
        """The first records after the header; only one when it has as many cells as the header."""
        data, at, width = self._buffer[:HEAD_BYTES], 0, len(self._header)
        ended = self._ended and len(data) == len(self._buffer)
        for _ in range(SEARCHED_LINES):
            record = self._grammar.first(data[at:], ended=ended, most=width + 1, line=self._line)
            if record is None or record.wrong is not None or record.blank:
                return
            yield record
            if at == 0 and record.count == width:
                return
            at += record.end

    @property
    def next_line(self) -> int:
        """The number of the line after the last one, once all was read."""
        return self._line + self._in_line

    def _begin(self, rule: HeaderRule) -> None:
        """Go to the line of the header."""
        top = self._line
        while len(self._buffer) < HEAD_BYTES and not self._ended:
            self._fill()
        self._head = self._buffer[:HEAD_BYTES]
        separator = None if self._dialect.widths else _SEPARATOR.match(self._buffer)
        if separator:
            newlines = self._grammar.newlines
            self._grammar = Grammar(separator[1].decode("ascii"), self._grammar.quote, newlines=newlines)
            if not rule.skip_lines:
                self._pass_over(separator.end())
        for _ in range(rule.skip_lines or 0):
            self._skip_line()
        if rule.skip_lines is None and not rule.columns:
            whole = self._ended and len(self._buffer) <= HEAD_BYTES
            head = self._buffer[:HEAD_BYTES]
            self._pass_over(header_at(self._grammar, head, rule, ended=whole, line=self._line, top=top))

    def _pass_over(self, end: int) -> None:
        """Drop lines that are no rows; all but the blank ones count as skipped."""
        self.lines_skipped += sum(bool(line.strip()) for line in self._buffer[:end].splitlines())
        self._drop(end)

    def _skip_line(self) -> None:
        while (end := self._grammar.end_of_first_line(self._buffer, ended=self._ended)) is None and not self._ended:
            self._grammar.require_short(self._buffer, 0, len(self._buffer), self._line)
            self._fill()
        self._pass_over(len(self._buffer) if end is None else end)

    def _first_record(self) -> tuple[Record | None, int]:
        """The first record that is not blank, and the number of its first line."""
        while True:
            record = self._grammar.first(self._buffer, ended=self._ended, most=self._max_columns, line=self._line)
            if record is not None:
                line = self._line + count_lines(self._buffer[: record.start])
                self._drop(record.end)
                if record.wrong is not None or not record.blank:
                    return record, line
            if self._ended:
                return None, self._line
            self._fill()

    def blocks(self, base: int = 0, needed: Sequence[int] = ()) -> Iterator[RecordBlock]:
        """All records after the header.

        Args:
            base: How many records there are before them, in other texts of the file.
            needed: See `RowShape`.

        Raises:
            QuarantineError: The bytes are not valid in the encoding, or a record is longer than MAX_RECORD_BYTES. Rule
                `trailer`: the trailer is missing, or tells another number of rows than there are. Rule `cut_off`: the
                last line has no line end, and should have one.
        """
        shape = RowShape(self._trailing, self._fill_rows, tuple(needed))
        cutter = Cutter(self._grammar, self._header, raw=self._raw, dialect=self._dialect, shape=shape)
        rows = 0
        waiting: deque[Future[Cut] | Cut] = deque()
        for block in self._split(cutter):
            waiting.append(self._pool.submit(cutter.cut, block) if self._pool else cutter.cut(block))
            if len(waiting) >= (_AHEAD if self._pool else 1):
                done = _numbered(waiting.popleft(), base)
                base += done.records
                rows += done.parsed
                yield done
        while waiting:
            done = _numbered(waiting.popleft(), base)
            base += done.records
            rows += done.parsed
            yield done
        if self._final_newline and self._in_line:
            raise QuarantineError(
                f"line {self._line} has no line end: the file was cut off",
                rule="cut_off",
                hint="ask the vendor for the whole file; if this is all, ordertrail release loads it",
            )
        if self._trailer is not None:
            self._trailer.judge(rows)

    def _split(self, cutter: Cutter) -> Iterator[Block]:
        """Blocks that end where a record ends."""
        while True:
            self._fill()
            trailer = b""
            if self._trailer is not None:
                end = self._trailer.begins_at(self._buffer, self._dialect, ended=self._ended)
                self._buffer, trailer = self._buffer[:end], self._buffer[end:]
            block = cutter.block(self._buffer, self._line, ended=self._ended)
            if block is not None:
                self._drop(len(block.data), block.lines)
                yield block
            self._buffer += trailer
            if self._ended:
                self._pass_over(len(self._buffer))
                return

    def _drop(self, end: int, lines: int | None = None) -> None:
        """Drop the first bytes, with so many line ends."""
        if end:
            self._line += count_lines(self._buffer[:end]) if lines is None else lines
            self._in_line = self._buffer[end - 1] not in b"\r\n"
            self._buffer = self._buffer[end:]

    def _fill(self) -> None:
        """Read at least a chunk, and at least as much as is buffered, so that each rescan covers twice the bytes."""
        wanted = max(len(self._buffer), 1)
        parts = [self._buffer]
        while wanted > 0 and not self._ended:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            parts.append(without_nul(chunk, parts, self._line))
            wanted -= len(chunk)
        self._buffer = b"".join(parts)


def _numbered(job: Future[Cut] | Cut, base: int) -> RecordBlock:
    found = job.result() if isinstance(job, Future) else job
    broken = found.broken and replace(found.broken, numbers=found.broken.numbers + (base + 1))
    rows = found.index + (base + 1)
    return RecordBlock(found.cells, rows, found.raw, found.lines, broken, found.records, found.skipped, found.swallowed)
