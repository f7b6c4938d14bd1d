"""P1 with a damaged target: a pass or a rebuild is killed anywhere, and the end is that of no disturbance."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.depth import drawn
from tests.fault.world import BATCHES, Driver, State, World

pytestmark = pytest.mark.fault

KILLED_AT = (
    "stage.committed",
    "load.files",
    "load.committed",
    "history.committed",
    "rejects.committed",
    "deliveries.committed",
)


@dataclass(slots=True)
class Story:
    """Two batches: the world before the second, with its files waiting; its effects; the undisturbed end."""

    before: World
    effects: list[str]
    end: State


@pytest.fixture(scope="module")
def story(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    world = World.make(folder / "world")
    world.put(BATCHES[0])
    driver.run(world)
    world.put(BATCHES[1])
    before = world.copy(folder / "before")
    effects = driver.effects(world)
    return Story(before, effects, world.state())


def lose_the_files(world: World) -> None:
    for path in world.table("orders_target").glob("*.parquet"):
        path.unlink()


def lose_the_folder(world: World) -> None:
    shutil.rmtree(world.table("orders_target"))


Damage = Callable[[World], None]


@pytest.mark.series
@pytest.mark.parametrize("damage", [lose_the_files, lose_the_folder])
@pytest.mark.parametrize("step", KILLED_AT)
def test_a_pass_is_killed_and_the_target_is_lost(
    driver: Driver, story: Story, tmp_path: Path, step: str, damage: Damage
) -> None:
    """Between the target's commit and the records the history lacks the batch: it is loaded again from the stage."""
    world = story.before.copy(tmp_path / "world")
    assert driver.run(world, kill_at=story.effects.index(step)).get("signal") == 9
    damage(world)
    done = driver.run(world, rebuild=True)
    assert done["batch"] == 1 + (step == "deliveries.committed"), done
    driver.effects(world)
    assert world.state() == story.end
    again = driver.run(world)
    assert (again["batch"], again["warnings"]) == (None, [])


@pytest.mark.parametrize("damage", [lose_the_files, lose_the_folder])
def test_a_rebuild_is_killed_at_every_effect(driver: Driver, story: Story, tmp_path: Path, damage: Damage) -> None:
    """The next one does it, with a batch under way too; what the dead one wrote is in nobody's way."""
    world = story.before.copy(tmp_path / "world")
    driver.run(world, kill_at=story.effects.index("load.committed"))
    damage(world)
    effects = driver.effects(world.copy(tmp_path / "whole"), rebuild=True)
    assert effects == ["rebuild.folded", "rebuild.table", "rebuild.files", "rebuild.committed", "rebuild.indexed"]
    for place, name in drawn(list(enumerate(effects)), damage.__name__):
        each = world.copy(tmp_path / name)
        assert driver.run(each, rebuild=True, kill_at=place).get("signal") == 9
        driver.run(each, rebuild=True)
        assert not (each.table("orders_target") / "_rebuild").exists()
        driver.effects(each)
        assert each.state() == story.end, name


def test_a_rebuild_of_a_sound_target_is_killed_at_every_effect(driver: Driver, story: Story, tmp_path: Path) -> None:
    """A pass may follow at once: the target is the old one or the new one, and both are right."""
    for place in drawn(range(4), "sound"):
        world = story.before.copy(tmp_path / str(place))
        assert driver.run(world, rebuild=True, kill_at=place).get("signal") == 9
        driver.effects(world)
        assert world.state() == story.end, place


@pytest.mark.slow
@pytest.mark.parametrize("lost", [(), ("orders_target", "orders_history", "orders_rejects"), ("orders_stage",)])
def test_a_rebuild_from_the_archive_is_killed_at_every_effect(
    driver: Driver, story: Story, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    """Each table is the old one or the new one; a pass makes nothing in their place, and the next rebuild ends it."""
    world = story.before.copy(tmp_path / "world")
    for name in lost:
        shutil.rmtree(world.table(name))
    again = {"rebuild": True, "from_archive": True}
    effects = driver.effects(world.copy(tmp_path / "whole"), **again)
    committed = ["rebuild.orders_history.committed", "rebuild.orders_rejects.committed", "rebuild.committed"]
    assert [name for name in effects if name in committed] == committed
    for place, name in drawn(list(enumerate(effects)), lost):
        each = world.copy(tmp_path / f"{place}")
        assert driver.run(each, **again, kill_at=place).get("signal") == 9
        if lost and place + 1 < len(effects):
            passed = driver.run(each)
            assert "batch" in passed or passed["error"] == "E_TABLE"
            if "batch" in passed:
                assert each.state() == story.end, name
                continue
        driver.run(each, **again)
        driver.effects(each)
        assert each.state() == story.end, name
        assert not list(each.config.warehouse.glob(".ordertrail-rebuild-*"))
        shutil.rmtree(each.base)
