"""P1 with two passes at once: on one machine the lock lets one through; without it the tables themselves must."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.depth import drawn, share
from tests.fault.world import BATCHES, TABLES, Driver, Json, World, distinct, file, row
from tests.feeds import FeedFile

pytestmark = pytest.mark.fault

FASTER_WAS_ANOTHER = {"E_PASS", "E_CONFLICT", "E_FOREIGN", "E_FILE", "E_SOURCE"}
"""Codes that a pass may end with when another one, on another machine, was faster: safe to run again."""


@pytest.fixture
def world(driver: Driver, tmp_path: Path) -> World:
    """One batch is loaded, the files of the next one wait."""
    world = World.make(tmp_path / "world")
    world.put(BATCHES[0])
    driver.effects(world)
    world.put(BATCHES[1])
    return world


def sent(*more: FeedFile) -> list[FeedFile]:
    return [*BATCHES[0], *BATCHES[1], *more]


def late_file(number: int = 0) -> FeedFile:
    return file(f"acme/late_{number:03d}_2026_11_22.csv", row(f"L{number}", 8), row("001", 12, address=f"N{number}"))


def settle(driver: Driver, world: World, files: list[FeedFile]) -> None:
    """One plain run, then all must be as the files say."""
    driver.effects(world)
    world.check(files)


def ended_well(ended: Json) -> bool:
    """True when a pass did its work, False when it made way; anything else fails."""
    assert "batch" in ended or ended.get("error") in FASTER_WAS_ANOTHER, ended
    return "batch" in ended


def test_a_second_pass_makes_way(driver: Driver, world: World) -> None:
    """The second one says that another runs and does nothing; the first one goes on undisturbed."""
    first = driver.start(world, stop_at=0)
    assert "stopped" in first
    second = driver.run(world)
    assert second["error"] == "E_PASS"
    assert second["effects"] == []
    world.put([late_file()])
    assert ended_well(driver.resume(first))
    settle(driver, world, sent(late_file()))


@pytest.mark.slow
def test_passes_that_start_together(driver: Driver, world: World) -> None:
    """Many rounds of two and three at once on one machine, each with new files."""
    files = sent()
    for number in range(share(12)):
        world.put([late_file(number)])
        files.append(late_file(number))
        ended = driver.together(world, 2 + number % 2)
        assert all("batch" in end or end["error"] == "E_PASS" for end in ended), ended
        assert any("batch" in end for end in ended)
    settle(driver, world, files)


def fresh(world: World, base: Path) -> World:
    copy = world.copy(base)
    copy.put(BATCHES[1])
    return copy


@pytest.fixture
def before(driver: Driver, tmp_path: Path) -> World:
    """One batch is loaded, nothing waits."""
    before = World.make(tmp_path / "before")
    before.put(BATCHES[0])
    driver.effects(before)
    return before


@pytest.mark.slow
def test_another_machine_at_every_effect(driver: Driver, before: World, tmp_path: Path) -> None:
    """No lock reaches the second machine: the first pass stands still at an effect, the second runs to its end."""
    for place in drawn(distinct(driver.effects(fresh(before, tmp_path / "probe"))), "another machine"):
        world = fresh(before, tmp_path / str(place))
        first = driver.start(world, stop_at=place, lock=False)
        assert "stopped" in first
        world.put([late_file()])
        ended_well(driver.run(world, lock=False))
        ended_well(driver.resume(first))
        settle(driver, world, sent(late_file()))


@pytest.mark.slow
def test_two_machines_that_decided_the_same_number(driver: Driver, before: World, tmp_path: Path) -> None:
    """Both have decided on one batch number, the second with a file more; the second then stands while the first goes
    on to its end.
    """
    names = driver.effects(fresh(before, tmp_path / "probe"))
    decided = names.index("plan.decided")
    for place in drawn(distinct(names)[1:], "the same number"):
        world = fresh(before, tmp_path / str(place))
        first = driver.start(world, stop_at=decided, lock=False)
        world.put([late_file()])
        second = driver.start(world, stop_at=place, lock=False)
        assert "stopped" in second
        ended_well(driver.resume(first))
        ended_well(driver.resume(second))
        settle(driver, world, sent(late_file()))


@pytest.mark.slow
def test_another_machine_makes_the_tables_too(driver: Driver, tmp_path: Path) -> None:
    """The very first pass, on two machines: the tables get one application id."""
    names = driver.effects(World.make(tmp_path / "probe"))
    assert sum(name.startswith("before put") for name in names) == len(TABLES)
    for place in drawn(distinct(names), "tables"):
        world = World.make(tmp_path / str(place))
        first = driver.start(world, stop_at=place, lock=False)
        world.put(BATCHES[0])
        assert ended_well(driver.run(world, lock=False))
        world.put([late_file()])
        ended_well(driver.resume(first))
        settle(driver, world, [*BATCHES[0], late_file()])


@pytest.mark.slow
def test_machines_that_start_together(driver: Driver, world: World) -> None:
    """Many rounds of two machines at once, as the scheduler will have it."""
    files = sent()
    for number in range(share(15)):
        world.put([late_file(number)])
        files.append(late_file(number))
        for end in driver.together(world, 2, lock=False):
            ended_well(end)
    settle(driver, world, files)
