"""Lines that are no rows, delimiters of several characters, escapes: the same wherever blocks of the text begin."""

from __future__ import annotations

import io
import random

import pytest
from msgspec.structs import replace

from ordertrail.errors import QuarantineError
from ordertrail.model import Column, Contract, Vendor
from ordertrail.parse import records, trailer
from ordertrail.parse.reader import DeliveryReader

CONTRACT = Contract((Column("k", "string"), Column("e", "timestamp"), Column("x", "string")), ("k",), "e", None, ())
ACME = Vendor("acme")
CHUNKS = (1, 2, 3, 7, 64, 1000, 1 << 20)
Found = tuple[list[tuple[object, ...]], list[tuple[object, ...]], int, int]


@pytest.fixture(params=CHUNKS)
def chunk_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(records, "CHUNK_BYTES", request.param)
    return int(request.param)


def read(text: str, vendor: Vendor = ACME, *, raw: bool = True) -> Found:
    """(number, cells, raw) of rows, (number, line, raw) of broken ones, how many rows, how many lines skipped."""
    reader = DeliveryReader(io.BytesIO(text.encode()), vendor, CONTRACT, raw=raw)
    assert reader.header() is not None
    rows: list[tuple[object, ...]] = []
    broken: list[tuple[object, ...]] = []
    parsed = 0
    for block in reader.blocks():
        texts = block.raw.to_pylist() if block.raw is not None else [""] * len(block.rows)
        cells = zip(*(column.to_pylist() for column in block.cells.columns), strict=True)
        rows += [(n, *one, text.rstrip()) for n, one, text in zip(block.rows.tolist(), cells, texts, strict=True)]
        broken += [(one.file_row, one.file_line, one.raw) for one in block.rejects()]
        parsed += block.parsed
    return rows, broken, parsed, reader.lines_skipped


@pytest.mark.parametrize("delimiter", ["||", "~|~", "¦", "aab"])
def test_delimiters_of_several_characters(delimiter: str, chunk_bytes: int) -> None:
    lines = ["k,e,x", "1,2,3", '4,"5,","6""||"', "7,8", '9,,"\n"', "é,~,a"]
    text = "\n".join(line.replace(",", delimiter) for line in lines)
    rows, broken, parsed, skipped = read(text, replace(ACME, delimiter=delimiter))
    assert [row[:4] for row in rows] == [
        (1, "1", "2", "3"), (2, "4", f"5{delimiter}", '6"||'), (4, "9", None, "\n"), (5, "é", "~", "a"),
    ]  # fmt: skip
    assert rows[1][4] == f'4{delimiter}"5{delimiter}"{delimiter}"6""||"'
    assert broken == [(3, 4, f"7{delimiter}8")]
    assert (parsed, skipped) == (5, 0)


def test_an_escape_takes_what_a_character_means(chunk_bytes: int) -> None:
    lines = ["k,e,x", r'1,"a\",b","\\"', r"\\,\"x\",y\,z", r'\n,"\N",' + "\\", r'"q""w",\\\",\\\\']
    text = "\n".join(lines)
    rows, broken, _, _ = read(text, replace(ACME, escape="\\"))
    assert broken == []
    assert [row[1:4] for row in rows] == [
        ("1", 'a",b', "\\"), ("\\", '"x"', "y,z"), ("\\n", "\\N", "\\"), ('q"w', '\\"', "\\\\"),
    ]  # fmt: skip
    assert [row[4] for row in rows] == lines[1:]


def test_a_header_with_escapes_comes_again(chunk_bytes: int) -> None:
    head = r'k,e,"\"x\""'
    rows, broken, _, skipped = read(f"{head}\n1,2,3\n{head}\nk,e,x\n", replace(ACME, escape="\\"))
    assert ([row[1] for row in rows], broken, skipped) == (["1", "k"], [], 1)


def test_an_escape_needs_no_quote() -> None:
    rows, _, _, _ = read('k|e|x\n"1|2\\|3|4\\\\\n', replace(ACME, delimiter="|", quote="", escape="\\"))
    assert rows == [(1, '"1', "2|3", "4\\", '"1|2\\|3|4\\\\')]


@pytest.mark.parametrize("char", ["\x1c", "\x1d", "\x1e", "\x1f"])
def test_a_text_with_a_mark_is_refused_where_marks_are_needed(char: str, chunk_bytes: int) -> None:
    text = f"k||e||x\n1||2||3\n4||5||{char}\n"
    with pytest.raises(QuarantineError, match=rf"U\+00{ord(char):02X}"):
        read(text, replace(ACME, delimiter="||", escape="\\"))
    plain = text.replace("||", ",")
    assert read(plain)[0][1][3] == char
    assert read(text, replace(ACME, delimiter="|", quote="'"), raw=False)[2] == 2


def test_what_is_no_row(chunk_bytes: int) -> None:
    text = "k,e,x\n1,2,3\n,,\nk,e,x\n4,5\n,\n" + '"","",\n' + "k,e, x\n6,7,8\r\n,,,,\r\nk,e,x\r\n"
    rows, broken, parsed, skipped = read(text)
    assert [row[:2] for row in rows] == [(1, "1"), (7, "k"), (8, "6")]
    assert broken == [(4, 5, "4,5")]
    assert (parsed, skipped) == (4, 6)
    assert read(text, raw=False)[2:] == (parsed, skipped)


def test_a_misquoted_neighbour_changes_nothing(chunk_bytes: int) -> None:
    """The careful cutter knows the same lines."""
    text = 'k,e,x\n"1"x,2,3\n,,\nk,e,x\n,\n4,5,6\n'
    rows, broken, parsed, skipped = read(text)
    assert ([row[:2] for row in rows], [one[:2] for one in broken]) == ([(5, "4")], [(1, 2)])
    assert (parsed, skipped) == (2, 3)


def test_a_delimiter_at_the_end_of_rows(chunk_bytes: int) -> None:
    text = "k,e,x\n1,2,3,\n4,5,6,\n7,8,9,x\n10,11,\n12,13,14,\n"
    rows, broken, parsed, _ = read(text)
    assert [row[:4] for row in rows] == [(1, "1", "2", "3"), (2, "4", "5", "6"), (5, "12", "13", "14")]
    assert (broken, parsed) == ([(3, 4, "7,8,9,x"), (4, 5, "10,11,")], 5)
    assert [row[0] for row in read(text, raw=False)[0]] == [1, 2, 5]


TRAILER = r"^(TRL\|(?P<rows>[\d,]+)|# end)"


@pytest.mark.parametrize("tail_bytes", [16, 64, 1 << 16])
def test_a_trailer_is_found_wherever_blocks_end(
    tail_bytes: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trailer, "TAIL_BYTES", tail_bytes)
    vendor = replace(ACME, trailer=TRAILER)
    body = "k,e,x\n" + "".join(f"{i},{i},TRL|{i}\n" for i in range(40))
    for end in ("TRL|40", "TRL|40\n", "TRL|40\r\n\r\n", "TRL|40\n# end\n", "\n\nTRL|40\n\n# end"):
        rows, broken, parsed, skipped = read(body + end, vendor)
        assert ([row[0] for row in rows], broken, parsed) == (list(range(1, 41)), [], 40)
        assert skipped == 1 + ("# end" in end)
    for end, why in (("TRL|39\n", "tells 39 rows, the file has 40"), ("", "may have been cut off"), ("x", "cut off")):
        with pytest.raises(QuarantineError, match=why) as caught:
            read(body + end, vendor)
        assert caught.value.rule == "trailer"


def test_a_trailer_counts_rejected_rows_and_no_others() -> None:
    text = "k,e,x\n1,2\n,,\nk,e,x\n3,4,5\nTRL|2\n"
    assert read(text, replace(ACME, trailer=TRAILER))[2] == 2
    thousands = "k,e,x\n" + "1,2,3\n" * 1234 + "TRL|1,234\n"
    assert read(thousands, replace(ACME, trailer=TRAILER))[2] == 1234


def test_every_cut_of_a_file_with_a_trailer_is_noticed() -> None:
    vendor = replace(ACME, trailer=r"^TRL\|(?P<rows>\d+)$")
    rand = random.Random(3)
    text = "k,e,x\n" + "".join(f"{i},2,{'y' * rand.randrange(9)}\n" for i in range(100)) + "TRL|100\n"
    assert read(text, vendor)[2] == 100
    for end in range(7, len(text) - 1):
        if text[:end] != text.rstrip():
            with pytest.raises(QuarantineError):
                read(text[:end], vendor)
