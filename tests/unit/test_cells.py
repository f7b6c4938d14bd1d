"""What the text of a cell means, type by type and rule by rule: nothing is nulled, rounded or guessed (P5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec.structs import replace

from ordertrail.model import Column, Vendor
from ordertrail.parse.database import connect
from ordertrail.rules.bounds import MAX_VALUE_CHARS, cut
from ordertrail.rules.cells import rank_sql
from tests.kernels import Parsed, contract_of, csv_of, parse

EVENT = "2026-11-20 08:00:00"
REJECT = object()
Cells = Callable[..., Parsed]


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    con = connect(2, 512, tmp_path_factory.mktemp("spill"))
    yield con
    con.close()


@pytest.fixture
def read(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> Cells:
    """Read texts as the cells of one column `x`, a row each."""

    def cells(texts: list[str], column: Column, vendor: Vendor | None = None, **options: Any) -> Parsed:
        data = csv_of(("k", "e", "x"), *(("K", EVENT, text) for text in texts))
        return parse(con, tmp_path, data, contract_of(column, **options), vendor)

    return cells


def check(
    read: Cells, column: Column, cases: list[tuple[str, object]], rule: str, vendor: Vendor | None = None
) -> None:
    texts = [text for text, _ in cases]
    parsed = read(texts, column, vendor)
    got = {text: parsed.rows[n]["x"] if n in parsed.rows else REJECT for n, text in enumerate(texts, 1)}
    assert got == dict(cases)
    for n, errors in parsed.errors.items():
        assert [(e["column"], e["value"], e["rule"]) for e in errors] == [("x", texts[n - 1], rule)]
        assert len(errors[0]["reason"]) > 20


def test_strings_are_left_alone(read: Cells) -> None:
    texts = [
        "007",
        "inside  the text",
        "NULL",
        "nan",
        "1.23E+11",
        "a\nb",
        'say "x"',
        "📦",
        "\x1b[0m",
        "0" * 5000,
        "\u202e",
        "\\N",
        "-",
    ]
    check(read, Column("x", "string"), [(t, t) for t in texts] + [("", None)], "")


INTEGERS: list[tuple[str, object]] = [
    ("0", 0), ("-0", 0), ("+7", 7), ("007", 7), (" 12 ", 12), ("\u00a012\t", 12), ("-2147483648", -(2**31)),
    ("2147483647", 2**31 - 1), ("", None), ("   ", None), ("1.5", REJECT), ("1.0", REJECT), ("1e3", REJECT),
    ("1,000", REJECT),
    ("1 000", REJECT), ("0x1F", REJECT), ("0b1", REJECT), ("1_000", REJECT), ("--1", REJECT), ("+", REJECT),
    ("٣", REJECT), ("１", REJECT),
    ("nan", REJECT), ("inf", REJECT), ("true", REJECT), ("1\n2", REJECT), ("½", REJECT), ("9" * 400, REJECT),
    ("1-", -1), ("-1-", REJECT), ("-", REJECT),
]  # fmt: skip


def test_int(read: Cells) -> None:
    more: list[tuple[str, object]] = [("2147483648", REJECT), ("-2147483649", REJECT)]
    check(read, Column("x", "int"), INTEGERS + more, "int")


def test_bigint(read: Cells) -> None:
    edge = 2**63
    more = [(str(edge - 1), edge - 1), (str(-edge), -edge), (str(edge), REJECT), (str(-edge - 1), REJECT)]
    check(read, Column("x", "bigint"), INTEGERS + more, "bigint")


def test_double(read: Cells) -> None:
    cases: list[tuple[str, object]] = [
        ("1.5", 1.5), ("-12", -12.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("1.2E-3", 0.0012), (" 2 ", 2.0),
        ("", None), ("0", 0.0),
        ("1e308", 1e308), ("1e309", REJECT), ("nan", REJECT), ("NaN", REJECT), ("inf", REJECT), ("-Infinity", REJECT),
        ("1,5", REJECT),
        ("1.2.3", REJECT), ("0x1p3", REJECT), ("1_0", REJECT), ("e3", REJECT), (".", REJECT), ("1e", REJECT),
        ("٣.٥", REJECT), ("€5", REJECT),
    ]  # fmt: skip
    check(read, Column("x", "double"), cases, "double")


def test_decimals_are_never_rounded(read: Cells) -> None:
    cases: list[tuple[str, object]] = [
        ("1.25", Decimal("1.25")), ("-0.01", Decimal("-0.01")), ("1.250", Decimal("1.25")),
        ("1.2500000", Decimal("1.25")), ("5.", Decimal(5)),
        (".5", Decimal("0.50")), (" 3 ", Decimal(3)), ("+1", Decimal(1)), ("999.99", Decimal("999.99")), ("", None),
        ("000001", Decimal(1)),
        ("1.255", REJECT), ("1.2501", REJECT), ("999.995", REJECT), ("1000", REJECT), ("-1000.00", REJECT),
        ("1e2", REJECT), ("nan", REJECT),
        ("1,25", REJECT), ("1.2.3", REJECT), (".", REJECT), ("٣", REJECT), ("0.001", REJECT), ("$1", REJECT),
    ]  # fmt: skip
    check(read, Column("x", "decimal(5,2)"), cases, "decimal")


def test_wide_and_whole_decimals(read: Cells) -> None:
    big = "12345678901234567890123456789012345678"
    check(
        read,
        Column("x", "decimal(38,0)"),
        [(big, Decimal(big)), (big + "9", REJECT), ("1.0", Decimal(1)), ("1.5", REJECT)],
        "decimal",
    )
    tiny = "0.12345678901234567890123456789012345678"
    check(read, Column("x", "decimal(38,38)"), [(tiny, Decimal(tiny)), ("1", REJECT), (tiny + "1", REJECT)], "decimal")


def test_boolean_words(read: Cells) -> None:
    true: list[tuple[str, object]] = [(t, True) for t in ("true", "TRUE", "t", "T", "yes", "Y", "1", " True ")]
    false: list[tuple[str, object]] = [(t, False) for t in ("false", "False", "f", "no", "N", "0")]
    wrong: list[tuple[str, object]] = [(t, REJECT) for t in ("2", "ja", "on", "off", "truee", "-1", "1.0", "✓", "null")]
    check(read, Column("x", "boolean"), [*true, *false, *wrong, ("", None)], "boolean")


DAY = date(2026, 11, 20)


def test_dates(read: Cells) -> None:
    cases: list[tuple[str, object]] = [
        ("2026-11-20", DAY), (" 2026-11-20 ", DAY), ("2024-02-29", date(2024, 2, 29)), ("1900-01-01", date(1900, 1, 1)),
        ("9999-12-31", date(9999, 12, 31)), ("", None), ("  ", None), ("2026-02-30", REJECT), ("2023-02-29", REJECT),
        ("2026-13-01", REJECT),
        ("2026-00-01", REJECT), ("2026-11-00", REJECT), ("1899-12-31", REJECT), ("0026-11-20", REJECT),
        ("26-11-20", REJECT), ("10000-01-01", REJECT),
        ("2026-11-20 00:00:00", DAY), ("2026-11-20T00:00", DAY), ("2026-11-20 00:00:00.000", DAY),
        ("2026-11-20 08:00:00", REJECT), ("2026-11-20 00:00:00Z", REJECT), ("2026-11-20Z", REJECT),
        ("2026/11/20", REJECT), ("20.11.2026", REJECT),
        ("20261120", REJECT), ("2026-11", REJECT), ("2026-1-2", REJECT), ("2026-11-20x", REJECT),
        ("infinity", REJECT), ("-infinity", REJECT), ("epoch", REJECT),
        ("today", REJECT), ("now", REJECT), ("٢٠٢٦-١١-٢٠", REJECT), ("2026–11–20", REJECT), ("0000-00-00", REJECT),
        ("2026-11-20 (BC)", REJECT),
        ("46346", REJECT), ("NULL", REJECT), ("N/A", REJECT), ("2026- 1- 2", REJECT), ("2026-1--2", REJECT),
        ("1    -1-1 ", REJECT), ("-026-11-20", REJECT),
        ("+026-11-20", REJECT), ("2026-11-2 ", REJECT), ("999-11-020", REJECT),
    ]  # fmt: skip
    check(read, Column("x", "date"), cases, "date")


def test_date_formats_come_after_iso_and_in_their_order(read: Cells) -> None:
    column = Column("x", "date", formats=("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%b %d, %Y"))
    cases: list[tuple[str, object]] = [
        ("2026-11-20", DAY), ("20/11/2026", DAY), ("11/20/2026", DAY), ("02/03/2026", date(2026, 3, 2)),
        ("20.11.26", DAY), ("Nov 20, 2026", DAY),
        ("20/11/26", REJECT), ("32/11/2026", REJECT), ("20/11/2026 08:00", REJECT), ("20/11/0026", REJECT),
        ("xx", REJECT), ("29/02/2026", REJECT),
    ]  # fmt: skip
    check(read, column, cases, "date")


def test_a_vendors_formats_take_the_place_of_the_contracts(read: Cells) -> None:
    vendor = Vendor("acme", formats=(("x", ("%Y%m%d",)),))
    column = Column("x", "date", formats=("%d/%m/%Y",))
    check(read, column, [("20261120", DAY), ("20/11/2026", REJECT), ("2026-11-20", DAY)], "date", vendor)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


EIGHT = utc(2026, 11, 20, 8)
TIMES: list[tuple[str, object]] = [
    ("2026-11-20 08:00:00", EIGHT), ("2026-11-20T08:00:00", EIGHT), ("2026-11-20T08:00:00Z", EIGHT),
    ("2026-11-20 08:00", EIGHT),
    ("2026-11-20 09:00:00+01:00", EIGHT), ("2026-11-20 09:00:00+0100", EIGHT), ("2026-11-20T03:30:00-04:30", EIGHT),
    ("2026-11-20 09:00:00+01", EIGHT),
    ("2026-11-20", utc(2026, 11, 20)), ("2026-11-20 08:00:00.5", utc(2026, 11, 20, 8, 0, 0, 500_000)),
    ("  2026-11-20 08:00:00 ", EIGHT),
    ("2026-11-20 08:00:00.123456", utc(2026, 11, 20, 8, 0, 0, 123_456)), ("1900-01-01 00:00:00", utc(1900, 1, 1)),
    ("9999-12-31 23:59:59.999999", utc(9999, 12, 31, 23, 59, 59, 999_999)),
    ("2026-11-20 23:59:59", utc(2026, 11, 20, 23, 59, 59)),
    ("2026-11-20 08:00:00,5", utc(2026, 11, 20, 8, 0, 0, 500_000)), ("2026-11-20T08:00:00,000Z", EIGHT),
    ("2026-11-19 24:00:00", utc(2026, 11, 20)), ("2026-12-31T24:00", utc(2027, 1, 1)),
    ("2026-11-19 24:00:00.000", utc(2026, 11, 20)), ("2026-11-19T24:00:00+01:00", utc(2026, 11, 19, 23)),
    ("2026-11-20T08:00:00.000+00:00", EIGHT), ("2026-11-20 00:00:00", utc(2026, 11, 20)), ("", None), ("  ", None),
]  # fmt: skip
NO_TIMES = [
    "2026-11-20 24:00:01", "2026-11-20 24:01", "2026-02-30 24:00:00", "2026-11-20 08:60:00", "2026-11-20 08:00:60",
    "2026-11-20 23:59:60", "2026-02-30 08:00:00",
    "2026-11-20 25:00:00", "1899-12-31 23:59:59", "0026-11-20 08:00:00", "26-11-20 08:00:00", "10000-01-01 00:00:00",
    "infinity", "-infinity",
    "epoch", "now", "today", "nan", "1763625600", "1763625600000", "20261120T080000", "2026-11-20 08:00:00 UTC",
    "2026-11-20 08:00:00 Europe/Berlin",
    "2026-11-20 08:00:00 PM", "2026-11-20 8:00:00", "2026-11-20  8:00:00", "2026-11-20 08:00:00+99:99x",
    "2026-11-20 08:00:00Zx", "٢٠٢٦-١١-٢٠ ٠٨:٠٠:٠٠", "2026-11-20 08",
    "08:00:00", "2026-11-20 08:00:00,", "2026-11-20 08:00:0x", "2026-11-20 08:00: 1", "2026-11-20 08:00:-1",
    "2026-11-20 08:00:1e1", "2026-11-20 08:00:+1", "2026-11-20 08: 0:00",
    "2026-11-20 0 :00:00", "2026- 1- 2 08:00:00", "+026-11-20 08:00:00", "2026-11-20 -8:00:00", "2026-11-20_08:00:00",
    "2026-11-20 08:00:00 (BC)", "2026-11-20 08:00:00 BC",
    "2026-11-20 08:00:00.", "2026-11-20 08:00:1", "2026-11-20 08:00:001", "2026-11-20 08:00:nan",
    "2026-11-20 08:00:inf", "46346.333", "2026-11-20 24:00:00.5", "2026-11-2 08:00:00",
    "2026-11-20 08:00:0.1", "2026-11-20 08:00:00\n", "2026-11-20 08:00:00\nx", "99999-11-20 08:00:00", "2026-W47-5",
    "2026-324",
    "2026-11-20T08:00:00+99:99", "2026-11-20 08:00:00+16:00", "2026-11-20 08:00:00+01:60", "2026-11-20 08:00:00-24",
    "2026-11-20 08:00:00+1", "2026-11-20 08:00:00 +01:00",
]  # fmt: skip


@pytest.mark.parametrize("timezone", ["UTC", "Etc/UTC"])
def test_timestamps(read: Cells, timezone: str) -> None:
    no_times = [t for t in NO_TIMES if not t.endswith("\n")]
    cases = TIMES + [(text, REJECT) for text in no_times]
    check(read, Column("x", "timestamp"), cases, "timestamp", Vendor("acme", timezone=timezone))


def test_digits_beyond_the_microsecond_are_cut_the_same_way_in_every_zone(read: Cells) -> None:
    texts = ["2026-11-20 08:00:00.1234567", "2026-11-20 08:00:00.123456789", "2026-11-20 08:00:00.9999999"]
    utc_rows = read(texts, Column("x", "timestamp"))
    local_rows = read(texts, Column("x", "timestamp"), Vendor("acme", timezone="Etc/UTC"))
    assert [r["x"] for r in utc_rows.rows.values()] == [r["x"] for r in local_rows.rows.values()]
    assert len(utc_rows.rows) + len(utc_rows.errors) == 3


def test_timestamp_formats(read: Cells) -> None:
    column = Column("x", "timestamp", formats=("%d.%m.%Y %H:%M", "%m/%d/%y %I:%M %p", "%d.%m.%Y %H:%M %z"))
    cases: list[tuple[str, object]] = [
        ("20.11.2026 08:00", EIGHT), ("11/20/26 08:00 AM", EIGHT), ("11/20/26 08:00 PM", utc(2026, 11, 20, 20)),
        ("20.11.2026 09:00 +01:00", EIGHT),
        ("20.11.2026 09:00 +0100", EIGHT), ("2026-11-20 08:00:00", EIGHT), ("20.11.2026", REJECT),
        ("31.02.2026 08:00", REJECT), ("20.11.0026 08:00", REJECT),
        ("19.11.2026 24:00", utc(2026, 11, 20)), ("20.11.2026 24:01", REJECT), ("20.11.2026 08:00 x", REJECT),
        ("20.11.2026 08:00 +99:99", REJECT), ("20.11.2026 08:00 +1", REJECT),
    ]  # fmt: skip
    check(read, column, cases, "timestamp")


def test_offsets_and_formats_in_a_local_zone(read: Cells) -> None:
    vendor = Vendor("acme", timezone="America/Chicago")
    column = Column("x", "timestamp", formats=("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M %z"))
    cases: list[tuple[str, object]] = [
        ("2026-11-20 08:00:00", utc(2026, 11, 20, 14)), ("2026-07-20 08:00:00", utc(2026, 7, 20, 13)),
        ("2026-11-20 08:00:00Z", EIGHT),
        ("2026-11-20T09:00:00+01:00", EIGHT), ("20.11.2026 08:00", utc(2026, 11, 20, 14)),
        ("20.11.2026 09:00 +01:00", EIGHT), ("2026-11-20", utc(2026, 11, 20, 6)),
        ("2026-03-08 02:30:00Z", utc(2026, 3, 8, 2, 30)), ("nonsense", REJECT), ("", None),
        ("2026-11-20 08:00", utc(2026, 11, 20, 14)),
    ]  # fmt: skip
    check(read, column, cases, "timestamp", vendor)


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago", "Europe/Berlin"])
def test_the_name_of_a_zone_shifts_once_wherever_the_vendor_is(read: Cells, zone: str) -> None:
    column = Column("x", "timestamp", formats=("%d.%m.%Y %H:%M %Z",))
    zones = (("EST", "-05:00"), ("CET", "+01:00"), ("Central Standard Time", "-0600"), ("BST", "+01:00"))
    vendor = Vendor("acme", timezone=zone, zones=zones)
    cases: list[tuple[str, object]] = [
        ("20.11.2026 03:00 EST", EIGHT), ("20.11.2026 09:00 CET", EIGHT), ("20.11.2026 09:00 cet", EIGHT),
        ("20.11.2026 02:00 Central Standard Time", EIGHT), ("20.07.2026 09:00 BST", utc(2026, 7, 20, 8)),
        ("20.11.2026 08:00 UTC", EIGHT), ("20.11.2026 08:00 GMT", EIGHT), ("20.11.2026 08:00 Z", EIGHT),
        ("01.01.2027 00:30 CET", utc(2026, 12, 31, 23, 30)),
    ]  # fmt: skip
    check(read, column, cases, "zone", vendor)


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago"])
def test_a_zone_nobody_mapped_is_a_reject_that_names_the_setting(read: Cells, zone: str) -> None:
    column = Column("x", "timestamp", formats=("%d.%m.%Y %H:%M %Z",))
    texts = ["20.11.2026 03:00 BST", "20.11.2026 03:00 America/Chicago", "20.11.2026 03:00 IST"]
    check(read, column, [(text, REJECT) for text in texts], "zone", Vendor("acme", timezone=zone))
    [error] = read(texts[:1], column, Vendor("acme", timezone=zone)).errors[1]
    assert 'zones = { EST = "-05:00" }' in error["reason"]
    assert "acme" in error["reason"]
    check(read, column, [("20.11.2026 25:00 EST", REJECT), ("20.11.2026", REJECT)], "timestamp", Vendor("acme"))


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago"])
@pytest.mark.parametrize("pattern", ["%d.%m.%Y %H:%M%z", "%d.%m.%Y %H:%MZ", "%d.%m.%Y %H:%M UTC"])
def test_z_is_utc_in_every_zone(read: Cells, zone: str, pattern: str) -> None:
    text = "20.11.2026 08:00" + (" UTC" if pattern.endswith("UTC") else "Z")
    check(read, Column("x", "timestamp", formats=(pattern,)), [(text, EIGHT)], "", Vendor("acme", timezone=zone))


@pytest.mark.parametrize("offset", ["+99:99", "+05:99", "+16:00", "-5", "+5:30", "+05:30:15", "z", "UTC", ""])
def test_offsets_that_no_clock_has_are_rejects(read: Cells, offset: str) -> None:
    column = Column("x", "timestamp", formats=("%d.%m.%Y %H:%M %z", "%z %d.%m.%Y %H:%M"))
    check(read, column, [(f"20.11.2026 08:00 {offset}", REJECT), (f"{offset} 20.11.2026 08:00", REJECT)], "timestamp")


def test_an_offset_beside_a_zone_says_what_the_zone_means(read: Cells) -> None:
    column = Column("x", "timestamp", formats=("%a %b %d %Y %H:%M:%S GMT%z (%Z)",))
    vendor = Vendor("acme", timezone="Europe/Berlin")
    check(read, column, [("Fri Nov 20 2026 03:00:00 GMT-0500 (EST)", EIGHT)], "", vendor)


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago"])
@pytest.mark.parametrize("end", ["", "%z", " %Z"])
@pytest.mark.parametrize("fraction", ["f", "g", "n"])
def test_a_fraction_is_cut_and_never_rounded(read: Cells, zone: str, end: str, fraction: str) -> None:
    column = Column("x", "timestamp", formats=(f"%Y/%m/%d %H:%M:%S.%{fraction}{end}",))
    said = {"": "", "%z": "Z", " %Z": " UTC"}[end]
    offset = 6 if zone == "America/Chicago" and not end else 0
    last = utc(2026, 11, 20, 23, 59, 59, 999_999) + timedelta(hours=offset)
    cases = [(f"2026/11/20 23:59:59.{digits}{said}", last) for digits in ("999999", "9999999", "999999999")]
    cases.append((f"2026/11/20 23:59:59.5{said}", last.replace(microsecond=500_000)))
    more: list[tuple[str, object]] = [*cases, (f"2026/11/20 23:59:59.{said}", REJECT)]
    check(read, column, more, "timestamp", Vendor("acme", timezone=zone))


def test_a_date_is_the_wall_clocks_whatever_zone_stands_beside_it(read: Cells) -> None:
    formats = ("%d.%m.%Y %H:%M %z", "%d.%m.%Y %H:%M:%S.%n", "%d.%m.%Y %H:%M (%Z)")
    cases: list[tuple[str, object]] = [
        ("20.11.2026 23:30 -05:00", DAY), ("20.11.2026 00:30 +05:30", DAY), ("20.11.2026 23:30 Z", DAY),
        ("20.11.2026 23:59:59.999999999", DAY), ("20.11.2026 23:30 (EST)", DAY), ("20.11.2026 23:30 +99:99", REJECT),
    ]  # fmt: skip
    for zone in ("UTC", "America/Chicago"):
        check(read, Column("x", "date", formats=formats), cases, "date", Vendor("acme", timezone=zone))


def test_a_local_time_that_does_not_exist_is_a_reject_that_says_so(read: Cells) -> None:
    vendor = Vendor("acme", timezone="America/Chicago")
    parsed = read(["2026-03-08 02:30:00", "2026-03-08 03:00:00"], Column("x", "timestamp"), vendor)
    assert parsed.rows[2]["x"] == utc(2026, 3, 8, 8)
    [error] = parsed.errors[1]
    assert (error["rule"], error["value"]) == ("dst_gap", "2026-03-08 02:30:00")
    assert "America/Chicago" in error["reason"]


def test_an_ambiguous_local_time_is_the_earlier_one_and_marked(read: Cells) -> None:
    vendor = Vendor("acme", timezone="America/Chicago")
    texts = ["2026-11-01 01:30:00", "2026-11-01 01:30:00-06:00", "2026-11-01 02:00:00"]
    rows = read(texts, Column("x", "timestamp"), vendor).rows
    assert [row["x"] for row in rows.values()] == [
        utc(2026, 11, 1, 6, 30),
        utc(2026, 11, 1, 7, 30),
        utc(2026, 11, 1, 8),
    ]
    assert [row["_rescued"] for row in rows.values()] == ['{"_ambiguous_time":["x"]}', None, None]


def test_a_vendors_own_column_of_our_marks_name_is_kept_beside_the_mark(con: Any, tmp_path: Path) -> None:
    vendor = Vendor("acme", timezone="America/Chicago")
    names = ("_ambiguous_time", "_ambiguous_time (2)")
    data = csv_of(("k", "e", "x", *names), ("K", EVENT, "2026-11-01 01:30:00", "theirs", "too"))
    [row] = parse(con, tmp_path, data, contract_of(Column("x", "timestamp")), vendor).rows.values()
    assert json.loads(row["_rescued"]) == {
        "_ambiguous_time": ["x"], "_ambiguous_time (2)": "too", "_ambiguous_time (3)": "theirs",
    }  # fmt: skip


def test_a_number_that_a_double_would_change_is_a_reject(read: Cells) -> None:
    kept = [
        "9007199254740992", "9007199254740994", "0.1", "123456789012345", "0.30000000000000004", "1e22", "5e-3",
        "100000000000000000000000", "0.1000000000000000000", "000000000000000000001.5", "-9007199254740992.0", "0",
        "0.000000000000000000000", "-0.0", "2.2250738585072014e-308", "52.520006599999995", "1.7976931348623157e308",
    ]  # fmt: skip
    changed = [
        "9007199254740993", "-9007199254740993", "0.1234567890123456789", "12345678901234567890", "1e-400", "1e-320",
        "3.14159265358979323846", "90071992547409.921", "52.520006599999998", "123456789012345678",
    ]  # fmt: skip
    check(read, Column("x", "double"), [(text, float(text)) for text in kept], "rounded")
    check(read, Column("x", "double"), [(text, REJECT) for text in changed], "rounded")
    [error] = read(changed[:1], Column("x", "double")).errors[1]
    assert "decimal(p,s), bigint or string" in error["reason"]


BLANK_CELLS = ["   ", "\t", "\u00a0", "\u2003\u3000", "\u2028", "\r\n"]


def test_blanks_around_a_text_are_no_part_of_it(read: Cells) -> None:
    around: list[tuple[str, object]] = [
        (f"{before}Züri ch{after}", "Züri ch") for before in ("", *BLANK_CELLS) for after in ("", *BLANK_CELLS)
    ]
    around += [(text, None) for text in BLANK_CELLS] + [
        ("é\u0085", "é"),
        ("\u2029é", "é"),
        ("©", "©"),
        ("x\u0380", "x\u0380"),
    ]
    check(read, Column("x", "string"), around, "")
    check(read, Column("x", "string", trim=False), [(text, text) for text, _ in around], "")


def test_blanks_count_in_no_rule(read: Cells) -> None:
    vendor = Vendor("acme", status_map=(("done ", "DELIVERED"),))
    column = Column("x", "string", required=True, allowed=("DELIVERED", " open"), pattern="[A-Za-z]+")
    parsed = read(["DELIVERED ", " done", "open\u00a0", *BLANK_CELLS], column, vendor, status="x")
    assert [row["x"] for row in parsed.rows.values()] == ["DELIVERED", "DELIVERED", "open"]
    assert {(e["rule"], e["value"]) for [e] in parsed.errors.values()} == {("required", t) for t in BLANK_CELLS}


SAME = [
    "K\u00fc1", "Ku\u03081", "\u200bK\u00fc1", "K\u00fc\u200b1\ufeff", "\u00a0K\u00fc1\u2003", '="K\u00fc1"',
    "'K\u00fc1", "'K\u00fc1'", '= "Ku\u03081 "', "K\u00ad\u00fc1", " K\u00fc\u20601",
]  # fmt: skip


def test_what_nobody_sees_makes_no_other_identifier(read: Cells) -> None:
    check(read, Column("x", "string", identifier=True), [(text, "K\u00fc1") for text in SAME], "")
    check(read, Column("x", "string", identifier=True), [('="0045001"', "0045001"), ("'0045001", "0045001")], "")
    check(read, Column("x", "string"), [(text, text) for text in SAME if text == text.strip()], "")


LOST = [
    "1.23E+11", "1E+5", "1.2e+07", "-1.5E+3", "+1E+1", "9,40011E+21", "9.4E21", "########", "##", "#REF!", "#N/A",
    "#NV", "#NAME?", "#DIV/0!", "#BEZUG!", "=A1+B2", "=A1", '=HYPERLINK("x","00123")', "45001.0", "45001,00",
    "1.23E+11 ",
]  # fmt: skip
FINE = [
    "1.23E-11", "E+5", "12E+5", "1.23E+11x", "ABC+E+1", "007", "9E21", "1Z999AA10123456784", "12.5", "#12", "A=B",
    "45001.01", "1Z 999 AA1 01 2345 6784", "2026/000123", "AB-12/34", "O'Neil-1", "K1", "Ω/1", "顧客1", "K 1", "📦",
    "N/A", "-", "0", "nan", "123456, 12",
]  # fmt: skip
SEVERAL = [
    "123456789, 123456780", "1Z999AA10123456784 1Z999AA10123456785", "123456789/123456780", "12345678\n12345679",
    "12345678 & 12345679",
]  # fmt: skip
HIDDEN = [
    "\u202eK1", "K\u20661", "K\ufffd1", "K\x1b[0m", "K\t1", "K\n1", "K\x7f1", "K\u20281", "K\U000e00311", "K\x851",
    "K\u200e1",
]  # fmt: skip


@pytest.mark.parametrize("others", [[], ["KÜ1", "K1"]])
def test_damage_is_found_in_identifiers_only(read: Cells, others: list[str]) -> None:
    fine = [*FINE, *others]
    bad = [
        (text, rule)
        for rule, texts in (("spreadsheet", LOST), ("several", SEVERAL), ("invisible", HIDDEN))
        for text in texts
    ]
    parsed = read([*(text for text, _ in bad), *fine], Column("x", "string", identifier=True))
    assert [parsed.rows[n]["x"] for n in sorted(parsed.rows)] == fine
    assert [(e["value"], e["rule"]) for [e] in parsed.errors.values()] == bad
    assert len({e["reason"].partition(";")[0] for [e] in parsed.errors.values()}) == 7
    assert len(read([text for text, _ in bad], Column("x", "string")).rows) == len(bad), "other texts are left alone"


def test_a_reason_names_what_nobody_sees(read: Cells) -> None:
    [error] = read(["K\u202e1\u200b"], Column("x", "string", identifier=True)).errors[1]
    assert error["reason"].endswith("; not to be seen in it: U+200B, U+202E")


NOBODY = [
    "N/A", "n/a", "nan", "NaN", "None", "NULL", "TBD", "tba", "-", "--", "0", "000", "?", ".", "unknown", "NA",
    " None ", "\\N", "(null)", "xxx", "<NA>",
]  # fmt: skip


def test_a_word_for_no_number_is_never_a_shipment(con: Any, tmp_path: Path) -> None:
    for text in [*NOBODY, "00", "_"]:  # each alone in its batch, too
        [error] = parse(con, tmp_path, csv_of(("k", "e"), (text, EVENT)), contract_of()).errors[1]
        assert (error["column"], error["rule"], error["value"]) == ("k", "placeholder", text)
    fine = ["K1", "000000010", "10", "NAN1", "0000000000000", "TBD-1", "A", "x", "7", "-1", "0-0", "TRK0", "N0"]
    parsed = parse(con, tmp_path, csv_of(("k", "e"), *((text, EVENT) for text in (*fine, *NOBODY))), contract_of())
    assert [row["k"] for row in parsed.rows.values()] == fine


def test_a_part_of_a_key_may_be_zero(con: Any, tmp_path: Path) -> None:
    contract = replace(contract_of(Column("x", "string")), key=("k", "x"))
    rows = [("K1", EVENT, text) for text in ("0", "NA", "-", "None", "n/a")]
    parsed = parse(con, tmp_path, csv_of(("k", "e", "x"), *rows), contract)
    assert [row["x"] for row in parsed.rows.values()] == ["0", "NA", "-"]


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        (Column("x", "string", pattern=r"[A-Z]{2}\d+"), ["AB1"], ["ab1", "AB", "A B1", "xAB1", "AB1\nx"]),
        (Column("x", "int", min="0", max="10"), ["0", "10"], ["-1", "11"]),
        (Column("x", "bigint", min="-5"), ["-5", "9223372036854775807"], ["-6"]),
        (Column("x", "decimal(5,2)", max="1.50"), ["1.5", "-9"], ["1.51"]),
        (Column("x", "double", min="0.5"), ["0.5", "1e9"], ["0.49"]),
        (
            Column("x", "date", min="2026-01-01", max="2026-12-31"),
            ["2026-01-01", "2026-12-31"],
            ["2025-12-31", "2027-01-01"],
        ),
        (Column("x", "timestamp", min="2026-01-01T00:00:00Z"), ["2026-01-01 00:00:00"], ["2025-12-31 23:59:59"]),
        (Column("x", "string", allowed=("a", "it's")), ["a", "it's"], ["A", "b", "a a"]),
        (Column("x", "int", allowed=("1", "2")), ["1", "02"], ["3"]),
    ],
)
def test_rules_on_values(read: Cells, column: Column, good: list[str], bad: list[str]) -> None:
    rule = "pattern" if column.pattern else "allowed" if column.allowed else None
    parsed = read([*good, *bad, ""], column)
    assert sorted(parsed.rows) == [*range(1, len(good) + 1), len(good) + len(bad) + 1]
    for n, errors in parsed.errors.items():
        [error] = errors
        assert error["rule"] in ((rule,) if rule else ("min", "max"))
        assert error["value"] == bad[n - len(good) - 1]
        wanted = (
            [column.pattern] if rule == "pattern" else column.allowed if rule else [column.min or "", column.max or ""]
        )
        assert any(w and w in error["reason"] for w in wanted)


@pytest.mark.parametrize("text", ["", None])
def test_required(read: Cells, text: str | None) -> None:
    parsed = read(["a", text or ""], Column("x", "string", required=True))
    assert list(parsed.rows) == [1]
    [error] = parsed.errors[2]
    assert (error["column"], error["value"], error["rule"]) == ("x", None, "required")
    assert "x is a required column and has no value" in error["reason"]


def test_blank_is_no_value_for_a_required_number(read: Cells) -> None:
    [error] = read(["  "], Column("x", "int", required=True)).errors[1]
    assert (error["rule"], error["value"]) == ("required", "  ")


def test_status_map(read: Cells) -> None:
    vendor = Vendor("acme", status_map=(("Delivered - it's done", "DELIVERED"), ("", "X")))
    texts = ["PICKED_UP", "Delivered - it's done", "DELIVERED", "delivered", ""]
    parsed = read(texts, Column("x", "string"), vendor, status="x")
    assert [r["x"] for r in parsed.rows.values()] == ["PICKED_UP", "DELIVERED", "DELIVERED", "delivered", None]


@pytest.mark.parametrize(
    ("status", "rank"), [("'PICKED_UP'", 0), ("'it''s'", 1), ("'picked_up'", -1), ("''", -1), ("NULL", -2)]
)
def test_status_rank(con: duckdb.DuckDBPyConnection, status: str, rank: int) -> None:
    contract = contract_of(Column("x", "string"), status="x", status_rank=("PICKED_UP", "it's"))
    assert con.execute(f"SELECT {rank_sql(contract, status)}").fetchall() == [(rank,)]
    nothing_listed = contract_of(Column("x", "string"), status="x")
    assert con.execute(f"SELECT {rank_sql(nothing_listed, status)}").fetchall() == [(min(rank, -1),)]


def test_allowed_looks_at_the_mapped_status(read: Cells) -> None:
    vendor = Vendor("acme", status_map=(("done", "DELIVERED"),))
    column = Column("x", "string", allowed=("DELIVERED",))
    parsed = read(["done", "open"], column, vendor, status="x")
    assert list(parsed.rows) == [1]
    assert parsed.errors[2][0]["value"] == "open"


def test_very_long_cells_and_signs_that_json_must_escape(read: Cells) -> None:
    texts = ["x" * 1_000_000, 'a"b\\c\n\t\x01\x1b\u2028', "📦'", "é" * MAX_VALUE_CHARS, "é" * (MAX_VALUE_CHARS + 1)]
    parsed = read(texts, Column("x", "int"))
    values = [parsed.errors[n][0]["value"] for n in range(1, 6)]
    assert values == [cut(text, MAX_VALUE_CHARS) for text in texts]
    assert values[1:4] == texts[1:4]
    assert values[0] == "x" * MAX_VALUE_CHARS + "… (1000000 characters in all)"
