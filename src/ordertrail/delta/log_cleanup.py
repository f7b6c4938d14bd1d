"""Verified checkpoints, and the clean-up of log entries that are no longer needed.

The entries below a checkpoint are deleted when they are older than the retention and the checkpoint says exactly what
they say: it is read back and compared. All later entries stay, so every version within the retention can still be read.
Source of the rules: PROTOCOL.md of delta-io/delta, "Metadata Cleanup".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from ordertrail.delta.actions import AddFile
from ordertrail.delta.checkpoint import sync_checkpoint
from ordertrail.delta.log import DeltaLog, remove_files, storage_error
from ordertrail.delta.snapshot import Snapshot, read_snapshot
from ordertrail.errors import TableError

TEMPORARY_AGE_S = 3600.0
"""A temporary file of a writer that died is deleted after this long, in seconds."""

_VERSIONED = re.compile(
    r"\.?(\d{20})\.(?:json|crc|checkpoint(?:\.\d{10}\.\d{10}|\.[0-9a-f-]{36})?\.(?:parquet|json))(?:\.crc)?"
)
_COMPACTED = re.compile(r"\d{20}\.(\d{20})\.compacted\.json")
_TEMPORARY = re.compile(r"\.\d{20}\.json\.[0-9a-f]{32}\.tmp")


class CleanUp(Struct, frozen=True):
    """Log entries to delete.

    Attributes:
        table: The table's plain name.
        below: Version of the checkpoint that replaces them: only entries below it are deleted.
        names: Their names in the log's folder.
    """

    table: str
    below: int
    names: tuple[str, ...]


def plan_clean_up(log: DeltaLog, keep_from: int, retention_s: float, now_s: float) -> CleanUp | None:
    """Which entries of a log can be deleted; None when there are none.

    Args:
        log: The table's.
        keep_from: This version and all later ones must stay readable.
        retention_s: Younger entries stay, in seconds.
        now_s: Seconds since 1970.
    """
    ages = _ages(log, now_s)
    commits, checkpoints = log.entries()
    young = (version for version in commits if ages.get(f"{version:020d}.json", 0.0) < retention_s)
    keep = min([keep_from, next(young, max(commits, default=0)), *_hinted(log)])
    below = max((version for version in checkpoints if version <= keep), default=0)
    names = [name for name in ages if _version(name) < below and ages[name] >= retention_s]
    names += [name for name, age_s in ages.items() if _TEMPORARY.fullmatch(name) and age_s >= TEMPORARY_AGE_S]
    return CleanUp(log.root.name, below, tuple(sorted(names))) if names else None


def clean_up(log: DeltaLog, plan: CleanUp, probe: Callable[[str], None]) -> int:
    """Delete log entries, the oldest first; call it while no pass runs.

    Args:
        log: The table's.
        plan: From `plan_clean_up`.
        probe: Called after the first entry is deleted, and after the last.

    Returns:
        How many were deleted.

    Raises:
        TableError: The checkpoint does not match the entries, or that cannot be determined; nothing was deleted.
    """
    if any(not _TEMPORARY.fullmatch(name) for name in plan.names) and not _left_over(log, plan.below):
        prove(log, plan.below)
        _sync(log, plan.below)
    gone = remove_files((log.folder / name for name in plan.names), lambda: probe("maintain.cleaning"))
    probe("maintain.cleaned")
    return gone


def checkpoint(log: DeltaLog) -> str | None:
    """Write a checkpoint of a table's newest version, and verify it.

    Args:
        log: The table's.

    Returns:
        None, or the reason why it could not be written.

    Raises:
        TableError: It does not match the log.
    """
    # importing delta-rs is slow
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    commits, checkpoints = log.entries()
    version = max(commits, default=0)
    if version not in checkpoints:
        try:
            DeltaTable(log.root, version=version).create_checkpoint()
        except (DeltaError, OSError) as error:
            return f"it could not be written: {str(error).partition(chr(10))[0]}"
    prove(log, version)
    _sync(log, version)
    return None


def prove(log: DeltaLog, version: int) -> None:
    """Read a checkpoint back and compare it with the state that the entries before it yield.

    Raises:
        TableError: They differ, or the entries before it are no longer complete.
    """
    if version not in log.entries()[1]:
        raise TableError(f"{log.root.name} has no whole checkpoint of version {version}", hint="maintain it again")
    said = read_snapshot(log, version)
    if said.passed_over or _contents(said) != _contents(read_snapshot(_Below(log.root, version), version)):
        raise TableError(
            f"the checkpoint of version {version} of {log.root.name} does not say what the log says",
            hint=f"delete {log.folder / f'{version:020d}.checkpoint.parquet'}, and _last_checkpoint beside it: the log "
            "is whole without them",
        )


def _sync(log: DeltaLog, version: int) -> None:
    try:
        sync_checkpoint(log, version)
    except OSError as error:
        raise storage_error(error, log.folder) from error


def _left_over(log: DeltaLog, below: int) -> bool:
    """Whether the entries below a version are unreadable left-overs of a clean-up that was cut short.

    The first version is gone and no checkpoint replaces it, so nobody can read any version from them.
    """
    commits, checkpoints = log.entries()
    return min(commits, default=0) > 0 and min(checkpoints, default=below) >= below


class _Below(DeltaLog):
    """A log that hides the checkpoints from a version on."""

    def __init__(self, root: Path, version: int) -> None:
        super().__init__(root)
        self._version = version

    def entries(self) -> tuple[list[int], dict[int, list[Path]]]:
        commits, checkpoints = super().entries()
        return commits, {at: parts for at, parts in checkpoints.items() if at < self._version}


def _contents(snapshot: Snapshot) -> tuple[object, ...]:
    """The parts of a snapshot that must agree. JSON texts may differ in blanks and order."""
    files = {path: _file(file) for path, file in snapshot.files.items()}
    return files, dict(snapshot.txns), snapshot.metadata, snapshot.protocol


def _file(file: AddFile) -> tuple[object, ...]:
    def parsed(text: str | None) -> object:
        return None if text is None else json.loads(text)

    return file.size_bytes, parsed(file.stats), parsed(file.deletion_vector)


def _hinted(log: DeltaLog) -> list[int]:
    """The checkpoint that `_last_checkpoint` tells readers to begin with."""
    with suppress(OSError, ValueError):
        hint = json.loads((log.folder / "_last_checkpoint").read_bytes())
        if isinstance(hint, Mapping) and isinstance(version := hint.get("version"), int):
            return [version]
    return []


def _ages(log: DeltaLog, now_s: float) -> dict[str, float]:
    """The age of everything in the log's folder, in seconds, by name."""
    found: dict[str, float] = {}
    try:
        for entry in os.scandir(log.folder):
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    found[entry.name] = now_s - entry.stat(follow_symlinks=False).st_mtime
    except OSError as error:
        raise storage_error(error, log.folder) from error
    return found


def _version(name: str) -> float:
    """The version an entry belongs to; infinity for anything else."""
    match = _VERSIONED.fullmatch(name) or _COMPACTED.fullmatch(name)
    return int(match[1]) if match else float("inf")
