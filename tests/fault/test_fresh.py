"""Each command that writes is killed in an interpreter of its own, which is what the forks of `driver.py` leave out.

They have imported all modules before, run no command line and die at an effect. Here the process is the user's, and
dies as soon as it has made a file below the tables, whatever it does then.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault.world import BATCHES, PLAIN_CONFIG, ROOT, Driver, State, World
from tests.oracle import keyed

pytestmark = pytest.mark.fault

EAGER = "[maintenance]\nmax_small_files = 1\nretention_h = 0\nlog_retention_h = 0\n"
TRIES = 5
"""How often a command may be at its end before its first file was seen."""


@dataclass(frozen=True, slots=True)
class Story:
    """Two batches: the world before the second, with its files waiting; the world after it; what it holds then."""

    before: World
    after: World
    end: State


@pytest.fixture(scope="module")
def story(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    world = World.make(folder / "world", PLAIN_CONFIG + EAGER)
    world.put(BATCHES[0])
    driver.effects(world)
    world.put(BATCHES[1])
    before = world.copy(folder / "before")
    driver.effects(world)
    return Story(before, world, world.state())


def below(folder: Path) -> set[Path]:
    return {Path(path) / name for path, _, names in os.walk(folder) for name in names}


def command(world: World, *words: str) -> subprocess.Popen[bytes]:
    """`ordertrail`, as a user starts it."""
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = [sys.executable, "-m", "ordertrail", *words, "--config", "ordertrail.toml"]
    return subprocess.Popen(given, cwd=world.base, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL)


def killed(world: World, *words: str) -> bool:
    """Run a command that dies when it has made a file; False when it was at its end before that was seen."""
    tables = world.table("orders_target").parent
    before = below(tables)
    process = command(world, *words)
    while process.poll() is None and below(tables) <= before:
        pass
    process.kill()
    return process.wait(60) == -9


def killed_once(fresh: Callable[[int], World], *words: str) -> World:
    """The world where the command was killed."""
    for number in range(TRIES):
        world = fresh(number)
        if killed(world, *words):
            return world
    raise AssertionError(f"{words} was never killed")


@pytest.mark.series
@pytest.mark.parametrize(
    "words",
    [("run",), ("maintain",), ("rebuild",), ("rebuild", "--history-from-archive")],
    ids=lambda words: " ".join(words),
)
def test_the_command_is_killed_and_the_next_one_ends_as_if_undisturbed(
    story: Story, tmp_path: Path, words: tuple[str, ...]
) -> None:
    origin = story.before if words == ("run",) else story.after
    world = killed_once(lambda number: origin.copy(tmp_path / str(number)), *words)
    assert command(world, *words).wait(60) == 0
    assert command(world, "run").wait(60) == 0
    assert world.state() == story.end
    world.check_books(world.rows("orders_deliveries"))


def test_undo_is_killed_and_the_next_pass_finishes_it_or_knows_nothing_of_it(story: Story, tmp_path: Path) -> None:
    one = next(d for d in story.after.rows("orders_deliveries") if d["file_name"] == "order_tracking_2026_11_22.csv")
    words = (one["delivery_id"], "--why", "a test", "--yes")
    world = killed_once(lambda number: story.after.copy(tmp_path / str(number)), "undo", *words)
    assert command(world, "run").wait(60) == 0
    states = {d["delivery_id"]: d["state"] for d in world.rows("orders_deliveries")}
    finished = states[one["delivery_id"]] == "undone"
    assert command(world, "undo", *words).wait(60) == (2 if finished else 0)
    assert keyed(world.rows("orders_target")) != keyed(story.after.rows("orders_target"))
    assert command(world, "redo", *words).wait(60) == 0
    assert keyed(world.rows("orders_target")) == keyed(story.after.rows("orders_target"))
    assert command(world, "verify").wait(60) == 0
