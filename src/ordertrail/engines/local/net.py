"""The net difference of two sets of rows of the target: which keys changed; and the rows at some positions.

Rows are compared as they stand in the table, by hashes of the content and of the audit columns. Values of others are
not compared: every writer of ours carries them from the row that goes to the row that comes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import ROW_BITS, scan_sql
from ordertrail.engines.local.session import Session
from ordertrail.model import Contract
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, target_columns

CHANGED_KEYS = "changed_keys"
"""The DuckDB table that `find_changed_keys` makes."""


def key_sql(contract: Contract) -> str:
    """SQL of a row's key as text, never NULL, by which rows are compared."""
    return f"coalesce({contract_key_sql(contract)}, '')"


def compared_sql(contract: Contract, *, hashes: bool = True) -> str:
    """SQL of what is compared of a row of the target: `k` its key, and hashes `c` of its content, `a` of what is ours.

    Args:
        contract: Of the target.
        hashes: Whether `_row_hash` counts, which follows from names and types of columns as well.
    """
    content = {name: name_sql(name) for name in (*contract.names, "_rescued")}
    passed_over = {*content, *(() if hashes else ("_row_hash",))}
    audit = {one.name: name_sql(one.name) for one in target_columns(contract) if one.name not in passed_over}
    return f"{key_sql(contract)} AS k, {row_hash_sql(content)} AS c, {row_hash_sql(audit)} AS a"


def same_rows(session: Session, before: str, after: str) -> bool:
    """Whether two relations have the same rows, in any order, but for `_row_hash`.

    Rows are counted and their hashes added up, so nothing is held in memory; rows that differ are taken for the same
    once in 2^64.

    Args:
        session: The pass; its config has the contract of both.
        before: A relation with rows of the target.
        after: The other one.
    """
    shown = compared_sql(session.config.contract, hashes=False)
    total = "SELECT count(*), coalesce(sum(CAST(hash(hash(k, c), a) AS HUGEINT)), 0) FROM"
    first, second = (session.run(f"{total} (SELECT {shown} FROM {rows})") for rows in (before, after))
    return first == second


def find_changed_keys(session: Session, before: str, after: str) -> None:
    """Make `changed_keys`: the keys, `k`, whose rows are not the same before and after, but for `_row_hash`.

    Args:
        session: The pass; its config has the contract of both.
        before: A relation with the rows before.
        after: One with the rows after.
    """
    shown = compared_sql(session.config.contract, hashes=False)
    both = f"SELECT {shown}, 1 AS n FROM {before} UNION ALL SELECT {shown}, -1 AS n FROM {after}"
    same = f"SELECT k, sum(n) AS n FROM ({both}) GROUP BY k, c, a"
    session.run(f"CREATE OR REPLACE TEMP TABLE {CHANGED_KEYS} AS SELECT DISTINCT k FROM ({same}) WHERE n <> 0")


def rows_at_sql(session: Session, target: Snapshot, places: str, columns: Sequence[TableColumn]) -> str:
    """SQL of the target's rows at some positions: `_at`, the position, and columns. Only their data files are read.

    Args:
        session: The pass.
        target: The snapshot whose positions these are; its rows there are live.
        places: A relation with the positions, `pos`.
        columns: Which columns.
    """
    files = list(target.files.values())
    found = session.run(f"SELECT DISTINCT pos >> {ROW_BITS} AS place FROM {places} ORDER BY place")
    numbers = [int(str(place)) for (place,) in found]
    touched = [replace(files[number], deletion_vector=None) for number in numbers]
    rows = scan_sql(session.con, replace(target, files={file.path: file for file in touched}), columns)
    number = f"CAST(list_position({numbers or [-1]}, pos >> {ROW_BITS}) - 1 AS BIGINT)"
    at = f"({number} << {ROW_BITS}) | (pos & {(1 << ROW_BITS) - 1})"
    return (
        f"SELECT r.pos AS _at, t.* EXCLUDE (_pos) FROM {rows} t "
        f"JOIN (SELECT DISTINCT pos, {at} AS place FROM {places}) r ON t._pos = r.place"
    )
