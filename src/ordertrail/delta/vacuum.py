"""Delete the files of a table that no version within the retention needs.

A file is needed when the newest version names it, or a version that was current within the retention: data files and
the vector files beside them. A file with changes is needed as long as the commit that names it is that young. A file
that no version names may be about to be committed, so it stays, too, until it is that old. Hidden files and folders
belong to others, except the folder of our own vectors, which nobody else sweeps, and that of files with changes.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from ordertrail.delta import vectors
from ordertrail.delta.actions import AddFile
from ordertrail.delta.log import DeltaLog, remove_files, storage_error
from ordertrail.delta.snapshot import Snapshot, read_changes, read_snapshot, read_tombstones
from ordertrail.delta.table import CHANGES
from ordertrail.errors import UnsupportedTableError

CHECKPOINTS_KEEP_S = 7 * 24 * 3600.0
"""A checkpoint forgets a file that was removed longer ago than this, unless the table says otherwise, in seconds."""

_KEEP_PROPERTY = "delta.deletedFileRetentionDuration"
_OURS = re.compile(r".*\.parquet|deletion_vector_[^/]*\.bin", re.DOTALL)


class Sweep(Struct, frozen=True):
    """Files to delete.

    Attributes:
        table: The table's plain name.
        files: Their paths below the table's folder.
        size_bytes: Their total size.
    """

    table: str
    files: tuple[str, ...]
    size_bytes: int


def plan_sweep(log: DeltaLog, retention_s: float, now_s: float) -> Sweep | None:
    """Which files of a table can be deleted; None when there are none.

    Args:
        log: The table's.
        retention_s: Files that were needed within this time stay, in seconds.
        now_s: Seconds since 1970.
    """
    kept = needed(log, retention_s, now_s)
    found = [(path, size) for path, size, age_s in _files(log.root, now_s) if age_s >= retention_s and path not in kept]
    if not found:
        return None
    return Sweep(log.root.name, tuple(sorted(path for path, _ in found)), sum(size for _, size in found))


def sweep(log: DeltaLog, plan: Sweep, retention_s: float, now_s: float, probe: Callable[[str], None]) -> int:
    """Delete the files of a plan that are still not needed; call it while no pass runs.

    Args:
        log: The table's.
        plan: From `plan_sweep`.
        retention_s: The retention of the plan, in seconds.
        now_s: Seconds since 1970.
        probe: Called after the first file is deleted, and after the last.

    Returns:
        How many were deleted.
    """
    # Checked again: a pass may have committed a file since, or somebody may have restored a version.
    kept = needed(log, retention_s, now_s)
    paths = (log.root / name for name in plan.files if name not in kept)
    gone = remove_files(paths, lambda: probe("maintain.vacuuming"))
    probe("maintain.vacuumed")
    return gone


def needed(log: DeltaLog, retention_s: float, now_s: float) -> set[str]:
    """Paths, below a table's folder, of the files that may still be read.

    Args:
        log: The table's.
        retention_s: Versions that were current within this time count, in seconds.
        now_s: Seconds since 1970.
    """
    snapshot = read_snapshot(log)
    since_ms = (now_s - retention_s) * 1000
    forgets = retention_s > CHECKPOINTS_KEEP_S or _KEEP_PROPERTY in snapshot.metadata.properties
    commits, checkpoints = log.entries()
    since = max(checkpoints, default=-1) + 1
    if forgets:
        young = (version for version in commits if log.written_s(version) >= now_s - retention_s)
        since = min(since, next(young, since))
    removed = [
        AddFile(tombstone.path, 0, 0, None, tombstone.deletion_vector)
        for tombstone in read_tombstones(log, since)
        if (tombstone.deleted_ms or 0) >= since_ms
    ]
    kept = {*_paths(snapshot, snapshot.files.values()), *_paths(snapshot, removed)}
    if (log.root / CHANGES).is_dir():
        kept |= set(_paths(snapshot, read_changes(log, now_s - retention_s)))
    return kept


def _paths(snapshot: Snapshot, files: Iterable[AddFile]) -> Iterator[str]:
    """Paths of data files and their vectors; we never sweep files outside the table's folder."""
    for file in files:
        with suppress(UnsupportedTableError):
            yield _below(snapshot.root, snapshot.path_of(file))
        if file.deletion_vector is not None:
            with suppress(UnsupportedTableError):
                path = vectors.vector_file(snapshot.root, json.loads(file.deletion_vector))
                if path is not None:
                    yield _below(snapshot.root, path)


def _below(root: Path, path: Path) -> str:
    return os.path.relpath(path, root)


def _files(root: Path, now_s: float) -> Iterator[tuple[str, int, float]]:
    """(path below the root, size in bytes, age in seconds) of every file that may be swept."""

    def failed(error: OSError) -> None:
        raise storage_error(error, root) from error

    for folder, folders, names in os.walk(root, onerror=failed):
        below = os.path.relpath(folder, root)
        ours = below in (vectors.FOLDER, CHANGES)
        at_root = below == "."
        hidden = (vectors.FOLDER, CHANGES) if at_root else ()
        folders[:] = [name for name in folders if name[0] not in "._" or name in hidden]
        for name in names:
            if not (ours or (name[0] not in "._" and _OURS.fullmatch(name))):
                continue
            try:
                found = (Path(folder) / name).lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield os.path.normpath(Path(below) / name), found.st_size, max(0.0, now_s - found.st_mtime)
