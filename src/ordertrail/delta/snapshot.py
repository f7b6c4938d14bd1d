"""A Delta table as of one version: checkpoint plus later commits, replayed as PROTOCOL.md's "Action Reconciliation"."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ordertrail.delta.actions import AddFile, Metadata, ProtocolVersions
from ordertrail.delta.log import DeltaLog
from ordertrail.errors import StorageError, TableError, UnsupportedTableError

_READABLE = frozenset({"deletionVectors", "timestampNtz", "variantType", "vacuumProtocolCheck"})
_WRITABLE = _READABLE | {"appendOnly", "invariants", "domainMetadata"}
_V2_ONLY = frozenset({"sidecar", "checkpointMetadata"})
_REFUSED_PROPERTIES = {
    "delta.appendOnly": "true",
    "delta.enableChangeDataFeed": "true",
    "delta.enableRowTracking": "true",
    "delta.columnMapping.mode": "name",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a table holds at one version.

    Attributes:
        root: The table's folder.
        version: Of the log.
        files: The live data files by their path in the log.
        txns: The last version of every application.
        metadata: Schema and properties.
        protocol: What readers and writers must know.
    """

    root: Path
    version: int
    files: Mapping[str, AddFile]
    txns: Mapping[str, int]
    metadata: Metadata
    protocol: ProtocolVersions

    @property
    def paths(self) -> list[Path]:
        """The live data files on disk, in the order of `files`."""
        return [self.path_of(file) for file in self.files.values()]

    @property
    def has_deletion_vectors(self) -> bool:
        """Whether some live file has rows that are marked as deleted."""
        return any(file.deletion_vector for file in self.files.values())

    def path_of(self, file: AddFile) -> Path:
        """Where a data file lies.

        Raises:
            UnsupportedTableError: It lies in another table (a shallow clone).
        """
        if urllib.parse.urlparse(file.path).scheme or file.path.startswith("/"):
            raise UnsupportedTableError(
                f"{self.root.name} refers to the file {file.path} outside its folder", hint="do not clone shallowly"
            )
        return self.root / urllib.parse.unquote(file.path)

    def require_readable(self) -> None:
        """Refuse a table that we would read wrong.

        Raises:
            UnsupportedTableError: Naming the feature.
        """
        if self.protocol.reader > 3 or self.metadata.properties.get("delta.columnMapping.mode", "none") != "none":
            raise self._refusal(f"reader version {self.protocol.reader} or column mapping")
        for feature in self.protocol.reader_features:
            if feature not in _READABLE:
                raise self._refusal(feature)

    def require_writable(self) -> None:
        """Refuse a table that we would damage.

        Raises:
            UnsupportedTableError: Naming the feature or the property; the table was not touched.
        """
        self.require_readable()
        for feature in self.protocol.writer_features:
            if feature not in _WRITABLE:
                raise self._refusal(feature)
        for name, value in self.metadata.properties.items():
            if _REFUSED_PROPERTIES.get(name) == value.lower() or name.startswith("delta.constraints."):
                raise self._refusal(f"{name} = {value}")
            if name == "delta.setTransactionRetentionDuration":
                raise self._refusal(f"{name}, which would forget which batches were loaded")
        if self.metadata.partition_columns:
            raise self._refusal(f"partitions by {', '.join(self.metadata.partition_columns)}")
        if '"delta.invariants"' in self.metadata.schema_string:
            raise self._refusal("column invariants")
        # Last: a property that calls for a higher version says more than the version.
        if self.protocol.writer not in (1, 2, 7):
            raise self._refusal(f"writer version {self.protocol.writer}")

    def _refusal(self, feature: str) -> UnsupportedTableError:
        return UnsupportedTableError(
            f"the table {self.root.name} has {feature}, which ordertrail does not write to; it was not touched",
            hint="take the feature off the table, or load into another one",
        )


def read_snapshot(log: DeltaLog, version: int | None = None) -> Snapshot:
    """Replay a log.

    Args:
        log: The table's.
        version: As of this version; None takes the newest.

    Raises:
        TableError: There is no table, or its log is damaged or has a hole.
        StorageError: The log cannot be read.
    """
    try:
        return _read(log, version)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # What JSON or Parquet could be read, but is no Delta log; Arrow's errors are ValueErrors.
        raise TableError(
            f"the log of {log.root} is damaged: {type(error).__name__}: {error}",
            hint="restore the files of its _delta_log from a backup",
        ) from error
    except OSError as error:
        raise StorageError(
            f"cannot read the log of {log.root}: {error}", hint="see to the disk, then run again"
        ) from error


def _read(log: DeltaLog, version: int | None) -> Snapshot:
    commits, checkpoints = log.entries()
    newest = max(commits[-1:] + list(checkpoints), default=None)
    if newest is None:
        raise TableError(f"there is no Delta table in {log.root}", hint="run a pass first: ordertrail run")
    wanted = newest if version is None else version
    base = max((v for v in checkpoints if v <= wanted), default=None)
    state = _State()
    if base is not None:
        for part in checkpoints[base]:
            state.checkpoint(part)
    first = 0 if base is None else base + 1
    for at in range(first, wanted + 1):
        try:
            actions = log.read(at)
        except FileNotFoundError:
            raise TableError(
                f"the log of {log.root} lacks version {at}", hint="restore the file from a backup"
            ) from None
        state.commit(actions)
    return state.snapshot(log.root, wanted)


class _State:
    """Actions reconciled so far."""

    def __init__(self) -> None:
        self.files: dict[str, AddFile] = {}
        self.txns: dict[str, int] = {}
        self.metadata: Metadata | None = None
        self.protocol: ProtocolVersions | None = None

    def commit(self, actions: list[dict[str, Any]]) -> None:
        for action in actions:
            if (remove := action.get("remove")) is not None:
                self.files.pop(remove["path"], None)
        for action in actions:
            self._apply(action)

    def checkpoint(self, path: Path) -> None:
        import pyarrow.parquet as pq

        wanted = {"add", "txn", "metaData", "protocol"}
        with pq.ParquetFile(path) as file:
            table = file.read(columns=[n for n in file.schema_arrow.names if n in wanted | _V2_ONLY])
        # delta-rs gives classic checkpoints these columns too: only a value in them makes a V2 checkpoint.
        if any(table.column(n).null_count < len(table) for n in _V2_ONLY & set(table.column_names)):
            raise UnsupportedTableError(f"{path} is a V2 checkpoint", hint="write a classic checkpoint instead")
        for row in table.to_pylist(maps_as_pydicts="strict"):
            self._apply({name: value for name, value in row.items() if value is not None})

    def _apply(self, action: dict[str, Any]) -> None:
        if (add := action.get("add")) is not None:
            vector = add.get("deletionVector")
            self.files[add["path"]] = AddFile(
                add["path"],
                int(add["size"]),
                int(add["modificationTime"]),
                add.get("stats"),
                json.dumps({k: v for k, v in vector.items() if v is not None}) if vector else None,
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
            )
        elif (protocol := action.get("protocol")) is not None:
            self.protocol = ProtocolVersions(
                int(protocol["minReaderVersion"]),
                int(protocol["minWriterVersion"]),
                tuple(protocol.get("readerFeatures") or ()),
                tuple(protocol.get("writerFeatures") or ()),
            )

    def snapshot(self, root: Path, version: int) -> Snapshot:
        if self.metadata is None or self.protocol is None:
            raise TableError(f"the log of {root} has no schema", hint="restore the table from a backup")
        return Snapshot(root, version, self.files, self.txns, self.metadata, self.protocol)
