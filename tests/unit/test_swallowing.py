"""Which quoted cells hold lines that look like records."""

from __future__ import annotations

import io

import pytest

from ordertrail.parse.grammar import Grammar
from ordertrail.parse.records import RecordReader, Written
from ordertrail.parse.swallowing import Swallowed

HEADER = "k,address,at\n"


def seen(text: str, written: Written | None = None) -> list[Swallowed]:
    reader = RecordReader(io.BytesIO(text.encode()), written)
    reader.header()
    return [block.swallowed for block in reader.blocks() if block.swallowed is not None]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ('1,"Main St, 5",t\n', None),
        ('1,"Main St\nChicago, IL\nUSA",t\n', None),
        ('1,Main St,"late\nand wet"\n', None),
        ('"1\n2",Main St,t\n\n', None),
        ('1,"A,t\n2,B,t\n3,C",t\n4,D,t\n', Swallowed(2, 2)),
        ('1,"A,t\n2,B",t\n', Swallowed(2, 1)),
        ('1,x,t\n2,"A,t\n3,B,t\n4,C,t,"\n', Swallowed(3, 1)),
        ('1,"\n2,B,t\n",t\n2,"\n\n3,C,t\n",t\n', Swallowed(2, 2)),
    ],
)
def test_lines_that_look_like_records(
    rows: str, found: Swallowed | None, careful: bool, line_end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if careful:
        monkeypatch.setattr(Grammar, "plain_end", lambda *_, **__: None)
    assert seen((HEADER + rows).replace("\n", line_end)) == ([] if found is None else [found])


def test_a_table_of_two_columns_is_not_suspected() -> None:
    assert seen('k,note\n1,"Chicago, IL\nBoston, MA\nReno, NV"\n') == []


def test_the_delimiter_may_be_a_mark() -> None:
    found = seen('k||address||at\n1||"A||t\n2||B||t\n3||C"||t\n', Written(delimiter="||"))
    assert found == [Swallowed(2, 2)]
