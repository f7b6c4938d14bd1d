"""Checkpoints of a Delta log, by both specifications.

V1: one Parquet file, or several parts, with all actions. V2: a file of JSON lines or Parquet, with a unique or the
classic name, that holds the actions itself or refers to sidecar files with those of the data files. Source: PROTOCOL.md
of delta-io/delta, "Checkpoints".
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ordertrail.delta.log import DeltaLog, is_v2_name, path_inside
from ordertrail.durable import fsync_file, fsync_folder
from ordertrail.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

_FILE_ACTIONS = frozenset({"add", "remove"})
_V2_ACTIONS = frozenset({"sidecar", "checkpointMetadata"})


def checkpoint_actions(
    log: DeltaLog, version: int, parts: Collection[Path], wanted: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Read the actions of a checkpoint, in no particular order.

    Args:
        log: The table's.
        version: The checkpoint's.
        parts: Its files, from `DeltaLog.entries`.
        wanted: Names of the actions to return.

    Raises:
        TableError: It is incomplete: a sidecar is missing, or it states another version.
        OSError: It cannot be read.
        ValueError: It is damaged; as are `LookupError`, `TypeError` and `AttributeError`.
    """
    for part in parts:
        sidecars: list[str] = []
        stated: int | None = None
        for action in _rows(part, {*wanted, *_V2_ACTIONS}):
            if (sidecar := action.pop("sidecar", None)) is not None:
                sidecars.append(sidecar["path"])
            if (metadata := action.pop("checkpointMetadata", None)) is not None:
                stated = int(metadata["version"])
            if action:
                yield action
        if stated != (version if stated is not None or is_v2_name(part) else None):
            raise _damaged(f"the checkpoint {part} does not say that it is of version {version}")
        for name in sidecars:
            yield from _sidecar(log, name, _FILE_ACTIONS.intersection(wanted))


def sync_checkpoint(log: DeltaLog, version: int) -> None:
    """Make the checkpoint of a version and the file that points to it durable; the checkpoint's writer does not.

    Until then a crash may leave it empty, while the entries that it replaces are gone.

    Args:
        log: The table's.
        version: The checkpoint's version; nothing happens when there is no checkpoint.

    Raises:
        OSError: The disk fails.
    """
    parts = log.entries()[1].get(version, [])
    sidecars = sorted((log.folder / "_sidecars").glob("*.parquet")) if any(map(is_v2_name, parts)) else []
    for path in (*sidecars, *parts, log.folder / "_last_checkpoint"):
        if path.is_file():
            fsync_file(path)
    for folder in dict.fromkeys(path.parent for path in (*sidecars, *parts)):
        fsync_folder(folder)


def _sidecar(log: DeltaLog, name: str, wanted: Collection[str]) -> Iterator[dict[str, Any]]:
    folder = log.folder / "_sidecars"
    within = path_inside(log.root, name) if "/" in name else folder / urllib.parse.unquote(name)
    if within is None or within.parent != folder:
        raise _damaged(f"a checkpoint of {log.root.name} refers to the sidecar {name} outside {folder}")
    try:
        yield from _rows(within, wanted)
    except FileNotFoundError:
        raise _damaged(f"a checkpoint of {log.root.name} lacks its sidecar {within}") from None


def _rows(path: Path, wanted: Collection[str]) -> Iterator[dict[str, Any]]:
    if path.suffix == ".json":
        for line in path.read_bytes().splitlines():
            if line.strip():
                yield {name: value for name, value in json.loads(line).items() if name in wanted and value is not None}
        return
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        table = file.read(columns=[name for name in file.schema_arrow.names if name in wanted])
    # A row is one action: one of its columns has a value. Tombstones, most of a checkpoint, are skipped;
    # delta-rs gives classic checkpoints the columns of V2, too.
    for name in table.column_names:
        for chunk in table.column(name).chunks:
            for place in _there(chunk):
                yield {name: chunk[place].as_py(maps_as_pydicts="strict")}


def _there(array: pa.Array) -> list[int]:
    """The indices of an array that have a value; without `pyarrow.compute`, whose import takes longer than this."""
    bitmap = array.buffers()[0]
    if bitmap is None:
        return list(range(len(array)))
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    places: list[int] = np.flatnonzero(bits[array.offset : array.offset + len(array)]).tolist()
    return places


def _damaged(what: str) -> TableError:
    return TableError(what, hint="restore the files of its _delta_log from a backup")
