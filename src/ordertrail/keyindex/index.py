"""The key index: which rows of the table's data files have a key. A disposable cache, never the truth.

It is a folder of immutable runs (see `runs`) and a salt. Each run names the data files it covers and has an entry
for every physical row of them. Coverage is a set of data-file paths: an entry counts only if its file is in the
snapshot at hand and its row not in that file's vector, and a file that is not covered must be scanned. So at any
instant a run may be lost, or belong to a commit that never happened: that costs time, never a row. Damage of any kind
reduces coverage and is never an error.

Another process may add, merge and remove runs meanwhile: mapped runs stay readable.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ordertrail.keyindex.held import held
from ordertrail.keyindex.runs import (
    ENTRY,
    SUFFIX,
    TEMPORARY,
    WORDS,
    Covered,
    Hashes,
    Ints,
    Refused,
    Run,
    open_run,
)
from ordertrail.keyindex.salt import salt_of, save_salt
from ordertrail.keyindex.writer import MergedRun, RunWriter, merge, sorted_entries

__all__ = ["ENTRY", "Covered", "Found", "KeyIndex", "RunWriter"]

YOUNG_S = 600.0
"""A run or temporary file younger than this may belong to a pass that has not committed yet."""
TIER_RUNS = 8
"""How many runs of one size class are merged into one of the next class."""
TIER_FIRST_ENTRIES = 1 << 17
"""Upper bound of the first size class; each further one is larger by the factor `TIER_RUNS`."""
HOT_ENTRIES = 2_000_000
"""Most entries that a merge on the hot path may write."""
LOOKUP_THREADS = 2
"""How many runs, or parts of a large one, are searched at the same time."""
SPLIT_ENTRIES = 4_000_000
"""A run with at least this many entries is searched in parts."""
DEAD_SHARE = 0.25
"""A run with a larger share of entries of dead files is rewritten when everything is tidied."""


class Found(Struct, frozen=True):
    """Entries found, as parallel arrays with one element a match, in no order.

    Attributes:
        query: int64, index into the hashes asked for.
        file: int64, index into `files`.
        row: int64, physical row number in the file.
        event_us: int64, microseconds since 1970 UTC.
        content: int64, hash of the contract columns.
        inserted_us: int64, microseconds since 1970 UTC.
        revision: int64.
        files: Paths as in the log.
    """

    query: Ints
    file: Ints
    row: Ints
    event_us: Ints
    content: Ints
    inserted_us: Ints
    revision: Ints
    files: tuple[str, ...]


class KeyIndex:
    """An index in a folder, which is created when it is missing. Not thread-safe.

    Opening never fails: what cannot be read is not covered.

    Args:
        folder: The folder of the index.
        fingerprint: Everything that entries depend on besides the data files (table id, contract, key, version of the
            hash). Runs with another fingerprint are ignored, and `tidy` removes them.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._runs: dict[Path, Run] = {}
        self._owners: dict[str, tuple[Run, int]] | None = None
        self._salt = salt_of(folder)
        self._damaged: set[Path] = set()
        self._scan()

    @property
    def salt(self) -> bytes:
        """16 random bytes that salt the key hashes; runs are bound to them."""
        return self._salt

    @property
    def covered(self) -> Mapping[str, int]:
        """Path and size in bytes of the data files whose physical rows are all in the index.

        It may shrink during `find`, which drops damaged runs: read it after `find`, and scan every file that is not in
        it.
        """
        owners = self._owned()
        return MappingProxyType({path: run.files[index].size_bytes for path, (run, index) in owners.items()})

    def find(self, upper: Hashes, lower: Hashes, files: Collection[str] | None = None) -> Found:
        """All entries of some key hashes, each physical row once.

        The caller must read `covered` afterwards: the result is complete for the files that it then names.

        Args:
            upper: uint64, upper halves of the hashes.
            lower: uint64, lower halves, same shape.
            files: Paths of the data files that matter; all covered ones by default.
        """
        order = np.argsort(upper)
        upper, lower = upper[order], lower[order]
        while True:
            found = self._find(upper, lower, files)
            if isinstance(found, Found):
                found.query[:] = order[found.query]
                return found
            self._condemn(found)

    def writer(self, files: Sequence[Covered]) -> RunWriter:
        """A writer of one run, for use in a `with` statement.

        On normal exit the run is durable and visible to all, and its files are covered. On an error nothing remains.

        Args:
            files: The files that the run covers. Each of their rows must be appended exactly once.

        Raises:
            OSError: The disk is full or failing.
        """
        save_salt(self._folder, self._salt)
        return RunWriter(self._folder, self._fingerprint, self._salt, files, self._written)

    def write(self, files: Sequence[Covered], entries: NDArray[Any]) -> None:
        """Write one run of entries in any order.

        Args:
            files: What the run covers.
            entries: Of dtype `ENTRY`: each row of the files exactly once.

        Raises:
            ValueError: The entries are not the rows of the files.
            OSError: The disk is full or failing.
        """
        with self.writer(files) as writer:
            writer.append(sorted_entries(entries))

    def tidy(self, live: Collection[str], *, everything: bool = False) -> None:
        """Remove useless runs and merge small ones, so that a look-up has few runs to read.

        Args:
            live: Paths of the data files of the current snapshot.
            everything: Whether to do also what takes longer: large merges, and dropping entries of dead files.

        Raises:
            OSError: The disk is full or failing; the index is as good as before.
        """
        self._scan()
        self._sweep(set(live))
        while group := self._due(everything=everything):
            if not self._merge(group, set(live)):
                return
        if everything:
            for run in list(self._runs.values()):
                if self._dead_entries(run, set(live)) > DEAD_SHARE * run.entries:
                    self._merge([run], set(live))

    def check(self) -> list[str]:
        """Compare every checksum of every run.

        Returns:
            What is wrong, one line for each damaged run; such a run is no longer used.
        """
        problems = [f"{path.name} {refused.value}" for path, refused in self._scan() if refused is not Refused.FOREIGN]
        for run in list(self._runs.values()):
            if not _checked(run):
                problems.append(f"{run.path.name} {Refused.DAMAGED.value}")
                self._condemn(run)
        return problems

    def close(self) -> None:
        """Unmap all runs; the index covers nothing afterwards."""
        for run in list(self._runs.values()):
            self._drop(run)

    def _find(self, upper: Hashes, lower: Hashes, files: Collection[str] | None) -> Found | Run:
        """Like `find`, with ascending hashes; returns a run if it is damaged."""
        chosen = self._owned().keys() if files is None else set(files)
        wanted = [path for path in self._owned() if path in chosen]
        number = {path: index for index, path in enumerate(wanted)}
        parts: list[tuple[Ints, Ints, Hashes]] = []
        places = {run: self._mapped(run, number) for run in self._runs.values()}
        places = {run: mapped for run, mapped in places.items() if (mapped >= 0).any()}
        # In parallel, the longest first: numpy, and the kernel while it maps pages, let other threads run.
        jobs = [(run, part) for run in sorted(places, key=lambda run: -run.entries) for part in _parts(run, len(upper))]
        with _held(places), ThreadPoolExecutor(max_workers=LOOKUP_THREADS) as pool:
            found = list(pool.map(lambda job: job[0].lookup(upper[job[1]], lower[job[1]]), jobs))
        for (run, part), matches in zip(jobs, found, strict=True):
            if matches is None:
                return run
            query, words = matches
            query, mapped = query + part.start, places[run]
            file = mapped.take((words[:, -1] >> np.uint64(32)).astype(np.int64))
            if not (file >= 0).all():
                query, words, file = query[file >= 0], words.compress(file >= 0, axis=0), file[file >= 0]
            parts.append((query, file, words))
        return _found(parts, tuple(wanted))

    def _mapped(self, run: Run, number: Mapping[str, int]) -> Ints:
        """For each file of a run its number; -1 when it is not wanted or another run answers for it."""
        owners = self._owned()
        return np.array(
            [number.get(file.path, -1) if owners.get(file.path, (None, 0))[0] is run else -1 for file in run.files],
            np.int64,
        )

    def _owned(self) -> dict[str, tuple[Run, int]]:
        """For each path the one run that answers for it, and the file's index in that run.

        Two runs share a file after a crash between the two steps of a merge: then the larger one answers, in every
        process. If two runs disagree about the size of a file, neither is trusted for it.
        """
        if self._owners is None:
            owners: dict[str, tuple[Run, int]] = {}
            doubtful: set[str] = set()
            for run in sorted(self._runs.values(), key=lambda run: (run.entries, run.path.name), reverse=True):
                for index, file in enumerate(run.files):
                    owner, at = owners.setdefault(file.path, (run, index))
                    if owner.files[at] != file:
                        doubtful.add(file.path)
            self._owners = {path: owner for path, owner in owners.items() if path not in doubtful}
        return self._owners

    def _scan(self) -> list[tuple[Path, Refused]]:
        """Open new runs and drop those that are gone; return those that cannot be used."""
        paths = {path for path in _files(self._folder) if path.name.endswith(SUFFIX)}
        for path in self._runs.keys() - paths:
            self._drop(self._runs[path])
        refused: list[tuple[Path, Refused]] = []
        for path in sorted(paths - self._runs.keys() - self._damaged):
            run = open_run(path, self._fingerprint, self._salt)
            if isinstance(run, Refused):
                refused.append((path, run))
            else:
                self._runs[path] = run
                self._owners = None
        return refused

    def _written(self, path: Path) -> None:
        run = open_run(path, self._fingerprint, self._salt, checked=True)
        if isinstance(run, Run):
            self._runs[path] = run
            self._owners = None

    def _drop(self, run: Run) -> None:
        """Stop using a run."""
        self._runs.pop(run.path, None)
        self._owners = None
        run.close()

    def _condemn(self, run: Run) -> None:
        """Remove a damaged run, and stop using it even if it cannot be removed."""
        self._damaged.add(run.path)
        self._remove([run])

    def _remove(self, runs: Iterable[Run]) -> None:
        for run in list(runs):
            self._drop(run)
            with contextlib.suppress(OSError):  # already gone, or it stays and does no harm
                run.path.unlink()

    def _sweep(self, live: set[str]) -> None:
        """Remove runs that are damaged, foreign, dead or redundant, and left-overs of writers."""
        oldest_s = time.time() - YOUNG_S
        names = [path for path in _files(self._folder) if path.name.endswith(TEMPORARY)]
        names += [path for path in _files(self._folder) if path.name.endswith(SUFFIX) and path not in self._runs]
        for path in names:
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()
        answering = {run for run, _ in self._owned().values()}
        self._remove(run for run in self._runs.values() if run not in answering)
        self._remove(
            run
            for run in list(self._runs.values())
            if run.modified_s < oldest_s and live.isdisjoint(file.path for file in run.files)
        )

    def _due(self, *, everything: bool) -> list[Run]:
        """Runs to merge next: the lowest size class that has enough of them."""
        classes: dict[int, list[Run]] = {}
        for run in self._runs.values():
            classes.setdefault(_size_class(run.entries), []).append(run)
        for _, runs in sorted(classes.items()):
            total = sum(run.entries for run in runs)
            if len(runs) >= TIER_RUNS and (everything or total <= HOT_ENTRIES):
                return runs
        small = classes.get(0, []) + classes.get(1, [])
        return small if everything and len(small) > 1 else []

    def _merge(self, runs: list[Run], live: set[str]) -> bool:
        """Merge some runs into one and remove them; False when that was not possible.

        A crash in between leaves both, which is harmless: see `_owned`.
        """
        for run in runs:
            if not _checked(run):  # otherwise damage would get a new checksum
                self._condemn(run)
        runs = [run for run in runs if run.path in self._runs]
        oldest_s = time.time() - YOUNG_S
        kept = [
            (run, file)
            for run in runs
            for file in run.files
            if (file.path in live or run.modified_s >= oldest_s) and self._answers(run, file)
        ]
        number = {file.path: index for index, (_, file) in enumerate(kept)}
        sources = [MergedRun(run, self._mapped(run, number)) for run in runs]
        try:
            if kept:
                with self.writer([file for _, file in kept]) as writer, _held(runs):
                    merge(sources, writer)
        except ValueError:  # a run changed meanwhile
            return False
        self._remove(runs)
        return True

    def _answers(self, run: Run, file: Covered) -> bool:
        owner = self._owned().get(file.path)
        return owner is not None and owner[0] is run

    def _dead_entries(self, run: Run, live: set[str]) -> int:
        if run.modified_s >= time.time() - YOUNG_S:
            return 0
        return sum(file.rows for file in run.files if file.path not in live)


def _held(runs: Iterable[Run]) -> AbstractContextManager[None]:
    """Within: nobody can cut the files of some runs, see `held`."""
    return held([run.file for run in runs])


def _checked(run: Run) -> bool:
    """See `Run.check`."""
    with _held([run]):
        return run.check()


def _parts(run: Run, queries: int) -> list[slice]:
    """Slices of ascending queries, which fall into disjoint parts of a run."""
    count = LOOKUP_THREADS if run.entries >= SPLIT_ENTRIES else 1
    bounds = [queries * part // count for part in range(count + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds) if begin < end]


def _found(parts: Sequence[tuple[Ints, Ints, Hashes]], files: tuple[str, ...]) -> Found:
    """Matches of several runs: queries, files, and the entries as words in the order of `ENTRY`."""
    none = np.empty(0, np.int64)
    words = np.concatenate([np.empty((0, WORDS), np.uint64), *(words for _, _, words in parts)])
    event_us, content, inserted_us, revision = (words[:, word].astype(np.int64) for word in range(2, 6))
    return Found(
        query=np.concatenate([none, *(query for query, _, _ in parts)]),
        file=np.concatenate([none, *(file for _, file, _ in parts)]),
        row=(words[:, -1] & np.uint64(2**32 - 1)).astype(np.int64),
        event_us=event_us,
        content=content,
        inserted_us=inserted_us,
        revision=revision,
        files=files,
    )


def _size_class(entries: int) -> int:
    """The size class: 0 below `TIER_FIRST_ENTRIES`, then one more for each factor of `TIER_RUNS`."""
    size = 0
    while entries >= TIER_FIRST_ENTRIES * TIER_RUNS**size:
        size += 1
    return size


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
