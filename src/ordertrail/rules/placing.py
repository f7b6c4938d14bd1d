"""How the order rules see a row of one of our tables: its key, its content, and its place in the total order.

The total order (P2) is written here and nowhere else. It has six columns: a row itself supplies three of them, its
delivery two, and both together the place in the file. Relation `known` has the deliveries that matter, and `placed`
what they supply to their rows.

DuckDB computes keys, contents and what a row itself supplies with the same SQL on every engine, like the row kernel:
in the engine's own process or, on Spark, in the executors. SQL that joins relations runs in every engine's own dialect.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ordertrail.model import Contract
from ordertrail.rules.cells import key_sql, rank_sql, row_hash_sql
from ordertrail.rules.sql import name_sql, quoted

LOWEST = -(1 << 62)
"""Order value of a row to which a foreign writer gave none; it is below all of ours."""


# -- the total order ------------------------------------------------------------------------------------------------


class OrderColumn(Struct, frozen=True):
    """A column that decides which of two rows is the newer one.

    Attributes:
        name: Its name in every relation of the rules.
        type: A contract type.
        help: Its content and unit.
        of_delivery: Whether it needs the row's delivery; otherwise the row itself supplies it.
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
    OrderColumn("fp", "bigint", "place in the file: `fr`, below zero where the newest row is first", of_delivery=True),
    OrderColumn("fr", "bigint", "record number in the file"),
)
"""The total order, most significant first: no two rows are equal in all of them."""

ORDER = tuple(column.name for column in TOTAL_ORDER)
"""The names of the order columns, most significant first."""

OF_ROW = tuple(column.name for column in TOTAL_ORDER if not column.of_delivery)
"""Those that a row itself supplies; `delivery_id`, next to them, leads to the others."""

OF_DELIVERY = tuple(column.name for column in TOTAL_ORDER if column.of_delivery)
"""Those that need the delivery: `of_delivery_sql` gives them."""

NEWEST_FIRST = ", ".join(f"{column} DESC NULLS LAST" for column in ORDER)
"""The `ORDER BY` list for the newest row first."""

OLDEST_FIRST = ", ".join(f"{column} NULLS FIRST" for column in ORDER)
"""The `ORDER BY` list for the oldest row first."""

KNOWN = ("delivery_id", "fk", "vendor", "path", "mtime_ms", "sha256", "absent", "batch", "newest_first")
"""The columns of `known`: one row a delivery, `absent` lists the contract columns that it lacks, `newest_first` says
that the newest of its rows is the first one."""

PLACED = """
SELECT delivery_id, fk, absent, CASE WHEN newest_first THEN -1 ELSE 1 END AS sg,
  dense_rank() OVER (
    ORDER BY vendor NULLS FIRST, path NULLS FIRST, mtime_ms NULLS FIRST, sha256 NULLS FIRST, batch NULLS FIRST
  ) AS tb
FROM known
"""
"""`placed`: for every delivery in `known` its file key, its absent columns, the sign `sg` that its record numbers get
in the order, and its place in (vendor, path, mtime, sha256, batch). The same file is loaded twice only after the
contract or the vendor's profile changed: then its later reading wins. One text for every engine, like those of
`rules.outcomes`."""


def later(left: str, right: str) -> str:
    """SQL that is true when relation `left`'s row comes after `right`'s in the total order; no order column is NULL."""
    text = f"{left}.{ORDER[-1]} > {right}.{ORDER[-1]}"
    for column in reversed(ORDER[:-1]):
        text = f"{left}.{column} > {right}.{column} OR ({left}.{column} = {right}.{column} AND ({text}))"
    return f"({text})"


def order_sql(contract: Contract) -> str:
    """SQL of the order columns that a row of target or history itself supplies, and of its `delivery_id`."""
    rank = rank_sql(contract, name_sql(contract.status)) if contract.status else "-2"
    said = {
        "ev": f"coalesce(epoch_us({name_sql(contract.order_by)}), {LOWEST})",
        "rk": rank,
        "fr": f"coalesce(_file_row, {LOWEST})",
    }
    return ", ".join(f"{said[name]} AS {name}" for name in OF_ROW) + ", _delivery_id AS delivery_id"


def of_delivery_sql(row: str, placed: str) -> str:
    """SQL of the order columns `OF_DELIVERY`.

    Args:
        row: A relation with `fr`.
        placed: What `PLACED` gave for the row's delivery.
    """
    return f"{placed}.fk AS fk, {placed}.tb AS tb, {row}.fr * {placed}.sg AS fp"


def placed_sql(rows: str, absent: Sequence[str] = (), placed: str = "placed") -> str:
    """SQL of rows with all order columns, without those of deliveries that `placed` lacks.

    Args:
        rows: A relation with `OF_ROW` and `delivery_id`.
        absent: Contract columns that some delivery lacks: for each there is a boolean `lacks_<place in absent>`.
        placed: What `PLACED` gave.
    """
    lacks = "".join(f", array_contains(p.absent, {quoted(name)}) AS lacks_{i}" for i, name in enumerate(absent))
    return (
        f"SELECT r.*, {of_delivery_sql('r', 'p')}{lacks} FROM {rows} r JOIN {placed} p ON r.delivery_id = p.delivery_id"
    )


def placed_or_lowest_sql(rows: str) -> str:
    """SQL of rows with all order columns: `current` and `recalled` of `rules.outcomes`.

    A row of an unknown delivery was written by somebody else and comes before all of ours.

    Args:
        rows: A relation with `OF_ROW` and `delivery_id`.
    """
    given = ", ".join(
        f"coalesce({sql}, {LOWEST}) AS {name}" for sql, name in (("p.fk", "fk"), ("p.tb", "tb"), ("r.fr * p.sg", "fp"))
    )
    return f"SELECT r.*, {given} FROM {rows} r LEFT JOIN placed p ON r.delivery_id = p.delivery_id"


STAGED = f"""
SELECT s.k, s.dn, s.ch, {", ".join(f"s.{name}" for name in OF_ROW)}, {of_delivery_sql("s", "p")}
FROM staged_rows s
JOIN (
  SELECT d.dn, p.fk, p.tb, p.sg
  FROM batch_deliveries d JOIN placed p ON d.delivery_id = p.delivery_id
) p ON s.dn = p.dn
"""
"""`staged` of `rules.outcomes`: the rows of `staged_rows` with all order columns, by the deliveries of the batch."""


# -- key and content ------------------------------------------------------------------------------------------------


def contract_key_sql(contract: Contract) -> str:
    """SQL of the key of a row of one of our tables."""
    return key_sql(contract, {name: name_sql(name) for name in contract.names})


def content_sql(contract: Contract) -> str:
    """SQL of the hash of a row's content, computed anew: a foreign writer may have left a wrong `_row_hash`."""
    return row_hash_sql({name: name_sql(name) for name in (*contract.names, "_rescued")})
