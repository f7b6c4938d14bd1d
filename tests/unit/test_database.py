"""Databases that serve one pass after another: nothing of one reaches the next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from ordertrail import startup
from ordertrail.cli import ahead
from ordertrail.parse import database
from ordertrail.parse.database import connect, connected, release
from ordertrail.rules.sql import DELETED


@pytest.fixture(autouse=True)
def nothing_idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[duckdb.DuckDBPyConnection]]:
    """No database is idle when a test begins."""
    idle: list[duckdb.DuckDBPyConnection] = []
    monkeypatch.setattr(database, "_idle", idle)
    yield idle
    for one in idle:
        one.close()


def test_a_released_database_serves_the_next_one(tmp_path: Path, nothing_idle: list[duckdb.DuckDBPyConnection]) -> None:
    first = connect(1, 100, tmp_path)
    first.execute("CREATE TEMP TABLE here AS SELECT 1")
    first.execute(f"CREATE SCHEMA {DELETED}")
    first.execute("SET disabled_optimizers = 'filter_pushdown'")
    release(first)
    release(first)
    assert len(nothing_idle) == 1
    with connected(2, 200, tmp_path / "other") as second:
        assert not nothing_idle
        assert second.execute("SHOW TABLES").fetchall() == []
        assert second.execute("SELECT count(*) FROM duckdb_schemas() WHERE schema_name LIKE '%deleted'").fetchall() == [
            (0,)
        ]
        names = ("TimeZone", "threads", "memory_limit", "temp_directory", "disabled_optimizers")
        found = second.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}").fetchall()
        assert found == [("UTC", 2, "190.7 MiB", str(tmp_path / "other"), "")]
        assert second.execute("SELECT to_utc_us('UTC', 5), is_ambiguous('UTC', 5)").fetchall() == [(5, False)]


def test_the_default_number_of_threads_comes_back(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        default = con.execute("SELECT current_setting('threads')").fetchall()
    with connected(7, 100, tmp_path):
        pass
    with connected(0, 100, tmp_path) as con:
        assert con.execute("SELECT current_setting('threads')").fetchall() == default


def test_a_database_is_lent_to_one_at_a_time(tmp_path: Path, nothing_idle: list[duckdb.DuckDBPyConnection]) -> None:
    with connected(1, 100, tmp_path):
        pass
    with connected(1, 100, tmp_path) as one, connected(3, 300, tmp_path) as other:
        threads = [con.execute("SELECT current_setting('threads')").fetchall() for con in (one, other)]
        assert threads == [[(1,)], [(3,)]]
    assert len(nothing_idle) == 1


def test_an_idle_database_holds_no_memory(tmp_path: Path, nothing_idle: list[duckdb.DuckDBPyConnection]) -> None:
    with connected(1, 1024, tmp_path):
        pass
    before = resident_mb()
    with connected(1, 1024, tmp_path) as con:
        con.execute("CREATE TEMP TABLE big AS SELECT range AS i, md5(CAST(range AS VARCHAR)) AS s FROM range(3000000)")
        assert resident_mb() > before + 100
    assert len(nothing_idle) == 1
    assert resident_mb() < before + 40


def test_a_process_that_ends_soon_clears_a_database_only_for_who_comes_next(
    tmp_path: Path, nothing_idle: list[duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "ends_soon", lambda: True)
    with connected(1, 100, tmp_path) as con:
        con.execute(f"CREATE SCHEMA {DELETED}")
        con.execute("CREATE TEMP TABLE here AS SELECT 1")
    (left,) = nothing_idle
    schemas = "SELECT count(*) FROM duckdb_schemas() WHERE schema_name LIKE '%deleted'"
    assert left.execute(schemas).fetchall() == [(1,)]
    with connected(1, 100, tmp_path) as con:
        assert con.execute(schemas).fetchall() == [(0,)]
        assert con.execute("SHOW TABLES").fetchall() == []


def test_one_that_was_begun_ahead_serves_whoever_connects(
    tmp_path: Path, nothing_idle: list[duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_ahead", None)
    ahead.database()
    with connected(2, 200, tmp_path) as con:
        monkeypatch.setattr(duckdb, "connect", lambda: pytest.fail("one was begun"))
        assert con.execute("SELECT is_ambiguous('UTC', 5)").fetchall() == [(False,)]
    assert len(nothing_idle) == 1
    with connected(2, 200, tmp_path):
        assert not nothing_idle


def resident_mb() -> float:
    """Memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_one_that_has_spilled_is_closed_and_its_files_go(
    tmp_path: Path, nothing_idle: list[duckdb.DuckDBPyConnection]
) -> None:
    with connected(1, 40, tmp_path / "spill") as con:
        con.execute("CREATE TEMP TABLE big AS SELECT range AS i, repeat('x', 50) || range AS s FROM range(3000000)")
        assert any((tmp_path / "spill").iterdir())
    assert not nothing_idle
    assert not (tmp_path / "spill").exists() or not any((tmp_path / "spill").iterdir())


def test_one_that_refuses_everything_is_closed(tmp_path: Path, nothing_idle: list[duckdb.DuckDBPyConnection]) -> None:
    con = connect(1, 100, tmp_path)
    database._lent[con].close()  # as far as release can see, this is a database that is not to be used any more
    release(con)
    assert not nothing_idle


def test_a_forked_child_leaves_the_parents_database_alone(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from ordertrail.parse.database import connected\n"
        "def use():\n"
        "    with connected(2, 100, Path(sys.argv[1])) as con:\n"
        "        return con.execute('SELECT sum(i) FROM range(1000000) t(i)').fetchall()[0][0]\n"
        "use()\n"
        "child = os.fork()\n"
        "if child == 0:\n    os._exit(0 if use() == 499999500000 else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or use() != 499999500000)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
