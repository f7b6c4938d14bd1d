"""The row kernel: conservation, explanations, hashes, several files at once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordertrail.errors import FileChangedError, OrdertrailError, QuarantineError
from ordertrail.model import Column, Contract, Vendor
from ordertrail.parse import kernel as kernel_module
from ordertrail.parse.database import connect
from ordertrail.parse.kernel import Kernel, KernelFile
from ordertrail.rules.cells import key_sql, row_hash_sql, row_sql
from ordertrail.rules.headers import map_header
from tests.depth import share
from tests.kernels import contract_of, csv_of, parse
from tests.oracle import default_contract

HEADER = default_contract().names
GOOD = ("1", "007", "2026-11-20", "", "IN_TRANSIT", "Main St 1", "2026-11-20 08:00:00")


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    con = connect(2, 512, tmp_path_factory.mktemp("it's a spill"))
    yield con
    con.close()


def test_a_good_row_is_typed_and_numbered(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    parsed = parse(con, tmp_path, csv_of(HEADER, GOOD, (*GOOD[:1], " 008 ", *GOOD[2:])), default_contract())
    assert (parsed.parsed, parsed.good, parsed.errors) == (2, 2, {})
    assert parsed.rows[1]["tracking_num"] == "007"
    assert parsed.rows[2]["tracking_num"] == "008"
    assert parsed.rows[1]["address"] == "Main St 1"
    assert parsed.rows[1]["package_deliver_date"] is None
    assert parsed.rows[1]["_delivery_no"] == 3


def test_columns_are_matched_by_name_and_the_rest_is_rescued(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    header = ("Note", *reversed(HEADER), "", "note", 'say "it\'s"')
    row = ('a"b\\\n', *reversed(GOOD), "", "", "x")
    parsed = parse(con, tmp_path, csv_of(header, row), default_contract())
    assert parsed.rows[1]["tracking_num"] == "007"
    assert json.loads(parsed.rows[1]["_rescued"]) == {"Note": 'a"b\\\n', 'say "it\'s"': "x"}
    empty = parse(con, tmp_path, csv_of(header, ("", *reversed(GOOD), "", "", "")), default_contract())
    assert empty.rows[1]["_rescued"] is None


def test_a_rescued_column_called_like_a_mark_keeps_both(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    row = (*GOOD[:6], "2026-11-01 01:30:00", "x")
    parsed = parse(
        con, tmp_path, csv_of((*HEADER, "note"), row), default_contract(), Vendor("a", timezone="America/Chicago")
    )
    assert json.loads(parsed.rows[1]["_rescued"]) == {"note": "x", "_ambiguous_time": ["last_update_timestamp"]}


def test_every_thing_that_is_wrong_with_a_row_is_said_once(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    data = "\r\n".join([",".join(HEADER), '1,"  ",2026-02-30,x,"a, ""b""",,now', "short", '"1"x,2', ",".join(GOOD), ""])
    parsed = parse(con, tmp_path, data.encode(), default_contract())
    assert list(parsed.rows) == [4]
    wrong = [(e["column"], e["value"], e["rule"]) for e in parsed.errors[1]]
    assert sorted(wrong) == [
        ("last_update_timestamp", "now", "timestamp"),
        ("package_deliver_date", "x", "date"),
        ("pck_recieved_date", "2026-02-30", "date"),
        ("tracking_num", "  ", "required"),
    ]
    assert parsed.raw == {1: '1,"  ",2026-02-30,x,"a, ""b""",,now', 2: "short", 3: '"1"x,2'}
    for n, rule in ((2, "ragged"), (3, "quote")):
        [error] = parsed.errors[n]
        assert (error["column"], error["value"], error["rule"]) == (None, None, rule)
        assert error["reason"]


def test_the_future_begins_behind_the_limit(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    limit_us = 1_795_161_600_000_000  # 2026-11-20T08:00Z
    late = (*GOOD[:6], "2026-11-20 08:00:00.000001")
    parsed = parse(con, tmp_path, csv_of(HEADER, GOOD, late), default_contract(), limit_us=limit_us)
    assert list(parsed.rows) == [1]
    [error] = parsed.errors[2]
    assert (error["rule"], error["value"]) == ("future", late[6])
    assert error["reason"].endswith("more than 48 h after the file's date, that of the test")


def test_columns_that_the_vendor_never_sends_are_null(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    vendor = Vendor("blue", absent=("address", "order_num"))
    parsed = parse(con, tmp_path, csv_of(HEADER[1:5] + HEADER[6:], GOOD[1:5] + GOOD[6:]), default_contract(), vendor)
    assert parsed.good == 1
    assert parsed.rows[1]["address"] is None


def test_delimiter_quote_encoding_and_aliases(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    vendor = Vendor("w", delimiter=";", quote="'", encoding="cp1252", aliases=(("tracking_num", ("Sendungs-Nr.",)),))
    text = ";".join(HEADER).replace("tracking_num", "sendungs-nr.") + "\n1;007;;;;'Zoë; ''x''';2026-11-20\n"
    parsed = parse(con, tmp_path, text.encode("cp1252"), default_contract(), vendor)
    assert parsed.rows[1]["address"] == "Zoë; 'x'"
    assert parsed.rows[1]["tracking_num"] == "007"


# -- conservation ---------------------------------------------------------------------------------------------------

TYPED = contract_of(
    Column("i", "bigint"), Column("f", "double"), Column("m", "decimal(6,2)"), Column("b", "boolean"),
    Column("day", "date"),
    Column("at", "timestamp", formats=("%d/%m/%Y %H:%M",)), Column("s", "string", required=True, pattern="[a-z0-9 ]*"),
)  # fmt: skip
words = st.sampled_from((
    "", " ", "0", "1", "1.5", "-2.25", "1e3", "x", "true", "2026-11-20", "2026-11-01 01:30:00", "2026-03-08 02:30:00",
    "2026-11-20T08:00:00Z", "20/11/2026 08:00", "nan", "infinity", "é", '"q"', '"', "a\nb", "1E+9",
))  # fmt: skip
rows = st.lists(st.lists(words | st.text(max_size=5), min_size=7, max_size=9), max_size=12)


@pytest.mark.parametrize("timezone", ["UTC", "America/Chicago"])
@settings(max_examples=share(25))
@given(data=st.data())
def test_parsed_is_good_plus_rejected_whatever_comes(
    con: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory, timezone: str, data: st.DataObject
) -> None:
    lines = [",".join(TYPED.names)]
    lines += [",".join(c.replace("\0", "") for c in row) for row in data.draw(rows)]
    text = "\n".join(lines).encode("utf-8", "replace")
    parsed = parse(con, tmp_path_factory.mktemp("k"), text, TYPED, Vendor("v", timezone=timezone))
    assert parsed.parsed == parsed.good + len(parsed.errors)
    assert len({*parsed.rows, *parsed.errors}) == parsed.parsed  # rows of nothing but delimiters keep their numbers
    for number, errors in parsed.errors.items():
        assert errors
        assert parsed.raw[number] is not None
        for error in errors:
            assert set(error) == {"column", "value", "rule", "reason"}
            assert error["rule"]
            assert error["reason"]
            assert error["column"] in (*TYPED.names, None)
    for row in parsed.rows.values():
        assert row["k"]
        assert row["k"] == row["k"].strip()
        assert row["s"] is not None
        assert row["e"] is not None


# -- several files --------------------------------------------------------------------------------------------------


def write(
    con: duckdb.DuckDBPyConnection, folder: Path, contents: dict[int, bytes]
) -> tuple[list[KernelFile], Kernel, pa.Table]:
    contract, vendor = default_contract(), Vendor("acme")
    kernel = Kernel(con, contract, vendor, map_header(HEADER, contract, vendor))
    failed: dict[int, OrdertrailError] = {}
    files = [KernelFile(n, lambda content=content: io.BytesIO(content), failed) for n, content in contents.items()]  # type: ignore[misc]
    limit = pa.array([1 << 61] * len(contents), pa.int64())
    names = pa.array([f"file {n}" for n in contents])
    return (
        files,
        kernel,
        pa.table({"d": pa.array(list(contents), pa.int32()), "limit_us": limit, "name": names, "dated": names}),
    )


def test_many_files_in_one_go_each_with_its_own_counts(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "BATCH_ROWS", 4)
    bad = (*GOOD[:6], "never")
    contents = {n: csv_of(HEADER, *[GOOD] * n, *[bad] * (n % 3)) for n in range(12)}
    files, kernel, header = write(con, tmp_path, contents)
    path = tmp_path / "it's rows.parquet"
    counts = kernel.write_rows(files, path, [("_name", "name")], header)
    assert {n: (c.parsed, c.good, c.rejected) for n, c in counts.items()} == {
        n: (n + n % 3, n, n % 3) for n in range(12)
    }
    found = pq.read_table(path).to_pylist()
    assert all(row["_name"] == f"file {row['_delivery_no']}" for row in found)
    assert len(found) == sum(range(12))


def test_a_file_that_fails_takes_no_other_with_it(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    good = csv_of(HEADER, GOOD)
    contents = {1: good, 2: good + b"\xff\n", 3: good.replace(b"address", b"adres"), 4: good, 5: good + b"\0"}
    files, kernel, header = write(con, tmp_path, contents)
    counts = kernel.write_rows(files, tmp_path / "rows.parquet", [], header)
    failed = files[0].failed
    assert {n: type(error) for n, error in failed.items()} == {
        2: QuarantineError,
        3: FileChangedError,
        5: QuarantineError,
    }
    assert (counts[1].good, counts[4].good) == (1, 1)


def test_no_file_appears_when_there_is_nothing_to_write(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files, kernel, header = write(con, tmp_path, {1: csv_of(HEADER), 2: csv_of(HEADER, ("x", *("",) * 6))})
    counts = kernel.write_rows(files, tmp_path / "rows.parquet", [], header)
    assert (counts[1].parsed, counts[2].parsed, counts[2].good) == (0, 1, 0)
    assert not (tmp_path / "rows.parquet").exists()


def test_hundreds_of_unknown_columns_fit_into_the_default_memory(tmp_path: Path) -> None:
    con = connect(2, 1024, tmp_path / "spill")
    try:
        extra = tuple(f"x{i}" for i in range(600))
        parsed = parse(con, tmp_path, csv_of((*HEADER, *extra), (*GOOD, *extra)), default_contract())
    finally:
        con.close()
    assert json.loads(parsed.rows[1]["_rescued"]) == dict(zip(extra, extra, strict=True))


# -- hashes ---------------------------------------------------------------------------------------------------------


def row_hash(con: duckdb.DuckDBPyConnection, values: dict[str, str]) -> int:
    [(value,)] = con.execute(f"SELECT {row_hash_sql(values)}").fetchall()
    return int(value)


VALUES = {"a": "'x'", "b": "CAST(7 AS BIGINT)", "c": "DATE '2026-11-20'", "d": "CAST(NULL AS VARCHAR)"}


def test_the_row_hash_is_pinned(con: duckdb.DuckDBPyConnection) -> None:
    assert row_hash(con, VALUES) == 5868161784951749366


def test_order_and_nulls_do_not_change_a_row_hash_but_names_and_values_do(con: duckdb.DuckDBPyConnection) -> None:
    base = row_hash(con, VALUES)
    assert row_hash(con, dict(reversed(VALUES.items()))) == base
    assert row_hash(con, {k: v for k, v in VALUES.items() if k != "d"}) == base
    assert row_hash(con, {**VALUES, "new": "CAST(NULL AS DATE)"}) == base
    others = [
        {**VALUES, "d": "''"}, {**VALUES, "a": "'X'"}, {**VALUES, "b": "CAST(8 AS BIGINT)"},
        {"a2": "'x'", "b": VALUES["b"], "c": VALUES["c"]},
        {"a": "'x'", "c": VALUES["c"]}, {"a": VALUES["c"], "c": "'x'", "b": VALUES["b"]}, {},
    ]  # fmt: skip
    hashes = [row_hash(con, other) for other in others]
    assert base not in hashes
    assert len(set(hashes)) == len(hashes)
    assert all(value >= 0 for value in [base, *hashes])


def test_equal_rows_have_equal_hashes_in_any_column_order(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    one = parse(con, tmp_path, csv_of(HEADER, GOOD), default_contract())
    turned = default_contract()
    turned = Contract(tuple(reversed(turned.columns)), turned.key, turned.order_by, turned.status, turned.status_rank)
    other = parse(con, tmp_path, csv_of(tuple(reversed(HEADER)), tuple(reversed(GOOD))), turned)
    assert one.rows[1]["_row_hash"] == other.rows[1]["_row_hash"]


def test_a_composite_key_is_never_ambiguous(con: duckdb.DuckDBPyConnection) -> None:
    contract = Contract(
        (Column("a", "string"), Column("b", "string"), Column("e", "timestamp")), ("a", "b"), "e", None, ()
    )
    pairs = [("1", "23"), ("12", "3"), ("1:", "23"), ("1", ":23"), ("2:12", "3"), ("", "x"), ("x", "")]
    keys = [con.execute(f"SELECT {key_sql(contract, {'a': '$1', 'b': '$2'})}", pair).fetchall()[0][0] for pair in pairs]
    assert len(set(keys)) == len(pairs)


def test_a_composite_key_needs_all_its_parts(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    contract = Contract(
        (Column("a", "string"), Column("b", "int"), Column("e", "timestamp")), ("a", "b"), "e", None, ()
    )
    data = csv_of(("a", "b", "e"), ("x", "1", "2026-11-20"), ("x", " ", "2026-11-20"), ("", "1", "2026-11-20"))
    parsed = parse(con, tmp_path, data, contract)
    assert list(parsed.rows) == [1]
    assert {n: [(e["column"], e["rule"]) for e in errors] for n, errors in parsed.errors.items()} == {
        2: [("b", "required")],
        3: [("a", "required")],
    }


def test_no_rule_of_a_row_is_a_join(con: duckdb.DuckDBPyConnection) -> None:
    """DuckDB makes a join of a list of words, and computes the text to look up for rows that need no look."""
    sql = row_sql(default_contract(), Vendor("a"), map_header(HEADER, default_contract(), Vendor("a")))
    relation = "few_cells"
    for step in filter(None, sql.steps):
        relation = f"(SELECT *, {', '.join(f'{one} AS {name}' for name, one in step)} FROM {relation})"
    cells = [(f"{of}{i}", kind) for i in range(len(HEADER)) for of, kind in (("c", "VARCHAR"), ("f", "BOOLEAN"))]
    columns = ["CAST(range AS BIGINT) AS limit_us", *(f"CAST(random() AS {kind}) AS {name}" for name, kind in cells)]
    con.execute(f"CREATE TEMP TABLE few_cells AS SELECT {', '.join(columns)} FROM range(9)")
    try:
        [(_, plan)] = con.execute(f"EXPLAIN SELECT * FROM {relation} WHERE {sql.good}").fetchall()
    finally:
        con.execute("DROP TABLE few_cells")
    assert "join" not in plan.lower()
    assert "filter" in plan.lower()


def test_long_queries_print_no_progress(tmp_path: Path) -> None:
    """DuckDB's bar goes to stdout, where `--json` promises one document and nothing else."""
    con = connect(1, 256, tmp_path)
    try:
        assert con.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(False,)]
    finally:
        con.close()


def test_a_contract_of_a_thousand_columns_is_not_too_deep(con: duckdb.DuckDBPyConnection) -> None:
    values = {f"x{n}": str(n) for n in range(1200)}
    one_by_one = 0
    for name, value in values.items():
        [(pair,)] = con.execute(f"SELECT hash(hash('{name}', {value}))").fetchall()
        one_by_one ^= pair
    assert row_hash(con, values) == one_by_one >> 1
