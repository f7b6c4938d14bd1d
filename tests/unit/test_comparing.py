"""The SQL that compares an old table with the new one: run here in DuckDB, on Spark where tables are adopted."""

from __future__ import annotations

import duckdb

from ordertrail.config import DEFAULT_CONTRACT
from ordertrail.rules.comparing import compare_sql

OLD = [("A", "IN_TRANSIT", "x"), ("B", None, "x"), ("C", "DELIVERED", "x"), ("D", "DELIVERED", "x")]
NEW = [("A", "IN_TRANSIT", "x"), ("B", "DELIVERED", "y"), ("D", "DELIVERED", None), ("E", None, None)]


def test_keys_that_are_not_the_same_are_listed_with_the_columns_that_differ() -> None:
    con = duckdb.connect()
    columns = ", ".join(f'"{column.name}" {column.type}' for column in DEFAULT_CONTRACT.columns)
    for table, rows in (("old_orders", OLD), ("new_orders", NEW)):
        con.execute(f"CREATE TABLE {table} ({columns})")
        for row in rows:
            con.execute(f"INSERT INTO {table} (tracking_num, status, address) VALUES (?, ?, ?)", row)
    found = con.execute(compare_sql(DEFAULT_CONTRACT, "old_orders", "new_orders") + " ORDER BY ALL").fetchall()
    assert found == [
        ("B", "status, address"),
        ("C", "only in the old table"),
        ("D", "address"),
        ("E", "only in the new table"),
    ]
