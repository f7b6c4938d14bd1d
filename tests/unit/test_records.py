"""Cutting records and cells: RFC 4180 and what files do instead."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.nasty_files import CONFIG, KINDS, PROFILES
from ordertrail.config import parse_config
from ordertrail.errors import QuarantineError
from ordertrail.model import Vendor
from ordertrail.parse import cutter, grammar, marking, quoting, records, trailer
from ordertrail.parse.reader import DeliveryReader
from ordertrail.parse.records import RecordReader, Written
from ordertrail.parse.trailer import Trailer
from ordertrail.parse.unpacking import members
from ordertrail.rules.dialects import Dialect, dialect_of
from tests.oracle import default_contract


def cut(
    data: bytes, *, delimiter: str = ",", quote: str = '"', encoding: str | None = None
) -> tuple[tuple[str, ...] | None, dict[int, tuple[str | None, ...]], dict[int, tuple[str, str]], int]:
    """The header, the rows by number, (rule, raw) of the broken ones by number, and how many records there are."""
    reader = RecordReader(io.BytesIO(data), Written(delimiter, quote, encoding=encoding), raw=True)
    header = reader.header()
    if header is None:
        return None, {}, {}, 0
    rows: dict[int, tuple[str | None, ...]] = {}
    broken: dict[int, tuple[str, str]] = {}
    count = 0
    for block in reader.blocks():
        count += block.records
        for index, number in enumerate(block.rows.tolist()):
            rows[number] = tuple(column[index].as_py() for column in block.cells.columns)
        broken |= {reject.file_row or 0: (reject.rule, reject.raw or "") for reject in block.rejects()}
    return header, rows, broken, count


def rows_of(body: str, **options: str) -> list[tuple[str | None, ...]]:
    """The rows below a header of two cells; none is broken."""
    header, rows, broken, count = cut(b"h,i\n" + body.encode(), **options)
    assert header == ("h", "i")
    assert not broken
    assert list(rows) == list(range(1, count + 1))
    return list(rows.values())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a,b\n", [("a", "b")]),
        ("a,b", [("a", "b")]),
        ("a,b\r\nc,d\r\n", [("a", "b"), ("c", "d")]),
        ("a,b\rc,d\r", [("a", "b"), ("c", "d")]),
        ("a,b\r\nc,d\re,f\ng,h", [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]),
        ("\n\na,b\n\r\n\r\n\nc,d\n\n", [("a", "b"), ("c", "d")]),
        ("   \na,b\n\t\n", [("a", "b")]),
        (" , \n", [(" ", " ")]),
        ('"a,b","c\nd"\n', [("a,b", "c\nd")]),
        ('"a\r\nb","c\rd"\r\n', [("a\r\nb", "c\rd")]),
        ('"a ""b"" c",""""\n', [('a "b" c', '"')]),
        ('12" pipe,say "hi"\n', [('12" pipe', 'say "hi"')]),
        (' "a",b\n', [(' "a"', "b")]),
        ("a\\,b\n", [("a\\", "b")]),
        ("a'b,'c\n", [("a'b", "'c")]),
        ("Zoë,📦\n", [("Zoë", "📦")]),
        ("a\u2028b,c\x0bd\x1ce\x85f\n", [("a\u2028b", "c\x0bd\x1ce\x85f")]),
        ('a,"b"', [("a", "b")]),
        ("NULL,NA\n", [("NULL", "NA")]),
        ("", []),
    ],
)
def test_rows(body: str, expected: list[tuple[str | None, ...]]) -> None:
    assert rows_of(body) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"\n\r\n  \n", None),
        (b"\xef\xbb\xbf", None),
        (b"a", ("a",)),
        (b"\xef\xbb\xbfa,b\n", ("a", "b")),
        (b"\n\n a ,\tb\r\n", ("a", "b")),
        (b'"a","b ""c""","d\ne"', ("a", 'b "c"', "d\ne")),
        (b"a,,b,\n", ("a", "", "b", "")),
        (b"a\rb", ("a",)),
        ("ü;ß".encode(), ("ü;ß",)),
    ],
)
def test_header(data: bytes, expected: tuple[str, ...] | None) -> None:
    assert cut(data)[0] == expected


@pytest.mark.parametrize("data", [b'"a,b\nc,d\n', b'"a"b,c\n', b'a,"b"c"\n', b"\n\n" + b'"'])
def test_a_header_that_cannot_be_read_is_a_quarantine(data: bytes) -> None:
    with pytest.raises(QuarantineError, match="header in line") as caught:
        cut(data)
    assert caught.value.rule == "header"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("a", "ragged"),
        ("a,b,c", "ragged"),
        ("a,b,", "ragged"),
        (",,x,,", "ragged"),
        ('"a"b,c', "quote"),
        ('a,"b" ', "quote"),
        ('"a""b,c', "quote"),
        ('a,"', "quote"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_broken_record_breaks_one_line_only(line: str, rule: str, line_end: str) -> None:
    text = line_end.join(["h,i", "1,2", line, "3,4", "5,6", ""])
    _, rows, broken, count = cut(text.encode())
    assert rows == {1: ("1", "2"), 3: ("3", "4"), 4: ("5", "6")}
    assert broken == {2: (rule, line)}
    assert count == 4


def test_reasons_say_what_is_wrong() -> None:
    reader = RecordReader(io.BytesIO(b'h,i\n"a"b,c\n"d,e\nf\n'), raw=True)
    assert reader.header() == ("h", "i")
    reasons = [reject.reason for block in reader.blocks() for reject in block.rejects()]
    assert reasons == [
        "text or a stray quote follows a quoted cell: close it or double it",
        "a quoted cell is never closed: close it or double it",
        (
            "the row has 1 cell, the header has 2; if it only lacks empty cells at its end, "
            'write short_rows = "fill" for the vendor'
        ),
    ]


def test_an_open_quote_takes_no_good_line_with_it_when_one_closes_it_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "MAX_CELL_BYTES", 16)
    body = 'a,"b\n' + "c,d\n" * 10 + 'e,"f"\n'
    _, rows, broken, count = cut(b"h,i\n" + body.encode())
    assert count == 12
    assert broken == {1: ("quote", 'a,"b')}
    assert rows[2] == ("c", "d")
    assert rows[12] == ("e", "f")


@pytest.mark.parametrize("chunk_bytes", [1, 7, 16, 64, 1 << 20])
@pytest.mark.parametrize("length", [13, 14, 15, 16, 17, 18])
def test_the_longest_quoted_cell_is_the_same_for_every_chunk_size(
    monkeypatch: pytest.MonkeyPatch, length: int, chunk_bytes: int
) -> None:
    monkeypatch.setattr(grammar, "MAX_CELL_BYTES", 16)
    monkeypatch.setattr(records, "CHUNK_BYTES", chunk_bytes)
    cell = "x" * (length - 2)
    _, rows, broken, count = cut(f'h,i\n"{cell}",1\n2,3\n'.encode())
    assert count == 2
    assert rows[2] == ("2", "3")
    # The opening and the closing quote lie less than MAX_CELL_BYTES apart.
    assert (1 in rows) == (length <= 16), (rows, broken)


def test_an_unquoted_cell_may_be_long() -> None:
    cell = "x" * (2 * grammar.MAX_CELL_BYTES)
    assert rows_of(f"{cell},1\n") == [(cell, "1")]


def test_a_line_without_an_end_is_a_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK_BYTES", 64)
    monkeypatch.setattr(grammar, "MAX_CELL_BYTES", 32)
    monkeypatch.setattr(grammar, "MAX_RECORD_BYTES", 1024)
    with pytest.raises(QuarantineError, match="record in line 3 is longer") as caught:
        cut(b"h,i\na,b\n" + b"x" * 5000)
    assert caught.value.rule == "line_length"


def test_a_carriage_return_at_the_end_of_a_chunk_may_be_half_a_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk_bytes in range(1, 12):
        monkeypatch.setattr(records, "CHUNK_BYTES", chunk_bytes)
        assert rows_of("a,b\r\n\r\nc,d\r\n") == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("delimiter", "quote"), [(";", '"'), ("\t", "'"), ("|", "'"), (":", "`"), ("^", "$"), (".", "*")]
)
def test_other_delimiters_and_quotes(delimiter: str, quote: str) -> None:
    text = f"h{delimiter}i\n{quote}a{delimiter}{quote}{quote}b{quote}{delimiter}c,d\ne{delimiter}f\n"
    header, rows, broken, _ = cut(text.encode(), delimiter=delimiter, quote=quote)
    assert header == ("h", "i")
    assert rows == {1: (f"a{delimiter}{quote}b", "c,d"), 2: ("e", "f")}
    assert broken == {}


def test_bad_bytes_are_named_by_line_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk_bytes in (5, 1 << 20):
        monkeypatch.setattr(records, "CHUNK_BYTES", chunk_bytes)
        for data in (b"h,i\na,b\nc,\xe9\n", b"h,i\na,b\n\xff\n", b"h,i\n\n\xff,1,2,3\n"):
            with pytest.raises(QuarantineError, match="line 3 is not utf-8: byte 0x") as caught:
                cut(data)
            assert caught.value.rule == "encoding"
        with pytest.raises(QuarantineError, match="line 1 is not utf-8"):
            cut(b"h,\xe9\na,b\n")


def test_records_cut_side_by_side_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK_BYTES", 50)
    data = b"h,i\n" + b"".join(b"%d,x\n" % n if n % 7 else b"%d\n" % n for n in range(1, 500))
    with ThreadPoolExecutor(3) as pool:
        reader = RecordReader(io.BytesIO(data), pool=pool, raw=True)
        assert reader.header() == ("h", "i")
        found: dict[int, str] = {}
        for block in reader.blocks():
            found |= dict(zip(block.rows.tolist(), block.cells.column(0).to_pylist(), strict=True))
            found |= {b.file_row or 0: b.raw or "" for b in block.rejects()}
    assert found == {n: str(n) for n in range(1, 500)}


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_a_header_of_too_many_columns_is_not_taken_apart() -> None:
    header = b"," * 99
    assert RecordReader(io.BytesIO(header), Written(max_columns=100)).header() == ("",) * 100
    for data in (header + b",", header + b',"a"', b'"a"' + header + b","):
        with pytest.raises(QuarantineError, match="the header in line 1 has 101 columns, more than 100") as caught:
            RecordReader(io.BytesIO(data + b"\n1,2\n"), Written(max_columns=100)).header()
        assert caught.value.rule == "unknown_column"
    record = grammar.Grammar(",", '"').first(b"," * 1000, ended=True, most=100, line=1)
    assert record is not None
    assert (record.count, record.cells) == (1001, [])


@pytest.mark.parametrize("chunk_bytes", [7, 100, 1 << 20])
@pytest.mark.parametrize(
    ("before", "record"),
    [
        ("", "x,{}\n"),
        ("1,2\n3,4\n", "x,{}\n"),
        ("1,2\r3,4\r", "x,{}\r"),
        ("1,2\n", '"{}","b"\n'),
        ("1,2\n", '"a\nb",{}\n'),
        ('1,"2"3\n', "x,{}\n"),
        ('1,"2"3\n', '"a\n{}",2\n'),
    ],
)
def test_the_longest_record_is_the_same_for_every_chunk_size(
    monkeypatch: pytest.MonkeyPatch, before: str, record: str, chunk_bytes: int
) -> None:
    monkeypatch.setattr(records, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(grammar, "MAX_CELL_BYTES", 63)
    monkeypatch.setattr(grammar, "MAX_RECORD_BYTES", 64)
    room = 64 - (len(record) - 2)
    longest, longer = (before + record.format("y" * size) + "5,6\n" * 50 for size in (room, room + 1))
    _, rows, _, count = cut(f"h,i\n{longest}".encode())
    assert rows[count] == ("5", "6")
    with pytest.raises(QuarantineError, match=r"the record in line [234] is longer than 64 bytes") as caught:
        cut(f"h,i\n{longer}".encode())
    assert caught.value.rule == "line_length"


def test_a_header_without_an_end_is_a_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK_BYTES", 64)
    monkeypatch.setattr(grammar, "MAX_RECORD_BYTES", 1024)
    for data in (b"x" * 5000, b"," * 5000, b"\n \n" + b"x" * 5000):
        with pytest.raises(QuarantineError, match=r"the record in line [13] is longer than 1,024 bytes"):
            cut(data)


def test_no_block_is_cut_record_by_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body whose lines end with a carriage return took 2.5 s a MB, one misquoted row made a whole block slow."""
    monkeypatch.delattr(grammar.Grammar, "scan")
    body = b'1,"a\rb"\r2,c\r\n3,d\n\r\r4\r5,e,f\r"",""\r \t \r6,g\r'
    _, rows, broken, count = cut(b"h,i\n" + body * 100)
    assert count == 700
    assert list(rows.items())[:4] == [(1, ("1", "a\rb")), (2, ("2", "c")), (3, ("3", "d")), (7, ("6", "g"))]
    assert list(broken.items())[:2] == [(4, ("ragged", "4")), (5, ("ragged", "5,e,f"))]
    body = b'1,"a\nb"\n"2"x,c\n3,5" d\n"4,e\n5,"f\n6,"g"\n""\n7\n'
    _, rows, broken, count = cut(b"h,i\n" + body * 100)
    assert count == 700
    assert list(rows.items())[:4] == [(1, ("1", "a\nb")), (3, ("3", '5" d')), (6, ("6", "g")), (8, ("1", "a\nb"))]
    misquoted = [(2, ("quote", '"2"x,c')), (4, ("quote", '"4,e')), (5, ("quote", '5,"f')), (7, ("ragged", "7"))]
    assert list(broken.items())[:4] == misquoted
    _, rows, broken, count = cut(b'h\n1\n""\n \n"2\n3"\n"4"x\n' + b'"5\n')
    assert (rows, broken, count) == ({1: ("1",), 2: ("2\n3",)}, {3: ("quote", '"4"x'), 4: ("quote", '"5')}, 4)
    with pytest.raises(QuarantineError, match="line 3 is not utf-8"):
        cut(b'h,i\n1,2\n"\xff"x,c\n')


class Work:
    """Bytes that the two cutters look at, and cells that the careful one makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = self.cells = self.blocks = 0
        for name in ("first", "scan", "plain_end"):
            monkeypatch.setattr(grammar.Grammar, name, self._counted(getattr(grammar.Grammar, name)))
        monkeypatch.setattr(cutter, "judged", self._judged)
        monkeypatch.setattr(marking, "_marked", self._marked)

    def _marked(self, data: bytes, dialect: Dialect, marked: Callable[..., bytes] = marking._marked) -> bytes:
        self.bytes += len(data)
        return marked(data, dialect)

    def _judged(self, data: bytes, grammar: grammar.Grammar, **options: Any) -> quoting.Judged:
        self.bytes += len(data)
        return quoting.judged(data, grammar, **options)

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def count(itself: object, data: bytes, **options: Any) -> Any:
            self.bytes += len(data)
            found = method(itself, data, **options)
            self.blocks += method.__name__ == "plain_end"
            if isinstance(found, grammar.Record):
                self.cells += len(found.cells)
            elif isinstance(found, grammar.Scan):
                self.cells += sum(map(len, found.columns))
            return found

        return count


def small_bounds(monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(records, "CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(grammar, "MAX_CELL_BYTES", 1 << 12)
    monkeypatch.setattr(grammar, "MAX_RECORD_BYTES", 1 << 14)
    return Work(monkeypatch)


@pytest.mark.series
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_work_is_bounded_by_the_bytes(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Delimiters, blank lines, quotes and names without end were looked at again with every chunk."""
    work = small_bounds(monkeypatch)
    data = KINDS[kind](200_000)
    with contextlib.suppress(QuarantineError):
        reader = RecordReader(io.BytesIO(data), Written(max_columns=1000), raw=True)
        reader.header()
        for block in reader.blocks():
            assert block.cells.nbytes < 4 * (grammar.MAX_RECORD_BYTES + grammar.MAX_CELL_BYTES)
    assert work.bytes <= 4 * len(data)
    assert work.cells <= len(data)


@pytest.mark.series
@pytest.mark.parametrize("kind", sorted({*PROFILES, *(kind for kind in KINDS if "zip" in kind)}))
def test_so_is_that_of_a_packed_or_unusual_text(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A gzip file of small texts gave a block for each of them."""
    monkeypatch.setattr(records, "HEAD_BYTES", 1 << 11)
    monkeypatch.setattr(trailer, "TAIL_BYTES", 1 << 10)
    monkeypatch.setattr(marking, "_LONGEST_LINE_BYTES", 1 << 14)
    work = small_bounds(monkeypatch)
    [vendor] = parse_config(CONFIG + PROFILES.get(kind, ""), base=Path("/"), environ={}).vendors
    data = KINDS[kind](200_000)
    sizes: list[int] = []
    for text in members(io.BytesIO(data), vendor):
        sizes.append(0)
        while part := text.stream.read(1 << 16):
            sizes[-1] += len(part)
    with contextlib.suppress(QuarantineError):
        reader = DeliveryReader(io.BytesIO(data), vendor, default_contract(), raw=True, trailers=False)
        reader.header()
        for block in reader.blocks():
            assert block.cells.nbytes < 4 * (grammar.MAX_RECORD_BYTES + grammar.MAX_CELL_BYTES)
    size = sum(sizes)
    assert work.bytes <= 5 * size
    assert work.cells <= size
    assert work.blocks <= 3 * len(sizes) + size / records.CHUNK_BYTES


def test_each_line_of_a_trailer_is_looked_at_once() -> None:
    data, looked = b"T\n \r\n" * 2000, 0

    class Pattern:
        def search(self, text: str) -> re.Match[str] | None:
            nonlocal looked
            looked += len(text)
            return re.search("^T$", text)

    found = Trailer("T", judged=True)
    found._pattern = Pattern()  # type: ignore[assignment]
    assert found.begins_at(b"K1\n" + data, dialect_of(",", '"'), ended=True) == 3
    assert looked == 2000 + len("K1")


def test_the_search_for_a_plain_header_stops_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the first lines were taken apart, because the header's own names were found in them."""
    body = "1,2,2026-11-20,,DELIVERED,x,2026-11-20 08:00:00\n" * 60
    calls: list[int] = []
    first = grammar.Grammar.first

    def counted(itself: grammar.Grammar, data: bytes, **options: Any) -> grammar.Record | None:
        calls.append(len(data))
        return first(itself, data, **options)

    monkeypatch.setattr(grammar.Grammar, "first", counted)
    contract = default_contract()
    for above, least, most in (("", 1, 3), ("Export of 2026-11-23\n", 50, 60)):
        calls.clear()
        text = f"{above}{','.join(contract.names)}\n{body}"
        assert DeliveryReader(io.BytesIO(text.encode()), Vendor("acme"), contract).header() == contract.names
        assert least <= len(calls) <= most
