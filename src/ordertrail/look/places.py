"""Rows by their place: which rows matter is read from few columns, and then the rest of just these rows.

A column of a row group is unpacked whole for a single row of it. So to ask for all columns where something holds costs
what the whole table holds; to ask where it holds, and then for these rows, costs a fraction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ordertrail.delta.table import ROW_BITS
from ordertrail.look.quick import Look
from ordertrail.look.rows import Rows, rows_of
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import columns_by_role

Place: TypeAlias = tuple[str, int]
"""A row of a table: the path of its data file in the log, and the row in that file, 0 = first."""

_ROW_MASK = (1 << ROW_BITS) - 1


def places(
    look: Look, role: str, names: Sequence[str], where: str, order: str = "", most: int | None = None
) -> tuple[Place, ...]:
    """Where the live rows are of which something holds.

    Args:
        look: The tables.
        role: The table.
        names: The columns that `where` and `order` ask for.
        where: SQL over them.
        order: SQL of the order that the places come in; "" for any.
        most: At most so many; None for all.

    Raises:
        StorageError: As `Look.read`.
        TableError: As `Look.read`.
    """
    sql = f"SELECT _pos FROM {look.relation(role, names)} WHERE {where}"
    sql += f" ORDER BY {order}" if order else ""
    sql += "" if most is None else f" LIMIT {most}"
    paths = tuple(look.snapshots[role].files)
    return tuple((paths[pos >> ROW_BITS], pos & _ROW_MASK) for pos in look.read(sql)["_pos"].to_pylist())


def rows_at(look: Look, role: str, names: Sequence[str], where: Sequence[Place]) -> Rows:
    """Columns of some rows.

    Args:
        look: The tables.
        role: The table.
        names: Which columns, in order.
        where: The rows; they come in this order.

    Raises:
        StorageError: As `Look.read`.
        TableError: As `Look.read`.
    """
    if not where:
        return Rows(tuple(names), ())
    numbers = {path: number for number, path in enumerate(look.snapshots[role].files)}
    order = {numbers[path] << ROW_BITS | row: at for at, (path, row) in enumerate(where)}
    found = rows_of(look.read(f"FROM {rows_sql(look, role, names, where)}"))
    rows = sorted(found.rows, key=lambda row: order[row[-1]])  # type: ignore[index]
    return Rows(tuple(names), tuple(row[:-1] for row in rows))


def rows_sql(look: Look, role: str, names: Sequence[str] | None, where: Iterable[Place]) -> str:
    """SQL of a relation with some rows: their columns, and `_pos` as `delta.table.scan_sql` has it.

    Args:
        look: The tables.
        role: The table.
        names: Which columns, in order; None for all.
        where: The rows.

    Raises:
        StorageError: As `Look.read`.
        TableError: As `Look.read`.
    """
    snapshot, columns = look.snapshots[role], columns_by_role(look.config.contract)[role]
    known = {column.name: column for column in columns}
    wanted = columns if names is None else [known[name] for name in names]
    by_file: defaultdict[str, set[int]] = defaultdict(set)
    for path, row in where:
        by_file[path].add(row)
    files = {path: str(snapshot.path_of(snapshot.files[path])) for path in by_file}
    there = look.columns_in(list(files.values()))
    cells = ", ".join(
        f"CAST({name_sql(c.name) if c.name.lower() in there else 'NULL'} AS {sql_type(c.type)}) AS {name_sql(c.name)}"
        for c in wanted
    )
    if not by_file:
        nothing = ", ".join(f"CAST(NULL AS {sql_type(c.type)}) AS {name_sql(c.name)}" for c in wanted)
        return f"(SELECT {nothing}, CAST(NULL AS BIGINT) AS _pos WHERE false)"
    numbers = {path: number for number, path in enumerate(snapshot.files)}
    starts = [numbers[path] << ROW_BITS for path in by_file]
    one, listed = len(files) == 1, ", ".join(map(quoted, files.values()))
    scan = f"read_parquet({listed})" if one else f"read_parquet([{listed}], union_by_name = true)"
    start = f"CAST({starts[0]} AS BIGINT)" if one else f"CAST({starts} AS BIGINT[])[CAST(file_index AS BIGINT) + 1]"
    # Of the row alone the statistics know which row groups it is in.
    rows = ", ".join(map(str, sorted(set().union(*by_file.values()))))
    found = f"SELECT {cells}, {start} | file_row_number AS _pos FROM {scan} WHERE file_row_number IN ({rows})"
    if one:
        return f"({found})"
    positions = ", ".join(str(numbers[path] << ROW_BITS | row) for path, some in by_file.items() for row in some)
    return f"(FROM ({found}) WHERE _pos IN ({positions}))"
