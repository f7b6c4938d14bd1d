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
        _tell(config, None, report, whole_pass=whole_pass)
        return code

    try:
        yield told
    except Exception as error:
        _tell(config, error, None, whole_pass=whole_pass)
        raise


def _tell(config: Config, error: Exception | None, report: RunReport | None, *, whole_pass: bool) -> None:
    asked = config.alerts or config.ping is not None
    kept = config.by_name or config.table_path(config.incidents).exists()
    if not (error or report is None or report.needs_person or asked or kept):
        return  # nothing to tell and nobody to tell it: most passes need not import what does
    known = report is not None and whole_pass and _nothing_new(config, report)
    if known and config.ping is None:
        return
    from ordertrail.alerts.after import after_pass

    for problem in after_pass(config, error, report, whole_pass=whole_pass, known=known):
        note(f"Note: {problem}")


def _nothing_new(config: Config, report: RunReport) -> bool:
    from ordertrail.look.last_look import nothing_new

    return nothing_new(config, report)
