"""A vendor whose files are judged by their keys, another one whose files are not, and rows that they send."""

from __future__ import annotations

from collections.abc import Iterable

from tests.feeds import Cells, cells

TOML = """
[[vendors]]
name = "acme"
files = "acme/*.csv"
max_new_share = 0.5
max_stale_share = 0.3

[[vendors]]
name = "blue"
files = "blue/*.csv"
"""
MORNING, NOON, EVENING = (f"2026-11-20 {hour:02d}:00:00" for hour in (8, 12, 18))


def rows(keys: str, numbers: Iterable[int], time: str) -> list[Cells]:
    """A row for each number; its key is the number behind `keys`."""
    return [cells(f"{keys}{number}", time) for number in numbers]
