"""What every test with Spark gets: the session, a house without fsync, and at the end a look by every reader."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import House, check_books, open_house, without_fsync
from tests.spark.session import Spark, check_spark, problem, start


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """Spark with Delta Lake. Where it cannot run the tests are skipped, but with CI=true that is a failure."""
    if (why := problem()) is not None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI must run the tests with Spark. {why}", pytrace=False)
        pytest.skip(why)
    session = start(tmp_path_factory.mktemp("spark"))
    yield Spark(session)
    session.stop()


@pytest.fixture
def house(tmp_path: Path, spark: Spark) -> Iterator[House]:
    """A pipeline with the default contract. When the test is over, every reader must read the same rows of it."""
    with without_fsync():
        made = open_house(tmp_path)
        yield made
        check_spark(made, spark)
        check_books(made)
