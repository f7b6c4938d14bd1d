"""Mode `append` on Spark: the engines leave the same tables, and the view in the catalog is the one of `query`."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from ordertrail.config import SparkSettings
from ordertrail.errors import TableError
from ordertrail.rules import shares
from tests.feeds import FEED_LIMITS, FEED_VENDORS
from tests.harness import House, bag, check_books, columns_of, open_house, without_fsync
from tests.spark.engines import EMBEDDED, IN_EXECUTORS, Crash, by_name, check_same, crash_at, feed, state
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]

FILES = feed(24, seed=5)
BATCHES = FILES[:12], FILES[12:]


def load(house: House, *engines: tuple[str, SparkSettings], killed_at: str = "") -> None:
    """Two batches, each by an engine of its own; the pass of the second one may be killed."""
    for number, (files, (engine, settings)) in enumerate(zip(BATCHES, engines, strict=True)):
        house.drop_all(files)
        house.turn(engine=engine, spark=settings)
        if number and killed_at:
            with pytest.raises(Crash):
                house.run(crash_at(killed_at))
        house.run()


def appending(root: Path, **changes: object) -> House:
    limits = {**FEED_LIMITS, "shares": (("blue", shares.Shares(stale=0.4)),)}
    return open_house(root, 'mode = "append"\n', vendors=FEED_VENDORS, **{**limits, **changes})  # type: ignore[arg-type]


def test_the_engines_append_the_same_rows(tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors after the embedded engine in its folders; and names of three levels, beside which stands a view.

    Files that are stale are held, and so on every engine.
    """
    monkeypatch.setattr(shares, "LEAST_KEYS", 1)
    with without_fsync():
        alone, mixed = appending(tmp_path / "alone"), appending(tmp_path / "mixed")
        load(alone, EMBEDDED, EMBEDDED)
        assert {row["state"] for row in alone.rows("deliveries") if row["vendor"] == "blue"} >= {"held", "loaded"}
        load(mixed, EMBEDDED, IN_EXECUTORS, killed_at="load.committed")
        check_same(state(alone), state(mixed))
        check_books(mixed)
        schema = f"append_{uuid.uuid4().hex[:8]}"
        named = appending(tmp_path / "named", schema=schema)
        three = SparkSettings(tables="three-level")
        spark.run(f"CREATE SCHEMA {schema}")
        load(named, ("spark", three), ("spark", three))
        check_same(state(alone), {**state(named, by_name(spark)), "archive": state(alone)["archive"]})
        view = f"{named.config.catalog}.{schema}.{named.config.current}"
        columns = [column.name for column in columns_of(alone, "target") if not column.name.endswith("_at")]
        found = spark.select(f"SELECT {', '.join(columns)} FROM {view}")
        assert bag(found) == bag([{name: row[name] for name in columns} for row in alone.current()])
        spark.run(f"DROP VIEW {view}")
        spark.run(f"CREATE TABLE {view} (a INT) USING delta")
        with pytest.raises(TableError, match="ordertrail did not make it") as caught:
            named.run()
        assert "pipeline.current" in caught.value.hint
        spark.run(f"DROP SCHEMA {schema} CASCADE")
