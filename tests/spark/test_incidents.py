"""The table of incidents where only Spark reaches the tables: made, read and written by Spark, one writer at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ordertrail.alerts.evaluate import causes_of, evaluate
from ordertrail.config import SparkSettings, Tables
from ordertrail.engines.choice import incident_table
from ordertrail.errors import CommitConflictError
from ordertrail.look.incidents import incidents_of
from ordertrail.look.status import open_items_of
from ordertrail.rules.incidents import Seen
from ordertrail.rules.outbox import Channel
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync
from tests.spark.session import CATALOG, Spark

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900), pytest.mark.usefixtures("elsewhere")]

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def house(tmp_path: Path, spark: Spark) -> Iterator[House]:
    names = [
        f"{kind}_{uuid.uuid4().hex[:8]}" for kind in ("stage", "target", "history", "rejects", "deliveries", "inc")
    ]
    with without_fsync():
        yield open_house(
            tmp_path / "named",
            engine="spark",
            tables=Tables(*names[:5]),
            incidents=names[5],
            spark=SparkSettings(tables="three-level"),
        )
    for name in names:
        spark.run(f"DROP TABLE IF EXISTS {CATALOG}.default.{name}")


def test_incidents_are_kept_by_spark(house: House) -> None:
    config = house.config
    house.drop("order_tracking_2026_11_20.csv", csv_bytes([cells("007", "2026-11-20 08:00:00")]))
    house.drop("order_tracking_2026_11_21.csv", b"order_num,tracking_num\n1,009\n")
    assert not incident_table(config).possible()
    house.run()
    table, rival = incident_table(config), incident_table(config)
    assert table.possible()
    empty = table.read()
    assert (empty.version, incidents_of(config)) == (None, ())

    seen = Seen(causes_of(open_items_of(config)))
    kept = evaluate(table, seen, [Channel("mail")], lambda: NOON)
    (one,) = kept.incidents
    assert (one.kind, one.rows, one.open, one.posts[0].waiting) == ("quarantined", 1, True, "open")
    assert incidents_of(config) == (one,)
    assert evaluate(rival, seen, [Channel("mail")], lambda: NOON) == rival.read()  # nothing to write

    with pytest.raises(CommitConflictError):
        rival.write(empty, [replace(one, text="made at the same time")])
    closed = evaluate(table, Seen(()), [Channel("mail")], lambda: NOON).incidents
    with pytest.raises(CommitConflictError):
        rival.write(kept, [replace(one, text="read before")])
    assert incidents_of(config) == closed
    assert closed[0].closed_at == NOON
    assert house.run().batch is None  # the sixth table changes nothing for the five
