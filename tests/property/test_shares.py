"""Files that are held because of their keys: as if they had come one by one, in SQL and in whole pipelines."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ordertrail.rules.shares import LEAST_KEYS, KeyCounts, Shares, counts_sql, held_files
from tests.depth import share
from tests.feeds import FEED_VENDORS, NO_ADDRESS, FeedFile, cells, csv_bytes
from tests.harness import NOON_NS, check_books, open_house, without_fsync
from tests.oracle import Key, default_contract, held_by_shares, judge, judge_file
from tests.property.test_order import FEEDS

pytestmark = pytest.mark.property

Times = Mapping[int, int]
LIMITS = st.sampled_from([None, (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.25, 0.75)])
KEYS = [st.integers(n * LEAST_KEYS, (n + 1) * LEAST_KEYS - 1) for n in range(4)]
EVENTS = st.integers(0, 3)
FEW, LATER, MORE = (dict.fromkeys(range(n, n + LEAST_KEYS), ev) for n, ev in ((0, 1), (0, 3), (LEAST_KEYS, 3)))


@st.composite
def key_times(draw: st.DrawFn) -> Times:
    """Some decades of keys, so that files are large enough to be judged, with a few other ones; each has its time."""
    decades = draw(st.sets(st.integers(0, 3), max_size=3))
    keys = {key for decade in decades for key in range(decade * LEAST_KEYS, (decade + 1) * LEAST_KEYS)}
    keys |= draw(st.sets(st.integers(0, 4 * LEAST_KEYS - 1), max_size=9))
    usual = draw(EVENTS)
    odd = draw(st.dictionaries(st.sampled_from(sorted(keys)), EVENTS, max_size=9)) if keys else {}
    return dict.fromkeys(keys, usual) | odd


@cache
def database() -> duckdb.DuckDBPyConnection:
    """One for all examples: to begin one takes longer than to count with it."""
    return duckdb.connect(config={"threads": 1})


def keyed(times: Times) -> dict[Key, int]:
    return {(key,): ev for key, ev in times.items()}


def fill(name: str, rows: Sequence[tuple[int, ...]], *columns: str) -> None:
    table = pa.table({c: pa.array([row[i] for row in rows], pa.int64()) for i, c in enumerate(columns)})
    database().register(name, table)


@settings(max_examples=40)
@given(st.lists(st.tuples(key_times(), LIMITS), max_size=5), key_times())
@example([(FEW, None), (FEW, (1.0, 0.0))], {})  # the time of a file before it
@example([(FEW, (1.0, 0.0))], FEW)  # the time of the target
@example([(LATER | MORE, (0.25, 1.0)), (FEW, (1.0, 0.0))], FEW)  # and what is later is of a file that is held
def test_any_files_are_judged_as_if_they_came_one_by_one(
    files: list[tuple[Times, tuple[float, float] | None]], known: Times
) -> None:
    fill("file_keys", [(k, n, ev) for n, (times, _) in enumerate(files) for k, ev in times.items()], "k", "place", "ev")
    fill("known_times", list(known.items()), "k", "ev")
    looks: list[int] = []

    def count(without: Collection[int]) -> Iterator[KeyCounts]:
        looks.append(len(without))
        return (KeyCounts(*row) for row in database().execute(counts_sql(without)).fetchall())

    held = held_files({n: Shares(*limits) for n, (_, limits) in enumerate(files) if limits is not None}, count)
    wanted = held_by_shares([(keyed(times), limits) for times, limits in files], keyed(known), LEAST_KEYS)
    assert {place: broken.rule for place, broken in held.items()} == {
        place: f"max_{why}_share" for place, why in enumerate(wanted) if why
    }
    assert looks == sorted(set(looks))  # every look decides about one more file, or ends it


# -- whole pipelines --------------------------------------------------------------------------------------------------

ALLOWED = {"acme": (0.5, 0.25)}


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[FeedFile]]:
    """Files of two vendors in some batches; each has an address of its own, so that none is another one again."""
    batches: list[list[FeedFile]] = []
    number = 0
    for _ in range(draw(st.integers(2, 3))):
        batches.append([])
        for _ in range(draw(st.integers(1, 3))):
            vendor, day = draw(st.sampled_from(("acme", "acme", "blue"))), draw(st.integers(20, 22))
            times = [(f"K{key}", f"2026-11-20T0{ev}:00:00Z") for key, ev in draw(key_times()).items()]
            rows = [cells(key, time, address=str(number)) for key, time in times]
            content = csv_bytes(rows, NO_ADDRESS) if vendor == "blue" else csv_bytes(rows)
            batches[-1].append(FeedFile(f"{vendor}/f{number}_2026_11_{day}.csv", content, NOON_NS))
            number += 1
    return batches


@pytest.mark.slow
@settings(max_examples=share(FEEDS // 3))
@given(st.sampled_from(("upsert", "append")), arrivals())
def test_a_pipeline_holds_what_the_oracle_holds(mode: str, batches: list[list[FeedFile]]) -> None:
    loaded: list[FeedFile] = []
    known: dict[Key, int] = {}
    began: set[str | None] = set()
    shares = tuple((name, Shares(*limits)) for name, limits in ALLOWED.items())
    with tempfile.TemporaryDirectory() as folder, without_fsync():
        house = open_house(Path(folder), f'mode = "{mode}"\n', vendors=FEED_VENDORS, shares=shares)
        for batch in batches:
            house.drop_all(batch)
            states = {one.file_name: str(one.state) for one in house.run().deliveries}
            read = [(file, *judge_file(file, default_contract(), FEED_VENDORS, 0.2, 5)) for file in batch]
            read.sort(key=lambda one: one[1].order)
            judged = []
            for _, verdict, rows in read:
                times: dict[Key, int] = {}
                for row in rows:
                    key = (row.values["tracking_num"],)
                    times[key] = max(row.order[0], times.get(key, row.order[0]))
                judged.append((times, ALLOWED.get(str(verdict.vendor)) if verdict.vendor in began else None))
            for (file, verdict, _), (times, _), why in zip(
                read, judged, held_by_shares(judged, known, LEAST_KEYS), strict=True
            ):
                assert states[file.path.rpartition("/")[2]] == ("held" if why else verdict.state)
                if not why and verdict.state == "loaded":
                    began.add(verdict.vendor)
                    loaded.append(file)
                    known |= {key: max(time, known.get(key, time)) for key, time in times.items()}
        assert house.target() == judge(loaded, None, FEED_VENDORS).target
        check_books(house)
