"""What reads, keeps and checks the five tables knows the table of incidents, too, where it is there."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.config.values import Maintenance
from ordertrail.engines.choice import incident_table
from ordertrail.errors import QueryError, UsageError
from ordertrail.keep.backup import backup
from ordertrail.keep.maintain import maintain
from ordertrail.keep.restore import restore
from ordertrail.look.export import export
from ordertrail.look.incidents import incidents_of
from ordertrail.look.status import Reader, status_of
from ordertrail.look.verify import VerifyReport, verify
from ordertrail.look.verify_incidents import NAME
from ordertrail.rules.incidents import Incident
from tests.harness import House, open_house, without_fsync

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ONE = Incident("i1", "delivery:1", "held", "warning", "acme", "it is held", "ordertrail release 1", 3, None, NOON, NOON)
GOOD = (
    "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
    "0001,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
)


def keep(config: Config, *incidents: Incident) -> None:
    table = incident_table(config)
    with without_fsync():
        table.write(table.read(), incidents)


def folder(config: Config) -> Path:
    return config.table_path(config.incidents)


def files(config: Config) -> list[str]:
    return sorted(path.name for path in folder(config).glob("*.parquet"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = open_house(tmp_path)
    found.drop("order_tracking_2024_11_20.csv", GOOD)
    with without_fsync():
        found.run()
    return found


def query(config: Config, sql: str, as_of: int | None = None) -> list[dict[str, object]]:
    with Reader(config) as reader:
        return reader.query(sql, as_of=as_of).dicts()  # type: ignore[return-value]


def test_a_query_reads_incidents_as_they_are_now(house: House) -> None:
    with pytest.raises(QueryError):
        query(house.config, "FROM orders_incidents")
    keep(house.config, ONE)
    assert query(house.config, "SELECT key, rows_affected FROM incremental_load.default.orders_incidents") == [
        {"key": "delivery:1", "rows_affected": 3}
    ]
    with pytest.raises(QueryError, match="cannot be shown as of batch 1"):
        query(house.config, "FROM orders_incidents", as_of=1)
    assert query(house.config, "SELECT count(*) AS n FROM orders_target", as_of=1) == [{"n": 1}]


def test_an_export_writes_incidents(house: House, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no incidents yet"):
        export(house.config, "incidents", tmp_path / "none.csv")
    keep(house.config, ONE)
    assert export(house.config, "incidents", tmp_path / "incidents.csv").rows == 1
    assert "delivery:1" in (tmp_path / "incidents.csv").read_text()


def found(report: VerifyReport) -> dict[str, tuple[bool, str, str]]:
    return {one.name: (one.ok, one.detail, one.hint) for one in report.checks}


def test_verify_checks_incidents_where_they_are(house: House) -> None:
    assert NAME not in found(verify(house.config))
    keep(house.config, ONE, replace(ONE, incident_id="i2", key="disk", closed_at=NOON))
    assert found(verify(house.config))[NAME][:2] == (True, "2 incidents, 1 open")
    keep(house.config, ONE, replace(ONE, incident_id="i2"))
    assert found(verify(house.config))[NAME][:2] == (False, "delivery:1 is open 2 times")
    (folder(house.config) / files(house.config)[0]).unlink()
    for path in folder(house.config).glob("*.parquet"):
        path.unlink()
    ok, detail, hint = found(verify(house.config))[NAME]
    assert (ok, "lacks its data file" in detail, "move the folder" in hint) == (False, True, True)
    for log in folder(house.config).glob("_delta_log/*.json"):
        log.write_text("{")
    assert found(verify(house.config))[NAME][0] is False
    assert all(one[0] for name, one in found(verify(house.config)).items() if name != NAME)
    assert status_of(house.config).target_rows == 1  # nothing else minds
    assert query(house.config, "SELECT count(*) AS n FROM orders_target") == [{"n": 1}]


def test_maintain_keeps_one_file_and_a_short_log(house: House) -> None:
    for number in range(25):
        keep(house.config, replace(ONE, count=number + 1))
    assert len(files(house.config)) == 25
    config = replace(house.config, maintenance=Maintenance(retention_h=0, log_retention_h=0))
    with without_fsync():
        maintain(config)
    assert len(files(config)) == 1
    assert len(list(folder(config).glob("_delta_log/*.json"))) < 10
    assert [one.count for one in incidents_of(config)] == [25]
    assert DeltaTable(folder(config)).to_pyarrow_table().num_rows == 1
    keep(config, ONE)
    assert [one.count for one in incidents_of(config)] == [1]


def test_a_backup_brings_incidents_back_where_none_are(house: House, tmp_path: Path) -> None:
    keep(house.config, ONE)
    with without_fsync():
        backup(house.config, tmp_path / "backup")
        keep(house.config, replace(ONE, closed_at=NOON))
        restore(house.config, tmp_path / "backup", force=True)
    # What is there knows what was told since the backup.
    assert [one.open for one in incidents_of(house.config)] == [False]
    shutil.rmtree(house.config.warehouse)
    with without_fsync():
        restore(house.config, tmp_path / "backup")
    assert [one.open for one in incidents_of(house.config)] == [True]
    assert list(house.config.warehouse.rglob(".ordertrail-restore-*")) == []


def test_incidents_of_other_tables_are_moved_aside_by_a_restore(house: House, tmp_path: Path) -> None:
    keep(house.config, ONE)
    with without_fsync():
        backup(house.config, tmp_path / "backup")
    other = open_house(tmp_path / "other")
    with without_fsync():
        other.run()
    keep(other.config, replace(ONE, key="theirs"))
    shutil.rmtree(folder(house.config))
    shutil.copytree(folder(other.config), folder(house.config))
    with without_fsync():
        report = restore(house.config, tmp_path / "backup", force=True)
    assert [one.key for one in incidents_of(house.config)] == ["delivery:1"]
    assert report.aside is not None
    assert (report.aside / "orders_incidents").is_dir()


def test_a_backup_without_incidents_leaves_those_that_are_there(house: House, tmp_path: Path) -> None:
    with without_fsync():
        backup(house.config, tmp_path / "backup")
        keep(house.config, ONE)
        restore(house.config, tmp_path / "backup", force=True)
    assert [one.key for one in incidents_of(house.config)] == ["delivery:1"]
