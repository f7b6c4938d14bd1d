"""How a row of one of our tables is seen by the order rules: its key, its content, its place. DuckDB's dialect.

Every engine works these out with the same text in DuckDB, as the row kernel does: in its own process, or, on Spark, in
the executors.
"""

from __future__ import annotations

from ordertrail.model import Contract
from ordertrail.rules.cells import key_sql, rank_sql, row_hash_sql
from ordertrail.rules.sql import name_sql

LOWEST = -(1 << 62)
"""Order value of a row that a foreign writer left without one: below all of ours."""

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


def order_sql(contract: Contract) -> str:
    """SQL of the order columns of a row of target or history, but for `fk` and `tb`, which its delivery gives."""
    rank = rank_sql(contract, name_sql(contract.status)) if contract.status else "-2"
    return (
        f"coalesce(epoch_us({name_sql(contract.order_by)}), {LOWEST}) AS ev, {rank} AS rk, "
        f"coalesce(_file_row, {LOWEST}) AS fr, _delivery_id AS delivery_id"
    )


def contract_key_sql(contract: Contract) -> str:
    """SQL of the key of a row of one of our tables."""
    return key_sql(contract, {name: name_sql(name) for name in contract.names})


def content_sql(contract: Contract) -> str:
    """SQL of the hash of a row's content. It is worked out anew from every row: the stored `_row_hash` may be a lie."""
    return row_hash_sql({name: name_sql(name) for name in (*contract.names, "_rescued")})
