"""What `doctor` says about expectations that do not fit what came: they never hold, or nobody is judged by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ordertrail.rules.cadence import Day
from ordertrail.rules.expectation import DAYS, Expectation
from ordertrail.rules.learned import LEAST, WEEKS

JUDGED_DAYS = 29
"""How many days are looked at: four weeks, and today."""

_LEAST_DAYS = 5
_LEAST_WEEKS = 3
_KEPT = 0.5


def cadence_notes(
    vendor: str, expectation: Expectation, days: Sequence[Day], *, files: int, says: bool
) -> Iterator[str]:
    """Say what does not fit, one line each.

    Args:
        vendor: The vendor's name.
        expectation: What is expected of it.
        days: Its last days.
        files: How many files ever came.
        says: Whether anything can be said of the next file.
    """
    if not files:
        if expectation.kind != "by":
            yield f"{vendor}: no file has come yet, so nothing is missed before the first one"
        return
    if not says:
        why = f"fewer than {LEAST} files came in {WEEKS} weeks" if expectation.kind == "learned" else "no day is left"
        yield f"{vendor}: a file that does not come is not missed: {why}"
        return
    over = [one for one in days if one.state in ("in_time", "late", "missing")]
    silent = [day for day in sorted(expectation.days) if _is_silent(over, day)]
    if silent and len(silent) < len(expectation.days):
        names = ", ".join(DAYS[day] for day in silent)
        yield f"{vendor}: files are expected on {names}, but none came for {_LEAST_WEEKS} weeks: see expect_days"
    judged = [one for one in over if one.day.weekday() not in silent] or over
    kept = sum(one.state == "in_time" for one in judged)
    if len(judged) >= _LEAST_DAYS and kept < _KEPT * len(judged):
        yield (
            f"{vendor}: files are expected {expectation.words()}, and came in time on {kept} of the last "
            f"{len(judged)} days on which they were"
        )


def _is_silent(over: Sequence[Day], weekday: int) -> bool:
    """Whether no file came on several days of the week in a row, up to the last one."""
    of_day = [one for one in over if one.day.weekday() == weekday]
    return len(of_day) >= _LEAST_WEEKS and not any(one.files for one in of_day)
