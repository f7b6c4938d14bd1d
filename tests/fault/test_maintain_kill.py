"""Maintenance is killed -9 at every effect: the tables are as before, and the next maintenance and pass go on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.depth import drawn
from tests.fault.world import BATCHES, MAX_REJECT_SHARE, PLAIN_CONFIG, Driver, State, World, distinct, file, row
from tests.feeds import FeedFile
from tests.oracle import judge, keyed

pytestmark = pytest.mark.fault

EAGER = """
[maintenance]
max_small_files = 1
max_deleted_share = 0.1
retention_h = 0
log_retention_h = 0
"""
MORE = (
    (file("acme/order_tracking_2026_11_24.csv", row("001", 12), row("002", 12), row("011", 8)),),
    (file("acme/order_tracking_2026_11_25.csv", row("003", 13), row("012", 8), row("011", 9)),),
)
LAST = (file("acme/order_tracking_2026_11_26.csv", row("001", 14), row("012", 14), row("013", 8)),)
STEPS = (
    "maintain.files",
    "maintain.indexed",
    "maintain.committed",
    "maintain.checkpoint",
    "maintain.cleaning",
    "maintain.cleaned",
    "maintain.vacuuming",
    "maintain.vacuumed",
    "maintain.tidied",
)


@dataclass(slots=True)
class Story:
    """A world with debt; what it holds; the effects of paying it; what it holds after the next batch."""

    before: World
    sent: tuple[FeedFile, ...]
    state: State
    effects: list[str]
    end: State


@pytest.fixture(scope="module")
def story(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    world = World.make(folder / "world", PLAIN_CONFIG + EAGER, checkpoint_every=2)
    batches = (*BATCHES, *MORE)
    for number, files in enumerate(batches):
        world.put(files)
        driver.run(world)
        if number == len(BATCHES) - 1:  # so that there are files and log entries that nobody needs any more
            driver.run(world, maintain=True)
    before, state = world.copy(folder / "before"), world.state()
    effects = driver.run(world, maintain=True)["effects"]
    assert world.state() == state
    world.put(LAST)
    driver.run(world)
    sent = tuple(one for files in batches for one in files)
    return Story(before, sent, state, effects, world.state())


def check(world: World, sent: Sequence[FeedFile]) -> None:
    """As `World.check`, but for what a clean-up takes away: the commits of old batches."""
    verdict = judge(sent, None, world.vendors, max_reject_share=MAX_REJECT_SHARE)
    assert keyed(world.rows("orders_target")) == verdict.target
    world.check_books(world.rows("orders_deliveries"))


def goes_on(driver: Driver, story: Story, world: World, place: object) -> None:
    """Nothing is lost; maintenance comes to its end, and a pass ends as if nothing had been."""
    assert world.state() == story.state, f"killed at {place}"
    again = driver.run(world, maintain=True)
    assert (again.get("notes"), again.get("warnings")) == ([], []), (place, again)
    assert world.state() == story.state, f"killed at {place}, and maintained again"
    world.put(LAST)
    driver.effects(world)
    assert world.state() == story.end, f"killed at {place}"
    check(world, (*story.sent, *LAST))


def test_the_effects_are_there(story: Story) -> None:
    """The kill points are those that really happen; this fails when a step loses its probe."""
    assert {*STEPS} <= {*story.effects}
    assert any(name.startswith("before put orders_target") for name in story.effects)
    assert any(name.startswith("before put orders_history") for name in story.effects)


@pytest.mark.series
@pytest.mark.parametrize("name", STEPS)
def test_killed_at_each_kind_of_effect(driver: Driver, story: Story, tmp_path: Path, name: str) -> None:
    world = story.before.copy(tmp_path / "world")
    assert driver.run(world, maintain=True, kill_at=story.effects.index(name)).get("signal") == 9
    goes_on(driver, story, world, name)


@pytest.mark.slow
def test_killed_at_every_effect(driver: Driver, story: Story, tmp_path: Path) -> None:
    for place in drawn(distinct(story.effects), "maintain"):
        world = story.before.copy(tmp_path / f"world-{place}")
        assert driver.run(world, maintain=True, kill_at=place).get("signal") == 9
        goes_on(driver, story, world, f"{place} {story.effects[place]}")


@pytest.mark.slow
def test_killed_while_it_goes_on_again(driver: Driver, story: Story, tmp_path: Path) -> None:
    """Each maintenance after a killed one is killed too."""
    for number in drawn(range(4), "again"):
        chance = random.Random(number)
        world = story.before.copy(tmp_path / f"world-{number}")
        places = [chance.randrange(len(story.effects)) for _ in range(3)]
        for place in places:
            driver.run(world, maintain=True, kill_at=place)
        goes_on(driver, story, world, places)


def test_a_pass_runs_while_maintenance_stands_still(driver: Driver, story: Story, tmp_path: Path) -> None:
    """Before its commit it holds no lock; the rows that the pass updates are marked in the compacted file."""
    world = story.before.copy(tmp_path / "world")
    started = driver.start(world, maintain=True, stop_at=story.effects.index("maintain.indexed"))
    assert started.get("stopped"), started
    world.put(LAST)
    driver.effects(world)
    assert world.state() == story.end
    ended = driver.resume(started)
    assert "steps" in ended, ended
    assert "maintain.vectors" in ended["effects"] or any("rewrote these files" in note for note in ended["notes"])
    assert world.state() == story.end
    check(world, (*story.sent, *LAST))
