"""Hold files that are mapped: while they are read, nobody can cut them.

Reading a map beyond the end of its file kills the process with SIGBUS, and no exception tells of it. A look at the size
before does not help against who cuts the file a moment later. Reading by copies would, at ten times the CPU of a
look-up. So the kernel is asked for a lease (`F_SETLEASE` of fcntl(2)): whoever cuts such a file, or opens it to write,
waits until the lease is given back, here for the milliseconds of a look-up.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_SET_LEASE: int | None = getattr(fcntl, "F_SETLEASE", None)  # Linux has it
_SET_SIGNAL: int | None = getattr(fcntl, "F_SETSIG", None)


@contextmanager
def held(files: Iterable[int]) -> Iterator[None]:
    """Within: nobody else can cut some files, or write to them.

    A file stays as open to others as it was where there is no lease to be had: on a network mount, where it belongs to
    another user, or where somebody has it open for writing already. The size is then all that can be looked at.

    Args:
        files: Descriptors, open for reading only; each once, and not held already.
    """
    taken: list[int] = []
    try:
        taken.extend(file for file in files if _hold(file))
        yield
    finally:
        for file in taken:
            with contextlib.suppress(OSError):
                fcntl.fcntl(file, _SET_LEASE or 0, fcntl.F_UNLCK)


def _hold(file: int) -> bool:
    if _SET_LEASE is None or _SET_SIGNAL is None:
        return False
    try:
        # Whoever waits makes the kernel send a signal: SIGIO, which kills, unless another one is named.
        fcntl.fcntl(file, _SET_SIGNAL, signal.SIGURG)
        fcntl.fcntl(file, _SET_LEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    return True
