"""`query` on tables that real passes made: what it must not do, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from ordertrail.errors import QueryError, StorageError, TableError
from ordertrail.look.reading_sql import require_reading
from ordertrail.look.status import Reader
from ordertrail.look.stoppable import Ahead, Stoppable, any_stuck
from tests.harness import House, open_house

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
FOR_EVER = {
    "cross join": "SELECT count(*) FROM range(10000000) a, range(10000000) b, range(100000) c",
    "recursion": "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t",
    "rows without end": "SELECT a.range FROM range(10000000) a, range(10000000) b WHERE a.range + b.range < 0",
    "sleep": "SELECT sleep_ms(100000)",
}


def line(key: str, status: str, time: str) -> str:
    return f"O{key},{key},2026-11-19,,{status},X,{time}\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Three shipments, one of them brought up to date: the target has a row that a deletion vector marks."""
    house = open_house(tmp_path_factory.mktemp("queried"))
    house.drop("a_2026_11_20.csv", HEADER + "".join(line(key, "PICKED_UP", "2026-11-20 08:00:00") for key in "ABC"))
    house.run()
    house.drop("b_2026_11_21.csv", HEADER + line("A", "DELIVERED", "2026-11-21 08:00:00"))
    house.run()
    return house


@pytest.fixture(scope="module")
def reader(house: House) -> Iterator[Reader]:
    with Reader(house.config) as reader:
        yield reader


def marked_rows(reader: Reader) -> str:
    """The table of deleted rows that the view of the target reads."""
    sql = "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'ordertrail_deleted'"
    ((name,),) = reader.query(sql).rows
    return f"memory.ordertrail_deleted.{name}"


@pytest.mark.parametrize(
    "writing",
    [
        "WITH x AS (DELETE FROM {} RETURNING *) SELECT count(*) FROM x",
        "SELECT (WITH x AS (INSERT INTO {} VALUES (1) RETURNING *) SELECT count(*) FROM x)",
        "EXPLAIN ANALYZE WITH x AS (UPDATE {} SET pos = 0 RETURNING *) FROM x",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "CREATE OR REPLACE TABLE {} AS SELECT 1 AS pos",
    ],
)
def test_rows_that_are_gone_stay_gone(reader: Reader, writing: str) -> None:
    sql = writing.format(marked_rows(reader))
    with pytest.raises(QueryError):
        reader.query(sql)
    assert reader.query("SELECT count(*) FROM orders_target").rows == ((3,),)


def test_the_transaction_is_a_fence_of_its_own(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = f"WITH x AS (DELETE FROM {marked_rows(reader)} RETURNING *) SELECT count(*) FROM x"
    monkeypatch.setattr("ordertrail.look.query.require_reading", lambda *_: None)
    with pytest.raises(QueryError, match="read-only"):
        reader.query(sql)
    assert reader.query("SELECT count(*) FROM orders_target").rows == ((3,),)


@pytest.mark.parametrize(
    "sql",
    [
        "COPY orders_target TO '{0}/x.csv'",
        "WITH x AS (COPY orders_target TO '{0}/x.csv') SELECT 1",
        "FROM read_csv('/etc/passwd')",
        "FROM read_text('/etc/passwd')",
        "FROM READ_BLOB('/etc/passwd')",
        "FROM '/etc/passwd.csv'",
        "FROM glob('/etc/*')",
        "FROM sniff_csv('/etc/passwd')",
        "SELECT getenv('HOME')",
        "FROM arrow_scan(1, 2, 3)",
        "FROM pandas_scan(1)",
        "SELECT (FROM memory.main.python_map_function(1))",
        "FROM query('FROM arrow_scan(1, 2, 3)')",
        "FROM enable_logging('QueryLog', storage = 'file', storage_path = '{0}/x')",
        "FROM enable_profiling(save_location = '{0}/x')",
        "FROM checkpoint()",
        "FROM which_secret('s3://x', 's3')",
        "ATTACH '{0}/x.db' AS x",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET memory_limit = '1TB'",
        "RESET enable_external_access",
        "CALL pragma_version()",
        "USE memory",
        "BEGIN",
        "CREATE TEMP TABLE x AS SELECT 1",
        "PREPARE x AS SELECT 1",
        "PIVOT orders_target ON status",
        "EXPLAIN DELETE FROM orders_target",
        "SELECT 1; DROP VIEW orders_target",
    ],
)
def test_nothing_but_reading_the_tables(reader: Reader, tmp_path: Path, sql: str) -> None:
    with pytest.raises(QueryError) as caught:
        reader.query(sql.format(tmp_path))
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("WITH x AS (SELECT 1 AS i) SELECT i FROM x UNION ALL VALUES (2)", 2),
        ("WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 5) FROM t", 5),
        ("PIVOT orders_history ON status IN ('DELIVERED', 'PICKED_UP') USING count(*) GROUP BY tracking_num", 3),
        ("FROM orders_target o ASOF JOIN orders_history h USING (tracking_num, _batch)", 3),
        ("SELECT unnest(range(3)), x FROM generate_series(1, 1) g(x)", 3),
        ("FROM (DESCRIBE orders_target)", 17),
        ("SUMMARIZE orders_target", 17),
        ("SHOW TABLES", 5),
        ("EXPLAIN ANALYZE SELECT count(*) FROM default.orders_target", 1),
        ("EXPLAIN (FORMAT json) FROM orders_target", 1),
        ("SELECT 'DELETE_NODE' AS \"INSERT_QUERY_NODE\", {'type': 'COPY_QUERY_NODE'}", 1),
        ("SELECT count(*) FROM information_schema.tables", 1),
    ],
)
def test_reading_runs(reader: Reader, sql: str, rows: int) -> None:
    assert len(reader.query(sql)) == rows


def test_deep_sql_is_refused_with_a_sentence(reader: Reader) -> None:
    with pytest.raises(QueryError):
        reader.query("SELECT " + "(" * 5000 + "1" + ")" * 5000)


# -- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOR_EVER)
def test_a_query_without_end_is_stopped_in_time(reader: Reader, kind: str) -> None:
    with pytest.raises(QueryError, match=r"longer than 0\.3 s") as caught:
        reader.query(FOR_EVER[kind], timeout_s=0.3)
    assert "--timeout" in caught.value.hint
    assert not any_stuck()
    assert reader.query("SELECT count(*) FROM orders_target").rows == ((3,),)


@pytest.mark.parametrize("kind", ["cross join", "recursion"])
def test_ctrl_c_ends_a_query_at_once(reader: Reader, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = threading.Event()

    def judge(con: duckdb.DuckDBPyConnection, sql: str, example: str) -> None:
        require_reading(con, sql, example)
        judged.set()

    def press() -> None:
        judged.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("ordertrail.look.query.require_reading", judge)
    finger = threading.Thread(target=press)
    finger.start()
    with pytest.raises(KeyboardInterrupt):
        reader.query(FOR_EVER[kind], timeout_s=60)
    finger.join()
    assert not any_stuck()
    assert reader.query("SELECT count(*) FROM orders_target").rows == ((3,),)


def test_a_call_that_cannot_be_stopped_is_left_behind() -> None:
    free = threading.Event()
    calls = Stoppable(lambda: None)
    with pytest.raises(TimeoutError):
        calls.run(free.wait, 0.01)
    assert calls.stuck
    assert any_stuck()
    free.set()
    for thread in threading.enumerate():
        if thread.name == "ordertrail-stoppable":  # other tests of this process may have left threads that never end
            thread.join()
    assert not any_stuck()


def test_items_are_made_one_ahead_and_errors_come_where_they_are_taken() -> None:
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            if number:
                second.set()
            yield number
        raise ZeroDivisionError

    with closing(Ahead(items(), lambda: None)) as ahead:
        assert ahead.take() == 0
        assert second.wait(10)
        assert made == [0, 1]
        assert [ahead.take(), ahead.take()] == [1, 2]
        with pytest.raises(ZeroDivisionError):
            ahead.take()
    with closing(Ahead(iter(()), lambda: None)) as ahead:
        assert ahead.take() is None


def test_closing_stops_the_item_that_is_being_made() -> None:
    free, begun = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        begun.set()
        free.wait()
        yield 1

    ahead = Ahead(items(), free.set)
    assert begun.wait(10)
    ahead.close()
    assert free.is_set()


def test_rows_after_the_last_one_are_not_computed(reader: Reader) -> None:
    found = reader.query("SELECT range FROM range(200000000000)", max_rows=3)
    assert (found.rows, found.cut) == (((0,), (1,), (2,)), True)
    found = reader.query("SELECT range FROM range(3)", max_rows=3)
    assert (len(found), found.cut) == (3, False)


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SELECT CASE WHEN range > 5000 THEN error('late') ELSE range END FROM range(9000)", "late"),
        ("SELECT CAST(CASE WHEN range > 5000 THEN 'x' ELSE '1' END AS INT) FROM range(9000)", "Could not convert"),
    ],
)
def test_an_error_after_the_first_rows_is_the_users_too(reader: Reader, sql: str, what: str) -> None:
    with pytest.raises(QueryError, match=what):
        reader.query(sql)


def test_a_result_is_under_the_memory_limit(house: House) -> None:
    with Reader(house.config) as reader:
        reader._opened()._memory_limit_mb = 1
        with pytest.raises(QueryError, match="memory limit of 1 MB"):
            reader.query("SELECT range FROM range(200000000000)")


def test_what_does_not_fit_in_memory_goes_where_nobody_else_looks(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Reader(house.config) as reader:
        reader.query("SELECT 1")
        (folder,) = tmp_path.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        ((found,),) = reader.query("SELECT value FROM duckdb_settings() WHERE name = 'temp_directory'").rows
        assert Path(str(found)) == folder
        (folder / "left.tmp").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_query_left_goes_with_the_next_one(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, fresh, other = (
        tmp_path / f".ordertrail-{name}" for name in ("query-" + "a" * 32, "query-" + "b" * 32, "mine")
    )
    with Reader(house.config) as living:
        living.query("SELECT 1")
        (spill,) = tmp_path.iterdir()
        for folder in (left, fresh, other):
            folder.mkdir()
            (folder / "spilled").touch()
        for folder in (left, other, spill):
            os.utime(folder, (0, 0))
        with Reader(house.config) as reader:
            reader.query("SELECT 1")
        assert set(tmp_path.iterdir()) == {fresh, other, spill}


def test_a_file_that_is_gone_is_no_fault_of_the_sql(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop("a_2026_11_20.csv", HEADER + line("A", "PICKED_UP", "2026-11-20 08:00:00"))
    house.run()
    (data,) = house.table_path("target").glob("*.parquet")
    with Reader(house.config) as reader:
        reader.query("SELECT 1")
        data.write_bytes(b"no parquet")
        with pytest.raises(StorageError, match=re.escape(data.name)) as caught:
            reader.query("FROM orders_target")
        assert "ordertrail rebuild" in caught.value.hint


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_table_hides_no_other(tmp_path: Path, damage: str) -> None:
    house = open_house(tmp_path)
    house.drop("a_2026_11_20.csv", HEADER + line("A", "PICKED_UP", "2026-11-20 08:00:00") + line("B", "X", "never"))
    house.run()
    (data,) = house.table_path("target").glob("*.parquet")
    data.unlink()
    if damage == "cut":
        data.write_bytes(b"PAR1")
    with Reader(house.config) as reader:
        assert len(reader.deliveries()) == len(reader.rejects()) == 1
        assert reader.query("SELECT count(*) FROM orders_history").rows == ((1,),)
        for ask in (lambda: reader.query("FROM default.orders_target"), lambda: reader.track("A")):
            with pytest.raises((StorageError, TableError), match="orders_target") as caught:
                ask()
            assert "ordertrail rebuild" in caught.value.hint


def test_sql_that_does_not_parse_as_reading_is_named() -> None:
    with duckdb.connect() as con, pytest.raises(QueryError, match="DELETE"):
        require_reading(con, "WITH x AS (DELETE FROM t RETURNING *) FROM x", "t")
