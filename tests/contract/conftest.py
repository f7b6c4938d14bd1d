"""What every contract test of the pipeline gets: an engine, a house, and at the end a look by every reader."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ordertrail.config import SparkSettings
from tests.contract import spared
from tests.harness import House, check_books, check_readers, open_house
from tests.spark.session import Spark

MakeHouse = Callable[[str], House]


PLAYED_BY_SPARK = [pytest.mark.spark, pytest.mark.slow, pytest.mark.series("a scenario on a way of Spark")]

WAYS = (
    "vectors",
    pytest.param("copies", marks=pytest.mark.series("a scenario with copies")),
    *(pytest.param(way, marks=PLAYED_BY_SPARK) for way in ("spark", "named", "executors")),
)
"""The embedded engine with deletion vectors and with copies; Spark on tables in folders, on tables with names, and in
the executors. The tables with names are on storage that only Spark reads."""

ON_SPARK = ("spark", "named", "executors")

WAY_NAMES = ("vectors", "copies", *ON_SPARK)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the ways that scenarios say they are spared. Runs before `-m` and `-k` take any out."""
    taken: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        marks = list(item.iter_markers(spared.NAME))
        if (why := spared.problem(marks, WAY_NAMES, item.path, config.rootpath)) is not None:
            raise pytest.UsageError(f"{item.nodeid}: {why}")
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        (left_out if parameters.get("way") in spared.spared_ways(marks) else taken).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = taken


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each engine there is, in each of its ways, in turn."""
    if request.param in ON_SPARK:
        request.getfixturevalue("spark")
    return str(request.param)


@pytest.fixture
def engine(way: str) -> str:
    """The name of the engine."""
    return "spark" if way in ON_SPARK else "embedded"


@pytest.fixture
def make_house(tmp_path: Path, engine: str, way: str, request: pytest.FixtureRequest) -> Iterator[MakeHouse]:
    """Make the pipeline of a scenario from further lines of `ordertrail.toml`, once.

    When the scenario is over, every reader must read the same rows, and the books must balance.
    """
    made: list[House] = []

    def make(toml: str) -> House:
        settings = SparkSettings(driver_max_bytes=0 if way == "executors" else 64 << 20)
        house = open_house(tmp_path, toml, engine, deletion_vectors=way != "copies", spark=settings)
        if way == "named":
            spark: Spark = request.getfixturevalue("spark")
            request.getfixturevalue("elsewhere")
            house.turn(schema=f"house_{uuid.uuid4().hex[:8]}", spark=SparkSettings(tables="two-level"))
            # The catalog keeps the tables in folders where other readers look for them.
            spark.run(f"CREATE SCHEMA {house.config.schema} LOCATION '{house.table_path('target').parent}'")
        made.append(house)
        return house

    yield make
    for house in made:
        check_readers(house)
        check_books(house)
        if way == "named":
            request.getfixturevalue("spark").run(f"DROP SCHEMA {house.config.schema} CASCADE")


@pytest.fixture(scope="session")
def filled() -> dict[tuple[str, str], Path]:
    """Folders of houses that several tests begin with, by their name and the way they were filled."""
    return {}


@pytest.fixture
def begin_with(
    make_house: MakeHouse,
    tmp_path: Path,
    way: str,
    filled: dict[tuple[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Callable[[House], None]], House]:
    """Begin with a house that was filled by a function: once, and copied for every test."""

    def begin(fill: Callable[[House], None]) -> House:
        house = make_house("")
        if way == "named":  # a catalog knows nothing of folders that were copied
            fill(house)
            return house
        place = filled.get((fill.__qualname__, way))
        if place is None:
            fill(house)
            place = filled[fill.__qualname__, way] = tmp_path_factory.mktemp("filled") / "house"
            shutil.copytree(tmp_path, place)
        else:
            shutil.copytree(place, tmp_path, dirs_exist_ok=True)
        return house

    return begin


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    """A pipeline with the default contract and one vendor that takes `*.csv`."""
    return make_house("")
