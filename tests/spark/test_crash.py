"""P1 on Spark: a pass that ends after any effect, or is killed amid a MERGE, is finished by either engine.

That a pass which ends after one effect is finished in one other pass, `tests/fault` holds of the embedded engine, whose
code stages and records small batches here.
"""

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

pytestmark = [pytest.mark.spark, pytest.mark.fault, pytest.mark.timeout(900)]

_files = feed(24, seed=3)
BATCHES: Sequence[Sequence[FeedFile]] = (_files[:12], _files[12:])
EFFECTS = (
    "plan.decided", "stage.files", "stage.committed", "load.files", "load.committed", "history.files",
    "history.committed", "rejects.files", "rejects.committed", "deliveries.files", "deliveries.committed",
    "archive.claimed", "archive.dropped", "archived.committed",
)  # fmt: skip
EFFECTS_OF_SPARK = (
    "load.files", "load.committed", "history.committed", "rejects.committed", "deliveries.committed",
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


def test_passes_that_end_after_one_effect_after_the_other(
    tmp_path: Path, first_batch: Path, undisturbed: Mapping[str, Counter[Any]]
) -> None:
    """One batch and many passes, each of which ends after the next effect. The engines take turns but for the MERGE."""
    house = second_batch(first_batch, tmp_path / "house")
    for number, effect in enumerate(EFFECTS):
        use(house, ON_DRIVER if effect.startswith("load.") or number % 2 else EMBEDDED)
        with pytest.raises(Crash):
            house.run(crash_at(effect))
    use(house, ON_DRIVER)
    house.run()
    check_same(state(house), undisturbed)
    check_books(house)


@pytest.mark.slow
def test_passes_in_the_executors_that_end_one_after_the_other(
    tmp_path: Path, first_batch: Path, undisturbed: Mapping[str, Counter[Any]]
) -> None:
    """What the executors staged and weighed is read back from the tables by each pass, and by the load alone."""
    house = second_batch(first_batch, tmp_path / "house")
    use(house, IN_EXECUTORS)
    assert house.stage().batch == 2
    for effect in EFFECTS_OF_SPARK:
        with pytest.raises(Crash):
            house.pipeline(crash_at(effect)).load()
    house.load()
    check_same(state(house), undisturbed)
    check_books(house)


def test_the_embedded_engine_finishes_what_spark_left(
    tmp_path: Path, first_batch: Path, undisturbed: Mapping[str, Counter[Any]]
) -> None:
    """In one pass, from the commit of the MERGE on."""
    house = second_batch(first_batch, tmp_path / "house")
    use(house, ON_DRIVER)
    with pytest.raises(Crash):
        house.run(crash_at("load.committed"))
    use(house, EMBEDDED)
    assert house.run().recovered
    check_same(state(house), undisturbed)


@pytest.mark.slow
def test_spark_finishes_what_the_embedded_engine_left(
    tmp_path: Path, first_batch: Path, undisturbed: Mapping[str, Counter[Any]]
) -> None:
    """In one pass, in the executors: they weigh again what the target already has."""
    house = second_batch(first_batch, tmp_path / "house")
    with pytest.raises(Crash):
        house.run(crash_at("load.committed"))
    use(house, IN_EXECUTORS)
    assert house.run().recovered
    check_same(state(house), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.3, 1.5])
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
