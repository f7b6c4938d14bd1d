"""What hand-written pipelines get wrong inside a file: headers, encodings, types, bad cells, whole bad files (P5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from ordertrail.model import State
from ordertrail.parse.kernel import Kernel, KernelCounts, KernelFile
from tests.contract.conftest import MakeHouse
from tests.contract.spared import AGREE, BY_NAME, POISON, RULES, RULES_BY_NAME
from tests.feeds import HEADER, TIMES, cells, csv_bytes, dated
from tests.harness import House
from tests.oracle import PlainFile, Row, judge

# What is in a file is read before anybody asks how the target is written.
pytestmark = pytest.mark.spared("copies", covered_by="vectors")

PARSED_HERE = pytest.mark.spared("spark", covered_by="vectors")
"""Of scenarios about what is staged: for a small batch in folders the embedded engine's own code does it on Spark."""

KERNEL_ALONE = PARSED_HERE
"""Of further cases that differ in the row kernel alone, the same code everywhere: Spark gets two of each kind."""

EARLY = TIMES[0]
HEAD = ",".join(HEADER) + "\n"
GOOD = "O1,{key},2026-11-19,,IN_TRANSIT,Main St 1,2026-11-20 08:00:00\n"


def rejects(house: House) -> list[tuple[object, ...]]:
    """The rejects as (file row, column, value, rule), in order."""
    rows = house.rows("rejects")
    found = [(r["file_row"], r["column"], r["value"], r["rule"]) for r in rows]
    return sorted(found, key=lambda row: tuple(map(str, row)))


def quarantined(house: House, file_name: str) -> Row:
    """The delivery of a file that must be quarantined; nothing of it may have landed."""
    row = house.delivery(file_name)
    assert row["state"] == "quarantined"
    assert str(row["archived_to"]).startswith("quarantine/")
    assert row["archived_to"] in house.archived()
    assert row["rows_rejected"] == row["rows_parsed"]
    assert (house.rows("history"), house.rows("target")) == ([], [])
    return row


# --- headers and identifiers ---------------------------------------------------------------------------------------


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_leading_zeros_live(house: House) -> None:
    """P5: inference makes 007 a 7; keys are text, trimmed and nothing else."""
    blanks = ("O0070", " 0070\t", *cells("0070", EARLY)[2:])
    house.drop(dated(20), csv_bytes([cells("007", EARLY), cells("7", EARLY), blanks]))
    house.run()
    assert sorted(house.target()) == [("007",), ("0070",), ("7",)]
    assert house.target()["007",]["order_num"] == "O007"


OUR_OWN_NAMES = (
    "absent", "batch", "bn", "broken", "c0", "ch", "content", "copies", "d", "delivery_id", "dn", "file_name", "fk",
    "fr", "h",
    "here", "ins", "k", "key", "kind", "limit_us", "lower", "outcome", "p", "path", "place", "pos", "r", "raw",
    "rescued", "rk", "row", "rv", "s", "sha256", "state", "tb", "u0", "unknown", "upper", "v0", "vendor",
)  # fmt: skip
"""What our own queries call things."""


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_a_contract_may_use_the_names_that_our_queries_use(make_house: MakeHouse) -> None:
    """Whatever the columns are called, rows are ordered, compared, folded, proved and rebuilt."""
    texts = "".join(f'[[contract.columns]]\nname = "{name}"\ntype = "string"\n' for name in OUR_OWN_NAMES)
    house = make_house(
        '[contract]\nkey = ["key"]\norder_by = "ev"\nstatus = "vendor"\nstatus_rank = ["A", "B"]\n'
        f'{texts}[[contract.columns]]\nname = "ev"\ntype = "timestamp"\n'
        '[[vendors]]\nname = "acme"\nfiles = "*.csv"\nabsent = ["absent"]\n'
    )

    def csv(names: tuple[str, ...], *rows: tuple[str, int, str]) -> str:
        lines = [
            ",".join(f"2026-11-{day:02} 08:00:00" if n == "ev" else key if n == "key" else text for n in names)
            for key, day, text in rows
        ]
        return "\n".join([",".join(names), *lines]) + "\n"

    everything = (*OUR_OWN_NAMES, "ev")
    house.drop(dated(20), csv(everything, ("a", 1, "A"), ("b", 1, "A"), ("a", 1, "B"), ("d", 3, "A")))
    house.run()
    # The second file lacks a column: from here on the rows of its keys are folded.
    house.drop(dated(21), csv(everything[1:], ("a", 1, "C"), ("b", 2, "B"), ("c", 1, "B"), ("d", 2, "C")))
    rows = house.run().rows
    assert (rows.inserted, rows.updated, rows.stale) == (1, 2, 1)
    assert {key: row["vendor"] for (key,), row in house.target().items()} == {"a": "C", "b": "B", "c": "B", "d": "A"}
    assert verify(house.config).ok
    rebuild(house.config)
    assert verify(house.config).ok


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_columns_are_matched_by_name_not_by_position(house: House) -> None:
    """P5: the vendor changed the order of the columns; nothing else changes."""
    house.drop(
        dated(20),
        "last_update_timestamp,address,status,package_deliver_date,pck_recieved_date,tracking_num,order_num\n"
        f"{EARLY},Main St 1,IN_TRANSIT,,2026-11-19,007,O1\n",
    )
    house.run()
    file = PlainFile(dated(20), (HEAD + GOOD.format(key="007")).encode())
    assert house.target() == judge([file]).target


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_header_spellings_and_aliases(make_house: MakeHouse) -> None:
    """P5: case, spaces and underscores do not count; an alias maps a vendor's own name."""
    house = make_house(
        '[[vendors]]\nname = "acme"\naliases = { tracking_num = ["Sendungs-Nr"], '
        'pck_recieved_date = ["received date"] }\nstatus_map = { "Delivered - Front Door" = "DELIVERED" }\n'
    )
    house.drop(
        dated(20),
        "ORDER NUM,sendungs-nr,ReceivedDate,Package_Deliver Date,STATUS, address ,LastUpdateTimestamp\n"
        f"O1,007,2026-11-19,2026-11-20,Delivered - Front Door,X,{EARLY}\n",
    )
    house.run()
    row = house.target()["007",]
    assert (row["pck_recieved_date"], row["package_deliver_date"]) == (date(2026, 11, 19), date(2026, 11, 20))
    assert row["status"] == "DELIVERED"


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_an_identifier_that_a_spreadsheet_damaged_is_a_reject(house: House) -> None:
    """P5: 1.23E+11 has lost its digits, and says so; a status that looks like it has not."""
    rows = [cells(key, EARLY) for key in "ABCDE"]
    house.drop(dated(20), csv_bytes([*rows, cells("1.23E+11", EARLY)]))
    house.run()
    assert rejects(house) == [(6, "tracking_num", "1.23E+11", "spreadsheet")]
    assert "spreadsheet" in str(house.rows("rejects")[0]["reason"])


# --- bad cells -----------------------------------------------------------------------------------------------------


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_bad_value_is_a_reject_and_never_null(house: House) -> None:
    """P5: `CAST` makes a bad date NULL and loads the row; here it is a reject that says everything."""
    bad = 'O2,"B ""2""",2026-02-30,,IN_TRANSIT,"Main St, 1",2026-11-20 08:00:00'
    good = "".join(GOOD.format(key=key) for key in "ACDEF")
    house.drop(dated(20), HEAD + GOOD.format(key="Z") + bad + "\n" + good)
    report = house.run()
    assert (report.rows.parsed, report.rows.inserted, report.rows.rejected) == (7, 6, 1)
    assert sorted(house.target()) == [(key,) for key in "ACDEFZ"]
    (reject,) = house.rows("rejects")
    delivery = house.delivery(dated(20))
    assert {name: reject[name] for name in reject if name not in ("reason", "rejected_at")} == {
        "vendor": "default",
        "delivery_id": delivery["delivery_id"],
        "file_name": dated(20),
        "file_row": 2,
        "column": "pck_recieved_date",
        "value": "2026-02-30",
        "rule": "date",
        "raw": bad,
        "batch": 1,
        "file_line": 3,
    }
    assert "not a date" in str(reject["reason"])
    assert "row 2" in str(delivery["first_error"])
    assert "2026-02-30" in str(delivery["first_error"])


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_every_cell_that_is_wrong_is_named(house: House) -> None:
    """P5: one row with three bad cells gives three rejects, and counts once."""
    rows = [cells(key, EARLY) for key in "ABCDE"]
    house.drop(dated(20), csv_bytes([*rows, ("O", "", "x", "2026-11-20", "S", "A", "soon")]))
    report = house.run()
    assert report.rows.rejected == 1
    assert rejects(house) == [
        (6, "last_update_timestamp", "soon", "timestamp"),
        (6, "pck_recieved_date", "x", "date"),
        (6, "tracking_num", None, "required"),
    ]


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_ragged_rows_are_rejects_and_their_neighbours_load(house: House) -> None:
    """P5: a row with too few or too many cells is not padded or cut."""
    lines = [GOOD.format(key=key) for key in "ABCDEFGHIJ"]
    house.drop(dated(20), HEAD + lines[0] + "O,SHORT\n" + "".join(lines[1:]) + GOOD.format(key="LONG")[:-1] + ",more\n")
    house.run()
    assert {(row, column, rule) for row, column, _, rule in rejects(house)} == {
        (2, None, "ragged"),
        (12, None, "ragged"),
    }
    assert sorted(house.target()) == [(key,) for key in "ABCDEFGHIJ"]


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_blank_lines_and_lines_of_delimiters_are_no_rows(house: House) -> None:
    """A blank line has no number; `,,,,,,` has one, and is counted as a line that was skipped."""
    lines = [GOOD.format(key=key) for key in "ABCDE"]
    house.drop(dated(20), HEAD + "\n" + lines[0] + "\n\n" + ",,,,,,\n" + "".join(lines[1:]) + "\n")
    report = house.run()
    assert (report.rows.parsed, report.rows.rejected) == (5, 0)
    assert [one["lines_skipped"] for one in house.rows("deliveries")] == [1]


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_time_in_the_future_is_a_reject(house: House) -> None:
    """Section 6: a year typed wrong would win over every update to come; 48 h after the file's date is the limit."""
    rows = [cells(key, EARLY) for key in "ABCDEF"]
    edge, beyond = cells("EDGE", "2026-11-22 00:00:00"), cells("BEYOND", "2026-11-22 00:00:00.000001")
    house.drop(dated(20), csv_bytes([*rows, edge, beyond]))
    house.run()
    assert rejects(house) == [(8, "last_update_timestamp", "2026-11-22 00:00:00.000001", "future")]
    assert ("EDGE",) in house.target()


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_quoted_newlines_delimiters_and_quotes(house: House) -> None:
    """RFC 4180: a cell may hold anything; the record number is not the line number."""
    rows = [cells("A", EARLY, address='Main "St", 1\nBack door\r\n2nd floor'), cells("B", "never"), cells("C", EARLY)]
    rows += [cells(key, EARLY) for key in "DEFG"]
    house.drop(dated(20), csv_bytes(rows))
    house.run()
    assert house.target()["A",]["address"] == 'Main "St", 1\nBack door\r\n2nd floor'
    assert rejects(house) == [(2, "last_update_timestamp", "never", "timestamp")]


# --- bounds --------------------------------------------------------------------------------------------------------


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_of_a_long_text_rejects_keep_the_beginning_and_the_archive_the_whole(house: House) -> None:
    """P5: a cell of a megabyte, a ragged row, a header name without end: staging ran out of memory, for ever."""
    rows = [cells(key, EARLY) for key in "ABCDEFGH"]
    long = "d" * 100_000
    bad = csv_bytes([*rows, ("O", "I", long, "", "S", "A", EARLY)]) + b"x" * 50_000 + b"\n"
    house.drop(dated(20), bad)
    house.drop(dated(21), HEAD.strip() + "," + "n" * 100_000 + "\n" + "O,K,,,,,2026-11-20,1\n" * 100)
    house.drop(dated(22), b"x" * 200_000)
    report = house.run()
    assert (report.rows.inserted, report.rows.rejected) == (8, 2 + 100)
    found = {(r["file_name"], r["file_row"]): r for r in house.rows("rejects")}
    wrong = found[dated(20), 9]
    assert wrong["value"] == long[:1000] + "… (100000 characters in all)"
    line = f"O,I,{long},,S,A,{EARLY}"
    assert wrong["raw"] == line[:10_000] + f"… ({len(line)} characters in all)"
    assert found[dated(20), 10]["raw"] == "x" * 10_000 + "… (50000 characters in all)"
    assert "the name of column 8 has 100,000 characters" in str(found[dated(21), None]["reason"])
    for row in (*house.rows("deliveries"), *found.values()):
        assert len(json.dumps(row, default=str)) < 13_000
    assert bad in house.archived().values()


@pytest.mark.spared(
    "executors",
    covered_by=POISON,
)
@pytest.mark.spared("named", covered_by="spark")
def test_a_file_on_which_the_engine_fails_is_held_and_its_neighbours_load(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory, or an error of the engine's own, in every pass, for every vendor: one file stopped everybody."""
    write_rows = Kernel.write_rows

    def failing(kernel: Kernel, files: Sequence[KernelFile], *rest: Any) -> dict[int, KernelCounts]:
        for file in files:
            with file.open() as stream:
                if b"poison" in stream.read():
                    raise duckdb.OutOfMemoryException("failed to allocate data of size 512.0 MiB\nSee also")
        return write_rows(kernel, files, *rest)

    monkeypatch.setattr(Kernel, "write_rows", failing)
    for day in range(20, 24):
        house.drop(dated(day), csv_bytes([cells(f"K{day}", EARLY, address="poison" if day == 21 else "Main St 1")]))
    report = house.run()
    assert report.needs_person
    assert sorted(house.target()) == [("K20",), ("K22",), ("K23",)]
    held = house.delivery(dated(21))
    assert (held["state"], held["rows_parsed"], held["rows_rejected"]) == ("held", 1, 1)
    assert "there is not enough memory for this file, even alone" in str(held["reason"])
    assert str(held["archived_to"]).startswith("quarantine/")
    assert held["archived_to"] in house.archived()
    assert [(r["rule"], r["file_row"], r["reason"]) for r in house.rows("rejects")] == [
        ("engine", None, held["reason"])
    ]
    assert verify(house.config).ok
    assert house.run().batch is None
    # As the reason says: with more memory the same bytes load.
    monkeypatch.undo()
    house.drop(dated(21), house.archived()[str(held["archived_to"])])
    assert house.run().rows.inserted == 1


# --- encodings, zones, types ---------------------------------------------------------------------------------------


@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("cp1252", "utf-8-sig"),
        ("cp1252", "utf-16"),
        pytest.param("cp1252", "cp1252", marks=KERNEL_ALONE),
        pytest.param("utf-16", "utf-16", marks=KERNEL_ALONE),
        pytest.param("", "utf-16", marks=KERNEL_ALONE),
        pytest.param("", "utf-8-sig", marks=KERNEL_ALONE),
        pytest.param("", "utf-8", marks=KERNEL_ALONE),
    ],
    ids=[
        "cp1252 and UTF-8's mark",
        "cp1252 and UTF-16's mark",
        "cp1252",
        "UTF-16",
        "UTF-16 by its mark",
        "UTF-8 by its mark",
        "UTF-8",
    ],
)
def test_encodings(make_house: MakeHouse, declared: str, codec: str) -> None:
    """P5: bytes are decoded by their mark, else as declared, else strictly as UTF-8."""
    line = f'encoding = "{declared}"\n' if declared else ""
    house = make_house(f'[[vendors]]\nname = "acme"\n{line}')
    house.drop(dated(20), csv_bytes([cells("Ä1", EARLY, address="Königstraße 5 €")]).decode().encode(codec))
    house.run()
    assert house.target()["Ä1",]["address"] == "Königstraße 5 €"


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_undecodable_bytes_quarantine_the_file(house: House) -> None:
    """P5: no guessed mojibake; the reason names the line and what to do."""
    text = HEAD + GOOD.format(key="A") + GOOD.format(key="B").replace("Main", "Königs")
    house.drop(dated(20), text.encode("cp1252"))
    report = house.run()
    assert report.needs_person
    row = quarantined(house, dated(20))
    assert "line 3" in str(row["reason"])
    assert "encoding" in str(row["reason"])
    assert [(r["rule"], r["file_row"]) for r in house.rows("rejects")] == [("encoding", None)]


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_local_times_the_clock_jumped_over_and_showed_twice(make_house: MakeHouse) -> None:
    """P5: 02:30 on the day the clock jumps is a reject; 01:30 on the day it goes back is the earlier, and marked."""
    house = make_house('[[vendors]]\nname = "acme"\ntimezone = "America/Chicago"\n')
    rows = [cells(key, "2026-03-01 08:00:00") for key in "ABCD"]
    house.drop("order_2026_03_08.csv", csv_bytes([*rows, cells("GAP", "2026-03-08 02:30:00")]))
    house.drop("order_2026_11_01.csv", csv_bytes([cells("TWICE", "2026-11-01 01:30:00")]))
    house.drop("order_2026_11_02.csv", csv_bytes([cells("SAID", "2026-11-01T01:30:00-06:00")]))
    house.run()
    assert rejects(house) == [(5, "last_update_timestamp", "2026-03-08 02:30:00", "dst_gap")]
    rows_by_key = {str(row["tracking_num"]): row for row in house.rows("target")}
    assert sorted(rows_by_key) == ["A", "B", "C", "D", "SAID", "TWICE"]
    times = {key: row["last_update_timestamp"] for key, row in rows_by_key.items()}
    assert times["A"] == datetime(2026, 3, 1, 14, tzinfo=UTC)
    assert times["TWICE"] == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert times["SAID"] == datetime(2026, 11, 1, 7, 30, tzinfo=UTC)
    assert json.loads(str(rows_by_key["TWICE"]["_rescued"])) == {"_ambiguous_time": ["last_update_timestamp"]}
    assert rows_by_key["SAID"]["_rescued"] is None


TYPES = """
[contract]
key = ["depot", "parcel"]
order_by = "seen"
status = "state"
status_rank = ["NEW", "OLD"]
columns = [
  { name = "depot", type = "int" },
  { name = "parcel", type = "string", pattern = "[A-Z]+[0-9]*" },
  { name = "seen", type = "timestamp", formats = ["%d.%m.%Y %H:%M"] },
  { name = "day", type = "date", formats = ["%d/%m/%Y"], min = "2020-01-01" },
  { name = "state", type = "string", allowed = ["NEW", "OLD"] },
  { name = "big", type = "bigint" },
  { name = "weight", type = "double", min = "0", max = "31.5" },
  { name = "price", type = "decimal(8,2)" },
  { name = "fragile", type = "boolean" },
]
"""
TYPED_HEAD = "depot,parcel,seen,day,state,big,weight,price,fragile\n"
TYPED = "1,A1,20.11.2026 08:00,19/11/2026,NEW,9223372036854775807,31.5,12.30,yes\n"


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_contract_with_every_type(make_house: MakeHouse) -> None:
    """P5: every type keeps its value exactly, in every reader; the vendor's formats and ISO 8601 both work."""
    house = make_house(TYPES)
    house.drop("a_20261120.csv", f"{TYPED_HEAD}{TYPED}2,A1,2026-11-20T08:00:00Z,2026-11-19,,-5,,-0.05,FALSE\n")
    house.run()
    seen, day = datetime(2026, 11, 20, 8, tzinfo=UTC), date(2026, 11, 19)
    values = {
        (1, "A1"): (1, "A1", seen, day, "NEW", 2**63 - 1, 31.5, Decimal("12.30"), True),
        (2, "A1"): (2, "A1", seen, day, None, -5, None, Decimal("-0.05"), False),
    }
    assert {key: tuple(row.values()) for key, row in house.target().items()} == values


WRONG = (
    ("depot", "2147483648", "int"),
    ("depot", "1.0", "int"),
    ("parcel", "a1", "pattern"),
    ("seen", "31.11.2026 08:00", "timestamp"),
    ("day", "2019-12-31", "min"),
    ("state", "GONE", "allowed"),
    ("big", "9223372036854775808", "bigint"),
    ("weight", "31.51", "max"),
    ("weight", "NaN", "double"),
    ("price", "1.005", "decimal"),
    ("price", "1234567.00", "decimal"),
    ("fragile", "perhaps", "boolean"),
)
"""Column, a value that it does not take, and the rule that says so."""


@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
@pytest.mark.parametrize(
    ("column", "value", "rule"), [*WRONG[:2], *(pytest.param(*case, marks=KERNEL_ALONE) for case in WRONG[2:])]
)
def test_a_value_outside_its_type_or_rules_is_a_reject(
    make_house: MakeHouse, column: str, value: str, rule: str
) -> None:
    """P5: no value is rounded, cut, wrapped or nulled."""
    house = make_house(TYPES)
    names = TYPED_HEAD.strip().split(",")
    bad = [value if name == column else cell for name, cell in zip(names, TYPED.strip().split(","), strict=True)]
    good = "".join(TYPED.replace("A1", f"A{n}") for n in range(2, 7))
    house.drop("a_20261120.csv", TYPED_HEAD + good + ",".join(bad) + "\n")
    house.run()
    assert rejects(house) == [(6, column, value, rule)]
    assert len(house.target()) == 5


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_composite_key(make_house: MakeHouse) -> None:
    """The key is the list of its columns: ("1", "23") is not ("12", "3"), and half a key is none."""
    columns = "".join(f'[[contract.columns]]\nname = "{n}"\ntype = "string"\n' for n in ("a", "b", "v"))
    house = make_house(
        f'[contract]\nkey = ["a", "b"]\norder_by = "t"\nstatus_rank = []\n{columns}'
        '[[contract.columns]]\nname = "t"\ntype = "timestamp"\n'
    )
    lines = ["1,23,x", "12,3,y", "1:,2,p", "1,:2,q", "5,6,z"]
    house.drop(dated(20), "a,b,v,t\n" + "".join(f"{line},{EARLY}\n" for line in [*lines, ",3,half"]))
    house.drop(dated(21), f"a,b,v,t\n12,3,new,{TIMES[3]}\n")
    house.run()
    found = {key: row["v"] for key, row in house.target().items()}
    assert found == {("1", "23"): "x", ("12", "3"): "new", ("1:", "2"): "p", ("1", ":2"): "q", ("5", "6"): "z"}
    assert rejects(house) == [(6, "a", None, "required")]


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_reject_says_the_line_that_an_editor_shows(house: House) -> None:
    """`file_row` counts records; a blank line, a line break inside quotes and the header are lines as well."""
    good, bad = cells("A", EARLY, address='"two\nlines"'), cells("B", "never")
    house.drop(dated(20), "\n".join(["", ",".join(HEADER), ",".join(good), "", ",".join(bad), "ragged", ""]))
    house.run()
    found = {(r["file_row"], r["file_line"], r["rule"]) for r in house.rows("rejects")}
    assert found == {(2, 6, "timestamp"), (3, 7, "ragged")}
    assert "row 2 (line 6)" in str(house.rows("deliveries")[0]["first_error"])


@pytest.mark.spared("executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_pass_says_what_a_vendor_sends_that_the_config_does_not_know(make_house: MakeHouse) -> None:
    """One line a vendor and kind, and exit code 0: nothing is wrong, and nothing is silent."""
    house = make_house(
        '[[vendors]]\nname = "acme"\nfiles = "a*.csv"\nfile_date = "%d%m%Y"\n'
        '[[vendors]]\nname = "blue"\nfiles = "b*.csv"\n'
    )
    lines = [(*HEADER, "weight", "colour"), (*cells("A", EARLY, "LOST"), "1", "red")]
    house.drop("a_2026_11_20.csv", "".join(",".join(line) + "\n" for line in lines))
    house.drop("b_2026_11_20.csv", csv_bytes([cells("B", EARLY)]))
    report = house.run()
    assert not report.needs_person
    undated = "acme: file_date = '%d%m%Y' fits no name that came, such as 'a_2026_11_20.csv'"
    kept = "acme: columns that the contract does not know are kept in _rescued: 'colour', 'weight'"
    assert report.notes == (
        f"{kept}; once they are loaded, ordertrail drift says how to take them in",
        "acme: statuses neither mapped (status_map) nor ranked (status_rank), which rank below all others: 'LOST'",
        f"{undated}: the modification time orders the files",
    )
    house.drop("b_2026_11_21.csv", csv_bytes([cells("B", EARLY, "DELIVERED")]))
    assert house.run().notes == ()


# --- whole files ---------------------------------------------------------------------------------------------------


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_missing_column_quarantines_the_file(house: House) -> None:
    """P5: a file without a contract column would null it in every shipment."""
    house.drop(dated(20), f"order_num,tracking_num,status,last_update_timestamp\nO1,A,S,{EARLY}\nO1,B,S,{EARLY}\n")
    report = house.run()
    assert (report.needs_person, report.deliveries[0].state) == (True, State.QUARANTINED)
    row = quarantined(house, dated(20))
    assert (row["rows_parsed"], "pck_recieved_date" in str(row["reason"])) == (2, True)
    assert [(r["rule"], r["column"]) for r in house.rows("rejects")] == [("missing_column", "pck_recieved_date")]


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_too_many_rejects_quarantine_the_file(house: House) -> None:
    """Above `max_reject_share` (0.2) nothing of the file lands; at it the good rows do."""
    rows = [cells(f"K{n}", EARLY) for n in range(20)]
    house.drop(dated(20), csv_bytes([*rows, *[cells("X", "never")] * 6]))
    house.run()
    row = quarantined(house, dated(20))
    assert (row["rows_rejected"], "6 of 26" in str(row["reason"])) == (26, True)
    assert sorted(int(str(r["file_row"])) for r in house.rows("rejects")) == [21, 22, 23, 24, 25, 26]
    house.drop(dated(21), csv_bytes([*rows, *[cells("X", "never")] * 5]))
    assert house.run().deliveries[0].state is State.LOADED
    assert len(house.target()) == 20


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_one_typo_in_a_small_file_is_one_reject(house: House) -> None:
    """`max_reject_share` counts from `min_rejects` (5) on: a quarter of four rows is no sign of a broken export."""
    house.drop(dated(20), csv_bytes([*(cells(key, EARLY) for key in "ABC"), cells("D", "never")]))
    report = house.run()
    assert (report.needs_person, report.deliveries[0].state, report.rows.rejected) == (False, State.LOADED, 1)
    assert len(house.target()) == 3
    house.drop(dated(21), csv_bytes([cells(key, "never") for key in "ABCD"]))
    assert house.run().deliveries[0].state is State.QUARANTINED, "without a good row it is the file that is bad"


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_file_whose_name_is_far_ahead_of_its_time_is_held(house: House) -> None:
    """With that day it would win every tie for decades, and its rows could lie as far in the future."""
    house.drop("order_tracking_2062_11_23.csv", csv_bytes([cells("A", "2062-11-23 08:00:00")]))
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    report = house.run()
    assert report.needs_person
    states = {d.file_name: (d.state, d.rows.parsed) for d in report.deliveries}
    assert states == {"order_tracking_2062_11_23.csv": (State.HELD, 0), dated(20): (State.LOADED, 1)}
    [row] = [r for r in house.rows("deliveries") if r["state"] == "held"]
    assert "its name says 2062-11-23" in str(row["reason"])
    assert (house.config.archive / str(row["archived_to"])).exists()
    assert len(house.target()) == 1
    house.drop(dated(21), csv_bytes([cells("A", EARLY, status="DELIVERED")]))
    assert house.run().rows.updated == 1


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_row_in_the_future_says_which_date_of_the_file_was_meant(house: House) -> None:
    """A file without a date in its name and with an old modification time: the reason says what it goes by."""
    house.drop("undated.csv", csv_bytes([cells("A", EARLY)]), 1_577_872_800 * 10**9)
    house.run()
    [reject] = house.rows("rejects")
    assert reject["rule"] == "future"
    assert str(reject["reason"]).endswith(
        "the file's date, 2020-01-01 10:00 UTC, when it was last modified, as its name has no date"
    )


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_quarantined_file_does_not_take_its_neighbours_with_it(house: House) -> None:
    """One vendor's broken export is no reason to hold the others back; sent again, corrected, it loads."""
    house.drop(dated(20), csv_bytes([cells("A", "never")]))
    house.drop(dated(21), csv_bytes([cells("B", EARLY)]))
    house.run()
    assert set(house.target()) == {("B",)}
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    house.run()
    assert set(house.target()) == {("A",), ("B",)}


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_quarantined_file_sent_again_is_no_duplicate(house: House) -> None:
    """Section 6: deliveries that did not load never make another one a duplicate."""
    for _ in range(2):
        house.drop(dated(20), csv_bytes([cells("A", "never")]))
        assert [d.state for d in house.run().deliveries] == [State.QUARANTINED]


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_unknown_columns_are_rescued(house: House) -> None:
    """P5: a column that nobody knows is kept, as JSON in `_rescued`; a change of it alone is an update."""
    head = HEAD.replace("status", "Weight,status").strip() + ",Note é\n"
    house.drop(dated(20), f'{head}O1,A,,,12.5,S,X,{EARLY},"a, b"\nO1,B,,,,S,X,{EARLY},\n')
    house.run()
    rescued = {row["tracking_num"]: row["_rescued"] for row in house.rows("target")}
    assert json.loads(str(rescued["A"])) == {"Weight": "12.5", "Note é": "a, b"}
    assert rescued["B"] is None
    house.drop(dated(21), f'{head}O1,A,,,13,S,X,{EARLY},"a, b"\n')
    assert house.run().rows.updated == 1
    assert json.loads(str(next(r["_rescued"] for r in house.rows("target") if r["tracking_num"] == "A"))) == {
        "Weight": "13",
        "Note é": "a, b",
    }


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_unknown_columns_are_refused_when_the_contract_is_strict(make_house: MakeHouse) -> None:
    """`unknown_columns = "strict"`: a new column is a person's decision."""
    house = make_house('[contract]\nunknown_columns = "strict"\n')
    house.drop(dated(20), HEAD.strip() + ",weight\n" + GOOD.format(key="A").strip() + ",1\n")
    house.run()
    assert "weight" in str(quarantined(house, dated(20))["reason"])
    house.drop(dated(21), HEAD + GOOD.format(key="A"))
    house.run()
    assert set(house.target()) == {("A",)}


@PARSED_HERE
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_two_columns_that_mean_the_same_quarantine_the_file(house: House) -> None:
    """P5: which of two `status` columns counts is not ours to guess."""
    house.drop(dated(20), HEAD.strip() + ",STATUS\n" + GOOD.format(key="A").strip() + ",X\n")
    house.run()
    assert "status" in str(quarantined(house, dated(20))["reason"])
