"""Tables of an older release, tables that somebody changed, and what `doctor` and `verify` say of both."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from msgspec.structs import replace

from ordertrail.begin.doctor import examine
from ordertrail.errors import ConfigError, TableError
from ordertrail.look.verify import verify
from ordertrail.model import Column
from ordertrail.rules.schema import CONTRACT, MIGRATE
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, check_books, check_readers, open_house

TOML = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n'
COLUMNS = (
    Column("tracking_num", "string", required=True),
    Column("weight", "bigint"),
    Column("last_update_timestamp", "timestamp", required=True),
)


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = open_house(tmp_path)
    house.drop(dated(20), csv_bytes([cells("A", TIMES[0]), cells("B", TIMES[0])]))
    house.run()
    return house


def of_the_first_release(house: House) -> None:
    """Take the property away, as a release before it made the tables."""
    for table in ("history", "target", "stage"):
        path = house.table_path(table) / "_delta_log" / f"{0:020d}.json"
        actions = house.actions(table, 0)
        for action in actions:
            action.get("metaData", {}).get("configuration", {}).pop(CONTRACT, None)
        path.write_text("".join(json.dumps(action) + "\n" for action in actions))


def properties(house: House) -> dict[str, str]:
    found: dict[str, str] = {}
    for version in range(house.version("history") + 1):
        for action in house.actions("history", version):
            found = action.get("metaData", {}).get("configuration", found)
    return found


def test_tables_of_the_first_release_are_upgraded_quietly(house: House) -> None:
    held = properties(house)[CONTRACT]
    of_the_first_release(house)
    assert CONTRACT not in properties(house)
    versions = {table: house.version(table) for table in ("stage", "target", "rejects", "deliveries")}
    assert (house.run().warnings, house.run().warnings) == ((), ())
    assert properties(house)[CONTRACT] == held
    assert house.version("history") == 2
    assert {table: house.version(table) for table in versions} == versions
    check_readers(house)
    check_books(house)
    assert verify(house.config).ok


def test_tables_of_the_first_release_are_guarded_as_well(house: House) -> None:
    of_the_first_release(house)
    contract = house.config.contract
    changed = (replace(contract, columns=contract.columns[1:]), replace(contract, key=("order_num",)))
    for wanted in changed:
        house.turn(contract=wanted)
        with pytest.raises(ConfigError):
            house.run()
    house.turn(contract=replace(contract, columns=(*contract.columns, Column("weight", "double"))))
    house.run()
    check_readers(house)
    assert [row["weight"] for row in house.rows("target")] == [None, None]


def test_a_table_that_somebody_replaced_is_refused_by_name_and_type(house: House) -> None:
    metadata = next(a for a in house.actions("target", 0) if "metaData" in a)
    schema = json.loads(metadata["metaData"]["schemaString"])
    next(f for f in schema["fields"] if f["name"] == "_revision")["type"] = "integer"
    metadata["metaData"]["schemaString"] = json.dumps(schema)
    log = house.table_path("target") / "_delta_log"
    (log / f"{house.version() + 1:020d}.json").write_text(json.dumps(metadata) + "\n")
    with pytest.raises(TableError, match="orders_target has the column _revision as int, not as bigint"):
        house.run()
    assert not verify(house.config).ok


def test_verify_finds_a_data_file_that_is_not_what_the_table_declares(tmp_path: Path) -> None:
    """What a release did that took a changed type without a word: DuckDB casts, other readers fail."""
    house = open_house(tmp_path)
    house.turn(contract=replace(house.config.contract, columns=COLUMNS, status=None, status_rank=()))
    house.drop(dated(20), f"tracking_num,weight,last_update_timestamp\nA,12,{TIMES[0]}\n")
    house.run()
    for table in ("target", "history"):
        [file] = house.table_path(table).glob("*.parquet")
        with duckdb.connect() as con:
            con.execute(f"CREATE TABLE t AS SELECT * REPLACE (CAST(weight AS VARCHAR) AS weight) FROM '{file}'")
            written_bytes = file.stat().st_size
            file.unlink()
            con.execute(f"COPY t TO '{file}' (FORMAT parquet)")
        for entry in (house.table_path(table) / "_delta_log").glob("*.json"):
            text = entry.read_text(encoding="utf-8")
            entry.write_text(text.replace(f'"size":{written_bytes},', f'"size":{file.stat().st_size},'), "utf-8")
    found = [check for check in verify(house.config).checks if "what its table and the contract say" in check.name]
    assert [check.ok for check in found] == [False]
    assert found[0].detail.count("has the column weight as string, not as long") == 2


def test_doctor_says_whether_the_tables_hold_the_contract(house: House) -> None:
    file = house.config.source.parent / "ordertrail.toml"

    def said(contract: str) -> tuple[str, str, str]:
        file.write_text(TOML + contract)
        [found] = [one for one in examine(file).findings if one.name == "contract"]
        return found.health, found.detail, found.hint

    assert said("") == ("ok", "the tables hold it", "")
    given = "".join(
        f'[[contract.columns]]\nname = "{c.name}"\ntype = "{c.type}"\n' for c in house.config.contract.columns
    )
    added = said(given + '[[contract.columns]]\nname = "weight"\ntype = "int"\n')
    assert added[0] == "ok"
    assert "orders_target gets the column weight (int)" in added[1]
    assert said(given.replace('"address"\ntype = "string"', '"address"\ntype = "int"')) == (
        "fail",
        "the contract says that address is int, but in the tables it is string",
        f'{MIGRATE}; or put type = "string" back for address in [contract]',
    )
