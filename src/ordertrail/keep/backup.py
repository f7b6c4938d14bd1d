"""`ordertrail backup`: the five tables at one moment, with markers and config, in a folder that is whole or not there.

Data files, deletion vectors and log entries are never written to again once they are part of a table, so on the same
file system they are linked: no time and no space, and a later pass cannot harm the backup. Everything else is copied:
checkpoints and their pointer, markers, the config, and archived files, whose senders may still have them open.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot, read_changes, read_snapshot
from ordertrail.delta.vectors import read_vector, vector_file
from ordertrail.durable import fsync_folder
from ordertrail.engines.ledger import app_id_in
from ordertrail.engines.local.consumers import FOLDER as CONSUMERS
from ordertrail.engines.local.consumers import consumers_path
from ordertrail.engines.local.incidents import incident_snapshot
from ordertrail.engines.local.whole import INCIDENTS_ROLE, cure_of_files, progress_of, read_whole
from ordertrail.errors import TableError, UsageError
from ordertrail.keep.backed_up import (
    ARCHIVE,
    CONFIG,
    MARKERS,
    TABLES,
    Contents,
    Held,
    Transfer,
    disk_errors,
    files_below,
    fsync_tree,
    hash_of,
    require_apart,
    require_folders,
    write_manifest,
)
from ordertrail.lock import maintenance_lock, pipeline_lock
from ordertrail.markers import MARKER, require_tables
from ordertrail.model import Probe, no_probe
from ordertrail.scratch import scratch_folder, sweep_left

WAIT_S = 60.0
"""How long a backup or a restore waits for a running pass, in seconds."""

_ENTRY = re.compile(r"\d{20}\.json")
_VERSIONED = re.compile(r"(\d{20})\.")
_LAST_CHECKPOINT = "_last_checkpoint"


class BackupReport(Struct, frozen=True):
    """What was backed up.

    Attributes:
        pipeline: The pipeline's name.
        folder: The backup.
        batch: The last batch with the done mark; 0 for none.
        files: Files in it.
        linked: Of these, linked; the others are copies.
        size_bytes: Their size together.
        with_archive: Whether the archived files are in it.
        notes: What a person should know, one line each.
        seconds: How long it took.
    """

    pipeline: str
    folder: Path
    batch: int
    files: int
    linked: int
    size_bytes: int
    with_archive: bool
    notes: tuple[str, ...]
    seconds: float


def backup(
    config: Config,
    folder: Path,
    *,
    config_file: Path | None = None,
    with_archive: bool = False,
    progress: Callable[[str], None] = no_probe,
    probe: Probe = no_probe,
) -> BackupReport:
    """Back up the tables of a pipeline, at a moment at which no pass runs.

    The folder appears under its name once it is complete, checked and durable; killed before, it does not.

    Args:
        config: Of the pipeline.
        folder: Must not exist; its parent must.
        config_file: To be kept with it.
        with_archive: Whether to copy the archived files too.
        progress: Called with a description of each step.
        probe: Called after every effect with its name; for fault tests.

    Raises:
        UsageError: The folder is there, or in one of the pipeline's; or the tables are found by name.
        PassRunningError: A pass is still running, or maintenance is.
        TableError: A table is damaged: nothing was backed up.
        StorageError: The disk is full or fails.
    """
    began = time.perf_counter()
    require_folders(config, "backup")
    folder = folder.absolute()
    _require_free(config, folder)
    require_tables(config)
    sweep_left(folder.parent, "backup")
    with disk_errors(folder), scratch_folder(folder.parent, "backup") as work:
        transfer = Transfer()
        with maintenance_lock(config), pipeline_lock(config, wait_s=WAIT_S):
            progress("taking the tables and what is beside them")
            tables = read_whole(config)
            if (incidents := incident_snapshot(config)) is not None:
                tables[INCIDENTS_ROLE] = incidents
            for role, snapshot in tables.items():
                _take(transfer, role, snapshot, work / TABLES / role)
            _take_beside(transfer, config, config_file, work)
            if with_archive:
                for path in files_below(config.archive):
                    transfer.copy(config.archive / path, work / ARCHIVE / path)
            probe("backup.taken")
        progress("hashing")
        contents = _contents(config, tables, work, with_archive=with_archive)
        probe("backup.hashed")
        _complete(tables, work, contents)
        probe("backup.whole")
        _require_free(config, folder)
        work.rename(folder)
        fsync_folder(folder.parent)
        probe("backup.there")
    return BackupReport(
        pipeline=config.name,
        folder=folder,
        batch=contents.batch,
        files=len(contents.files),
        linked=transfer.linked,
        size_bytes=sum(held.size_bytes for held in contents.files.values()),
        with_archive=with_archive,
        notes=_notes(tables, contents.app_id),
        seconds=round(time.perf_counter() - began, 4),
    )


def _require_free(config: Config, folder: Path) -> None:
    if os.path.lexists(folder):
        raise UsageError(
            f"{folder} is there already", hint="give the name of a new folder; a backup overwrites nothing"
        )
    if not folder.parent.is_dir():
        raise UsageError(f"there is no folder {folder.parent}", hint="make it, or check that its disk is mounted")
    require_apart(config, folder)


def _take(transfer: Transfer, role: str, snapshot: Snapshot, target: Path) -> None:
    """Put a table's log, and the files of its newest version, into the backup.

    Raises:
        TableError: A file is gone or has another size.
    """
    root = snapshot.root
    for name, is_entry in _log_files(snapshot):
        put = transfer.link if is_entry else transfer.copy
        put(root / "_delta_log" / name, target / "_delta_log" / name)
    for path, size_bytes in _data_files(snapshot):
        there = path.stat().st_size if path.is_file() else None
        if there is None or size_bytes not in (None, there):
            raise TableError(
                f"{root.name} lacks its file {path.name}, or it is damaged: nothing was backed up",
                hint=cure_of_files(role),
                path=path,
            )
        transfer.link(path, target / path.relative_to(root))


def _log_files(snapshot: Snapshot) -> Iterator[tuple[str, bool]]:
    """The files of a log up to the snapshot's version, below its folder, and whether each is an entry."""
    folder = snapshot.root / "_delta_log"
    for name in files_below(folder):
        versioned = _VERSIONED.match(name)
        if versioned and int(versioned[1]) > snapshot.version:
            continue  # somebody else has committed since
        if name == _LAST_CHECKPOINT and _points_beyond(folder / name, snapshot.version):
            continue
        yield name, _ENTRY.fullmatch(name) is not None


def _points_beyond(path: Path, version: int) -> bool:
    try:
        return int(json.loads(path.read_bytes())["version"]) > version
    except (ValueError, LookupError, TypeError):
        return True  # damaged; readers do without it


def _data_files(snapshot: Snapshot) -> Iterator[tuple[Path, int | None]]:
    """The files that a table of this snapshot needs, each once, with the size that the log says, if it does.

    Besides data files and vectors these are the files of changes that commits name, as far as they are still there.
    """
    vectors: dict[Path, None] = {}
    for file in snapshot.files.values():
        yield snapshot.path_of(file), file.size_bytes
        if file.deletion_vector and (path := vector_file(snapshot.root, json.loads(file.deletion_vector))):
            vectors[path] = None
    yield from ((path, None) for path in vectors)
    if snapshot.feeds_changes:
        named = {snapshot.path_of(file): file for file in read_changes(DeltaLog(snapshot.root), 0.0)}
        live = {snapshot.path_of(file) for file in snapshot.files.values()}
        yield from ((path, file.size_bytes) for path, file in named.items() if path not in live and path.is_file())


def _take_beside(transfer: Transfer, config: Config, config_file: Path | None, work: Path) -> None:
    """Put markers, consumers and config into the backup."""
    for name in ("archive", "source"):
        marker = getattr(config, name) / MARKER
        if marker.is_file():
            transfer.copy(marker, work / MARKERS / name)
    places = consumers_path(config)
    for path in sorted(places.glob("[!.]*.json")):
        transfer.copy(path, work / CONSUMERS / path.name)
    if config_file is not None and config_file.is_file():
        transfer.copy(config_file, work / CONFIG)


def _contents(config: Config, tables: Mapping[str, Snapshot], work: Path, *, with_archive: bool) -> Contents:
    deliveries = tables["deliveries"]
    app_id = app_id_in(deliveries.metadata.properties, str(deliveries.root))
    return Contents(
        pipeline=config.name,
        app_id=app_id,
        batch=deliveries.last_txn(app_id),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        with_archive=with_archive,
        files={path: Held((work / path).stat().st_size, hash_of(work / path)) for path in files_below(work)},
    )


def _complete(tables: Mapping[str, Snapshot], work: Path, contents: Contents) -> None:
    """Check what was taken, write the manifest, and make all of it durable."""
    for role, snapshot in tables.items():
        _check(role, snapshot, work / TABLES / role)
    write_manifest(work, contents)
    fsync_tree(work)


def _check(role: str, snapshot: Snapshot, root: Path) -> None:
    """Read a table of the backup as a reader would: its log, the sizes of its files, its vectors.

    Raises:
        TableError: It is not the table that was taken.
    """
    found = read_snapshot(DeltaLog(root))
    if (found.version, found.files) != (snapshot.version, snapshot.files):
        raise TableError(f"the {role} changed while it was backed up", hint="run ordertrail backup again")
    for path, size_bytes in _data_files(found):
        if not path.is_file() or size_bytes not in (None, path.stat().st_size):
            raise TableError(f"the {role} in the backup lacks {path.name}", hint="check its disk, then run it again")
    for file in found.files.values():
        if file.deletion_vector:
            read_vector(root, json.loads(file.deletion_vector))


def _notes(tables: Mapping[str, Snapshot], app_id: str) -> tuple[str, ...]:
    stands = progress_of(tables, app_id)
    if not stands.unfinished:
        return ()
    return (f"batch {stands.staged} is staged and not finished; a pass after a restore finishes it",)
