"""P9: the tables are plain Delta Lake. Every reader reads the same rows, at every version, with the right types.

`conftest.make_house` has every reader look after every scenario of the suite as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from tests.contract.conftest import MakeHouse
from tests.contract.test_row_scenarios import TYPED, TYPED_HEAD, TYPES
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import READERS, House, bag, columns_of, read_delta_rs

TABLES = ("target", "history", "rejects", "deliveries")
readers = pytest.mark.parametrize("reader", READERS)


@pytest.fixture
def lived_in(begin_with: Callable[[Callable[[House], None]], House]) -> House:
    """Every kind of commit: rows inserted, updated, rejected, and a batch that changes no row."""
    return begin_with(live_in)


def live_in(house: House) -> None:
    good = [cells(key, TIMES[0], address='Main "St", 1\nMünchen') for key in ("007", "B", "C", "D", "E")]
    house.drop(dated(20), csv_bytes([*good, cells("", TIMES[0])]))
    house.run()
    house.drop(dated(21), csv_bytes([cells("007", TIMES[3], "", ""), cells("NEW", TIMES[2])]))
    house.run()
    house.drop(dated(22), csv_bytes(good))
    house.run()


@pytest.mark.series
@pytest.mark.spared("executors", "named", covered_by="spark")
@readers
@pytest.mark.parametrize("table", TABLES)
def test_every_version_reads_the_same(lived_in: House, table: str, reader: str) -> None:
    """Time travel is a reader's right: every version of every table, by every reader."""
    read = READERS[reader]
    sizes = []
    for version in range(lived_in.version(table) + 1):
        expected = read_delta_rs(lived_in, table, version)
        assert bag(read(lived_in, table, version)) == bag(expected)
        sizes.append(len(expected))
    assert (
        sizes
        == {
            "target": [0, 5, 6, 6],
            "history": [0, 5, 7, 12],
            "rejects": [0, 1, 1, 1],
            "deliveries": [0, 1, 1, 2, 2, 3, 3],  # each batch has a second commit, the mark that it is archived
        }[table]
    )


@pytest.mark.spared("executors", "named", covered_by="spark")
@readers
def test_values_come_back_as_they_were_sent(lived_in: House, reader: str) -> None:
    """Leading zeros, quotes, newlines and umlauts; dates as dates, times as instants in UTC."""
    rows = {row["tracking_num"]: row for row in READERS[reader](lived_in, "target", 1)}
    row = rows["007"]
    assert (row["address"], row["pck_recieved_date"]) == ('Main "St", 1\nMünchen', date(2026, 11, 19))
    assert row["last_update_timestamp"] == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert (row["package_deliver_date"], row["_rescued"]) == (None, None)
    (reject,) = READERS[reader](lived_in, "rejects", None)
    assert reject["raw"] == csv_bytes([cells("", TIMES[0])]).decode().splitlines()[1]


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_the_tables_need_one_feature_of_their_readers_at_most(lived_in: House, way: str) -> None:
    """Protocol (1, 2), which the oldest readers read, but for a target with deletion vectors; times are TIMESTAMP."""
    for table in ("stage", *TABLES):
        protocol = DeltaTable(lived_in.table_path(table)).protocol()
        if table == "target" and way != "copies":
            assert (protocol.min_reader_version, protocol.min_writer_version) == (3, 7)
            (features,) = (action["protocol"] for action in lived_in.actions(table, 0) if "protocol" in action)
            assert features["readerFeatures"] == ["deletionVectors"]
            assert set(features["writerFeatures"]) == {"deletionVectors", "invariants"}
        else:
            assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
        fields = json.loads(DeltaTable(lived_in.table_path(table)).schema().to_json())["fields"]
        assert [field["name"] for field in fields] == [column.name for column in columns_of(lived_in, table)]
        types = {field["name"]: field["type"] for field in fields}
        assert "timestamp_ntz" not in types.values()
        for column in columns_of(lived_in, table):
            assert types[column.name] == {"bigint": "long", "int": "integer"}.get(column.type, column.type)


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_every_type_of_a_contract_is_the_delta_type_of_its_name(make_house: MakeHouse) -> None:
    """int, bigint, double, decimal and boolean are what every engine of others calls them."""
    house = make_house(TYPES)
    house.drop("a_20261120.csv", TYPED_HEAD + TYPED)
    house.run()
    fields = json.loads(DeltaTable(house.table_path("target")).schema().to_json())["fields"]
    types = [field["type"] for field in fields[: len(house.config.contract.columns)]]
    assert types == [
        "integer", "string", "timestamp", "date", "string", "long", "double", "decimal(8,2)", "boolean",
    ]  # fmt: skip


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_statistics_and_sizes_in_the_log_are_true(lived_in: House) -> None:
    """Engines of others skip files and count rows by what the log says of them."""
    for table in TABLES:
        root = lived_in.table_path(table)
        counted = 0
        for added in pa.table(DeltaTable(root).get_add_actions(flatten=True)).to_pylist():
            assert added["size_bytes"] == (root / added["path"]).stat().st_size
            counted += added["num_records"]
        for file in read_snapshot(DeltaLog(root)).files.values():
            counted -= json.loads(file.deletion_vector)["cardinality"] if file.deletion_vector else 0
        assert counted == len(lived_in.rows(table))
