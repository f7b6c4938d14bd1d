"""Writing and merging runs of the key index, in bounded memory."""

from __future__ import annotations

import contextlib
import os
import uuid
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ordertrail.durable import fsync_folder
from ordertrail.keyindex.runs import (
    BLOCK_ENTRIES,
    ENTRY,
    MOST_BITS,
    PREAMBLE,
    SUFFIX,
    TEMPORARY,
    WORDS,
    Covered,
    Entries,
    Footer,
    Hashes,
    Ints,
    Run,
)

BUCKET_ENTRIES = 12
"""How many entries one slot of the directory should cover."""
STEP_ENTRIES = 1 << 20
"""Entries that a merge holds at a time (56 MiB, and as much again for the sorted copy)."""


class RunWriter:
    """Writes one run, in a `with` statement, in constant memory.

    On normal exit the run is durable and visible; on an error nothing remains.

    Args:
        folder: Of the index.
        fingerprint: See `Footer`.
        salt: See `Footer`.
        files: What the run will cover.
        done: Called with the path when the run is visible.

    Attributes:
        repeated: How many of the entries so far have the hash of the one before.
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
        self._counts = np.zeros((1 << self._bits) + 1, "<u4")
        self._rows = np.array([file.rows for file in files], np.int64)
        self._seen = np.zeros((2, len(files)), np.int64)  # rows of each file, sum of their numbers
        self._block: Hashes = np.empty((min(BLOCK_ENTRIES, self._total), WORDS), np.uint64)
        self._filled = 0  # within the block
        self._written = 0  # in earlier blocks
        self._checksums: list[int] = []
        self._last: tuple[int, int] | None = None
        self.repeated = 0

    def __enter__(self) -> Self:
        self._out = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                if kind is None:
                    self._finish()
            finally:
                os.close(self._out)
            if kind is None:
                self._temporary.rename(self._path)
                fsync_folder(self._path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            raise
        finally:
            with contextlib.suppress(OSError):  # otherwise it is swept later
                self._temporary.unlink(missing_ok=True)
        if kind is None:
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
        if self._written + self._filled + len(entries) > self._total:
            raise ValueError("there are more entries than rows of the files")
        words = words_of(entries)
        begin = 0
        while begin < len(words):
            end = min(len(words), begin + len(self._block) - self._filled)
            self._append(words[begin:end])
            begin = end

    def _append(self, words: Hashes) -> None:
        """Add entries that fit into the block."""
        upper, lower = np.ascontiguousarray(words[:, 0]), words[:, 1]
        same = np.flatnonzero(upper[1:] == upper[:-1])
        descends = bool((upper[1:] < upper[:-1]).any()) or bool((lower[same + 1] < lower[same]).any())
        first = int(upper[0]), int(lower[0])
        if descends or (self._last is not None and first < self._last):
            raise ValueError("entries are not sorted")
        self.repeated += int((lower[same + 1] == lower[same]).sum()) + (first == self._last)
        self._last = int(upper[-1]), int(lower[-1])
        self._count(words[:, -1])
        prefix = (upper >> np.uint64(64 - self._bits)).astype(np.int64)
        counts = np.bincount(prefix - prefix[0])
        self._counts[prefix[0] + 1 : prefix[-1] + 2] += counts.astype(np.uint32)
        self._block[self._filled : self._filled + len(words)] = words
        self._filled += len(words)
        if self._filled == len(self._block):
            self._flush()

    def _count(self, places: Hashes) -> None:
        """Count rows of each file and add up their numbers; `places` are file and row in one word."""
        file = (places >> np.uint64(32)).astype(np.int64)
        row = (places & np.uint64(2**32 - 1)).astype(np.int64)
        if int(file.max()) >= len(self._files) or bool((row >= self._rows[file]).any()):
            raise ValueError("an entry is no row of the files")
        self._seen[0] += np.bincount(file, minlength=len(self._files))
        # Exact: the sum of a block's 32-bit numbers stays below 2^48, a double holds 2^53.
        self._seen[1] += np.bincount(file, weights=row, minlength=len(self._files)).astype(np.int64)

    def _flush(self) -> None:
        """Write the block: upper halves to one part of the file, the rest to another."""
        words = self._block[: self._filled]
        upper, rest = np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1:])
        self._checksums.append(zlib.crc32(rest.data, zlib.crc32(upper.data)))
        self._write(upper.data, len(PREAMBLE) + self._written * 8)
        self._write(rest.data, len(PREAMBLE) + self._total * 8 + self._written * 8 * (WORDS - 1))
        self._written += self._filled
        self._filled = 0

    def _finish(self) -> None:
        """Write what follows the entries and make everything durable."""
        if self._filled:
            self._flush()
        sums = self._rows * (self._rows - 1) // 2
        if not (np.array_equal(self._seen[0], self._rows) and np.array_equal(self._seen[1], sums)):
            raise ValueError("the entries are not each row of the files once")
        directory = np.cumsum(self._counts, dtype="<u4")
        checksums = np.array(self._checksums, "<u4")
        sums_of = zlib.crc32(directory.data), zlib.crc32(checksums.data)
        footer = Footer(self._fingerprint, self._salt.hex(), self._files, self._total, self._bits, sums_of)
        self._write(memoryview(PREAMBLE), 0)
        self._write(directory.data, footer.directory_at)
        self._write(memoryview(checksums.tobytes() + footer.packed()), footer.checksums_at)
        os.fsync(self._out)

    def _write(self, data: memoryview, at: int) -> None:
        data = data.cast("B")
        while data:
            count = os.pwrite(self._out, data, at)
            data, at = data[count:], at + count


def prefix_bits(entries: int) -> int:
    """The number of directory bits for which a bucket has about `BUCKET_ENTRIES` entries."""
    return min(MOST_BITS, max(0, round(np.log2(entries / BUCKET_ENTRIES)))) if entries else 0


def words_of(entries: NDArray[Any]) -> Hashes:
    """Entries as 64-bit words, shape (n, `WORDS`); a view if possible."""
    words: Hashes = np.ascontiguousarray(entries).view(np.uint64).reshape(-1, WORDS)
    return words


def sorted_entries(entries: NDArray[Any], *, parts: bool = False) -> Entries:
    """A copy, ascending by (upper, lower).

    Args:
        entries: Of dtype `ENTRY`.
        parts: Whether they consist of a few sorted parts, which are merged instead of sorted anew.
    """
    words = words_of(entries)
    order = np.argsort(np.ascontiguousarray(words[:, 0]), kind="stable" if parts else None)
    ordered = words.take(order, axis=0)
    upper, lower = ordered[:, 0], ordered[:, 1]
    same = np.flatnonzero(upper[1:] == upper[:-1])
    if bool((lower[same + 1] < lower[same]).any()):
        ordered = words.take(np.lexsort((words[:, 1], words[:, 0])), axis=0)
    return ordered.view(ENTRY).reshape(-1)


class MergedRun(Struct, frozen=True):
    """A run to merge.

    Attributes:
        run: The run; its checksums have been compared, because a merge would give damage new ones.
        files: int64, for each of its files the index in the new run, -1 to leave the file out.
    """

    run: Run
    files: Ints


def merge(sources: Sequence[MergedRun], writer: RunWriter) -> None:
    """Append the entries of all sources to a writer, in order.

    Each step takes the next part of every run and writes all entries up to the lowest end of a part: no later entry of
    any run is below it. The run with the lowest end has used up its part, so each step makes progress.
    """
    total = max(1, sum(source.run.entries for source in sources))
    parts = [max(1, STEP_ENTRIES * source.run.entries // total) for source in sources]
    begins = [0] * len(sources)
    while any(begin < source.run.entries for source, begin in zip(sources, begins, strict=True)):
        heads = [s.run.copy(b, b + part) for s, b, part in zip(sources, begins, parts, strict=True)]
        ends = [
            (int(head["upper"][-1]), int(head["lower"][-1]))
            for source, head, begin in zip(sources, heads, begins, strict=True)
            if begin + len(head) < source.run.entries
        ]
        taken: list[Entries] = []
        for index, (source, head) in enumerate(zip(sources, heads, strict=True)):
            count = _not_above(head, *min(ends)) if ends else len(head)
            taken.append(_kept(head[:count], source.files))
            begins[index] += count
        writer.append(sorted_entries(np.concatenate(taken), parts=True))


def _kept(entries: Entries, files: Ints) -> Entries:
    """The entries of files that are kept, with the new index of the file."""
    if len(entries) == 0:
        return entries
    file = files.take(entries["file"])
    if bool((file < 0).any()):
        entries = words_of(entries).compress(file >= 0, axis=0).view(ENTRY).reshape(-1)
        file = file[file >= 0]
    entries["file"] = file
    return entries


def _not_above(entries: Entries, upper: int, lower: int) -> int:
    """How many of the sorted entries are not above (upper, lower)."""
    begin = int(np.searchsorted(entries["upper"], np.uint64(upper), "left"))
    end = int(np.searchsorted(entries["upper"], np.uint64(upper), "right"))
    return begin + int(np.searchsorted(entries["lower"][begin:end], np.uint64(lower), "right"))
