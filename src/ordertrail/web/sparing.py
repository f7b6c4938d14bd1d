"""Keeps the memory of a process small: what start-up needed, and what readings held, goes back to the system.

All of it is advice to allocators and kernel. Where they know of none, nothing happens.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ordertrail.startup import ARENA_MAX, ARENAS, MMAP_THRESHOLD, TRIM_THRESHOLD, tell_malloc

_MAPS = Path("/proc/self/maps")
_DETAILS = Path("/proc/self/smaps")
_SIZES = Path("/proc/self/statm")
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ [r-][w-][x-][ps] ")

# For malloc. Thresholds that are given stay as they are: else each large buffer that is freed raises them, and later
# ones land between small objects that live on, where nobody can give them back.
_LARGE_BYTES = 1 << 17

# Lines of `_MAPS`. What a library's file is mapped to stays as it is for as long as the library is loaded.
_known: set[str] = set()
_never_written: set[str] = set()

# Python's own. With those that `__main__` sets for a short life, garbage would stay for hundreds of pages, and each
# template that was rendered is garbage that holds what it showed.
_COLLECT_EVERY = (700, 10, 10)


def be_sparing() -> None:
    """Let allocators and Python hold little; before Arrow is imported, and before there are threads."""
    # Arrow's own pools would hold 45 MB more than they need. `pyarrow.set_memory_pool` is not enough: Arrow's Parquet
    # takes what it unpacks a page into from the pool that the environment names.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    tell_malloc({TRIM_THRESHOLD: _LARGE_BYTES, MMAP_THRESHOLD: _LARGE_BYTES, ARENA_MAX: ARENAS})
    gc.collect()
    gc.freeze()  # what is there now stays, and no collection needs to look at it
    gc.set_threshold(*_COLLECT_EVERY)


def resident_bytes() -> int:
    """The memory of this process that is resident, as `ps` shows it; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):  # not Linux
        return int(_SIZES.read_bytes().split()[1]) * mmap.PAGESIZE
    return 0


def give_back_code() -> None:
    """Take code and constants of libraries that nobody needs now off the memory of this process.

    The libraries run 40 MB of code once, when they are loaded, and read 25 MB of their tables of symbols. All of it
    counts as this process' memory from then on. The kernel maps again, from its page cache, what still is needed.
    """
    with suppress(OSError, AttributeError, ValueError):  # not Linux
        libc = ctypes.CDLL(None)
        for mapping in _unwritten(_MAPS.read_text(encoding="utf-8", errors="replace").splitlines()):
            begin, end = (int(address, 16) for address in mapping.split(maxsplit=1)[0].split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _unwritten(mappings: Sequence[str]) -> list[str]:
    """Those of this process' mappings that hold nothing but what their file holds: nothing is lost with them."""
    of_files = [one for one in mappings if one.split(maxsplit=5)[4] != "0"]
    constants = [one for one in of_files if _rights(one) == "r--p"]
    if not _known.issuperset(constants):
        _look_for_written()
    # Nobody can have written into code. Into what looks like constants the loader has, where it put addresses in.
    return [one for one in of_files if _rights(one) == "r-xp"] + [one for one in constants if one in _never_written]


def _look_for_written() -> None:
    """Learn into which mappings nobody has written; once for each library, because that takes 10 ms."""
    mapping = ""
    for line in _DETAILS.read_text(encoding="utf-8", errors="replace").splitlines():
        if _MAPPING.match(line):
            mapping = line
            _known.add(mapping)
            _never_written.discard(mapping)
        elif line.split() == ["Anonymous:", "0", "kB"]:
            _never_written.add(mapping)


def _rights(mapping: str) -> str:
    return mapping.split(maxsplit=2)[1]
