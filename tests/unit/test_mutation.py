"""The faults that mutation testing puts into SQL, and that it looks for them where the code is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.rules import outcomes
from tests.mutation.guards import GUARDS
from tests.mutation.sql import SQL, edits

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a < b", ["a <= b"]),
        ("a <> b", ["a = b"]),
        ("a = b AND c IS NULL", ["a <> b AND c IS NULL", "a = b OR c IS NULL", "a = b AND c IS NOT NULL"]),
        ("a NOT IN (b)", ["a IN (b)"]),
        ("min(a)", ["max(a)"]),
        (
            "(ORDER BY a, b DESC NULLS LAST)",
            [
                *("(ORDER BY a, b ASC NULLS LAST)", "(ORDER BY a, b DESC NULLS FIRST)"),
                *("(ORDER BY a)", "(ORDER BY b DESC NULLS LAST)", "(ORDER BY a)"),
            ],
        ),
        ("\n  WHEN a THEN b\n", ["\n"]),
        ("place = 1", ["place <> 1", "place = 2"]),
        ("DECIMAL(38, 0)", ["DECIMAL(39, 0)", "DECIMAL(38, 1)"]),
        ("lacks_1", []),
    ],
)
def test_one_fault_at_a_time(text: str, faults: list[str]) -> None:
    assert [edit.apply(text) for edit in edits(text)] == faults


def test_sql_is_told_from_other_text() -> None:
    assert SQL.search(outcomes.OUTCOMES)
    assert SQL.search("{left}.a > {right}.b")
    assert not SQL.search("the table is not there, but others are: copy it back, or restore it")


def test_every_guarded_module_and_its_guards_are_there() -> None:
    gone = [module for module in GUARDS if not (ROOT / "src" / "ordertrail" / module).is_file()]
    for test in {test for tests in GUARDS.values() for test in tests}:
        file, _, function = test.partition("::")
        if not (ROOT / file).is_file() or f"def {function}" not in (ROOT / file).read_text(encoding="utf-8"):
            gone.append(test)
    assert gone == []
