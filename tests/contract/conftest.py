"""What every contract test of the pipeline gets: an engine, a house, and at the end a look by every reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import House, check_books, check_readers, open_house

MakeHouse = Callable[[str], House]


@pytest.fixture(params=["embedded"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine there is, in turn."""
    return str(request.param)


@pytest.fixture(params=["vectors", "copies"])
def writer(request: pytest.FixtureRequest) -> str:
    """How the target is written: each way there is, in turn."""
    return str(request.param)


@pytest.fixture
def make_house(tmp_path: Path, engine: str, writer: str) -> Iterator[MakeHouse]:
    """Make the pipeline of a scenario from further lines of `ordertrail.toml`, once.

    When the scenario is over, every reader must read the same rows, and the books must balance.
    """
    made: list[House] = []

    def make(toml: str) -> House:
        made.append(open_house(tmp_path, toml, engine, deletion_vectors=writer == "vectors"))
        return made[-1]

    yield make
    for house in made:
        check_readers(house)
        check_books(house)


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    """A pipeline with the default contract and one vendor that takes `*.csv`."""
    return make_house("")
