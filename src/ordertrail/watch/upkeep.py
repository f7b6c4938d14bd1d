"""Maintenance by the service: in a separate thread, one at a time, and never in the way of a pass.

The service asks after every pass. The thread decides from the logs alone whether anything is due; the work needs the
pipeline's lock only for moments, for which a pass waits. A kill, or the end of the service, may come at any instant:
interrupted maintenance begins anew.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ordertrail.config import Config
from ordertrail.delta.debt import commits_behind, reasons
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.engines.choice import placed
from ordertrail.errors import OrdertrailError, PassRunningError
from ordertrail.log import Log

PAUSE_S = 10.0
"""Shortest time between two checks of the debt, in seconds."""

PAUSE_FACTOR = 5.0
"""... and at least this many times the duration of the last check and its work: bounds the share of maintenance."""

SWEEP_EVERY_S = 6 * 3600.0
"""How often files that are no longer needed are swept, with or without other debt, in seconds."""

NICENESS = 10
"""The niceness of the thread, so that passes come first, on systems where threads have their own."""

_log = Log()


class Upkeep:
    """Maintains the tables when it is asked and something is due.

    Args:
        config: The pipeline's config.
        run: Runs one maintenance; None means `ordertrail.keep.maintain.maintain`.
        due: Returns why maintenance is due, one line each; None reads the logs.
        tell: Called after each run with why it failed; with None when it succeeded.
        clock: Monotonic, in seconds.
        start: Starts work in another thread.
    """

    def __init__(
        self,
        config: Config,
        *,
        run: Callable[[], object] | None = None,
        due: Callable[[], tuple[str, ...]] | None = None,
        tell: Callable[[str | None], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = lambda work: threading.Thread(
            target=work, name="ordertrail-maintain", daemon=True
        ).start(),
    ) -> None:
        self._run = run or (lambda: _maintain(config))
        self._due = due or (lambda: due_reasons(config))
        self._tell = tell
        self._clock = clock
        self._start = start
        self._next_s = clock()
        self._sweep_s = clock() + PAUSE_S
        self._running = False
        self._trouble: str | None = None

    @property
    def running(self) -> bool:
        """Whether the thread is working."""
        return self._running

    def consider(self) -> None:
        """Begin if no maintenance is running and the last one is long enough ago; returns at once."""
        if self._running or self._clock() < self._next_s:
            return
        self._running = True
        self._start(self._work)

    def _work(self) -> None:
        began_s = self._clock()
        try:
            self._maintain(began_s)
        except PassRunningError as error:
            _log.debug("maintenance waits", reason=error.message)
        except Exception as error:  # noqa: BLE001 - the service goes on loading files even if maintenance fails
            self._failed(error)
        finally:
            took_s = self._clock() - began_s
            self._next_s = began_s + took_s + max(PAUSE_S, PAUSE_FACTOR * took_s)
            self._running = False

    def _maintain(self, now_s: float) -> None:
        why = self._due()
        if not why and now_s < self._sweep_s:
            return
        _log.debug("maintaining", why="; ".join(why) or "it is time to sweep")
        self._run()
        self._sweep_s = now_s + SWEEP_EVERY_S
        if self._trouble is not None:
            _log.info("maintenance succeeds again")
        self._trouble = None
        self._tell(None)

    def _failed(self, error: Exception) -> None:
        message = str(error) if isinstance(error, OrdertrailError) else f"{type(error).__name__}: {error}"
        if message != self._trouble:
            _log.warning("maintenance failed; passes go on", reason=message)
        _log.debug("traceback", exc_info=error)
        self._trouble = message
        self._tell(message)


def due_reasons(config: Config) -> tuple[str, ...]:
    """Why maintenance is due now, according to the logs; empty before the first pass."""
    config = placed(config)
    if not _maintainable(config):
        return ()
    names = config.tables
    found: list[str] = []
    for name in (names.target, names.history, names.rejects, names.deliveries):
        log = DeltaLog(config.table_path(name))
        if log.exists():
            found += reasons(read_snapshot(log), config.maintenance, commits_behind(log))
    return tuple(found)


def _maintainable(config: Config) -> bool:
    """Whether there are tables in folders: the catalog maintains any others."""
    return config.in_folders and DeltaLog(config.table_path(config.tables.deliveries)).exists()


def _maintain(config: Config) -> None:
    config = placed(config)
    if not _maintainable(config):
        return
    # importing the engine takes time; a pass has done it before
    from ordertrail.keep.maintain import describe, maintain

    _step_back()
    report = maintain(config)
    for warning in report.warnings:
        _log.warning(warning)
    done = [describe(one.step) for one in report.steps if one.done]
    _log.info("maintained", steps=len(done), seconds=round(report.seconds, 2))
    for text in done:
        _log.debug("maintained", step=text)


def _step_back() -> None:
    """Lower this thread's priority below that of passes; threads that DuckDB starts from it inherit that."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
