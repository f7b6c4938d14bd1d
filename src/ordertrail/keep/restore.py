"""`ordertrail restore`: the tables as a backup holds them, in place of those that are there or lost.

First the backup's hashes are checked, and its tables are put beside their places, whole. Then a note says that a
restore is under way: from there on no pass begins, and a restore that was killed goes on where it ended. Tables that
are there are moved aside, all five before the first restored one takes its place: no reader can mix old and new ones.
Nothing is deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import duckdb
from msgspec import Struct
from msgspec.structs import astuple

from ordertrail.config import Config
from ordertrail.config.unfinished import restore_note
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.durable import fsync_folder, put_if_absent
from ordertrail.engines.local.consumers import FOLDER as CONSUMERS
from ordertrail.engines.local.consumers import consumers_path
from ordertrail.engines.local.whole import INCIDENTS_ROLE
from ordertrail.errors import OrdertrailError, SourceError, StorageError, UsageError
from ordertrail.keep.backed_up import (
    ARCHIVE,
    TABLES,
    Contents,
    Transfer,
    check_hashes,
    disk_errors,
    files_below,
    fsync_tree,
    hash_of,
    read_manifest,
    require_apart,
    require_folders,
)
from ordertrail.keep.backup import WAIT_S
from ordertrail.lock import maintenance_lock, make_warehouse, pipeline_lock
from ordertrail.markers import is_archived_name, read_marker, write_marker
from ordertrail.model import Probe, no_probe
from ordertrail.rules.belonging import Marker, Owner, entered
from ordertrail.rules.losses import ROLES
from ordertrail.rules.tables import APP_ID, DELIVERIES
from ordertrail.sources.notes import notes_path

_LOG_ENTRY = ".json"


class Unknown(Struct, frozen=True):
    """An archived file that came after the backup: no restored delivery has it, and its rows are in no table.

    Attributes:
        archived_to: Its path below the archive folder.
        path: Its path below the source, if the tables that were moved aside say so; None when nobody knows.
    """

    archived_to: str
    path: str | None


class RestoreReport(Struct, frozen=True):
    """What was restored.

    Attributes:
        pipeline: The pipeline's name.
        folder: The backup.
        made_at: When it was made, ISO 8601.
        batch: The last batch of the restored tables; 0 for none.
        resumed: Whether a restore that was cut short was finished.
        aside: The folder with what was there before; None when nothing was.
        archived: Archived files that were put back.
        unknown: Archived files that came after the backup, and must be loaded again.
        warnings: What a person must look at, one line each.
        seconds: How long it took.
    """

    pipeline: str
    folder: Path
    made_at: str
    batch: int
    resumed: bool
    aside: Path | None
    archived: int
    unknown: tuple[Unknown, ...]
    warnings: tuple[str, ...]
    seconds: float


def restore(
    config: Config,
    folder: Path,
    *,
    force: bool = False,
    progress: Callable[[str], None] = no_probe,
    probe: Probe = no_probe,
) -> RestoreReport:
    """Put the tables of a backup in their places. Killed at any instant, it goes on when it is called again.

    Args:
        config: Of the pipeline; says where the tables go.
        folder: The backup.
        force: Move tables that are there aside; otherwise they are an error.
        progress: Called with a description of each step.
        probe: Called after every effect with its name; for fault tests.

    Raises:
        UsageError: The folder is no backup, or one of another pipeline; there are tables, without `force`; a restore
            of another backup was cut short; or the tables are found by name.
        PassRunningError: A pass is still running, or maintenance is.
        SourceError: The archive is another pipeline's.
        StorageError: The backup is damaged, or the disk is full or fails.
    """
    began = time.perf_counter()
    require_folders(config, "restore")
    folder = folder.absolute()
    require_apart(config, folder)
    contents = read_manifest(folder)
    if contents.pipeline != config.name:
        raise UsageError(
            f"{folder} is a backup of pipeline {contents.pipeline}, not of {config.name}",
            hint="give a backup of this pipeline, or set pipeline.name",
        )
    make_warehouse(config)
    with disk_errors(folder), maintenance_lock(config), pipeline_lock(config, wait_s=WAIT_S, restoring=True):
        work = _Restore(config, folder, contents, probe)
        resumed = work.resume()
        if not resumed:
            work.begin(force=force, progress=progress)
        progress("putting the tables in their places")
        work.swap()
        archived = work.bring_archive()
        work.bring_consumers()
        work.mark()
        unknown = work.unknown()
        work.end()
    return RestoreReport(
        pipeline=config.name,
        folder=folder,
        made_at=contents.made_at,
        batch=contents.batch,
        resumed=resumed,
        aside=work.aside if work.aside.is_dir() else None,
        archived=archived,
        unknown=unknown,
        warnings=tuple(work.warnings),
        seconds=round(time.perf_counter() - began, 4),
    )


class _Restore:
    """One restore, step by step; every step can be done twice.

    Args:
        config: Of the pipeline.
        folder: The backup.
        contents: Its manifest.
        probe: Called after every effect.
    """

    def __init__(self, config: Config, folder: Path, contents: Contents, probe: Probe) -> None:
        self._config = config
        self._folder = folder
        self._contents = contents
        self._probe = probe
        names = astuple(config.tables)
        self._places = {role: config.table_path(name) for role, name in zip(ROLES, names, strict=True)}
        self._incidents = config.table_path(config.incidents)
        place = config.table_path(config.tables.target).parent
        self._staged = place / f".ordertrail-restore-{config.tables.target}"
        self._note = restore_note(config)
        self.aside = _free(place / f"aside-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        self.warnings: list[str] = []

    def resume(self) -> bool:
        """Whether a restore of this backup was cut short, and is to be finished.

        Raises:
            UsageError: It was one of another backup.
            StorageError: Its note is damaged.
        """
        try:
            note = json.loads(self._note.read_bytes())
            backup, sha256, aside = str(note["backup"]), str(note["sha256"]), Path(note["aside"])
        except FileNotFoundError:
            return False
        except (ValueError, LookupError, TypeError):
            raise StorageError(
                f"the note of a restore that was cut short is damaged: {self._note}",
                hint=f"see what is in {self._staged} and beside it, then delete the note and restore with --force",
            ) from None
        if sha256 != self._contents.sha256:
            raise UsageError(
                f"a restore of another backup was cut short: {backup}",
                hint=f"run ordertrail restore {backup} first: it goes on where it ended",
            )
        self.aside = aside
        return True

    def begin(self, *, force: bool, progress: Callable[[str], None]) -> None:
        """Check the backup, put its tables beside their places, and write the note."""
        there = [path.name for path in self._places.values() if os.path.lexists(path)]
        if there and not force:
            raise UsageError(
                f"there are tables in {self._staged.parent}: {', '.join(there)}; nothing was restored",
                hint="--force moves them aside first; it deletes nothing",
            )
        self._refuse_other_archive()
        progress("checking the backup")
        check_hashes(self._folder, self._contents)
        progress("bringing the tables")
        shutil.rmtree(self._staged, ignore_errors=True)
        try:
            self._stage()
            self._probe("restore.staged")
            note = {"backup": str(self._folder), "sha256": self._contents.sha256, "aside": str(self.aside)}
            put_if_absent(self._note, json.dumps(note).encode())
        except OSError:
            if not self._note.exists():
                shutil.rmtree(self._staged, ignore_errors=True)
            raise
        self._probe("restore.noted")

    def _stage(self) -> None:
        transfer = Transfer()
        for role in (*ROLES, *([INCIDENTS_ROLE] if self._has_incidents else [])):
            source, target = self._folder / TABLES / role, self._staged / role
            target.mkdir(parents=True)
            for path in self._contents.below(f"{TABLES}/{role}"):
                in_log = path.startswith("_delta_log/") and not path.endswith(_LOG_ENTRY)
                put = transfer.copy if in_log else transfer.link
                put(source / path, target / path)
        fsync_tree(self._staged)
        fsync_folder(self._staged.parent)

    def swap(self) -> None:
        """Move aside what is there, all of it, then move the restored tables in."""
        for role, place in self._places.items():
            if (self._staged / role).exists() and os.path.lexists(place):
                self._put_aside(place)
        for role, place in self._places.items():
            if (self._staged / role).exists():
                (self._staged / role).rename(place)
                fsync_folder(place.parent)
                self._probe(f"restore.in {role}")
        self._swap_incidents()
        # What passes remember of files is about the tables that were there.
        notes = notes_path(self._config)
        if notes.exists():
            self.aside.mkdir(exist_ok=True)
            shutil.move(notes, self.aside / notes.name)
            self._probe("restore.notes")

    @property
    def _has_incidents(self) -> bool:
        return bool(self._contents.below(f"{TABLES}/{INCIDENTS_ROLE}"))

    def _swap_incidents(self) -> None:
        """Move the restored incidents in. A table of these tables that is there stays: it knows what was told since."""
        staged, place = self._staged / INCIDENTS_ROLE, self._incidents
        if os.path.lexists(place) and not self._are_ours(place):
            self._put_aside(place)
        if staged.exists() and not os.path.lexists(place):
            staged.rename(place)
            fsync_folder(place.parent)
            self._probe("restore.in incidents")

    def _are_ours(self, place: Path) -> bool:
        with suppress(OrdertrailError):
            return read_snapshot(DeltaLog(place)).metadata.properties.get(APP_ID) == self._contents.app_id
        return False

    def _put_aside(self, path: Path) -> None:
        self.aside.mkdir(exist_ok=True)
        path.rename(self.aside / path.name)
        fsync_folder(self.aside)
        fsync_folder(path.parent)
        self._probe(f"restore.aside {path.name}")

    def bring_archive(self) -> int:
        """Put archived files back that are not there; returns how many. No file is overwritten."""
        archive, brought = self._config.archive, 0
        for path in self._contents.below(ARCHIVE):
            source, target = self._folder / ARCHIVE / path, archive / path
            if os.path.lexists(target):
                held = self._contents.files[f"{ARCHIVE}/{path}"]
                if target.stat().st_size != held.size_bytes or hash_of(target) != held.sha256:
                    self.warnings.append(f"the archive has another file {path} than the backup; it was left alone")
                continue
            # `maintain` sweeps a file of this name.
            unfinished = archive / f".ordertrail.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
            try:
                Transfer().copy(source, unfinished)
                target.parent.mkdir(parents=True, exist_ok=True)
                unfinished.rename(target)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise
            fsync_folder(target.parent)
            brought += 1
            self._probe("restore.archived")
        return brought

    def bring_consumers(self) -> None:
        """Put back where consumers stood that are not there. One that is there stays: it may have read further."""
        places = consumers_path(self._config)
        for name in self._contents.below(CONSUMERS):
            if not (places / name).exists():
                places.mkdir(parents=True, exist_ok=True)
                unfinished = places / f".{name}.{uuid.uuid4().hex}.tmp"
                Transfer().copy(self._folder / CONSUMERS / name, unfinished)
                unfinished.rename(places / name)
                fsync_folder(places)
                self._probe("restore.consumer")

    # -- whose the archive is -------------------------------------------------------------------------------

    def _refuse_other_archive(self) -> None:
        marker = read_marker(self._config.archive)
        if marker is not None and marker.owners and not self._is_ours(marker):
            raise SourceError(
                f"the archive {self._config.archive} belongs to pipeline {marker.shown}; nothing was restored",
                hint="set pipeline.archive to this pipeline's archive",
            )

    def _is_ours(self, marker: Marker) -> bool:
        name = self._config.name
        named = name in marker.begins or any(one.pipeline == name for one in marker.owners)
        return named or marker.lists(self._contents.app_id)

    def mark(self) -> None:
        """See that archive and source bear the marker of the restored tables."""
        config = self._config
        folders = [config.archive]
        if config.source_marker != "off" and config.source.is_dir():
            folders.append(config.source)
        for folder in folders:
            marker = read_marker(folder)
            if marker is not None and marker.lists(self._contents.app_id):
                continue
            if marker is not None and marker.owners and not self._is_ours(marker):
                continue  # a source of others: the next pass says so
            # Tables of this name that were begun meanwhile no longer belong here.
            anew = marker is not None
            now = datetime.now(UTC).isoformat(timespec="seconds")
            owner = Owner(self._contents.app_id, config.name, now, anew=anew)
            if folder == config.archive:
                write_marker(folder, entered(marker, owner))
            else:
                with suppress(OSError):  # the source may be read only, as for a pass
                    write_marker(folder, entered(marker, owner))
            self._probe("restore.marked")

    # -- what came after the backup -------------------------------------------------------------------------

    def unknown(self) -> tuple[Unknown, ...]:
        """The archived files that no restored delivery has."""
        known = dict(_archived(self._places["deliveries"]))
        later = [
            path
            for path in files_below(self._config.archive)
            if path not in known and is_archived_name(path.rpartition("/")[2])
        ]
        said: dict[str, str | None] = {}
        aside = self.aside / self._config.tables.deliveries
        if later and aside.is_dir():
            with suppress(OrdertrailError):  # it may be why the tables were restored
                said = dict(_archived(aside))
        return tuple(Unknown(path, said.get(path)) for path in later)

    def end(self) -> None:
        """Allow passes again."""
        shutil.rmtree(self._staged / INCIDENTS_ROLE, ignore_errors=True)
        with suppress(OSError):  # empty; the next restore sweeps it
            self._staged.rmdir()
        self._probe("restore.swept")
        self._note.unlink(missing_ok=True)
        fsync_folder(self._note.parent)
        self._probe("restore.done")


def _free(path: Path) -> Path:
    """The path itself, or with a number where the name is taken: by another restore in this second."""
    names = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in count(1))
    return next(name for name in names if not os.path.lexists(name))


def _archived(deliveries: Path) -> Iterator[tuple[str, str | None]]:
    """The archived files of a table of deliveries, each with its path below the source."""
    with duckdb_errors("cannot read the deliveries"), duckdb.connect() as con:
        relation = scan_sql(con, read_snapshot(DeltaLog(deliveries)), DELIVERIES)
        rows = con.execute(f"SELECT archived_to, path FROM {relation} WHERE archived_to IS NOT NULL").fetchall()
    for archived_to, path in rows:
        yield str(archived_to), None if path is None else str(path)  # tables of early releases do not say
