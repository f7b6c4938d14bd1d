"""Run files of the key index: sorted, immutable, checksummed, read through a memory map in bounded windows.

A run holds one entry for every physical row of the data files that it names. The dangerous fault is a *missing* entry,
so a writer refuses a run whose entries are not exactly the rows of its files, and a reader trusts only what it has
checked. Layout, little-endian; what is known only at the end is at the end, as in Parquet:

```
preamble   64 bytes: magic, format version, bytes of an entry, zeros
upper      8 bytes an entry: upper half of the hash; entries ascend by (upper, lower)
rest       48 bytes an entry: all else, in the order of `ENTRY`
directory  2^bits + 1 offsets of 4 bytes: entries [d[p], d[p + 1]) have p as the top bits of `upper`
checksums  CRC-32 of every block of `BLOCK_ENTRIES` entries (its upper, then its rest), 4 bytes each
footer     JSON: fingerprint, salt, files, number of entries, bits, CRC-32 of directory and checksums
tail       16 bytes: length of the footer, CRC-32 of the footer, end mark
```

The file's size follows from the footer, so a lost or extra byte anywhere is noticed when the file is opened. The upper
halves are stored separately because a look-up reads a bucket for every key, but the rest only of the keys that it
finds.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

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
"""A run with entries up to this size is read completely and its checksums are compared before its first use."""
WINDOW_BYTES = 64 << 20
"""How much of a run one part of a look-up keeps resident: mapped pages count as memory of the process."""
MOST_BITS = 23
WORDS = ENTRY.itemsize // 8
"""An entry as 64-bit words: `upper`, then the rest. Plain words are gathered ten times faster than records."""

PREAMBLE = struct.pack("<8sII48x", b"OTKEYRUN", FORMAT, ENTRY.itemsize)
_TAIL = struct.Struct("<II8s")
_END = b"OTKEYEND"

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Entries = NDArray[np.void]


class Covered(Struct, frozen=True):
    """A data file all of whose physical rows are in a run.

    Attributes:
        path: As in the table's log.
        size_bytes: Of the data file.
        rows: Physical rows, those that a deletion vector marks included.
    """

    path: str
    size_bytes: int
    rows: int


class Footer(Struct, frozen=True):
    """The description of a run.

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
    def rest_at(self) -> int:
        """Where the rest of the entries begins, in bytes."""
        return len(PREAMBLE) + self.entries * 8

    @property
    def directory_at(self) -> int:
        """Where the directory begins, in bytes."""
        return len(PREAMBLE) + self.entries * ENTRY.itemsize

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
        """Parse the result of `packed` without its tail; ValueError, KeyError or TypeError when it is not a footer."""
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
    """A mapped run. Its content is trusted only as far as it was checked; see `sound`, `check` and `lookup`.

    Args:
        path: Of the run file.
        file: It, open for reading; closed by `close`.
        footer: Its footer, checked.
        checked: Whether its content is known to be intact, because this process has just written it.
    """

    def __init__(self, path: Path, file: int, footer: Footer, *, checked: bool = False) -> None:
        self.path = path
        self.footer = footer
        self.file = file
        status = os.fstat(file)
        self.modified_s = status.st_mtime
        self._stamp = status.st_size, status.st_mtime_ns
        self._small = footer.entries * ENTRY.itemsize <= SMALL_BYTES
        self._checked = checked or not self._small
        self._rows = np.array([covered.rows for covered in footer.files], np.uint64)
        self._map = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        self._upper: Hashes = np.ndarray(footer.entries, "<u8", self._map, len(PREAMBLE))
        self._rest: Hashes = np.ndarray((footer.entries, WORDS - 1), "<u8", self._map, footer.rest_at)
        self._directory = np.ndarray((1 << footer.bits) + 1, "<u4", self._map, footer.directory_at)
        self._checksums = np.ndarray(footer.blocks, "<u4", self._map, footer.checksums_at)

    @property
    def files(self) -> tuple[Covered, ...]:
        """The files that it covers."""
        return self.footer.files

    @property
    def entries(self) -> int:
        """The number of its entries."""
        return self.footer.entries

    def close(self) -> None:
        """Unmap and close."""
        if self.file < 0:
            return
        self._upper = self._rest = np.empty(0, np.uint64)
        self._directory = self._checksums = np.empty(0, np.uint32)
        self._map.close()
        os.close(self.file)
        self.file = -1

    def sound(self) -> bool:
        """Whether the file still is what was opened, and, if it is small or was touched, whether its checksums hold.

        Reading a map beyond a file's end kills the process: hence a look at the size before every use, and `held`
        around it.
        """
        status = os.fstat(self.file)
        stamp = status.st_size, status.st_mtime_ns
        if self._checked and stamp == self._stamp:
            return True
        self._checked = stamp[0] == self._stamp[0] and self.check()
        self._stamp = stamp
        return self._checked

    def check(self) -> bool:
        """Whether every byte is as it was written. Reads the whole run at about 3 GB/s, in bounded memory."""
        footer = self.footer
        if os.fstat(self.file).st_size != len(self._map):
            return False
        sums = zlib.crc32(self._directory.data), zlib.crc32(self._checksums.data)
        whole = self._map[: len(PREAMBLE)] == PREAMBLE and self._map[footer.footer_at :] == footer.packed()
        if not whole or sums != footer.sums:
            return False
        for block, checksum in enumerate(self._checksums.tolist()):
            begin, end = block * BLOCK_ENTRIES, (block + 1) * BLOCK_ENTRIES
            if zlib.crc32(self._rest[begin:end].data, zlib.crc32(self._upper[begin:end].data)) != checksum:
                return False
            self.forget(begin, end)
        return True

    def copy(self, begin: int, end: int) -> Entries:
        """Copies of the entries [begin, end)."""
        upper = self._upper[begin:end]
        words = np.empty((len(upper), WORDS), np.uint64)
        words[:, 0], words[:, 1:] = upper, self._rest[begin:end]
        self.forget(begin, end)
        return words.view(ENTRY).reshape(-1)

    def forget(self, begin: int, end: int) -> None:
        """Release the pages of the entries [begin, end): they stay in the page cache, but not in this process."""
        end = min(end, self.entries)
        self._forget_bytes(len(PREAMBLE) + begin * 8, len(PREAMBLE) + end * 8)
        width = (WORDS - 1) * 8
        self._forget_bytes(self.footer.rest_at + begin * width, self.footer.rest_at + end * width)

    def _forget_bytes(self, begin: int, end: int) -> None:
        begin = begin // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin:
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def lookup(self, upper: Hashes, lower: Hashes) -> tuple[Ints, Hashes] | None:
        """All entries of some hashes.

        Args:
            upper: uint64, ascending.
            lower: uint64, same shape.

        Returns:
            Indexes of the queries (int64) and their entries as words, shape (matches, `WORDS`); None when the run is
            damaged.
        """
        if not self.sound():
            return None
        places = self._search_small(upper) if self._small else self._search(upper)
        if places is None:
            return None
        query, position = places
        words = np.empty((len(query), WORDS), np.uint64)
        words[:, 0] = upper[query]
        # A hash that is queried twice has its positions twice, so they ascend only approximately.
        for part in _windows(np.maximum.accumulate(position), WINDOW_BYTES // ((WORDS - 1) * 8)):
            words[part, 1:] = self._rest.take(position[part], axis=0)
            self.forget(int(position[part].min()), int(position[part].max()) + 1)
        same = words[:, 1] == lower[query]
        if not same.all():
            query, words = query[same], words.compress(same, axis=0)
        return (query, words) if self._are_rows(words[:, -1]) else None

    def _are_rows(self, places: Hashes) -> bool:
        """Whether some entries are rows of the files; `places` are file and row in one word."""
        file, row = places >> np.uint64(32), places & np.uint64(2**32 - 1)
        return not len(places) or (
            int(file.max()) < len(self._rows) and bool((row < self._rows.take(file.astype(np.int64))).all())
        )

    def _search_small(self, upper: Hashes) -> tuple[Ints, Ints]:
        """Queries and the positions of their `upper`, in a run whose checksums were compared."""
        begin = self._upper.searchsorted(upper)
        hit = np.flatnonzero(begin < self.entries)
        hit = hit[self._upper.take(begin[hit]) == upper[hit]]
        begin = begin[hit]
        return _expanded(hit, begin, self._upper.searchsorted(upper[hit], "right"))

    def _search(self, upper: Hashes) -> tuple[Ints, Ints] | None:
        """Queries and the positions of their `upper`; None when a bucket is incomplete."""
        prefix = (upper >> np.uint64(64 - self.footer.bits)).astype(np.int64)
        low = self._directory.take(prefix).astype(np.int64)
        high = self._directory.take(prefix + 1).astype(np.int64)
        if bool((low > high).any()) or bool((low[1:] < low[:-1]).any()) or bool((high > self.entries).any()):
            return None
        found: list[tuple[Ints, Ints]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for part in _windows(low, WINDOW_BYTES // 8):
            if not self._buckets_are_whole(prefix[part], low[part], high[part]):
                return None
            query, position = self._within(upper[part], low[part], high[part])
            found.append((query + part.start, position))
            self.forget(int(low[part.start]), int(high[part.stop - 1]) + 1)
        return np.concatenate([query for query, _ in found]), np.concatenate([position for _, position in found])

    def _within(self, upper: Hashes, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Queries and the positions of their `upper` in [low, high)."""
        begin = _bisect(self._upper, upper, low, high)
        hit = np.flatnonzero(begin < high)
        hit = hit[self._upper.take(begin[hit]) == upper[hit]]
        begin, high, wanted = begin[hit], high[hit], upper[hit]
        end = begin + 1
        more = np.flatnonzero(end < high)
        more = more[self._upper.take(end[more]) == wanted[more]]
        if len(more):
            last = wanted[more] == np.uint64(2**64 - 1)  # one more would be 0
            after = _bisect(self._upper, wanted[more] + np.uint64(1), end[more], high[more])
            end[more] = np.where(last, high[more], after)
        return _expanded(hit, begin, end)

    def _buckets_are_whole(self, prefix: Ints, low: Ints, high: Ints) -> bool:
        """Whether [low, high) holds all entries of each prefix, judged by the sorted neighbours.

        The first and the last entry must have the prefix, and the ones before and after them a lower and a higher one,
        so that a zeroed page in the directory or in the entries is not taken for absent keys.
        """
        shift, wanted, end = np.uint64(64 - self.footer.bits), prefix.view(np.uint64), self.entries

        def stored(position: Ints) -> Hashes:
            found: Hashes = self._upper.take(position, mode="clip") >> shift
            return found

        empty = low == high
        return (
            bool((empty | (stored(low) == wanted)).all())
            and bool((empty | (stored(high - 1) == wanted)).all())
            and bool(((low == 0) | (stored(low - 1) < wanted)).all())
            and bool(((high == end) | (stored(high) > wanted)).all())
        )


def _expanded(query: Ints, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Each query with all its positions [begin, end), which ascend with the queries."""
    counts = end - begin
    total = int(counts.sum())
    if total == len(query):
        return query, begin
    firsts = np.cumsum(counts) - counts
    return np.repeat(query, counts), np.repeat(begin - firsts, counts) + np.arange(total)


def _windows(position: Ints, width: int) -> Iterator[slice]:
    """Slices of ascending positions, each within one window of `width` entries."""
    begin = 0
    while begin < len(position):
        end = int(np.searchsorted(position, position[begin] + width))
        yield slice(begin, end)
        begin = end


def _bisect(stored: Hashes, wanted: Hashes, low: Ints, high: Ints) -> Ints:
    """For each query the first position in [low, high) whose hash is not below it, else `high`."""
    if len(stored) == 0:
        return low
    low, high = low.copy(), high.copy()
    for _ in range(8):
        middle = (low + high) >> 1
        searching = low < high
        if not searching.any():
            return low
        below = stored.take(middle, mode="clip") < wanted
        low = np.where(searching & below, middle + 1, low)
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
    preamble = os.pread(file, len(PREAMBLE), 0)
    if preamble != PREAMBLE:
        other = preamble[:8] == PREAMBLE[:8] and len(preamble) == len(PREAMBLE)
        return Refused.FOREIGN if other else Refused.DAMAGED
    if size_bytes < len(PREAMBLE) + _TAIL.size:
        return Refused.DAMAGED
    length, checksum, end = _TAIL.unpack(os.pread(file, _TAIL.size, size_bytes - _TAIL.size))
    at = size_bytes - _TAIL.size - length
    if end != _END or at < len(PREAMBLE):
        return Refused.DAMAGED
    text = os.pread(file, length, at)
    if zlib.crc32(text) != checksum:
        return Refused.DAMAGED
    footer = Footer.unpacked(text)
    return footer if footer.footer_at == at else Refused.DAMAGED
