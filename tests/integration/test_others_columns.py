"""Columns of others in every type that Delta has, and tables whose columns of others cannot be carried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder
from msgspec.structs import replace

from ordertrail.config import Maintenance
from ordertrail.errors import TableError
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.model import Column
from tests.contract.test_others_columns import add_columns, say_depot
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, open_house

LATE = TIMES[3]
LIST = {"type": "array", "elementType": "integer", "containsNull": True}
FIELD = {"name": 'it\'s a "b"', "type": "long", "nullable": True, "metadata": {}}
STRUCT = {"type": "struct", "fields": [FIELD, {**FIELD, "name": "c", "type": LIST}]}
MAP = {"type": "map", "keyType": "string", "valueType": "double", "valueContainsNull": True}
TYPES: dict[str, tuple[Any, str]] = {
    "a_text": ("string", "'Zoë''s'"),
    "a_long": ("long", "9007199254740993"),
    "an_integer": ("integer", "CAST(-2147483648 AS INTEGER)"),
    "a_short": ("short", "CAST(-32768 AS SMALLINT)"),
    "a_byte": ("byte", "CAST(-128 AS TINYINT)"),
    "a_float": ("float", "1.5::FLOAT"),
    "a_double": ("double", "1e300::DOUBLE"),
    "a_decimal": ("decimal(38,10)", "12345678901234567890.0123456789::DECIMAL(38,10)"),
    "a_boolean": ("boolean", "true"),
    "a_binary": ("binary", "'\\x00\\xFF'::BLOB"),
    "a_date": ("date", "DATE '1583-01-01'"),
    "a_time": ("timestamp", "TIMESTAMPTZ '2026-11-20 08:00:00.000001+00'"),
    "a_list": (LIST, "[1, NULL, 3]"),
    "a_struct": (STRUCT, "{'it''s a \"b\"': 7, 'c': [1, 2]}"),
    "a_map": (MAP, "MAP {'x': 1.5::DOUBLE}"),
}


@pytest.fixture(params=[True, False], ids=["vectors", "copies"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    house = open_house(tmp_path, deletion_vectors=request.param)
    house.drop(dated(20), csv_bytes([cells("A", TIMES[0]), cells("B", TIMES[0])]))
    house.run()
    return house


def fill_all(house: House) -> None:
    """Somebody writes every column of theirs for A: the old row goes, the whole row comes in a file of their own."""
    table = house.table_path("target")
    path = table / "theirs.parquet"
    made = ", ".join(f"{sql} AS {name}" for name, (_, sql) in TYPES.items())
    [file] = table.glob("b*.parquet")
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"COPY (SELECT *, {made} FROM '{file}' WHERE tracking_num = 'A') TO '{path}' (FORMAT parquet)")
    DeltaTable(table).delete("tracking_num = 'A'")
    stats = json.dumps({"numRecords": 1})
    add = {"path": path.name, "partitionValues": {}, "size": path.stat().st_size, "modificationTime": 1}
    actions = [{"commitInfo": {"operation": "WRITE"}}, {"add": {**add, "dataChange": True, "stats": stats}}]
    entry = table / "_delta_log" / f"{house.version() + 1:020d}.json"
    entry.write_text("".join(json.dumps(action) + "\n" for action in actions))


def entries(house: House) -> list[str]:
    """The log entries of all tables."""
    return sorted(str(path) for path in house.config.warehouse.rglob("_delta_log/*.json"))


def theirs(house: House, key: str) -> dict[str, object]:
    """What others have in a row, by two readers that know nothing of ours."""
    root = house.table_path("target")
    names = ", ".join(TYPES)
    query = QueryBuilder().register("t", DeltaTable(root))
    [found] = pa.table(query.execute(f"SELECT {names} FROM t WHERE tracking_num = '{key}'")).to_pylist()
    by_polars = pl.scan_delta(str(root)).filter(pl.col("tracking_num") == key).select(*TYPES).collect()
    assert len(by_polars) == 1
    assert by_polars.null_count().row(0) == tuple(int(found[name] is None) for name in TYPES)
    return dict(found)


def test_every_type_of_delta_is_carried(house: House) -> None:
    add_columns(house, **{name: kind for name, (kind, _) in TYPES.items()})
    fill_all(house)
    before = theirs(house, "A")
    assert all(value is not None for value in before.values())
    house.drop(dated(21), csv_bytes([cells("A", LATE, address="new"), cells("B", LATE), cells("C", LATE)]))
    house.run()
    assert house.target()["A",]["address"] == "new"
    assert theirs(house, "A") == before
    assert set(theirs(house, "B").values()) == set(theirs(house, "C").values()) == {None}
    house.turn(maintenance=Maintenance(max_small_files=1, max_deleted_share=0.0))
    maintain(house.config)
    assert len(DeltaTable(house.table_path("target")).file_uris()) == 1
    assert theirs(house, "A") == before
    rebuild(house.config)
    assert theirs(house, "A") == before


@pytest.mark.parametrize("kind", ["variant", "void", {"type": "array", "elementType": "variant", "containsNull": True}])
def test_a_type_that_cannot_be_carried_is_refused_before_anything_is_written(house: House, kind: Any) -> None:
    add_columns(house, odd=kind)
    waiting = house.drop(dated(21), csv_bytes([cells("A", LATE)]))
    before = entries(house)
    with pytest.raises(TableError, match="somebody else added the column odd to orders_target"):
        house.run()
    assert entries(house) == before
    assert waiting.exists()


def test_what_others_have_in_a_damaged_file_is_lost_in_a_rebuild_and_said_to_be(house: House) -> None:
    add_columns(house, depot="string")
    house.drop(dated(21), csv_bytes([cells("C", LATE)]))
    house.run()
    say_depot(house, C="south", A="north")
    target = house.table_path("target")
    live = {Path(uri).name for uri in DeltaTable(target).file_uris()}
    [damaged] = [name for name in live if b"north" in (target / name).read_bytes()]
    (target / damaged).write_bytes(b"x" * (target / damaged).stat().st_size)
    report = rebuild(house.config)
    assert report.warnings == (f"{damaged} could not be read: columns of others are NULL for its rows",)
    query = QueryBuilder().register("t", DeltaTable(target)).execute("SELECT tracking_num, depot FROM t")
    found = {row["tracking_num"]: row["depot"] for row in pa.table(query).to_pylist()}
    assert (found["A"], found["C"]) == (None, "south")


@pytest.mark.parametrize("name", ["depot", "address"])
def test_a_column_that_is_never_null_and_not_filled_is_refused(house: House, name: str) -> None:
    """Readers that trust the schema fail on the first row without it."""
    log = house.table_path("target") / "_delta_log"
    if name == "depot":
        add_columns(house, depot="string")
    metadata = [a for v in range(house.version() + 1) for a in house.actions("target", v) if "metaData" in a][-1]
    schema = json.loads(metadata["metaData"]["schemaString"])
    next(field for field in schema["fields"] if field["name"] == name)["nullable"] = False
    metadata["metaData"]["schemaString"] = json.dumps(schema)
    (log / f"{house.version() + 1:020d}.json").write_text(json.dumps(metadata) + "\n")
    house.drop(dated(21), csv_bytes([cells("A", LATE)]))
    with pytest.raises(TableError, match=f"the column {name} of orders_target is NOT NULL") as caught:
        house.run()
    assert f"ALTER COLUMN {name} DROP NOT NULL" in caught.value.hint
    with pytest.raises(TableError) as again:
        rebuild(house.config)
    assert again.value.hint == caught.value.hint
    if name == "address":
        columns = house.config.contract.columns
        required = tuple(Column(c.name, c.type, required=True) if c.name == name else c for c in columns)
        house.turn(contract=replace(house.config.contract, columns=required))
    else:
        next(field for field in schema["fields"] if field["name"] == name)["nullable"] = True
        metadata["metaData"]["schemaString"] = json.dumps(schema)
        (log / f"{house.version() + 1:020d}.json").write_text(json.dumps(metadata) + "\n")
    assert house.run().rows.updated == 1
