"""`rejects --csv`: no spreadsheet runs what a vendor wrote, no terminal obeys it."""

from __future__ import annotations

import csv
import io

import pytest

from ordertrail.cli.send_back import rejects_csv
from ordertrail.look.csv_text import harmless
from ordertrail.look.rows import Rows

NAMES = ("vendor", "file_name", "file_row", "file_line", "column", "value", "rule", "reason", "raw")


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "=cmd|'/C calc'!A0",
        "@SUM(1)",
        "+cmd|'/C calc'!A0",
        "-2+3+cmd|'/C calc'!A0",
        "\t=1+1",
        "\r=1+1",
        "+49 30 123+A1",
        "-1e5+A1",
        "-+1",
        '="a"&A1',
        '="a"",A1',
        '=HYPERLINK("http://a.example")',
        "＝1+1",
        "＠SUM(1)",
    ],
)
def test_a_cell_that_would_run_begins_with_an_apostrophe(text: str) -> None:
    found = harmless(text)
    assert found.replace("'", "", 1) == text
    assert found.lstrip("\t\r").startswith("'")


def test_cells_that_another_delimiter_would_make_are_harmless_too() -> None:
    assert harmless("x;=1+1;-5;@a\n=2") == "x;'=1+1;-5;'@a\n'=2"


@pytest.mark.parametrize(
    "text",
    [
        "", "abc", "-5", "+1.5", "-1,234.50", "-1.5e-300", "+1 234,5 ", "-1'000", "+49 30 123", "-", "+", "a=b", "1-2",
        "2026-02-30", "'=1", "x;-5", '="0045001"', '="0045001" ', '\t="0045001"',
    ],
)  # fmt: skip
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def rejects(value: str) -> Rows:
    row = ("acme", "a.csv", 5, 7, "status", value, "cast", "no number", f"1,{value}")
    return Rows(NAMES, (row,))


def test_the_file_is_marked_as_utf_8_and_reads_back() -> None:
    text = rejects_csv(rejects("Königs\x1b[31m, =1"), terminal=False)
    assert text.startswith("\ufeff")
    (row,) = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    assert (row["value"], row["file_row"], row["file_line"]) == ("Königs\x1b[31m, =1", "5", "7")


def test_a_terminal_gets_no_escapes_and_no_mark() -> None:
    text = rejects_csv(rejects("=\x1b[31m\u202e\u200b"), terminal=True)
    assert text.startswith("vendor,")
    assert "'=\\x1b[31m\\u202e" in text
    assert not set(text) & {"\x1b", "\u202e"}
