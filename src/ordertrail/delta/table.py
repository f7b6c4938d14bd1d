"""One Delta table of ours: create it, read it, add and remove data files in one commit, query it with DuckDB."""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from msgspec import Struct

from ordertrail.arrow import numbers
from ordertrail.delta.actions import (
    PLAIN,
    VECTORS,
    WITH_VECTORS,
    AddFile,
    Json,
    Metadata,
    Txn,
    delta_type,
    schema_string,
)
from ordertrail.delta.checkpoint import sync_checkpoint
from ordertrail.delta.features import append_only
from ordertrail.delta.log import DeltaLog, LogStore, storage_error
from ordertrail.delta.said import FILES, ROWS, commit_info, live_rows, number, user_metadata
from ordertrail.delta.snapshot import MOST_FILES, Snapshot, follow_snapshot, read_snapshot
from ordertrail.delta.statistics import statistics
from ordertrail.delta.vectors import deleted_rows
from ordertrail.durable import fsync_file, fsync_folder
from ordertrail.errors import CommitConflictError, OrdertrailError, StorageError, TableError, UnsupportedTableError
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.change_feed import FEED
from ordertrail.rules.schema import lacking, may_be_added
from ordertrail.rules.sql import DELETED, name_sql, quoted
from ordertrail.rules.tables import APPEND_ONLY, TableColumn

CHANGES = "_change_data"
"""The folder, below a table's own, of files with changes: its name is the format's."""

CHECKPOINT_EVERY = 20
"""Commits between checkpoints; a snapshot replays fewer than this many."""

ROW_BITS = 40
"""A row's position in a snapshot is `file_index << ROW_BITS | file_row_number`."""

_ENGINE_INFO = "ordertrail"
_DATA_FILE = re.compile(r"/[^\"'\n]*?\.parquet")
_OF_ONE_COMMIT = frozenset({"actions", "rows", "files", "app", "batch", "run_id", "deliveries", "step"})
"""Members of a commit's note that concern this commit only; the others are passed on to the next one."""


class Change(Struct, frozen=True):
    """What one commit does to a table.

    Attributes:
        txn: Who commits, and which batch.
        operation: As in `DESCRIBE HISTORY`.
        add: New data files, already in the table's folder.
        remove: Live data files to remove.
        info: Further members of the commit's note (see `said`).
        anew: Whether all rows are written anew, so that earlier notes no longer apply.
        metadata: Schema and properties from this version on; None leaves them.
        feed: Files with the changes of this commit for readers of the change data feed, which then read these alone.
        moves: Whether the rows added are those removed, in other files: readers of changes pass over the commit.
    """

    txn: Txn
    operation: str
    add: Sequence[AddFile] = ()
    remove: Sequence[AddFile] = ()
    info: Mapping[str, Json] | None = None
    anew: bool = False
    metadata: Metadata | None = None
    feed: Sequence[AddFile] = ()
    moves: bool = False


class Table:
    """A Delta table in a local folder.

    Args:
        root: The table's folder.
        columns: The columns that the table must have.
        store: Where commits are written.
        bounded: Names of the columns whose minimum and maximum the log records for each file.
        properties: Properties of the table beside those passed to `create`.
    """

    def __init__(
        self,
        root: Path,
        columns: Sequence[TableColumn],
        store: LogStore | None = None,
        bounded: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.columns = tuple(columns)
        self.log = DeltaLog(root, store)
        self._bounded = tuple(bounded)
        self._properties = dict(properties or {})
        self._newest: Snapshot | None = None

    def create(self, properties: Mapping[str, str], *, vectors: bool = False, feed: bool = False) -> None:
        """Create the table unless it exists.

        Commit 0 is our own: it requires no more of readers than the table needs.

        Args:
            properties: Further properties of the table.
            vectors: Its rows may be marked in deletion vectors; otherwise it is a plain table, of protocol (1, 2).
            feed: Whether its change data feed is on.
        """
        if self.log.exists():
            return
        fields = [(c.name, delta_type(c.type), not c.required) for c in self.columns]
        now_ms = time.time_ns() // 1_000_000
        switches = {name: "true" for name, on in ((VECTORS, vectors), (FEED, feed)) if on}
        held = {**properties, **self._properties, **switches}
        metadata = Metadata(str(uuid.uuid4()), schema_string(fields), (), held, now_ms)
        protocol = WITH_VECTORS if vectors else PLAIN
        protocol = protocol.with_change_feed() if feed else protocol
        info: dict[str, Json] = {"timestamp": now_ms, "operation": "CREATE TABLE", "operationParameters": {}}
        said: dict[str, Json] = {ROWS: 0, FILES: 0}
        info |= {"engineInfo": _ENGINE_INFO, "txnId": str(uuid.uuid4()), "userMetadata": user_metadata(said)}
        try:
            self.log.folder.mkdir(parents=True, exist_ok=True)
            self.log.commit(0, [{"commitInfo": info}, protocol.action(), metadata.action()])
        except CommitConflictError:
            return  # somebody created it meanwhile; `snapshot` checks what it is
        except OSError as error:
            raise storage_error(error, self.root) from error

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The table at a version, None for the newest. A column of ours that may still be added is read as NULL.

        Raises:
            TableError: It is missing, or lacks a column of ours that every release created.
        """
        if version is None:
            snapshot = self.newest()
        elif self._newest is not None and self._newest.version == version:
            snapshot = self._newest
        else:
            snapshot = read_snapshot(self.log, version)
        present = snapshot.metadata.columns
        missing = [c.name for c in lacking(self.columns, present) if not may_be_added(c, present)]
        if missing:
            raise TableError(
                f"the table {self.root.name} has no column {', '.join(missing)}",
                hint="where [contract] was changed, ordertrail migrate says what it takes to change the tables; where "
                "somebody replaced the table, restore it",
            )
        return snapshot

    def newest(self) -> Snapshot:
        """The newest version, whatever its columns. The log is read once; later calls read only new commits.

        Raises:
            TableError: It is missing or its log is damaged.
        """
        known = self._newest
        self._newest = read_snapshot(self.log) if known is None else follow_snapshot(self.log, known)
        return self._newest

    def new_path(self, prefix: str) -> Path:
        """A new, unused data file name."""
        return self.root / f"{prefix}-{uuid.uuid4().hex}.parquet"

    def added(self, path: Path, rows: int, tags: Mapping[str, str] | None = None) -> AddFile:
        """Make a finished data file durable and describe it.

        Args:
            path: In the table's folder.
            rows: Number of its rows.
            tags: For the log.
        """
        try:
            fsync_file(path)
            fsync_folder(path.parent)
            stat = path.stat()
            stats = json.dumps(statistics(path, rows, self._bounded))
        except OSError as error:
            raise storage_error(error, path) from error
        return AddFile(path.name, stat.st_size, stat.st_mtime_ns // 1_000_000, stats, None, tags or {})

    def new_change_path(self, prefix: str) -> Path:
        """A new, unused name of a file with changes; makes the folder of these files.

        Raises:
            StorageError: The folder cannot be made.
        """
        folder = self.root / CHANGES
        try:
            folder.mkdir(exist_ok=True)
            fsync_folder(self.root)
        except OSError as error:
            raise storage_error(error, folder) from error
        return folder / f"cdc-{prefix}-{uuid.uuid4().hex}.parquet"

    def added_changes(self, path: Path) -> AddFile:
        """Make a finished file with changes durable and describe it.

        Args:
            path: From `new_change_path`.
        """
        try:
            fsync_file(path)
            fsync_folder(path.parent)
            stat = path.stat()
        except OSError as error:
            raise storage_error(error, path) from error
        return AddFile(f"{CHANGES}/{path.name}", stat.st_size, stat.st_mtime_ns // 1_000_000)

    def commit(self, base: Snapshot, change: Change) -> int:
        """Write one commit on top of a snapshot, as exactly the next version.

        Returns:
            The new version.

        Raises:
            CommitConflictError: Somebody else took the version; nothing was written.
            CommitUnknownError: As in `DeltaLog.commit`.
            UnsupportedTableError: The table has a feature we do not write to.
        """
        base.require_writable()
        if change.remove and not change.moves and append_only(base.metadata):
            raise UnsupportedTableError(
                f"{self.root.name} is append only, so no row of it can be changed or removed; it was not touched",
                hint=f"ALTER TABLE ... UNSET TBLPROPERTIES ('{APPEND_ONLY}') would allow it to everybody",
            )
        now_ms = time.time_ns() // 1_000_000
        before: Mapping[str, Json] = {ROWS: 0, FILES: 0} if change.anew else base.said
        said = said_after(before, base, change.add, () if change.anew else change.remove)
        said |= {"app": change.txn.app_id, "batch": change.txn.version, **(change.info or {})}
        mode: dict[str, Json] = {"mode": "Overwrite" if change.remove else "Append"}
        info = commit_info(now_ms, change.operation, mode, base.version, blind=not change.remove, said=said)
        actions: list[dict[str, Json]] = [{"commitInfo": info}]
        if change.metadata is not None:
            actions.append(change.metadata.action())
        actions.append(change.txn.action())
        actions += [file.remove(now_ms, data_change=not change.moves) for file in change.remove]
        actions += [file.add(data_change=not change.moves) for file in change.add]
        actions += [file.cdc() for file in change.feed]
        self.log.commit(base.version + 1, actions)
        return base.version + 1

    def version_of(self, txn_app_id: str, txn_version: int) -> int | None:
        """The table version whose commit carries this `txn`; None when none of the remaining commits does."""
        for version, actions in self.log.backwards():
            for action in actions:
                txn = action.get("txn")
                if isinstance(txn, dict) and (txn.get("appId"), txn.get("version")) == (txn_app_id, txn_version):
                    return version
        return None

    def checkpoint_if_due(self, version: int) -> None:
        """Write a checkpoint every CHECKPOINT_EVERY commits; a lost one costs only time."""
        if version % CHECKPOINT_EVERY:
            return
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        # The commit is done: a full disk must not turn it into a failed pass.
        with suppress(DeltaError, OSError):
            DeltaTable(self.root, version=version).create_checkpoint()
            sync_checkpoint(self.log, version)


def said_after(
    said: Mapping[str, Json], base: Snapshot, add: Sequence[AddFile], remove: Sequence[AddFile]
) -> dict[str, Json]:
    """The note of a commit: the note before it, brought up to date.

    Args:
        said: The note before; missing counts are taken from the snapshot.
        base: The table that the commit is based on.
        add: Data files that it adds.
        remove: Data files that it removes.
    """
    files, rows = number(said, FILES), number(said, ROWS)
    if files is None:
        files = len(base.files)
    if rows is None and len(base.files) <= MOST_FILES:
        rows = base.live_rows
    after: dict[str, Json] = {name: value for name, value in said.items() if name not in _OF_ONE_COMMIT}
    after[FILES] = files + len(add) - len(remove)
    come, gone = live_rows(add), live_rows(remove)
    if rows is not None and come is not None and gone is not None:
        after[ROWS] = rows + come - gone
    return after


def scan_sql(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, columns: Iterable[TableColumn]) -> str:
    """SQL of a relation with a snapshot's live rows: the given columns, and `_pos`, a BIGINT unique in the snapshot.

    Columns are found by name; a file without one has NULL there. Rows that a deletion vector marks are left out.

    Args:
        con: An in-memory database; it gets a table of the deleted rows, with a name derived from these files.
        snapshot: What to read.
        columns: Which columns, in order.
    """
    snapshot.require_readable()
    wanted = list(columns)
    empty = "SELECT " + ", ".join(f"CAST(NULL AS {sql_type(c.type)}) AS {name_sql(c.name)}" for c in wanted)
    empty += ", CAST(NULL AS BIGINT) AS _pos WHERE false"
    if not snapshot.files:
        return f"({empty})"
    files = ", ".join(quoted(str(path)) for path in snapshot.paths)
    scan = (
        f"SELECT *, (CAST(file_index AS BIGINT) << {ROW_BITS}) | file_row_number AS _pos "
        f"FROM read_parquet([{files}], union_by_name = true)"
    )
    if snapshot.has_deletion_vectors:
        # Not NOT IN: for that DuckDB first computes a mark for every row, which costs three times as much.
        scan = f"SELECT * FROM ({scan}) t ANTI JOIN {_deleted_table(con, snapshot)} d ON t._pos = d.pos"
    names = ", ".join(f"CAST({name_sql(c.name)} AS {sql_type(c.type)}) AS {name_sql(c.name)}" for c in wanted)
    return f"(SELECT {names}, _pos FROM ({scan} UNION ALL BY NAME {empty}))"


def _deleted_table(con: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> str:
    """The name of a DuckDB table with the positions that deletion vectors mark; column `pos`.

    Positions depend on the files and their order, so the name determines the content. The table is in a schema of its
    own, hidden from `SHOW TABLES`.
    """
    content = [str(snapshot.root), *((file.path, file.deletion_vector) for file in snapshot.files.values())]
    name = f"deleted_{hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()}"
    place = f"{DELETED}.{name}"
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {DELETED}").fetchall()
    with suppress(duckdb.CatalogException):
        con.execute(f"FROM {place} LIMIT 0").fetchall()  # a query of duckdb_tables() takes 15 ms
        return place
    found = [np.empty(0, dtype=np.int64)]
    for index, file in enumerate(snapshot.files.values()):
        if file.deletion_vector is not None:
            found.append((np.int64(index) << ROW_BITS) | deleted_rows(snapshot.root, file))
    con.register(name, pa.table({"pos": numbers(np.concatenate(found))}))
    con.execute(f"CREATE TABLE {place} AS FROM {name}").fetchall()
    con.unregister(name)
    return place


_MISSING = ("No such file", "No files found")
"""What DuckDB says of a file that it was to read and that is gone."""


@contextmanager
def duckdb_errors(doing: str) -> Iterator[None]:
    """Translate the errors of DuckDB, and those of the operating system, into ours.

    Args:
        doing: What was going on, to begin the message with.
    """
    try:
        yield
    except OrdertrailError:
        raise
    except duckdb.OutOfMemoryException as error:
        raise StorageError(
            f"{doing}: {_first_line(error)}", hint="raise pipeline.memory_limit_mb or free disk space, then run again"
        ) from error
    except (duckdb.IOException, FileNotFoundError) as error:
        if (path := _bad_file(error)) is not None:
            raise _bad_file_error(doing, path) from error
        raise StorageError(f"{doing}: {_first_line(error)}", hint="see to the disk, then run again") from error
    except OSError as error:
        # Arrow raises it for files that it writes itself.
        reason = error.strerror or _first_line(error)
        raise StorageError(f"{doing}: {reason}", hint="check the disk, then run again; nothing is lost") from error
    except duckdb.Error as error:
        if (path := _bad_file(error)) is not None:
            raise _bad_file_error(doing, path) from error
        # An error that names a data file is about that file. Any other is the engine's own: the tables do not explain
        # it.
        damaged = ".parquet" in str(error)
        hint = (
            "run ordertrail verify"
            if damaged
            else "run again; if the error persists, please report it with this message"
        )
        raise TableError(f"{doing}: {_first_line(error)}", hint=hint) from error


def _bad_file(error: Exception) -> Path | None:
    """The data file that an error is about, when it is missing or no Parquet file; None if it may be readable later."""
    named = _DATA_FILE.search(f"{getattr(error, 'filename', '') or ''} {error}")
    if named is None:
        return None
    path = Path(named[0])
    if isinstance(error, duckdb.InvalidInputException):
        return path
    # A file that could not be written because the disk is full is missing, too.
    missing = isinstance(error, FileNotFoundError) or any(words in str(error) for words in _MISSING)
    return path if missing and not path.exists() else None


def _bad_file_error(doing: str, path: Path) -> TableError:
    what = "is damaged" if path.exists() else "is not there"
    return TableError(
        f"{doing}: the data file {path.name} of {path.parent.name} {what}",
        hint="ordertrail verify names all damaged or missing files and how to repair them",
        path=path,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
