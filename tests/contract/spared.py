"""Which ways a scenario need not take, as it says itself.

Every scenario takes every way. One that costs too much, or makes no sense, on some of them says so where it stands,
and which test covers it there::

    @pytest.mark.spared("named", covered_by="tests/spark/test_names.py::test_the_whole_pipeline_by_name")

`covered_by` begins with `::` for a test of the same module. It may also be a way that the scenario takes: what it is
about is then the same code on both. What a marker names must be there, or nothing is collected.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import pytest

NAME = "spared"
"""Of the marker."""


AGREE = "tests/spark/test_engines_agree.py::test_the_engines_take_turns_on_one_warehouse"

ON_DRIVER = "tests/spark/test_engines_agree.py::test_small_batches_on_the_driver"

BROUGHT = "tests/contract/test_added_columns.py::test_a_column_that_a_file_brings"

RULES = "tests/spark/test_rules.py::test_all_traps_on_tables_in_folders"

RULES_BY_NAME = "tests/spark/test_rules.py::test_all_traps_on_tables_that_only_spark_reaches"

BY_NAME = "tests/spark/test_names.py::test_the_whole_pipeline_by_name"

POISON = "tests/spark/test_poison.py::test_a_file_on_which_executors_fail_is_held_and_all_others_load"

CONSTRAINTS = "tests/spark/test_constraints.py::test_rows_that_the_target_refuses_are_rejects_and_hold_nothing_up"

NOTEBOOKS = "tests/spark/test_notebooks.py::test_the_job_leaves_what_run_leaves"

LOADED_APART = "tests/spark/test_crash.py::test_passes_in_the_executors_that_end_one_after_the_other"


def spared_ways(marks: Sequence[pytest.Mark]) -> frozenset[str]:
    """The ways that a scenario does not take."""
    return frozenset(str(way) for mark in marks for way in mark.args)


def problem(marks: Sequence[pytest.Mark], ways: Collection[str], module: Path, root: Path) -> str | None:
    """What is wrong with a scenario's markers; None when nothing is.

    Args:
        marks: All of one scenario.
        ways: That there are.
        module: Where the scenario stands.
        root: The folder that paths of tests begin in.
    """
    spared = spared_ways(marks)
    if unknown := sorted(spared - set(ways)):
        return f"there is no way {', '.join(unknown)}"
    for mark in marks:
        cover = mark.kwargs.get("covered_by")
        if not mark.args or not isinstance(cover, str) or mark.kwargs.keys() != {"covered_by"}:
            return f"{NAME} wants ways and covered_by"
        if cover in ways:
            if cover in spared:
                return f"covered_by is the way {cover}, which the scenario does not take"
            continue
        path, _, name = cover.partition("::")
        if not name.startswith("test_") or name not in _functions(root / path if path else module):
            return f"covered_by is {cover}, and there is no such test"
    return None


@cache
def _functions(path: Path) -> frozenset[str]:
    """The functions of a module, those of classes aside; none when there is no such file."""
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
