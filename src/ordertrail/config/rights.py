"""Who may read the tables and the archive: applies the setting `umask` while a command writes, and to moved files."""

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
    """Apply the config's `umask` to new files and folders within the block; without the setting, change nothing.

    The mask belongs to the whole process, threads of libraries included. When two threads are within such a block, such
    as a pass and maintenance of a service, the first one sets it and the last one restores it.
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
    """Remove the permissions from a file that `umask` forbids (None: no change); a moved file still has its vendor's.

    Symbolic links are not followed, and a file of another user stays as it is.
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
