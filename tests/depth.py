"""How deep a run looks into a series: into all of it, or into every `DEPTH`-th case.

A series is one promise in very many cases: a kill at each effect of a pass, a scenario on each way of Spark, random
feeds. Plain `pytest` and CI look at every case, `make check` and `make test-fast` at every sixth one, and each of
their runs begins at another. What a run took stands in its first lines: `DEPTH=6 DRAW=2 pytest ...` takes the same
again, and the draws from 0 to `DEPTH` - 1 together take everything.

- A test that goes through a series by itself asks `drawn` for its cases.
- A test whose cases are parameters has the marker `series`; what is not drawn is deselected. Tests whose markers have
  the same argument are one series.
- A number of random cases comes from `share`.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Sequence
from typing import TypeVar

import pytest

Case = TypeVar("Case")

MARKER = "series"

DEPTH = int(os.environ.get("DEPTH") or 1)
"""1 looks at every case."""


def draw() -> int:
    """The number of this run's draw. All workers of a run have the same, from the environment."""
    return int(os.environ.setdefault("DRAW", str(random.SystemRandom().randrange(1 << 16))))


def drawn(cases: Sequence[Case], series: object) -> list[Case]:
    """The cases of a series that this run looks at, in their order; at least one, where there is one.

    Args:
        cases: All of them, the same in every run.
        series: Whatever tells this series from others. It decides with the draw where to begin, so that series with the
            same cases, such as one kill in several flavours, are not looked at in the same places.
    """
    step = min(DEPTH, len(cases))
    return list(cases[(draw() + zlib.crc32(repr(series).encode())) % step :: step]) if cases else []


def share(number: int) -> int:
    """So many of a number of random cases, at least one."""
    return max(1, round(number / DEPTH))


def undrawn(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The items with the marker that this run does not look at.

    Args:
        items: Those that `-m` and `-k` left, in any order.
    """
    series: dict[str, list[pytest.Item]] = {}
    for item in items:
        if (marker := item.get_closest_marker(MARKER)) is not None:
            name = str(marker.args[0]) if marker.args else item.nodeid.partition("[")[0]
            series.setdefault(name, []).append(item)
    left_out: list[pytest.Item] = []
    for name, cases in series.items():
        cases.sort(key=lambda item: item.nodeid)
        taken = {item.nodeid for item in drawn(cases, name)}
        left_out += [item for item in cases if item.nodeid not in taken]
    return left_out
