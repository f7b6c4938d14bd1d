"""P1 with two passes at once: on one machine the lock lets one through; without it the tables themselves must."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.world import BATCHES, Driver, Json, World, file, row
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


def test_a_second_pass_makes_way_at_every_effect(driver: Driver, world: World) -> None:
    """However far the first one is, the second one says so and does nothing; the first one goes on undisturbed."""
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
    for number in range(12):
        world.put([late_file(number)])
        files.append(late_file(number))
        ended = driver.together(world, 2 + number % 2)
        assert all("batch" in end or end["error"] == "E_PASS" for end in ended), ended
        assert any("batch" in end for end in ended)
    settle(driver, world, files)


def stop_points(driver: Driver, world: World, folder: Path) -> list[str]:
    return driver.effects(_fresh(world, folder / "probe"))


def _fresh(world: World, base: Path) -> World:
    copy = world.copy(base)
    copy.put(BATCHES[1])
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["same files", "one file more"])
def test_another_machine_at_every_effect(driver: Driver, tmp_path: Path, late: bool) -> None:
    """No lock reaches the second machine: the first pass stands still at an effect, the second runs to its end."""
    before = World.make(tmp_path / "before")
    before.put(BATCHES[0])
    driver.effects(before)
    wrong: list[str] = []
    for place, name in enumerate(stop_points(driver, before, tmp_path)):
        one = _fresh(before, tmp_path / str(place))
        first = driver.start(one, stop_at=place, lock=False)
        assert "stopped" in first
        if late:
            one.put([late_file()])
        second = driver.run(one, lock=False)
        last = driver.resume(first)
        try:
            ended_well(second)
            ended_well(last)
            settle(driver, one, sent(*[late_file()][: int(late)]))
        except AssertionError as error:
            wrong.append(f"first stood at {place} {name}: {str(error).strip()[:300]}\n  second {second}\n  first {last}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_another_machine_makes_the_tables_too(driver: Driver, tmp_path: Path) -> None:
    """The very first pass, on two machines: the tables get one application id."""
    names = driver.effects(World.make(tmp_path / "probe"))
    for place in range(len(names)):
        world = World.make(tmp_path / str(place))
        world.put(BATCHES[0])
        first = driver.start(world, stop_at=place, lock=False)
        assert ended_well(driver.run(world, lock=False))
        ended_well(driver.resume(first))
        world.put(BATCHES[1])
        settle(driver, world, sent())


@pytest.mark.slow
def test_machines_that_start_together(driver: Driver, world: World) -> None:
    """Many rounds of two machines at once, as the scheduler will have it."""
    files = sent()
    for number in range(15):
        world.put([late_file(number)])
        files.append(late_file(number))
        for end in driver.together(world, 2, lock=False):
            ended_well(end)
    settle(driver, world, files)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["plan.decided", "stage.files"])
def test_two_machines_that_both_decided(driver: Driver, tmp_path: Path, start: str) -> None:
    """Both have decided on the same batch number, one with a file more; then each goes on while the other stands."""
    before = World.make(tmp_path / "before")
    before.put(BATCHES[0])
    driver.effects(before)
    names = stop_points(driver, before, tmp_path)
    wrong: list[str] = []
    for place in range(names.index("plan.decided") + 1, len(names) + 2):
        one = _fresh(before, tmp_path / str(place))
        first = driver.start(one, stop_at=names.index(start), lock=False)
        one.put([late_file()])
        second = driver.start(one, stop_at=place, lock=False)
        first = driver.resume(first)
        if "stopped" in second:
            second = driver.resume(second)
        try:
            ended_well(second)
            ended_well(first)
            settle(driver, one, sent(late_file()))
        except AssertionError as error:
            wrong.append(f"second stood at {place}: {str(error).strip()[:300]}\n  second {second}\n  first {first}")
    assert not wrong, "\n".join(wrong)
