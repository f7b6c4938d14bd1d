"""How deep a run looks: draws that follow each other leave no case out, and none leaves a series out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests import depth
from tests.depth import drawn, share, undrawn

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[1, 4, 7])
def step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(depth, "DEPTH", request.param)
    return int(request.param)


@pytest.mark.parametrize("cases", [0, 1, 3, 4, 30])
def test_as_many_draws_as_the_depth_take_every_case_once(
    step: int, cases: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    for number in range(min(step, cases) or 1):
        monkeypatch.setenv("DRAW", str(100 + number))
        taken = drawn(range(cases), "a series")
        assert taken == sorted(taken)
        assert len(taken) >= min(1, cases)
        found += taken
    assert sorted(found) == list(range(cases))


def test_series_of_the_same_cases_are_looked_at_in_several_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "DEPTH", 4)
    monkeypatch.setenv("DRAW", "0")
    assert len({tuple(drawn(range(12), name)) for name in ("plain", "absent", "append", "shared", "again")}) > 1


def test_a_share_is_never_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "DEPTH", 4)
    assert [share(number) for number in (1, 3, 8, 25)] == [1, 1, 2, 6]
    monkeypatch.setattr(depth, "DEPTH", 1)
    assert share(25) == 25


def item(nodeid: str, *series: str) -> pytest.Item:
    marker = pytest.mark.series(*series).mark if "[" in nodeid else None
    return cast(pytest.Item, SimpleNamespace(nodeid=nodeid, get_closest_marker=lambda _: marker))


def test_items_of_a_series_are_drawn_however_they_are_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "DEPTH", 3)
    monkeypatch.setenv("DRAW", "5")
    cases = [item(f"t.py::kill[{at}]") for at in range(6)]
    shared = [item(f"{name}.py::scenario[spark]", "on Spark") for name in "abc"]
    alone = [item(f"t.py::other[{at}]") for at in range(2)]
    items = [*cases, item("t.py::plain"), *shared, *alone]
    left_out = {one.nodeid for one in undrawn(items)}
    assert left_out == {one.nodeid for one in undrawn(items[::-1])}
    kept = [one.nodeid for one in items if one.nodeid not in left_out]
    assert "t.py::plain" in kept
    of_each = [sum(one.nodeid in kept for one in series) for series in (cases, shared, alone)]
    assert of_each == [2, 1, 1]


def test_a_plain_run_and_ci_look_at_everything() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "export DEPTH ?= $(if $(filter 1 true,$(CI)),1,6)" in makefile
