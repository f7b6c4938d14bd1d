"""How many rows a vendor's file has as a rule: a file with another number may be cut off, or hold something else.

What earlier files teach are robust bounds of the logarithm of their rows: Tukey's outer fences (Exploratory Data
Analysis, 1977), a bit wider, so that of files that scatter by 5 % fewer than one good one in 1,000 is outside. They are
never closer to the median than `_LEAST_BELOW` and `_LEAST_ABOVE`, for files that are nearly all alike, nor to the
second smallest and the second largest, for vendors whose files are smaller on one day of the week.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

from msgspec import Struct

RECENT = 20
"""How many of a vendor's last loaded files teach."""

LEAST = 10
"""With fewer there is no verdict."""

_FENCE = 3.5
_LEAST_BELOW = 0.85
_LEAST_ABOVE = 2.0
_BELOW_SECOND = 0.85
_ABOVE_SECOND = 1.2


class Volume(Struct, frozen=True):
    """What is expected of the number of rows of a vendor's files.

    Attributes:
        least: Fewest rows.
        most: Most rows.
        learn: Whether earlier files tell both.
    """

    least: int = 0
    most: int = 0
    learn: bool = False


class RowBounds(Struct, frozen=True):
    """Between which numbers of rows a file is as expected, both inclusive.

    Attributes:
        least: Fewest rows.
        most: Most rows.
        whence: What says so, in words that follow the bounds.
    """

    least: int
    most: int
    whence: str

    def outside(self, rows: int) -> str | None:
        """Why a number of rows is not as expected; None when it is."""
        if self.least <= rows <= self.most:
            return None
        few = "fewer" if rows < self.least else "more"
        many = "1 row" if rows == 1 else f"{rows:,} rows"
        return f"it has {many}, {few} than the {self.least:,} to {self.most:,} {self.whence}"


def bounds_of(volume: Volume, recent: Sequence[int]) -> RowBounds | None:
    """The bounds for a vendor's next file.

    Args:
        volume: What the config says.
        recent: Rows of the vendor's last loaded files, at most `RECENT`, without the file to judge.

    Returns:
        None when earlier files should tell, and are too few.
    """
    if not volume.learn:
        return RowBounds(volume.least, volume.most, "that expect_rows allows")
    if len(recent) < LEAST:
        return None
    logs = sorted(log(max(rows, 1)) for rows in recent)
    low, middle, high = (_quantile(logs, share) for share in (0.25, 0.5, 0.75))
    width = _FENCE * (high - low)
    least = min(exp(low - width), exp(middle) * _LEAST_BELOW, exp(logs[1]) * _BELOW_SECOND)
    most = max(exp(high + width), exp(middle) * _LEAST_ABOVE, exp(logs[-2]) * _ABOVE_SECOND)
    return RowBounds(round(least), round(most), f"that the last {len(recent)} files teach (expect_rows)")


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, between two of them in proportion."""
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
