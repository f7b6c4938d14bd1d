"""The place of a row in the total order, as SQL on relations made by hand; and which rows count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import duckdb
import pytest
from msgspec.structs import replace

from ordertrail.model import ROW_OUTCOMES, Outcome
from ordertrail.rules.accepted import ABSENT, ACCEPTED_ROWS, lacking_sql, recorded_sql
from ordertrail.rules.placing import (
    KNOWN,
    LOWEST,
    PLACED,
    STAGED,
    content_sql,
    order_sql,
    placed_or_lowest_sql,
    placed_sql,
)
from tests.oracle import default_contract

CONTRACT = default_contract()
DELIVERY = ("id", 5, "acme", "a.csv", 10, "aa", [], 3, False)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'").fetchall()
    yield con
    con.close()


def fill(con: duckdb.DuckDBPyConnection, name: str, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})").fetchall()
    for row in rows:
        con.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", list(row)).fetchall()


def know(con: duckdb.DuckDBPyConnection, rows: Iterable[tuple[object, ...]]) -> None:
    types = ("VARCHAR", "BIGINT", "VARCHAR", "VARCHAR", "BIGINT", "VARCHAR", "VARCHAR[]", "BIGINT", "BOOLEAN")
    fill(con, "known", ", ".join(f"{name} {kind}" for name, kind in zip(KNOWN, types, strict=True)), rows)
    con.execute(f"CREATE OR REPLACE TEMP VIEW placed AS {PLACED}").fetchall()


@pytest.mark.parametrize("place", range(2, 8))
def test_deliveries_stand_in_the_order_of_vendor_path_time_content_and_batch(
    con: duckdb.DuckDBPyConnection, place: int
) -> None:
    """A later one of these decides only where all before it are equal; what a foreign writer left out comes first."""
    if KNOWN[place] == "absent":
        return
    less: dict[int, object] = {2: "a", 3: "A.csv", 4: 9, 5: "a", 7: 2}
    low = [*DELIVERY]
    low[place] = less[place]
    high = [*DELIVERY]
    for behind in (name for name in less if name > place):
        high[behind] = less[behind]
    nothing = [*low]
    nothing[place] = None
    rows = [("high", *high[1:]), ("low", *low[1:]), ("nothing", *nothing[1:])]
    know(con, rows)
    assert con.execute("SELECT delivery_id, tb FROM placed ORDER BY tb").fetchall() == [
        ("nothing", 1), ("low", 2), ("high", 3),
    ]  # fmt: skip


def test_deliveries_that_nothing_tells_apart_share_a_place(con: duckdb.DuckDBPyConnection) -> None:
    """Which of them came first would differ from engine to engine."""
    know(con, [DELIVERY, ("twin", *DELIVERY[1:])])
    assert con.execute("SELECT DISTINCT tb FROM placed").fetchall() == [(1,)]


def test_what_a_delivery_supplies_to_its_rows(con: duckdb.DuckDBPyConnection) -> None:
    know(con, [DELIVERY, ("lacking", 6, "acme", "b.csv", 10, "bb", ["y", "z"], 3, True)])
    rows = [(1, "id", 7), (2, "lacking", 7), (3, "unknown", 7), (4, None, 7)]
    fill(con, "some_rows", "n INTEGER, delivery_id VARCHAR, fr BIGINT", rows)
    found = con.execute(
        f"SELECT n, fk, tb, fp, lacks_0, lacks_1 FROM ({placed_sql('some_rows', ('x', 'y'))}) ORDER BY n"
    )
    assert found.fetchall() == [(1, 5, 1, 7, False, False), (2, 6, 2, -7, False, True)]
    found = con.execute(f"SELECT n, fk, tb, fp FROM ({placed_or_lowest_sql('some_rows')}) ORDER BY n")
    assert found.fetchall() == [(1, 5, 1, 7), (2, 6, 2, -7), (3, *[LOWEST] * 3), (4, *[LOWEST] * 3)]


def test_staged_rows_get_the_place_of_their_delivery_in_the_batch(con: duckdb.DuckDBPyConnection) -> None:
    know(con, [DELIVERY, ("other", 6, "acme", "b.csv", 10, "bb", [], 3, True)])
    fill(con, "batch_deliveries", "dn INTEGER, delivery_id VARCHAR", [(0, "other"), (1, "id")])
    fill(con, "staged_rows", "k INTEGER, dn INTEGER, ch INTEGER, ev INTEGER, rk INTEGER, fr INTEGER",
         [(7, 0, 8, 1, 2, 3), (9, 1, 8, 4, 5, 6)])  # fmt: skip
    found = con.execute(f"SELECT k, dn, ch, ev, fk, rk, tb, fp, fr FROM ({STAGED}) ORDER BY dn").fetchall()
    assert found == [(7, 0, 8, 1, 6, 2, 2, -3, 3), (9, 1, 8, 4, 5, 5, 1, 6, 6)]


def test_what_a_row_itself_supplies(con: duckdb.DuckDBPyConnection) -> None:
    """A row to which somebody gave no time and no number comes before all of ours."""
    when = datetime(2026, 11, 28, 1, 2, 3, 4, tzinfo=UTC)
    columns = f'"{CONTRACT.status}" VARCHAR, "{CONTRACT.order_by}" TIMESTAMPTZ, _file_row BIGINT, _delivery_id VARCHAR'
    fill(con, "some_rows", columns, [("DELIVERED", when, 3, "id"), ("nonsense", None, None, None)])
    microseconds = int(when.timestamp()) * 1_000_000 + 4
    rank = CONTRACT.status_rank.index("DELIVERED")
    found = con.execute(
        f"SELECT ev, rk, fr, delivery_id FROM (SELECT {order_sql(CONTRACT)} FROM some_rows) ORDER BY fr"
    )
    assert found.fetchall() == [(LOWEST, -1, LOWEST, None), (microseconds, rank, 3, "id")]
    without = order_sql(replace(CONTRACT, status=None))
    ranks = con.execute(f"SELECT DISTINCT rk FROM (SELECT {without} FROM some_rows)").fetchall()
    assert ranks == [(-2,)]


def test_the_lowest_order_value_is_below_every_time_and_fits_a_bigint() -> None:
    first = datetime(1, 1, 1, tzinfo=UTC)
    assert -(1 << 63) <= LOWEST < int(first.timestamp()) * 1_000_000


def test_content_is_all_columns_and_the_rescued_ones(con: duckdb.DuckDBPyConnection) -> None:
    columns = [*CONTRACT.names, "_rescued"]
    fill(con, "some_rows", ", ".join(f'"{name}" VARCHAR' for name in columns), [("x",) * len(columns)])
    seen = set(con.execute(f"SELECT {content_sql(CONTRACT)} FROM some_rows").fetchall())
    for name in columns:
        changed = f"SELECT * REPLACE ('y' AS \"{name}\") FROM some_rows"
        seen |= set(con.execute(f"SELECT {content_sql(CONTRACT)} FROM ({changed})").fetchall())
    assert len(seen) == 1 + len(columns)


def test_the_rows_of_a_batch_that_is_not_done_do_not_count(con: duckdb.DuckDBPyConnection) -> None:
    """A row of a foreign writer has no batch: it was there before all of ours."""
    fill(con, "history", "_batch BIGINT", [(1,), (2,), (3,), (None,)])
    found = con.execute(f"SELECT _batch FROM history WHERE {recorded_sql(2)} ORDER BY ALL NULLS FIRST").fetchall()
    assert found == [(None,), (1,), (2,)]
    assert con.execute(f"SELECT _batch FROM history WHERE {recorded_sql(0)}").fetchall() == [(None,)]


def test_columns_that_some_loaded_delivery_lacks(con: duckdb.DuckDBPyConnection) -> None:
    rows = [("loaded", '["y", "x"]'), ("loaded", '["x"]'), ("quarantined", '["z"]'), ("loaded", "[]"), ("loaded", None)]
    fill(con, "deliveries", "state VARCHAR, absent VARCHAR", rows)
    assert con.execute(lacking_sql("deliveries")).fetchall() == [("x",), ("y",)]
    assert con.execute(f"SELECT {ABSENT} FROM deliveries").fetchall() == [
        (["y", "x"],), (["x"],), (["z"],), ([],), ([],),
    ]  # fmt: skip


def test_history_has_every_row_but_the_rejected_ones(con: duckdb.DuckDBPyConnection) -> None:
    columns = [f"rows_{outcome}" for outcome in ROW_OUTCOMES]
    fill(con, "deliveries", ", ".join(f"{name} BIGINT" for name in columns), [
        tuple(10**place for place in range(len(columns))), (None,) * len(columns),
    ])  # fmt: skip
    accepted = sum(10**place for place, outcome in enumerate(ROW_OUTCOMES) if outcome is not Outcome.REJECTED)
    assert con.execute(f"SELECT {ACCEPTED_ROWS} FROM deliveries").fetchall() == [(accepted,), (0,)]
