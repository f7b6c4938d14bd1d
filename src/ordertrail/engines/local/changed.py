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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from ordertrail.engines.local.whole import cured
from ordertrail.model import Contract
from ordertrail.rules.accepted import recorded_sql
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.migration import Effect
from ordertrail.rules.placing import NEWEST_FIRST, contract_key_sql, order_sql, placed_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, history_columns

if TYPE_CHECKING:
    import duckdb

_OLDER = {"bn": "older_bn", "pos": "older", "ch": "older_ch"}

WHY = ("_delivery_id", "_file_name", "_file_row", "_outcome")
"""Where the row after a change is from, and what became of it."""


_BATCH_BITS = 33
"""A change's place in the order is `batch << _BATCH_BITS | number of its key << 1`, plus 1 for the row after it."""

_PART_ROWS = 600_000
"""So many rows before and after changes are sorted at a time, which DuckDB does in its memory."""

_FEW = 3
"""When the history has more than so many rows for each that is wanted, these are taken out once for all parts."""

_WHOLE_ROWS = 3_000_000
"""So many rows one statement sorts in the memory of a stream, and spills."""

_END = 1 << 62

_TELLS = "h.place & 1 = 1 OR NOT h.here"
"""SQL that is true of the one row of each change that tells of it: the row after it or, of a delete, the row before."""


Once = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Makes SQL by name from SQL by name."""


def _said(*, removes: bool) -> dict[str, str]:
    """SQL of `_batch`, `_change` and `WHY`; with deletes over relation `c` too."""
    change = "CASE WHEN NOT h.here THEN 'delete' WHEN h.was THEN 'update' ELSE 'insert' END"
    # What a correction brings back has an outcome of its own time.
    outcome = "CASE WHEN h._batch = h.b THEN h._outcome ELSE if(h.was, 'updated', 'inserted') END"
    told = {**{name: f"h.{name}" for name in WHY}, "_outcome": outcome}
    head = {"_batch": "h.b", "_change": change}
    if not removes:
        return {**head, **told}
    gone = dict(zip(WHY, ("c.delivery_id", "c.file_name", "NULL", "'removed'"), strict=True))
    return {**head, **{name: f"if(h.here, {sql}, {gone[name]})" for name, sql in told.items()}}


def _paired_sql(ordered: str, cells: Mapping[str, str], once: Mapping[str, str]) -> str:
    """SQL of changes, each with the row before it and the row after it, from SQL of these rows in order."""
    paired = "".join(
        f", if(here, {cell}, NULL) AS {name_sql(f'after_{name}')}, "
        f"if(here, if(was, lag({cell}) OVER (), NULL), {cell}) AS {name_sql(f'before_{name}')}"
        for name in cells
        for cell in (name_sql(name),)
    )
    both = f"SELECT place, here{paired}, {', '.join(map(name_sql, once))} FROM ({ordered})"
    told = f"SELECT * EXCLUDE (place, here), place >> {_BATCH_BITS} AS b FROM ({both})"
    return f"{told} WHERE place & 1 = 1 OR NOT here"


@dataclass(slots=True)
class OpenChanges:
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

    def rows_sql(self, cells: Mapping[str, str], once: Once, *, whole: bool = False) -> Iterator[str]:
        """Find the changes, and give SQL of them, by batch and key: each statement of those after the one before.

        Args:
            cells: Names and SQL of what is wanted of the row before and of the one after, over relation `h` with the
                columns `content`.
            once: Names and SQL of what is told once for each change, from the SQL of `_batch`, `_change` and `WHY`.
            whole: Whether to give one statement. With many changes it may take the memory that the config allows.

        Yields:
            SQL with columns `b`, the batch; `after_<name>` and `before_<name>` for each cell; and those of `once`.
        """
        self._find()
        removes = bool(self._run("SELECT 1 FROM changes WHERE NOT here LIMIT 1"))
        self._run("SET preserve_insertion_order = true")
        # Of each change the row before comes first, the row after it next. What is sorted is the narrower the quicker.
        named = "".join(f", {sql} AS {name_sql(name)}" for name, sql in cells.items())
        said = once(_said(removes=removes))
        told = "".join(f", if({_TELLS}, {sql}, NULL) AS {name_sql(name)}" for name, sql in said.items())
        causes = "LEFT JOIN causes c ON NOT h.here AND h.b = c.batch" if removes else ""
        rows = f"SELECT h.place, h.was, h.here{named}{told} FROM ({self._ends_sql()}) h {causes}"
        ((count,),) = self._run("SELECT count(*) FROM ends")
        if whole and int(str(count)) > _WHOLE_ROWS:
            self._run(f"SET memory_limit = '{self.config.memory_limit_mb}MB'")
        cuts = [] if whole or int(str(count)) <= _PART_ROWS else self._cuts()
        for begin, end in zip(bounds := [0, *cuts, _END], bounds[1:], strict=False):
            part = f"h.place >= {begin} AND h.place < {end} AND ({self._concerned_sql()})"
            yield _paired_sql(f"{rows} WHERE {part} ORDER BY place", cells, said)

    def flat_sql(
        self, cell: Callable[[TableColumn, str], str] = lambda _, sql: sql, *, whole: bool = False
    ) -> Iterator[str]:
        """Find the changes, and give SQL of them with the columns `columns`, in statements as `rows_sql`.

        Args:
            cell: Gives SQL of what is wanted of a cell, from its column and its SQL.
            whole: As of `rows_sql`.
        """
        typed = {column.name: column for column in history_columns(self.contract)}
        wanted = {name: cell(typed[name], f"h.{name_sql(name)}") for name in self.content}
        key = {name: wanted.pop(name) for name in self.contract.key}
        listed = ", ".join(map(name_sql, self.columns))
        for rows in self.rows_sql(wanted, lambda said: {**said, **key}, whole=whole):
            yield f"SELECT {listed} FROM ({rows})"

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

    # -- parts ------------------------------------------------------------------------------------------------------

    def _run(self, sql: str) -> list[tuple[object, ...]]:
        return self.con.execute(sql).fetchall()

    def _find(self) -> None:
        """Make `changes`: for each change its key and batch, and the places of the rows before and after it."""
        effects = self.migrations.items()
        migrations = [one for one, effect in effects if self.first <= one <= self.last and effect != Effect()]
        made = corrections_in(self._run, "ledger", self.last)
        if made:
            make_spans(self._run, made, "ledger")
        self._touch(everything=bool(migrations))
        self._narrow()
        plain = "narrow_rows"
        if made:
            self._run(
                "CREATE TEMP TABLE corrected_keys AS SELECT DISTINCT k FROM narrow_rows "
                "WHERE delivery_id IN (SELECT delivery_id FROM spans) OR bn IN (FROM correction_batches)"
            )
            plain = "(FROM narrow_rows WHERE k NOT IN (FROM corrected_keys))"
            corrected = "FROM narrow_rows WHERE k IN (FROM corrected_keys)"
            states = corrected_states_sql(corrected, self.absent)
            self._run(f"CREATE TEMP TABLE changes AS {self._of_states(states, migrations)}")
        if self.absent:
            found = self._of_states(plain_states_sql(f"FROM {plain}", self.absent), migrations)
        else:
            found = self._of_leaders(plain, migrations)
        self._run(f"INSERT INTO changes BY NAME {found}" if made else f"CREATE TEMP TABLE changes AS {found}")
        for name in ("narrow_rows", "leaders", "possible_keys"):
            self._run(f"DROP TABLE IF EXISTS {name}")
        if self.net:
            self._run(f"CREATE OR REPLACE TEMP TABLE changes AS {self._net_sql()}")

    def _cuts(self) -> list[int]:
        """Places at which the rows of `ends` fall into parts of at most `_PART_ROWS`, ascending."""
        numbered = "SELECT place, row_number() OVER (ORDER BY place) AS n FROM ends"
        cuts = self._run(f"SELECT (place >> 1) << 1 FROM ({numbered}) WHERE n % {_PART_ROWS} = 0 ORDER BY 1")
        return [int(str(place)) for (place,) in cuts]

    def _concerned_sql(self) -> str:
        """SQL that is true of the rows that a migration sends again, and of all other changes."""
        cases = []
        for batch, effect in self.migrations.items():
            if not effect.all and set(effect.columns) <= set(self.content):
                filled = " OR ".join(f"h.{name_sql(name)} IS NOT NULL" for name in (*effect.columns, "_rescued"))
                cases.append(f"WHEN h.b = {batch} THEN {filled if effect.columns else 'false'}")
        if not cases:
            return "true"
        last = "" if not self.net else "true"  # of several batches it may be any of them
        return last or f"NOT h.again OR CASE {' '.join(cases)} ELSE true END"

    def _touch(self, *, everything: bool) -> None:
        """Make `possible_keys`: the keys that these batches may have changed, numbered in their order."""
        contract = self.contract
        concerned = (
            "SELECT unnest(CAST(correction::JSON -> '$.of' AS VARCHAR[])) FROM ledger "
            f"WHERE correction IS NOT NULL AND batch BETWEEN {self.first} AND {self.last}"
        )
        where = f"coalesce(_batch, 0) BETWEEN {self.first} AND {self.last}"
        if self._run(f"SELECT 1 FROM ({concerned}) LIMIT 1"):
            where = f"({where} OR _delivery_id IN ({concerned}))"
        if everything:
            where = recorded_sql(self.last)
        key = contract_key_sql(contract)
        columns = [name_sql(name) for name in contract.key]
        order = ", ".join(columns) if len(columns) > 1 or self._type(contract.key[0]) != "string" else "k"
        parts = "".join(f", min({name}) AS {name}" for name in columns)
        self._run(
            "CREATE TEMP TABLE possible_keys AS SELECT k AS t, row_number() OVER (ORDER BY "
            f"{order}) AS n FROM (SELECT {key} AS k{parts} FROM {self.past} WHERE {where} GROUP BY 1)"
        )

    def _type(self, name: str) -> str:
        return next(column.type for column in self.contract.columns if column.name == name)

    def _narrow(self) -> None:
        """Make `narrow_rows`: the rows of these keys, with number of the key, order, batch, place and content hash."""
        contract, absent = self.contract, self.absent
        whole = row_hash_sql({name: name_sql(name) for name in self.content if name not in absent})
        # The history's own hash is of the same columns; `verify` proves it.
        content = whole if absent else f"coalesce(_row_hash, {whole})"
        hashes = "".join(f", {row_hash_sql({n: name_sql(n)})} AS h_{i}" for i, n in enumerate(absent))
        rows = (
            f"SELECT n AS k, {order_sql(contract)}, coalesce(_batch, 0) AS bn, _pos AS pos, {content} AS ch{hashes} "
            f"FROM {self.past} JOIN possible_keys ON {contract_key_sql(contract)} = t WHERE {recorded_sql(self.last)}"
        )
        self._run(f"CREATE TEMP TABLE narrow_rows AS {placed_sql(f'({rows})', absent)}")

    def _of_leaders(self, rows: str, migrations: Sequence[int]) -> str:
        """SQL of `changes` where every cell of a key comes from its newest row.

        A row *leads* from its batch on when all newer rows of its key came in later batches.
        """
        order = f"PARTITION BY k ORDER BY {NEWEST_FIRST}"
        beside = ", ".join(f"lead({one}) OVER ({order}) AS {name}" for one, name in _OLDER.items())
        newer = f"min(bn) OVER ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        self._run(
            f"CREATE TEMP TABLE leaders AS SELECT k, bn, pos, ch, {', '.join(_OLDER.values())} FROM (SELECT k, bn, "
            f"pos, ch, {newer} AS newer_bn, {beside} FROM {rows}) WHERE newer_bn IS NULL OR bn < newer_bn"
        )
        # The next older row led before this one, unless it came later, or in the same batch.
        mixed = "SELECT k FROM leaders WHERE older_bn >= bn"
        before = "PARTITION BY k ORDER BY bn"
        found = (
            "SELECT k, bn, pos, ch, older, older_ch FROM leaders "
            f"WHERE bn >= {self.first} AND k NOT IN ({mixed}) UNION ALL "
            f"SELECT k, bn, pos, ch, lag(pos) OVER ({before}), lag(ch) OVER ({before}) FROM leaders "
            f"WHERE k IN ({mixed})"
        )
        changed = (
            "SELECT k, bn AS b, older IS NOT NULL AS was, true AS here, false AS again, pos, pos AS m, older AS old_m, "
            f"ch AS s, older_ch AS old_s FROM ({found}) WHERE bn >= {self.first} AND ch IS DISTINCT FROM older_ch"
        )
        for batch in migrations:
            place, content = "arg_max(pos, bn)", "arg_max(ch, bn)"
            changed += (
                f" UNION ALL SELECT k, {batch}, true, true, true, {place}, {place}, {place}, {content}, {content} "
                f"FROM leaders WHERE bn < {batch} GROUP BY k"
            )
        return changed

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
        """SQL of the rows before and after each change, with `place`, `b`, `was`, `here`, `again` and `_batch`."""
        absent = self.absent
        more = "".join(f", {{0}}m_{i} AS m_{i}" for i in range(len(absent)))
        flags = f"((b << {_BATCH_BITS - 1}) | k) * 2 + {{}} AS place, b, was, here, again, pos"
        after = f"SELECT {flags.format(1)}, m{more.format('')} FROM changes WHERE here"
        before = f"SELECT {flags.format(0)}, old_m AS m{more.format('old_')} FROM changes WHERE was"
        ends = f"{after} UNION ALL {before}"
        of_end = "e.place, e.b, e.was, e.here, e.again"
        said = ", ".join(("_batch", *WHY))
        if not absent:
            self._run(f"CREATE TEMP TABLE ends AS SELECT * EXCLUDE (pos) FROM ({ends})")
            self._run("DROP TABLE changes")
            cells = ", ".join(f"p.{name_sql(name)}" for name in self.content)
            of_row = ", ".join(f"p.{name}" for name in ("_batch", *WHY))
            past = self.past
            ((count,),) = self._run("SELECT count(*) FROM ends")
            if int(str(count)) > _PART_ROWS and (self.history.live_rows or 0) > _FEW * int(str(count)):
                names = ", ".join(map(name_sql, self.content))
                rows = f"SELECT {names}, {said}, _pos FROM {past} WHERE _pos IN (SELECT m FROM ends)"
                self._run(f"CREATE TEMP TABLE pieces AS {rows}")
                past = "pieces"
            return f"SELECT {of_end}, {cells}, {of_row} FROM {past} p JOIN ends e ON p._pos = e.m"
        self._run(f"CREATE TEMP TABLE ends AS {ends}")
        self._run("DROP TABLE changes")
        names = ", ".join(map(name_sql, self.content))
        wanted = " UNION ".join(
            f"SELECT {name} FROM ends" for name in ("pos", "m", *(f"m_{i}" for i in range(len(absent))))
        )
        self._run(f"CREATE TEMP TABLE pieces AS SELECT {names}, {said}, _pos FROM {self.past} WHERE _pos IN ({wanted})")
        carriers = dict.fromkeys(self.content, "p") | {name: f"p_{i}" for i, name in enumerate(absent)}
        cells = ", ".join(f"{carriers[name]}.{name_sql(name)}" for name in self.content)
        of_row = ", ".join(f"w.{name}" for name in ("_batch", *WHY))
        joins = "JOIN pieces p ON p._pos = e.m LEFT JOIN pieces w ON w._pos = e.pos"
        joins += "".join(f" LEFT JOIN pieces p_{i} ON p_{i}._pos = e.m_{i}" for i in range(len(absent)))
        return f"SELECT {of_end}, {cells}, {of_row} FROM ends e {joins}"
