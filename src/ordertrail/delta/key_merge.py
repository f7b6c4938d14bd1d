"""Merging runs of the key index, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ordertrail.delta.key_runs import ENTRY, Entries, Ints, Run, RunWriter

STEP_ENTRIES = 1 << 20
"""Entries that a merge holds at a time (56 MiB, and as much again for the sorted copy)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A run to merge.

    Attributes:
        run: It; its checksums have been compared, or a merge would give damage new ones.
        files: int64, for each of its files the index in the new run, -1 to leave the file out.
    """

    run: Run
    files: Ints


def sorted_entries(entries: Entries, *, stable: bool = False) -> Entries:
    """A copy, ascending by (upper, lower).

    Args:
        entries: Of dtype `ENTRY`.
        stable: They are a few sorted parts one after the other: merge these instead of sorting anew.
    """
    order = np.argsort(entries["upper"], kind="stable" if stable else None)
    upper, lower = entries["upper"][order], entries["lower"][order]
    same = np.flatnonzero(upper[1:] == upper[:-1])
    if bool((lower[same + 1] < lower[same]).any()):
        order = np.lexsort((entries["lower"], entries["upper"]))
    return entries[order]


def merge(sources: Sequence[Source], writer: RunWriter) -> None:
    """Append the entries of all sources to a writer, in order.

    Each step takes the next part of every run, and writes all entries up to the lowest end of a part: what comes
    later in any run is not below it. The run with the lowest end is used up by its part, so each step gets on.
    """
    total = sum(source.run.entries for source in sources)
    parts = [max(1, STEP_ENTRIES * source.run.entries // max(total, 1)) for source in sources]
    begins = [0] * len(sources)
    while True:
        heads = [s.run.slice(b, b + p) for s, b, p in zip(sources, begins, parts, strict=True)]
        open_ends = [
            (int(head["upper"][-1]), int(head["lower"][-1]))
            for source, head, begin in zip(sources, heads, begins, strict=True)
            if begin + len(head) < source.run.entries
        ]
        taken: list[Entries] = [np.empty(0, ENTRY)]
        for index, (source, head) in enumerate(zip(sources, heads, strict=True)):
            count = _not_above(head, *min(open_ends)) if open_ends else len(head)
            taken.append(_kept(head[:count], source.files))
            source.run.forget(begins[index], begins[index] + count)
            begins[index] += count
        writer.append(sorted_entries(np.concatenate(taken), stable=True))
        if not open_ends:
            return


def _kept(entries: Entries, files: Ints) -> Entries:
    """Copies of the entries of files that stay, with the file's new index."""
    file = files[entries["file"]]
    kept: Entries = entries[file >= 0]
    kept["file"] = file[file >= 0]
    return kept


def _not_above(entries: Entries, upper: int, lower: int) -> int:
    """How many of some sorted entries are not above (upper, lower)."""
    begin = int(np.searchsorted(entries["upper"], np.uint64(upper), "left"))
    end = int(np.searchsorted(entries["upper"], np.uint64(upper), "right"))
    return begin + int(np.searchsorted(entries["lower"][begin:end], np.uint64(lower), "right"))
