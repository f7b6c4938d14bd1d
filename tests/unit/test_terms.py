"""The terms by which shipments are found: conditions that save work leave out nothing that is sought."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ordertrail.look.terms import beginning, ends_sql, joined_sql, lower_sql, turned_sql
from tests.harness import open_house

KEYS = (
    "1Z99A4",
    "1z99a4",
    "A4",
    "4",
    "",
    "1Z99A41",
    "\u212a4",
    "\u0130A4",
    "e\u0301A4",
    "A\u03014",
    "\uff21\uff14",
    "stra\u00dfe4",
    "K4",
)


@pytest.mark.parametrize("text", ["4", "a4", "99a4", "k4", "-4"])
def test_what_ends_with_a_text_is_looked_at_and_other_plain_keys_are_not(text: str, tmp_path: Path) -> None:
    contract = open_house(tmp_path).config.contract
    key = joined_sql(contract)
    turned = beginning(text[::-1]).sql.replace("term", turned_sql(lower_sql(key)))
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE keys ({contract.key[0]} VARCHAR)")
        con.executemany("INSERT INTO keys VALUES (?)", [[one] for one in KEYS])
        rows = con.execute(f"SELECT {key}, {turned}, {ends_sql(contract, text)} FROM keys").fetchall()
    assert len(rows) == len(KEYS)
    assert [one for one, sought, looked_at in rows if sought and not looked_at] == []
    assert [one for one, sought, looked_at in rows if looked_at and not sought and one.isascii()] == []
