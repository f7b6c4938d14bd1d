"""The rows before and after changes, and SQL of the changes as flat rows.

A change has two *ends*, the row before it and the row after it; each has a place in the order of all of them, by batch
and key. Many of them are read in parts. A row after a change nearly always lies in the history where its batch lies, so
that a part reads little; what lies elsewhere, as the rows before do, is taken out once for all parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct

from ordertrail.arrow import integers
from ordertrail.engines.local.changed import BATCH_BITS, WHY, OpenChanges
from ordertrail.engines.local.leaders import Numbers
from ordertrail.rules.sql import name_sql

_PART_ROWS = 600_000
"""So many ends are sorted at a time, which DuckDB does in its memory."""

_WHOLE_ROWS = 3_000_000
"""So many ends one statement sorts in the memory of a stream, and spills."""

_GRAIN_BITS = 14
"""A part begins at a place that is a multiple of 2 to this power: so many ends it may have more than was wanted."""

ABOVE = 1 << 62
"""Above all places in the order."""

_OF_END = f"e.place AS _place, e.place >> {BATCH_BITS} AS _b, e.was AS _was, e.here AS _here, e.again AS _again"
"""SQL of what an end has beside its row, from `ends`. No column of a contract begins with an underscore."""

_OF_ROW = ("_batch", *WHY)
"""What an end has of its row beside the cells."""

_TELLS = "h._place & 1 = 1 OR NOT h._here"
"""SQL that is true of the one end of each change that tells of it: the row after it or, of a delete, the row before."""


class Ends(Struct, frozen=True):
    """Table `ends` of some changes, from `find_ends`.

    Attributes:
        opened: The changes.
        rows: How many ends there are.
        removes: Whether there are deletes among the changes.
        apart: Whether ends are read in parts, and table `pieces` has those whose rows lie elsewhere than their batch.
        grains: Places at which parts may begin, ascending; shape (n,).
        counts: How many ends there are up to the next one of `grains`, from the lowest on; shape (n,).
    """

    opened: OpenChanges
    rows: int
    removes: bool
    apart: bool
    grains: Numbers
    counts: Numbers

    def said(self) -> dict[str, str]:
        """SQL of `_batch`, `_change` and `WHY`, over what `part` gives."""
        change = "CASE WHEN NOT h._here THEN 'delete' WHEN h._was THEN 'update' ELSE 'insert' END"
        # What a correction brings back has an outcome of its own time.
        outcome = "CASE WHEN h._batch = h._b THEN h._outcome ELSE if(h._was, 'updated', 'inserted') END"
        told = {**{name: f"h.{name}" for name in WHY}, "_outcome": outcome}
        head = {"_batch": "h._b", "_change": change}
        if not self.removes:
            return {**head, **told}
        gone = dict(zip(WHY, ("c.delivery_id", "c.file_name", "NULL", "'removed'"), strict=True))
        return {**head, **{name: f"if(h._here, {sql}, {gone[name]})" for name, sql in told.items()}}

    def following(self, begin: int, rows: int) -> tuple[int, int]:
        """Where the part ends that begins at a place; no change is divided.

        Args:
            begin: The place; 0 is the lowest.
            rows: About so many ends the part has, see `_GRAIN_BITS`.

        Returns:
            The place, `ABOVE` when no end is left; and the number of ends.
        """
        if not self.apart:
            return ABOVE, self.rows
        first = int(np.searchsorted(self.grains, begin))
        before = int(self.counts[first - 1]) if first else 0
        last = max(int(np.searchsorted(self.counts, before + rows, side="right")), first + 1)
        if last < len(self.grains):
            # A part reads all rows of its batches: so it has whole ones, or an even share of the rest of one.
            batches = self.grains >> BATCH_BITS
            whole = int(np.searchsorted(batches, batches[last]))
            rest = int(self.counts[np.searchsorted(batches, batches[first], side="right") - 1]) - before
            share = int(np.searchsorted(self.counts, before + rest / math.ceil(rest / rows))) + 1
            last = whole if whole > first else share
        return int(self.grains[last]) if last < len(self.grains) else ABOVE, int(self.counts[last - 1]) - before

    def part(self, begin: int = 0, end: int = ABOVE) -> str:
        """SQL of the ends from one place to before another one, whole: what follows `FROM`.

        Relation `h` has `_place`, `_b`, `_was`, `_here`, `_again`, the columns `content`, `_batch` and `WHY`; where
        there are deletes `c` has what removed them.
        """
        opened, first, last = self.opened, begin >> BATCH_BITS, (end - 1) >> BATCH_BITS
        within = f"e.place >= {begin} AND e.place < {end}"
        if opened.absent:
            rows = f"{_joined_sql(opened)} WHERE {within}"
        elif self.apart:
            own = f"{_read_sql(opened)} WHERE e.own AND p._batch BETWEEN {first} AND {last} AND {within}"
            rows = f"{own} UNION ALL SELECT * FROM pieces WHERE _place >= {begin} AND _place < {end}"
        else:
            rows = f"{_read_sql(opened)} WHERE {within}"
        causes = "LEFT JOIN causes c ON NOT h._here AND h._b = c.batch" if self.removes else ""
        return f"({rows}) h {causes} WHERE ({self._concerned_sql()})"

    def _concerned_sql(self) -> str:
        """SQL that is true of the rows that a migration sends again, and of all other changes."""
        cases = []
        for batch, effect in self.opened.migrations.items():
            if not effect.all and set(effect.columns) <= set(self.opened.content):
                filled = " OR ".join(f"h.{name_sql(name)} IS NOT NULL" for name in (*effect.columns, "_rescued"))
                cases.append(f"WHEN h._b = {batch} THEN {filled if effect.columns else 'false'}")
        if not cases:
            return "true"
        last = "" if not self.opened.net else "true"  # of several batches it may be any of them
        return last or f"NOT h._again OR CASE {' '.join(cases)} ELSE true END"


def find_ends(opened: OpenChanges, few: int) -> Ends:
    """Find the changes, and get ready to read their ends.

    Args:
        opened: Which changes.
        few: So many ends are read at once.
    """
    rows, removes = opened.find()
    absent, apart = opened.absent, rows > few
    if absent:
        names = ", ".join((*map(name_sql, opened.content), *_OF_ROW))
        wanted = " UNION ".join(f"SELECT {name} FROM ends" for name in ("pos", "m", *_places_of(absent)))
        opened.run(f"CREATE TEMP TABLE pieces AS SELECT {names}, _pos FROM {opened.past} WHERE _pos IN ({wanted})")
    elif apart:
        opened.run(f"CREATE TEMP TABLE pieces AS {_read_sql(opened, of_after=True)} WHERE NOT e.own")
    cut = f"SELECT (place >> {_GRAIN_BITS}) << {_GRAIN_BITS} AS grain, count(*) AS n FROM ends GROUP BY 1 ORDER BY 1"
    found = opened.con.sql(cut if apart else f"{cut} LIMIT 0").to_arrow_table()
    grains, counts = (integers(found.column(name), 0) for name in ("grain", "n"))
    return Ends(opened, rows, removes, apart, grains, np.cumsum(counts))


def _read_sql(opened: OpenChanges, *, of_after: bool = False) -> str:
    """SQL, up to its `WHERE`, of ends `e` with what `Ends.part` gives of their rows, read from the history `p`.

    Args:
        opened: Which changes.
        of_after: Whether of the rows before changes only the cells are wanted, which is all that is told of them.
    """
    cells = ", ".join(f"p.{name_sql(name)}" for name in opened.content)
    told = "if(e.place & 1 = 1, p.{0}, NULL) AS {0}" if of_after else "p.{0}"
    of_row = ", ".join(map(told.format, _OF_ROW))
    return f"SELECT {_OF_END}, {cells}, {of_row} FROM {opened.past} p JOIN ends e ON p._pos = e.m"


def _joined_sql(opened: OpenChanges) -> str:
    """The same where deliveries lack columns, from table `pieces`: each of these columns may come from another row."""
    carriers = dict(zip(opened.absent, _places_of(opened.absent), strict=True))
    cells = ", ".join(f"{carriers.get(name, 'm')}.{name_sql(name)}" for name in opened.content)
    of_row = ", ".join(f"w.{name}" for name in _OF_ROW)
    joins = "".join(f" LEFT JOIN pieces {name} ON {name}._pos = e.{name}" for name in carriers.values())
    return (
        f"SELECT {_OF_END}, {cells}, {of_row} FROM pieces m JOIN ends e ON m._pos = e.m "
        f"LEFT JOIN pieces w ON w._pos = e.pos{joins}"
    )


def _places_of(absent: Sequence[str]) -> list[str]:
    """The columns of `ends` with the places of the rows that columns come from which deliveries lack."""
    return [f"m_{i}" for i in range(len(absent))]


def flat_sql(opened: OpenChanges, *, whole: bool = False) -> Iterator[str]:
    """Find the changes, and give SQL of them by batch and key: each statement of those after the one before.

    Args:
        opened: Which changes.
        whole: Whether to give one statement. With many changes it may take the memory that the config allows.

    Yields:
        SQL with the columns `OpenChanges.columns`.
    """
    ends = find_ends(opened, ABOVE if whole else _PART_ROWS)
    if whole and ends.rows > _WHOLE_ROWS:
        opened.run(f"SET memory_limit = '{opened.config.memory_limit_mb}MB'")
    opened.run("SET preserve_insertion_order = true")
    key = opened.contract.key
    cells = [name for name in opened.content if name not in key]
    said = {**ends.said(), **{name: f"h.{name_sql(name)}" for name in key}}
    # Of each change the row before comes first, the row after it next. What is sorted is the narrower the quicker.
    named = "".join(f", h.{name_sql(name)}" for name in cells)
    told = "".join(f", if({_TELLS}, {sql}, NULL) AS {name_sql(name)}" for name, sql in said.items())
    listed = ", ".join(map(name_sql, opened.columns))
    end = 0
    while end < ABOVE:
        begin, (end, _) = end, ends.following(end, _PART_ROWS)
        rows = f"SELECT h._place, h._was, h._here{named}{told} FROM {ends.part(begin, end)} ORDER BY _place"
        yield f"SELECT {listed} FROM ({_paired_sql(rows, cells, said)})"


def _paired_sql(ordered: str, cells: list[str], said: Mapping[str, str]) -> str:
    """SQL of changes, each with the row before it and the row after it, from SQL of these rows in order."""
    paired = "".join(
        f", if(_here, {cell}, NULL) AS {name_sql(f'after_{name}')}, "
        f"if(_here, if(_was, lag({cell}) OVER (), NULL), {cell}) AS {name_sql(f'before_{name}')}"
        for name in cells
        for cell in (name_sql(name),)
    )
    both = f"SELECT _place, _here{paired}, {', '.join(map(name_sql, said))} FROM ({ordered})"
    return f"SELECT * FROM ({both}) WHERE _place & 1 = 1 OR NOT _here"
