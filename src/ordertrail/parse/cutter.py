"""Cut blocks of whole records into columns of text, by the fastest way that their bytes allow.

Arrow's CSV reader gets a block once it is proved that the block is plain (see `grammar`) and that every record has as
many cells as the header. Where its quotes are not plain, its malformed lines are found first (see `quoting`). They are
removed, like the records with a wrong number of cells, and Arrow gets the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from ordertrail.parse.blocks import Block, Broken, Cut, Wrong
from ordertrail.parse.encoding import count_lines, physical_ends, utf8_text
from ordertrail.parse.grammar import Grammar, Quotes, Scan, ends_of_cells, line_ends, outside, with_line_feeds
from ordertrail.parse.quoting import MISQUOTED, judged
from ordertrail.parse.swallowing import Swallowed, swallowed
from ordertrail.parse.tidying import all_empty, equal_rows, kept, merged, unmarked, unpadded
from ordertrail.rules.bounds import MAX_RAW_CHARS, cut
from ordertrail.rules.dialects import NO_QUOTE, Dialect

_BLANK = np.zeros(256, dtype=bool)
_BLANK[list(b" \t\n\r\x0b\x0c")] = True


class _Lines(Struct, frozen=True):
    """The lines of a text, blank ones included, each with its line end.

    Attributes:
        starts: Offsets of their first bytes.
        stops: Offsets of their line ends, or of the end of the text.
        ends: Offsets just after their line ends.
        counts: How many cells each has; of malformed lines a negative number, which tells the kind.
        blank: Which of them are blank, and so not records.
        nothing: Which of them hold nothing but delimiters.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    blank: NDArray[np.bool_]
    nothing: NDArray[np.bool_]

    def only(self, data: bytes, wanted: NDArray[np.bool_]) -> bytes:
        """The text of the wanted lines only."""
        edges = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False]))))
        spans = zip(self.starts[edges[0::2]].tolist(), self.ends[edges[1::2] - 1].tolist(), strict=True)
        return b"".join([data[start:end] for start, end in spans])


class RowShape(Struct, frozen=True):
    """What a vendor's rows may look like, beside one cell for each of the header's.

    Attributes:
        trailing: Whether every record ends with a delimiter, and so has an empty cell more.
        fill: Whether cells that a record lacks at its end are empty; else it is ragged.
        needed: Places of cells; a record in which all of them are empty goes on with the record before, and is no row.
            Empty where no record does.
    """

    trailing: bool = False
    fill: bool = False
    needed: tuple[int, ...] = ()


class Cutter:
    """Cuts blocks of one width.

    Args:
        grammar: The file's grammar.
        header: The cells of the header as they stand in the file: a record must have as many, and one that is equal
            to it is no row.
        raw: Whether to return the text of the records too, and to say what is wrong with broken ones.
        dialect: Whose marks are in the blocks.
        shape: What rows may look like.
    """

    def __init__(
        self,
        grammar: Grammar,
        header: Sequence[str],
        *,
        raw: bool,
        dialect: Dialect | None = None,
        shape: RowShape | None = None,
    ) -> None:
        self._grammar = grammar
        self._header = tuple(header)
        self._shape = shape or RowShape()
        self._trailing = self._shape.trailing
        self._width = len(header) + self._trailing
        self._raw = raw
        self._dialect = dialect if dialect is not None and dialect.marks else None
        self._names = [f"c{i}" for i in range(self._width)]

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
            whole = data[:end]
            return Block(whole, quotes, line, lines=count_lines(whole)) if end else None
        found = judged(data, self._grammar, ended=ended, line=line)
        if not found.end:
            return None
        whole = data[: found.end]
        return Block(whole, found.quotes, line, found.wrong, found.kinds, count_lines(whole))

    def cut(self, block: Block) -> Cut:
        """Cut one block.

        Raises:
            QuarantineError: Its bytes are not valid UTF-8.
        """
        found = self._cut_plain(block)
        if found is None:
            found = self._cut_carefully(block)
        if self._dialect is not None and self._dialect.widths:
            found = unpadded(found)
        inner = self._swallowed(block, found.records)
        if self._dialect is not None:
            found = unmarked(found, block.data, self._dialect)
        found = self._with_rows_only(found)
        return found if inner is None else replace(found, swallowed=inner)

    def _swallowed(self, block: Block, records: int) -> Swallowed | None:
        """Lines inside of cells that look like records, where there are more lines than records."""
        data, quotes = block.data, block.quotes
        if not len(quotes) or block.lines <= records:
            return None
        starts = np.concatenate(([0], line_ends(with_line_feeds(data, quotes), quotes) + 1))
        return swallowed(data, starts, self._grammar.delimiter, self._width, block.line)

    def _with_rows_only(self, found: Cut) -> Cut:
        """Without the records that are no rows, and without the cell behind a trailing delimiter."""
        cells = found.cells
        if self._trailing:
            found = self._without_last(found)
            cells = found.cells
        outs = [out for out in (all_empty(cells), equal_rows(cells, self._header)) if out is not None]
        if self._shape.needed and (out := all_empty(cells.select(list(self._shape.needed)))) is not None:
            outs.append(out)
        if not outs:
            return found
        out = np.logical_or.reduce(outs)
        return kept(found, ~out, int(np.count_nonzero(out)))

    def _without_last(self, found: Cut) -> Cut:
        """The cells without the last one; a record in which that is not empty is ragged."""
        last = found.cells.column(self._width - 1)
        if last.null_count == len(last):
            return replace(found, cells=found.cells.select(self._names[:-1]))
        wrong = np.asarray(last.is_valid())
        broken = found.broken
        if found.raw is not None and found.lines is not None:
            kind = Wrong("ragged", self._ragged(self._width))
            places = np.flatnonzero(wrong)
            texts = [cut(text.rstrip("\r\n"), MAX_RAW_CHARS) for text in found.raw.take(pa.array(places)).to_pylist()]
            more = Broken(
                found.index[places],
                pa.array(texts, pa.string()),
                found.lines[places],
                (kind,),
                np.zeros(len(places), dtype=np.int64),
            )
            broken = more if broken is None else merged(broken, more)
        rest = kept(replace(found, broken=broken), ~wrong, 0)
        return replace(rest, cells=rest.cells.select(self._names[:-1]))

    def _ragged(self, count: int) -> str:
        if self._dialect is not None and self._dialect.widths:
            return self._wrong_width(count, self._dialect.widths)
        if self._trailing and count == len(self._header):
            return "the row lacks a cell, or the delimiter at its end that the other rows have"
        reason = f"the row has {count} {'cell' if count == 1 else 'cells'}, the header has {len(self._header)}"
        if count > len(self._header):
            return reason
        return f'{reason}; if it only lacks empty cells at its end, write short_rows = "fill" for the vendor'

    def _wrong_width(self, count: int, widths: Sequence[int]) -> str:
        if count > len(widths):
            return f"the line is longer than the {sum(widths)} characters of widths"
        return (
            f"the line ends before column {count + 1} of {len(widths)} begins; if it only lacks blanks at its end, "
            'write short_rows = "fill" for the vendor'
        )

    # -- plain blocks ---------------------------------------------------------------------------------------

    def _cut_plain(self, block: Block) -> Cut | None:
        """The block as Arrow cuts it; None when Arrow does not find the records that the grammar has."""
        quotes = block.quotes
        data = with_line_feeds(block.data, quotes)
        cells = None
        if block.wrong is None and self._width > 1:  # Arrow would make a row of a single blank cell
            cells = self._cut_fast(data, block)
        else:
            utf8_text(block.data, block.line)  # Arrow does not see the malformed lines
        if cells is None:
            return self._cut_ragged(data, quotes, block)
        text = _raw_records(data, quotes) if self._raw else None
        if text is not None and len(text) != cells.num_rows:
            return None
        lines = None if text is None else _lines_at(block, _starts(text))
        return Cut(cells, np.arange(cells.num_rows, dtype=np.int64), text, lines, None, cells.num_rows)

    def _cut_ragged(self, data: bytes, quotes: Quotes, block: Block) -> Cut | None:
        """Remove malformed lines and records with a wrong number of cells, and cut the others the fast way."""
        lines = self._lines(data, quotes, block)
        numbers = np.cumsum(~lines.blank) - 1
        good = ~lines.blank & (lines.counts == self._width)
        if self._shape.fill:
            good |= ~lines.blank & (lines.counts > 0) & (lines.counts < self._width)
        text_kept = lines.only(data, good)
        filled = self._filled(text_kept, lines, good)
        cells = self._cut_fast(filled, block) if filled else self._nothing()
        if cells is None or cells.num_rows != np.count_nonzero(good):
            return None
        text: pa.StringArray | None = None
        places: NDArray[np.int64] | None = None
        broken: Broken | None = None
        if self._raw:
            places = _lines_at(block, lines.starts[good])
            text = _split_texts(text_kept, (lines.ends - lines.starts)[good])
            wrong = ~lines.blank & ~good & ~lines.nothing
            lengths = (lines.ends - lines.starts)[wrong]
            counts, kind = np.unique(lines.counts[wrong], return_inverse=True)
            kinds = tuple(self._wrong(count) for count in counts.tolist())
            texts = _cut_texts(lines.only(data, wrong), lengths)
            broken = Broken(numbers[wrong], texts, _lines_at(block, lines.starts[wrong]), kinds, kind)
        skipped = int(np.count_nonzero(lines.nothing & ~good))
        return Cut(cells, numbers[good], text, places, broken, int(np.count_nonzero(~lines.blank)), skipped)

    def _filled(self, data: bytes, lines: _Lines, kept_lines: NDArray[np.bool_]) -> bytes:
        """The text of some lines, with a delimiter for each cell that they lack."""
        missing = self._width - lines.counts[kept_lines]
        if not missing.any():
            return data
        lengths, ends = (lines.ends - lines.starts)[kept_lines], (lines.ends - lines.stops)[kept_lines]
        octets = np.frombuffer(data, dtype=np.uint8)
        stops = np.cumsum(lengths) - ends
        stops -= octets[np.maximum(stops - 1, 0)] == ord("\r")
        return np.insert(octets, np.repeat(stops, missing), ord(self._grammar.delimiter)).tobytes()

    def _lines(self, data: bytes, quotes: Quotes, block: Block) -> _Lines:
        """The lines of a text; malformed ones have a negative number of cells, that of their kind."""
        feeds = line_ends(data, quotes)
        starts = np.concatenate(([0], feeds + 1))
        stops = np.concatenate((feeds, [len(data)]))
        delimiters = outside(self._grammar.delimiters(data), quotes)
        counts = np.searchsorted(delimiters, stops) - np.searchsorted(delimiters, starts) + 1
        if block.wrong is not None and block.kinds is not None:
            counts[np.searchsorted(starts, block.wrong)] = -1 - block.kinds
        ends = np.minimum(stops + 1, len(data))
        octets = np.frombuffer(data, dtype=np.uint8)
        other_bytes = stops - starts - (counts - 1)
        nothing = (counts > 1) & (other_bytes <= 1)
        nothing[nothing] = (other_bytes[nothing] == 0) | (octets[stops[nothing] - 1] == ord("\r"))
        blank = (counts == 1) & (stops == starts)
        single = np.flatnonzero((counts == 1) & ~blank)
        if len(single):
            of_cells = ~_BLANK[octets]
            of_cells[ends_of_cells(quotes)] = False
            seen = np.concatenate(([0], np.cumsum(of_cells)))
            blank[single] = seen[stops[single]] == seen[starts[single]]
        return _Lines(starts, stops, ends, counts, blank, nothing)

    def _cut_fast(self, data: bytes, block: Block) -> pa.RecordBatch | None:
        options = pacsv.ParseOptions(
            delimiter=self._grammar.delimiter,
            quote_char=False if self._grammar.quote == NO_QUOTE else self._grammar.quote,
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

    # -- record by record, should Arrow ever disagree ----------------------------------------------------------

    def _cut_carefully(self, block: Block) -> Cut:
        data = block.data
        scan = self._grammar.scan(data, ended=True, width=self._width, line=block.line, fill=self._shape.fill)
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
            scan.nothing,
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
        """The reason for an element of `Scan.broken`, or a number of cells of `_Lines`."""
        if isinstance(what, int) and what < 0:
            what = MISQUOTED[-1 - what]
        if isinstance(what, int):
            return Wrong(rule="ragged", reason=self._ragged(what))
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


def _split_texts(joined: bytes, lengths: NDArray[np.int64]) -> pa.StringArray:
    """Split joined texts in UTF-8.

    Args:
        joined: All texts, one after the other.
        lengths: The length of each in bytes.
    """
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(joined))


def _cut_texts(joined: bytes, lengths: NDArray[np.int64]) -> pa.StringArray:
    """`_split_texts`; long ones are cut."""
    texts = _split_texts(joined, lengths)
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
