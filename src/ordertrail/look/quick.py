"""Quick looks at the tables: one database for all of them, and no view that has to be opened first.

A command looks once, through `look.status.Reader`. A process that shows pages looks all the time, and each commit makes
new snapshots: to open all tables for each would take longer than a page may. `QuickTables` keeps one database; a look
at new snapshots is new SQL text for it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import duckdb

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.engines.local.whole import cured
from ordertrail.parse.database import connect, release
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import columns_by_role
from ordertrail.scratch import scratch_folder, sweep_left

if TYPE_CHECKING:
    import pyarrow as pa

THREADS = 1
"""How many threads a query of a page has: most read one row group, which cannot be shared; passes need some, too."""

_GIVING_BACK = "SET GLOBAL allocator_background_threads = true"
"""What queries no longer need goes back to the system a second later: DuckDB's allocator would hold 20 MB. To give it
back after each query would cost a query a third more."""

RENEW_AFTER = 16
"""After looks at so many states of the tables another database takes over: it frees the deleted rows of old ones."""


class Look(Protocol):
    """The tables at one moment. `status.Reader` and `QuickLook` are looks."""

    @property
    def config(self) -> Config:
        """With the contract that the tables carry."""
        ...

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """Of the five tables, by role."""
        ...

    def relation(self, role: str, names: Sequence[str] | None = None) -> str:
        """SQL of a relation with the live rows of a table, and `_pos` as `delta.table.scan_sql` has it.

        Args:
            role: One of `rules.losses.ROLES`.
            names: Only these columns: DuckDB plans a query of few columns in less time. None for all.

        Raises:
            TableError: A deletion vector is damaged or gone.
        """
        ...

    def columns_in(self, files: Sequence[str]) -> set[str]:
        """The columns that any of some data files has, in lower case.

        Args:
            files: Their paths.

        Raises:
            StorageError: One cannot be read.
            TableError: Something else is wrong with it.
        """
        ...

    def read(self, sql: str) -> pa.Table:
        """Run SQL of our own over relations of the tables.

        Raises:
            StorageError: A data file cannot be read.
            TableError: Something else is wrong with a table.
        """
        ...


class QuickLook:
    """A look through the database that `QuickTables` keeps. Threads may share it.

    Attributes:
        config: With the contract that the tables carry.
        snapshots: Of the five tables, by role.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lock: threading.Lock,
        config: Config,
        snapshots: Mapping[str, Snapshot],
        names: dict[str, set[str]],
    ) -> None:
        self.config = config
        self.snapshots = snapshots
        self._con = con
        self._lock = lock
        self._columns = columns_by_role(config.contract)
        self._relations: dict[tuple[str, tuple[str, ...] | None], str] = {}
        self._opening = threading.Lock()
        self._names = names

    def relation(self, role: str, names: Sequence[str] | None = None) -> str:
        """See `Look.relation`."""
        key = role, None if names is None else tuple(names)
        with self._opening:
            if key not in self._relations:
                columns = [column for column in self._columns[role] if names is None or column.name in names]
                with cured(self.config), duckdb_errors("cannot read the tables"), self._cursor() as cursor:
                    self._relations[key] = scan_sql(cursor, self.snapshots[role], columns)
            return self._relations[key]

    def columns_in(self, files: Sequence[str]) -> set[str]:
        """See `Look.columns_in`."""
        if missing := [file for file in files if file not in self._names]:
            listed = ", ".join(map(quoted, missing))
            found = self.read(f"SELECT file_name, lower(name) AS name FROM parquet_schema([{listed}])")
            names: dict[str, set[str]] = {file: set() for file in missing}
            for file, name in zip(found["file_name"].to_pylist(), found["name"].to_pylist(), strict=True):
                names[file].add(name)
            self._names.update(names)
        return set().union(*(self._names[file] for file in files))

    def read(self, sql: str) -> pa.Table:
        """See `Look.read`."""
        with cured(self.config), duckdb_errors("cannot read the tables"), self._cursor() as cursor:
            # Settings of a connection: a cursor does not have those of the one that it comes from.
            cursor.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
            return cursor.sql(sql).to_arrow_table()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:  # a connection refuses what another thread asks of it meanwhile
            return self._con.cursor()


class QuickTables:
    """Keeps one database for looks at the tables. Safe to use by several threads; call `close` at the end.

    Args:
        memory_mb: Most memory of the database, in MB; less where the config says so. What does not fit spills.
        threads: How many a query has; 0 means all cores.
    """

    def __init__(self, memory_mb: int, threads: int = THREADS) -> None:
        self._memory_mb = memory_mb
        self._threads = threads
        self._lock = threading.Lock()
        self._closing = ExitStack()
        self._spill: Path | None = None
        self._con: duckdb.DuckDBPyConnection | None = None
        self._looks = 0
        self._names: dict[str, set[str]] = {}

    def look(self, config: Config, snapshots: Mapping[str, Snapshot]) -> QuickLook:
        """A look at one state of the tables.

        Args:
            config: With the contract that the tables carry.
            snapshots: Of the five tables, by role.
        """
        with self._lock:
            self._looks += 1
            if self._con is None or self._looks % RENEW_AFTER == 0:
                # The one before is not closed: a look may be at work with it. It goes with the last of these.
                self._con = connect(self._threads, min(self._memory_mb, config.memory_limit_mb), self._folder())
                self._con.execute(_GIVING_BACK).fetchall()
                self._names = {}  # of data files, which never change; those that are gone go with the database
            return QuickLook(self._con, self._lock, config, snapshots, self._names)

    def close(self) -> None:
        """Release all resources. Idempotent."""
        with self._lock:
            con, self._con, self._spill = self._con, None, None
            if con is not None:
                with suppress(duckdb.Error):  # a look that nobody waits for any more is still at work
                    release(con)
            self._closing.close()

    def _folder(self) -> Path:
        if self._spill is None:
            temporary = Path(tempfile.gettempdir())
            sweep_left(temporary, "read")
            self._spill = self._closing.enter_context(scratch_folder(temporary, "read"))
        return self._spill
