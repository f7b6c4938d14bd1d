"""A Delta table at one version: a checkpoint plus later commits, replayed by PROTOCOL.md's "Action Reconciliation"."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct, field

from ordertrail.delta.actions import VECTORS, AddFile, Json, Metadata, ProtocolVersions
from ordertrail.delta.checkpoint import checkpoint_actions
from ordertrail.delta.features import require_readable, require_writable
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.replays import Replays, seen
from ordertrail.delta.said import FILES, ROWS, after_foreign, live_rows, number, said_by
from ordertrail.errors import StorageError, TableError, UnsupportedTableError
from ordertrail.rules.change_feed import FEED

MOST_FILES = 500
"""Rows are summed over the log only for a table with at most this many data files: a few milliseconds."""

_LOOK_BACK = 10  # entries below a checkpoint
_DAMAGE = (TableError, LookupError, TypeError, ValueError, AttributeError, OSError)
"""The exceptions of reading a damaged checkpoint; Arrow's errors are ValueErrors and OSErrors."""
_STATE = frozenset({"add", "txn", "metaData", "protocol"})


class Tombstone(NamedTuple):
    """A data file with its vector that is no longer part of a table, but may still be needed to read older versions.

    Attributes:
        path: Of the data file, as in the log.
        deletion_vector: The descriptor as its JSON text, or None.
        deleted_ms: When it was removed, in milliseconds since 1970; None when the log does not say.
    """

    path: str
    deletion_vector: str | None
    deleted_ms: int | None

    @property
    def file(self) -> AddFile:
        """The file with its vector, to locate both; its size and times are unknown."""
        return AddFile(self.path, 0, 0, None, self.deletion_vector)


class Snapshot(Struct, frozen=True):
    """What a table holds at one version.

    Attributes:
        root: The table's folder.
        version: Of the log.
        files: The live data files by their path in the log.
        txns: The last version of every application.
        metadata: Schema and properties.
        protocol: What readers and writers must support.
        said: The note of our last commit (see `said`), as far as later commits of others leave it valid.
        passed_over: Damaged checkpoints; the table was read without them.
    """

    root: Path
    version: int
    files: Mapping[str, AddFile]
    txns: Mapping[str, int]
    metadata: Metadata
    protocol: ProtocolVersions
    said: Mapping[str, Json] = field(default_factory=dict)
    passed_over: tuple[Path, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """The live data files on disk, in the order of `files`."""
        return [self.path_of(file) for file in self.files.values()]

    def last_txn(self, app_id: str) -> int:
        """The last version of an application: of a pipeline, its last batch in this table. 0 where there is none."""
        return self.txns.get(app_id, 0)

    @property
    def has_deletion_vectors(self) -> bool:
        """Whether a live file has rows that are marked as deleted."""
        return any(file.deletion_vector for file in self.files.values())

    @property
    def takes_vectors(self) -> bool:
        """Whether rows may be marked in deletion vectors: the protocol supports it, and no property forbids it."""
        features = (
            "deletionVectors" in names for names in (self.protocol.reader_features, self.protocol.writer_features)
        )
        return all(features) and self.metadata.properties.get(VECTORS, "").lower() != "false"

    @property
    def feeds_changes(self) -> bool:
        """Whether the change data feed is on: readers may ask for the changes of each version from now on."""
        return self.protocol.has_change_feed and self.metadata.properties.get(FEED, "").lower() == "true"

    @property
    def live_rows(self) -> int | None:
        """The number of live rows by the log; None when it does not say."""
        return live_rows(self.files.values())

    def mismatch(self) -> str | None:
        """How the table differs from the note of our last commit; None when it does not, or there is no note.

        The rows of a table with more than `MOST_FILES` are not counted.
        """
        files, rows = number(self.said, FILES), number(self.said, ROWS)
        if files is not None and files != len(self.files):
            return f"{self.root.name} has {len(self.files)} data files, by its last commit {files}"
        found = self.live_rows if rows is not None and len(self.files) <= MOST_FILES else None
        if found is not None and found != rows:
            return f"{self.root.name} has {found} rows, by its last commit {rows}"
        return None

    def path_of(self, file: AddFile) -> Path:
        """The path of a data file.

        Raises:
            UnsupportedTableError: It belongs to another table (a shallow clone).
        """
        if urllib.parse.urlparse(file.path).scheme or file.path.startswith("/"):
            raise UnsupportedTableError(
                f"{self.root.name} refers to the file {file.path} outside its folder", hint="do not clone shallowly"
            )
        return self.root / urllib.parse.unquote(file.path)

    def require_readable(self) -> None:
        """Refuse a table that we would misread.

        Raises:
            UnsupportedTableError: Naming the feature.
        """
        require_readable(self.root.name, self.metadata, self.protocol)

    def require_writable(self) -> None:
        """Refuse a table that we would damage.

        Raises:
            UnsupportedTableError: Naming the feature or the property; the table was not touched.
        """
        require_writable(self.root.name, self.metadata, self.protocol)


_replays: Replays[Snapshot] = Replays(most=8)  # the five tables of a pipeline, and a few more


def read_snapshot(log: DeltaLog, version: int | None = None) -> Snapshot:
    """Replay a log. Of the newest version, a process replays only what it has not replayed before.

    Args:
        log: The table's.
        version: The version; None means the newest.

    Raises:
        TableError: There is no table, or its log is damaged or has a hole.
        StorageError: The log cannot be read.
    """
    with _log_errors(log):
        return _read(log, version) if version is not None else _read_newest(log)


def follow_snapshot(log: DeltaLog, known: Snapshot) -> Snapshot:
    """The newest snapshot, updated from an older one: only later commits are read, and no folder is listed.

    Args:
        log: The table's log.
        known: An older snapshot of the same log; returned itself when nothing was committed since.

    Raises:
        TableError: There is no table any more, or its log is damaged.
        StorageError: The log cannot be read.
    """
    with _log_errors(log):
        if not log.has(known.version):  # cleaned up, or another table is here now
            return _read_newest(log)
        state, version = _State(known), known.version
        while log.has(version + 1):
            version += 1
            state.commit(log.read(version))
    return known if version == known.version else state.snapshot(log.root, version)


def read_tombstones(log: DeltaLog, since: int = 0) -> list[Tombstone]:
    """What was removed from a table, as far as its newest checkpoint and the remaining commits know.

    Args:
        log: The table's.
        since: Commits below this version are not read; the checkpoint may have forgotten what they removed.

    Returns:
        Each data file with each of its vectors once, with the last time it was removed. Some may be live again, and a
        file with one vector may be live with another: subtract the live ones before anything is deleted.

    Raises:
        TableError: The log is damaged.
        StorageError: The log cannot be read.
    """
    found: dict[tuple[str, str | None], int | None] = {}

    def see(action: dict[str, Any]) -> None:
        if (remove := action.get("remove")) is not None:
            key, at = (remove["path"], _vector_text(remove)), remove.get("deletionTimestamp")
            known = found.get(key)
            found[key] = known if at is None else max(int(at), known or 0)

    with _log_errors(log):
        commits, checkpoints = log.entries()
        for version in sorted(checkpoints, reverse=True):
            try:
                removed = list(checkpoint_actions(log, version, checkpoints[version], {"remove"}))
            except _DAMAGE:
                # Removals that it had already forgotten may come back: then more files are kept.
                since = 0
                continue
            for action in removed:
                see(action)
            break
        for version in commits:
            if version < since:
                continue
            for action in log.read(version):
                see(action)
    return [Tombstone(path, vector, at) for (path, vector), at in found.items()]


def read_changes(log: DeltaLog, since_s: float) -> list[AddFile]:
    """The files with changes that young commits name, for readers of the change data feed.

    Args:
        log: The table's.
        since_s: Commits that were written before, in seconds since 1970, are not read.

    Raises:
        TableError: The log is damaged.
        StorageError: The log cannot be read.
    """
    with _log_errors(log):
        young = (version for version in log.entries()[0] if log.written_s(version) >= since_s)
        bodies = (action.get("cdc") for version in young for action in log.read(version))
        return [AddFile(str(one["path"]), int(str(one["size"])), 0) for one in bodies if isinstance(one, dict)]


@contextmanager
def _log_errors(log: DeltaLog) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # JSON or Parquet that can be read but is not a Delta log; Arrow's errors are ValueErrors.
        raise TableError(
            f"the log of {log.root} is damaged: {type(error).__name__}: {error}",
            hint="restore the files of its _delta_log from a backup",
        ) from error
    except OSError as error:
        raise StorageError(
            f"cannot read the log of {log.root}: {error}", hint="check the disk, then run again"
        ) from error


def _read_newest(log: DeltaLog) -> Snapshot:
    """The newest version, on top of what this process has replayed before."""
    commits, checkpoints = log.entries()
    newest = _newest(log, commits, checkpoints)
    base = max(checkpoints, default=-1)
    files = seen([*map(str, checkpoints.get(base, ())), *map(log.name, range(base + 1, newest + 1))])
    known = _replays.kept(log.root, files)
    if known is None:
        snapshot = _read(log, newest, (commits, checkpoints))
    elif known.version == newest:
        return known
    else:
        snapshot = _replayed(log, _State(known), known.version + 1, newest, {})
    if not snapshot.passed_over:  # what it was read from is more than the files after the damaged checkpoint
        _replays.keep(log.root, snapshot, files)
    return snapshot


def _newest(log: DeltaLog, commits: Sequence[int], checkpoints: Mapping[int, Sequence[Path]]) -> int:
    newest = max([*commits[-1:], *checkpoints], default=None)
    if newest is None:
        raise TableError(f"there is no Delta table in {log.root}", hint="run a pass first: ordertrail run")
    return newest


def _read(log: DeltaLog, wanted: int, listed: tuple[list[int], dict[int, list[Path]]] | None = None) -> Snapshot:
    commits, checkpoints = log.entries() if listed is None else listed
    _newest(log, commits, checkpoints)
    passed_over: dict[Path, str] = {}
    for base in sorted((at for at in checkpoints if at <= wanted), reverse=True):
        try:
            state = _from_checkpoint(log, base, checkpoints[base])
        except _DAMAGE as error:
            passed_over |= dict.fromkeys(checkpoints[base], str(error))
            continue
        return _replayed(log, state, base + 1, wanted, passed_over)
    return _replayed(log, _State(), 0, wanted, passed_over)


def _from_checkpoint(log: DeltaLog, version: int, parts: Sequence[Path]) -> _State:
    state = _State()
    for action in checkpoint_actions(log, version, parts, _STATE):
        state.apply(action)
    state.require_whole(log.root)
    state.said = _last_word(log, version)
    return state


def _replayed(log: DeltaLog, state: _State, first: int, wanted: int, passed_over: Mapping[Path, str]) -> Snapshot:
    """The table after the entries from `first` to `wanted`."""
    for at in range(first, wanted + 1):
        try:
            actions = log.read(at)
        except FileNotFoundError:
            damaged = "".join(f"; the checkpoint {path} is damaged: {why}" for path, why in passed_over.items())
            raise TableError(
                f"the log of {log.root} lacks version {at}{damaged}", hint="restore the file from a backup"
            ) from None
        state.commit(actions)
    state.passed_over = tuple(passed_over)
    return state.snapshot(log.root, wanted)


def _last_word(log: DeltaLog, version: int) -> dict[str, Json]:
    """The note of our last commit up to a checkpoint; empty when its entry is gone or far back."""
    later: list[list[dict[str, Json]]] = []
    for at in range(version, max(-1, version - _LOOK_BACK), -1):
        try:
            actions = log.read(at)
        except FileNotFoundError:
            break
        if said := said_by(actions):
            for other in reversed(later):
                said = after_foreign(said, other)
            return said
        later.append(actions)
    return {}


class _State:
    """The actions reconciled so far, on top of a snapshot if there is one."""

    def __init__(self, known: Snapshot | None = None) -> None:
        self.files: dict[str, AddFile] = dict(known.files) if known else {}
        self.txns: dict[str, int] = dict(known.txns) if known else {}
        self.metadata: Metadata | None = known.metadata if known else None
        self.protocol: ProtocolVersions | None = known.protocol if known else None
        self.said: Mapping[str, Json] = known.said if known else {}
        self.passed_over: tuple[Path, ...] = known.passed_over if known else ()

    def commit(self, actions: list[dict[str, Any]]) -> None:
        self.said = said_by(actions) or after_foreign(self.said, actions)
        for action in actions:
            if (remove := action.get("remove")) is not None:
                self.files.pop(remove["path"], None)
        for action in actions:
            self.apply(action)

    def apply(self, action: dict[str, Any]) -> None:
        if (add := action.get("add")) is not None:
            self.files[add["path"]] = AddFile(
                add["path"],
                int(add["size"]),
                int(add["modificationTime"]),
                add.get("stats"),
                _vector_text(add),
                add.get("tags") or {},
            )
        elif (txn := action.get("txn")) is not None:
            self.txns[txn["appId"]] = int(txn["version"])
        elif (meta := action.get("metaData")) is not None:
            self.metadata = Metadata(
                meta["id"],
                meta["schemaString"],
                tuple(meta.get("partitionColumns") or ()),
                meta.get("configuration") or {},
                meta.get("createdTime"),
                meta.get("name"),
                meta.get("description"),
            )
        elif (protocol := action.get("protocol")) is not None:
            self.protocol = ProtocolVersions(
                int(protocol["minReaderVersion"]),
                int(protocol["minWriterVersion"]),
                tuple(protocol.get("readerFeatures") or ()),
                tuple(protocol.get("writerFeatures") or ()),
            )

    def require_whole(self, root: Path) -> tuple[Metadata, ProtocolVersions]:
        if self.metadata is None or self.protocol is None:
            raise TableError(f"the log of {root} has no schema", hint="restore the table from a backup")
        return self.metadata, self.protocol

    def snapshot(self, root: Path, version: int) -> Snapshot:
        metadata, protocol = self.require_whole(root)
        return Snapshot(root, version, self.files, self.txns, metadata, protocol, self.said, self.passed_over)


def _vector_text(action: dict[str, Any]) -> str | None:
    """A file's vector as JSON text; a checkpoint has None for missing members."""
    vector = action.get("deletionVector")
    return json.dumps({name: value for name, value in vector.items() if value is not None}) if vector else None
