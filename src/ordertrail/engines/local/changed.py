"""Which rows of the history made the changes of some batches, and SQL of these changes.

A batch changed a key when the fold through it differs in content (the contract's columns and `_rescued`) from the fold
through the batch before. Only keys that the wanted batches touch are replayed, and the history of these keys is read
twice: narrow (key, order, batch, content hash), which finds for each change the places of the rows before and after it,
and those rows once more, whole. DuckDB sorts them by batch and key, and spills what does not fit into its memory, so
any number of changes can be streamed.

A migration writes the history anew, so that it tells of every batch in today's columns. What the target was before in
the old ones is not there any more: the batch of a migration sends the rows again that it may have changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from msgspec import Struct, field

from ordertrail.arrow import numbers
from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.local.bearers import (
    corrected_states_sql,
    corrections_in,
    differs_sql,
    make_spans,
    plain_states_sql,
)
from ordertrail.engines.local.in_turn import in_turn
from ordertrail.engines.local.leaders import FOUND_SQL, changes_of, leaders_of
from ordertrail.engines.local.relations import PLACED
from ordertrail.engines.local.whole import cured
from ordertrail.model import Contract
from ordertrail.rules.accepted import recorded_sql
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.migration import Effect
from ordertrail.rules.placing import OLDEST_FIRST, contract_key_sql, order_sql, placed_sql
from ordertrail.rules.sql import name_sql

if TYPE_CHECKING:
    import duckdb

WHY = ("_delivery_id", "_file_name", "_file_row", "_outcome")
"""Where the row after a change is from, and what became of it."""


BATCH_BITS = 33
"""The place of a row before or after a change is `batch << BATCH_BITS | number of its key << 1`, plus 1 if after."""

_SORTED_ROWS = 250_000
"""So many rows of keys are sorted at a time, by number of the key; see `leaders_of`."""

_SORTED_AT_A_TIME = 2
"""So many of these parts are sorted at the same time."""

_MANY_ROWS = 32 * _SORTED_ROWS
"""A history of that many rows is sorted by DuckDB first, which spills."""

_UNKNOWN = f"coalesce(_delivery_id, '') NOT IN (SELECT delivery_id FROM {PLACED})"
"""SQL that is true of the history's rows that no recorded delivery told; they do not count."""

_KNOWN = f"delivery_id IN (SELECT delivery_id FROM {PLACED})"
"""SQL that is true of all others."""


def _hashes(key: str) -> tuple[str, str]:
    """SQL of two numbers that together stand for a key: to compare them is twice as quick as to compare texts."""
    return f"hash({key})", f"hash('~' || {key})"


class OpenChanges(Struct):
    """The changes of some batches, ready to be read. From `open_changes`.

    Attributes:
        config: With the contract that the tables carry.
        con: DuckDB of its own.
        history: What is replayed.
        first: The first batch, inclusive.
        last: The last batch, inclusive; one less than `first` when none is done yet.
        net: See `Wanted`.
        notes: What the reader must know of the target, one line each.
        absent: The contract's columns that some delivery lacks.
        past: SQL of the history's rows, with `_pos`.
        migrations: What each batch that was a migration may have changed.
    """

    config: Config
    con: duckdb.DuckDBPyConnection
    history: Snapshot
    first: int
    last: int
    net: bool
    notes: tuple[str, ...]
    absent: tuple[str, ...] = ()
    past: str = ""
    migrations: Mapping[int, Effect] = field(default_factory=dict)

    @property
    def contract(self) -> Contract:
        """Of the tables."""
        return self.config.contract

    @property
    def content(self) -> tuple[str, ...]:
        """The columns that make up a row: the contract's and `_rescued`."""
        return (*self.contract.names, "_rescued")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of changes as flat rows."""
        key = self.contract.key
        rest = [name for name in self.content if name not in key]
        pairs = [f"{when}_{name}" for when in ("before", "after") for name in rest]
        return ("_batch", "_change", *key, *pairs, *WHY)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate errors of DuckDB within the block, and say how to repair a table."""
        with cured(self.config), duckdb_errors("cannot read the changes"):
            yield

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Run one statement to its end and return its rows."""
        return self.con.execute(sql).fetchall()

    def find(self) -> tuple[int, bool]:
        """Find the changes, and make `ends`: the places of the rows before and after each change, in the history.

        Returns:
            How many such rows there are; and whether there are deletes among the changes.
        """
        effects = self.migrations.items()
        migrations = [one for one, effect in effects if self.first <= one <= self.last and effect != Effect()]
        made = corrections_in(self.run, "ledger", self.last)
        if made:
            make_spans(self.run, made, "ledger")
        self._touch(everything=bool(migrations))
        self._find_changes(bool(made), migrations)
        for name in ("narrow_rows", "sorted_rows", "tied_keys", "possible_keys"):
            self.run(f"DROP TABLE IF EXISTS {name}")
        if self.net:
            self.run(f"CREATE OR REPLACE TEMP TABLE changes AS {self._net_sql()}")
        removes = bool(self.run("SELECT 1 FROM changes WHERE NOT here LIMIT 1"))
        self.run(f"CREATE TEMP TABLE ends AS {self._ends_sql()}")
        self.run("DROP TABLE changes")
        ((count,),) = self.run("SELECT count(*) FROM ends")
        return int(str(count)), removes

    # -- parts ------------------------------------------------------------------------------------------------------

    def _find_changes(self, corrected: bool, migrations: Sequence[int]) -> None:
        """Make `changes`: for each change its key and batch, and the places of the rows before and after it."""
        recorded = f"FROM {self.past} WHERE {recorded_sql(self.last)}"
        ((hashless, unknown),) = self.run(f"SELECT bool_or(_row_hash IS NULL), bool_or({_UNKNOWN}) {recorded}")
        rows, plain = self._rows_sql(hashed=not hashless), _KNOWN if unknown else "true"
        placed = placed_sql(f"({rows})", self.absent)
        if corrected or self.absent:
            self.run(f"CREATE TEMP TABLE narrow_rows AS {placed}")
            rows = placed = "FROM narrow_rows"
        if corrected:
            self.run(
                "CREATE TEMP TABLE corrected_keys AS SELECT DISTINCT k FROM narrow_rows "
                "WHERE delivery_id IN (SELECT delivery_id FROM spans) OR bn IN (FROM correction_batches)"
            )
            plain = "k NOT IN (FROM corrected_keys)"
            states = corrected_states_sql("FROM narrow_rows WHERE k IN (FROM corrected_keys)", self.absent)
            self.run(f"CREATE TEMP TABLE changes AS {self._of_states(states, migrations)}")
        if self.absent:
            found = self._of_states(plain_states_sql(f"FROM narrow_rows WHERE {plain}", self.absent), migrations)
            self.run(f"INSERT INTO changes BY NAME {found}" if corrected else f"CREATE TEMP TABLE changes AS {found}")
            return
        # Few rows are of the same time as another one of their key: only these need the other columns of the order.
        self._lead(f"SELECT k, ev AS ord, bn, pos, ch FROM ({rows}) WHERE {plain}", migrations)
        if self.run("SELECT 1 FROM tied_keys LIMIT 1"):
            placed = f"SELECT * FROM ({placed}) WHERE k IN (FROM tied_keys)"
            order = f"row_number() OVER (ORDER BY {OLDEST_FIRST})"
            self._lead(f"SELECT k, {order} AS ord, bn, pos, ch FROM ({placed})", migrations)

    def _touch(self, *, everything: bool) -> None:
        """Make `possible_keys`: the keys that these batches may have changed, numbered in their order."""
        contract = self.contract
        concerned = (
            "SELECT unnest(CAST(correction::JSON -> '$.of' AS VARCHAR[])) FROM ledger "
            f"WHERE correction IS NOT NULL AND batch BETWEEN {self.first} AND {self.last}"
        )
        where = f"coalesce(_batch, 0) BETWEEN {self.first} AND {self.last}"
        if self.run(f"SELECT 1 FROM ({concerned}) LIMIT 1"):
            where = f"({where} OR _delivery_id IN ({concerned}))"
        if everything:
            where = recorded_sql(self.last)
        key = contract_key_sql(contract)
        columns = [name_sql(name) for name in contract.key]
        plain = len(columns) == 1 and self._type(contract.key[0]) == "string"
        order = "_key" if plain else ", ".join(columns)
        parts = "" if plain else "".join(f", min({name}) AS {name}" for name in columns)
        one, two = _hashes("_key")
        self.run(
            f"CREATE TEMP TABLE possible_keys AS SELECT {one} AS _one, {two} AS _two, row_number() OVER (ORDER BY "
            f"{order}) AS _n FROM (SELECT {key} AS _key{parts} FROM {self.past} WHERE {where} GROUP BY 1)"
        )

    def _type(self, name: str) -> str:
        return next(column.type for column in self.contract.columns if column.name == name)

    def _rows_sql(self, *, hashed: bool) -> str:
        """SQL of the rows of these keys: the number `k` of the key, order, batch, place and hashes of the content.

        Args:
            hashed: Whether all rows of the history have their hash.
        """
        contract, absent = self.contract, self.absent
        whole = row_hash_sql({name: name_sql(name) for name in self.content if name not in absent})
        # The history's own hash is of the same columns; `verify` proves it.
        content = whole if absent else "_row_hash" if hashed else f"coalesce(_row_hash, {whole})"
        hashes = "".join(f", {row_hash_sql({n: name_sql(n)})} AS h_{i}" for i, n in enumerate(absent))
        one, two = _hashes(contract_key_sql(contract))
        return (
            f"SELECT _n AS k, {order_sql(contract)}, coalesce(_batch, 0) AS bn, _pos AS pos, {content} AS ch{hashes} "
            f"FROM {self.past} JOIN (FROM possible_keys) ON {one} = _one AND {two} = _two "
            f"WHERE {recorded_sql(self.last)}"
        )

    def _lead(self, rows: str, migrations: Sequence[int]) -> None:
        """Append to `changes` those of keys of which every cell comes from the newest row, and to `tied_keys` the rest.

        Args:
            rows: SQL of their rows, see `leaders_of`.
            migrations: Batches that send all rows again.
        """
        run = self.run
        # Of many rows those of a part of the keys must lie together.
        together = " ORDER BY k" if (self.history.live_rows or _MANY_ROWS) >= _MANY_ROWS else ""
        run(f"CREATE OR REPLACE TEMP TABLE sorted_rows AS {rows}{together}")
        ((count, lowest, highest),) = run("SELECT count(*), coalesce(min(k), 0), coalesce(max(k), 0) FROM sorted_rows")
        parts = 1 + int(str(count)) // _SORTED_ROWS
        bounds = np.linspace(int(str(lowest)), int(str(highest)) + 1, parts + 1).astype(np.int64).tolist()

        def found(part: pa.Table) -> tuple[pa.Table, pa.Table]:
            leaders, tied = leaders_of(part)
            return changes_of(leaders, self.first, migrations), pa.table({"k": numbers(tied)})

        rows_of = (
            self.con.sql(
                f"SELECT k, ord, bn, pos, ch FROM sorted_rows WHERE k >= {begin} AND k < {end}"
            ).to_arrow_table()
            for begin, end in pairwise(bounds)
        )
        with ThreadPoolExecutor(_SORTED_AT_A_TIME, thread_name_prefix="ordertrail-leaders") as workers:
            for changes, tied in in_turn(workers, (partial(found, part) for part in rows_of), _SORTED_AT_A_TIME - 1):
                self._append("changes", FOUND_SQL, changes)
                self._append("tied_keys", "SELECT k FROM", tied)

    def _append(self, name: str, sql: str, rows: pa.Table) -> None:
        """Append rows to a table, which is made if it is not there: what the SQL, up to its `FROM`, makes of them."""
        self.con.register("found_rows", rows)
        self.run(f"CREATE TEMP TABLE IF NOT EXISTS {name} AS {sql} found_rows LIMIT 0")
        self.run(f"INSERT INTO {name} BY NAME {sql} found_rows")
        self.con.unregister("found_rows")

    def _of_states(self, states: str, migrations: Sequence[int]) -> str:
        """SQL of `changes` from the states of keys, see `bearers.plain_states_sql`."""
        absent = self.absent
        places = ("m", *(f"m_{i}" for i in range(len(absent))))
        hashes = ", ".join(("s", *(f"s_{i}" for i in range(len(absent)))))
        content = f"hash({hashes})" if absent else "s"
        old = "".join(f", lag({name}) OVER (PARTITION BY k ORDER BY b) AS old_{name}" for name in places)
        seen = (
            f"SELECT *, coalesce(lag(here) OVER (PARTITION BY k ORDER BY b), false) AS was{old}, "
            f"lag(content) OVER (PARTITION BY k ORDER BY b) AS old_s, {differs_sql(absent)} AS changed "
            f"FROM (SELECT *, {content} AS content FROM ({states}))"
        )
        names = "".join(f", {name}, old_{name}" for name in places)
        changed = (
            f"SELECT k, b, was, here, false AS again, pos{names}, content AS s, old_s FROM seen "
            f"WHERE changed AND (was OR here) AND b BETWEEN {self.first} AND {self.last}"
        )
        for batch in migrations:
            kept = ", ".join(f"'{name}': {name}" for name in ("here", "pos", *places, "content"))
            again = "".join(f", x['{name}'], x['{name}']" for name in places)
            changed += (
                f" UNION ALL SELECT k, {batch}, true, true, true, x['pos']{again}, x['content'], x['content'] FROM "
                f"(SELECT k, arg_max({{{kept}}}, b) AS x FROM seen WHERE b < {batch} GROUP BY k) WHERE x['here']"
            )
        return f"WITH seen AS MATERIALIZED ({seen}) {changed}"

    def _net_sql(self) -> str:
        """SQL of one change a key: from before its first change to after its last one, where these differ."""
        places = ("m", *(f"m_{i}" for i in range(len(self.absent))))
        # In structs, because arg_max and arg_min pass over NULLs.
        last = "".join(f", arg_max({{'at': {name}}}, b)['at'] AS {name}" for name in ("here", "pos", *places, "s"))
        first = "".join(
            f", arg_min({{'at': {name}}}, b)['at'] AS {name}"
            for name in ("was", *(f"old_{p}" for p in places), "old_s")
        )
        return (
            f"SELECT * FROM (SELECT k, max(b) AS b, bool_or(again) AS again{last}{first} FROM changes GROUP BY k) "
            "WHERE (was OR here) AND NOT (was AND here AND s = old_s AND NOT again)"
        )

    def _ends_sql(self) -> str:
        """SQL of `ends`: `place` in the order, `was`, `here`, `again`, `own`, and the places of rows in the history.

        These are `m`; where deliveries lack columns also `m_<i>`, and `pos` of the row that made the change. A row is
        `own` when it is of the batch of the change, and was told in it.
        """
        places = ("m", *(f"m_{i}" for i in range(len(self.absent))))
        flags = f"((b << {BATCH_BITS - 1}) | k) * 2 + {{}} AS place, was, here, again, {{}} AS own"
        flags += ", pos" if self.absent else ""
        own = "NOT again AND b <> 0 AND b NOT IN (SELECT batch FROM causes)"
        old = "".join(f", old_{name} AS {name}" for name in places)
        after = f"SELECT {flags.format(1, own)}, {', '.join(places)} FROM changes WHERE here"
        return f"{after} UNION ALL SELECT {flags.format(0, 'false')}{old} FROM changes WHERE was"
