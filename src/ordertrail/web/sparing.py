"""Keeps the memory of a process small: what start-up needed, and what readings held, goes back to the system.

All of it is advice to allocators and kernel. Where they know of none, nothing happens.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_MAPS = Path("/proc/self/maps")

# `mallopt` of glibc. Thresholds that are given stay as they are: else each large buffer that is freed raises them, and
# later ones land between small objects that live on, where nobody can give them back.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 1 << 17
_ARENAS = 2


def be_sparing() -> None:
    """Let allocators hold little; before anything large is read, and before there are threads."""
    import pyarrow as pa

    # Arrow's own pool would hold 40 MB more than it needs.
    pa.set_memory_pool(pa.system_memory_pool())
    _tell_malloc({_TRIM_THRESHOLD: _LARGE_BYTES, _MMAP_THRESHOLD: _LARGE_BYTES, _ARENA_MAX: _ARENAS})


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
