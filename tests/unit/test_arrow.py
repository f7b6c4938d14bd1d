"""Columns as numpy arrays, without an object for each row and without `pyarrow.compute`."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pytest

from ordertrail.arrow import NEVER, at_us, coded, integers

TEXTS = ["a", None, "b", "a", "", None, "c", "b", "a", "c"]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("cuts", [(), (0,), (3,), (3, 3, 7)])
def test_few_texts_are_places_in_those_that_occur(cuts: tuple[int, ...], *, encoded: bool) -> None:
    whole = pa.array(TEXTS).dictionary_encode() if encoded else pa.array(TEXTS)
    edges = (0, *cuts, len(TEXTS))
    parts = [whole.slice(begin, end - begin) for begin, end in pairwise(edges)]
    codes, known = coded(pa.chunked_array(parts))
    assert [known[code] for code in codes] == [text or "" for text in TEXTS]
    assert len(set(known)) == len(known)


def test_no_texts_have_no_places() -> None:
    for kind in (pa.string(), pa.dictionary(pa.int32(), pa.string())):
        codes, known = coded(pa.chunked_array([pa.array([], kind)]))
        assert (codes.tolist(), known) == ([], ())


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.timestamp("us", "UTC")])
@pytest.mark.parametrize("begin", [0, 1, 9])
def test_numbers_and_times_are_numbers(kind: pa.DataType, begin: int) -> None:
    values = [None if number % 3 == 1 else number for number in range(20)]
    column = pa.chunked_array([pa.array(values).cast(kind).slice(begin), pa.array([7]).cast(kind)])
    assert integers(column, NEVER).tolist() == [NEVER if one is None else one for one in (*values[begin:], 7)]


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_times_of_every_unit_are_microseconds(unit: str, per_second: int) -> None:
    seconds = int(NOON.timestamp())
    times = pa.chunked_array([pa.array([seconds * per_second, None]).cast(pa.timestamp(unit, "UTC"))])
    assert [at_us(one) for one in integers(times, NEVER).tolist()] == [NOON, None]


def test_times_before_1970_are_times() -> None:
    assert at_us(-1) == datetime(1970, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)


def test_reading_rows_imports_no_pandas() -> None:
    """It is there where Spark is; its import takes half a second and 35 MB of the pages' process."""
    code = (
        "import sys, duckdb; from ordertrail.look.rows import rows_of; "
        "rows = rows_of(duckdb.sql(\"SELECT TIMESTAMPTZ '2026-11-20 12:00+00' a, 'x' b, NULL::TIMESTAMP c\")"
        ".to_arrow_table()); print(rows.rows); assert 'pandas' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "2026, 11, 20, 12" in found.stdout
