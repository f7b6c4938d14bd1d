"""How a row of one of our tables is seen by the order rules: its key, its content, and its place in the total order.

The total order (P2) is written here and nowhere else. Five columns make it up: a row says three of them itself, its
delivery gives it the other two. Relation `known` has the deliveries that matter, `placed` what they give to their rows.

DuckDB works out keys, contents and what a row says itself with the same text on every engine, as the row kernel does:
in the engine's own process, or, on Spark, in the executors. What joins relations is read by every engine's own SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ordertrail.model import Contract
from ordertrail.rules.cells import key_sql, name_sql, rank_sql, row_hash_sql
from ordertrail.rules.sql import quoted

LOWEST = -(1 << 62)
"""Order value of a row that a foreign writer left without one: below all of ours."""


# -- the total order ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderColumn:
    """A column that decides which of two rows is the newer one.

    Attributes:
        name: In every relation of the rules.
        type: A contract type.
        help: What it holds.
        of_delivery: The row's delivery gives it; otherwise the row says it itself.
    """

    name: str
    type: str
    help: str
    of_delivery: bool = False


TOTAL_ORDER = (
    OrderColumn("ev", "bigint", "event time in microseconds since 1970 UTC"),
    OrderColumn("fk", "bigint", "file key in milliseconds since 1970 UTC", of_delivery=True),
    OrderColumn("rk", "int", "rank of the status"),
    OrderColumn("tb", "bigint", "place of the delivery among those that are known, see `PLACED`", of_delivery=True),
    OrderColumn("fr", "bigint", "record number in the file"),
)
"""The total order, most significant first: no two rows are equal in all of them."""

ORDER = tuple(column.name for column in TOTAL_ORDER)
"""The names of the order columns, most significant first."""

OF_ROW = tuple(column.name for column in TOTAL_ORDER if not column.of_delivery)
"""Those that a row says itself; beside them stands `delivery_id`, which leads to the others."""

OF_DELIVERY = tuple(column.name for column in TOTAL_ORDER if column.of_delivery)
"""Those that the delivery gives."""

NEWEST_FIRST = ", ".join(f"{column} DESC NULLS LAST" for column in ORDER)
"""What `ORDER BY` says for the newest row first."""

OLDEST_FIRST = ", ".join(f"{column} NULLS FIRST" for column in ORDER)
"""What `ORDER BY` says for the oldest row first."""

KNOWN = ("delivery_id", "fk", "vendor", "path", "mtime_ms", "sha256", "absent", "batch")
"""The columns of `known`: one row a delivery, `absent` the list of contract columns that it does not carry."""

PLACED = """
SELECT delivery_id, fk, absent,
  dense_rank() OVER (
    ORDER BY vendor NULLS FIRST, path NULLS FIRST, mtime_ms NULLS FIRST, sha256 NULLS FIRST, batch NULLS FIRST
  ) AS tb
FROM known
"""
"""`placed`: of every delivery in `known` its file key, absent columns, place in (vendor, path, mtime, sha256, batch).
Only where the contract or the vendor's profile was changed is the same file loaded twice: then its later reading wins.
One text for every engine, like those of `rules.outcomes`."""


def later(left: str, right: str) -> str:
    """SQL that is true when relation `left`'s row comes after `right`'s in the total order; no order column is NULL."""
    text = f"{left}.{ORDER[-1]} > {right}.{ORDER[-1]}"
    for column in reversed(ORDER[:-1]):
        text = f"{left}.{column} > {right}.{column} OR ({left}.{column} = {right}.{column} AND ({text}))"
    return f"({text})"


def order_sql(contract: Contract) -> str:
    """SQL of the order columns that a row of target or history says itself, and of its `delivery_id`."""
    rank = rank_sql(contract, name_sql(contract.status)) if contract.status else "-2"
    said = {
        "ev": f"coalesce(epoch_us({name_sql(contract.order_by)}), {LOWEST})",
        "rk": rank,
        "fr": f"coalesce(_file_row, {LOWEST})",
    }
    return ", ".join(f"{said[name]} AS {name}" for name in OF_ROW) + ", _delivery_id AS delivery_id"


def placed_sql(rows: str, absent: Sequence[str] = ()) -> str:
    """SQL of rows in their whole order; those of deliveries that `placed` does not have are left out.

    Args:
        rows: A relation with `OF_ROW` and `delivery_id`.
        absent: Contract columns that some delivery lacks: for each there is a boolean `lacks_<place in absent>`.
    """
    lacks = "".join(f", array_contains(p.absent, {quoted(name)}) AS lacks_{i}" for i, name in enumerate(absent))
    given = ", ".join(f"p.{name}" for name in OF_DELIVERY)
    return f"SELECT r.*, {given}{lacks} FROM {rows} r JOIN placed p ON r.delivery_id = p.delivery_id"


def placed_or_lowest_sql(rows: str) -> str:
    """SQL of rows in their whole order: `current` and `recalled` of `rules.outcomes`.

    A row of a delivery that nobody knows is somebody else's and comes before all of ours.

    Args:
        rows: A relation with `OF_ROW` and `delivery_id`.
    """
    given = ", ".join(f"coalesce(p.{name}, {LOWEST}) AS {name}" for name in OF_DELIVERY)
    return f"SELECT r.*, {given} FROM {rows} r LEFT JOIN placed p ON r.delivery_id = p.delivery_id"


STAGED = f"""
SELECT s.k, s.dn, s.ch, {", ".join(f"s.{name}" for name in OF_ROW)}, {", ".join(f"p.{name}" for name in OF_DELIVERY)}
FROM staged_rows s
JOIN (
  SELECT d.dn, {", ".join(f"p.{name}" for name in OF_DELIVERY)}
  FROM batch_deliveries d JOIN placed p ON d.delivery_id = p.delivery_id
) p ON s.dn = p.dn
"""
"""`staged` of `rules.outcomes`: the rows of `staged_rows` in their whole order, by the deliveries of the batch."""


# -- key and content ------------------------------------------------------------------------------------------------


def contract_key_sql(contract: Contract) -> str:
    """SQL of the key of a row of one of our tables."""
    return key_sql(contract, {name: name_sql(name) for name in contract.names})


def content_sql(contract: Contract) -> str:
    """SQL of the hash of a row's content. It is worked out anew from every row: the stored `_row_hash` may be a lie."""
    return row_hash_sql({name: name_sql(name) for name in (*contract.names, "_rescued")})
