"""The read model against tables that real passes made."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.errors import QueryError, TableError, UsageError
from ordertrail.look.rows import Rows
from ordertrail.look.status import NEXT_PASS, Cell, Reader, Waiting, json_value
from tests.harness import House, open_house

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
DAY_20 = "order_tracking_2026_11_20.csv"
DAY_21 = "order_tracking_2026_11_21.csv"


def line(key: str, status: str = "IN_TRANSIT", time: str = "2026-11-20 08:00:00", address: str = "X") -> str:
    return f"O{key},{key},2026-11-19,,{status},{address},{time}\n"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two batches: three keys and a reject; then an update, a late row and a file that is quarantined. Only to read."""
    house = open_house(tmp_path_factory.mktemp("seen"), "max_reject_share = 0.4\n")
    house.drop(DAY_20, HEADER + line("007") + line("B") + line("C") + line("D", time="yesterday"))
    house.run()
    later = line("007", "DELIVERED", "2026-11-21 09:00:00") + line("B", time="2026-11-19 01:00:00")
    house.drop(DAY_21, HEADER + later)
    house.drop("bad.csv", "what,is,this\n1,2,3\n")
    house.run()
    return house


@pytest.fixture
def house(seen: House, tmp_path: Path) -> House:
    """The same, to change."""
    return moved(seen, tmp_path)


def moved(house: House, root: Path) -> House:
    """A copy of a pipeline with all its folders."""
    config = house.config
    shutil.copytree(config.source.parent, root, dirs_exist_ok=True)
    return House(replace(config, source=root / "source", archive=root / "archive", warehouse=root / "warehouse"))


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every name below a folder, with what is in it and when it was changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (path.stat().st_mtime_ns, data)
    return found


def query(house: House, sql: str) -> list[tuple[Cell, ...]]:
    with Reader(house.config) as reader:
        return list(reader.query(sql).rows)


# -- the whole --------------------------------------------------------------------------------------------------


def test_without_tables_it_says_to_run_a_pass_and_makes_nothing(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    with pytest.raises(TableError) as caught:
        Reader(house.config)
    assert "run a pass first" in caught.value.hint
    assert tree(tmp_path).keys() == {"source"}


def test_status_counts_what_the_tables_hold(house: House) -> None:
    with Reader(house.config) as reader:
        status = reader.status()
    assert (status.pipeline, status.engine, status.last_batch) == ("orders", "embedded", 2)
    assert status.target_rows == len(house.rows("target")) == 3
    assert status.history_rows == len(house.rows("history")) == 5
    assert status.rejects_rows == len(house.rows("rejects"))
    assert status.deliveries == {"loaded": 2, "quarantined": 1}
    assert status.target_version == house.version("target")
    files = list(house.table_path("target").glob("*.parquet"))
    assert status.target_files == len(files) == 2
    assert status.target_bytes == sum(file.stat().st_size for file in files)
    debt = status.debt
    assert (debt.due, debt.reasons) == (False, ())
    assert (debt.target_files, debt.target_small_files, debt.target_deleted_rows) == (2, 2, 1)
    assert debt.target_deleted_share == 0.25
    assert debt.history_files == len(list(house.table_path("history").glob("*.parquet")))
    assert status.last_loaded_at == max(row["loaded_at"] for row in house.rows("deliveries") if row["loaded_at"])
    assert not status.staged_batch_unfinished
    assert (status.waiting, status.waiting_files, status.warnings) == ((), 0, ())
    (quarantined,) = status.quarantined_recent
    assert (quarantined.file_name, quarantined.batch) == ("bad.csv", 2)
    assert "has no column" in str(quarantined.reason)


def test_status_of_empty_tables(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.run()
    with Reader(house.config) as reader:
        status = reader.status()
    assert (status.last_batch, status.last_loaded_at, status.deliveries, status.target_rows) == (None, None, {}, 0)


def test_status_sees_a_batch_that_is_staged_only(house: House) -> None:
    house.drop("late.csv", HEADER + line("E"))
    house.stage()
    with Reader(house.config) as reader:
        status = reader.status()
    assert status.staged_batch_unfinished
    assert status.last_batch == 2


def test_status_lists_what_is_in_the_source(house: House) -> None:
    new = house.drop("new.csv", HEADER)
    house.drop("notes.txt", "hello")
    arrived = datetime.fromtimestamp(int(new.stat().st_ctime), UTC)
    house.drop("half.csv.part", HEADER)
    with Reader(house.config) as reader:
        status = reader.status()
    assert status.waiting == (
        Waiting("half.csv.part", None, "a temporary name: its writer has not finished"),
        Waiting("new.csv", "default", NEXT_PASS, arrived),
        Waiting("notes.txt", None, "no vendor takes it"),
    )
    assert status.waiting_files == 1


def test_status_of_a_source_that_is_gone_is_a_warning(house: House) -> None:
    shutil.rmtree(house.config.source)
    with Reader(house.config) as reader:
        status = reader.status()
    assert "source" in status.warnings[0]
    assert status.target_rows == 3


def test_status_needs_no_duckdb() -> None:
    code = "import sys, ordertrail.look.status; sys.exit('duckdb' in sys.modules or 'pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_changes_nothing(house: House, tmp_path: Path) -> None:
    before = tree(tmp_path)
    with Reader(house.config) as reader:
        reader.status()
        reader.deliveries()
        reader.rejects()
        reader.track("007")
        reader.query("SELECT count(*) FROM orders_history")
    assert tree(tmp_path) == before


def test_a_reader_sees_one_moment(house: House) -> None:
    with Reader(house.config) as reader:
        house.drop("more.csv", HEADER + line("E"))
        house.run()
        assert reader.status().target_rows == 3
        assert len(reader.deliveries()) == 3


# -- rows -------------------------------------------------------------------------------------------------------


def test_deliveries_come_newest_batch_first(seen: House) -> None:
    with Reader(seen.config) as reader:
        rows = reader.deliveries().dicts()
        assert [row["file_name"] for row in rows] == ["bad.csv", DAY_21, DAY_20]
        assert [row["batch"] for row in rows] == [2, 2, 1]
        assert [row["file_name"] for row in reader.deliveries(state="quarantined").dicts()] == ["bad.csv"]
        assert len(reader.deliveries(vendor="nobody' OR '1'='1")) == 0
        assert len(reader.deliveries(vendor="default", limit=2)) == 2
        second = rows[0]["discovered_at"]
        assert isinstance(second, datetime)
        assert second.tzinfo is UTC
        elsewhere = second.astimezone(timezone(timedelta(hours=5)))
        assert [row["batch"] for row in reader.deliveries(since=elsewhere).dicts()] == [2, 2]
        assert len(reader.deliveries(since=second + timedelta(microseconds=1))) == 0


def test_rejects_say_where_and_why(seen: House) -> None:
    with Reader(seen.config) as reader:
        whole, reject = reader.rejects().dicts()
        assert (whole["file_name"], whole["file_row"]) == ("bad.csv", None)
        assert (reject["file_row"], reject["column"], reject["value"]) == (4, "last_update_timestamp", "yesterday")
        assert len(reader.rejects(limit=1)) == 1
        assert len(reader.rejects(vendor="nobody")) == 0
        assert reader.rejects(delivery=str(reject["delivery_id"])).dicts() == [reject]


@pytest.mark.parametrize(
    ("wanted", "what"),
    [({"state": "lost"}, "lost"), ({"since": datetime(2026, 1, 1)}, "zone")],  # noqa: DTZ001
)
def test_what_cannot_be_asked_for_is_a_usage_error(seen: House, wanted: dict[str, object], what: str) -> None:
    with Reader(seen.config) as reader, pytest.raises(UsageError, match=what):
        reader.deliveries(**wanted)  # type: ignore[arg-type]


def test_track_tells_the_whole_story_of_a_key(seen: House) -> None:
    with Reader(seen.config) as reader:
        track = reader.track(" 007\t")
    assert track.key == "007"
    assert track.current is not None
    assert (track.current["status"], track.current["_revision"]) == ("DELIVERED", 2)
    assert [(row["_outcome"], row["_file_name"]) for row in track.history] == [
        ("inserted", DAY_20),
        ("updated", DAY_21),
    ]


def test_track_orders_by_the_total_order_and_not_by_arrival(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    for name, row in (
        ("order_tracking_2026_11_22.csv", line("007", "DELIVERED", address="third")),
        (DAY_20, line("007", "RETURNED", address="first")),
        (DAY_21, line("007", "DELIVERED", address="b") + line("007", "PICKED_UP", address="a")),
        ("order_tracking_2026_11_23.csv", line("007", time="2026-11-19 08:00:00", address="oldest")),
    ):
        house.drop(name, HEADER + row)
        house.run()
    with Reader(house.config) as reader:
        track = reader.track("007")
    assert [row["address"] for row in track.history] == ["oldest", "first", "a", "b", "third"]
    assert track.current is not None
    assert track.current["address"] == "third"


def test_track_of_a_key_nobody_sent(seen: House) -> None:
    with Reader(seen.config) as reader:
        track = reader.track("7")
    assert (track.current, track.history) == (None, ())


def test_track_of_a_key_of_several_columns(tmp_path: Path) -> None:
    contract = (
        '[contract]\nkey = ["carrier", "number"]\norder_by = "at"\n'
        '[[contract.columns]]\nname = "carrier"\ntype = "string"\n'
        '[[contract.columns]]\nname = "number"\ntype = "bigint"\n'
        '[[contract.columns]]\nname = "at"\ntype = "timestamp"\n'
    )
    house = open_house(tmp_path, contract)
    house.drop("a.csv", "carrier,number,at\nA/S,12,2026-11-20\nA,12,2026-11-20\nA,13,2026-11-20\n")
    house.run()
    with Reader(house.config) as reader:
        assert reader.track("A/12").current is not None
        assert reader.track("A / 012 ").current is not None
        assert reader.track(["A/S", "12"]).current is not None
        assert reader.track("A/many").current is None
        with pytest.raises(UsageError, match="parts"):
            reader.track("12")


# -- SQL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "orders_target",
        "Orders_Target",
        "default.orders_target",
        '"default".orders_target',
        "incremental_load.default.orders_target",
        "Incremental_Load . Default . orders_target",
    ],
)
def test_a_table_goes_by_its_name_with_schema_and_catalog(seen: House, name: str) -> None:
    assert query(seen, f"SELECT tracking_num FROM {name} t ORDER BY 1") == [("007",), ("B",), ("C",)]


def test_text_that_looks_like_a_name_stays(seen: House) -> None:
    assert query(
        seen,
        "SELECT 'default.x' AS a, 'é', \"default\".orders_target.status /* default.y */ "
        "FROM default.orders_target WHERE tracking_num = '007'",
    ) == [("default.x", "é", "DELIVERED")]


def test_all_five_tables_are_there(seen: House) -> None:
    names = {"orders_stage", "orders_target", "orders_history", "orders_rejects", "orders_deliveries"}
    assert {row[0] for row in query(seen, "SHOW TABLES")} == names
    for name in names:
        assert query(seen, f"SELECT count(*) > 0 FROM {name}") == [(True,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x;",
        "FROM orders_target",
        "VALUES (1), (2)",
        "DESCRIBE orders_target",
        "SUMMARIZE orders_target",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "explain analyze SELECT * FROM orders_target",
        "EXPLAIN (FORMAT json) SELECT 1",
        "-- a remark\nSELECT 1",
    ],
)
def test_statements_that_read_run(seen: House, sql: str) -> None:
    assert query(seen, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
        "COPY orders_target TO 'out.csv'",
        "EXPLAIN ANALYZE COPY orders_target TO 'out.csv'",
        "EXPLAIN /* c */ ANALYZE COPY orders_target TO 'out.csv'",
        "ATTACH 'other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA version",
        "CALL pragma_version()",
        "CREATE TABLE x (a INT)",
        "DROP VIEW orders_target",
        "INSERT INTO orders_target VALUES (1)",
        "WITH x AS (SELECT 1) DELETE FROM orders_target",
        "EXPORT DATABASE 'x'",
        "SELECT 1; SELECT 2",
        "SELECT * FROM seen",
        "SELECT nothing FROM orders_target",
        "SELEC 1",
        "SELECT ?",
        "SELECT 1 WHERE 'x' = 1",
        "",
        "-- nothing",
        "SELECT '\udcff",
    ],
)
def test_anything_else_is_refused_with_a_hint(
    seen: House, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = seen.config.source.parent
    before = tree(root)
    with pytest.raises(QueryError) as caught:
        query(seen, sql)
    assert caught.value.message
    assert caught.value.hint
    assert tree(root) == before
    assert tree(tmp_path) == {}


def test_no_statement_overwrites_a_data_file_of_a_table(seen: House) -> None:
    """The data files are the only ones that DuckDB may open at all."""
    path = next(seen.table_path("target").glob("*.parquet"))
    before = tree(seen.config.source.parent)
    for sql in ("COPY (SELECT 1) TO '{}' (USE_TMP_FILE false)", "EXPLAIN ANALYZE COPY (SELECT 1) TO '{}'"):
        with pytest.raises(QueryError):
            query(seen, sql.format(path))
    assert tree(seen.config.source.parent) == before


def test_cells_are_plain_python(seen: House) -> None:
    sql = (
        "SELECT sum(_batch) AS whole, TIMESTAMPTZ '2026-11-20 10:00:00+02' AS at, TIMESTAMP '2026-11-20 08:00:00' "
        "AS wall, DATE '2026-11-20' AS day, 1.50::DECIMAL(5,2) AS price, [1, NULL] AS list, {'a': DATE '2026-11-20'} "
        "AS struct, 'x'::BLOB AS bytes, TIME '10:00' AS time, TIMESTAMPTZ 'infinity' AS never, "
        "TIMESTAMP_NS '2026-11-20 08:00:00.000000001' AS fine, 'nan'::DOUBLE AS nan, 1 AS whole FROM orders_target"
    )
    with Reader(seen.config) as reader:
        rows = reader.query(sql)
    row = rows.dicts()[0]
    eight = datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert row["whole"] == 4
    assert isinstance(row["whole"], int)
    assert row["at"] == row["wall"] == row["fine"] == eight
    assert (row["day"], row["price"]) == (date(2026, 11, 20), Decimal("1.50"))
    assert (row["list"], row["struct"], row["bytes"]) == ([1, None], {"a": date(2026, 11, 20)}, "78")
    assert isinstance(row["never"], str)
    assert row["time"] == "10:00:00"
    assert rows.columns[-1] == "whole_1"
    text = json.dumps({name: json_value(cell) for name, cell in row.items()}, allow_nan=False)
    assert json.loads(text)["at"] == "2026-11-20T08:00:00Z"
    assert json.loads(text)["price"] == "1.50"


def test_rows_have_a_length_and_dicts() -> None:
    rows = Rows(("a", "b"), ((1, None), (2, "x")))
    assert len(rows) == 2
    assert rows.dicts() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


# -- deletion vectors -------------------------------------------------------------------------------------------


def inline_vector(rows: list[int]) -> dict[str, object]:
    """A deletion vector inside the log: PROTOCOL.md, "Deletion Vector Format", with one array container."""
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *sorted(rows))
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    padded = data + bytes(-len(data) % 4)
    python = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    text = base64.b85encode(padded).decode().translate(str.maketrans(python, z85))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": len(rows)}


def delete_by_vector(house: House, table: str, file_rows: list[int]) -> None:
    """Mark rows of the newest data file of a table as deleted, as Spark does."""
    version = house.version(table)
    newest_first = (action for at in range(version, -1, -1) for action in house.actions(table, at))
    add = next(a["add"] for a in newest_first if "add" in a and "deletionVector" not in a["add"])
    remove = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True, "size": add["size"]}
    features = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    commit = [
        {"commitInfo": {"operation": "DELETE"}},
        {"protocol": protocol},
        {"remove": remove},
        {"add": {**add, "deletionVector": inline_vector(file_rows)}},
    ]
    entry = house.table_path(table) / "_delta_log" / f"{version + 1:020d}.json"
    entry.write_text("".join(json.dumps(action) + "\n" for action in commit))


@pytest.mark.parametrize("table", ["target", "history", "deliveries"])
def test_rows_that_a_deletion_vector_marks_are_gone(house: House, table: str) -> None:
    before = len(house.rows(table))
    delete_by_vector(house, table, [0])
    assert query(house, f"SELECT count(*) FROM orders_{table}") == [(before - 1,)]
    with Reader(house.config) as reader:
        status = reader.status()
    seen = {"target": status.target_rows, "history": status.history_rows, "deliveries": sum(status.deliveries.values())}
    assert seen[table] == before - 1
