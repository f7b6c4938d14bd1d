"""P1 of the change data feed: killed at any effect of a commit, each change is in it once, and files that were written
for a commit that never came are in nobody's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.look.verify import verify
from ordertrail.model import Column
from tests.change_feed import check_feed
from tests.depth import drawn
from tests.fault.test_migration import NOTED
from tests.fault.world import BATCHES, PLAIN_CONFIG, Driver, World
from tests.harness import House
from tests.oracle import default_contract

pytestmark = pytest.mark.fault

_COLUMNS = "".join(
    f'[[contract.columns]]\nname = "{one.name}"\ntype = "{one.type}"\nrequired = {str(one.required).lower()}\n'
    for one in (*default_contract().columns, Column("carrier_note", "string"))
)
FILLED_CONFIG = PLAIN_CONFIG + _COLUMNS
"""With a column that lies in `_rescued`."""


def with_feed(text: str, more: str = "") -> str:
    return text.replace("[pipeline]\n", f'[pipeline]\nchange_feed = "images"\n{more}', 1)


def check(world: World, since: int = 0) -> None:
    check_feed(House(world.config), since=since)
    proof = verify(world.config)
    assert proof.ok, [one for one in proof.checks if not one.ok]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("", id="vectors"),
        pytest.param("deletion_vectors = false\n", id="copies", marks=pytest.mark.slow),
    ],
)
def test_a_pass_is_killed_at_every_effect_on_the_target(driver: Driver, tmp_path: Path, more: str) -> None:
    before = World.make(tmp_path / "before", with_feed(PLAIN_CONFIG, more))
    before.put(BATCHES[0])
    driver.effects(before)
    before.put(BATCHES[1])
    whole = before.copy(tmp_path / "whole")
    effects = driver.effects(whole)
    check(whole)
    places = [place for place, name in enumerate(effects) if name.startswith("load.") or "orders_target" in name]
    assert "load.feed" in effects
    for place in drawn(places, more):
        world = before.copy(tmp_path / f"killed-{place}")
        assert driver.run(world, kill_at=place).get("signal") == 9
        driver.effects(world)
        assert world.state() == whole.state(), effects[place]
        check(world)


def test_a_rebuild_is_killed_at_every_effect(driver: Driver, tmp_path: Path) -> None:
    before = World.make(tmp_path / "before", with_feed(PLAIN_CONFIG))
    for files in BATCHES[:2]:
        before.put(files)
        driver.effects(before)
    max(before.table("orders_target").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns).unlink()
    whole = before.copy(tmp_path / "whole")
    effects = driver.effects(whole, rebuild=True)
    assert "rebuild.feed" in effects
    for place, name in drawn(list(enumerate(effects)), "rebuild"):
        world = before.copy(tmp_path / f"killed-{place}")
        assert driver.run(world, rebuild=True, kill_at=place).get("signal") == 9
        driver.effects(world, rebuild=True)
        assert world.state() == whole.state(), name
        wrong = [one.detail for one in verify(world.config).checks if not one.ok]
        assert all("holds changes" in detail for detail in wrong), "only the changes that were lost are lost"


@pytest.mark.slow
def test_a_migration_that_switches_it_on_is_killed_at_every_effect(driver: Driver, tmp_path: Path) -> None:
    """Before the feed is on nothing has happened; from there on the changes of the migration are in it once."""
    before = World.make(tmp_path / "before")
    for files in (BATCHES[0], (NOTED,)):
        before.put(files)
        driver.effects(before)
    (before.base / "ordertrail.toml").write_text(with_feed(FILLED_CONFIG))
    whole = before.copy(tmp_path / "whole")
    since = House(whole.config).version() + 1
    effects = driver.effects(whole, migrate=True)
    assert effects.index("schema.feed") < effects.index("migrate.feed")
    told = [(place, name) for place, name in enumerate(effects) if "feed" in name or "orders_target" in name]
    for place, name in drawn(told, "migrate"):
        world = before.copy(tmp_path / f"killed-{place}")
        assert driver.run(world, migrate=True, kill_at=place).get("signal") == 9
        driver.effects(world, migrate=True)
        driver.effects(world)
        assert world.state() == whole.state(), name
        check(world, since)
