"""Tables by name: the whole pipeline on `incremental_load.default.orders_*` and on `schema.table`, a crash included.

Where the catalog's tables are folders that this machine reads, and, as `elsewhere`, where only Spark reaches them.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import astuple

from ordertrail.config import Config, SparkSettings, Tables, TablesBy
from ordertrail.engines.choice import engine_of, placed
from ordertrail.engines.spark import tables as spark_tables
from ordertrail.engines.spark import weigh_driver, work
from ordertrail.engines.spark.session import commit_of
from ordertrail.engines.spark.tables import user_metadata
from ordertrail.engines.spark.weigh_driver import Fetched
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import CommitConflictError, StorageError, TableError, UsageError
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.export import export
from ordertrail.look.plan import plan_files
from ordertrail.look.status import Reader, open_items_of
from ordertrail.look.verify import verify
from ordertrail.markers import begin_anew, read_marker
from ordertrail.model import no_probe
from ordertrail.rules.tables import APP_ID, DELIVERIES, REJECTS
from ordertrail.watch.upkeep import due_reasons
from tests.feeds import FEED_LIMITS, FEED_VENDORS, TIMES, FeedFile, cells, csv_bytes
from tests.harness import House, open_house, without_fsync
from tests.spark.engines import EMBEDDED, Crash, by_name, check_same, crash_at, feed, load, name_of, state
from tests.spark.session import CATALOG, Spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

_files = feed(36, seed=11)
BATCHES = [_files[:12], _files[12:24], _files[24:]]
EXECUTORS = 1
"""The batch that goes to the executors."""

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
            **FEED_LIMITS,
            tables=Tables(*names),
            spark=SparkSettings(tables=tables),
        )

    with without_fsync():
        yield make
    for name in names:
        spark.run(f"DROP TABLE IF EXISTS {CATALOG}.default.{name}")


def reads_folders(config: Config) -> bool:
    """Whether the next pass reads the tables where the catalog keeps them."""
    return placed(config).in_folders


def run_all(house: House, tables: TablesBy, batches: Sequence[Sequence[FeedFile]]) -> None:
    for number, files in enumerate(batches):
        house.drop_all(files)
        house.turn(spark=SparkSettings(tables=tables, driver_max_bytes=0 if number == EXECUTORS else 64 << 20))
        assert house.run().batch == number + 1


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
def test_the_whole_pipeline_by_name(
    tmp_path: Path, spark: Spark, named: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: the tables are those of the embedded engine, small batches on the driver and one in the executors.

    They were made by a release that had fewer columns in its books.
    """
    house = named("three-level")
    with monkeypatch.context() as older:
        older.setattr(spark_tables, "DELIVERIES", DELIVERIES[:-3])
        older.setattr(spark_tables, "REJECTS", REJECTS[:-1])
        assert house.run().batch is None
    run_all(house, "three-level", BATCHES)
    assert not reads_folders(house.config)
    check_same(state(house, by_name(spark)), state(load(tmp_path / "embedded", BATCHES, lambda _: EMBEDDED)))
    assert house.run().batch is None


@pytest.mark.slow
def test_a_catalog_of_folders(tmp_path: Path, spark: Spark, named: Named) -> None:
    """P7, and every command: from the second batch on the tables are read where the catalog keeps them."""
    house = named("three-level")
    assert not reads_folders(house.config)  # there are no tables yet
    run_all(house, "three-level", BATCHES[:2])
    assert reads_folders(house.config)
    twin = load(tmp_path / "embedded", BATCHES[:2], lambda _: EMBEDDED)
    check_same(state(house, by_name(spark)), state(twin))

    with Reader(house.config) as reader, Reader(twin.config) as expected:
        assert reader.status().target_rows == expected.status().target_rows
        assert reader.track("SAME").current is not None
    assert due_reasons(house.config) == due_reasons(twin.config)
    for table in ("target", "history"):
        done, other = (export(one.config, table, tmp_path / f"{n}.csv") for n, one in enumerate((house, twin)))
        assert done.rows == other.rows > 0
        (tmp_path / "0.csv").unlink()
        (tmp_path / "1.csv").unlink()
    assert house.pipeline().target().to_arrow().num_rows == twin.pipeline().target().to_arrow().num_rows
    planned = house.config.source / "acme/order_tracking_2026_11_24_999.csv"
    planned.write_bytes(next(f.content for f in BATCHES[0] if f.path.startswith("acme") and b"SAME" in f.content))
    assert plan_files(house.config, [planned]).rows.parsed > 0
    planned.unlink()
    assert maintain(house.config).steps
    assert rebuild(house.config).rows == expected.status().target_rows
    assert verify(house.config).ok
    assert house.run().batch is None
    check_same(state(house, by_name(spark)), state(twin))


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
def test_crashes_are_finished_from_the_tables_history(
    tmp_path: Path, spark: Spark, named: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1 where no log can be read: what is done stands in the history of the tables, and in their rows."""
    house = named("three-level")
    # The commits of others push ours out of what is looked at first.
    monkeypatch.setattr(spark_tables, "RECENT", 1)
    batches = [_files[:8], _files[8:16]]
    passes = ["deliveries.committed"], ["stage.committed", "load.committed", "history.committed"]
    for effects, files in zip(passes, batches, strict=True):
        house.drop_all(files)
        for effect in effects:
            with pytest.raises(Crash):
                house.run(crash_at(effect))
            spark.run(
                f"ALTER TABLE {CATALOG}.default.{house.config.tables.history} SET TBLPROPERTIES ('a' = '{effect}')"
            )
        assert house.run().recovered == (effects[-1] != "deliveries.committed")
    check_same(state(house, by_name(spark)), state(load(tmp_path / "embedded", batches, lambda _: EMBEDDED)))


@pytest.mark.slow
def test_each_way_finishes_what_the_other_began(
    tmp_path: Path, spark: Spark, named: Named, request: pytest.FixtureRequest
) -> None:
    """P1: one that made the tables by a pass that reads folders, and one of such a pass by one that may not."""
    house = named("two-level")
    for files in BATCHES[:2]:
        house.drop_all(files)
        with pytest.raises(Crash):
            house.run(crash_at("load.committed"))
        if files is BATCHES[1]:
            request.getfixturevalue("elsewhere")
        assert house.run().recovered
    check_same(state(house, by_name(spark)), state(load(tmp_path / "embedded", BATCHES[:2], lambda _: EMBEDDED)))


@pytest.mark.usefixtures("elsewhere")
def test_commands_say_that_the_tables_are_elsewhere(tmp_path: Path, named: Named) -> None:
    house = named("three-level")
    for read in (house.pipeline().target, lambda: export(house.config, "target", tmp_path / "x.csv")):
        with pytest.raises(UsageError, match="in no folders that this machine may read") as told:
            read()
        assert "SQL on Spark" in told.value.hint
    with pytest.raises(UsageError, match="in no folders that this machine may read"), Reader(house.config):
        pass
    assert not due_reasons(house.config)


@pytest.mark.parametrize("place", ["elsewhere", None])
def test_what_needs_a_person_is_listed_wherever_the_tables_are(
    place: str | None, named: Named, request: pytest.FixtureRequest
) -> None:
    """A quarantined delivery, until its bytes are loaded."""
    if place is not None:
        request.getfixturevalue(place)
    house = named("three-level")
    half = csv_bytes([cells("Q1", "2026-11-20 08:00:00"), cells("Q2", "yesterday")])
    house.turn(max_reject_share=0.0)
    assert open_items_of(house.config) == (), "before the first pass"
    house.drop("acme/order_tracking_2026_11_21.csv", half)
    house.run()
    (item,) = open_items_of(house.config)
    assert item.kind == "quarantined"
    assert item.key.startswith("delivery:000001-")
    assert item.since is not None
    assert "order_tracking_2026_11_21.csv of acme is quarantined: " in item.text
    house.turn(max_reject_share=1.0)
    house.drop("acme/order_tracking_2026_11_21.csv", half)
    house.run()
    assert open_items_of(house.config) == ()
    assert reads_folders(house.config) is (place is None)


def test_tables_are_read_in_the_folders_that_the_catalog_means(tmp_path: Path, spark: Spark, named: Named) -> None:
    """Also where its name has a blank and a percent sign; and as long as ordertrail itself may write to it."""
    house = named("two-level")
    place = tmp_path / "a b%20c"
    tables = house.config.tables
    schema = f"odd_{uuid.uuid4().hex[:8]}"
    spark.run(f"CREATE SCHEMA {schema} LOCATION '{place}'")
    house.turn(schema=schema)
    engine_of(house.config, no_probe).open()
    folders = dict(placed(house.config).folders)
    assert (folders[tables.target] / "_delta_log").is_dir()
    assert folders[tables.target].parent.name == place.name
    # A table that only its catalog may write to: what the embedded engine refuses is Spark's.
    assert reads_folders(house.config)
    spark.run(f"ALTER TABLE {schema}.{tables.target} ADD CONSTRAINT numbered CHECK (tracking_num <> '')")
    assert not reads_folders(house.config)
    spark.run(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.slow
def test_tables_that_the_catalog_has_lost_are_not_made_again(
    spark: Spark, named: Named, request: pytest.FixtureRequest
) -> None:
    """Neither one of them nor, beside the archive of what was in them, all of them."""
    house = named("three-level")
    house.drop_all(BATCHES[0][:2])
    house.run()
    target = f"{CATALOG}.default.{house.config.tables.target}"
    told = spark.session.sql(f"SHOW TBLPROPERTIES {target} ('{APP_ID}')").collect()
    marker = read_marker(house.config.archive)
    assert marker is not None
    assert [owner.app_id for owner in marker.owners] == [told[0]["value"]]
    assert read_marker(house.config.source) == marker

    history = house.config.tables.history
    spark.run(f"DROP TABLE {CATALOG}.default.{history}")
    house.drop_all(BATCHES[0][2:4])
    for _ in range(2):
        with pytest.raises(TableError, match=f"{history} is not there") as caught:
            house.run()
        assert "RESTORE TABLE" in caught.value.hint
    assert not spark.session.catalog.tableExists(f"{CATALOG}.default.{history}")

    request.getfixturevalue("elsewhere")
    for table in astuple(house.config.tables):
        spark.run(f"DROP TABLE IF EXISTS {CATALOG}.default.{table}")
    with pytest.raises(StorageError, match=r"the tables of pipeline orders are not in incremental_load\.default"):
        house.run()
    assert not spark.session.sql(f"SHOW TABLES IN {CATALOG}.default LIKE '{house.config.tables.target}'").collect()
    begin_anew(house.config)
    assert house.stage().batch == 1


@pytest.mark.usefixtures("elsewhere")
def test_what_was_looked_up_beside_the_stage_is_only_used_for_the_same_version(
    spark: Spark, named: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: the target is read once a batch; after somebody else's commit once more, before anything is applied."""
    house = named("three-level")
    house.drop("acme/order_tracking_2026_11_20.csv", csv_bytes([cells("A", TIMES[0]), cells("B", TIMES[0])]))
    house.run()
    seen: list[int] = []
    looked = threading.Event()
    effects: list[str] = []

    def fetch(run: SparkPass, version: int, keys: DataFrame) -> Fetched:
        found = weigh_driver_fetch(run, version, keys)
        seen.append(version)
        if len(seen) > 1:
            looked.set()
        return found

    def disturbed(effect: str) -> None:
        effects.append(effect)
        if effect == "stage.committed":
            looked.wait()
            spark.run(
                f"UPDATE {name_of(house, 'target')} SET last_update_timestamp = TIMESTAMP '{TIMES[3]}Z' "
                "WHERE tracking_num = 'A'"
            )

    weigh_driver_fetch = weigh_driver.fetch
    monkeypatch.setattr(weigh_driver, "fetch", fetch)
    for day, outcome, probe in ((21, "updated", effects.append), (22, "stale", disturbed)):
        house.drop(f"acme/order_tracking_2026_11_{day}.csv", csv_bytes([cells("A", TIMES[1], address=str(day))]))
        assert getattr(house.run(probe).rows, outcome) == 1
    first, second, third = seen
    assert (second, third) == (first + 1, first + 2)
    assert effects.count("load.files") == 2


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("variables", [True, False], ids=["variables", "no-variables"])
def test_the_keys_of_a_batch_are_in_no_log(
    spark: Spark, named: Named, monkeypatch: pytest.MonkeyPatch, variables: bool
) -> None:
    """P8: a look at the history does not read the keys of all batches; a session without variables loads the same."""
    if not variables:
        monkeypatch.setattr(SparkPass, "variable", lambda *_: None)
    house = named("three-level")
    for day in (20, 21):
        rows = [cells(f"K{number}", TIMES[0], address=str(day)) for number in range(20 + day)]
        house.drop(f"acme/order_tracking_2026_11_{day}.csv", csv_bytes(rows))
        report = house.run()
    assert (report.rows.updated, report.rows.inserted) == (40, 1)
    (merged,) = spark.session.sql(f"DESCRIBE HISTORY {name_of(house, 'target')} LIMIT 1").collect()
    assert merged["operation"] == "MERGE"
    assert len(merged["operationParameters"]["predicate"]) < 1_000
    assert ("element_at" in merged["operationParameters"]["predicate"]) == variables


@pytest.mark.usefixtures("elsewhere")
def test_of_two_passes_that_stage_one_batch_only_one_goes_on(spark: Spark, named: Named) -> None:
    """P1: Delta skips the second one's write without an error, so the pass looks whose batch the stage holds."""
    house = named("three-level")
    house.drop("acme/order_tracking_2026_11_20.csv", csv_bytes([cells("A", TIMES[0])]))
    house.run()
    stage = name_of(house, "stage")
    (told,) = spark.session.sql(f"SHOW TBLPROPERTIES {stage} ('{APP_ID}')").collect()
    app_id = str(told["value"])

    def overtaken(effect: str) -> None:
        if effect == "stage.files":
            with commit_of(spark.session, app_id, 2, user_metadata(app_id, 2, run_id="another")):
                spark.run(f"INSERT OVERWRITE {stage} SELECT * FROM {stage}")

    house.drop("acme/order_tracking_2026_11_21.csv", csv_bytes([cells("A", TIMES[3])]))
    with pytest.raises(CommitConflictError, match="another pass has staged batch 2 meanwhile"):
        house.run(overtaken)
    assert spark.select(f"SELECT tracking_num FROM {name_of(house, 'target')} WHERE _batch > 1") == []
    assert (house.config.source / "acme/order_tracking_2026_11_21.csv").exists()


@pytest.mark.usefixtures("elsewhere")
def test_two_notebooks_in_a_session_that_allows_no_settings(
    tmp_path: Path, spark: Spark, named: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As serverless compute: what is staged is known to the notebook that loads it, and a crash loads nothing twice.

    A `MERGE` of such a session says of no batch; writes of DataFrames do, by their options.
    """

    @contextmanager
    def refusing(*_: object) -> Iterator[bool]:
        yield False

    monkeypatch.setattr(work, "commit_of", refusing)
    house = named("three-level")
    for number, files in enumerate(BATCHES, start=1):
        house.drop_all(files)
        assert house.stage().batch == number
        if number == len(BATCHES):
            with pytest.raises(Crash):
                house.pipeline(crash_at("load.committed")).load()
        assert house.load().batch == number
    assert house.run().batch is None
    twin = load(tmp_path / "embedded", BATCHES, lambda _: EMBEDDED)
    check_same(state(house, by_name(spark)), state(twin))
