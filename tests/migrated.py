"""A pipeline whose tables were migrated in every way, and what each version of a table held when it was the newest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, QueryBuilder
from msgspec.structs import replace

from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Contract, Vendor
from tests.harness import House, bag, open_house, without_fsync

TABLES = ("target", "history")

BEFORE = Contract(
    columns=(
        Column("tracking_num", "string", required=True, identifier=True),
        Column("depot", "string"),
        Column("status", "string"),
        Column("ts", "timestamp", required=True),
        Column("qty", "string"),
        Column("note", "string"),
    ),
    key=("tracking_num",),
    order_by="ts",
    status="status",
    status_rank=("NEW", "DONE"),
)
AFTER = Contract(
    columns=(
        Column("tracking_num", "string", required=True, identifier=True),
        Column("depot", "string", required=True),
        Column("state", "string", was=("status",)),
        Column("ts", "timestamp"),
        Column("seen", "timestamp", required=True),
        Column("qty", "int"),
        Column("weight", "decimal(8,2)"),
        Column("fragile", "boolean"),
    ),
    key=("tracking_num", "depot"),
    order_by="seen",
    status="state",
    status_rank=("DONE", "NEW"),
)
"""Columns added, filled (`weight`, `seen`), retyped (`qty`), renamed (`state`), dropped (`note`); key, order, ranks."""

LAST = replace(
    AFTER,
    columns=tuple(
        replace(one, type="double") if one.name == "qty" else one for one in AFTER.columns if one.name != "fragile"
    ),
    key=("tracking_num",),
)
"""Back to one key; a number becomes another kind of number, and a column leaves that no file ever had."""

STEPS = {"add", "fill", "type", "rename", "drop", "require", "key", "order"}

HEAD = "tracking_num,depot,status,ts,qty,note,Weight,seen\n"
FILES = (
    """K1,N,NEW,2026-11-20 08:00:00,1,a,1.5,2026-11-20 09:00:00
K2,N,NEW,2026-11-20 08:00:00,2,b,heavy,2026-11-20 09:00:00
K1,S,NEW,2026-11-20 07:00:00,3,c,,2026-11-20 09:30:00
""",
    """K1,N,DONE,2026-11-21 08:00:00,10,d,2.5,2026-11-21 09:00:00
K3,N,NEW,2026-11-21 08:00:00,12 pcs,e,4,2026-11-21 09:00:00
""",
    """K1,S,DONE,2026-11-22 08:00:00,13,f,5,2026-11-22 09:00:00
K4,N,NEW,2026-11-22 08:00:00,,g,6,2026-11-22 09:00:00
""",
    "K2,N,DONE,2026-11-23 08:00:00,14,h,7.25,2026-11-23 09:00:00\n",
)
"""Two before the first migration, one before the second, one after it."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a table when it was the newest.

    Attributes:
        table: `target` or `history`.
        number: Of the version.
        types: The Delta types of its columns by their names, as the log declares them.
        rows: Read by delta-rs at the time.
    """

    table: str
    number: int
    types: Mapping[str, str]
    rows: Counter[tuple[tuple[str, object], ...]]


class Migrated:
    """Four batches, and two migrations among them; each version of target and history is kept when it is made.

    Args:
        folder: For the pipeline.
    """

    def __init__(self, folder: Path) -> None:
        before = Vendor("acme", "*.csv")
        after = replace(before, absent=("fragile",))
        self.house: House = open_house(folder, contract=BEFORE, vendors=(before,), max_reject_share=0.5)
        self.versions: dict[tuple[str, int], Version] = {}
        self.steps: set[str] = set()
        with without_fsync():
            self._load(0)
            self._load(1)
            self.house.turn(contract=AFTER, vendors=(after,))
            self._migrate()
            self._load(2)
            self.house.turn(contract=LAST, vendors=(before,))
            self._migrate()
            self._load(3)

    def root(self, table: str) -> Path:
        """The folder of a table."""
        return self.house.table_path(table)

    def _load(self, number: int) -> None:
        self.house.drop(f"a_2026112{number}.csv", HEAD + FILES[number])
        self.house.run(self._keep)

    def _migrate(self) -> None:
        self.steps |= {step.kind for step in migrate(self.house.config, apply=True, probe=self._keep).steps}

    def _keep(self, _: str) -> None:
        """Keep what every table holds now, unless this version is kept already. Called after each effect."""
        for table in TABLES:
            if not (self.root(table) / "_delta_log").exists():
                continue
            found = DeltaTable(self.root(table))
            place = (table, found.version())
            if place not in self.versions:
                rows = pa.table(QueryBuilder().register("t", found).execute("SELECT * FROM t"))
                self.versions[place] = Version(*place, types_of(found), bag(rows.to_pylist()))


def types_of(table: DeltaTable) -> dict[str, str]:
    """The Delta types of a table's columns by their names."""
    return {str(one["name"]): str(one["type"]) for one in json.loads(table.schema().to_json())["fields"]}


def footers(root: Path, version: int) -> dict[str, dict[str, str]]:
    """For each data file of a version, the columns and types that its Parquet footer declares."""
    files = read_snapshot(DeltaLog(root), version).paths
    return {path.name: {one.name: delta_name(one.type) for one in pq.read_schema(path)} for path in files}


def delta_name(kind: pa.DataType) -> str:
    """Delta's name of an Arrow type."""
    return f"decimal({kind.precision},{kind.scale})" if pa.types.is_decimal(kind) else _DELTA_NAMES[kind]


_DELTA_NAMES = {
    pa.string(): "string",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.timestamp("us", "UTC"): "timestamp",
}
