"""The change data feed of the target as Spark reads it, and of tables by name, where Delta's MERGE writes it."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ordertrail.config import SparkSettings, Tables
from tests.change_feed import check_feed
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, open_house, without_fsync
from tests.property.test_change_feed import DEBT, Life
from tests.spark.session import CATALOG, Spark

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

STEPS = 12


def changes(spark: Spark, table: str) -> dict[int, list[dict[str, Any]]]:
    """All changes by version."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in spark.select(f"SELECT * FROM {table}"):
        found[row["_commit_version"]].append(row)
    return found


@pytest.mark.parametrize("mode", ["pairs", "images"])
def test_table_changes_replayed_are_the_target(tmp_path: Path, spark: Spark, mode: str) -> None:
    """The life of a pipeline as in the property test, in one query."""
    with without_fsync():
        house = open_house(tmp_path, f'change_feed = "{mode}"\n')
        house.turn(maintenance=replace(house.config.maintenance, **DEBT))
        life = Life(house, random.Random(f"spark {mode}"))
        life.batch()
        for _ in range(STEPS):
            life.step()
        life.rebuilding()
    found = changes(spark, f"table_changes_by_path('{house.table_path('target')}', 0)")
    check_feed(house, lambda _, version: found[version])


@pytest.mark.slow
def test_of_a_table_by_name(tmp_path: Path, spark: Spark) -> None:
    names = [f"{kind}_{uuid.uuid4().hex[:8]}" for kind in ("stage", "target", "history", "rejects", "deliveries")]
    house = open_house(
        tmp_path,
        'change_feed = "pairs"\n',
        engine="spark",
        tables=Tables(*names),
        spark=SparkSettings(tables="three-level"),
    )
    target = f"{CATALOG}.default.{names[1]}"
    try:
        send(house, 20, cells("A", "2026-11-20 08:00:00"), cells("B", "2026-11-20 08:00:00"))
        send(house, 21, cells("A", "2026-11-21 08:00:00"), cells("C", "2026-11-21 08:00:00"))
        found = changes(spark, f"table_changes('{target}', 0)")
        kinds = [
            sorted((row["_change_type"], row["tracking_num"]) for row in found[version]) for version in sorted(found)
        ]
        assert kinds == [
            [("insert", "A"), ("insert", "B")],
            [("insert", "C"), ("update_postimage", "A"), ("update_preimage", "A")],
        ]
        spark.run(f"ALTER TABLE {target} SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
        report = house.run()
        assert [note for note in report.notes if f"the change data feed of {names[1]} is off" in note]
        assert not report.needs_person
    finally:
        for name in names:
            spark.run(f"DROP TABLE IF EXISTS {CATALOG}.default.{name}")


def send(house: House, day: int, *rows: tuple[str, ...]) -> None:
    house.drop(dated(day), csv_bytes(rows))
    assert not house.run().notes
