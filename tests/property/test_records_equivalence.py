"""Three cutters, one grammar: whatever the bytes and wherever the chunks end, the same records come out."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordertrail.parse import grammar, records
from ordertrail.parse.cutter import Cutter
from ordertrail.parse.grammar import Grammar
from ordertrail.parse.records import RecordReader, Written

pytestmark = pytest.mark.property

TOKENS = (
    "a",
    "1",
    ",",
    ",",
    "\n",
    "\n",
    '"',
    '""',
    "\r\n",
    "\r",
    " ",
    "é",
    "x,y\n",
    '"q,\n",z\n',
    '"a"",b",2\n',
    '5" ',
)
SETTINGS = (Written(), Written(newlines=False), Written(fill=True), Written(newlines=False, fill=True))
texts = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)
# Cells that any writer of CSV can write; an empty row of one cell is a blank line, so there are always two.
cells = st.text(st.sampled_from('ab ,;"\n\r\té'), max_size=6)
tables = st.lists(st.tuples(cells, cells), max_size=8)


@dataclass(frozen=True, slots=True)
class Found:
    header: tuple[str, ...] | None
    rows: list[tuple[object, ...]]
    raw: list[tuple[int, int, str]]
    broken: list[tuple[object, ...]]
    records: int
    skipped: int = 0
    swallowed: tuple[int, int] = (0, 0)


def read(
    data: bytes,
    chunk_bytes: int = 1 << 20,
    *,
    fast: bool = True,
    slow: bool = False,
    written: Written | None = None,
    needed: tuple[int, ...] = (),
) -> Found:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK_BYTES", chunk_bytes)
        if not fast:
            patch.setattr(Grammar, "plain_end", _never)
        if slow:
            patch.setattr(Cutter, "_cut_plain", _never)
        reader = RecordReader(io.BytesIO(data), written, raw=True)
        header = reader.header()
        found = Found(header, [], [], [], 0)
        if header is None:
            return found
        count, skipped, swallowed = 0, 0, (0, 0)
        for block in reader.blocks(needed=needed):
            count += block.records
            skipped += block.skipped
            if block.swallowed is not None:
                swallowed = swallowed[0] or block.swallowed.line, swallowed[1] + block.swallowed.lines
            numbers = block.rows.tolist()
            columns = [column.to_pylist() for column in block.cells.columns]
            found.rows.extend((n, *row) for n, row in zip(numbers, zip(*columns, strict=True), strict=True))
            assert block.raw is not None
            assert block.lines is not None
            texts = (text.strip("\r\n") for text in block.raw.to_pylist())
            found.raw.extend(zip(numbers, block.lines.tolist(), texts, strict=True))
            found.broken.extend((b.file_row, b.file_line, b.rule, b.raw, b.reason) for b in block.rejects())
        return Found(header, found.rows, found.raw, found.broken, count, skipped, swallowed)


def _never(*_: object, **__: object) -> None:
    return None


@given(
    texts,
    st.integers(1, 12),
    st.sampled_from(SETTINGS),
    st.sampled_from((b"h,i\n", b"h,i,j\n", b"h\n")),
    st.sampled_from((1 << 20, 1 << 20, 5, 9)),
)
def test_fast_and_careful_agree_and_chunks_do_not_matter(
    text: str, chunk_bytes: int, written: Written, header: bytes, most_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar, "MAX_CELL_BYTES", most_bytes)
        _all_agree(header + text.encode(), chunk_bytes, written)


def _all_agree(data: bytes, chunk_bytes: int, written: Written) -> None:
    whole = read(data, written=written)
    assert read(data, fast=False, slow=True, written=written) == whole
    assert read(data, fast=False, written=written) == whole
    assert read(data, chunk_bytes, written=written) == whole
    assert read(data, chunk_bytes, fast=False, written=written) == whole


@given(texts, st.integers(1, 12))
def test_records_that_go_on_with_the_one_before_are_no_rows(text: str, chunk_bytes: int) -> None:
    data = b"h,i\n" + text.encode()
    found, every = read(data, chunk_bytes, needed=(1,)), read(data)
    assert read(data, chunk_bytes, fast=False, needed=(1,)) == found
    assert found.rows == [row for row in every.rows if row[2] is not None]
    assert (found.broken, found.records) == (every.broken, every.records)
    assert found.skipped - every.skipped == len(every.rows) - len(found.rows)


@given(st.lists(st.sampled_from(("a", "é", "€", " ", " ", "  ", "ab", '"', "\n", "\r\n", "\r"))), st.integers(1, 12))
def test_lines_of_fixed_width_are_sliced_by_their_characters(tokens: list[str], chunk_bytes: int) -> None:
    text = "".join(tokens)
    written = Written(widths=(2, 3, 1))
    found = read(b"h i  j\n" + text.encode(), chunk_bytes, written=written)
    assert read(b"h i  j\n" + text.encode(), fast=False, written=written) == found
    rows, bad = [], 0
    for line in re.split("\r\n|\r|\n", text):
        cells = tuple(line[a:b].strip() or None for a, b in ((0, 2), (2, 5), (5, 6)))
        if line.strip() and (len(line) < 5 or line[6:].strip()):
            bad += 1
        elif line.strip() and cells != ("h", "i", "j"):
            rows.append(cells)
    assert [row[1:] for row in found.rows] == rows
    assert {one[3] for one in found.broken} <= set(re.split("\r\n|\r|\n", text))
    assert len(found.broken) == bad
    assert all(line in re.split("\r\n|\r|\n", text) for *_, line in found.raw)


@given(texts)
def test_without_line_ends_in_cells_every_written_line_is_a_record(text: str) -> None:
    found = read(b"h,i\n" + text.encode(), written=Written(newlines=False))
    lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip(" ")]
    blank = sum(not line.strip(' "') for line in lines)  # an empty cell in quotes may be a blank line
    assert len(lines) - blank <= found.records <= len(lines)


@given(texts)
def test_every_record_has_one_number_and_one_end(text: str) -> None:
    found = read(b"h,i\n" + text.encode())
    numbers = sorted([row[0] for row in found.rows] + [broken[0] for broken in found.broken], key=str)
    assert len(set(numbers)) == len(numbers) == found.records - found.skipped
    assert set(numbers) <= set(range(1, found.records + 1))


@given(texts, st.integers(1, 12))
def test_a_record_begins_in_the_line_that_it_says(text: str, chunk_bytes: int) -> None:
    data = b"\nh,i\r" + text.encode()
    lines = re.split("\r\n|\r|\n", data.decode())
    found = read(data, chunk_bytes)
    begun = [(line, raw) for _, line, raw in found.raw] + [(line, raw) for _, line, _, raw, _ in found.broken]
    for line, raw in begun:
        assert lines[line - 1].startswith(re.split("\r\n|\r|\n", raw)[0])
    assert len({line for line, _ in begun}) == len(begun), "no two records begin in one line"


# With another line end `csv` leaves a lone `\r` unquoted, which the same module then refuses to read.
WAYS = (("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL))


@given(tables, st.sampled_from(WAYS))
def test_what_the_standard_library_writes_is_read_back(rows: list[tuple[str, str]], way: tuple[str, int]) -> None:
    line_end, quoting = way
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=line_end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([("h", "i"), *rows])
    found = read(out.getvalue().encode(), 16)
    assert found.broken == []
    rows = [row for row in rows if any(row) and row != ("h", "i")]
    assert [row[1:] for row in found.rows] == [(a or None, b or None) for a, b in rows]
    strict = csv.reader(io.StringIO(out.getvalue(), newline=""), strict=True)
    written = [(a or None, b or None) for a, b in strict if (a or b) and (a, b) != ("h", "i")]
    assert written == [row[1:] for row in found.rows]
