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

_files = feed(24, seed=7)
BATCHES = (_files[:12], _files[12:])
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Counter[Any]]:
    return state(load(tmp_path_factory.mktemp("embedded"), BATCHES, lambda _: EMBEDDED))


def test_two_workers_on_a_shared_folder(tmp_path: Path, spark: Spark, embedded: Mapping[str, Counter[Any]]) -> None:
    """The first batch undisturbed; of the second each worker's executor is killed in turn."""
    house = house_of(tmp_path / "house")
    for number, how in enumerate(("plain", "kill")):
        house.drop_all(BATCHES[number])
        command = [sys.executable, "-m", "tests.spark.cluster", str(tmp_path / "house"), how]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, timeout=400, check=False, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        said = re.search(r"batch (\d+) of \d+ rows, (\d+) executors killed", ended.stdout)
        assert said is not None
        assert int(said[1]) == number + 1
        assert (int(said[2]) > 0) == (how == "kill")
    check_same(state(house), embedded)
    check_books(house)
