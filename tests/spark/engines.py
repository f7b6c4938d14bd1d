"""Two engines side by side: the same files, and what must be equal afterwards."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ordertrail.config import SparkSettings
from tests.feeds import FEED_LIMITS, FEED_VENDORS, NO_ADDRESS, FeedFile, cells, csv_bytes
from tests.harness import CLOCKS, House, bag, columns_of, open_house
from tests.oracle import Row
from tests.spark.session import Spark

TABLES = ("target", "history", "rejects", "deliveries")
ON_DRIVER = "spark", SparkSettings()
IN_EXECUTORS = "spark", SparkSettings(driver_max_bytes=0)
EMBEDDED = "embedded", SparkSettings()

_STATUSES = ("PICKED_UP", "IN_TRANSIT", "DELIVERED", "", "LOST")
_ADDRESSES = ("X", "Y", "", 'Main "St", 1\nMünchen')


def feed(count: int, seed: int) -> list[FeedFile]:
    """Files of two vendors that meet every outcome and every state; `blue` never sends an address."""
    pick = random.Random(seed)
    files: list[FeedFile] = []
    for number in range(count):
        day, hour = pick.randint(18, 23), number % 24
        mtime_ns = int((1_795_000_000 + number * 60) * 10**9)
        vendor = "blue" if number % 5 == 0 else "acme"
        name = f"{vendor}/order_tracking_2026_11_{day}_{number:03d}.csv"
        kind = pick.random()
        if kind < 0.05:
            files.append(FeedFile(name, b"order_num,status\n1,X\n", mtime_ns))
        elif kind < 0.08:
            files.append(FeedFile(name, csv_bytes([]), mtime_ns))
        elif kind < 0.14 and files:
            files.append(FeedFile(name, pick.choice(files).content, mtime_ns))
        else:
            rows = [_row(pick, day, hour) for _ in range(pick.randint(1, 12))]
            if kind < 0.3:
                rows.append(("1", "K1", "2026-02-30", "", "IN_TRANSIT", "X", f"2026-11-{day} 08:00:00"))
                rows.append(("ragged",))
            if vendor == "acme":
                rows.append(cells("SAME", "2026-11-18 08:00:00"))
            files.append(FeedFile(name, _content(vendor, rows), mtime_ns))
    return files


def _row(pick: random.Random, day: int, hour: int) -> tuple[str, ...]:
    time = f"2026-11-{day - pick.randint(0, 1)} {pick.choice((8, 9, hour)):02d}:00:00"
    return cells(f"K{pick.randint(1, 60):03d}", time, pick.choice(_STATUSES), pick.choice(_ADDRESSES))


def _content(vendor: str, rows: Sequence[tuple[str, ...]]) -> bytes:
    return csv_bytes(rows, NO_ADDRESS) if vendor == "blue" else csv_bytes(rows)


def load(
    root: Path, batches: Sequence[Sequence[FeedFile]], engines: Callable[[int], tuple[str, SparkSettings]]
) -> House:
    """A house where batches came one after the other, each taken in by an engine of its own."""
    house = open_house(root, vendors=FEED_VENDORS, **FEED_LIMITS)
    for number, files in enumerate(batches):
        house.drop_all(files)
        engine, settings = engines(number)
        house.turn(engine=engine, spark=settings)
        assert house.run().batch == number + 1
    return house


def state(house: House, rows: Callable[[House, str], list[Row]] | None = None) -> Mapping[str, Counter[Any]]:
    """All four tables without their audit times, the rows in no order, and the archive."""
    read = rows or (lambda house, table: house.rows(table))
    found: dict[str, Counter[Any]] = {}
    for table in TABLES:
        names = [column.name for column in columns_of(house, table) if column.name not in CLOCKS]
        found[table] = bag([{name: row[name] for name in names} for row in read(house, table)])
    found["archive"] = Counter({(path[11:], content): 1 for path, content in house.archived().items()})
    return found


def by_name(spark: Spark) -> Callable[[House, str], list[Row]]:
    """Reads a table by its three names."""

    def rows(house: House, table: str) -> list[Row]:
        names = ", ".join(f"`{column.name}`" for column in columns_of(house, table))
        return spark.select(f"SELECT {names} FROM {name_of(house, table)}")

    return rows


def name_of(house: House, table: str) -> str:
    """The three names of a table."""
    return f"{house.config.catalog}.{house.config.schema}.{getattr(house.config.tables, table)}"


def check_same(left: Mapping[str, Counter[Any]], right: Mapping[str, Counter[Any]]) -> None:
    """Equal row for row; else the rows that differ are shown."""
    for name in left:
        only_left, only_right = left[name] - right[name], right[name] - left[name]
        assert not only_left, f"{name}: {list(only_left)[:3]} against {list(only_right)[:3]}"
        assert not only_right, f"{name}: {list(only_right)[:3]}"


class Crash(BaseException):
    """The process ends here, as far as the tables can tell."""


def crash_at(effect: str) -> Callable[[str], None]:
    """A probe that ends the pass after an effect."""

    def probe(name: str) -> None:
        if name == effect:
            raise Crash(name)

    return probe
