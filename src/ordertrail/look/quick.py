"""Quick looks at the tables: one database for all of them, and no view that has to be opened first.

A command looks once, through `look.status.Reader`. A process that shows pages looks all the time, and each commit makes
new snapshots: to open all tables for each would take longer than a page may. `QuickTables` keeps one database; a look
at new snapshots is new SQL text for it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import duckdb

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.engines.local.whole import cured
from ordertrail.parse.database import connect, release
from ordertrail.rules.tables import columns_by_role
from ordertrail.scratch import scratch_folder, sweep_left

if TYPE_CHECKING:
    import pyarrow as pa

THREADS = 1
"""How many threads a query has: most read one row group, which several cannot share, and passes need some, too."""

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

    def relation(self, role: str) -> str:
        """SQL of a relation with the live rows of a table.

        Args:
            role: One of `rules.losses.ROLES`.

        Raises:
            TableError: A deletion vector is damaged or gone.
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
        self, con: duckdb.DuckDBPyConnection, lock: threading.Lock, config: Config, snapshots: Mapping[str, Snapshot]
    ) -> None:
        self.config = config
        self.snapshots = snapshots
        self._con = con
        self._lock = lock
        self._columns = columns_by_role(config.contract)
        self._relations: dict[str, str] = {}
        self._opening = threading.Lock()

    def relation(self, role: str) -> str:
        """See `Look.relation`."""
        with self._opening:
            if role not in self._relations:
                with cured(self.config), duckdb_errors("cannot read the tables"), self._cursor() as cursor:
                    self._relations[role] = scan_sql(cursor, self.snapshots[role], self._columns[role])
            return self._relations[role]

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
    """

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        self._closing = ExitStack()
        self._spill: Path | None = None
        self._con: duckdb.DuckDBPyConnection | None = None
        self._looks = 0

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
                self._con = connect(THREADS, min(self._memory_mb, config.memory_limit_mb), self._folder())
                self._con.execute(_GIVING_BACK).fetchall()
            return QuickLook(self._con, self._lock, config, snapshots)

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
