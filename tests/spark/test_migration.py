"""Migrations of tables by name, to which only Spark has access: they leave what those of tables in folders leave.

The batches before are loaded by the embedded engine, which is quick, into folders that a catalog then knows by name;
afterwards the embedded engine and its proofs read them there.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.config import SparkSettings
from ordertrail.engines.spark import work
from ordertrail.engines.spark.migrating import NamedMigrating
from ordertrail.engines.spark.tables import SparkTable
from ordertrail.errors import (
    CommitConflictError,
    ConfigError,
    ForeignChangeError,
    OrdertrailError,
    TableError,
    UsageError,
)
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from ordertrail.mend.migration import MigrationReport, migrate
from ordertrail.model import Column, Vendor
from ordertrail.rules.losses import ROLES
from tests import migrated
from tests.harness import House, copied, open_house, without_fsync
from tests.property import test_migration as law
from tests.spark.engines import Crash, check_same, crash_at, state
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("elsewhere")]

EFFECTS = tuple(
    f"migrate.{table}.committed" for table in ("stage", "history", "contract", "target", "rejects", "deliveries")
)

Named = Callable[[House], None]


@pytest.fixture
def named(spark: Spark) -> Iterator[Named]:
    """Let a catalog know the tables of a house, and nobody else: from here on only Spark reads them."""
    schemas: list[str] = []

    def know(house: House) -> None:
        spark.run(f"CREATE SCHEMA {house.config.schema}")
        schemas.append(house.config.schema)
        for role in ROLES:
            name = f"{house.config.schema}.{getattr(house.config.tables, role)}"
            spark.run(f"CREATE TABLE {name} USING delta LOCATION '{house.table_path(role)}'")
        house.turn(engine="spark", spark=SparkSettings(tables="two-level"))

    with without_fsync():
        yield know
    for schema in schemas:
        spark.run(f"DROP SCHEMA {schema} CASCADE")


def new_schema() -> str:
    return f"house_{uuid.uuid4().hex[:8]}"


def check(house: House, twin: House) -> None:
    """The tables are those of the twin, and agree with each other."""
    here = House(replace(house.config, engine="embedded", spark=SparkSettings()))
    check_same(state(here), state(twin))
    proof = verify(here.config)
    assert proof.ok, [one for one in proof.checks if not one.ok]
    if not here.config.appends:
        assert rebuild(here.config, dry_run=True).differences.total == 0  # type: ignore[union-attr]


def said(report: MigrationReport | None) -> tuple[object, ...]:
    """What a dry run tells."""
    assert report is not None
    return report.steps, report.unfit, report.problems, report.notes


@pytest.mark.series
@pytest.mark.parametrize("seed", range(6))
def test_it_leaves_what_one_of_tables_in_folders_leaves(tmp_path: Path, named: Named, seed: int) -> None:
    """P7: for random feeds and random changes of the contract; the dry run says the same, and what follows loads."""
    chance = random.Random(seed)
    files = law.feed(chance, 5, 25)
    picked = chance.sample(sorted(law.CHANGES), chance.choice((1, 2, 3, 4)))
    after = law.BEFORE
    for name in [one for one in law.CHANGES if one in picked]:
        after = law.CHANGES[name](after)
    vendors = law.vendors_for(law.BEFORE)
    house = open_house(tmp_path / "named", contract=law.BEFORE, vendors=vendors, schema=new_schema(), **law.LIMITS)
    with without_fsync():
        law.load(house, files[:4], (2, 1, 1))
        if chance.random() < 0.4:
            law.undo_first(house, files[1].path.rpartition("/")[2])
        twin = copied(house, tmp_path / "twin")
        for one in (house, twin):
            one.turn(contract=after, vendors=law.vendors_for(after))
        named(house)
        assert said(migrate(house.config)) == said(migrate(twin.config)), picked
        reports = [migrate(one.config, apply=True) for one in (house, twin)]
        assert reports[0].batch == reports[1].batch, picked
        check(house, twin)
        for one in (house, twin):
            law.load(one, files[4:], (1,))
        check(house, twin)
        again = migrate(house.config)
    assert all(step.kind == "fill" and step.rows == step.unfit for step in again.steps), again.steps


class Story:
    """Two batches, and a contract that differs from theirs in every way.

    Args:
        folder: For the pipeline.
    """

    def __init__(self, folder: Path) -> None:
        self.before = Vendor("acme", "*.csv")
        self.after = replace(self.before, absent=("fragile",))
        self.house = open_house(
            folder / "named",
            contract=migrated.BEFORE,
            vendors=(self.before,),
            schema=new_schema(),
            max_reject_share=0.5,
        )
        self._folder = folder
        self.dry_run: MigrationReport | None = None
        with without_fsync():
            for number in range(2):
                self.drop(number)
                self.house.run()

    def drop(self, number: int) -> None:
        self.house.drop(f"a_2026112{number}.csv", migrated.HEAD + migrated.FILES[number])

    def turn(self) -> None:
        self.house.turn(contract=migrated.AFTER, vendors=(self.after,))

    def migrated_twin(self) -> House:
        """A copy of the house as it is, migrated in its folders."""
        twin = copied(self.house, self._folder / "twin")
        twin.turn(contract=migrated.AFTER, vendors=(self.after,), engine="embedded", spark=SparkSettings())
        self.dry_run = migrate(twin.config)
        assert {step.kind for step in migrate(twin.config, apply=True).steps} == migrated.STEPS
        return twin


def test_passes_that_end_after_one_effect_after_the_other(tmp_path: Path, named: Named) -> None:
    """P1: once it is staged every pass goes on with it, and no effect happens twice."""
    story = Story(tmp_path)
    house = story.house
    twin = story.migrated_twin()
    before = state(house)
    named(house)
    story.turn()
    with pytest.raises(ConfigError):
        house.run()
    found = migrate(house.config)
    assert said(found) == said(story.dry_run)
    assert {one.value for one in found.unfit} == {"heavy", "12 pcs"}
    with pytest.raises(Crash):
        migrate(house.config, apply=True, probe=crash_at(EFFECTS[0]))
    assert state(House(replace(house.config, contract=migrated.BEFORE)))["target"] == before["target"]
    with pytest.raises(TableError, match="a migration to another contract is not finished"):
        migrate(house.config)
    for effect in EFFECTS[1:]:
        with pytest.raises(Crash):
            house.run(crash_at(effect))
    assert house.run().batch is None
    check(house, twin)
    assert house.version() == twin.version(), "one commit of the target"


def test_what_is_changed_between_the_stage_and_the_rest_stops_it(
    tmp_path: Path, spark: Spark, named: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the contract, nor how files are read, nor the history may be others than when it was decided."""
    story = Story(tmp_path)
    house = story.house
    twin = story.migrated_twin()
    named(house)
    story.turn()

    @contextmanager
    def refusing(*_: object) -> Iterator[bool]:
        yield False

    with monkeypatch.context() as serverless:
        serverless.setattr(work, "commit_of", refusing)
        with pytest.raises(UsageError, match="does not allow the settings by which a commit says"):
            migrate(house.config, apply=True)
    assert house.version("stage") == twin.version("stage") - 1
    with monkeypatch.context() as beside:  # another pass takes the number after this one has looked: Delta says nothing
        beside.setattr(NamedMigrating, "highest", 1)
        beside.setattr(SparkTable, "standing", lambda *_, **__: (0, 0))
        with pytest.raises(CommitConflictError, match="another pass has staged batch 2 meanwhile"):
            migrate(house.config, apply=True)
    assert house.version("stage") == twin.version("stage") - 1
    with pytest.raises(Crash):
        migrate(house.config, apply=True, probe=crash_at(EFFECTS[0]))
    history = f"{house.config.schema}.{house.config.tables.history}"
    version = house.version("history")

    house.turn(contract=migrated.BEFORE, vendors=(story.before,))
    with pytest.raises(ConfigError, match=r"is not finished, and \[contract\] was changed since"):
        house.run()
    house.turn(contract=migrated.AFTER, vendors=(replace(story.after, timezone="America/New_York"),))
    with pytest.raises(ConfigError, match=r"and \[contract\] or \[\[vendors\]\] were changed since"):
        house.run()
    story.turn()
    spark.run(f"DELETE FROM {history} WHERE tracking_num = 'K1'")
    with pytest.raises(ForeignChangeError) as caught:
        house.run()
    assert house.version("history") == version + 1
    spark.run(caught.value.hint.partition(",")[0])
    assert house.run().batch is None
    check(house, twin)


def test_a_batch_under_way_is_finished_first(tmp_path: Path, named: Named) -> None:
    """It was staged under the old contract: a pass refuses, and the migration loads it under that one."""
    story = Story(tmp_path)
    house = story.house
    story.drop(2)
    staged = copied(house, tmp_path / "staged")
    staged.run()
    whole = House(staged.config)
    whole.turn(contract=migrated.AFTER, vendors=(story.after,))
    migrate(whole.config, apply=True)
    assert house.stage().batch == 3
    named(house)
    story.turn()
    with pytest.raises(ConfigError):
        house.run()
    assert migrate(house.config, apply=True).batch == 4
    check(house, whole)


NUMBERED = (
    Column("tracking_num", "bigint", required=True),
    Column("status", "string"),
    Column("ts", "timestamp", required=True),
)


def test_what_others_did_to_the_target_is_kept_or_stands_in_the_way(tmp_path: Path, spark: Spark, named: Named) -> None:
    """Their columns, properties and comments stay. Their rows and constraints are told, before anything is written."""
    contract = replace(migrated.BEFORE, columns=NUMBERED)
    house = open_house(tmp_path / "named", contract=contract, schema=new_schema())
    for day, status in ((20, "NEW"), (21, "DONE")):
        house.drop(f"a_202611{day}.csv", f"tracking_num,status,ts\n7,{status},2026-11-{day}\n8,NEW,2026-11-20\n")
        house.run()
    named(house)
    target = f"{house.config.schema}.{house.config.tables.target}"
    spark.run(f"ALTER TABLE {target} ADD COLUMNS (seen_by STRING)")
    spark.run(f"ALTER TABLE {target} ALTER COLUMN status COMMENT 'as sent'")
    spark.run(f"ALTER TABLE {target} SET TBLPROPERTIES ('theirs' = 'x')")
    spark.run(f"UPDATE {target} SET seen_by = 'ops' WHERE tracking_num = 7")
    house.turn(contract=replace(contract, columns=(replace(NUMBERED[0], type="string"), *NUMBERED[1:])))

    spark.run(f"ALTER TABLE {target} ADD CONSTRAINT positive CHECK (tracking_num > 0)")
    (problem,) = migrate(house.config).problems
    assert "the target's constraint positive speaks of tracking_num, which is to change" in problem
    spark.run(problem[problem.index("ALTER TABLE") : problem.index(" first")])
    spark.run(f"UPDATE {target} SET status = 'LOST' WHERE tracking_num = 8")
    spark.run(f"ALTER TABLE {target} ADD CONSTRAINT known CHECK (status <> 'NEW')")
    (problem,) = migrate(house.config).problems
    assert "the target's constraint known ((status <> 'NEW')) refuses 1 of the new rows" in problem
    spark.run(f"ALTER TABLE {target} DROP CONSTRAINT known")
    version = house.version()
    with pytest.raises(UsageError, match="somebody else wrote to orders_target"):
        migrate(house.config, apply=True)
    assert house.version() == version

    spark.run(f"UPDATE {target} SET status = 'NEW' WHERE tracking_num = 8")
    assert migrate(house.config, apply=True).batch == 3
    rows = {row["tracking_num"]: row for row in spark.select(f"SELECT * FROM {target}")}
    assert {key: (row["status"], row["seen_by"], row["_revision"]) for key, row in rows.items()} == {
        "7": ("DONE", "ops", 2),
        "8": ("NEW", None, 1),
    }
    fields = {one.name: one.metadata for one in spark.session.table(target).schema}
    assert fields["status"]["comment"] == "as sent"
    assert spark.select(f"SHOW TBLPROPERTIES {target} ('theirs')")[0]["value"] == "x"


def test_a_target_that_keeps_its_rows_is_not_rewritten(tmp_path: Path, spark: Spark, named: Named) -> None:
    """It gets a column and other ranks, cut short after one effect after the other; its view follows."""
    house = open_house(
        tmp_path / "named",
        contract=law.BEFORE,
        vendors=law.vendors_for(law.BEFORE),
        schema=new_schema(),
        mode="append",
        **law.LIMITS,
    )
    files = law.feed(random.Random(5), 3, 12)
    law.load(house, files, (2, 1))
    twin = copied(house, tmp_path / "twin")
    after = law.CHANGES["ranks turned"](law.CHANGES["add seen"](law.BEFORE))
    for one in (house, twin):
        one.turn(contract=after, vendors=law.vendors_for(after))
    named(house)
    files_before = {path.name for path in house.table_path("target").glob("*.parquet")}
    with pytest.raises(Crash):
        migrate(house.config, apply=True, probe=crash_at(EFFECTS[0]))
    for effect in EFFECTS[1:]:
        with pytest.raises(Crash):
            house.run(crash_at(effect))
    assert house.run().batch is None
    assert migrate(twin.config, apply=True).batch == 3
    check(house, twin)
    assert not any("remove" in action for v in range(house.version() + 1) for action in house.actions("target", v))
    assert files_before <= {path.name for path in house.table_path("target").glob("*.parquet")}
    columns = spark.session.table(f"{house.config.schema}.{house.config.current}").columns
    assert "seen" in columns


def test_what_reads_the_archive_is_for_tables_in_folders(tmp_path: Path, named: Named) -> None:
    story = Story(tmp_path)
    named(story.house)
    story.turn()
    with pytest.raises(OrdertrailError, match="reads tables in folders") as caught:
        migrate(story.house.config, replay=True)
    assert "replay --all-quarantined" in caught.value.hint
