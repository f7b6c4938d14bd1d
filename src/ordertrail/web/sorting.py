"""Keeps the search cache up while pages are shown, in a process of its own that nobody has to wait for."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from typing import cast

from ordertrail.config import Config
from ordertrail.errors import OrdertrailError
from ordertrail.log import Log
from ordertrail.look.follow import Moment
from ordertrail.look.search_cache import refresh
from ordertrail.web.apart import end_with_parent

BEHIND_ROWS = 200_000
"""So many rows may be without sorted terms; a search reads them in a few milliseconds."""

SLOW_ROWS = 3_000_000
"""With more than these, searching takes noticeably longer, and the page says why."""

AGAIN_S = 30.0
"""Least time between two attempts, in seconds."""

_log = Log()
_lock = threading.Lock()
_running: SpawnProcess | None = None
_next_s = 0.0


def keep_sorted(moment: Moment) -> bool:
    """See to it that terms get sorted when too many are not.

    Args:
        moment: The pipeline.

    Returns:
        Whether searching takes longer now, because so many terms are not sorted yet.
    """
    global _running, _next_s
    rows = cast(int, moment.kept("rows behind", moment.finder.rows_behind))
    if rows <= BEHIND_ROWS:
        return False
    with _lock:
        if _running is not None and not _running.is_alive():
            _running.join()
            _running = None
            rows = moment.finder.rows_behind()
        if rows > BEHIND_ROWS and _running is None and time.monotonic() >= _next_s:
            _next_s = time.monotonic() + AGAIN_S
            _running = multiprocessing.get_context("spawn").Process(target=_sort, args=(moment.config,), daemon=True)
            _running.start()
    return rows > SLOW_ROWS


def _sort(config: Config) -> None:
    end_with_parent()
    os.nice(15)
    with suppress(KeyboardInterrupt):
        try:
            refresh(config)
        except OrdertrailError as error:
            _log.warning("search_cache", code=error.code, error=str(error))
