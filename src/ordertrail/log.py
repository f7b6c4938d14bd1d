"""Where the package logs: to structlog when the program has configured it, as the command line does; else to `logging`.

A library prints nothing by itself: unless structlog is configured, all events go to the standard logger `ordertrail`,
which emits only warnings and errors unless the application asks for more.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog


class Log:
    """Logs events with fields at one of four levels. The logger that takes an event is looked up for each event."""

    def debug(self, event: str, **fields: object) -> None:
        """Log what only somebody who looks for a fault needs."""
        if logger := _logger(logging.DEBUG):
            logger.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what happened."""
        if logger := _logger(logging.INFO):
            logger.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what somebody should look at."""
        if logger := _logger(logging.WARNING):
            logger.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what went wrong."""
        if logger := _logger(logging.ERROR):
            logger.error(event, **fields)


_drains: list[Callable[[], None]] = []


def drain() -> None:
    """Wait a moment for lines that are not yet written; called before the process ends."""
    for one in _drains:
        one()


def before_end(one: Callable[[], None]) -> None:
    """Do something more in `drain`; it must not take long, and not raise."""
    _drains.append(one)


_waiting: list[tuple[int, Callable[[], None]]] = []


def configure_when_needed(level: str, configure: Callable[[], None], drain: Callable[[], None] | None = None) -> None:
    """Configure structlog only when the first event is logged: its import takes a tenth of a second.

    Args:
        level: Events below this level are dropped until then.
        configure: Calls `structlog.configure`; called at most once.
        drain: Waits a moment for lines that are not yet written; None when there is nothing to wait for.
    """
    _drains[:] = [] if drain is None else [drain]
    _waiting[:] = [(logging.getLevelNamesMapping()[level.upper()], configure)]


def _logger(level: int) -> structlog.typing.FilteringBoundLogger | None:
    """The logger that takes an event of a level; None when no logger does."""
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
