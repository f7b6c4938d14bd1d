"""Texts of cells that Arrow and numpy make: exactly those that DuckDB would make."""

from __future__ import annotations

import random

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from ordertrail.engines.local.change_escapes import csv_quoted, json_escaped
from ordertrail.engines.local.change_times import few_of, knows, texts_of

_CHARACTERS = [chr(one) for one in range(0x180)] + ["\u2028", "\ufeff", "\U0001f4e6", '"', "\\", ",", "\n"]
_DAYS = [-719_162, -719_161, -1, 0, 1, 59, 20_000, 20_400, 2_932_896]


def _texts(number: int, characters: list[str]) -> pa.StringArray:
    pick = random.Random(number)
    some = ["".join(pick.choices(characters, k=pick.randrange(6))) if pick.random() < 0.9 else None for _ in range(300)]
    return pa.array(some, pa.string()).slice(pick.randrange(5))


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("characters", [_CHARACTERS, list('ab"'), list("ab\\\n"), list("abc"), list("é,")], ids=str)
def test_texts_are_escaped_as_duckdb_does_it(number: int, characters: list[str]) -> None:
    texts = _texts(number, characters)
    found = duckdb.execute("SELECT CAST(to_json(x) AS VARCHAR) FROM (SELECT unnest(?) AS x)", [texts.to_pylist()])
    wanted = [text for (text,) in found.fetchall()]

    assert [None if text is None else f'"{text}"' for text in json_escaped(texts).to_pylist()] == wanted


@pytest.mark.parametrize("characters", [_CHARACTERS, list("ab"), list('a"'), list("a,\r")], ids=str)
def test_texts_are_quoted_in_csv_where_they_must_be(characters: list[str]) -> None:
    texts = _texts(1, characters)

    def quoted(text: str | None) -> str | None:
        plain = text is None or (text and not set(text) & set('",\r\n'))
        return text if plain else '"' + str(text).replace('"', '""') + '"'

    wanted = [quoted(text) for text in texts.to_pylist()]

    assert csv_quoted(texts).to_pylist() == wanted


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us", "UTC"), pa.int64(), pa.int32()], ids=str)
@pytest.mark.parametrize("number", range(5))
def test_days_times_and_numbers_are_the_texts_of_duckdb(kind: pa.DataType, number: int) -> None:
    pick = random.Random(number)
    first = pick.choice(_DAYS[:-1])
    days = [None if pick.random() < 0.1 else min(first + pick.randrange(300), _DAYS[-1]) for _ in range(200)]
    factor = 86_400_000_000 if pa.types.is_timestamp(kind) else 1
    us = [day and day * factor + (pick.randrange(86_400) * 1_000_000 if factor > 1 else 0) for day in days]
    if pa.types.is_timestamp(kind):
        column = pa.array(us, pa.int64()).cast(kind)
    else:
        column = pa.array(days, pa.int32()).cast(kind)
    column = column.slice(3)
    text = "strftime(make_timestamp(epoch_us(v)), '%Y-%m-%dT%H:%M:%SZ')" if factor > 1 else "CAST(v AS VARCHAR)"
    rows = pa.table({"i": pa.array(range(len(column))), "v": column})
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("given", rows)
        wanted = [text for (text,) in con.execute(f"SELECT {text} FROM given ORDER BY i").fetchall()]

    assert knows(pa.chunked_array([column]))
    assert texts_of(column).to_pylist() == wanted
    few = few_of(column, 400)
    if factor > 1:
        assert few is None
    else:
        assert few is not None
        codes, texts = few
        assert [[*texts, None][code] for code in np.asarray(codes).tolist()] == wanted


@pytest.mark.parametrize(
    ("us", "known"),
    [
        ([0, 1_000_000], True),
        ([0, 1], False),
        ([253_402_300_799_000_000], True),
        ([253_402_300_800_000_000], False),
        ([-62_135_596_800_000_000], True),
        ([-62_135_596_801_000_000], False),
        ([-62_135_596_800_000_000, 0], False),  # too many days for a table
        ([], True),
    ],
)
def test_only_times_that_are_written_alike_in_every_way_are_known(us: list[int], known: bool) -> None:
    column = pa.array([*us, None], pa.int64()).cast(pa.timestamp("us", "UTC"))

    assert knows(pa.chunked_array([column])) is known
