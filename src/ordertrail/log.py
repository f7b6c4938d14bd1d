"""Where the package logs: structlog when the program has configured it, as the command line does; else `logging`.

A library prints nothing of its own: without structlog's configuration all goes to the standard logger `ordertrail`,
which says nothing below a warning unless its user wants it to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog


class Log:
    """Events with fields, at one of four levels. Which logger takes them is looked up at every event."""

    def debug(self, event: str, **fields: object) -> None:
        """What only somebody looking for a fault wants."""
        if logger := _logger(logging.DEBUG):
            logger.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """What happened."""
        if logger := _logger(logging.INFO):
            logger.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """What somebody should look at."""
        if logger := _logger(logging.WARNING):
            logger.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """What went wrong."""
        if logger := _logger(logging.ERROR):
            logger.error(event, **fields)


_drains: list[Callable[[], None]] = []


def drain() -> None:
    """Wait a moment for lines that are still to be written: the process is about to end."""
    for one in _drains:
        one()


_waiting: list[tuple[int, Callable[[], None]]] = []


def configure_when_needed(level: str, configure: Callable[[], None], drain: Callable[[], None] | None = None) -> None:
    """Have structlog configured at the first event that somebody wants: its import takes a tenth of a second.

    Args:
        level: Events below it are nobody's until then.
        configure: Calls `structlog.configure`; it is called once, at most.
        drain: Waits a moment for lines that are still to be written; None where there are none.
    """
    _drains[:] = [] if drain is None else [drain]
    _waiting[:] = [(logging.getLevelNamesMapping()[level.upper()], configure)]


def _logger(level: int) -> structlog.typing.FilteringBoundLogger | None:
    """Who takes an event; None when nobody does."""
    if _waiting:
        lowest, configure = _waiting[0]
        if level < lowest:
            return None
        _waiting.clear()
        configure()
    elif "structlog" not in sys.modules and not logging.getLogger("ordertrail").isEnabledFor(level):
        return None
    import structlog

    if structlog.is_configured():
        configured: structlog.typing.FilteringBoundLogger = structlog.get_logger("ordertrail")
        return configured
    processors: list[structlog.typing.Processor] = [
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ]
    plain: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger("ordertrail"), processors=processors, wrapper_class=structlog.stdlib.BoundLogger
    )
    return plain
