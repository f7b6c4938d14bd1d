"""What slows the readers of a table down, many small files and deleted rows, and what to do about it.

Everything is computed from a snapshot; no data file is opened. Nothing here imports DuckDB or Arrow: `ordertrail
status` uses it, and must answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ordertrail.config import Maintenance
from ordertrail.delta.actions import AddFile
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot

SMALL_PART = 4
"""A data file is small when its live rows take less than the target size divided by this."""

NOTICEABLE_ROWS = 10_000
"""Fewer deleted rows than this in the small files of a table have no measurable cost for its readers."""

CHECKPOINT_BEHIND = 25
"""After this many commits since the last checkpoint one is overdue: passes write one every 20."""


class Debt(Struct, frozen=True):
    """The debt of a table: what slows its readers down.

    Attributes:
        files: Live data files.
        small_files: How many of these are small.
        rows: Physical rows, including those that vectors mark; only of files whose statistics say so.
        deleted_rows: Rows that vectors mark.
    """

    files: int
    small_files: int
    rows: int
    deleted_rows: int

    @property
    def deleted_share(self) -> float:
        """Share of the physical rows that are deleted, 0 to 1."""
        return self.deleted_rows / self.rows if self.rows else 0.0


class Compaction(Struct, frozen=True):
    """Data files to rewrite as one.

    Attributes:
        table: The table's plain name.
        files: Their paths in the log, in the order in which their rows are written.
        size_bytes: Their total size.
        rows: Number of their live rows.
        deleted_rows: Number of their rows that vectors mark: these are dropped.
        reason: Why, in a few words.
    """

    table: str
    files: tuple[str, ...]
    size_bytes: int
    rows: int
    deleted_rows: int
    reason: str


class _Sized(Struct, frozen=True):
    file: AddFile
    rows: int
    deleted: int

    @property
    def share(self) -> float:
        return self.deleted / self.rows if self.rows else 0.0

    @property
    def live_bytes(self) -> int:
        return int(self.file.size_bytes * (1 - min(self.share, 1.0)))


def debt_of(snapshot: Snapshot, limits: Maintenance) -> Debt:
    """The debt of a table.

    Args:
        snapshot: The table.
        limits: They define which files are small.
    """
    sized = _sized(snapshot)
    small = sum(1 for one in sized if one.live_bytes < limits.file_size_bytes // SMALL_PART)
    return Debt(len(sized), small, sum(one.rows for one in sized), sum(one.deleted for one in sized))


def compactions(snapshot: Snapshot, limits: Maintenance) -> tuple[Compaction, ...]:
    """Which data files are worth rewriting.

    Small files, once there are more than `max_small_files`: in order of size, up to the last one that is no larger than
    all before it together. So a small file goes into one at least twice its size, and a row is rewritten O(log n)
    times. Files with a deleted share above `max_deleted_share`: each large one; small ones only when the share of the
    whole table is above it too and they have `NOTICEABLE_ROWS` deleted rows: small files cost readers little.

    Args:
        snapshot: The table.
        limits: When the debt is too high.
    """
    sized = _sized(snapshot)
    limit_bytes = limits.file_size_bytes // SMALL_PART
    small = sorted((one for one in sized if one.live_bytes < limit_bytes), key=lambda one: one.live_bytes)
    merged = _doubling(small) if len(small) > limits.max_small_files else []
    rewritten = {one.file.path for one in merged}
    over = [one for one in sized if one.share > limits.max_deleted_share and one.file.path not in rewritten]
    found = [_compaction(snapshot, [one]) for one in over if one.live_bytes >= limit_bytes]
    thin: list[_Sized] = []
    if debt_of(snapshot, limits).deleted_share > limits.max_deleted_share:
        thin = [one for one in over if one.live_bytes < limit_bytes]
    if sum(one.deleted for one in thin) < NOTICEABLE_ROWS:
        thin = []
    groups = _groups([*merged, *thin], limits.file_size_bytes)
    found += [_compaction(snapshot, group) for group in groups if len(group) > 1 or group[0] in thin]
    return tuple(found)


def commits_behind(log: DeltaLog) -> int:
    """How many commits a reader must replay on top of the last checkpoint."""
    commits, checkpoints = log.entries()
    newest = max(commits, default=0)
    return newest - max(checkpoints, default=-1)


def reasons(snapshot: Snapshot, limits: Maintenance, behind: int) -> tuple[str, ...]:
    """Why a table needs maintenance now, one line each; empty when its debt is within the limits.

    Args:
        snapshot: The table.
        limits: When the debt is too high.
        behind: From `commits_behind`.
    """
    name = snapshot.root.name
    found = [f"{name}: {one.reason}" for one in compactions(snapshot, limits)]
    if behind >= CHECKPOINT_BEHIND:
        found.append(f"{name}: {behind} commits since the last checkpoint")
    return tuple(dict.fromkeys(found))


def deleted_count(file: AddFile) -> int:
    """How many rows of a file its vector marks."""
    return int(json.loads(file.deletion_vector)["cardinality"]) if file.deletion_vector is not None else 0


def _sized(snapshot: Snapshot) -> list[_Sized]:
    return [_Sized(file, file.rows or 0, deleted_count(file)) for file in snapshot.files.values()]


def _doubling(ascending: Sequence[_Sized]) -> list[_Sized]:
    """The files up to the last one that is no larger than all before it together, in order of size."""
    taken, before = 0, 0
    for place, one in enumerate(ascending):
        if place and one.live_bytes <= before:
            taken = place + 1
        before += one.live_bytes
    return list(ascending[:taken])


def _groups(files: Iterable[_Sized], size_bytes: int) -> list[list[_Sized]]:
    """Group files up to the target size of one file."""
    groups: list[list[_Sized]] = []
    room = -1
    for one in files:
        if one.live_bytes > room:
            groups.append([])
            room = size_bytes
        groups[-1].append(one)
        room -= one.live_bytes
    return groups


def _compaction(snapshot: Snapshot, group: Sequence[_Sized]) -> Compaction:
    wanted = {one.file.path for one in group}
    rows, deleted = sum(one.rows for one in group), sum(one.deleted for one in group)
    why = [f"{len(group)} small files"] if len(group) > 1 else []
    why += [f"{deleted / rows:.0%} of the rows are deleted"] if deleted else []
    return Compaction(
        table=snapshot.root.name,
        # In the order of the snapshot: about the order in which the rows came.
        files=tuple(path for path in snapshot.files if path in wanted),
        size_bytes=sum(one.file.size_bytes for one in group),
        rows=max(0, rows - deleted),
        deleted_rows=deleted,
        reason=", ".join(why),
    )
