"""What every contract test of the pipeline gets: an engine, a house, and at the end a look by every reader."""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ordertrail.config import SparkSettings
from tests.harness import House, check_books, check_readers, open_house
from tests.spark.session import Spark

MakeHouse = Callable[[str], House]


WAYS = (
    "vectors",
    "copies",
    pytest.param("spark", marks=pytest.mark.spark),
    pytest.param("named", marks=pytest.mark.spark),
    pytest.param("executors", marks=pytest.mark.spark),
)
"""The embedded engine with deletion vectors and with copies; Spark on tables in folders, on tables with names, and in
the executors. The tables with names are on storage that only Spark reads."""

ON_SPARK = ("spark", "named", "executors")

PARSED_IN_EXECUTORS = frozenset(
    {
        "test_a_file_that_grows_while_it_is_read_drops_out_of_the_batch",
        "test_a_quarantined_file_does_not_take_its_neighbours_with_it",
        "test_too_many_rejects_quarantine_the_file",
    }
)
"""Scenarios where executors have a way of their own to parse, which takes Spark much longer than the driver."""

WEIGHED_BY_SPARK = frozenset(
    {
        "test_a_column_that_a_vendor_never_sends_keeps_its_value",
        "test_a_composite_key",
        "test_a_contract_with_every_type",
        "test_a_foreign_write_in_the_middle_of_a_load_is_not_lost",
        "test_a_changed_type_is_refused_everywhere_and_the_hint_works",
        "test_a_column_taken_out_or_required_later_is_refused_and_the_hint_works",
        "test_a_column_that_somebody_added_keeps_its_values",
        "test_a_doubled_key_keeps_what_somebody_says_of_the_row_that_counts",
        "test_an_added_column_is_null_in_old_rows",
        "test_a_key_that_a_foreign_append_doubled_is_there_once_after_its_next_update",
        "test_equal_copies_of_a_doubled_key_are_tidied_up_by_an_unchanged_row",
        "test_history_decides_when_the_target_still_bears_an_older_files_name",
        "test_the_same_file_again_under_another_profile_corrects_itself",
        "test_two_rows_of_a_key_in_a_batch",
    }
)
"""Scenarios where executors, and tables with names, have a way of their own to weigh a batch."""

SCENARIOS = {"named": WEIGHED_BY_SPARK, "executors": WEIGHED_BY_SPARK | PARSED_IN_EXECUTORS}
"""The scenarios of the ways of Spark that do not have all."""


KERNEL_ALONE = frozenset({"test_a_value_outside_its_type_or_rules_is_a_reject", "test_encodings"})
"""Scenarios whose many cases differ in the row kernel alone, the same code everywhere: Spark gets two cases of each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what Spark need not do again."""
    left: list[pytest.Item] = []
    cases: Counter[str] = Counter()
    for item in items:
        scenario, _, parameters = item.name.partition("[")
        words = parameters.rstrip("]").split("-")
        if scenario in KERNEL_ALONE and "spark" in words:
            cases[scenario] += 1
            if cases[scenario] > 2:
                continue
        if all(scenario in scenarios for way, scenarios in SCENARIOS.items() if way in words):
            left.append(item)
    items[:] = left


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
