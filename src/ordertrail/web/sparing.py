"""Keeps the memory of a process small: what start-up needed, and what readings held, goes back to the system.

All of it is advice to allocators and kernel. Where they know of none, nothing happens.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_MAPS = Path("/proc/self/maps")

# `mallopt` of glibc. Thresholds that are given stay as they are: else each large buffer that is freed raises them, and
# later ones land between small objects that live on, where nobody can give them back.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 1 << 17
_ARENAS = 2


# Python's own. With those that `__main__` sets for a short life, garbage would stay for hundreds of pages, and each
# template that was rendered is garbage that holds what it showed.
_COLLECT_EVERY = (700, 10, 10)


def be_sparing() -> None:
    """Let allocators and Python hold little; before Arrow is imported, and before there are threads."""
    # Arrow's own pools would hold 45 MB more than they need. `pyarrow.set_memory_pool` is not enough: Arrow's Parquet
    # takes what it unpacks a page into from the pool that the environment names.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    _tell_malloc({_TRIM_THRESHOLD: _LARGE_BYTES, _MMAP_THRESHOLD: _LARGE_BYTES, _ARENA_MAX: _ARENAS})
    gc.collect()
    gc.freeze()  # what is there now stays, and no collection needs to look at it
    gc.set_threshold(*_COLLECT_EVERY)


def share_arenas() -> None:
    """Let all threads use what any of them has freed; before there are threads. It costs nothing that is noticed."""
    _tell_malloc({_ARENA_MAX: _ARENAS})


def _tell_malloc(options: Mapping[int, int]) -> None:
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        for option, value in options.items():
            libc.mallopt(option, value)


def give_back_code() -> None:
    """Take the code that only start-up needed off the memory of this process.

    The libraries run 40 MB of code once, when they are loaded, that counts as this process' memory from then on. The
    kernel maps again, from its page cache, what still is needed.
    """
    with suppress(OSError, AttributeError, ValueError):  # not Linux
        libc = ctypes.CDLL(None)
        for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
            place, rights, _, _, inode, *_ = line.split(maxsplit=5)
            # Only code: of a file, and nobody can have written into it, so that nothing is lost.
            if rights == "r-xp" and inode != "0":
                begin, end = (int(address, 16) for address in place.split("-"))
                libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)
