"""SQL that compares two tables of shipments key by key, for whoever moves from one pipeline to another."""

from __future__ import annotations

from collections.abc import Callable

from ordertrail.model import Contract
from ordertrail.rules.sql import name_sql, quoted


def compare_sql(contract: Contract, old: str, new: str, named: Callable[[str], str] = name_sql) -> str:
    """SQL of the keys that are not the same in two tables: the key, and `differs`.

    `differs` is `only in the old table`, `only in the new table`, or the columns whose values are not the same, such as
    `status, address`. It runs in DuckDB and in Spark.

    Args:
        contract: Names the key and the columns that are compared.
        old: SQL of a table.
        new: SQL of the other one.
        named: How a column's name is written: `name_sql`, or Spark's way.
    """
    key = [named(name) for name in contract.key]
    others = [name for name in contract.names if name not in contract.key]
    shown = ", ".join(f"coalesce(o.{name}, n.{name}) AS {name}" for name in key)
    same = " AND ".join(f"o.{name} = n.{name}" for name in key)
    changed = [f"CASE WHEN o.{named(one)} IS DISTINCT FROM n.{named(one)} THEN {quoted(one)} END" for one in others]
    return (
        f"SELECT {shown},\n"
        f"  CASE WHEN n.{key[0]} IS NULL THEN 'only in the old table'\n"
        f"    WHEN o.{key[0]} IS NULL THEN 'only in the new table'\n"
        f"    ELSE concat_ws(', ', {', '.join(changed)}) END AS differs\n"
        f"FROM {old} o FULL OUTER JOIN {new} n ON {same}\n"
        f"WHERE o.{key[0]} IS NULL OR n.{key[0]} IS NULL OR "
        + " OR ".join(f"o.{named(one)} IS DISTINCT FROM n.{named(one)}" for one in others)
    )
