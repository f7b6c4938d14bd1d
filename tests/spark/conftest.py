"""What every test with Spark gets: a house without fsync, and at the end a look by every reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import House, check_books, open_house, without_fsync
from tests.spark.session import Spark, check_spark

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are one series, see `tests/depth.py`: each plans for many seconds, some for two minutes."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.series("Spark"))


@pytest.fixture
def house(tmp_path: Path, spark: Spark) -> Iterator[House]:
    """A pipeline with the default contract. When the test is over, every reader must read the same rows of it."""
    with without_fsync():
        made = open_house(tmp_path)
        yield made
        check_spark(made, spark)
        check_books(made)
