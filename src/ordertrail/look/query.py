"""The five tables as DuckDB views, in a connection that can read them and nothing else.

There are four barriers: only SQL that reads is accepted; it runs in a read-only transaction; DuckDB may open no files
but the data files of the tables; and its settings are locked, so that no statement can remove the barriers.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb
from msgspec.structs import astuple

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.engines.local.bearers import taken_back
from ordertrail.engines.local.whole import INCIDENTS_ROLE, cure_of_files
from ordertrail.errors import OrdertrailError, QueryError, StorageError, TableError, UnsupportedTableError
from ordertrail.look.as_of import Then, place_sql
from ordertrail.look.at_batch import view_at
from ordertrail.look.reading_sql import require_reading
from ordertrail.look.stoppable import Stoppable
from ordertrail.rules.accepted import RECORDED, lacking_sql, recorded_sql
from ordertrail.rules.losses import ROLES
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn
from ordertrail.scratch import scratch_folder, sweep_left

if TYPE_CHECKING:
    import pyarrow as pa

Result = TypeVar("Result")

_BEFORE_DOT = re.compile(rb"[A-Za-z_]\w*(?=\s*\.)")
_NO_TABLE = re.compile(r"Table with name (\w+) does not exist")
_AFTER_THE_FIRST_ROWS = {"Out of Memory Error": duckdb.OutOfMemoryException, "IO Error": duckdb.IOException}
_OWN_CATALOG = "memory"
_RESERVED_CATALOGS = frozenset({"memory", "system", "temp"})
_PAST = "memory.ordertrail_past"  # of what earlier batches are made from; hidden from SHOW TABLES
_EVER = 1 << 62  # no batch comes after it
_BATCH_ROWS = 2_048  # what DuckDB works on at a time
_CELL_BYTES = 512  # of a cell as a Python value and as text


class ReadOnlyTables:
    """A locked DuckDB connection with a view for each table.

    A view can be addressed by the table's name, by schema and name, and by all three parts. A table that cannot be read
    has no view: a query for it says why, and the others can be read. Call `close` at the end.

    Args:
        config: Names, threads and memory.
        tables: Snapshot and columns of each table, by name.
        batch: The tables as they were after this batch, see `look.as_of`; None means as they are.
        also_at: For each of these batches there are views with the tables as of it, named by `at_batch.view_at`.
        out: The one file that `run` may write.

    Attributes:
        then: Makes SQL of the latest state of keys as it was after the batch; of a target that keeps all rows, also as
            it is. None when the target has that state, or when the history or the deliveries cannot be read.
    """

    def __init__(
        self,
        config: Config,
        tables: Mapping[str, tuple[Snapshot, Sequence[TableColumn]]],
        batch: int | None = None,
        also_at: Sequence[int] = (),
        *,
        out: Path | None = None,
    ) -> None:
        self._words = frozenset({config.catalog.lower(), config.schema.lower()})
        latest = config.appends and {config.tables.history, config.tables.deliveries} <= tables.keys()
        self._names = (*tables, config.current) if latest else tuple(tables)
        self._example = config.tables.target
        self._roles = dict(zip(astuple(config.tables), ROLES, strict=True)) | {config.incidents: INCIDENTS_ROLE}
        self._owners = {str(path): name for name, (snapshot, _) in tables.items() for path in snapshot.paths}
        self._bad: dict[str, OrdertrailError] = {}
        self.then: Then | None = None
        self._memory_limit_mb = config.memory_limit_mb
        temporary = Path(tempfile.gettempdir())
        sweep_left(temporary, "query")
        self._out = out
        self._closing = ExitStack()
        self._spill = self._closing.enter_context(scratch_folder(temporary, "query"))
        self._con = duckdb.connect()
        self._calls = Stoppable(self._con.interrupt)
        try:
            with duckdb_errors("cannot read the tables"):
                self._prepare(config)
                for name, (snapshot, columns) in tables.items():
                    self._show(name, snapshot, columns, past=batch is not None or bool(also_at) or latest)
                if latest and batch is None:
                    self.then = self._latest(config, _EVER, _PAST, str)
                for number in also_at:
                    self._go_back(config, number, partial(view_at, batch=number))
                if batch is not None:
                    self.then = self._go_back(config, batch, str)
                self._lock()
        except BaseException:
            self.close()
            raise

    def read(self, sql: str) -> pa.Table:
        """Run SQL of our own.

        Raises:
            StorageError: A data file cannot be read.
            TableError: Something else is wrong with a table.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        try:
            with duckdb_errors("cannot read the tables"):
                return self._calls.run(lambda: self._con.sql(sql).to_arrow_table())
        except OrdertrailError as error:
            if isinstance(error.__cause__, duckdb.Error) and (bad := self._bad_table(error.__cause__)):
                raise bad from error
            raise

    def query(self, sql: str, *, max_rows: int | None = None, timeout_s: float | None = None) -> tuple[pa.Table, bool]:
        """Run one statement of the user's.

        Args:
            sql: The statement.
            max_rows: Most rows to compute; None means all.
            timeout_s: The statement is stopped after this many seconds; None waits for ever.

        Returns:
            The rows, and whether there are more.

        Raises:
            QueryError: It does not run, does something else than read the tables, takes longer, or its result is
                larger than the memory limit.
            StorageError: A data file cannot be read, or there is no room for what does not fit in memory.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        try:
            text = self._quote_reserved(sql)
        except UnicodeEncodeError as error:
            raise QueryError("the SQL is not UTF-8", hint="correct the SQL and try again") from error
        return self.run(lambda con: self._fetch(con, text, max_rows), timeout_s)

    def run(self, call: Callable[[duckdb.DuckDBPyConnection], Result], timeout_s: float | None = None) -> Result:
        """Run a call that reads the tables with SQL of the user's, in a read-only transaction.

        Args:
            call: Is given the locked connection, and uses it alone.
            timeout_s: As of `query`.

        Raises:
            QueryError: As `query`.
            StorageError: As `query`.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        try:
            return self._calls.run(lambda: self._fenced(call), timeout_s)
        except TimeoutError as error:
            raise QueryError(
                f"the query took longer than {timeout_s:g} s and was stopped",
                hint="narrow it down with WHERE, or give it more time: --timeout SECONDS",
            ) from error
        except MemoryError as error:
            raise self._too_large() from error
        except OSError as error:
            # Errors after the first rows come through Arrow, which turns everything into an OSError.
            message = str(error).strip()
            kind = _AFTER_THE_FIRST_ROWS.get(message.partition(":")[0], duckdb.Error)
            raise self._told(kind(message)) from error
        except duckdb.Error as error:
            raise self._told(error) from error

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if not self._calls.stuck:
            self._con.close()
        self._closing.close()

    # -- opening --------------------------------------------------------------------------------------------

    def _prepare(self, config: Config) -> None:
        settings = {
            "TimeZone": "'UTC'",
            "memory_limit": f"'{config.memory_limit_mb}MB'",
            "temp_directory": quoted(str(self._spill)),
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "enable_progress_bar": "false",
        }
        if self._out is not None:
            settings["preserve_insertion_order"] = "false"  # it would hold rows back
        if config.threads:
            settings["threads"] = str(config.threads)
        for name, value in settings.items():
            self._run(f"SET {name} = {value}")
        catalog = config.catalog
        if catalog.lower() in _RESERVED_CATALOGS:
            catalog = _OWN_CATALOG
        else:
            self._run(f"ATTACH ':memory:' AS {name_sql(catalog)}")
        place = f"{name_sql(catalog)}.{name_sql(config.schema)}"
        self._run(f"CREATE SCHEMA IF NOT EXISTS {place}")
        self._run(f"USE {place}")

    def _show(self, name: str, snapshot: Snapshot, columns: Sequence[TableColumn], *, past: bool) -> None:
        """Make the view of a table, and the one that views of earlier batches are made from."""
        listed = ", ".join(name_sql(column.name) for column in columns)
        try:
            scan = scan_sql(self._con, snapshot, columns)
            if past:
                self._run(f"CREATE SCHEMA IF NOT EXISTS {_PAST}")
                self._run(f"CREATE VIEW {_PAST}.{self._roles[name]} AS FROM {scan}")
            self._run(f"CREATE VIEW {name_sql(name)} AS SELECT {listed} FROM {scan}")
        except UnsupportedTableError as error:
            self._bad[name] = error
        except OrdertrailError as error:
            self._bad[name] = TableError(error.message, hint=cure_of_files(self._roles[name]))
        except duckdb.Error as error:
            if (bad := self._bad_table(error)) is None:
                raise
            self._bad[name] = bad

    def _go_back(self, config: Config, batch: int, view: Callable[[str], str]) -> Then | None:
        """Make views of the tables as they were after a batch.

        Args:
            config: Of the pipeline.
            batch: The last batch that counts.
            view: Gives the name of a table's view; where it is the table's own, that view is replaced.

        Returns:
            How the target's view was made; None when a table that it is made from cannot be read.
        """
        names = config.tables
        then = f"{_PAST}_{batch}"
        self._run(f"CREATE SCHEMA IF NOT EXISTS {then}")
        for role in ("history", "rejects", "deliveries"):
            name = getattr(names, role)
            if (bad := self._bad.get(name)) is not None:
                self._bad[view(name)] = bad
                continue
            number = "_batch" if role == "history" else "batch"
            where = f"WHERE coalesce({number}, 0) <= {batch}"
            self._run(f"CREATE OR REPLACE VIEW {then}.{role} AS FROM {_PAST}.{role} {where}")
            past = f"SELECT * EXCLUDE (_pos) FROM {then}.{role}"
            self._run(f"CREATE OR REPLACE VIEW {name_sql(view(name))} AS {past}")
        self._run(f"DROP VIEW IF EXISTS {name_sql(view(names.stage))}")
        self._run(f"DROP VIEW IF EXISTS {name_sql(view(names.target))}")
        self._run(f"DROP VIEW IF EXISTS {name_sql(view(config.incidents))}")
        for name, what in ((names.stage, "the batch that was staged last"), (config.incidents, "what no batch wrote")):
            self._bad[view(name)] = QueryError(
                f"{name} holds only {what}: it cannot be shown as of batch {batch}",
                hint="ask it as it is now, or ask another table",
            )
        if config.appends and names.target not in self._bad:
            kept = f"SELECT * EXCLUDE (_pos) FROM {_PAST}.target WHERE {recorded_sql(batch)}"
            self._run(f"CREATE OR REPLACE VIEW {name_sql(view(names.target))} AS {kept}")
        return self._latest(config, batch, then, view)

    def _latest(self, config: Config, batch: int, past: str, view: Callable[[str], str]) -> Then | None:
        """Make the view of the latest state of every key: the target's own, or one beside a target that keeps all rows.

        Args:
            config: Of the pipeline.
            batch: The last batch that counts.
            past: The schema with history and deliveries up to it.
            view: As of `_go_back`.

        Returns:
            How it was made; None when a table that it is made from cannot be read.
        """
        names, contract = config.tables, config.contract
        name = view(config.current if config.appends else names.target)
        if (bad := self._bad.get(names.history) or self._bad.get(names.deliveries)) is not None:
            self._bad[name] = bad
            return None
        self._bad.pop(name, None)
        deliveries = f"{past}.deliveries"
        uncounted = taken_back(lambda sql: self._con.execute(sql).fetchall(), deliveries, batch)
        self._run(f"CREATE OR REPLACE TABLE {past}.placed AS {place_sql(deliveries, uncounted)}")
        lacking = self._con.execute(lacking_sql(deliveries, RECORDED)).fetchall()
        absent = tuple(str(name) for (name,) in lacking if name in contract.names)
        made = Then(contract, batch, f"{past}.history", f"{past}.placed", absent, config.appends)
        self._run(f"CREATE OR REPLACE VIEW {name_sql(name)} AS {made.target_sql()}")
        return made

    def _lock(self) -> None:
        paths = [*self._owners, *(() if self._out is None else [str(self._out)])]
        self._run(f"SET allowed_paths = [{', '.join(map(quoted, paths))}]")
        self._run("SET enable_external_access = false")
        self._run("SET lock_configuration = true")

    def _run(self, sql: str) -> None:
        self._con.execute(sql).fetchall()

    # -- the user's SQL -------------------------------------------------------------------------------------

    def _quote_reserved(self, sql: str) -> str:
        """Quote catalog and schema before a dot: `default` is a keyword of SQL."""
        data = sql.encode()
        out, end = b"", len(data)
        for place, _ in reversed(duckdb.tokenize(data.decode())):
            word = _BEFORE_DOT.match(data, place)
            if word and word[0].decode().lower() in self._words:
                out = b'"' + word[0] + b'"' + data[word.end() : end] + out
            else:
                out = data[place:end] + out
            end = place
        return (data[:end] + out).decode()

    def _fenced(self, call: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
        # The views read tables of this connection, so nobody may write to it.
        self._run("BEGIN TRANSACTION READ ONLY")
        try:
            return call(self._con)
        finally:
            with suppress(duckdb.Error):
                self._run("ROLLBACK")

    def _fetch(self, con: duckdb.DuckDBPyConnection, sql: str, max_rows: int | None) -> tuple[pa.Table, bool]:
        import pyarrow as pa

        require_reading(con, sql, self._example)
        with con.sql(sql).to_arrow_reader(_BATCH_ROWS) as found:
            batches: list[pa.RecordBatch] = []
            rows = size_bytes = 0
            for batch in found:
                batches.append(batch)
                rows += batch.num_rows
                size_bytes += batch.nbytes + batch.num_rows * batch.num_columns * _CELL_BYTES
                if size_bytes > self._memory_limit_mb << 20:
                    raise self._too_large()
                if max_rows is not None and rows > max_rows:
                    break
            table = pa.Table.from_batches(batches, found.schema)
        return (table, False) if max_rows is None else (table.slice(0, max_rows), rows > max_rows)

    def _too_large(self) -> QueryError:
        return QueryError(
            f"the result is larger than the memory limit of {self._memory_limit_mb} MB",
            hint="ask for fewer rows or columns, or raise pipeline.memory_limit_mb",
        )

    def _told(self, error: duckdb.Error) -> OrdertrailError:
        """Our error for a failure: of the user's SQL, a file of a table, or the disk."""
        message = str(error).strip()
        if (bad := self._bad_table(error)) is not None:
            return bad
        if isinstance(error, duckdb.IOException):
            return StorageError(f"the query ended: {message}", hint="free disk space, or ask for fewer rows")
        return QueryError(message, hint=self._hint(error))

    def _bad_table(self, error: duckdb.Error) -> OrdertrailError | None:
        """What is wrong with a table, and what cures it; None where the error is of something else."""
        message = str(error).strip().partition("\n")[0]
        missing = _NO_TABLE.search(message)
        if missing and (known := self._bad.get(missing[1].lower())):
            return known
        path = next((path for path in self._owners if path in message), None)
        if path is None:
            return None
        name, gone = self._owners[path], not Path(path).exists()
        what = f"its data file {path} is gone" if gone else message
        return StorageError(f"cannot read {name}: {what}", hint=cure_of_files(self._roles[name]))

    def _hint(self, error: duckdb.Error) -> str:
        match error:
            case duckdb.CatalogException():
                return f"the tables are {', '.join(self._names)}"
            case duckdb.BinderException():
                return f"ordertrail query 'DESCRIBE {self._example}' shows the columns of a table"
            case duckdb.PermissionException():
                return f"a query reads the tables only: {', '.join(self._names)}"
            case duckdb.OutOfMemoryException():
                return "ask for fewer rows, or raise pipeline.memory_limit_mb"
            case _:
                return "correct the SQL and try again"
