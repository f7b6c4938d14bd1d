"""Judges whether a delivery has many more rejected rows than its vendor's files usually have."""

from __future__ import annotations

from collections.abc import Sequence

MIN_ROWS = 20
"""Fewer rejected rows than this are nobody's alarm, whatever their share."""

MIN_FILES = 10
"""Without so many earlier files nobody knows what is usual."""

LOOKED_AT = 20
"""Of so many earlier files the shares count, the last ones."""

MIN_SHARE = 0.01
TIMES_USUAL = 3.0


def unusual_share(rejected: int, parsed: int, earlier: Sequence[tuple[int, int]]) -> float | None:
    """What is usual, where a delivery is far above it; None where it is not, or nobody can say.

    It is far above when its share of rejected rows is more than 1 % and more than three times the share that nine of
    ten earlier files stay below.

    Args:
        rejected: Its rejected rows.
        parsed: Its rows.
        earlier: The same two numbers of the vendor's files before it, the last ones; files without rows do not count.
    """
    shares = sorted(bad / rows for bad, rows in earlier if rows > 0)
    if rejected < MIN_ROWS or parsed <= 0 or len(shares) < MIN_FILES:
        return None
    usual = shares[(9 * len(shares) - 1) // 10]
    return usual if rejected / parsed > max(MIN_SHARE, TIMES_USUAL * usual) else None


def rejecting_text(vendor: str, file_name: str, rejected: int, parsed: int, usual: float) -> str:
    """What is wrong, on one line.

    Args:
        vendor: Who sent the file.
        file_name: Its name.
        rejected: Its rejected rows.
        parsed: Its rows.
        usual: What `unusual_share` gave.
    """
    habit = "none" if usual == 0 else f"at most {usual:.1%}"
    return (
        f"{rejected:,} of {parsed:,} rows of {file_name} of {vendor} are rejected ({rejected / parsed:.1%}), usually "
        f"{habit}; the other rows are loaded"
    )
