"""What a process switches at its start: the garbage collector, pandas, what malloc gives back; what loads in a thread.

Python's own collector would run hundreds of times during the imports, which leave 200,000 objects and no garbage. Arrow
imports pandas, where it is installed, to ask whether a plain list is a data frame; that takes 0.3 s. Its Parquet module
imports the file systems of all clouds.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Thread

SHORT_LIFE = 300_000
"""Net new objects before the garbage collector looks at the youngest, in a process that ends soon: a small pass has
fewer. Four collections after 50,000 each would take 10 ms."""

LONG_LIFE = 50_000
"""The same in a process that goes on, whose garbage would add up; Python's own are 700."""

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Options of glibc's `mallopt`; the thresholds are in bytes."""

ARENAS = 2
"""So many heaps all threads share; malloc's own are eight a core."""

_LARGEST_KEPT_BYTES = 32 << 20
_MOST_KEPT_BYTES = 64 << 20

_CLOUDS = frozenset(f"pyarrow._{name}" for name in ("azurefs", "gcsfs", "hdfs", "s3fs"))

_ahead: Thread | None = None


def collect_rarely() -> None:
    """Have the garbage collector leave a process alone that ends soon."""
    gc.set_threshold(SHORT_LIFE, 20, 20)


def stay() -> None:
    """Begin a long life after `collect_rarely`: what is there now stays, and no collection needs to look at it."""
    gc.freeze()
    gc.set_threshold(LONG_LIFE, 20, 20)


def ends_soon() -> bool:
    """Whether this process is one of a short life: then nothing needs to be given back that the system takes anyway."""
    return gc.get_threshold()[0] == SHORT_LIFE


def ahead(load: Callable[[], None]) -> None:
    """Load something in a thread of its own from now on; returns at once.

    Args:
        load: Raises nothing: nobody would hear of it.
    """
    global _ahead
    # No daemon: an interpreter that ends waits for it, instead of taking itself from under a library that begins.
    _ahead = Thread(target=load, name="ordertrail-ahead")
    _ahead.start()


def wait_for_ahead() -> None:
    """Wait until what loads `ahead` is there, if anything does."""
    if _ahead is not None:
        _ahead.join()


def share_arenas() -> None:
    """Let all threads use what any of them has freed; before there are threads. It costs nothing that is noticed.

    Each pass of a service has threads of its own, and each thread takes the next heap: all of them grow to what the
    largest need of any thread was.
    """
    tell_malloc({ARENA_MAX: ARENAS})


def keep_freed() -> None:
    """Have malloc keep what is freed for what comes next, in a process that reads files and ends.

    A file is read in buffers of a megabyte. Malloc would give them back one by one, and the kernel would clear the
    pages of each new one: a quarter of all pages that it hands out in a first load.
    """
    tell_malloc({MMAP_THRESHOLD: _LARGEST_KEPT_BYTES, TRIM_THRESHOLD: _MOST_KEPT_BYTES})


def tell_malloc(options: Mapping[int, int]) -> None:
    """Set options of glibc's malloc; where there is another one, nothing happens.

    Args:
        options: Values of `TRIM_THRESHOLD`, `MMAP_THRESHOLD` and `ARENA_MAX`.
    """
    import ctypes  # not for `ordertrail --help`

    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        for option, value in options.items():
            libc.mallopt(option, value)


class _Refusing:
    """A finder of modules, without importing its base in `importlib.abc`, which takes 10 ms."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002 - Python's own names
        if fullname == "pandas" or fullname in _CLOUDS:
            raise ModuleNotFoundError(f"{fullname} is kept out of this process", name=fullname)


def keep_pandas_out() -> None:
    """Block the import of pandas, and of Arrow's file systems in clouds, as if they were not installed."""
    sys.meta_path.insert(0, _Refusing())


def let_pandas_in() -> None:
    """Allow all of it to be imported again, for code that needs pandas. Idempotent."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Refusing)]
