"""Whoever sorts terms for the search cache is killed -9 at each effect: searches find the same, before and after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from ordertrail.look.finder import Finder
from ordertrail.look.search_cache import FOLDER, YOUNG_S
from ordertrail.look.status import Reader
from ordertrail.look.track import Track
from tests.depth import drawn
from tests.fault.world import BATCHES, PLAIN_CONFIG, Driver, World, file, row

pytestmark = pytest.mark.fault

# As many rows as the runs have: these are sorted again together with them, and replaced.
LAST = (file("acme/order_tracking_2026_11_26.csv", row("001", 14), *(row(f"{n:03}", 8) for n in range(12, 40))),)
QUESTIONS = ("001", "013", "o012", "O001", "nothing")


@dataclass(slots=True)
class Story:
    """A world whose runs are one batch behind; what a search must find; the effects of sorting what is missing."""

    before: World
    found: dict[str, Track]
    effects: list[str]


def answers(world: World) -> dict[str, Track]:
    with Reader(world.config) as reader:
        return {text: reader.track(text) for text in QUESTIONS}


def behind(world: World) -> int:
    with Reader(world.config) as reader:
        return Finder(reader.quick()).rows_behind()


def left(world: World, suffix: str) -> list[Path]:
    return sorted((world.config.warehouse / FOLDER).rglob(f"*{suffix}"))


@pytest.fixture(scope="module")
def story(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("search")
    world = World.make(folder / "world", PLAIN_CONFIG)
    for files in BATCHES:
        world.put(files)
        driver.run(world)
    assert driver.run(world, search=True)["runs"] == 4
    world.put(LAST)
    driver.run(world)
    before, found = world.copy(folder / "before"), answers(world)
    assert len([one for one in found.values() if one.current is not None or one.matches]) == len(QUESTIONS) - 1
    assert behind(world)
    effects = driver.run(world, search=True)["effects"]
    assert (behind(world), answers(world)) == (0, found)
    return Story(before, found, effects)


def test_the_effects_are_there(story: Story) -> None:
    assert {"search.sorted", "search.moved", "search.removed"} == {*story.effects}


def test_killed_at_every_effect(driver: Driver, story: Story, tmp_path: Path) -> None:
    for place in drawn(range(len(story.effects)), "search"):
        world = story.before.copy(tmp_path / f"world-{place}")
        assert driver.run(world, search=True, kill_at=place).get("signal") == 9
        told = f"killed at {place}, {story.effects[place]}"
        assert bool(left(world, ".tmp")) == (story.effects[place] == "search.sorted"), told
        assert answers(world) == story.found, told
        for path in left(world, ".tmp"):
            os.utime(path, (path.stat().st_mtime - YOUNG_S - 1,) * 2)
        assert driver.run(world, search=True).get("runs") is not None, told
        assert (behind(world), answers(world), left(world, ".tmp")) == (0, story.found, []), told
