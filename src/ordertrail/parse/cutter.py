"""Cut blocks of whole records into columns of text, by the fastest way that their bytes allow.

Arrow's CSV reader gets a block once it is proved that the block is plain (see `grammar`) and that every record has as
many cells as the header. Records that have not are found by counting and removed, and Arrow gets the rest. Only a block
that is not plain is cut record by record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from ordertrail.model import Reject
from ordertrail.parse.encoding import physical_ends, utf8_text
from ordertrail.parse.grammar import Grammar, Quotes, Scan, line_ends, outside, with_line_feeds
from ordertrail.rules.bounds import MAX_RAW_CHARS, cut

_BLANK = np.zeros(256, dtype=bool)
_BLANK[list(b" \t\n\r\x0b\x0c")] = True


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records of a file.

    Attributes:
        data: Their bytes; a record begins at the first one.
        quotes: Offsets of its quotes if it is plain; else None.
        scan: What the careful cutter found in it if it is not plain; else None.
        line: Number of its first line, for messages.
    """

    data: bytes
    quotes: Quotes | None
    scan: Scan | None
    line: int


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why a record is not a row: the stable name of the rule, and the reason in plain words."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Records that are not rows, in order.

    Attributes:
        numbers: The number of each among the records, int64.
        raw: The text of each, line end included; long texts are cut.
        lines: The number of the first line of each in the file, int64.
        kinds: The different reasons.
        kind: For each its index into `kinds`, int64.
    """

    numbers: NDArray[np.int64]
    raw: pa.StringArray
    lines: NDArray[np.int64]
    kinds: tuple[Wrong, ...]
    kind: NDArray[np.int64]

    def rejects(self) -> Iterator[Reject]:
        """These records as rejects."""
        columns = self.numbers.tolist(), self.raw.to_pylist(), self.kind.tolist(), self.lines.tolist()
        for number, raw, kind, line in zip(*columns, strict=True):
            wrong = self.kinds[kind]
            yield Reject(number, None, None, wrong.rule, wrong.reason, raw.rstrip("\r\n"), line)


@dataclass(frozen=True, slots=True)
class Cut:
    """The result of cutting one block.

    Attributes:
        cells: One text column a header cell, NULL for an empty cell.
        index: The number of each row of `cells` among the block's records, 0 = first.
        raw: The text of each row of `cells`, line end included; None unless it was asked for.
        lines: The number of the first line of each row of `cells` in the file, int64; None when `raw` is None.
        broken: The records that are not rows; None when there are none, or `raw` was not asked for.
        records: Number of records, good and broken.
    """

    cells: pa.RecordBatch
    index: NDArray[np.int64]
    raw: pa.StringArray | None
    lines: NDArray[np.int64] | None
    broken: Broken | None
    records: int


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a plain text, blank ones included, each with its line end.

    Attributes:
        starts: Offsets of their first bytes.
        stops: Offsets of their line ends, or of the end of the text.
        ends: Offsets just after their line ends.
        counts: How many cells each has.
        blank: Which of them are blank, and so not records.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    blank: NDArray[np.bool_]

    def only(self, data: bytes, wanted: NDArray[np.bool_]) -> bytes:
        """The text of the wanted lines only."""
        return np.frombuffer(data, dtype=np.uint8)[np.repeat(wanted, self.ends - self.starts)].tobytes()


class Cutter:
    """Cuts blocks of one width.

    Args:
        grammar: The file's grammar.
        width: How many cells a record must have: as many as the header.
        raw: Whether to return the text of the records too, and to say what is wrong with broken ones.
    """

    def __init__(self, grammar: Grammar, width: int, *, raw: bool) -> None:
        self._grammar = grammar
        self._width = width
        self._raw = raw
        self._names = [f"c{i}" for i in range(width)]

    def block(self, data: bytes, line: int, *, ended: bool) -> Block | None:
        """The complete records at the beginning of some bytes; None when there is none yet.

        Args:
            data: Begins at the start of a record.
            line: Number of its first line.
            ended: Whether the file ends with `data`, so that all of it is complete.

        Raises:
            QuarantineError: A record is longer than allowed.
        """
        plain = self._grammar.plain_end(data, ended=ended, line=line)
        if plain is not None:
            end, quotes = plain
            return Block(data[:end], quotes, None, line) if end else None
        scan = self._grammar.scan(data, ended=ended, width=self._width, line=line)
        return Block(data[: scan.end], None, scan, line) if scan.end else None

    def cut(self, block: Block) -> Cut:
        """Cut one block.

        Raises:
            QuarantineError: Its bytes are not valid UTF-8.
        """
        if block.quotes is not None:
            found = self._cut_plain(block, block.quotes)
            if found is not None:
                return found
        scan = block.scan or self._grammar.scan(block.data, ended=True, width=self._width, line=block.line)
        return self._cut_carefully(block, scan)

    # -- plain blocks ---------------------------------------------------------------------------------------

    def _cut_plain(self, block: Block, quotes: Quotes) -> Cut | None:
        data = with_line_feeds(block.data, quotes)
        cells = self._cut_fast(data, block)
        if cells is None:
            return self._cut_ragged(data, quotes, block)
        text = _raw_records(data, quotes) if self._raw else None
        if text is not None and len(text) != cells.num_rows:
            return None
        lines = None if text is None else _lines_at(block, _starts(text))
        return Cut(cells, np.arange(cells.num_rows, dtype=np.int64), text, lines, None, cells.num_rows)

    def _cut_ragged(self, data: bytes, quotes: Quotes, block: Block) -> Cut | None:
        """Remove the records with a wrong number of cells, and cut the others the fast way."""
        lines = self._lines(data, quotes)
        if lines is None:
            return None
        numbers = np.cumsum(~lines.blank) - 1
        good = ~lines.blank & (lines.counts == self._width)
        kept = lines.only(data, good)
        cells = self._cut_fast(kept, block) if kept else self._nothing()
        if cells is None or cells.num_rows != np.count_nonzero(good):
            return None
        text: pa.StringArray | None = None
        places: NDArray[np.int64] | None = None
        broken: Broken | None = None
        if self._raw:
            places = _lines_at(block, lines.starts[good])
            text = _raw_records(kept, self._grammar.quotes(kept))
            if len(text) != cells.num_rows:
                return None
            wrong = ~lines.blank & ~good
            lengths = (lines.ends - lines.starts)[wrong]
            counts, kind = np.unique(lines.counts[wrong], return_inverse=True)
            kinds = tuple(self._wrong(count) for count in counts.tolist())
            texts = _cut_texts(lines.only(data, wrong), lengths)
            broken = Broken(numbers[wrong], texts, _lines_at(block, lines.starts[wrong]), kinds, kind)
        return Cut(cells, numbers[good], text, places, broken, int(np.count_nonzero(~lines.blank)))

    def _lines(self, data: bytes, quotes: Quotes) -> _Lines | None:
        """The lines of a plain text; None when a quote makes it hard to tell whether one of them is blank."""
        feeds = line_ends(data, quotes)
        starts = np.concatenate(([0], feeds + 1))
        stops = np.concatenate((feeds, [len(data)]))
        delimiters = outside(self._grammar.delimiters(data), quotes)
        counts = np.searchsorted(delimiters, stops) - np.searchsorted(delimiters, starts) + 1
        seen = np.concatenate(([0], np.cumsum(~_BLANK[np.frombuffer(data, dtype=np.uint8)])))
        blank = (counts == 1) & (seen[stops] == seen[starts])
        quoted = np.searchsorted(quotes, stops) > np.searchsorted(quotes, starts)
        if self._width == 1 or np.any(quoted & (counts == 1)):
            return None
        return _Lines(starts, stops, np.minimum(stops + 1, len(data)), counts, blank)

    def _cut_fast(self, data: bytes, block: Block) -> pa.RecordBatch | None:
        options = pacsv.ParseOptions(
            delimiter=self._grammar.delimiter,
            quote_char=self._grammar.quote,
            double_quote=True,
            newlines_in_values=True,
            ignore_empty_lines=True,
        )
        try:
            table = pacsv.read_csv(
                pa.BufferReader(pa.py_buffer(data)),
                read_options=pacsv.ReadOptions(column_names=self._names, block_size=len(data) + 1, use_threads=False),
                parse_options=options,
                convert_options=_convert_options(self._names, check_utf8=not data.isascii()),
            )
        except pa.ArrowInvalid:
            utf8_text(block.data, block.line)  # raises if the bytes are at fault
            return None
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else self._nothing()

    # -- all others -----------------------------------------------------------------------------------------

    def _cut_carefully(self, block: Block, scan: Scan) -> Cut:
        data = block.data
        utf8_text(data, block.line)
        cells = [pa.array(column, pa.string()) for column in scan.columns]
        raw: pa.StringArray | None = None
        lines: NDArray[np.int64] | None = None
        broken: Broken | None = None
        if self._raw:
            raw = pa.array([data[start:end] for _, start, end in scan.good], pa.string())
            lines = _lines_at(block, np.array([start for _, start, _ in scan.good], dtype=np.int64))
            broken = self._broken(block, scan)
        return Cut(
            pa.RecordBatch.from_arrays(cells, names=self._names),
            np.array([number for number, _, _ in scan.good], dtype=np.int64),
            raw,
            lines,
            broken,
            scan.records,
        )

    def _broken(self, block: Block, scan: Scan) -> Broken:
        kinds: dict[Wrong, int] = {}
        kind = [
            kinds.setdefault(
                self._wrong(wrong),
                len(kinds),
            )
            for *_, wrong in scan.broken
        ]
        texts = [block.data[start:end] for _, start, end, _ in scan.broken]
        return Broken(
            np.array([number for number, *_ in scan.broken], dtype=np.int64),
            _cut_texts(b"".join(texts), np.array([len(text) for text in texts], dtype=np.int64)),
            _lines_at(block, np.array([start for _, start, _, _ in scan.broken], dtype=np.int64)),
            tuple(kinds),
            np.array(kind, dtype=np.int64),
        )

    def _wrong(self, what: str | int) -> Wrong:
        """The reason for an element of `Scan.broken`."""
        if isinstance(what, int):
            return Wrong(rule="ragged", reason=f"the row has {what} cells, the header has {self._width}")
        return Wrong(rule="quote", reason=f"{what}: close it or double it")

    def _nothing(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * self._width, names=self._names)


def _lines_at(block: Block, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers in the file of the lines that begin at some offsets of a block; quoted line ends count too."""
    return np.searchsorted(physical_ends(block.data), starts) + block.line


def _starts(texts: pa.StringArray) -> NDArray[np.int64]:
    """Offsets of texts in the buffer that holds them."""
    return np.frombuffer(texts.buffers()[1], dtype=np.int32)[: len(texts)].astype(np.int64)


def _raw_records(block: bytes, quotes: Quotes) -> pa.StringArray:
    """The records of a plain block as text, without a copy; blank lines stay at the end of the record before them."""
    feeds = line_ends(block, quotes)
    starts = np.concatenate(([0], feeds + 1))
    stops = np.concatenate((feeds, [len(block)]))
    octets = np.frombuffer(block + b"\n", dtype=np.uint8)
    blank = (stops <= starts) | ((stops == starts + 1) & (octets[starts] == ord("\r")))
    offsets = np.concatenate((starts[~blank], [len(block)])).astype(np.int32)
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(block))


def _cut_texts(joined: bytes, lengths: NDArray[np.int64]) -> pa.StringArray:
    """Split joined texts in UTF-8; long ones are cut.

    Args:
        joined: All texts, one after the other.
        lengths: The length of each in bytes.
    """
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    texts = pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(joined))
    if len(lengths) and int(lengths.max()) > MAX_RAW_CHARS:
        texts = pa.array([cut(text.rstrip("\r\n"), MAX_RAW_CHARS) for text in texts.to_pylist()], pa.string())
    return texts


def _convert_options(names: list[str], *, check_utf8: bool) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        check_utf8=check_utf8,
    )
