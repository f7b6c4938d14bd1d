"""Tables by name: the whole pipeline on `incremental_load.default.orders_*` and on `schema.table`, a crash included."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ordertrail.config import SparkSettings, Tables, TablesBy
from ordertrail.engines import spark_tables
from ordertrail.errors import UsageError
from ordertrail.status import Reader
from tests.feeds import FEED_MAX_REJECT_SHARE, FEED_VENDORS
from tests.harness import House, open_house
from tests.spark.engines import EMBEDDED, Crash, by_name, check_same, crash_at, feed, load, state
from tests.spark.session import CATALOG, Spark

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

_files = feed(36, seed=11)
BATCHES = [_files[:12], _files[12:24], _files[24:]]

Named = Callable[[TablesBy], House]


@pytest.fixture
def named(tmp_path: Path, spark: Spark) -> Iterator[Named]:
    """Make a pipeline with tables of names that no other test has."""
    names = [f"{kind}_{uuid.uuid4().hex[:8]}" for kind in ("stage", "target", "history", "rejects", "deliveries")]

    def make(tables: TablesBy) -> House:
        return open_house(
            tmp_path / "named",
            engine="spark",
            vendors=FEED_VENDORS,
            max_reject_share=FEED_MAX_REJECT_SHARE,
            tables=Tables(*names),
            spark=SparkSettings(tables=tables),
        )

    yield make
    for name in names:
        spark.run(f"DROP TABLE IF EXISTS {CATALOG}.default.{name}")


@pytest.mark.parametrize("tables", ["three-level", "two-level"])
def test_the_whole_pipeline_by_name(tmp_path: Path, spark: Spark, named: Named, tables: TablesBy) -> None:
    """P7: the tables are those of the embedded engine, small batches on the driver and one in the executors."""
    house = named(tables)
    for number, files in enumerate(BATCHES):
        house.drop_all(files)
        house.turn(spark=SparkSettings(tables=tables, driver_max_bytes=0 if number == 1 else 64 << 20))
        assert house.run().batch == number + 1
    check_same(state(house, by_name(spark)), state(load(tmp_path / "embedded", BATCHES, lambda _: EMBEDDED)))
    assert house.run().batch is None


@pytest.mark.parametrize("effect", ["stage.committed", "load.committed", "history.committed", "deliveries.committed"])
def test_a_crash_is_finished_from_the_tables_history(
    tmp_path: Path, spark: Spark, named: Named, effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1 where no log can be read: what is done stands in the history of the tables, and in their rows."""
    house = named("three-level")
    for files in BATCHES[:2]:
        house.drop_all(files)
        if files is BATCHES[1]:
            with pytest.raises(Crash):
                house.run(crash_at(effect))
            # The commits of others have pushed ours out of what is looked at first.
            monkeypatch.setattr(spark_tables, "RECENT", 1)
            spark.run(f"ALTER TABLE {CATALOG}.default.{house.config.tables.history} SET TBLPROPERTIES ('a' = 'b')")
        report = house.run()
    assert report.recovered == (effect != "deliveries.committed")
    check_same(state(house, by_name(spark)), state(load(tmp_path / "embedded", BATCHES[:2], lambda _: EMBEDDED)))


def test_commands_that_read_folders_say_so(named: Named) -> None:
    house = named("three-level")
    with pytest.raises(UsageError, match="catalog of Spark"), Reader(house.config):
        pass
