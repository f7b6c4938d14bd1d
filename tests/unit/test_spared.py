"""A scenario of the contract suite drops out of a way only where it says so, and says what covers it there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.conftest import WAY_NAMES
from tests.contract.spared import problem, spared_ways

HERE = "tests/unit/test_spared.py"
ROOT = Path(__file__).parents[2]


def marks(*args: str, **kwargs: object) -> list[pytest.Mark]:
    return [pytest.mark.spared(*args, **kwargs).mark]


GOOD = marks("named", "executors", covered_by=f"{HERE}::test_a_marker_that_is_right")
BESIDE = marks("named", covered_by="::test_a_marker_that_is_right")


@pytest.mark.parametrize("found", [[], GOOD, BESIDE, marks("named", covered_by="spark")])
def test_a_marker_that_is_right(found: list[pytest.Mark]) -> None:
    assert problem(found, WAY_NAMES, Path(__file__), ROOT) is None


def test_the_ways_of_all_markers_are_spared() -> None:
    assert spared_ways([*GOOD, *marks("spark", covered_by="copies")]) == {"named", "executors", "spark"}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (marks("named", covered_by=f"{HERE}::test_that_was_renamed"), "no such test"),
        (marks("named", covered_by=f"{HERE}::marks"), "no such test"),
        (marks("named", covered_by="::test_order_and_parsing"), "no such test"),
        (marks("named", covered_by="tests/unit/test_gone.py::test_gone"), "no such test"),
        (marks("named", covered_by=HERE), "no such test"),
        (marks("name", covered_by="spark"), "no way name"),
        (marks("named"), "wants ways and covered_by"),
        (marks(covered_by="spark"), "wants ways and covered_by"),
        (marks("named", covered_by="spark", why="slow"), "wants ways and covered_by"),
        (marks("named", covered_by="named"), "which the scenario does not take"),
        ([*marks("named", covered_by="spark"), *marks("spark", covered_by="copies")], "which the scenario does not"),
    ],
)
def test_a_marker_that_is_wrong_is_told(found: list[pytest.Mark], why: str) -> None:
    said = problem(found, WAY_NAMES, Path(__file__), ROOT)
    assert said is not None
    assert why in said
