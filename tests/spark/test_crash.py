"""P1 on Spark: a pass that ends after any effect, or is killed amid a MERGE, is finished by either engine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.feeds import FEED_LIMITS, FEED_VENDORS, FeedFile
from tests.harness import House, check_books, open_house
from tests.spark.engines import EMBEDDED, IN_EXECUTORS, ON_DRIVER, Crash, check_same, crash_at, feed, load, state
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.fault, pytest.mark.timeout(600)]

_files = feed(24, seed=3)
BATCHES: Sequence[Sequence[FeedFile]] = (_files[:12], _files[12:])
EFFECTS = (
    "plan.decided", "stage.files", "stage.committed", "load.files", "load.committed", "history.files",
    "history.committed", "rejects.files", "rejects.committed", "deliveries.files", "deliveries.committed",
    "archive.claimed", "archive.dropped", "archived.committed",
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Counter[Any]]:
    return state(load(tmp_path_factory.mktemp("undisturbed"), BATCHES, lambda _: EMBEDDED))


@pytest.fixture(scope="module")
def first_batch(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Path:
    """The folder of a pipeline with its first batch, loaded by Spark."""
    folder = tmp_path_factory.mktemp("first")
    load(folder / "house", BATCHES[:1], lambda _: ON_DRIVER)
    return folder / "house"


def second_batch(first: Path, folder: Path) -> House:
    """A copy of it, the files of the second batch waiting."""
    shutil.copytree(first, folder)
    shutil.rmtree(folder / "source")
    house = open_house(folder, vendors=FEED_VENDORS, **FEED_LIMITS)
    house.drop_all(BATCHES[1])
    return house


def use(house: House, way: tuple[str, Any]) -> None:
    house.turn(engine=way[0], spark=way[1])


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_pass_that_ends_after_an_effect_is_finished(
    tmp_path: Path, first_batch: Path, undisturbed: Mapping[str, Counter[Any]], effect: str
) -> None:
    """Half of them by the embedded engine, so that each engine reads what the other one left."""
    house = second_batch(first_batch, tmp_path / "house")
    use(house, ON_DRIVER)
    with pytest.raises(Crash):
        house.run(crash_at(effect))
    use(house, EMBEDDED if EFFECTS.index(effect) % 2 else ON_DRIVER)
    house.run()
    check_same(state(house), undisturbed)
    check_books(house)


@pytest.mark.parametrize("effect", ["stage.committed", "load.committed", "history.committed"])
def test_spark_finishes_what_the_embedded_engine_left(
    tmp_path: Path, first_batch: Path, undisturbed: Mapping[str, Counter[Any]], effect: str
) -> None:
    house = second_batch(first_batch, tmp_path / "house")
    with pytest.raises(Crash):
        house.run(crash_at(effect))
    use(house, IN_EXECUTORS if effect == "load.committed" else ON_DRIVER)
    assert house.run().recovered
    check_same(state(house), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.2, 0.8, 1.6])
def test_a_driver_that_is_killed_in_the_middle_of_a_merge(
    tmp_path: Path, first_batch: Path, undisturbed: Mapping[str, Counter[Any]], after_s: float
) -> None:
    """A process of its own, with its own Spark, killed -9; what its JVM still does is let be for a moment."""
    house = second_batch(first_batch, tmp_path / "house")
    command = [sys.executable, "-m", "tests.spark.killed", str(tmp_path / "house"), str(after_s)]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL
    use(house, ON_DRIVER)
    house.run()
    check_same(state(house), undisturbed)
    check_books(house)
