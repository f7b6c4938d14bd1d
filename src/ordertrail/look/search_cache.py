"""The search cache: sorted terms of the rows of target and history, so that a shipment is found without a scan.

It is a folder of immutable runs below the warehouse. A run is a Parquet file with the terms of one kind (see `terms`)
of some data files, each with the file and the row that it is of, in the order of the terms; its metadata names the data
files. A search for a term, or for what begins with it, reads one range of each run.

No promise rests on it. A term counts only if its data file is live and its row not in that file's deletion vector, and
live files that no run covers are read whenever somebody searches. So a run may be missing, old or of another table:
that costs time, never a shipment. `refresh` writes what is missing; several processes may do so at the same time.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.delta.actions import AddFile
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors
from ordertrail.durable import move_durably
from ordertrail.engines.choice import placed
from ordertrail.engines.local.find import physical_rows
from ordertrail.engines.local.held import held
from ordertrail.engines.local.whole import read_whole
from ordertrail.look.sorted_terms import COLUMNS, SortedTerms
from ordertrail.look.terms import Kind, fingerprint, kinds_of
from ordertrail.model import Contract, Probe, no_probe
from ordertrail.parse.database import connected
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.scratch import scratch_folder

if TYPE_CHECKING:
    import duckdb

FOLDER = ".ordertrail-search"
"""Folder of the cache, below the warehouse. It may be deleted at any time."""

BUILD_MEMORY_MB = 256
"""Memory of the database that sorts terms, in MB; what does not fit spills."""

RUN_ROWS = 20_000_000
"""Terms are sorted together up to so many rows; it bounds what spills."""

DEAD_SHARE = 0.25
"""A run with a larger share of rows of files that are no longer live is written anew."""

YOUNG_S = 600.0
"""A temporary file younger than this may still be written."""

_SUFFIX = ".terms.parquet"
_NOTE = "ordertrail.terms"
_GROUP_ROWS = 20_480  # what one search has to unpack at least


class Run(Struct, frozen=True):
    """Sorted terms of some data files.

    Attributes:
        path: The file.
        kind: The name of the kind.
        fingerprint: See `terms.fingerprint`.
        files: Path in the log, size in bytes and rows of each data file, in the order of their numbers in the run.
        terms: What is in it.
    """

    path: Path
    kind: str
    fingerprint: str
    files: tuple[tuple[str, int, int], ...]
    terms: SortedTerms

    @property
    def rows(self) -> int:
        """Rows of all its data files."""
        return sum(rows for _, _, rows in self.files)


class SearchCache:
    """The runs that are there. Opening never fails: what cannot be read is not there.

    Args:
        config: Of the pipeline, with the folders of its tables.
    """

    def __init__(self, config: Config) -> None:
        self.folder = config.warehouse / FOLDER / f"{config.catalog}.{config.schema}.{config.tables.target}"
        self._known: dict[Path, Run | None] = {}

    def runs(self, kind: Kind, snapshot: Snapshot, contract: Contract) -> list[Run]:
        """The runs of one kind of terms of a table; each live data file is answered for by at most one of them.

        Args:
            kind: Which terms.
            snapshot: Of its table.
            contract: Of the pipeline.
        """
        wanted = fingerprint(kind, snapshot, contract)
        there = [run for run in self._there() if run.kind == kind.name and run.fingerprint == wanted]
        found, answered = [], set[str]()
        for run in sorted(there, key=lambda run: (run.rows, run.path.name), reverse=True):
            new = {path for path, size, _ in run.files if _lives(snapshot, path, size)} - answered
            if new:
                found.append(run)
                answered |= new
        return found

    def forget(self, run: Run) -> None:
        """Stop using a run that cannot be read, and remove it."""
        self._known[run.path] = None
        with suppress(OSError):
            run.path.unlink()

    def _there(self) -> list[Run]:
        try:
            paths = [path for path in self.folder.iterdir() if path.name.endswith(_SUFFIX)]
        except OSError:
            return []
        self._known = {path: self._known[path] if path in self._known else _opened(path) for path in paths}
        return [run for run in self._known.values() if run is not None]


def uncovered(kind_runs: Iterable[Run], snapshot: Snapshot) -> list[AddFile]:
    """The live data files that no run covers.

    Args:
        kind_runs: Of one kind.
        snapshot: Of its table.
    """
    known = {(path, size) for run in kind_runs for path, size, _ in run.files}
    return [file for file in snapshot.files.values() if (file.path, file.size_bytes) not in known]


def terms_sql(snapshot: Snapshot, kind: Kind, contract: Contract, files: Sequence[AddFile], where: str = "true") -> str:
    """SQL of the terms of rows of some data files, whether a vector marks them or not; the term may be NULL.

    The columns are `term`, `file` (the place in `files`) and `row`, the row in that file, 0 = first.

    Args:
        snapshot: Locates the files.
        kind: Which terms.
        contract: Of the pipeline.
        files: The data files, at least one.
        where: SQL over the columns of the kind that is true of the rows that matter.
    """
    types = {column.name: sql_type(column.type) for column in contract.columns}
    paths = ", ".join(quoted(str(snapshot.path_of(file))) for file in files)
    nothing = ", ".join(f"CAST(NULL AS {types[name]}) AS {name_sql(name)}" for name in kind.columns)
    cells = ", ".join(f"CAST({name_sql(name)} AS {types[name]}) AS {name_sql(name)}" for name in kind.columns)
    return (
        f"(SELECT {kind.sql} AS term, CAST(file_index AS INTEGER) AS file, CAST(file_row_number AS BIGINT) AS row FROM "
        f"(SELECT {cells}, file_index, file_row_number FROM (SELECT *, file_index, file_row_number "
        f"FROM read_parquet([{paths}], union_by_name = true) UNION ALL BY NAME SELECT {nothing} WHERE false)) "
        f"WHERE {where})"
    )


def refresh(config: Config, *, threads: int = 1, probe: Probe = no_probe) -> int:
    """Write the terms that are missing, and remove what is of no use any more. Does not disturb searches or passes.

    A run that is not much larger than what is missing is written anew together with it, so that there are few runs,
    and every row is sorted few times.

    Args:
        config: Of the pipeline.
        threads: Of the database that sorts.
        probe: Called after each effect.

    Returns:
        The number of runs written.

    Raises:
        TableError: There are no tables, or one is damaged.
        StorageError: The disk is full or failing; the cache is as good as before.
    """
    asked = placed(config)
    snapshots = read_whole(asked)
    config = held(asked, snapshots).config
    cache, written = SearchCache(config), 0
    with scratch_folder(Path(tempfile.gettempdir()), "read") as spill, duckdb_errors("cannot sort the terms"):
        cache.folder.mkdir(parents=True, exist_ok=True)
        for kind in kinds_of(config.contract):
            snapshot = snapshots[kind.role]
            runs = cache.runs(kind, snapshot, config.contract)
            files, replaced = _to_write(runs, snapshot)
            with connected(threads, BUILD_MEMORY_MB, spill) as con:
                for part in _parts(snapshot, files):
                    _write(con, cache.folder, kind, snapshot, config.contract, part, probe)
                    written += 1
            _remove(cache, kind, [run for run in runs if run not in replaced], probe)
    return written


def _to_write(runs: Sequence[Run], snapshot: Snapshot) -> tuple[list[AddFile], list[Run]]:
    """The data files of the next run, and the runs in whose place it comes."""
    stays = [run for run in runs if _dead_rows(run, snapshot) <= DEAD_SHARE * run.rows]
    files = uncovered(stays, snapshot)
    rows = sum(physical_rows(snapshot, file) for file in files)
    replaced = [run for run in runs if run not in stays]
    for run in sorted(stays, key=lambda run: run.rows) if files else ():
        if run.rows > 2 * rows:
            break
        files += [snapshot.files[path] for path, size, _ in run.files if _lives(snapshot, path, size)]
        rows += run.rows
        replaced.append(run)
    return list({file.path: file for file in files}.values()), replaced


def _parts(snapshot: Snapshot, files: Sequence[AddFile]) -> list[list[AddFile]]:
    """The data files of each run: no more than `RUN_ROWS` together, but for a single larger one."""
    parts: list[list[AddFile]] = []
    rows = RUN_ROWS
    for file in files:
        size = physical_rows(snapshot, file)
        if rows + size > RUN_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(file)
        rows += size
    return parts


def _write(
    con: duckdb.DuckDBPyConnection,
    folder: Path,
    kind: Kind,
    snapshot: Snapshot,
    contract: Contract,
    files: Sequence[AddFile],
    probe: Probe,
) -> None:
    listed = [[file.path, file.size_bytes, physical_rows(snapshot, file)] for file in files]
    note = json.dumps({"kind": kind.name, "fingerprint": fingerprint(kind, snapshot, contract), "files": listed})
    temporary = folder / f"{kind.name}-{uuid.uuid4().hex}.tmp"
    try:
        terms = f"FROM {terms_sql(snapshot, kind, contract, files)} WHERE term IS NOT NULL ORDER BY term"
        con.execute(
            f"COPY ({terms}) TO {quoted(str(temporary))} "
            f"(FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE {_GROUP_ROWS}, "
            f"KV_METADATA {{{quoted(_NOTE)}: {quoted(note)}}})"
        ).fetchall()
        probe("search.sorted")
        move_durably(temporary, temporary.with_suffix(_SUFFIX), replace=True)
        probe("search.moved")
    finally:
        temporary.unlink(missing_ok=True)


def _remove(cache: SearchCache, kind: Kind, keep: Iterable[Run], probe: Probe) -> None:
    """Remove the runs of a kind that no longer answer, and what killed writers left."""
    new = {run.path for run in keep}
    now_s = time.time()
    for path in list(cache.folder.glob(f"{kind.name}-*")):
        with suppress(OSError):
            young = path.stat().st_mtime > now_s - YOUNG_S
            if path not in new and (not young or path in cache._known):
                path.unlink()
                probe("search.removed")


def _dead_rows(run: Run, snapshot: Snapshot) -> int:
    return sum(rows for path, size, rows in run.files if not _lives(snapshot, path, size))


def _lives(snapshot: Snapshot, path: str, size_bytes: int) -> bool:
    file = snapshot.files.get(path)
    return file is not None and file.size_bytes == size_bytes


def _opened(path: Path) -> Run | None:
    """The run in a file; None when there is none that can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
        note = json.loads((footer.metadata or {})[_NOTE.encode()])
        files = tuple((str(name), int(size), int(rows)) for name, size, rows in note["files"])
        if tuple(footer.schema.names) != COLUMNS:
            return None
        return Run(path, str(note["kind"]), str(note["fingerprint"]), files, SortedTerms(path, footer))
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):
        return None
