"""`Pipeline.target()` and its like: every library reads what `query` gives, and nothing is written or locked."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ordertrail import Pipeline, TableRows
from ordertrail.engines.local.reading import _spills
from ordertrail.errors import TableError, UsageError
from ordertrail.lock import pipeline_lock
from ordertrail.look.status import Reader
from tests.harness import House, columns_of, open_house

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
ROLES = ("target", "history", "deliveries", "rejects")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two batches, the second with a vector, and a reject."""
    house = open_house(tmp_path_factory.mktemp("read"), "max_reject_share = 0.9")
    first = "".join(f"O{key},{key},2026-11-19,,PICKED_UP,X,2026-11-20 08:00:00\n" for key in "ABC")
    house.drop("a_2026_11_20.csv", f"{HEADER}{first}OD,D,never,,,,2026-11-20 08:00:00\n")
    house.run()
    house.drop("b_2026_11_21.csv", f"{HEADER}OA,A,2026-11-19,2026-11-21,DELIVERED,,2026-11-21 08:00:00\n")
    house.run()
    return house


def rows_of(house: House, role: str) -> TableRows:
    return getattr(house.pipeline(), role)()  # type: ignore[no-any-return]


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in an order, with times in one zone and missing cells as None."""
    told = [{name: one(value) for name, value in row.items()} for row in rows]
    return sorted(told, key=lambda row: str(list(row.values())))


def one(value: Any) -> Any:
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.parametrize("role", ROLES)
def test_all_ways_give_what_query_gives(house: House, role: str) -> None:
    found = rows_of(house, role)
    with Reader(house.config) as reader:
        wanted = plain(list(map(dict, reader.query(f"FROM {found.name}").dicts())))
    assert wanted
    assert found.columns == tuple(column.name for column in columns_of(house, role))
    assert plain(found.to_arrow().to_pylist()) == wanted
    assert plain(found.to_polars().to_dicts()) == wanted
    assert plain(found.to_pandas().to_dict("records")) == wanted
    assert plain(found.scan().to_arrow_table().to_pylist()) == wanted
    assert plain(found.scan().pl().to_dicts()) == wanted


def test_pandas_has_types_with_null_and_no_rounding(house: House) -> None:
    frame = rows_of(house, "rejects").to_pandas()
    assert str(frame["batch"].dtype) == "Int64"
    assert str(frame["rejected_at"].dtype) == "datetime64[us, UTC]"
    hashes = rows_of(house, "target")
    assert set(hashes.to_pandas()["_row_hash"]) == set(hashes.to_arrow()["_row_hash"].to_pylist())


def test_a_table_is_what_it_was_when_it_was_asked_for(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop("a_2026_11_20.csv", f"{HEADER}OA,A,2026-11-19,,PICKED_UP,X,2026-11-20 08:00:00\n")
    house.run()
    before, lazy = rows_of(house, "target"), rows_of(house, "target").scan()
    house.drop("b_2026_11_21.csv", f"{HEADER}OA,A,2026-11-19,,DELIVERED,X,2026-11-21 08:00:00\n")
    house.run()
    after = rows_of(house, "target")
    assert before.to_arrow()["status"].to_pylist() == ["PICKED_UP"]
    assert lazy.project("status").fetchall() == [("PICKED_UP",)]
    assert after.to_arrow()["status"].to_pylist() == ["DELIVERED"]
    assert after.version > before.version
    assert repr(after) == f"<TableRows orders_target, version {after.version}>"


def test_a_relation_lives_without_the_table(house: House) -> None:
    lazy = rows_of(house, "target").scan().filter("status = 'PICKED_UP'")
    gc.collect()
    assert sorted(lazy.project("tracking_num").fetchall()) == [("B",), ("C",)]
    assert lazy.pl(lazy=True).select(pl.len()).collect().item() == 2


def test_nothing_is_written_and_a_running_pass_is_no_hindrance(house: House) -> None:
    def files() -> list[tuple[str, int]]:
        root = house.config.warehouse
        return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file())

    with pipeline_lock(house.config):
        before = files()
        for role in ROLES:
            assert rows_of(house, role).to_arrow().num_rows
        assert files() == before


@pytest.mark.parametrize(("library", "method"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_a_library_that_is_missing(house: House, library: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=f"{library} is not installed") as caught:
        getattr(rows_of(house, "target"), method)()
    assert caught.value.hint == f"pip install {library}"
    assert isinstance(rows_of(house, "target").to_arrow(), pa.Table)


def test_no_library_is_imported_before_it_is_used(house: House) -> None:
    root = house.config.source.parent
    code = (
        "import sys; from pathlib import Path; from ordertrail import Pipeline\n"
        "from ordertrail.config import parse_config\n"
        'config = parse_config(\'[pipeline]\\nsource = "source"\\narchive = "archive"\\nwarehouse = "warehouse"\', '
        "base=Path(sys.argv[1]), environ={})\n"
        "orders = Pipeline(config).target()\nassert orders.scan().aggregate('count(*)').fetchall() == [(3,)]\n"
        "print([name for name in ('pandas', 'polars') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_what_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    with pytest.raises(TableError, match="there is no Delta table"):
        Pipeline(house.config).target()
    house.drop("a_2026_11_20.csv", f"{HEADER}OA,A,2026-11-19,,PICKED_UP,X,2026-11-20 08:00:00\n")
    house.run()
    found = rows_of(house, "target")
    for file in house.table_path("target").glob("*.parquet"):
        file.unlink()
    with pytest.raises(TableError, match=r"the data file .* of orders_target is not there") as caught:
        found.to_arrow()
    assert "ordertrail rebuild" in caught.value.hint


def test_what_spills_is_in_a_folder_that_only_we_read(house: House) -> None:
    lazy = rows_of(house, "target").scan()
    folder = _spills()
    assert folder.is_dir()
    assert os.stat(folder).st_mode & 0o077 == 0
    assert str(folder) in str(lazy.query("t", "SELECT current_setting('temp_directory')").fetchall())
