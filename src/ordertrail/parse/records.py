"""Read a file as numbered records: in blocks, in order, cut in parallel.

`grammar` defines a record, and `cutter` turns blocks of them into columns. Memory is bounded by the lengths of a block
and of a record, whatever the file contains.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ordertrail.errors import QuarantineError
from ordertrail.model import Reject
from ordertrail.parse.cutter import Block, Broken, Cut, Cutter
from ordertrail.parse.encoding import count_lines, utf8_chunks, utf8_text
from ordertrail.parse.grammar import Grammar, Record
from ordertrail.parse.preamble import header_at
from ordertrail.parse.unpacking import Readable
from ordertrail.rules.header_lines import HeaderRule

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


@dataclass(frozen=True, slots=True)
class RecordBlock:
    """Consecutive records of one file.

    Attributes:
        cells: One text column a header cell, NULL for an empty cell; shape (good records, header cells).
        rows: Record numbers of `cells`, int64, 1 = first after the header.
        raw: The text of each record of `cells`, line end included; None unless it was asked for.
        lines: The number of the first line of each record of `cells` in the file, int64; None when `raw` is None.
        broken: Records that are not rows, ragged or misquoted; None when there are none, or `raw` was not asked for.
        records: Number of records, good and broken.
    """

    cells: pa.RecordBatch
    rows: NDArray[np.int64]
    raw: pa.StringArray | None
    lines: NDArray[np.int64] | None
    broken: Broken | None
    records: int

    def rejects(self) -> Iterator[Reject]:
        """The records that are not rows, as rejects."""
        return iter(()) if self.broken is None else self.broken.rejects()


class RecordReader:
    """The records of one text, in blocks, in order.

    Args:
        stream: Positioned at the text's first byte; read once, to its end.
        delimiter: One ASCII character.
        quote: One ASCII character.
        encoding: As in `utf8_chunks`.
        pool: Cuts blocks in parallel; None cuts in the caller's thread.
        raw: Whether to return the text of every record, and the broken records.
        max_columns: A header with more cells quarantines the file.
        line: Number of the text's first line.
        rule: Tells the header from other lines; None takes the first record.
    """

    def __init__(
        self,
        stream: Readable,
        *,
        delimiter: str = ",",
        quote: str = '"',
        encoding: str | None = None,
        pool: Executor | None = None,
        raw: bool = False,
        max_columns: int = MAX_COLUMNS,
        line: int = 1,
        rule: HeaderRule | None = None,
    ) -> None:
        self._chunks = utf8_chunks(stream, encoding, CHUNK_BYTES)
        self._grammar = Grammar(delimiter, quote)
        self._pool = pool
        self._raw = raw
        self._max_columns = max_columns
        self._buffer = b""
        self._ended = False
        self._line = line
        self._in_line = False
        self._rule = rule
        self._head = b""

    @property
    def head(self) -> str:
        """The first lines of the text, once the header was read; for messages."""
        return self._head.decode("utf-8", "replace")

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
        return tuple(utf8_text(cell or b"", line).strip() for cell in record.cells)

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
        if separator := _SEPARATOR.match(self._buffer):
            self._grammar = Grammar(separator[1].decode("ascii"), self._grammar.quote)
            if not rule.skip_lines:
                self._drop(separator.end())
        for _ in range(rule.skip_lines or 0):
            self._skip_line()
        if rule.skip_lines is None and not rule.columns:
            whole = self._ended and len(self._buffer) <= HEAD_BYTES
            self._drop(header_at(self._grammar, self._buffer[:HEAD_BYTES], rule, ended=whole, line=self._line, top=top))

    def _skip_line(self) -> None:
        while (end := self._grammar.end_of_first_line(self._buffer, ended=self._ended)) is None and not self._ended:
            self._grammar.require_short(self._buffer, 0, len(self._buffer), self._line)
            self._fill()
        self._drop(len(self._buffer) if end is None else end)

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

    def blocks(self, width: int, base: int = 0) -> Iterator[RecordBlock]:
        """All records after the header.

        Args:
            width: Number of header cells.
            base: How many records there are before them, in other texts of the file.

        Raises:
            QuarantineError: The bytes are not valid in the encoding, or a record is longer than MAX_RECORD_BYTES.
        """
        cutter = Cutter(self._grammar, width, raw=self._raw)
        waiting: deque[Future[Cut] | Cut] = deque()
        for block in self._split(cutter):
            waiting.append(self._pool.submit(cutter.cut, block) if self._pool else cutter.cut(block))
            if len(waiting) >= (_AHEAD if self._pool else 1):
                done = _numbered(waiting.popleft(), base)
                base += done.records
                yield done
        while waiting:
            done = _numbered(waiting.popleft(), base)
            base += done.records
            yield done

    def _split(self, cutter: Cutter) -> Iterator[Block]:
        """Blocks that end where a record ends."""
        while True:
            self._fill()
            block = cutter.block(self._buffer, self._line, ended=self._ended)
            if block is not None:
                self._drop(len(block.data))
                yield block
            if self._ended:
                return

    def _drop(self, end: int) -> None:
        if end:
            self._line += count_lines(self._buffer[:end])
            self._in_line = self._buffer[end - 1] not in b"\r\n"
            self._buffer = self._buffer[end:]

    def _fill(self) -> None:
        """Read at least a chunk, and at least as much as is buffered, so that each rescan covers twice the bytes."""
        wanted = max(len(self._buffer), 1)
        parts = [self._buffer]
        while wanted > 0 and not self._ended:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            parts.append(chunk)
            wanted -= len(chunk)
        self._buffer = b"".join(parts)


def _numbered(job: Future[Cut] | Cut, base: int) -> RecordBlock:
    found = job.result() if isinstance(job, Future) else job
    broken = found.broken and replace(found.broken, numbers=found.broken.numbers + (base + 1))
    return RecordBlock(found.cells, found.index + (base + 1), found.raw, found.lines, broken, found.records)
