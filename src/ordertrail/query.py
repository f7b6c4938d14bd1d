"""The five tables as DuckDB views in a connection that can read them and nothing else.

Three fences stand one behind the other: only statements that read are let through; DuckDB's access to files is off
but for the tables' own data files; and its settings are locked, so that no statement takes the fences down.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.errors import QueryError
from ordertrail.rules.cells import name_sql, quoted
from ordertrail.rules.tables import TableColumn

if TYPE_CHECKING:
    import pyarrow as pa

READING = "SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN"
"""The statements that `query` takes."""

_EXPLAIN = re.compile(r"\s*EXPLAIN\b\s*(?:ANALYZE\b|\([^)]*\))?", re.IGNORECASE)
_BEFORE_DOT = re.compile(rb"[A-Za-z_]\w*(?=\s*\.)")
_OWN_CATALOG = "memory"
_RESERVED_CATALOGS = frozenset({"memory", "system", "temp"})


class ReadOnlyTables:
    """A locked DuckDB connection with a view for each table.

    A view is found by the table's name, by schema and name, and by all three parts. `close` is the last call.

    Args:
        config: Names, threads and memory.
        tables: Snapshot and columns of each table, by name.
    """

    def __init__(self, config: Config, tables: Mapping[str, tuple[Snapshot, Sequence[TableColumn]]]) -> None:
        self._words = frozenset({config.catalog.lower(), config.schema.lower()})
        self._names = tuple(tables)
        self._con = duckdb.connect()
        try:
            with duckdb_errors("cannot read the tables"):
                self._prepare(config)
                for name, (snapshot, columns) in tables.items():
                    self._show(name, snapshot, columns)
                files = [str(path) for snapshot, _ in tables.values() for path in snapshot.paths]
                self._lock(files)
        except BaseException:
            self._con.close()
            raise

    def read(self, sql: str) -> pa.Table:
        """Run SQL of our own.

        Raises:
            StorageError: A data file cannot be read.
            TableError: Something else is wrong with a table.
        """
        with duckdb_errors("cannot read the tables"):
            return self._con.sql(sql).to_arrow_table()

    def query(self, sql: str) -> pa.Table:
        """Run one statement of the user's.

        Raises:
            QueryError: It does not run, or does something else than read the tables.
        """
        text = self._quote_reserved(sql)
        try:
            self._require_reading(text)
            relation = self._con.sql(text)
            return relation.to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(str(error).strip(), hint=self._hint(error)) from error

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        self._con.close()

    # -- opening --------------------------------------------------------------------------------------------

    def _prepare(self, config: Config) -> None:
        spill = Path(tempfile.gettempdir()) / f"ordertrail-query-{uuid.uuid4().hex}"
        settings = {
            "TimeZone": "'UTC'",
            "memory_limit": f"'{config.memory_limit_mb}MB'",
            "temp_directory": quoted(str(spill)),
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "enable_progress_bar": "false",
        }
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

    def _show(self, name: str, snapshot: Snapshot, columns: Sequence[TableColumn]) -> None:
        listed = ", ".join(name_sql(column.name) for column in columns)
        self._run(f"CREATE VIEW {name_sql(name)} AS SELECT {listed} FROM {scan_sql(self._con, snapshot, columns)}")

    def _lock(self, files: Sequence[str]) -> None:
        self._run(f"SET allowed_paths = [{', '.join(map(quoted, files))}]")
        self._run("SET enable_external_access = false")
        self._run("SET lock_configuration = true")

    def _run(self, sql: str) -> None:
        self._con.execute(sql).fetchall()

    # -- the user's SQL -------------------------------------------------------------------------------------

    def _quote_reserved(self, sql: str) -> str:
        """Quote catalog and schema where they stand before a dot: `default` is a word of SQL."""
        data = sql.encode("utf-8", "replace")
        out, end = b"", len(data)
        for place, _ in reversed(duckdb.tokenize(data.decode())):
            word = _BEFORE_DOT.match(data, place)
            if word and word[0].decode().lower() in self._words:
                out = b'"' + word[0] + b'"' + data[word.end() : end] + out
            else:
                out = data[place:end] + out
            end = place
        return (data[:end] + out).decode()

    def _require_reading(self, sql: str) -> None:
        statements = self._con.extract_statements(sql)
        if len(statements) != 1:
            problem = "there is no SQL" if not statements else "there is more than one statement"
            raise QueryError(problem, hint="give one statement, such as SELECT * FROM " + self._names[0])
        statement = statements[0]
        if statement.type == duckdb.StatementType.SELECT:
            return
        if statement.type == duckdb.StatementType.EXPLAIN and (start := _EXPLAIN.match(statement.query)):
            # EXPLAIN ANALYZE runs what it explains.
            inner = self._con.extract_statements(statement.query[start.end() :])
            if [one.type for one in inner] == [duckdb.StatementType.SELECT]:
                return
        raise QueryError(
            f"{statement.type.name}: the tables are read only, and this statement does more than read",
            hint=f"use {READING}",
        )

    def _hint(self, error: duckdb.Error) -> str:
        match error:
            case duckdb.CatalogException():
                return f"the tables are {', '.join(self._names)}"
            case duckdb.BinderException():
                return f"ordertrail query 'DESCRIBE {self._names[0]}' shows the columns of a table"
            case duckdb.PermissionException():
                return f"a query reads the tables only: {', '.join(self._names)}"
            case duckdb.OutOfMemoryException():
                return "ask for fewer rows, or raise pipeline.memory_limit_mb"
            case duckdb.IOException():
                return "run ordertrail verify: a file of a table may be missing"
            case _:
                return "correct the SQL and try again"
