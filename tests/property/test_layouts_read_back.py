"""Any layout that a profile can say: a file that is written so reads back to the cells that it was written from.

What is written follows the words of the docs (`tests/written.py`); typed cells are in `test_cells_read_back.py`.
"""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordertrail.model import Column, Contract, Vendor
from ordertrail.parse.reader import DeliveryReader
from tests.written import file_of

pytestmark = pytest.mark.property

CONTRACT = Contract((Column("k", "string"), Column("note", "string"), Column("e", "timestamp")), ("k",), "e", None, ())
HEADER = ("k", "note", "e")
WIDTHS = (4, 8, 3)
Cells = tuple[str, str, str]


@st.composite
def vendors(draw: st.DrawFn) -> Vendor:
    fixed = draw(st.integers(0, 3)) == 0
    quote = '"' if fixed else draw(st.sampled_from(('"', "'", "")))
    header = draw(st.booleans())
    return Vendor(
        "acme",
        delimiter="," if fixed else draw(st.sampled_from((",", ";", "\t", "||", "~|~", "¦"))),
        quote=quote,
        escape="" if fixed else draw(st.sampled_from(("", "\\"))),
        newlines_in_cells=fixed or not quote or draw(st.booleans()),
        encoding=draw(st.sampled_from((None, "cp1252", "utf-16-le"))),
        widths=WIDTHS if fixed else (),
        short_rows=draw(st.sampled_from(("reject", "fill"))),
        continuation_lines=draw(st.booleans()),
        skip_lines=draw(st.sampled_from((None, 1))) if header else 1,
        header=header,
        columns=() if header else HEADER,
        trailer=draw(st.sampled_from((None, r"^END (?P<rows>\d+)$"))),
    )


@given(
    vendors(),
    st.lists(
        st.tuples(st.sampled_from(("K1", "K2", "é3")), st.text(st.sampled_from("aZé ,;'\"\\|~\n"), max_size=8)),
        min_size=1,
    ),
    st.sampled_from(("\n", "\r\n")),
    st.sampled_from(("", "gzip", "zip")),
    st.booleans(),
)
def test_what_is_written_as_the_profile_says_is_read_back(
    vendor: Vendor, cells: list[tuple[str, str]], line_end: str, packed: str, raw: bool
) -> None:
    rows: list[Cells] = []
    for key, note in cells:
        if vendor.widths or not vendor.quote or not vendor.newlines_in_cells:
            note = note.replace("\n", "")
        if not vendor.quote and not vendor.escape:
            note = "".join(char for char in note if char not in vendor.delimiter)
        if not vendor.quote:
            note = note.strip("|~")  # what would make a longer delimiter with the real one
        rows.append((key, note.strip(), "2"))
    between = ("", "more", "") if vendor.continuation_lines else ()
    data = file_of(HEADER, rows, vendor, line_end=line_end, packed=packed, between=between)
    reader = DeliveryReader(io.BytesIO(data), vendor, CONTRACT, raw=raw)
    assert reader.header() == HEADER
    found = []
    for block in reader.blocks():
        assert block.broken is None or len(block.broken.numbers) == 0
        found += list(zip(*(column.to_pylist() for column in block.cells.columns), strict=True))
    assert found == [tuple(cell or None for cell in row) for row in rows]
