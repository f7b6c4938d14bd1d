"""Columns that somebody else added to the target: every writer of ours carries them, as Spark's MERGE does (P7)."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from ordertrail.config import Maintenance
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from ordertrail.rules.tables import TableColumn
from tests.contract.conftest import MakeHouse
from tests.contract.spared import RULES, RULES_BY_NAME
from tests.feeds import NO_ADDRESS, TIMES, cells, csv_bytes, dated
from tests.harness import House

EARLY, LATE = TIMES[0], TIMES[3]


def add_columns(house: House, **types: Any) -> None:
    """Somebody adds columns to the target: one metadata commit, as `ALTER TABLE ADD COLUMNS` writes."""
    version = house.version()
    found = [a["metaData"] for v in range(version + 1) for a in house.actions("target", v) if "metaData" in a]
    schema = json.loads(found[-1]["schemaString"])
    schema["fields"] += [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in types.items()]
    commit = [
        {"commitInfo": {"operation": "ADD COLUMNS"}},
        {"metaData": {**found[-1], "schemaString": json.dumps(schema)}},
    ]
    log = house.table_path("target") / "_delta_log"
    (log / f"{version + 1:020d}.json").write_text("".join(json.dumps(action) + "\n" for action in commit))


def say_depot(house: House, **depots: str) -> None:
    """Somebody fills their column for some shipments."""
    for key, depot in depots.items():
        DeltaTable(house.table_path("target")).update(
            updates={"depot": f"'{depot}'"}, predicate=f"tracking_num = '{key}'"
        )


def depots(house: House) -> dict[str, tuple[str, str | None]]:
    """Address and depot of each shipment; every reader reads the same."""
    root = house.table_path("target")
    query = QueryBuilder().register("t", DeltaTable(root)).execute("SELECT tracking_num, address, depot FROM t")
    found = sorted(map(tuple, pa.table(query).to_pandas().to_numpy().tolist()))
    by_polars = pl.scan_delta(str(root)).select("tracking_num", "address", "depot").collect().rows()
    with duckdb.connect() as con:
        columns = [TableColumn(name, "string", "") for name in ("tracking_num", "address", "depot")]
        relation = scan_sql(con, read_snapshot(DeltaLog(root)), columns)
        by_duckdb = con.execute(f"SELECT tracking_num, address, depot FROM {relation}").fetchall()
    assert sorted(by_polars, key=str) == sorted(by_duckdb, key=str)
    assert len(found) == len(by_duckdb)
    return {key: (address, depot) for key, address, depot in by_duckdb}


@pytest.mark.spared("executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_column_that_somebody_added_keeps_its_values(make_house: MakeHouse) -> None:
    """P7: Spark's MERGE leaves it alone; so do vectors, copies, a rebuild and compaction. New rows have NULL."""
    house = make_house("")
    house.drop(dated(20), csv_bytes([cells(key, EARLY, address="old") for key in "ABCE"]))
    house.run()
    add_columns(house, depot="string", shelf="integer")
    say_depot(house, A="north", B="south", E="east")
    house.drop(dated(21), csv_bytes([cells(key, LATE, address="new") for key in "ACD"]))
    house.run()
    expected = {
        "A": ("new", "north"), "B": ("old", "south"), "C": ("new", None), "D": ("new", None), "E": ("old", "east"),
    }  # fmt: skip
    assert depots(house) == expected
    if not house.config.in_folders:
        return
    assert [check for check in verify(house.config).checks if not check.ok] == []
    assert rebuild(house.config, dry_run=True).notes == ("columns of others are kept: depot, shelf",)
    rebuild(house.config)
    assert depots(house) == expected
    house.drop(dated(22), csv_bytes([cells("A", "2026-11-22 08:00:00", address="newest")]))
    house.run()
    house.turn(maintenance=Maintenance(max_small_files=1, max_deleted_share=0.0))
    maintain(house.config)
    assert depots(house) == {**expected, "A": ("newest", "north")}
    assert [check for check in verify(house.config).checks if not check.ok] == []


@pytest.mark.spared("executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_doubled_key_keeps_what_somebody_says_of_the_row_that_counts(make_house: MakeHouse) -> None:
    """All rows of the key go and one comes: it has what the one had that counted."""
    house = make_house("")
    house.foreign = True
    house.drop(dated(20), csv_bytes([cells(key, EARLY, address="old") for key in "AB"]))
    house.run()
    add_columns(house, depot="string")
    say_depot(house, A="north", B="south")
    table = DeltaTable(house.table_path("target"))
    later = "CAST('2026-11-20 08:30:00' AS TIMESTAMP)"
    query = f"SELECT * REPLACE ('twice' AS address, {later} AS last_update_timestamp, 'west' AS depot) FROM t"
    rows = pa.table(QueryBuilder().register("t", table).execute(query))
    write_deltalake(table, rows.cast(pa.schema(table.schema().to_arrow())), mode="append")
    house.drop(dated(21), csv_bytes([cells("A", LATE, address="new"), cells("B", EARLY, address="old")]))
    house.run()
    assert depots(house) == {"A": ("new", "west"), "B": ("twice", "west")}


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_columns_of_others_beside_absent_ones(make_house: MakeHouse) -> None:
    """A row that is folded from several deliveries keeps them as well."""
    vendors = '[[vendors]]\nname = "blue"\nfiles = "b*.csv"\nabsent = ["address"]\n'
    house = make_house(vendors + '[[vendors]]\nname = "acme"\n')
    house.drop(dated(20), csv_bytes([cells("A", EARLY, address="Main St 1"), cells("B", EARLY, address="B")]))
    house.run()
    add_columns(house, depot="string")
    say_depot(house, A="north")
    house.drop(f"b{dated(21)}", csv_bytes([cells("A", LATE, "DELIVERED", "not sent")], NO_ADDRESS))
    house.run()
    assert depots(house) == {"A": ("Main St 1", "north"), "B": ("B", None)}
