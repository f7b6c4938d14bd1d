"""The table of incidents where only Spark reaches the tables: made, read and written by Spark, one writer at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from ordertrail.alerts.evaluate import causes_of, evaluate
from ordertrail.config import SparkSettings, Tables
from ordertrail.engines.choice import incident_table
from ordertrail.errors import CommitConflictError
from ordertrail.look import standing
from ordertrail.look.incidents import incidents_of
from ordertrail.look.status import open_items_of
from ordertrail.rules.expectation import Expectation
from ordertrail.rules.incidents import Seen
from ordertrail.rules.outbox import Channel
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync
from tests.spark.engines import Crash, crash_at
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


def test_incidents_are_kept_by_spark(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(Crash):  # the process ends between the two commits that make the table
        evaluate(incident_table(config, probe=crash_at("incidents.created")), seen, [Channel("mail")], lambda: NOON)
    assert incidents_of(config) == ()
    with pytest.raises(Crash):  # and then between the commit and the message
        evaluate(incident_table(config, probe=crash_at("incidents.committed")), seen, [Channel("mail")], lambda: NOON)
    kept = evaluate(table, seen, [Channel("mail")], lambda: NOON)
    assert kept == rival.read(), "what the process left is what there is, and is still to be told"
    (one,) = kept.incidents
    assert (one.kind, one.rows, one.shipments, one.open) == ("quarantined", 1, None, True)
    assert (one.count, one.posts[0].waiting, one.posts[0].told) == (1, "open", None)
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

    every = Expectation("every", "UTC", every=timedelta(hours=4), grace=timedelta(minutes=10))
    waits = replace(config, expectations=(("default", every),))
    ahead = datetime.now(UTC) + timedelta(hours=3)
    for hours, kinds in ((0, ["quarantined"]), (2, ["quarantined", "late"])):
        clock = SimpleNamespace(now=lambda zone, at=ahead + timedelta(hours=hours): at)
        monkeypatch.setattr(standing, "datetime", clock)
        items = open_items_of(waits)
        assert [item.kind for item in items] == kinds
    assert items[-1].text.endswith("; a file of it usually has 1 row of 1 shipment")
