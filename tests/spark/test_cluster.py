"""Executors that are other processes: nothing leans on the driver's memory, and one that dies changes nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness import check_books
from tests.spark.cluster import house_of
from tests.spark.engines import EMBEDDED, check_same, feed, load, state
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]

_files = feed(20, seed=7)
BATCHES = (_files[:12], _files[12:])
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Counter[Any]]:
    return state(load(tmp_path_factory.mktemp("embedded"), BATCHES, lambda _: EMBEDDED))


def test_two_workers_on_a_shared_folder_of_which_an_executor_is_killed(
    tmp_path: Path, spark: Spark, embedded: Mapping[str, Counter[Any]]
) -> None:
    """The first batch is the embedded engine's; while the second one is staged an executor is killed."""
    house = house_of(tmp_path / "house")
    by_cluster = house.config
    house.drop_all(BATCHES[0])
    house.turn(engine=EMBEDDED[0])
    assert house.run().batch == 1
    house.drop_all(BATCHES[1])
    command = [sys.executable, "-m", "tests.spark.cluster", str(tmp_path / "house"), "kill"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, timeout=800, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = re.search(r"batch 2 of \d+ rows, (\d+) executors killed", ended.stdout)
    assert said is not None
    assert int(said[1]) > 0
    house.config = by_cluster
    check_same(state(house), embedded)
    check_books(house)
