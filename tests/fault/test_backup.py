"""A backup and a restore are killed at every effect: the folder is whole or absent, the tables are old or restored."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from ordertrail.keep.backed_up import check_hashes, read_manifest
from ordertrail.look.verify import verify
from tests.depth import drawn
from tests.fault.world import BATCHES, Driver, State, World

pytestmark = pytest.mark.fault


@dataclass(slots=True)
class Story:
    """A world of two batches, a backup of the first, and the world with the first batch alone, as states."""

    world: World
    backup: Path
    first: State
    end: State


@pytest.fixture(scope="module")
def story(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("backup")
    world = World.make(folder / "world")
    world.put(BATCHES[0])
    driver.run(world)
    first = world.state()
    driver.effects(world, backup=str(folder / "kept"))
    world.put(BATCHES[1])
    driver.run(world)
    return Story(world, folder / "kept", first, world.state())


def test_a_backup_is_killed_at_every_effect(driver: Driver, story: Story, tmp_path: Path) -> None:
    world = story.world.copy(tmp_path / "world")
    effects = driver.effects(world, backup=str(tmp_path / "whole"))
    assert effects == ["backup.taken", "backup.hashed", "backup.whole", "backup.there"]
    for place, name in enumerate(effects):
        kept = tmp_path / f"kept-{place}"
        assert driver.run(world, backup=str(kept), kill_at=place).get("signal") == 9
        assert kept.exists() == (name == "backup.there")
        if not kept.exists():
            assert driver.run(world, backup=str(kept))["batch"] == 2
        check_hashes(kept, read_manifest(kept))
    assert driver.run(world)["batch"] is None
    assert world.state() == story.end


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True], ids=["tables are there", "all is lost"])
def test_a_restore_is_killed_at_every_effect(driver: Driver, story: Story, tmp_path: Path, lost: bool) -> None:
    """No pass begins before it is finished, and the next restore finishes it."""

    def world(name: str) -> World:
        made = story.world.copy(tmp_path / name)
        if lost:
            shutil.rmtree(made.base / "warehouse")
            shutil.rmtree(made.archive)
        return made

    again = {"restore": str(story.backup)}
    effects = driver.effects(world("whole"), **again)
    swaps = [name for name in effects if name.startswith(("restore.aside", "restore.in"))]
    assert len(swaps) == (5 if lost else 10)
    noted, done = effects.index("restore.noted"), effects.index("restore.done")
    for place, name in drawn(list(enumerate(effects)), lost):
        each = world(f"{place}")
        assert driver.run(each, **again, kill_at=place).get("signal") == 9
        passed = driver.run(each)
        if place < noted:
            # An archive that is gone, and tables that are: as before.
            assert lost or passed["batch"] is None
        elif place < done:
            assert passed["error"] == "E_STORAGE", (name, passed)
            assert "ordertrail restore" in passed["message"]
        ended = driver.run(each, **again)
        assert ended.get("resumed") == (noted <= place < done), (name, ended)
        assert driver.run(each)["batch"] is None
        state = each.state()
        assert state._replace(archive=story.first.archive) == story.first, name
        assert story.first.archive.items() <= state.archive.items()
        assert verify(each.config).ok
        shutil.rmtree(each.base)
