"""Damage that a pass notices when it opens the tables, by cheap checks that are repeated until it is repaired.

Counts come from the logs and from the notes of our commits (`delta.said`); of data files only the names are checked.
`ordertrail verify` reads everything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Table
from ordertrail.delta.vectors import vector_file
from ordertrail.engines.local.whole import cure_of_files, log_warnings, progress_of, resets_of
from ordertrail.errors import TableError


def damage(tables: Mapping[str, Snapshot], app_id: str) -> tuple[str, ...]:
    """Warnings about missing rows and files, each with what to do.

    Args:
        tables: All five by their role.
        app_id: The pipeline's application id.
    """
    found = list(log_warnings(tables, app_id))
    unfinished = progress_of(tables, app_id).unfinished
    for role, snapshot in tables.items():
        # the next batch overwrites a stage that is done
        if role != "stage" or unfinished:
            found += _missing(role, snapshot)
    return tuple(found)


def resets(table: Table, app_id: str, batch: int) -> tuple[str, ...]:
    """Warnings about commits of others that removed rows of the target wholesale, until it is rebuilt.

    Args:
        table: The target.
        app_id: The pipeline's application id.
        batch: The last batch of the target, 0 for none.
    """
    return resets_of(table.newest(), table.log, app_id, batch)


def _missing(role: str, snapshot: Snapshot) -> list[str]:
    """One line for missing data files, and one for missing vectors, of a table."""
    folders: dict[Path, frozenset[str]] = {}
    here = _names(snapshot.root, folders)
    # Nearly all are in the table's folder under their name in the log: no path has to be built for them.
    others = [file for path, file in snapshot.files.items() if path not in here]
    gone = [path for path in map(snapshot.path_of, others) if path.name not in _names(path.parent, folders)]
    found = [f"{snapshot.root.name} lacks {_some(gone, 'data file')}; {cure_of_files(role)}"] if gone else []
    lost = [path for path in _vectors(snapshot) if path.name not in _names(path.parent, folders)]
    if lost:
        found.append(f"{snapshot.root.name} lacks {_some(lost, 'deletion vector file')}; {cure_of_files(role)}")
    return found


def _names(folder: Path, known: dict[Path, frozenset[str]]) -> frozenset[str]:
    """The names in a folder; each folder is listed once."""
    if folder not in known:
        try:
            known[folder] = frozenset(entry.name for entry in os.scandir(folder))
        except OSError:
            known[folder] = frozenset()
    return known[folder]


def _vectors(snapshot: Snapshot) -> Iterator[Path]:
    """The distinct files of the vectors."""
    seen: set[object] = set()
    for file in snapshot.files.values():
        if file.deletion_vector is None:
            continue
        descriptor = json.loads(file.deletion_vector)
        place = (descriptor.get("storageType"), descriptor.get("pathOrInlineDv"))
        if place in seen:
            continue
        seen.add(place)
        with suppress(TableError):  # reading it says what is wrong
            path = vector_file(snapshot.root, descriptor)
            if path is not None:
                yield path


def _some(paths: list[Path], kind: str) -> str:
    return f"its {kind} {paths[0].name}" if len(paths) == 1 else f"{len(paths)} {kind}s, such as {paths[0].name}"
