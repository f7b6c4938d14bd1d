"""Any sequence of our passes, of damage to the key index, of maintenance and of other engines' writes, with a model.

`World` holds a house and, in memory, what its target must hold: the rows of each key, as many as foreign writers left,
with their place in the total order. The model of a pass follows design section 6 and shares no code with the product.
After every step all readers must read what the model says. Foreign writes are those whose effect on later passes is
plain: they keep the audit columns and thereby a row's place in the order, or give the row an event time of its own.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Maintenance
from ordertrail.delta.actions import Json
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.delta.table import ROW_BITS, scan_sql
from ordertrail.delta.vectors import deleted_rows
from ordertrail.keep.maintain import maintain
from ordertrail.look.status import Reader
from ordertrail.model import Vendor
from ordertrail.rules.tables import TableColumn
from tests.feeds import TIMES, FeedFile, cells, csv_bytes, dated
from tests.harness import NOON_NS, READERS, House, Read, bag
from tests.oracle import EPOCH, Accepted, Row, RowOrder, default_contract, judge_file
from tests.vectors import file_vector

KEYS = ("007", "B", "C", "D", "E")
COMPARED = (*default_contract().names, "_revision")
MOST_COPIES = 3
"""How often a foreign append may leave a key in the target."""

FOREIGN_TIME = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
"""The first event time that a foreign writer gives; a second more with every write, so that none ties.

Whole seconds: delta-rs takes a time in an update for a float, and may cut a microsecond off.
"""


class Held(Struct, frozen=True):
    """A row of the target, as the model has it.

    Attributes:
        values: Contract columns.
        order: Its place in the total order.
        revision: As in `_revision`.
    """

    values: Row
    order: RowOrder
    revision: int

    def changed(self, **values: object) -> Held:
        """This row with other values; its place in the order follows its event time."""
        changed: Row = {**self.values, **values}  # type: ignore[dict-item]
        time = changed["last_update_timestamp"]
        assert isinstance(time, datetime)
        return replace(self, values=changed, order=((time - EPOCH) // timedelta(microseconds=1), *self.order[1:]))


Held_by_key = dict[str, tuple[Held, ...]]


class Writer(Protocol):
    """Another engine that writes to the target. Nothing but the named columns of the named rows changes."""

    def append(self, house: House, key: str, values: Mapping[str, object]) -> None:
        """Append a copy of the one row of `key`, or of the first, with other values."""

    def update(self, house: House, key: str, values: Mapping[str, object]) -> None:
        """Update every row of a key."""

    def delete(self, house: House, keys: tuple[str, str]) -> None:
        """Delete every row of two keys."""

    def merge(self, house: House, keys: tuple[str, str, str], values: Mapping[str, object]) -> None:
        """MERGE two copies of the row of the first key, with other values, under the two other keys."""

    def compact(self, house: House) -> None:
        """OPTIMIZE."""

    def vacuum(self, house: House) -> None:
        """Sweep everything that the newest version does not name."""

    def restore(self, house: House, version: int) -> None:
        """RESTORE."""


class DeltaRs:
    """delta-rs as a writer."""

    def append(self, house: House, key: str, values: Mapping[str, object]) -> None:
        write_deltalake(_table(house), _copy(house, key, values), mode="append")

    def update(self, house: House, key: str, values: Mapping[str, object]) -> None:
        _table(house).update(new_values=dict(values), predicate=f"tracking_num = '{key}'")

    def delete(self, house: House, keys: tuple[str, str]) -> None:
        _table(house).delete(f"tracking_num IN {keys}")

    def merge(self, house: House, keys: tuple[str, str, str], values: Mapping[str, object]) -> None:
        copies = [_copy(house, keys[0], {**values, "tracking_num": key}) for key in keys[1:]]
        merge = _table(house).merge(
            pa.concat_tables(copies), "t.tracking_num = s.tracking_num", source_alias="s", target_alias="t"
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def compact(self, house: House) -> None:
        _table(house).optimize.compact()

    def vacuum(self, house: House) -> None:
        # In full mode delta-rs also takes live vector files away that lie beside the data files, as Spark's do.
        full = not any(house.table_path("target").glob("deletion_vector_*.bin"))
        _table(house).vacuum(0, dry_run=False, enforce_retention_duration=False, full=full)

    def restore(self, house: House, version: int) -> None:
        _table(house).restore(version)


class ByVectors(DeltaRs):
    """As delta-rs, but its DELETE marks rows in vectors beside the data files, as Spark's does."""

    def delete(self, house: House, keys: tuple[str, str]) -> None:
        log = DeltaLog(house.table_path("target"))
        before = read_snapshot(log)
        with duckdb.connect(config={"threads": 1}) as con:
            relation = scan_sql(con, before, [TableColumn("tracking_num", "string", "")])
            found = con.execute(f"SELECT _pos FROM {relation} WHERE tracking_num IN {keys}").fetchall()
        actions: list[dict[str, Json]] = [{"commitInfo": {"operation": "DELETE", "operationParameters": {}}}]
        for index, file in enumerate(before.files.values()):
            doomed = [position % 2**ROW_BITS for (position,) in found if position >> ROW_BITS == index]
            if not doomed:
                continue
            assert file.rows is not None
            vector = file_vector(log.root, {*deleted_rows(log.root, file).tolist(), *doomed})
            actions += [file.remove(0), file.marked(vector, file.rows).add()]
        if len(actions) > 1:
            log.commit(before.version + 1, actions)


def _table(house: House) -> DeltaTable:
    return DeltaTable(house.table_path("target"))


def _copy(house: House, key: str, values: Mapping[str, object]) -> pa.Table:
    query = QueryBuilder().register("t", _table(house))
    rows = pa.table(query.execute(f"SELECT * FROM t WHERE tracking_num = '{key}' LIMIT 1"))
    for name, value in values.items():
        place = rows.schema.get_field_index(name)
        column = rows.schema.field(place)
        rows = rows.set_column(place, column, pa.array([value], column.type))
    return rows


def read_query(house: House, table: str, version: int | None = None) -> list[Row]:
    """With `ordertrail query`."""
    assert (table, version) == ("target", None)
    with Reader(house.config) as reader:
        rows: list[Row] = reader.query(f"SELECT * FROM {house.config.tables.target}").dicts()  # type: ignore[assignment]
    return rows


@dataclass(slots=True)
class World:
    """A house and the model of its target.

    Attributes:
        house: Must be new.
        writers: The other engines, by name.
        readers: Who must read what the model says; `ordertrail query`, delta-rs, Polars and DuckDB always.
        rows: The target, by key.
        history: Every accepted row.
        kept: The target at earlier versions that can still be restored.
        passes: How many files came.
    """

    house: House
    writers: Mapping[str, Writer]
    readers: Mapping[str, Read] = field(default_factory=dict)
    rows: Held_by_key = field(default_factory=dict)
    history: list[Accepted] = field(default_factory=list)
    kept: dict[int, Held_by_key] = field(default_factory=dict)
    passes: int = 0

    def check(self, doing: str) -> None:
        """Every reader reads what the model says; the target's version is remembered with it."""
        expected = bag([{**row.values, "_revision": row.revision} for rows in self.rows.values() for row in rows])
        for name, read in {**READERS, "ordertrail query": read_query, **self.readers}.items():
            found = bag([{column: row[column] for column in COMPARED} for row in read(self.house, "target", None)])
            assert found == expected, f"after {doing} {name} reads {found - expected} and not {expected - found}"
        self.kept[self.house.version()] = dict(self.rows)

    # -- what our passes do ---------------------------------------------------------------------------------

    def send(self, chance: random.Random) -> None:
        """One pass over one or two files; each key has one event time in a pass."""
        times = {key: chance.choice(TIMES) for key in KEYS}
        accepted: list[Accepted] = []
        for _ in range(chance.randint(1, 2)):
            self.passes += 1
            keys = [chance.choice(KEYS) for _ in range(chance.randint(1, 6))]
            rows = [
                cells(key, times[key], chance.choice(("IN_TRANSIT", "DELIVERED")), chance.choice("XY")) for key in keys
            ]
            # Blank lines make no row, and the bytes of no file those of another.
            content = csv_bytes(rows) + b"\n" * self.passes
            file = FeedFile(dated(chance.randint(20, 22), f"_{self.passes}"), content, NOON_NS)
            self.house.drop_all([file])
            accepted += judge_file(file, default_contract(), (Vendor("default"),), 0.2, 5)[1]
        self.house.run()
        self._load(accepted)

    def _load(self, accepted: list[Accepted]) -> None:
        """The rules of design section 6, with copies of a key as foreign writers leave them."""
        by_key: dict[str, list[Accepted]] = {}
        for row in accepted:
            by_key.setdefault(str(row.values["tracking_num"]), []).append(row)
        for key, rows in by_key.items():
            newest = max(rows, key=lambda row: row.order)
            if not self.rows.get(key):
                self.rows[key] = (Held(newest.values, newest.order, 1),)
                continue
            best = max(self.rows[key], key=lambda held: held.order)
            if newest.values == best.values or newest.order < best.order or self._recalled(newest, best):
                self.rows[key] = (best,)
            else:
                self.rows[key] = (Held(newest.values, newest.order, best.revision + 1),)
        self.history += accepted

    def _recalled(self, newest: Accepted, best: Held) -> bool:
        """A row that ties with the target's is stale when history has a later one of the same time."""
        key, event_us = newest.values["tracking_num"], newest.order[0]
        same = (row for row in self.history if (row.values["tracking_num"], row.order[0]) == (key, event_us))
        return best.order[0] == event_us and any(row.order > newest.order for row in same)

    # -- what befalls the index, and maintenance ------------------------------------------------------------

    def drop_index(self, chance: random.Random) -> None:
        """The key index is a cache: it may go at any time, in whole or in part."""
        folder = self.house.config.warehouse / ".ordertrail-index"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        match chance.randrange(3):
            case 0 if files:
                chance.choice(files).unlink()
            case 1 if files:
                torn = chance.choice(files)
                torn.write_bytes(torn.read_bytes()[: chance.randrange(torn.stat().st_size + 1)])
            case _:
                shutil.rmtree(folder, ignore_errors=True)

    def maintain(self, chance: random.Random) -> None:
        """`ordertrail maintain`, with limits so low that there is always something to do; half the time it also
        takes away all that only older versions need."""
        eager = chance.random() < 0.5
        keep_h = 0.0 if eager else 168.0
        limits = Maintenance(max_small_files=1, max_deleted_share=0.1, retention_h=keep_h, log_retention_h=keep_h)
        maintain(replace(self.house.config, maintenance=limits))
        if eager:
            self.kept.clear()

    # -- what others write ----------------------------------------------------------------------------------

    def _someone(self, chance: random.Random, most: int = MOST_COPIES) -> str | None:
        """A key of the target with not too many copies."""
        there = sorted(key for key, rows in self.rows.items() if 0 < len(rows) <= most)
        return chance.choice(there) if there else None

    def _values(self, writer: str, chance: random.Random) -> dict[str, object]:
        """A foreign address, and half the time an event time of its own."""
        values: dict[str, object] = {"address": f"{writer} {self.house.version()}"}
        if chance.random() < 0.5:
            values["last_update_timestamp"] = self._time()
        return values

    def _time(self) -> datetime:
        """An event time that no vendor gives, and no other foreign write."""
        return FOREIGN_TIME + timedelta(seconds=self.house.version())

    def append(self, writer: str, chance: random.Random) -> None:
        """A copy of a row, or a newer row, beside a key's own; or a copy under a new key."""
        key = self._someone(chance, most=1)
        if key is None:
            return
        values: dict[str, object] = {}
        match chance.randrange(3):
            case 0:
                values = {"address": writer, "last_update_timestamp": self._time()}
            case 1:
                values = {"tracking_num": f"{writer} {self.house.version()}"}
        self.writers[writer].append(self.house, key, values)
        new = self.rows[key][0].changed(**values)
        beside = str(new.values["tracking_num"])
        self.rows[beside] = (*self.rows.get(beside, ()), new)

    def update(self, writer: str, chance: random.Random) -> None:
        """Another address for a key, half the time with a new event time."""
        key = self._someone(chance)
        if key is None:
            return
        values = self._values(writer, chance)
        self.writers[writer].update(self.house, key, values)
        self.rows[key] = tuple(row.changed(**values) for row in self.rows[key])

    def delete(self, writer: str, chance: random.Random) -> None:
        """Two keys go; that they are there is not said."""
        keys = (chance.choice(KEYS), chance.choice(KEYS))
        self.writers[writer].delete(self.house, keys)
        for key in keys:
            self.rows.pop(key, None)

    def merge(self, writer: str, chance: random.Random) -> None:
        """A row under an old key and under a new one: updates every copy of the old, inserts the new."""
        key, old = self._someone(chance, most=1), self._someone(chance)
        if key is None or old is None:
            return
        new = f"{writer} {self.house.version()}"
        values = self._values(writer, chance)
        self.writers[writer].merge(self.house, (key, old, new), values)
        source = self.rows[key][0].changed(**values)
        self.rows[old] = tuple(source.changed(tracking_num=old) for _ in self.rows[old])
        self.rows[new] = (source.changed(tracking_num=new),)

    def compact(self, writer: str, chance: random.Random) -> None:
        """OPTIMIZE changes no row."""
        self.writers[writer].compact(self.house)

    def vacuum(self, writer: str, chance: random.Random) -> None:
        """VACUUM changes no row, but nothing older can be restored."""
        self.writers[writer].vacuum(self.house)
        self.kept.clear()

    def restore(self, writer: str, chance: random.Random) -> None:
        """RESTORE: the model goes back too; history does not."""
        versions = sorted(version for version in self.kept if 0 < version < self.house.version())
        if not versions:
            return
        version = chance.choice(versions)
        self.writers[writer].restore(self.house, version)
        self.rows = dict(self.kept[version])


Step = tuple[str, str, int]
"""Who (a writer, or `ordertrail`), what (a method of `World`), and the seed of what is left to chance."""

OURS = ("send", "drop_index", "maintain")
FOREIGN = ("append", "update", "delete", "merge", "compact", "vacuum", "restore")


def play(world: World, step: Step) -> None:
    """Take a step, then look."""
    who, what, seed = step
    chance = random.Random(seed)
    if who == "ordertrail":
        ours: Callable[[random.Random], None] = getattr(world, what)
        ours(chance)
    else:
        foreign: Callable[[str, random.Random], None] = getattr(world, what)
        foreign(who, chance)
    world.check(f"{what} by {who}")
