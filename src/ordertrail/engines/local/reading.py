"""One table for Python: as Arrow, pandas or Polars, or as a lazy relation of DuckDB.

It is read through the Delta log, so rows that a deletion vector marks are left out. Nothing is written or locked.
"""

from __future__ import annotations

import atexit
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.engines.local.held import held
from ordertrail.engines.local.whole import cured, read_whole
from ordertrail.errors import UsageError
from ordertrail.log import Log
from ordertrail.parse.database import connect, connected
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, columns_by_role
from ordertrail.scratch import scratch_folder, sweep_left

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_log = Log()


class TableRows:
    """The rows of one table, as they were when this object was made, in no particular order.

    Times are UTC, decimals stay decimals. A later pass changes nothing here. The data files are read when a method is
    called; they stay for `maintenance.retention_h` after the table has left them behind.

    Args:
        config: Of the pipeline, with the folders of its tables.
        name: The table's name.
        snapshot: What to read.
        columns: Which columns, in order.

    Attributes:
        name: The table's name.
        version: The version of the Delta table.
        columns: The names of its columns.
    """

    def __init__(self, config: Config, name: str, snapshot: Snapshot, columns: Sequence[TableColumn]) -> None:
        self.name = name
        self.version = snapshot.version
        self.columns = tuple(column.name for column in columns)
        self._config = config
        self._snapshot = snapshot
        self._typed = tuple(columns)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, version {self.version}>"

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table.

        Raises:
            TableError: A data file is damaged or gone.
            StorageError: A data file cannot be read.
        """
        with cured(self._config), duckdb_errors(f"cannot read {self.name}"), connected(*self._settings()) as con:
            return con.sql(self._sql(con)).to_arrow_table()

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame: integers and booleans as `Int64`, `Int32` and `boolean`, which have NULL.

        Times are `datetime64[us, UTC]`, decimals `Decimal` and dates `datetime.date`.

        Raises:
            UsageError: pandas is not installed.
            TableError: As `to_arrow`.
            StorageError: As `to_arrow`.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise _missing("pandas") from error
        import pyarrow as pa

        types = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}
        return self.to_arrow().to_pandas(types_mapper=types.get)

    def to_polars(self) -> pl.DataFrame:
        """All rows as a Polars DataFrame.

        Raises:
            UsageError: Polars is not installed.
            TableError: As `to_arrow`.
            StorageError: As `to_arrow`.
        """
        try:
            import polars as pl
        except ImportError as error:
            raise _missing("polars") from error

        return pl.DataFrame(self.to_arrow())

    def scan(self) -> duckdb.DuckDBPyRelation:
        """The rows as a lazy relation of DuckDB, which reads no more columns and rows than are asked of it.

        It has a database in memory of its own, within the config's `memory_limit_mb`; what does not fit there spills to
        a temporary folder. `.filter()`, `.aggregate()`, `.query()` and others narrow it down; `.fetchall()`,
        `.to_arrow_table()`, `.df()` and `.pl()` run it, and their errors are DuckDB's.

        Raises:
            TableError: A deletion vector is damaged or gone.
            StorageError: It cannot be read.
        """
        with cured(self._config), duckdb_errors(f"cannot read {self.name}"):
            con = connect(*self._settings())
            return con.sql(self._sql(con))

    def _settings(self) -> tuple[int, int, Path]:
        return self._config.threads, self._config.memory_limit_mb, _spills() / uuid.uuid4().hex

    def _sql(self, con: duckdb.DuckDBPyConnection) -> str:
        names = ", ".join(map(name_sql, self.columns))
        return f"SELECT {names} FROM {scan_sql(con, self._snapshot, self._typed)}"


def table_rows(config: Config, role: str) -> TableRows:
    """The newest rows of a table.

    Args:
        config: Of the pipeline, with the folders of its tables (`engines.choice.placed`).
        role: One of `rules.losses.ROLES`.

    Raises:
        TableError: No pass has run yet, a table is damaged or lost, or a migration is not finished.
        StorageError: There are no tables although there should be: the disk is not mounted.
        UsageError: Only Spark reaches the tables.
    """
    # From one look at all five, as every command does: what the deliveries name is in the others, too.
    found = read_whole(config)
    holds = held(config, found)
    holds.require_finished()
    if holds.differs:
        _log.warning(holds.differs)
    columns = columns_by_role(holds.config.contract)[role]
    return TableRows(config, getattr(config.tables, role), found[role], columns)


def _missing(library: str) -> UsageError:
    return UsageError(f"{library} is not installed", hint=f"pip install {library}")


@cache
def _spills() -> Path:
    """The folder to which this process spills; lazy relations may live as long as the process."""
    temporary = Path(tempfile.gettempdir())
    sweep_left(temporary, "read")
    closing = ExitStack()
    atexit.register(closing.close)
    return closing.enter_context(scratch_folder(temporary, "read"))
