"""Alerts at the end of a command that ran a pass: when its report is out, and the pipeline is free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ordertrail.cli.errors import note

if TYPE_CHECKING:
    from ordertrail.config import Config
    from ordertrail.model import RunReport


@contextmanager
def telling(config: Config, *, whole_pass: bool = True) -> Iterator[Callable[[RunReport, int], int]]:
    """Keep incidents and send alerts of an error of the pass within the block.

    Args:
        config: Of the pipeline.
        whole_pass: Whether the pass goes to its end, and is not only its first half.

    Yields:
        A function that does the same for a report once it was shown; it takes and returns the exit code.
    """

    def told(report: RunReport, code: int) -> int:
        _tell(config, None, needs_person=report.needs_person, whole_pass=whole_pass)
        return code

    try:
        yield told
    except Exception as error:
        _tell(config, error, needs_person=True, whole_pass=whole_pass)
        raise


def _tell(config: Config, error: Exception | None, *, needs_person: bool, whole_pass: bool) -> None:
    asked = config.alerts or config.ping is not None
    kept = config.by_name or config.table_path(config.incidents).exists()
    if not (error or needs_person or asked or kept):
        return  # nothing to tell and nobody to tell it: most passes need not import what does
    from ordertrail.alerts.after import after_pass

    for problem in after_pass(config, error, needs_person=needs_person, whole_pass=whole_pass):
        note(f"Note: {problem}")
