"""Run files of the key index: sorted, immutable, checksummed, read through a memory map in bounded windows.

A run holds one entry for every physical row of the data files that it names. The dangerous fault is a *missing* entry,
so a writer refuses a run whose entries are not exactly the rows of its files, and a reader believes nothing it has not
checked. Layout, little-endian; what is only known at the end stands at the end, as in Parquet:

```
preamble   64 bytes: magic, format version, bytes of an entry, zeros
entries    56 bytes each, ascending by (upper, lower)
directory  2^bits + 1 offsets of 4 bytes: entries [d[p], d[p + 1]) have p as the top bits of `upper`
checksums  CRC-32 of every block of `BLOCK_ENTRIES` entries, 4 bytes each
footer     JSON: fingerprint, salt, files, number of entries, bits, CRC-32 of directory and checksums
tail       16 bytes: length of the footer, CRC-32 of the footer, end mark
```

The file's size follows from the footer, so a file that lost or gained a byte anywhere is seen when it is opened.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ordertrail.delta.log import fsync_folder

ENTRY = np.dtype(
    [
        ("upper", "<u8"),
        ("lower", "<u8"),
        ("event_us", "<i8"),
        ("content", "<i8"),
        ("inserted_us", "<i8"),
        ("revision", "<i8"),
        ("row", "<u4"),
        ("file", "<u4"),
    ]
)
"""One physical row: salted 128-bit hash of its key, what decides about its successor, and where it stands.

`event_us` and `inserted_us` are microseconds since 1970 UTC, `content` is a hash of the contract columns, `row` the
physical row number in the data file, `file` an index into the files of the run.
"""

SUFFIX = ".run"
TEMPORARY = ".tmp"
FORMAT = 1
BLOCK_ENTRIES = 1 << 16
"""Entries that one checksum covers (3.5 MiB)."""
SMALL_BYTES = 8 << 20
"""A run up to this size is read whole and its checksums compared before it is first used."""
WINDOW_ENTRIES = (128 << 20) // ENTRY.itemsize
"""Entries that a look-up may have resident at a time: mapped pages count as memory of the process."""
BUCKET_ENTRIES = 12
MOST_BITS = 23

_PREAMBLE = struct.pack("<8sII48x", b"OTKEYRUN", FORMAT, ENTRY.itemsize)
_TAIL = struct.Struct("<II8s")
_END = b"OTKEYEND"

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Entries = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Covered:
    """A data file all of whose physical rows are in a run.

    Attributes:
        path: As in the table's log.
        size_bytes: Of the data file.
        rows: Physical rows, those that a deletion vector marks included.
    """

    path: str
    size_bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What a run says about itself.

    Attributes:
        fingerprint: All that the entries depend on besides the data files.
        salt: Of the key hashes, in hexadecimal.
        files: What the run covers; `file` of an entry is an index into it.
        entries: How many there are.
        bits: Top bits of `upper` that the directory resolves.
        sums: CRC-32 of the directory, and of the checksums of the blocks.
    """

    fingerprint: str
    salt: str
    files: tuple[Covered, ...]
    entries: int
    bits: int
    sums: tuple[int, int]

    @property
    def blocks(self) -> int:
        """Number of checksums."""
        return -(-self.entries // BLOCK_ENTRIES)

    @property
    def directory_at(self) -> int:
        """Where the directory begins, in bytes."""
        return len(_PREAMBLE) + self.entries * ENTRY.itemsize

    @property
    def checksums_at(self) -> int:
        """Where the checksums begin, in bytes."""
        return self.directory_at + ((1 << self.bits) + 1) * 4

    @property
    def footer_at(self) -> int:
        """Where the footer begins, in bytes."""
        return self.checksums_at + self.blocks * 4

    def packed(self) -> bytes:
        """Footer and tail, as written."""
        files = [[file.path, file.size_bytes, file.rows] for file in self.files]
        body = {"fingerprint": self.fingerprint, "salt": self.salt, "entries": self.entries, "bits": self.bits}
        text = json.dumps({**body, "sums": self.sums, "files": files}, separators=(",", ":")).encode()
        return text + _TAIL.pack(len(text), zlib.crc32(text), _END)

    @classmethod
    def unpacked(cls, text: bytes) -> Footer:
        """Read `packed` without its tail; ValueError, KeyError or TypeError when it is none."""
        body = json.loads(text)
        directory, blocks = body["sums"]
        footer = cls(
            fingerprint=body["fingerprint"],
            salt=body["salt"],
            files=tuple(Covered(path, size_bytes, rows) for path, size_bytes, rows in body["files"]),
            entries=body["entries"],
            bits=body["bits"],
            sums=(directory, blocks),
        )
        if not 0 <= footer.bits <= MOST_BITS or footer.entries != sum(file.rows for file in footer.files):
            raise ValueError("the entries are not the rows of the files")
        return footer


class Refused(StrEnum):
    """Why a run is not used."""

    UNREADABLE = "cannot be read"
    FOREIGN = "belongs to another table, contract, salt or version"
    DAMAGED = "is damaged"


class Run:
    """A sound run, mapped. What it says is believed only as far as it was checked; see `lookup` and `check`.

    Args:
        path: Of the run file.
        file: It, open for reading; closed by `close`.
        footer: Its footer, checked.
        checked: Its content is known to be what was written, because this process has just done it.
    """

    def __init__(self, path: Path, file: int, footer: Footer, *, checked: bool = False) -> None:
        self.path = path
        self.footer = footer
        self._file = file
        status = os.fstat(file)
        self.modified_s = status.st_mtime
        self._stamp = status.st_size, status.st_mtime_ns
        self._checked = checked or status.st_size > SMALL_BYTES
        self._map = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        self._entries: Entries = np.frombuffer(self._map, ENTRY, footer.entries, len(_PREAMBLE))
        self._stored: Hashes = self._entries["upper"]
        self._directory = np.frombuffer(self._map, "<u4", (1 << footer.bits) + 1, footer.directory_at)
        self._checksums = np.frombuffer(self._map, "<u4", footer.blocks, footer.checksums_at)

    @property
    def files(self) -> tuple[Covered, ...]:
        """What it covers."""
        return self.footer.files

    @property
    def entries(self) -> int:
        """How many it has."""
        return self.footer.entries

    def close(self) -> None:
        """Unmap and close."""
        empty = np.empty(0, ENTRY)
        self._entries, self._stored, self._directory = empty, empty["upper"], np.empty(0, np.uint32)
        self._checksums = self._directory
        with contextlib.suppress(BufferError):  # somebody still holds a view: the map goes with it
            self._map.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def sound(self) -> bool:
        """Whether the file still is what was opened, and, if it is small, whether its checksums hold.

        Reading a map beyond a file's end kills the process: hence a look at the size before every use.
        """
        status = os.fstat(self._file)
        stamp = status.st_size, status.st_mtime_ns
        if stamp[0] != self._stamp[0]:
            return False
        if self._checked and stamp == self._stamp:
            return True
        self._stamp = stamp
        return self.check()

    def check(self) -> bool:
        """Whether every byte is as it was written. Reads the whole run (3 GB/s) in bounded memory."""
        if os.fstat(self._file).st_size != self._stamp[0]:
            return False
        footer = self.footer
        tail = self._map[footer.footer_at :]
        sums = zlib.crc32(self._directory.data), zlib.crc32(self._checksums.data)
        if self._map[: len(_PREAMBLE)] != _PREAMBLE or sums != footer.sums or tail != footer.packed():
            return False
        for block, checksum in enumerate(self._checksums.tolist()):
            entries = self.slice(block * BLOCK_ENTRIES, (block + 1) * BLOCK_ENTRIES)
            if zlib.crc32(entries.data) != checksum:
                return False
            self.forget(block * BLOCK_ENTRIES, (block + 1) * BLOCK_ENTRIES)
        self._checked = True
        return True

    def slice(self, begin: int, end: int) -> Entries:
        """A view of entries; no use after `close`."""
        return self._entries[begin:end]

    def forget(self, begin: int, end: int) -> None:
        """Let go the pages of some entries: they stay in the page cache, not in this process."""
        first = (len(_PREAMBLE) + begin * ENTRY.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
        last = min(len(_PREAMBLE) + end * ENTRY.itemsize, len(self._map))
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def lookup(self, upper: Hashes, lower: Hashes) -> tuple[Ints, Entries] | None:
        """All entries of some hashes.

        Each bucket that is touched is proved to be the whole bucket: its first and last entry have its prefix, the
        entries before and after it have a lower and a higher one. A zeroed page, in the directory or in the entries,
        cannot pass for an absent key.

        Args:
            upper: uint64, ascending.
            lower: uint64, same shape.

        Returns:
            Indexes of the queries (int64) and copies of their entries, or None when the run is damaged.
        """
        if not self.sound():
            return None
        prefix = upper >> np.uint64(64 - self.footer.bits)
        low = self._directory[prefix.astype(np.int64)].astype(np.int64)
        high = self._directory[prefix.astype(np.int64) + 1].astype(np.int64)
        if len(low) and not (bool((low <= high).all()) and int(high.max()) <= self.entries):
            return None
        queries: list[Ints] = [np.empty(0, np.int64)]
        found: list[Entries] = [np.empty(0, ENTRY)]
        for part in _windows(low):
            matches = self._within(upper[part], low[part], high[part])
            if matches is None:
                return None
            query, position = matches
            entries = self._entries[position]
            query += part.start
            same = entries["lower"] == lower[query]
            queries.append(query[same])
            found.append(entries[same])
            self.forget(int(low[part.start]), int(high[part.stop - 1]) + 1)
        return np.concatenate(queries), np.concatenate(found)

    def _within(self, upper: Hashes, low: Ints, high: Ints) -> tuple[Ints, Ints] | None:
        """Queries and positions at which `upper` stands, or None when a bucket is not whole."""
        if not self._buckets_are_whole(upper, low, high):
            return None
        begin = _bisect(self._stored, upper, low, high)
        hit = np.flatnonzero(begin < high)
        hit = hit[self._stored[begin[hit]] == upper[hit]]
        begin, high, wanted = begin[hit], high[hit], upper[hit]
        end = begin + 1
        more = np.flatnonzero(end < high)
        more = more[self._stored[end[more]] == wanted[more]]
        if len(more):
            last = wanted[more] == np.uint64(2**64 - 1)
            after = _bisect(self._stored, wanted[more] + np.uint64(1), end[more], high[more])
            end[more] = np.where(last, high[more], after)
        counts = end - begin
        if len(more) == 0:
            return hit, begin
        firsts = np.cumsum(counts) - counts
        return np.repeat(hit, counts), np.repeat(begin - firsts, counts) + np.arange(int(counts.sum()))

    def _buckets_are_whole(self, upper: Hashes, low: Ints, high: Ints) -> bool:
        if self.entries == 0:
            return True
        shift = np.uint64(64 - self.footer.bits)
        prefix = upper >> shift
        before, after = np.flatnonzero(low > 0), np.flatnonzero(high < self.entries)
        full = np.flatnonzero(low < high)
        return (
            bool((self._stored[low[full]] >> shift == prefix[full]).all())
            and bool((self._stored[high[full] - 1] >> shift == prefix[full]).all())
            and bool((self._stored[low[before] - 1] >> shift < prefix[before]).all())
            and bool((self._stored[high[after]] >> shift > prefix[after]).all())
        )


def _windows(low: Ints) -> Iterator[slice]:
    """Slices of queries whose buckets begin within one window of entries each; `low` ascends."""
    begin = 0
    while begin < len(low):
        end = int(np.searchsorted(low, low[begin] + WINDOW_ENTRIES))
        yield slice(begin, end)
        begin = end


def _bisect(stored: Hashes, wanted: Hashes, low: Ints, high: Ints) -> Ints:
    """For each query the first position in [low, high) whose hash is not below it, else `high`.

    Indexing with brackets, never `take` or `searchsorted`: those would copy the whole strided column first.
    """
    low, high = low.copy(), high.copy()
    for _ in range(8):
        open_ = low < high
        if not open_.any():
            return low
        middle = (low + high) >> 1
        below = open_
        below &= stored[np.minimum(middle, len(stored) - 1)] < wanted
        low = np.where(below, middle + 1, low)
        high = np.where(below, high, middle)
    rest = np.flatnonzero(low < high)  # few: a bucket this large is one key many times
    if len(rest):
        low[rest] = _bisect(stored, wanted[rest], low[rest], high[rest])
    return low


def open_run(path: Path, fingerprint: str, salt: bytes, *, checked: bool = False) -> Run | Refused:
    """Open a run and check its size, footer and end mark.

    Args:
        path: Of the run file.
        fingerprint: That it must have.
        salt: That its hashes must have been made with.
        checked: The caller has just written it.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Refused.UNREADABLE
    run: Run | Refused = Refused.DAMAGED
    try:
        footer = _read_footer(file)
        if isinstance(footer, Refused):
            run = footer
        elif (footer.fingerprint, footer.salt) != (fingerprint, salt.hex()):
            run = Refused.FOREIGN
        else:
            run = Run(path, file, footer, checked=checked)
    except OSError:
        run = Refused.UNREADABLE
    except (ValueError, KeyError, TypeError):
        run = Refused.DAMAGED
    finally:
        if isinstance(run, Refused):
            os.close(file)
    return run


def _read_footer(file: int) -> Footer | Refused:
    size_bytes = os.fstat(file).st_size
    preamble = os.pread(file, len(_PREAMBLE), 0)
    if preamble != _PREAMBLE:
        other = preamble[:8] == _PREAMBLE[:8] and len(preamble) == len(_PREAMBLE)
        return Refused.FOREIGN if other else Refused.DAMAGED
    if size_bytes < len(_PREAMBLE) + _TAIL.size:
        return Refused.DAMAGED
    length, checksum, end = _TAIL.unpack(os.pread(file, _TAIL.size, size_bytes - _TAIL.size))
    at = size_bytes - _TAIL.size - length
    if end != _END or at < len(_PREAMBLE):
        return Refused.DAMAGED
    text = os.pread(file, length, at)
    if zlib.crc32(text) != checksum:
        return Refused.DAMAGED
    footer = Footer.unpacked(text)
    return footer if footer.footer_at == at else Refused.DAMAGED


def prefix_bits(entries: int) -> int:
    """Bits of the directory with which a bucket has about `BUCKET_ENTRIES` entries."""
    return min(MOST_BITS, max(0, round(np.log2(entries / BUCKET_ENTRIES)))) if entries else 0


class RunWriter:
    """Writes one run, in a `with` statement; memory does not grow with it.

    On normal exit the run is durable and visible, on an error nothing is left.

    Args:
        folder: Of the index.
        fingerprint: See `Footer`.
        salt: See `Footer`.
        files: What the run will cover.
        done: Called with the path when the run is visible.
    """

    def __init__(
        self, folder: Path, fingerprint: str, salt: bytes, files: Sequence[Covered], done: Callable[[Path], None]
    ) -> None:
        if len({file.path for file in files}) != len(files):
            raise ValueError("a file is named twice")
        self._files = tuple(files)
        self._total = sum(file.rows for file in files)
        if self._total >= 2**32:
            raise ValueError("a run has less than 2^32 entries")
        self._fingerprint, self._salt, self._done = fingerprint, salt, done
        self._path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        self._temporary = folder / f".{self._path.name}{TEMPORARY}"
        self._bits = prefix_bits(self._total)
        self._counts = np.zeros((1 << self._bits) + 1, np.uint32)
        self._rows = np.array([file.rows for file in files], np.int64)
        self._seen = np.zeros((2, len(files)), np.int64)  # rows of each file, sum of their numbers
        self._written = 0
        self._checksums: list[int] = []
        self._last = (0, 0)

    def __enter__(self) -> Self:
        self._out = self._temporary.open("xb")
        try:
            self._out.write(_PREAMBLE)
        except OSError:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._finish()
            self._out.close()
            self._temporary.rename(self._path)
            fsync_folder(self._path.parent)
        except BaseException:
            self._discard()
            self._path.unlink(missing_ok=True)
            raise
        self._done(self._path)

    def append(self, entries: NDArray[Any]) -> None:
        """Add entries.

        Args:
            entries: Of dtype `ENTRY`, ascending by (upper, lower), not below those of earlier calls.

        Raises:
            ValueError: They are not sorted, or not rows of the files.
            OSError: The disk is full or failing.
        """
        if entries.dtype != ENTRY or entries.ndim != 1:
            raise ValueError("entries have another type")
        begin = 0
        while begin < len(entries):
            end = min(len(entries), begin + BLOCK_ENTRIES - self._written % BLOCK_ENTRIES)
            self._append(np.ascontiguousarray(entries[begin:end]))
            begin = end

    def _append(self, entries: Entries) -> None:
        """Add entries that end within one block."""
        upper, lower = np.ascontiguousarray(entries["upper"]), entries["lower"]
        first, last = (int(upper[0]), int(lower[0])), (int(upper[-1]), int(lower[-1]))
        same = np.flatnonzero(upper[1:] == upper[:-1])
        if first < self._last or bool((upper[1:] < upper[:-1]).any()) or bool((lower[same + 1] < lower[same]).any()):
            raise ValueError("entries are not sorted")
        self._last = last
        self._count(entries["file"].astype(np.int64), entries["row"].astype(np.int64))
        prefix = (upper >> np.uint64(64 - self._bits)).astype(np.int64)
        counts = np.bincount(prefix - prefix[0])
        self._counts[prefix[0] + 1 : prefix[-1] + 2] += counts.astype(np.uint32)
        if self._written % BLOCK_ENTRIES == 0:
            self._checksums.append(0)
        data = entries.data.cast("B")
        self._checksums[-1] = zlib.crc32(data, self._checksums[-1])
        self._out.write(data)
        self._written += len(entries)

    def _count(self, file: Ints, row: Ints) -> None:
        if int(file.max()) >= len(self._files) or bool((row >= self._rows[file]).any()):
            raise ValueError("an entry is no row of the files")
        self._seen[0] += np.bincount(file, minlength=len(self._files))
        # Exact: a block's sum of 32-bit numbers stays below 2^48, a double holds 2^53.
        self._seen[1] += np.bincount(file, weights=row, minlength=len(self._files)).astype(np.int64)

    def _finish(self) -> None:
        """Write what follows the entries and make all durable."""
        sums = self._rows * (self._rows - 1) // 2
        if not (np.array_equal(self._seen[0], self._rows) and np.array_equal(self._seen[1], sums)):
            raise ValueError("the entries are not each row of the files once")
        directory = np.cumsum(self._counts, dtype=np.uint32)
        checksums = np.array(self._checksums, "<u4")
        self._out.write(directory.data.cast("B"))
        self._out.write(checksums.tobytes())
        sums_of = zlib.crc32(directory.data), zlib.crc32(checksums.data)
        footer = Footer(self._fingerprint, self._salt.hex(), self._files, self._written, self._bits, sums_of)
        self._out.write(footer.packed())
        self._out.flush()
        os.fsync(self._out.fileno())

    def _discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk may fail again when the buffer is flushed
            self._out.close()
        self._temporary.unlink(missing_ok=True)
