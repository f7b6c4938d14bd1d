"""Writes the rows of a table to a file: CSV, Parquet or a spreadsheet.

Nobody ever sees a part of a file under its name: it is written in a folder beside it and moved when it is complete and
on the disk. That folder is deleted even after a kill, by the next export to the same place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import duckdb
from msgspec import Struct
from msgspec.structs import astuple

from ordertrail.config import Config
from ordertrail.delta.log import storage_error
from ordertrail.delta.snapshot import Snapshot
from ordertrail.durable import move_durably
from ordertrail.engines.choice import placed
from ordertrail.engines.local.held import held
from ordertrail.engines.local.incidents import incident_snapshot
from ordertrail.engines.local.whole import INCIDENTS_ROLE, places_of, read_whole
from ordertrail.errors import QueryError, StorageError, UsageError
from ordertrail.look.as_of import moment
from ordertrail.look.query import ReadOnlyTables
from ordertrail.look.reading_sql import require_condition, where_sql
from ordertrail.look.spreadsheet import require_library, write_spreadsheet
from ordertrail.model import Contract, Probe, no_probe
from ordertrail.rules.losses import ROLES
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import INCIDENTS, TableColumn, columns_by_role
from ordertrail.scratch import scratch_folder, sweep_left

FORMATS = (".csv", ".parquet", ".xlsx")
"""The endings of a file's name, each of which says its format."""

_Tables: TypeAlias = "Mapping[str, tuple[Snapshot, Sequence[TableColumn]]]"

_SHOWN_CHARS = 200
"""So much of a condition a message repeats."""


class Exported(Struct, frozen=True):
    """What was written.

    Attributes:
        table: The table's configured name.
        rows: How many rows.
        batch: The last batch that they are of; None means the newest.
        path: The file.
        size_bytes: Of the file.
        differs: What differs between the contract of the tables, which the file follows, and that of the config; or "".
    """

    table: str
    rows: int
    batch: int | None
    path: Path
    size_bytes: int
    differs: str = ""


def export(
    config: Config,
    table: str,
    path: Path,
    *,
    where: str | None = None,
    as_of: int | datetime | None = None,
    force: bool = False,
    probe: Probe = no_probe,
) -> Exported:
    """Write the rows of a table, in no particular order, to a new file.

    Args:
        config: Of the pipeline.
        table: `target`, `history`, `deliveries`, `rejects`, `stage`, or the configured name of one of them; and
            `current`, the latest state of every key.
        path: The file; its ending is one of `FORMATS`.
        where: DuckDB's SQL of the condition that rows must meet; None means all rows.
        as_of: The rows as they were after this batch, or at this aware time, see `look.as_of`; None means now. Not for
            the stage.
        force: Whether to replace a file that is there.
        probe: Called after each effect; for fault tests.

    Raises:
        UsageError: There is no such table or format, the file is there, its folder is not or is one of the pipeline's,
            a library is missing, no batch was done by then, or the rows do not fit into a spreadsheet.
        QueryError: The condition does not run, or is more than an expression that reads.
        StorageError: The file cannot be written, or a data file cannot be read.
        TableError: A table is damaged, or missing.
    """
    name, role = _relation(config, table)
    config = placed(config)
    require_free(config, path, FORMATS, force=force)
    write = _WRITERS[path.suffix.lower()]
    if path.suffix.lower() == ".xlsx":
        require_library()
    found = read_whole(config)
    holds = held(config, found)
    holds.require_finished()
    config = holds.config
    columns = columns_by_role(config.contract)
    names = dict(zip(ROLES, astuple(config.tables), strict=True))
    tables = {names[one]: (found[one], columns[one]) for one in ROLES}
    if role == INCIDENTS_ROLE:
        tables[name] = _incidents(config), INCIDENTS
        columns[role] = INCIDENTS
    batch = None if as_of is None else _batch(config, tables, as_of)
    with (
        complete_file(path, "export", probe, force=force) as part,
        closing(ReadOnlyTables(config, tables, batch, out=part)) as opened,
    ):
        selected = _Selected(name, columns[role], where, config.contract, part)
        rows = _run(opened, selected, write)
    return Exported(name, rows, batch, path, path.stat().st_size, holds.differs)


@contextmanager
def complete_file(path: Path, name: str, probe: Probe, *, force: bool) -> Iterator[Path]:
    """Within: where to write a file, which gets its own name when the block ends without an error.

    Args:
        path: The file's own name.
        name: Of the effects that the probe is told: `<name>.written` and `<name>.moved`.
        probe: Called after each of them.
        force: Whether to replace a file that is there.

    Raises:
        UsageError: The file is there.
        StorageError: The folder or the file cannot be written.
    """
    sweep_left(path.parent, "export")
    with scratch_folder(path.parent, "export") as folder:
        if not folder.is_dir():
            raise StorageError(f"cannot write into {path.parent}", hint="give a folder that you may write to")
        part = folder / f"part{path.suffix.lower()}"
        yield part
        probe(f"{name}.written")
        try:
            if force and path.is_file():
                part.chmod(path.stat().st_mode & 0o777)  # who may read it does not change
            move_durably(part, path, replace=force)
        except FileExistsError as error:
            raise _taken(path) from error
        except OSError as error:
            raise storage_error(error, path) from error
        probe(f"{name}.moved")


# -- before anything is read ------------------------------------------------------------------------------------------


def _relation(config: Config, table: str) -> tuple[str, str]:
    """The name of the table or view to read, and the role of the table that has its columns."""
    roles = dict(zip(astuple(config.tables), ROLES, strict=True))
    if table in ("current", config.current if config.appends else "current"):
        return config.current if config.appends else config.tables.target, "target"
    if table in (INCIDENTS_ROLE, config.incidents):
        return config.incidents, INCIDENTS_ROLE
    role: str = roles.get(table, table)
    if role not in ROLES:
        known = ", ".join(("target", "current", "history", "deliveries", "rejects", "stage", INCIDENTS_ROLE, *roles))
        raise UsageError(f"there is no table {table!r}", hint=f"give one of: {known}")
    return getattr(config.tables, role), role


def _incidents(config: Config) -> Snapshot:
    found = incident_snapshot(config)
    if found is None:
        raise UsageError("there are no incidents yet", hint="their table is made when the first one opens")
    return found


def _batch(config: Config, tables: _Tables, as_of: int | datetime) -> int:
    """The last batch of a moment."""
    name = config.tables.deliveries
    with closing(ReadOnlyTables(config, {name: tables[name]})) as opened:
        return moment(opened.read, name_sql(name), as_of).batch


def require_free(config: Config, path: Path, formats: Sequence[str], *, force: bool) -> None:
    """Refuse a file that cannot or must not be written.

    Args:
        config: Of the pipeline, with the folders of its tables.
        path: The file.
        formats: The endings that its name may have.
        force: Whether it may be there.

    Raises:
        UsageError: Saying why.
    """
    if path.suffix.lower() not in formats:
        raise UsageError(f"the file {path} has no format", hint=f"let its name end with {' or '.join(formats)}")
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="make it, or give another file")
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the name of the folder {folder} is not UTF-8", hint="give another folder") from error
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="give the name of a file")
    if os.path.lexists(path) and not force:
        raise _taken(path)
    real = folder.resolve()
    ours = {"the source folder": config.source, "the archive": config.archive, "the warehouse": config.warehouse}
    ours |= {f"the table {root.name}": root for root in places_of(config).values()}
    for what, root in ours.items():
        if real.is_relative_to(root.resolve()):
            raise UsageError(f"{path} is in {what} of the pipeline", hint="give a file in a folder of your own")


def _taken(path: Path) -> UsageError:
    """The error for a file that is there already."""
    return UsageError(f"the file {path} is there already", hint="give another name, or --force to replace it")


# -- reading and writing ----------------------------------------------------------------------------------------------


class _Selected(Struct, frozen=True):
    """What is written, and to which file.

    Attributes:
        table: The name of its view.
        columns: Of the table.
        where: The user's condition, None for all rows.
        contract: Tells which columns are keys.
        out: The file.
    """

    table: str
    columns: Sequence[TableColumn]
    where: str | None
    contract: Contract
    out: Path

    @property
    def sql(self) -> str:
        """SQL of the rows."""
        relation = name_sql(self.table)
        return f"SELECT * FROM {relation}" if self.where is None else where_sql(relation, self.where)

    @property
    def text_sql(self) -> str:
        """SQL of the rows, with times as ISO 8601 text in UTC, such as `2026-11-23T08:00:00Z`."""
        cells = ", ".join(
            f"replace(CAST({name} AT TIME ZONE 'UTC' AS VARCHAR), ' ', 'T') || 'Z' AS {name}"
            if column.type == "timestamp"
            else name
            for column in self.columns
            for name in (name_sql(column.name),)
        )
        return f"SELECT {cells} FROM ({self.sql})"


_Write = Callable[[duckdb.DuckDBPyConnection, _Selected], int]


def _run(opened: ReadOnlyTables, selected: _Selected, write: _Write) -> int:
    """Write the rows; their number."""
    where = selected.where
    if where is None:
        return opened.run(lambda con: write(con, selected))

    if not where.strip():
        raise QueryError("--where: there is no SQL", hint="give an SQL condition on a row, or leave it out")

    def checked(con: duckdb.DuckDBPyConnection) -> int:
        require_condition(con, where)
        return write(con, selected)

    try:
        where.encode()
        return opened.run(checked)
    except UnicodeEncodeError as error:
        raise QueryError("the SQL of --where is not UTF-8", hint="correct it and try again") from error
    except QueryError as error:
        if error.__cause__ is None or isinstance(error.__cause__, duckdb.OutOfMemoryException | MemoryError):
            raise QueryError(f"--where: {error.message}", hint=error.hint) from error
        # What follows shows our SQL around the condition.
        what = " ".join(error.message.partition("\n\nLINE ")[0].split())
        shown = where if len(where) <= _SHOWN_CHARS else f"{where[:_SHOWN_CHARS]}..."
        columns = f"ordertrail query 'DESCRIBE {selected.table}' shows the columns"
        raise QueryError(f"--where {shown}: {what}", hint=f"give an SQL condition on a row; {columns}") from error


def _copy(con: duckdb.DuckDBPyConnection, sql: str, out: Path, options: str) -> int:
    ((rows,),) = con.execute(f"COPY ({sql}) TO {quoted(str(out))} ({options})").fetchall()
    return int(rows)


def _csv(con: duckdb.DuckDBPyConnection, selected: _Selected) -> int:
    return _copy(con, selected.text_sql, selected.out, "FORMAT csv, HEADER true")


def _parquet(con: duckdb.DuckDBPyConnection, selected: _Selected) -> int:
    # Not with the options of our data files: every reader knows the encodings of Parquet 1.
    return _copy(con, selected.sql, selected.out, "FORMAT parquet")


def _xlsx(con: duckdb.DuckDBPyConnection, selected: _Selected) -> int:
    return write_spreadsheet(con, selected.text_sql, selected.columns, selected.contract, selected.out)


_WRITERS: Mapping[str, _Write] = dict(zip(FORMATS, (_csv, _parquet, _xlsx), strict=True))
