"""Markers tie tables, archive and source together: a pass reads them before it creates anything, and writes them after.

A marker is the file `.ordertrail` in the root of the archive and of the source. The engine asks `Belonging` before it
creates a table, and the pipeline asks it once the tables are open; `rules.belonging` makes the judgement.
"""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import astuple

from ordertrail.config import Config
from ordertrail.config.unfinished import refuse_cut_restore
from ordertrail.errors import OrdertrailError, SourceError, StorageError, TableError
from ordertrail.model import Probe
from ordertrail.rules.belonging import (
    Marker,
    Owner,
    allowed,
    archive_standing,
    beginning,
    document_of,
    entered,
    marker_of,
    source_standing,
)

MARKER = ".ordertrail"
"""The marker's file name. Discovery skips hidden names."""

_ANEW = "ordertrail init --anew"
_ARCHIVED = re.compile(r"\d{6,}-\d{5}-[0-9a-f]{8}-")
_PARTS = (re.compile(r"\d{4}"), re.compile(r"\d\d"), re.compile(r"\d\d"))


def read_marker(folder: Path) -> Marker | None:
    """The marker of a folder; None when it has none, or is not there.

    Raises:
        SourceError: It cannot be read, or is damaged.
    """
    path = folder / MARKER
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(
            f"cannot read {path}: {error.strerror or error}",
            hint="give the user that runs ordertrail the right to read it, and check that the disk is mounted",
        ) from error
    try:
        found = marker_of(json.loads(data))
    except ValueError:
        found = None
    if found is None:
        raise SourceError(
            f"the marker {path} is damaged",
            hint=f"check that this is the right folder, delete that file, then run {_ANEW}",
        )
    return found


def write_marker(folder: Path, marker: Marker) -> None:
    """Write a marker into a folder, atomically and durably; create the folder if it is missing.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{MARKER}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with unfinished.open("x", encoding="utf-8") as file:
            file.write(json.dumps(document_of(marker)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / MARKER)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some shares cannot sync folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_archived_name(name: str) -> bool:
    """Whether a file has the name that a pipeline gives to what it archives; see `rules.filekey.archive_path`."""
    return _ARCHIVED.match(name) is not None


def holds_archived(archive: Path) -> bool:
    """Whether an archive holds a file that a pipeline archived; see `rules.filekey.archive_path`."""
    folders = [archive, archive / "quarantine"]
    for part in _PARTS:
        folders = [below for folder in folders for below in _listed(folder) if part.fullmatch(below.name)]
    return any(_ARCHIVED.match(file.name) for folder in folders for file in _listed(folder))


def archived_last(archive: Path, paths: Sequence[str], batch: int) -> bool:
    """Whether the files archived last are where they should be, as far as that can be told.

    Args:
        archive: The archive folder.
        paths: Of the last batch's files below it; none when they are not all archived yet.
        batch: The last batch: with a number above 1 there was one before it.
    """
    if not paths:
        return batch <= 1 or holds_archived(archive)
    for path in paths:
        folder, _, name = path.rpartition("/")
        delivery = name[: match.end()] if (match := _ARCHIVED.match(name)) else name
        if any(one.name.startswith(delivery) for one in _listed(archive / folder)):
            return True
    return False


def refuse_lost_tables(config: Config) -> None:
    """Refuse a pass where no table is and some should be, before a folder is made, for its lock or for anything.

    Raises:
        StorageError: As `Belonging`.
        SourceError: As `Belonging`.
    """
    if not _has_tables(config):
        Belonging(config).refuse_beginning()


def refuse_other_archive(config: Config, app_id: str, batch: int) -> None:
    """Refuse an archive that is not that of the tables, as far as that shows without a pass.

    Args:
        config: Of the pipeline.
        app_id: Of its tables.
        batch: The last one that is done.

    Raises:
        SourceError: As `Belonging.enter`.
    """
    archive = read_marker(config.archive)
    standing = archive_standing(config.name, app_id, archive)
    if standing == "of others" or (standing == "to be proved" and not archived_last(config.archive, (), batch)):
        raise _archive_refused(config, archive)


def no_tables_yet(config: Config) -> OrdertrailError:
    """What to tell who asks for tables that are not there: no pass has run yet, or their disk is not mounted.

    Args:
        config: Of the pipeline.
    """
    try:
        refuse_lost_tables(config)
    except StorageError as error:
        return error
    except SourceError:
        pass  # a pass would say so
    root = config.table_path(config.tables.target)
    return TableError(f"there is no Delta table in {root}", hint="run a pass first: ordertrail run")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SourceError(
            f"cannot read the archive {folder}: {error.strerror or error}",
            hint="check that the archive folder is mounted and can be read",
        ) from error


class Belonging:
    """Whether a pipeline's tables, archive and source belong together. The markers are read when it is made.

    That is before the tables are looked at: tables are made before markers, so tables that a marker names were there.
    Called by an engine with the application id of the tables that are there, None when there is none, before it makes
    any; gives the id of those to be made.

    Args:
        config: Of the pipeline.

    Raises:
        SourceError: A marker cannot be read.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._archive = read_marker(config.archive)
        self._source = None if config.source_marker == "off" else read_marker(config.source)
        self._found: str | None = None

    def __call__(self, found: str | None) -> str:
        """See `engines.base.Admit`.

        Raises:
            StorageError: There are no tables, though archive or source have been those of this pipeline.
            SourceError: Archive or source belong to another pipeline, or there are no tables and no source.
        """
        self._found = found
        if found is not None:
            return found
        self.refuse_beginning()
        return str(uuid.uuid4())

    def refuse_beginning(self) -> None:
        """Refuse to make tables where they should be there, or where others are at home.

        Raises:
            StorageError: As `__call__`; or a restore was cut short.
            SourceError: As `__call__`.
        """
        config, archive, source = self._config, self._archive, self._source
        refuse_cut_restore(config)
        archived_files = archive is None and holds_archived(config.archive)
        judged = beginning(config.name, archive, source, archived_files=archived_files)
        place = (
            f"{config.catalog}.{config.schema}"
            if config.by_name
            else str(config.table_path(config.tables.target).parent)
        )
        match judged:
            case "tables gone":
                raise StorageError(
                    f"the tables of pipeline {config.name} are not in {place}, though {config.archive} is its archive: "
                    "is the disk mounted, and pipeline.warehouse right?",
                    hint=f"mount it and run again; `{_ANEW}` begins again, with empty tables",
                )
            case "archive of others":
                raise _of_others("archive", config, archive, f"it has no tables in {place} yet")
            case "source of others":
                raise _of_others("source", config, source, f"it has no tables in {place} yet")
            case "begins":
                if not config.source.is_dir():
                    raise SourceError(
                        f"cannot read the source folder {config.source}: there is no such folder",
                        hint="make it, or check that it is mounted; nothing was made",
                    )

    def enter(self, app_id: str, archived_last: Callable[[], bool], probe: Probe) -> None:
        """Refuse an archive or a source that is not that of these tables; else see that both bear the marker.

        Args:
            app_id: Of the tables, which are open.
            archived_last: Whether the files archived last are where the deliveries say, as far as there are any.
            probe: Called with `marker.archive` and `marker.source` after each was written.

        Raises:
            SourceError: They do not belong together, or the marker cannot be written where it must be.
            StorageError: The archive cannot be written to.
        """
        config, archive = self._config, self._archive
        anew = archive is not None and config.name in archive.begins
        known = archive is not None and archive.lists(app_id)
        standing = archive_standing(config.name, app_id, archive)
        if standing == "of others" or (standing == "to be proved" and not archived_last()):
            raise _archive_refused(config, archive)
        source = source_standing(app_id, self._source, known_to_archive=known)
        if config.source_marker != "off" and not anew:
            self._require_source(source, known=known)
        owner = Owner(app_id, config.name, datetime.now(UTC).isoformat(timespec="seconds"), anew)
        if not known:
            try:
                write_marker(config.archive, entered(self._archive, owner))
            except OSError as error:
                raise _unwritable("archive", config.archive, error) from error
            probe("marker.archive")
        if config.source_marker != "off" and (source != "ours" or anew):
            self._mark_source(owner, probe)

    def _require_source(self, source: str, *, known: bool) -> None:
        config = self._config
        if source == "of others":
            raise _of_others("source", config, self._source, "it has another one by its own tables")
        if source == "to be proved" and known and config.source_marker == "require":
            raise SourceError(
                f"the source {config.source} has no marker {MARKER} of pipeline {config.name}: is it mounted?",
                hint=f"mount it and run again; if it is another folder on purpose: `{_ANEW}`",
            )

    def _mark_source(self, owner: Owner, probe: Probe) -> None:
        config = self._config
        if not config.source.is_dir():
            return  # discovery says so
        try:
            write_marker(config.source, entered(self._source, owner))
        except OSError as error:
            if config.source_marker == "require":
                raise _unwritable("source", config.source, error) from error
            return
        probe("marker.source")


def begin_anew(config: Config) -> None:
    """Allow a pipeline to begin again: with new tables, another archive, another source. The next pass does.

    Raises:
        SourceError: The archive's marker cannot be read.
        StorageError: The archive cannot be written to.
    """
    try:
        write_marker(config.archive, allowed(read_marker(config.archive), config.name))
    except OSError as error:
        raise _unwritable("archive", config.archive, error) from error


def _archive_refused(config: Config, archive: Marker | None) -> SourceError:
    if archive is not None and archive.owners:
        return _of_others("archive", config, archive, "the files that it archived last are not in there")
    return SourceError(
        f"the archive of pipeline {config.name} is not in {config.archive}: the files that it archived last are not in "
        "there: is the disk mounted?",
        hint=f"mount it and run again; if it was emptied or is another folder on purpose: `{_ANEW}`",
    )


def _of_others(word: str, config: Config, marker: Marker | None, why: str) -> SourceError:
    shown = "another pipeline" if marker is None else marker.shown
    folder = config.archive if word == "archive" else config.source
    return SourceError(
        f"the {word} {folder} belongs to pipeline {shown}, not to pipeline {config.name}: {why}",
        hint=f"set pipeline.{word} to a folder of its own, and see that pipeline.warehouse is right; if the two are to "
        f"share it, each with globs of its own: `{_ANEW}`",
    )


def _unwritable(word: str, folder: Path, error: OSError) -> StorageError | SourceError:
    message = f"cannot write {folder / MARKER}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT):
        return StorageError(message, hint="free space or repair the disk; nothing was loaded")
    hint = f"give the user that runs ordertrail the right to write in the {word} folder; nothing was loaded"
    return SourceError(message, hint=hint)


def require_tables(config: Config) -> None:
    """Refuse to keep tables in order where there is none, before their lock is asked for.

    Raises:
        TableError: No pass has run yet.
        StorageError: As `Belonging`.
    """
    if not _has_tables(config):
        raise no_tables_yet(config)


def _has_tables(config: Config) -> bool:
    """Whether any table is there; True where only the catalog knows: the engine asks before it makes one."""
    folders = (config.table_path(name) for name in astuple(config.tables))
    return config.by_name or any((folder / "_delta_log").is_dir() for folder in folders)
