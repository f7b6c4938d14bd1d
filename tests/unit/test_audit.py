"""The audit columns that a batch writes, by what became of a row; and one text for both dialects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from ordertrail.model import Outcome
from ordertrail.rules.audit import DUCKDB_TIME, FROM, SPARK_TIME, clock_us, history_sql, inserted_sql, judged_sql
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.tables import AUDIT

CLOCK = datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC)
BEFORE = CLOCK - timedelta(days=3)


@pytest.mark.parametrize(
    ("outcome", "old", "inserted", "updated", "revision"),
    [
        (Outcome.INSERTED, None, CLOCK, CLOCK, 1),
        (Outcome.UPDATED, 4, BEFORE, CLOCK, 5),
        (Outcome.UNCHANGED, 4, None, None, None),
        (Outcome.STALE, 4, None, None, None),
        (Outcome.SUPERSEDED, None, None, None, None),
        (Outcome.DUPLICATE, 4, None, None, None),
    ],
)
def test_a_row_tells_of_the_states_that_it_made(
    outcome: Outcome, old: int | None, inserted: datetime | None, updated: datetime | None, revision: int | None
) -> None:
    columns = judged_sql(7, CLOCK) | history_sql(CLOCK)
    first = "NULL" if old is None else clock_us(BEFORE)
    row = f"SELECT {CODES[outcome]} AS outcome, CAST({old or 'NULL'} AS BIGINT) AS rv, CAST({first} AS BIGINT) AS ins"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        query = f"SELECT {', '.join(f'{sql} AS {name}' for name, sql in columns.items())} FROM ({row}) o"
        relation = con.sql(query)
        found = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    assert found == {
        "_batch": 7, "_inserted_at": inserted, "_updated_at": updated, "_revision": revision,
        "_outcome": str(outcome), "_loaded_at": CLOCK,
    }  # fmt: skip


def test_the_dialects_differ_in_one_function() -> None:
    duckdb_text, spark_text = (str(judged_sql(7, CLOCK, time) | history_sql(CLOCK, time)) for time in _TIMES)
    assert duckdb_text != spark_text
    assert duckdb_text.replace(DUCKDB_TIME, SPARK_TIME) == spark_text


_TIMES = (DUCKDB_TIME, SPARK_TIME)


def test_every_audit_column_is_written_once() -> None:
    ours = {column.name for column in AUDIT} - {"_row_hash", "_rescued"}  # which the row kernel gives
    assert set(judged_sql(7, CLOCK)) | set(FROM) == ours
    assert set(inserted_sql(7, "x")) | set(FROM) == ours
