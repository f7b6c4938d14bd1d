"""Where the package logs: structlog when the program has configured it, as the command line does; else `logging`.

A library prints nothing of its own: without structlog's configuration all goes to the standard logger `ordertrail`,
which says nothing below a warning unless its user wants it to.
"""

from __future__ import annotations

import logging

import structlog


class Log:
    """Events with fields, at one of four levels. Which logger takes them is looked up at every event."""

    def debug(self, event: str, **fields: object) -> None:
        """What only somebody looking for a fault wants."""
        _logger().debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """What happened."""
        _logger().info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """What somebody should look at."""
        _logger().warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """What went wrong."""
        _logger().error(event, **fields)


def _logger() -> structlog.typing.FilteringBoundLogger:
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
