"""Keeps the open items in the heartbeat up to date: in a thread of its own, so that neither a pass nor a beat waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from ordertrail.log import Log
from ordertrail.look.open_items import OpenItem

EVERY_S = 60.0
"""How often the list is made again when no pass had anything to tell: files wait, and disks fill. In seconds."""

_log = Log()


class OpenList:
    """Makes the list of open items when it is asked to and something may have changed.

    Args:
        find: Makes the list; an error is logged, and the last list stays.
        tell: Called with each new list.
        clock: Monotonic, in seconds.
        start: Starts work in another thread.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[OpenItem]],
        tell: Callable[[Sequence[OpenItem]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = lambda work: threading.Thread(
            target=work, name="ordertrail-open-items", daemon=True
        ).start(),
    ) -> None:
        self._find = find
        self._tell = tell
        self._clock = clock
        self._start = start
        self._next_s = clock()
        self._lock = threading.Lock()
        self._running = False
        self._again = False

    @property
    def running(self) -> bool:
        """Whether the thread is working."""
        return self._running

    def refresh(self, *, news: bool) -> None:
        """Make the list again if it may have changed; returns at once.

        Args:
            news: Whether a pass had anything to tell; without news the list is made every `EVERY_S`.
        """
        with self._lock:
            if self._running:
                self._again = self._again or news
                return
            if not news and self._clock() < self._next_s:
                return
            self._running = True
        self._start(self._work)

    def _work(self) -> None:
        while True:
            self._next_s = self._clock() + EVERY_S
            try:
                self._tell(self._find())
            except Exception as error:  # noqa: BLE001 - the service goes on loading files without a list
                _log.debug("the open items cannot be listed", reason=str(error))
            with self._lock:
                self._running = self._again
                self._again = False
                if not self._running:
                    return
