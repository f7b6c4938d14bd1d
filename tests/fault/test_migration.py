"""P1 and P4 of migrations: kill -9 at every effect, in recovery too, lost replies, full disks, other writers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from deltalake import DeltaTable

from ordertrail.delta.log import LocalLogStore
from ordertrail.engines.local.schema import agreement_of
from ordertrail.errors import (
    ConfigError,
    ForeignChangeError,
    OrdertrailError,
    StorageError,
    TableError,
    UsageError,
)
from ordertrail.look.export import export
from ordertrail.look.status import Reader, open_items_of
from ordertrail.look.verify import verify
from ordertrail.mend.migration import migrate
from ordertrail.pipeline import Pipeline
from tests.depth import drawn
from tests.fault.test_storage import FailingStore
from tests.fault.world import BATCHES, MTIME_NS, PLAIN_CONFIG, Driver, State, World, distinct, row
from tests.feeds import FeedFile, Layout, csv_bytes
from tests.oracle import default_contract

pytestmark = pytest.mark.fault

NOTED = FeedFile(
    "acme/order_tracking_2026_11_24.csv",
    csv_bytes([row("001", 12), row("011", 8, "DELIVERED")], Layout(extra="carrier note")),
    MTIME_NS,
)
HEALED = FeedFile(
    "acme/order_tracking_2026_11_26.csv",
    csv_bytes([row("012", 8), row("001", 13)], Layout(extra="carrier note")).replace(b"address", b"street"),
    MTIME_NS,
)
NEXT = FeedFile("acme/order_tracking_2026_11_25.csv", NOTED.content.replace(b"12:00", b"13:00"), MTIME_NS)
_COLUMNS = "".join(
    f'[[contract.columns]]\nname = "{one.name}"\ntype = "{one.type}"\n'
    for one in default_contract().columns
    if one.name not in ("pck_recieved_date", "address")
)
NEW_CONFIG = (
    PLAIN_CONFIG.replace('files = "blue/*.csv"\n', 'files = "blue/*.csv"\nabsent = ["carrier_note"]\n')
    + _COLUMNS
    + '[[contract.columns]]\nname = "pck_recieved_date"\ntype = "string"\n'
    + '[[contract.columns]]\nname = "street"\ntype = "string"\nwas = ["address"]\n'
    + '[[contract.columns]]\nname = "carrier_note"\ntype = "string"\n'
)


class Story:
    """Three batches, and a migration that fills a column, retypes one and renames another.

    Args:
        driver: Runs passes.
        folder: For the worlds.
    """

    def __init__(self, driver: Driver, folder: Path) -> None:
        self.driver = driver
        self.folder = folder
        self.before = World.make(folder / "before", checkpoint_every=2)
        for files in (*BATCHES[:2], (NOTED,)):
            self.before.put(files)
            driver.effects(self.before)
        turn(self.before, NEW_CONFIG)
        whole = self.before.copy(folder / "whole")
        self.effects = driver.effects(whole, migrate=True)
        check(whole)
        self.after: State = whole.state()
        self.made = 0

    def world(self) -> World:
        """A new world, just before the migration."""
        self.made += 1
        return self.before.copy(self.folder / f"world-{self.made}")

    def ends_right(self, world: World, place: object) -> None:
        """A plain pass finishes it once it is staged; otherwise nothing has happened and it is asked for again."""
        if max(max(txn, default=0) for txn in world.txns("orders_stage")) < 4:
            assert world.state().target == self.before.state().target, f"killed at {place}"
            self.driver.effects(world, migrate=True)
        else:
            assert "effects" in self.driver.run(world)
        assert world.state() == self.after, f"killed at {place}"
        check(world)


def turn(world: World, text: str) -> None:
    (world.base / "ordertrail.toml").write_text(text)


def check(world: World) -> None:
    """The tables agree with each other."""
    proof = verify(world.config)
    assert proof.ok, [one for one in proof.checks if not one.ok]


@pytest.fixture(scope="module")
def story(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(driver, tmp_path_factory.mktemp("migration"))


def test_what_it_did(story: Story) -> None:
    assert (
        sum("'carrier_note': 'note'" in line or "'carrier_note': 'x" in line.lower() for line in story.after.target)
        >= 0
    )
    assert all("'street'" in line and "'address'" not in line for line in story.after.target)
    assert any("'state': 'migration'" in line for line in story.after.deliveries)
    wanted = {"migrate.history.files", "migrate.stage.committed", "migrate.history.committed"}
    assert wanted <= set(story.effects)


def test_a_kill_at_every_effect(story: Story) -> None:
    for place in drawn(distinct(story.effects), "migrate"):
        world = story.world()
        assert story.driver.run(world, migrate=True, kill_at=place).get("signal") == 9
        story.ends_right(world, story.effects[: place + 1])


def test_a_kill_in_its_recovery(story: Story) -> None:
    """Killed after the stage's commit, and again at each effect of the pass that finishes it."""
    staged = story.effects.index("migrate.stage.committed")
    first = story.world()
    story.driver.run(first, migrate=True, kill_at=staged)
    whole = first.copy(story.folder / "recovered")
    effects = list(story.driver.run(whole)["effects"])
    assert "migrate.target.committed" in effects
    for place in drawn(distinct(effects), "recovers"):
        world = first.copy(story.folder / f"recovery-{place}")
        assert story.driver.run(world, kill_at=place).get("signal") == 9
        story.ends_right(world, effects[: place + 1])


def test_a_kill_between_the_migration_and_the_batch_that_reads_files_again(story: Story) -> None:
    """The tables carry the new contract then, and the file is an open item, which asking again or `replay` heals."""
    before = story.world()
    turn(before, PLAIN_CONFIG)
    before.put((HEALED,))
    story.driver.effects(before)
    turn(before, NEW_CONFIG)
    whole = before.copy(story.folder / "healed")
    effects = story.driver.effects(whole, migrate=True, replay=True)
    after = whole.state()
    check(whole)
    assert any("'012'" in line for line in after.target)
    first = len(effects) - 1 - effects[::-1].index("migrate.deliveries.committed")
    places = [first, *(effects.index(name, first) for name in ("plan.decided", "stage.committed", "load.committed"))]
    for place in drawn(places, "healed"):
        world = before.copy(story.folder / f"healed-{place}")
        assert story.driver.run(world, migrate=True, replay=True, kill_at=place).get("signal") == 9
        if place <= effects.index("stage.committed", first) - 1:
            waiting = [item.key for item in open_items_of(world.config) if item.kind == "quarantined"]
            (healed,) = [one["delivery_id"] for one in world.rows("orders_deliveries") if one["path"] == HEALED.path]
            assert f"delivery:{healed}" in waiting
            by_hand = world.copy(story.folder / f"by-hand-{place}")
            story.driver.effects(by_hand, correct={"kind": "replay", "of": [healed]})
            assert by_hand.state().target == after.target, effects[place]
            check(by_hand)
        story.driver.effects(world, migrate=True, replay=True)
        assert world.state() == after, effects[place]
        check(world)


def test_a_batch_under_way_is_finished_first(story: Story, tmp_path: Path) -> None:
    """It was staged under the old contract; a pass refuses, and the migration finishes it under that one."""
    world = story.world()
    turn(world, PLAIN_CONFIG)
    world.put((NEXT,))
    whole = world.copy(tmp_path / "whole")
    effects = story.driver.effects(whole)
    turn(whole, NEW_CONFIG)
    story.driver.effects(whole, migrate=True)
    for name in drawn(("stage.committed", "load.committed", "history.committed"), "under way"):
        each = world.copy(tmp_path / name)
        story.driver.run(each, kill_at=effects.index(name))
        turn(each, NEW_CONFIG)
        assert story.driver.run(each).get("error") == "E_CONFIG"
        story.driver.effects(each, migrate=True)
        assert each.state() == whole.state(), name
        check(each)


def test_every_lost_reply(story: Story) -> None:
    """A put that succeeds and fails at once is read back; nothing happens twice."""

    def lose(path: Path, data: bytes) -> None:
        LocalLogStore().put_if_absent(path, data)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    counted = FailingStore(-1, lose)
    migrate(story.world().config, apply=True, store=counted)
    for at in drawn(range(counted.puts), "lost reply"):
        world = story.world()
        store = FailingStore(at, lose)
        migrate(world.config, apply=True, store=store)
        assert world.state() == story.after, store.failed


def test_a_full_disk_at_every_commit(story: Story) -> None:
    """Before the stage's commit nothing has happened; after it the next pass finishes."""

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for at in drawn(range(5), "full disk"):
        world = story.world()
        with pytest.raises(StorageError):
            migrate(world.config, apply=True, store=FailingStore(at, full))
        story.ends_right(world, at)


def test_a_full_disk_while_the_files_are_written_leaves_none(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    world = story.world()
    before = set(world.base.rglob("*.parquet"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ordertrail.engines.local.anew._moved", full)
    with pytest.raises(OrdertrailError, match="No space left"):
        migrate(world.config, apply=True)
    assert set(world.base.rglob("*.parquet")) == before
    monkeypatch.undo()
    story.ends_right(world, "files")


def test_two_at_once(story: Story) -> None:
    """One does it; the other finds another pass, or that there is nothing left to do."""
    world = story.world()
    ended = story.driver.together(world, 2, migrate=True)
    assert {one.get("error") for one in ended} <= {None, "E_PASS"}, ended
    assert [one.get("batch") for one in ended].count(4) == 1
    assert world.state() == story.after


def test_a_foreign_row_stops_it(story: Story) -> None:
    """A fold of the history would take it back; a rebuild, which says so, comes first."""
    world = story.world()
    DeltaTable(world.table("orders_target")).delete("tracking_num = '001'")
    state = world.state()
    with pytest.raises(UsageError, match="somebody else wrote to orders_target"):
        migrate(world.config, apply=True)
    assert world.state() == state
    turn(world, PLAIN_CONFIG)
    story.driver.effects(world, rebuild=True)
    turn(world, NEW_CONFIG)
    story.ends_right(world, "rebuilt")


def test_the_target_was_written_to_after_the_stage(story: Story) -> None:
    """It is folded again from the new history."""
    world = story.world()
    story.driver.run(world, migrate=True, kill_at=story.effects.index("migrate.history.committed"))
    DeltaTable(world.table("orders_target")).delete("tracking_num = '001'")
    assert "effects" in story.driver.run(world)
    assert world.state() == story.after
    check(world)


def test_maintenance_comes_before_it_is_finished(story: Story) -> None:
    """Files that are compacted meanwhile hold the same rows; those that wait for their commit are not swept."""
    world = story.world()
    story.driver.run(world, migrate=True, kill_at=story.effects.index("migrate.stage.committed"))
    for name in ("orders_history", "orders_target", "orders_deliveries"):
        DeltaTable(world.table(name)).optimize.compact()
    assert "effects" in story.driver.run(world)
    assert world.state() == story.after
    check(world)


def test_who_looks_before_it_is_finished_is_told(story: Story) -> None:
    world = story.world()
    story.driver.run(world, migrate=True, kill_at=story.effects.index("migrate.history.committed"))
    with pytest.raises(TableError, match="a migration to another contract is not finished"):
        agreement_of(world.config)
    # The target still has the old columns: no NULL is shown in the place of what is there.
    for read in (
        lambda: Reader(world.config).query("FROM orders_target"),
        lambda: Reader(world.config).track("001"),
        lambda: export(world.config, "target", world.base / "out.csv"),
        Pipeline(world.config).target,
    ):
        with pytest.raises(TableError, match="a migration to another contract is not finished"):
            read()
    assert "contract" not in {item.kind for item in open_items_of(world.config)}, "it is at work, or a pass finishes it"
    assert Reader(world.config).deliveries().rows
    story.ends_right(world, "looked at")


def test_the_history_was_written_to_after_the_stage(story: Story) -> None:
    world = story.world()
    story.driver.run(world, migrate=True, kill_at=story.effects.index("migrate.stage.committed"))
    version = DeltaTable(world.table("orders_history")).version()
    DeltaTable(world.table("orders_history")).delete("tracking_num = '001'")
    with pytest.raises(ForeignChangeError) as caught:
        world.run()
    assert f"to version {version}" in caught.value.hint
    DeltaTable(world.table("orders_history")).restore(version)


def test_the_contract_is_changed_again_before_it_is_finished(story: Story) -> None:
    world = story.world()
    story.driver.run(world, migrate=True, kill_at=story.effects.index("migrate.stage.committed"))
    turn(world, PLAIN_CONFIG)
    with pytest.raises(ConfigError, match="is not finished, and \\[contract\\] was changed since"):
        world.run()
    turn(world, NEW_CONFIG)
    story.ends_right(world, "the contract was put back")
