"""What the settings of a vendor make of cells: nulls, keys, numbers, words, formats, columns made of others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ordertrail.config import parse_config
from ordertrail.errors import QuarantineError
from ordertrail.model import Column, Contract, Vendor
from ordertrail.parse.database import connect
from ordertrail.rules.advice import advice
from ordertrail.rules.headers import map_header, named
from tests.kernels import Parsed, contract_of, csv_of, parse

EVENT = "2026-11-20 08:00:00"


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    con = connect(2, 512, tmp_path_factory.mktemp("spill"))
    yield con
    con.close()


class Reader:
    """Reads texts as the cells of one column `x`, a row each."""

    def __init__(self, con: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._con, self._folder = con, folder

    def parse(self, header: tuple[str, ...], rows: list[tuple[str, ...]], contract: Contract, vendor: Vendor) -> Parsed:
        return parse(self._con, self._folder, csv_of(header, *rows), contract, vendor)

    def __call__(self, texts: list[str], column: Column, vendor: Vendor) -> list[object]:
        """The values; of a reject its rule."""
        rows = [("K", EVENT, text) for text in texts]
        found = self.parse(("k", "e", "x"), rows, contract_of(column), vendor)
        return [found.rows[n]["x"] if n in found.rows else found.errors[n][0]["rule"] for n in range(1, len(texts) + 1)]


@pytest.fixture
def read(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> Reader:
    return Reader(con, tmp_path)


@pytest.mark.parametrize("kind", ["string", "int", "date", "timestamp", "boolean", "decimal(5,2)"])
def test_nulls_mean_no_value_in_every_type(read: Reader, kind: str) -> None:
    texts = ["N/A", " N/A\u00a0", "-", "\\N", "0000-00-00", ""]
    vendor = Vendor("acme", nulls=("N/A ", "-", "\\N"))
    assert read(texts, Column("x", kind, nulls=("0000-00-00",)), vendor) == [None] * 6
    assert None not in read([text for text in texts if text], Column("x", kind), Vendor("acme"))
    assert read(["N/A"], Column("x", kind, required=True), vendor) == ["required"]


def test_a_key_without_its_blanks_and_in_upper_case(read: Reader) -> None:
    vendor = Vendor("acme", key_case="upper", key_strip=" -", nulls=("none",))
    keys = ["1z 999-aa1", " 1Z999AA1", "ku\u0308\u200b-7", "none", "- -", "tbd"]
    found = read.parse(("k", "e"), [(key, EVENT) for key in keys], contract_of(), vendor)
    assert [row["k"] for row in found.rows.values()] == ["1Z999AA1", "1Z999AA1", "KÜ7"]
    assert [errors[0]["rule"] for errors in found.errors.values()] == ["required", "required", "placeholder"]
    assert read(["ab c"], Column("x", "string", identifier=True), vendor) == ["ab c"], "only keys"


DECIMALS = [
    ("1.234,56", "1234.56"), ("1234,56", "1234.56"), ("-12,5", "-12.5"), ("12,50-", "-12.5"), ("+7", "7"),
    ("1.234.567", "1234567"),
    (",5", "0.5"), ("1.234,-", "-1234"), ("1.5", None), ("12.34,5", None), ("1,2,3", None), ("1.2345,6", None),
    ("--1", None), ("-1-", None),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["decimal(12,2)", "double"])
def test_numbers_in_the_vendors_notation(read: Reader, kind: str) -> None:
    vendor = Vendor("acme", decimal=",", thousands=".")
    number = float if kind == "double" else Decimal
    wanted = [kind.partition("(")[0] if value is None else number(value) for _, value in DECIMALS]
    assert read([text for text, _ in DECIMALS], Column("x", kind), vendor) == wanted


@pytest.mark.parametrize(
    ("thousands", "texts"),
    [
        (" ", ["1 234", "1\u202f234", "1\u00a0234"]),
        ("'", ["1'234", "1234", " 1'234 "]),
        (",", ["1,234", "1234", "+1,234"]),
    ],
)
def test_thousands_of_whole_numbers(read: Reader, thousands: str, texts: list[str]) -> None:
    vendor = Vendor("acme", thousands=thousands)
    assert read(texts, Column("x", "int"), vendor) == [1234, 1234, 1234]
    wrong = [f"12{thousands}34", f"1{thousands}2345", f"{thousands}234", f"1{thousands}234{thousands}"]
    assert read(wrong, Column("x", "bigint"), vendor) == (
        ["bigint"] * 2 + ([234, 1234] if thousands == " " else ["bigint"] * 2)
    )


def test_a_double_still_keeps_all_digits(read: Reader) -> None:
    vendor = Vendor("acme", decimal=",", thousands=".")
    assert read(["9.007.199.254.740.993", "90.071.992.547.409,921"], Column("x", "double"), vendor) == ["rounded"] * 2


def test_words_for_true_and_false(read: Reader) -> None:
    vendor = Vendor("acme", true_words=("Ja", "X"), false_words=("Nein", "-"))
    assert read(["ja", " JA", "x", "nein", "-", "", "yes", "1"], Column("x", "boolean"), vendor) == [
        True, True, True, False, False, None, "boolean", "boolean",
    ]  # fmt: skip


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago"])
def test_seconds_and_milliseconds_since_1970_are_utc_and_serial_days_are_the_clocks(read: Reader, zone: str) -> None:
    vendor = Vendor("acme", timezone=zone)
    hours = 6 if zone != "UTC" else 0
    column = Column("x", "timestamp", formats=("epoch_s", "epoch_ms", "excel"))
    cases: list[tuple[str, object]] = [
        ("1763625600", utc(2025, 11, 20, 8)), ("1763625600000", utc(2025, 11, 20, 8)),
        ("999999999", utc(2001, 9, 9, 1, 46, 39)),
        ("1763625600.25", utc(2025, 11, 20, 8, 0, 0, 250_000)), ("1763625600123", utc(2025, 11, 20, 8, 0, 0, 123_000)),
        ("1763625600.1234567", utc(2025, 11, 20, 8, 0, 0, 123_456)),
        ("1763625600123.45678", utc(2025, 11, 20, 8, 0, 0, 123_456)),
        ("46346.3333333333", utc(2026, 11, 20, 8 + hours)), ("46346,5", utc(2026, 11, 20, 12 + hours)),
        ("46346", utc(2026, 11, 20, hours)),
        ("1", "timestamp"), ("12345678901", "timestamp"), ("-1763625600", "timestamp"), ("1763625600000000",
        "timestamp"), ("46346.", "timestamp"),
        ("9999", "timestamp"), (" 46346 ", utc(2026, 11, 20, hours)), ("2026-11-20T08:00:00Z", utc(2026, 11, 20, 8)),
    ]  # fmt: skip
    assert read([text for text, _ in cases], column, vendor) == [value for _, value in cases]
    day = Column("x", "date", formats=("epoch_s", "excel"))
    assert read(["46346.99", "1763625600", "46346"], day, vendor) == [
        date(2026, 11, 20),
        date(2025, 11, 20),
        date(2026, 11, 20),
    ]


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago"])
def test_a_day_ends_where_the_next_one_begins(read: Reader, zone: str) -> None:
    formats = ("%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S %z", "%d/%m/%Y %H:%M:%S,%f")
    hours = 6 if zone != "UTC" else 0
    cases: list[tuple[str, object]] = [
        ("31.12.2026 24:00", utc(2027, 1, 1, hours)), ("31/12/2026 24:00:00 +01:00", utc(2026, 12, 31, 23)),
        ("20.11.2026 08:24", utc(2026, 11, 20, 8 + hours, 24)), ("31.02.2026 24:00", "timestamp"),
        ("20.11.2026 24:01", "timestamp"),
        ("20/11/2026 08:00:00,5", utc(2026, 11, 20, 8 + hours, 0, 0, 500_000)),
    ]  # fmt: skip
    found = read([text for text, _ in cases], Column("x", "timestamp", formats=formats), Vendor("acme", timezone=zone))
    assert found == [value for _, value in cases]


UNREAD = [
    ("11/20/2026 08:00:00 PM", 1), ("11/20/2026 8:05 pm", 1), ("20.11.2026 08:00", 1), ("20.11.26", 1),
    ("3/4/2026 10:00", 2), ("01-02-26", 2),
    ("1763625600", 1), ("1763625600000", 1), ("46346.3333", 1), ("2026/11/21 08:00", 1),
    ("11/20/2026, 8:00:00\u202fPM", 1),
    ("20-Nov-2026 08:00:00", 1), ("20 November 2026", 1), ("Nov 20, 2026 08:00", 1), ("20261120T080000", 1),
    ("20261120", 1), ("20.11.2026 24:00", 1),
    ("2026-11-20 08:00:00 +01:00", 1), ("20.11.2026 08:00Z", 1), ("20.11.2026 08.30", 1), ("13/12/2026", 1),
    ("12/13/2026", 1),
]  # fmt: skip


CONFIG = """[pipeline]
source = "a"
archive = "b"
warehouse = "c"
[contract]
key = "k"
order_by = "e"
status = ""
columns = [{ name = "k", type = "string" }, { name = "e", type = "timestamp" }, { name = "x", type = "timestamp" }]
[[vendors]]
name = "acme"
"""


@pytest.mark.parametrize(("text", "lines"), UNREAD)
def test_the_line_of_a_reason_reads_the_cell_when_it_is_pasted(read: Reader, text: str, lines: int) -> None:
    rows = [("K", EVENT, text)]
    found = read.parse(("k", "e", "x"), rows, contract_of(Column("x", "timestamp")), Vendor("acme"))
    reason = found.errors[1][0]["reason"]
    pasted = re.findall(r"formats = \{ x = \[[^\]]*\] \}", reason)
    assert len(pasted) == lines, reason
    for line in pasted:
        config = parse_config(CONFIG + line, base=Path("/"), environ={})
        again = read.parse(("k", "e", "x"), rows, config.contract, config.vendors[0])
        assert list(again.rows) == [1], line


def test_a_reason_keeps_the_formats_that_are_there_and_names_what_nobody_sees(read: Reader) -> None:
    vendor = Vendor("acme", formats=(("x", ("%d.%m.%Y",)),))
    found = read.parse(
        ("k", "e", "x"), [("K", EVENT, "11/20/2026\u00a08:00")], contract_of(Column("x", "timestamp")), vendor
    )
    assert found.errors[1][0]["reason"].endswith("; not to be seen in it: U+00A0")
    found = read.parse(("k", "e", "x"), [("K", EVENT, "11/20/2026")], contract_of(Column("x", "timestamp")), vendor)
    assert found.errors[1][0]["reason"].endswith('; write formats = { x = ["%d.%m.%Y", "%m/%d/%Y"] }')


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("12,50", 'decimal = ","'), ("1.234,5", 'decimal = "," and thousands = "."'), ("1,234.5", 'thousands = ","'),
        ("1 234", 'thousands = " "'),
        ("1\u202f234,5", 'decimal = "," and thousands = " "'),
    ],
)  # fmt: skip
def test_a_number_in_another_notation_names_the_settings(text: str, lines: str) -> None:
    assert advice("number acme", text).endswith(f"; write {lines} for vendor acme")


@pytest.mark.parametrize("text", ["12,345", "x", "", "20.11.2026", "9" * 200, "12.5"])
def test_nothing_is_advised_where_it_would_be_a_guess(text: str) -> None:
    assert advice("number acme", text) == ""
    assert advice("text", text) == ""
    assert advice("time formats = { x = [", "99.99.2026") == ""
    assert advice("time formats = { x = [", "2026-11-20 08:00:00 EST") == ""


MADE = Vendor("acme", combine=(("e", ("Scan Date", "SCAN_TIME")),), constants=(("x", " UPS "),))


def test_a_time_in_two_columns(read: Reader) -> None:
    contract = contract_of(Column("x", "string"), Column("Scan Date", "string"))
    rows = [
        ("K1", "2026-11-20", "08:00:00", "u"),
        ("K2", "2026-11-20", "", ""),
        ("K3", "", "", ""),
        ("K4", "20.11.", "8", ""),
    ]
    found = read.parse(("k", "Scan Date", "Scan Time", "note"), rows, contract, MADE)
    assert found.rows[1]["e"] == utc(2026, 11, 20, 8)
    assert found.rows[1]["Scan Date"] == "2026-11-20", "a part may be a column, too"
    assert found.rows[1]["_rescued"] == '{"note":"u"}', "parts are read, so they are not rescued"
    assert [(e["rule"], e["value"]) for errors in found.errors.values() for e in errors] == [
        ("combine", "2026-11-20"), ("required", None), ("timestamp", "20.11. 8"),
    ]  # fmt: skip


def test_a_constant_is_a_cell_of_every_row(read: Reader) -> None:
    vendor = Vendor("acme", constants=(("x", " UPS "), ("n", "007")))
    contract = contract_of(Column("x", "string", required=True), Column("n", "int"))
    found = read.parse(("k", "e"), [("K", EVENT), ("L", EVENT)], contract, vendor)
    assert [(row["x"], row["n"]) for row in found.rows.values()] == [("UPS", 7)] * 2
    assert map_header(("k", "e"), contract, vendor).absent == ()


@pytest.mark.parametrize(
    ("header", "vendor", "says"),
    [
        (("k", "e", "x"), Vendor("acme", constants=(("x", "1"),)), "take x out of the vendor's combine, constants"),
        (("k", "e", "x"), Vendor("acme", from_name="_(?P<x>[A-Z]+)_"), "take x out of"),
        (("k", "e", "x", "Scan Date"), MADE, "take e out of"),
        (("k", "Scan Date"), MADE, "correct combine.e"),
        (("k", "Scan Date", "Scan Time", "scan-time", "scan_time"), MADE, "correct combine.e"),
    ],
)
def test_a_column_that_comes_twice_or_in_part_quarantines_the_file(header: Any, vendor: Vendor, says: str) -> None:
    with pytest.raises(QuarantineError) as caught:
        map_header(header, contract_of(Column("x", "string")), vendor)
    assert says in str(caught.value)


def test_a_files_name_tells_a_column() -> None:
    vendor = Vendor("acme", from_name=r"_(?P<x>[A-Z]{3})_")
    assert named("orders_CHI_20261120.csv", vendor) == {"x": "CHI"}
    with pytest.raises(QuarantineError, match="does not match from_name") as caught:
        named("orders_20261120.csv", vendor)
    assert caught.value.rule == "from_name"
    assert map_header(("k", "e"), contract_of(Column("x", "string")), vendor).absent == ()
