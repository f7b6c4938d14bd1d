"""Keeps what a process has read from files that never change, as long as they are the files that they were."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

Seen: TypeAlias = "Mapping[str, tuple[int, int, int, int] | None]"
"""Files, each as it is now: device, inode, bytes and nanoseconds of its last change. None where there is none."""

T = TypeVar("T")


class Replays(Generic[T]):
    """The newest state of each log that a process has replayed, so that it replays no entry twice.

    A state is kept with the files that it was replayed from: the newest checkpoint, and the entries after it. It is
    good as long as a replay from the beginning would read those very files, and perhaps later entries. So damage, a
    restore and another table in the same folder are noticed as by a process that has just begun; and a new checkpoint
    is read once, before anybody depends on it. Safe to use by several threads.

    Args:
        most: So many states are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[T, Seen]] = {}

    def kept(self, root: Path, files: Seen) -> T | None:
        """The state kept of a table; None when there is none, or when some of its files are not as they were.

        Args:
            root: The table's folder.
            files: That a replay would read.
        """
        with self._lock:
            state, of = self._kept.get(root, (None, {}))
        return state if of.items() <= files.items() else None

    def keep(self, root: Path, state: T, files: Seen) -> None:
        """Keep a state instead of the one before of its table.

        Args:
            root: The table's folder.
            state: The newest; it must never change.
            files: It was read from these alone, and they were like this before they were read.
        """
        with self._lock:
            self._kept.pop(root, None)
            if None in files.values():
                return
            self._kept[root] = (state, files)
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]


def seen(paths: Iterable[str]) -> Seen:
    """How some files are now.

    Args:
        paths: Of them.
    """
    return {path: _status(path) for path in paths}


def _status(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path takes three times as long to make
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
