"""Who may read the tables and the archive: the setting `umask` while a command writes, and for files that are moved."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ordertrail.config.values import Config

_counting = threading.Lock()
_inside: list[int] = []
_before = 0


@contextmanager
def umask_of(config: Config) -> Iterator[None]:
    """Within: new files and folders get no more rights than the config's `umask` leaves. Without the setting no change.

    The mask is the process's, threads of libraries included. Where two threads are within at a time, such as a pass and
    maintenance of a service, the first sets it and the last puts it back.
    """
    global _before
    if config.umask is None:
        yield
        return
    with _counting:
        if not _inside:
            _before = os.umask(config.umask)
        _inside.append(config.umask)
    try:
        yield
    finally:
        with _counting:
            _inside.pop()
            if not _inside:
                os.umask(_before)


def restrict(path: Path, umask: int | None) -> None:
    """Take the rights off a file that `umask` forbids, None for none: one that was moved has its vendor's.

    A link is not followed, and a file that is another user's stays as it is.
    """
    if umask is None:
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode) and mode & umask:
                os.fchmod(descriptor, stat.S_IMODE(mode) & ~umask)
        finally:
            os.close(descriptor)
