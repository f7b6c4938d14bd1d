"""P2 and P7 of the order rules: many keys, each with a history of its own, in four batches, on every way of Spark.

A pass costs Spark seconds, whatever it holds: so all traps of the rules come in the same few passes, each as a key of
its own, with random histories beside them. What must come of it say an oracle that knows no batches, the table of
traps, and the embedded engine, row for row.
"""

from __future__ import annotations

import csv
import io
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from ordertrail.config import SparkSettings
from ordertrail.model import Column, Contract, Vendor
from tests.contract.test_foreign_writes import rows_as_arrow, target_of, with_values
from tests.contract.test_others_columns import add_columns
from tests.feeds import FeedFile, dated
from tests.harness import NOON_NS, House, check_books, check_readers, open_house, without_fsync
from tests.oracle import Accepted, Key, Row, fold, judge_file, keyed
from tests.spark.engines import EMBEDDED, IN_EXECUTORS, ON_DRIVER, check_same, state
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]

CONTRACT = Contract(
    columns=(
        Column("depot", "int", required=True),
        Column("parcel", "string", required=True),
        Column("seen", "timestamp", required=True),
        Column("state", "string"),
        Column("address", "string"),
        Column("day", "date"),
        Column("big", "bigint"),
        Column("weight", "double"),
        Column("price", "decimal(8,2)"),
        Column("fragile", "boolean"),
    ),
    key=("depot", "parcel"),
    order_by="seen",
    status="state",
    status_rank=("NEW", "UNDERWAY", "OLD"),
)
"""A key of two columns of different types, and every type that a column may have."""

BLUE = Vendor("blue", "blue/*.csv", absent=("address",), rows="newest_first")
VENDORS = (Vendor("acme", "acme/*.csv"), BLUE)
OTHER_PROFILE = (Vendor("acme", "acme/*.csv", status_map=(("LOST", "OLD"), ("UNDERWAY", "NEW"))), BLUE)
LIMITS = {"max_reject_share": 0.2, "min_rejects": 5}

FILES = {
    "first": f"acme/{dated(20)}",
    "second": f"acme/{dated(21)}",
    "reread": f"acme/{dated(20, '_reread')}",
    "third": f"acme/{dated(22, '_third')}",
    "late": f"acme/{dated(20, '_late')}",
    "middle": f"acme/{dated(21, '_middle')}",
    "between": f"acme/{dated(22, '_between')}",
    "bare": f"blue/{dated(22, '_bare')}",
    "last": f"acme/{dated(23)}",
}
BATCHES = (("first", "second", "reread"), ("third", "late"), ("middle", "between", "reread"), ("bare", "last"))
"""Before the third batch the profile changes, so that `reread` is read anew; `bare` does not carry `address`."""

AT, LATER, LATEST = "2026-11-20 08:00:00", "2026-11-20 08:00:00.000001", "2026-11-21 09:00:00"

X = ("X", "2026-11-19", "9223372036854775807", "31.5", "12.30", "true")
Y = ("Y", "", "-5", "", "-0.05", "false")
EMPTY = ("", "", "", "", "", "")
CONTENTS = (X, Y, EMPTY, ('Main "St", 1\nMünchen', *X[1:]))

RANDOM_KEYS = 80


class Said(NamedTuple):
    """A row: the file that says it, when, the state, what else, and the outcome when it is known."""

    file: str
    seen: str
    state: str
    content: tuple[str, ...] = X
    outcome: str = ""


TRAPS: Mapping[str, Sequence[Said]] = {
    "two rows of a key in a batch": [
        Said("first", AT, "NEW", X, "superseded"),
        Said("first", LATEST, "OLD", X, "duplicate"),
        Said("first", LATEST, "OLD", X, "inserted"),
    ],
    "the later file is read first": [
        Said("second", LATEST, "OLD", X, "inserted"), Said("first", AT, "NEW", X, "superseded"),
    ],
    "a late row": [Said("second", LATEST, "OLD", X, "inserted"), Said("late", AT, "NEW", X, "stale")],
    "a microsecond later": [Said("second", AT, "OLD", X, "inserted"), Said("late", LATER, "NEW", Y, "updated")],
    "the time goes before the state": [
        Said("first", AT, "OLD", X, "superseded"), Said("first", LATEST, "NEW", X, "inserted"),
    ],
    "the file goes before the state": [Said("first", AT, "OLD", X, "inserted"), Said("third", AT, "NEW", Y, "updated")],
    "the higher state first": [Said("first", AT, "OLD", X, "inserted"), Said("late", AT, "UNDERWAY", X, "stale")],
    "the higher state last": [Said("first", AT, "NEW", X, "inserted"), Said("late", AT, "OLD", X, "updated")],
    "no state below an unknown one": [Said("first", AT, "GONE", X, "inserted"), Said("late", AT, "", X, "stale")],
    "an unknown state below a known one": [
        Said("first", AT, "GONE", X, "inserted"), Said("late", AT, "NEW", X, "updated"),
    ],
    "the path decides": [Said("first", AT, "NEW", X, "inserted"), Said("late", AT, "NEW", Y, "updated")],
    "the row decides": [Said("third", AT, "NEW", X, "superseded"), Said("third", AT, "NEW", Y, "inserted")],
    "the row above decides": [Said("bare", AT, "NEW", X, "inserted"), Said("bare", AT, "NEW", Y, "superseded")],
    "the same again": [
        Said("first", AT, "NEW", X, "inserted"), Said("third", AT, "NEW", X, "unchanged"),
        Said("late", AT, "NEW", X, "duplicate"),
    ],
    "the same from an older file": [Said("second", AT, "NEW", X, "inserted"), Said("late", AT, "NEW", X, "unchanged")],
    "equal rows with another between them": [
        Said("third", AT, "NEW", X, "duplicate"), Said("third", AT, "NEW", Y, "superseded"),
        Said("third", AT, "NEW", X, "inserted"),
    ],
    # Files 1 and 3 say X, so the target bears file 1; then file 2 says Y, and only history knows better.
    "there and back again": [
        Said("first", AT, "NEW", X, "inserted"), Said("third", AT, "NEW", X, "unchanged"),
        Said("middle", AT, "NEW", Y, "stale"),
    ],
    "there and back again on one day": [
        Said("first", AT, "NEW", X, "inserted"), Said("third", AT, "NEW", X, "unchanged"),
        Said("between", AT, "NEW", Y, "stale"),
    ],
    "there and on": [
        Said("first", AT, "NEW", X, "inserted"), Said("late", AT, "NEW", X, "unchanged"),
        Said("middle", AT, "NEW", Y, "updated"),
    ],
    "history has it at another time": [
        Said("first", LATER, "NEW", X, "inserted"), Said("third", AT, "NEW", X, "stale"),
        Said("middle", LATER, "NEW", Y, "updated"),
    ],
    "nothing beside something": [Said("first", AT, "NEW", EMPTY, "inserted"), Said("third", AT, "", EMPTY, "updated")],
    "the same file under another profile": [
        Said("reread", AT, "LOST", X, "inserted updated"),
    ],
    "the profile changes nothing": [Said("reread", AT, "OLD", X, "inserted unchanged")],
    "a newer row stands against the profile": [
        Said("reread", AT, "LOST", X, "inserted stale"), Said("third", AT, "NEW", Y, "updated"),
    ],
    "new in the third batch": [Said("middle", AT, "NEW", X, "inserted")],
    # From here on the rows of a key are folded.
    "an address that is not sent is kept": [
        Said("first", AT, "NEW", X, "inserted"), Said("bare", LATEST, "OLD", Y, "updated"),
    ],
    "an address that was never sent": [Said("bare", LATEST, "OLD", X, "inserted")],
    "an older row brings the address": [
        Said("middle", AT, "NEW", EMPTY, "inserted"), Said("bare", LATEST, "OLD", Y, "superseded"),
        Said("last", LATEST, "OLD", X, "updated"),
    ],
    "without an address and the same": [Said("first", AT, "NEW", X, "inserted"), Said("bare", AT, "NEW", X, "stale")],
}  # fmt: skip
"""Each is a key. A file that is read twice gives each row two outcomes, in the order of the batches."""

THEIRS: Mapping[str, Sequence[Said]] = {
    "newer copy": [Said("first", AT, "NEW"), Said("middle", LATER, "NEW", Y, "stale")],
    "equal copy": [Said("first", AT, "NEW"), Said("middle", AT, "NEW", X, "unchanged")],
    "other copy": [Said("first", AT, "NEW"), Said("middle", LATEST, "OLD", Y, "updated")],
    "untouched copy": [Said("first", AT, "NEW")],
    "deleted": [Said("first", AT, "NEW"), Said("middle", LATEST, "NEW", Y, "inserted")],
    "corrected": [Said("first", AT, "NEW"), Said("middle", AT, "NEW", X, "updated")],
    "moved": [Said("first", AT, "NEW"), Said("middle", LATER, "NEW", Y, "stale")],
    "nobody's tie": [Said("middle", AT, "NEW", Y, "updated")],
    "nobody's newer": [Said("middle", LATER, "NEW", Y, "stale")],
    "during the load": [Said("first", AT, "NEW")],
    "beside it": [Said("first", AT, "NEW"), Said("middle", LATEST, "OLD", X, "updated")],
}
"""Keys whose rows somebody else writes to between the second and the third batch."""

TRAP, RANDOM, FOREIGN = 0, 12, 7
"""Depots: no key of one is a key of another."""


def rows_of_keys() -> list[tuple[int, str, Said]]:
    """All rows in the order in which they stand in their files."""
    pick = random.Random(17)
    rows = [(TRAP, key, said) for key, history in TRAPS.items() for said in history]
    rows += [(FOREIGN, key, said) for key, history in THEIRS.items() for said in history]
    for number in range(RANDOM_KEYS):
        for file in FILES:
            for _ in range(pick.choice((0, 0, 1, 1, 2))):
                state = pick.choice(("NEW", "UNDERWAY", "OLD", "LOST", ""))
                said = Said(file, pick.choice((AT, AT, LATER, LATEST)), state, pick.choice(CONTENTS))
                rows.append((RANDOM, f"{number % 20}{'x' * (number // 20)}", said))
    # Keys that differ only in where one column ends.
    rows += [(1, "23", Said("first", AT, "NEW", X)), (12, "3", Said("first", AT, "NEW", Y))]
    return rows


ROWS = rows_of_keys()
HALF_A_KEY = ["5", "", AT, "NEW", *X]


def file_of(name: str) -> FeedFile:
    """A file of the feed."""
    bare = name == "bare"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    unknown = ["courier"] if name == "last" else []
    writer.writerow([*(column for column in CONTRACT.names if not (bare and column == "address")), *unknown])
    for depot, key, said in ROWS:
        if said.file == name:
            writer.writerow([depot, key, said.seen, said.state, *said.content[1 if bare else 0 :], *unknown])
    if name == "second":
        writer.writerow(HALF_A_KEY)
    return FeedFile(FILES[name], text.getvalue().encode(), NOON_NS)


def outcomes_said() -> dict[tuple[str, int], list[str]]:
    """The outcomes of the rows of traps, by file name and row, in the order of the batches."""
    count: Counter[str] = Counter()
    found: dict[tuple[str, int], list[str]] = {}
    for _, _, said in ROWS:
        count[said.file] += 1
        if said.outcome:
            found[Path(FILES[said.file]).name, count[said.file]] = said.outcome.split()
    return found


def oracles_target() -> dict[Key, Row]:
    """What the oracle says of the keys that nobody else writes to."""
    by_key: dict[Key, list[Accepted]] = {}
    rounds = ((VENDORS, BATCHES[0] + BATCHES[1]), (OTHER_PROFILE, BATCHES[2] + BATCHES[3]))
    for number, (vendors, names) in enumerate(rounds):
        for name in names:
            for row in judge_file(file_of(name), CONTRACT, vendors, *LIMITS.values(), number)[1]:  # type: ignore[arg-type]
                by_key.setdefault(tuple(row.values[column] for column in CONTRACT.key), []).append(row)
    return {key: fold(CONTRACT, rows) for key, rows in by_key.items() if key[0] != FOREIGN}


# --- what somebody else does -----------------------------------------------------------------------------------------


def their_key(key: str) -> str:
    """SQL that is true for the rows of one of these keys."""
    return f"depot = {FOREIGN} AND parcel = '{key}'"


def write_among_them(house: House) -> None:
    """Somebody adds a column of their own, and copies, corrects and deletes rows."""
    add_columns(house, note="string")
    target_of(house).update(updates={"note": "concat('note of ', parcel)"}, predicate=f"depot IN ({TRAP}, {FOREIGN})")
    later = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    nobodys: dict[str, object] = {"_delivery_id": None, "_file_row": None, "_vendor": None, "address": "theirs"}
    copies = [
        with_values(rows_as_arrow(house, their_key("newer copy")), address="theirs", seen=later, note="newer"),
        rows_as_arrow(house, their_key("equal copy")),
        with_values(rows_as_arrow(house, their_key("other copy")), address="theirs", seen=later, note="other"),
        with_values(rows_as_arrow(house, their_key("untouched copy")), note="untouched"),
        with_values(rows_as_arrow(house, their_key("beside it")), parcel="nobody's tie", **nobodys),
        with_values(rows_as_arrow(house, their_key("beside it")), parcel="nobody's newer", seen=later, **nobodys),
    ]
    write_deltalake(target_of(house), pa.concat_tables(copies), mode="append")
    target_of(house).delete(their_key("deleted"))
    target_of(house).update(updates={"address": "'theirs'"}, predicate=their_key("corrected"))
    target_of(house).update(new_values={"address": "theirs", "seen": later}, predicate=their_key("moved"))


def amid_the_load(house: House) -> Callable[[str], None]:
    """A probe: somebody writes when the new rows are weighed, and not committed yet."""
    done: list[str] = []

    def probe(name: str) -> None:
        if name == "load.files" and not done:
            done.append(name)
            target_of(house).update(updates={"address": "'amid'"}, predicate=their_key("during the load"))

    return probe


def notes(house: House) -> Counter[tuple[object, ...]]:
    """What is in the column of others."""
    query = QueryBuilder().register("t", DeltaTable(house.table_path("target")))
    found = pa.table(query.execute("SELECT depot, parcel, address, note FROM t"))
    return Counter(tuple(row.values()) for row in found.to_pylist())


# --- the passes ------------------------------------------------------------------------------------------------------

Settings = tuple[str, SparkSettings]


class Played(NamedTuple):
    """A pipeline after all batches, and what each pass said of the vendors' files."""

    house: House
    said: list[tuple[str, ...]]


def play(house: House, first: Settings, others: Settings) -> Played:
    """All batches; the first may be another engine's."""
    said: list[tuple[str, ...]] = []
    house.turn(contract=CONTRACT, vendors=VENDORS, **LIMITS)
    for number, names in enumerate(BATCHES):
        engine, settings = others if number else first
        house.turn(engine=engine, spark=settings)
        if number == 2:
            check_books(house)
            house.foreign = True
            house.turn(vendors=OTHER_PROFILE)
            write_among_them(house)
        house.drop_all([file_of(name) for name in names])
        report = house.run(amid_the_load(house)) if number == 2 else house.run()
        assert (report.batch, report.warnings, report.recovered) == (number + 1, (), False)
        said.append(report.notes)
    return Played(house, said)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Played:
    with without_fsync():
        return play(open_house(tmp_path_factory.mktemp("embedded")), EMBEDDED, EMBEDDED)


def test_the_traps_are_there(embedded: Played) -> None:
    """The embedded engine, to which the ways of Spark are compared, does what the oracle and the table say."""
    house = embedded.house
    found: dict[tuple[str, int], list[str]] = {}
    for row in sorted(house.rows("history"), key=lambda row: int(str(row["_batch"]))):
        found.setdefault((str(row["_file_name"]), int(str(row["_file_row"]))), []).append(str(row["_outcome"]))
    said = outcomes_said()
    assert {place: found[place] for place in said} == said
    target = [row for row in house.rows("target") if row["depot"] != FOREIGN]
    assert keyed(target, CONTRACT) == oracles_target()
    assert Counter(row["batch"] for row in house.rows("rejects")) == {1: 1}
    theirs = Counter(str(row["parcel"]) for row in house.rows("target") if row["depot"] == FOREIGN)
    assert theirs == {**dict.fromkeys(THEIRS, 1), "untouched copy": 2}
    addresses = {str(row["parcel"]): row["address"] for row in house.rows("target") if row["depot"] == FOREIGN}
    assert [addresses[key] for key in ("newer copy", "moved", "nobody's newer")] == ["theirs"] * 3
    assert addresses["during the load"] == "amid"
    assert addresses["corrected"] == "X"
    assert notes(house)[FOREIGN, "other copy", "Y", "other"] == 1
    assert "columns that the contract does not know are kept in _rescued: 'courier'" in " ".join(embedded.said[-1])


@pytest.fixture
def named(tmp_path: Path, spark: Spark, elsewhere: None) -> Iterator[House]:
    """A pipeline whose tables only Spark reaches."""
    house = open_house(tmp_path, schema=f"rules_{uuid.uuid4().hex[:8]}")
    # The catalog keeps the tables in folders where other readers look for them.
    spark.run(f"CREATE SCHEMA {house.config.schema} LOCATION '{house.table_path('target').parent}'")
    yield house
    spark.run(f"DROP SCHEMA {house.config.schema} CASCADE")


def check_as(embedded: Played, played: Played) -> None:
    """Every table is as the embedded engine's, every reader reads the same, and the books balance."""
    house = played.house
    check_same(state(house), state(embedded.house))
    assert notes(house) == notes(embedded.house)
    assert played.said == embedded.said
    check_readers(house)
    check_books(house)


@pytest.mark.parametrize("settings", [ON_DRIVER, IN_EXECUTORS], ids=["driver", "executors"])
def test_all_traps_on_tables_in_folders(tmp_path: Path, spark: Spark, embedded: Played, settings: Settings) -> None:
    """The first batch is the embedded engine's: from there on Spark weighs and writes."""
    with without_fsync():
        check_as(embedded, play(open_house(tmp_path), EMBEDDED, settings))


def test_all_traps_on_tables_that_only_spark_reaches(spark: Spark, embedded: Played, named: House) -> None:
    by_name = "spark", SparkSettings(tables="two-level")
    with without_fsync():
        check_as(embedded, play(named, by_name, by_name))
