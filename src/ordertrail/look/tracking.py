"""Finds a shipment: by its key, by the key in another case, by an order number, or by a part of the key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from os.path import samestat
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.delta.table import ROW_BITS
from ordertrail.engines.local.bearers import taken_back
from ordertrail.errors import UsageError
from ordertrail.look.as_of import AsOf, Then, place_sql
from ordertrail.look.beside import beside
from ordertrail.look.finder import MOST_HITS, Finder, Hits
from ordertrail.look.quick import Look
from ordertrail.look.rejected import rejected_rows
from ordertrail.look.rows import Row, rows_of
from ordertrail.look.terms import (
    ENDING,
    NUMBER,
    ORDER,
    SAID,
    beginning,
    ends_sql,
    holding,
    joined_sql,
    lower_sql,
    these,
    turned_sql,
)
from ordertrail.look.track import (
    CASE,
    ENDS,
    MIN_PART_CHARS,
    MOST_MATCHES,
    PART,
    STARTS,
    Match,
    Track,
    key_parts,
    order_numbers,
)
from ordertrail.model import State
from ordertrail.rules.accepted import RECORDED, lacking_sql
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.corrections import taken_back_words
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import target_columns
from ordertrail.rules.texts import visible

MOST_HELD = 20_000
"""The rows with a text in their number are taken from one reading of the table up to so many."""

_EVER = 1 << 62  # no batch comes after it
_TAKEN_BACK = frozenset({State.UNDONE.value, State.REPLAYED.value})
_OF_DELIVERY = (
    "delivery_id",
    "vendor",
    "path",
    "modified_at",
    "sha256",
    "file_key",
    "absent",
    "newest_first",
    "state",
    "changed_at",
    "changed_by",
    "changed_why",
)


def track(look: Look, finder: Finder, number: str | Sequence[str], as_of: AsOf | None = None) -> Track:
    """What is known about a key. When no row has exactly this key, it is searched for.

    By the first of these that finds any: the key in another case; a column that holds order numbers, in any case; the
    end of the key, its beginning, a part of it, in any case.

    Args:
        look: The tables.
        finder: Finds their rows.
        number: The key, trimmed before it is compared. A key of several columns: its parts joined by `/`, or as a list
            where a part may hold a `/` itself; a list is not searched for otherwise.
        as_of: Everything as it was then; None means now.

    Raises:
        UsageError: It does not have a part for each key column, and nothing else is found.
    """
    return _Tracking(look, finder, as_of).of(number)


class _Found(Struct, frozen=True):
    """The result of a search; `parts` are those of the only match, `stands` the target's rows with them if known."""

    matches: tuple[Match, ...] = ()
    more: int = 0
    parts: tuple[str, ...] | None = None
    stands: Hits | None = None


class _Tracking:
    """One question."""

    def __init__(self, look: Look, finder: Finder, as_of: AsOf | None) -> None:
        self._look, self._finder, self._as_of = look, finder, as_of
        self._contract = look.config.contract
        self._types = {column.name: sql_type(column.type) for column in self._contract.columns}
        self._ranks = {name: rank for rank, name in enumerate(self._contract.status_rank)}
        self._folds = as_of is not None or look.config.appends
        self._missing: str | None = None  # a term that no row of the target has

    def of(self, number: str | Sequence[str]) -> Track:
        refusal: UsageError | None = None
        parts: Sequence[str] = ()
        try:
            parts = key_parts(self._contract, number)
        except UsageError as error:
            refusal = error
        if refusal is None and (exact := self._exact(parts)) is not None:
            return exact
        found = self._search(number)
        if found.parts is not None and (only := self._exact(found.parts, found.stands)) is not None:
            return replace(only, matches=found.matches, more=found.more)
        if refusal is not None:
            if not found.matches:
                raise refusal
            return Track(str(number), None, (), as_of=self._as_of, matches=found.matches, more=found.more)
        rejected = rejected_rows(self._look, parts, self._as_of)
        key = "/".join(parts)
        return Track(key, None, (), rejected, as_of=self._as_of, matches=found.matches, more=found.more)

    # -- one key ----------------------------------------------------------------------------------------------

    def _exact(self, parts: Sequence[str], known: Hits | None = None) -> Track | None:
        """What is known about a key, given by a part for each key column; None when no row has it.

        `known` are the target's rows with it; None finds them.
        """
        cells = [
            f"TRY_CAST({quoted(part)} AS {self._types[name]})"
            for name, part in zip(self._contract.key, parts, strict=True)
        ]
        where = " AND ".join(f"{name_sql(k)} = {cell}" for k, cell in zip(self._contract.key, cells, strict=True))
        joined = f"concat_ws('/', {', '.join(f'CAST({cell} AS VARCHAR)' for cell in cells)})"
        plain = all(self._types[name] == "VARCHAR" for name in self._contract.key)
        term = (_lower("/".join(parts)) if plain else None) or self._text(lower_sql(joined))
        said, stands = beside(
            lambda: self._finder.find(SAID, these(term), where=where),
            lambda: self._standing(term, where) if known is None else known,
        )
        if not said.rows and not stands.rows:
            return None
        twin = self._twin(said, stands)

        def heard() -> tuple[list[Row], dict[str, Row]]:
            history = self._rows(self._recorded(self._finder.rows_sql(said)), where) if said.rows else []
            return history, self._ledger({str(row["_delivery_id"]) for row in history})

        def told() -> tuple[list[Row], tuple[Row, ...]]:
            rejected = rejected_rows(self._look, parts, self._as_of)
            return [] if twin is not None else self._rows(self._finder.rows_sql(stands), where), rejected

        (history, ledger), (current, rejected) = beside(heard, told)
        if self._folds:
            current = self._folded(said, where)
        elif twin is not None:
            names = [column.name for column in target_columns(self._contract)]
            current = [{name: row[name] for name in names} for row in history if row["_pos"] == twin]
        if not current and not history:
            return None
        ledger |= self._ledger({str(row["_delivery_id"]) for row in current} - ledger.keys())
        history.sort(key=lambda row: self._place(row, ledger))
        current.sort(key=lambda row: self._place(row, ledger), reverse=True)
        for row in (*history, *current):
            row.pop("_pos", None)
        for row in history:
            row["_taken_back"] = _taken_back(ledger.get(str(row["_delivery_id"])))
        lacks = {one: frozenset(json.loads(str(found["absent"] or "[]"))) for one, found in ledger.items()}
        return Track(
            "/".join(parts),
            current[0] if current else None,
            tuple(history),
            rejected,
            as_of=self._as_of,
            lacks=lacks,
        )

    def _standing(self, term: str, where: str) -> Hits:
        """The rows of the target with a key; none where they are folded from the history."""
        if self._folds:
            return Hits("target", ())
        hits = self._finder.find(NUMBER, these(term), where=where)
        if not hits.rows and self._finder.is_sorted(NUMBER):
            self._missing = term
        return hits

    def _twin(self, said: Hits, stands: Hits) -> int | None:
        """The `_pos` of the history's row that is the only row of the target as well: a first load writes one file."""
        if len(stands.rows) != 1:
            return None
        path, row = stands.rows[0]
        target, history = self._look.snapshots["target"], self._look.snapshots["history"]
        with suppress(OSError):  # whoever reads the rows says why
            file = target.path_of(target.files[path]).stat()
            for number, other in enumerate(history.files):
                if (other, row) in said.rows and samestat(file, history.path_of(history.files[other]).stat()):
                    return number << ROW_BITS | row
        return None

    def _folded(self, said: Hits, where: str) -> list[Row]:
        """The rows that a target of that moment, or one that keeps all rows, makes of a key's rows in the history."""
        return self._rows(f"({self._then(self._finder.rows_sql(said)).target_sql(where)})", where)

    def _rows(self, relation: str, where: str) -> list[Row]:
        return rows_of(self._look.read(f"SELECT * FROM {relation} WHERE {where}")).dicts()

    def _ledger(self, ids: set[str]) -> dict[str, Row]:
        """What the deliveries say of some of them."""
        if not ids:
            return {}
        # One query: of sorted ids the statistics know the row groups, so few cells are unpacked.
        relation = self._look.relation("deliveries", (*_OF_DELIVERY, "batch"))
        where = f"delivery_id IN ({', '.join(map(quoted, sorted(ids)))}) AND {self._by_then()}"
        found = rows_of(self._look.read(f"SELECT {', '.join(_OF_DELIVERY)} FROM {relation} WHERE {where}"))
        return {str(row["delivery_id"]): row for row in found.dicts()}

    def _place(self, row: Row, ledger: Mapping[str, Row]) -> tuple[tuple[bool, Any], ...]:
        """The place of a row in the total order (design, section 6); what is NULL comes first."""
        contract, came = self._contract, ledger.get(str(row["_delivery_id"]), {})
        status = None if contract.status is None else row[contract.status]
        rank = -2 if status is None else self._ranks.get(str(status), -1)
        of_delivery = [came.get(name) for name in ("vendor", "path", "modified_at", "sha256")]
        number = row["_file_row"]
        if came.get("newest_first") and isinstance(number, int):
            number = -number
        place = (row[contract.order_by], came.get("file_key"), rank, *of_delivery, number)
        return tuple((value is not None, value) for value in place)

    def _recorded(self, history: str) -> str:
        """The rows of the history up to the moment that is asked for."""
        return history if self._as_of is None else f"(FROM {history} WHERE coalesce(_batch, 0) <= {self._as_of.batch})"

    def _deliveries(self) -> str:
        return f"(FROM {self._look.relation('deliveries')} WHERE {self._by_then()})"

    def _by_then(self) -> str:
        """SQL that is true of the deliveries up to the moment that is asked for."""
        return "true" if self._as_of is None else f"batch <= {self._as_of.batch}"

    def _then(self, history: str) -> Then:
        """Makes the latest state of keys from their rows in the history."""
        batch = _EVER if self._as_of is None else self._as_of.batch
        deliveries = self._deliveries()
        uncounted = taken_back(self._run, deliveries, batch)
        lacking = [str(name) for (name,) in self._run(lacking_sql(deliveries, RECORDED))]
        return Then(
            self._contract,
            batch,
            history,
            f"({place_sql(deliveries, uncounted)})",
            tuple(name for name in lacking if name in self._contract.names),
            self._look.config.appends,
        )

    def _run(self, sql: str) -> list[tuple[object, ...]]:
        return list(rows_of(self._look.read(sql)).rows)

    def _text(self, sql: str) -> str:
        return str(self._run(f"SELECT coalesce({sql}, '')")[0][0])

    # -- search -----------------------------------------------------------------------------------------------

    def _search(self, number: str | Sequence[str]) -> _Found:
        given = visible(number) if isinstance(number, str) else ""
        if not given:
            return _Found()
        for found_by, find in self._ways(given):
            hits = find()
            found = self._matches(found_by, hits) if hits.rows else _Found()
            if found.matches:
                return found
        return _Found()

    def _ways(self, given: str) -> Iterator[tuple[str, Callable[[], Hits]]]:
        """Each way to search, with what finds the rows of the target."""
        find, lower = self._finder.find, _lower(given) or self._text(lower_sql(quoted(given)))
        is_part = len(given) >= MIN_PART_CHARS
        held = self._held(lower) if is_part else None
        if lower != self._missing:
            yield CASE, lambda: find(NUMBER, these(lower), MOST_HITS) if held is None else _among(held, lower.__eq__)
        for place, name in enumerate(order_numbers(self._contract)):
            yield name, lambda kind=f"{ORDER}_{place}": find(kind, these(lower), MOST_HITS)  # type: ignore[misc]
        if held is not None:
            yield ENDS, lambda: _among(held, lambda term: term.endswith(lower), turned=True)
            yield STARTS, lambda: _among(held, lambda term: term.startswith(lower))
            yield PART, lambda: _among(held, lambda _: True)
        elif is_part:
            plain = _turned(lower)
            turned = plain or self._text(turned_sql(quoted(lower)))
            where = ends_sql(self._contract, lower) if plain else "true"
            yield ENDS, lambda: find(ENDING, beginning(turned), MOST_HITS, where=where)
            yield STARTS, lambda: find(NUMBER, beginning(lower), MOST_HITS)
            yield PART, lambda: find(NUMBER, holding(lower), MOST_HITS)

    def _held(self, lower: str) -> Hits | None:
        """The rows with a text in their number, where one reading tells more than four: no terms are sorted.

        None where each way finds its rows in less time, where too many rows have the text, and where one of them has
        letters of several parts, which `_turned` cannot turn round.
        """
        if _turned(lower) is None or not self._finder.is_scanned(NUMBER):
            return None
        # The lower case of each key is most of what this costs; a text without letters does not ask for it.
        plain = not any(map(str.isalpha, lower))
        where = f"contains({joined_sql(self._contract)}, {quoted(lower)})" if plain else "true"
        hits = self._finder.find(NUMBER, holding(lower), MOST_HELD, where=where)
        return None if hits.cut or not all(map(str.isascii, hits.terms)) else hits

    def _matches(self, found_by: str, hits: Hits) -> _Found:
        """The shipments of some rows of the target, as they are or were; a target that keeps all rows has more rows."""
        first = self._finder.rows_sql(replace(hits, rows=hits.rows[: MOST_MATCHES if not self._folds else None]))
        more = 0 if self._folds else max(0, len(hits.rows) - MOST_MATCHES)
        joined, contract = joined_sql(self._contract), self._contract
        if self._folds:
            terms = self._run(f"SELECT DISTINCT {lower_sql(joined)} FROM {first}")
            said = self._finder.rows_sql(self._finder.find(SAID, these(*(str(term) for (term,) in terms))))
            first = f"({self._then(said).target_sql(f'{joined} IN (SELECT {joined} FROM {first})')})"
        keys = [f"CAST({name_sql(name)} AS VARCHAR)" for name in contract.key]
        shown = [joined, *keys, "_vendor", name_sql(contract.status) if contract.status else "NULL"]
        columns = ", ".join(f"{sql} AS c{i}" for i, sql in enumerate((*shown, name_sql(contract.order_by))))
        rows = self._run(f"SELECT {columns} FROM {first} ORDER BY c0")
        more += max(0, len(rows) - MOST_MATCHES)
        matches = tuple(Match(str(row[0]), found_by, *row[-3:]) for row in rows[:MOST_MATCHES])  # type: ignore[arg-type]
        only = tuple(map(str, rows[0][1 : 1 + len(keys)])) if len(rows) == 1 and not more else None
        # Whatever has the same key was found as well, but not by its order number.
        stands = hits if found_by in (CASE, ENDS, STARTS, PART) and len(hits.rows) == 1 and not self._folds else None
        return _Found(matches, more, only, stands)


def _among(held: Hits, wanted: Callable[[str], bool], *, turned: bool = False) -> Hits:
    """The first `MOST_HITS` rows whose terms are wanted, in the order of their terms or of these turned round."""
    found = [
        (term[::-1] if turned else term, row) for row, term in zip(held.rows, held.terms, strict=True) if wanted(term)
    ]
    if turned:
        found.sort(key=itemgetter(0))
    return Hits(held.role, tuple(row for _, row in found[:MOST_HITS]), cut=len(found) > MOST_HITS)


def _lower(text: str) -> str | None:
    """A text as terms have it, where Python certainly does it as DuckDB does; else None."""
    return text.lower() if text.isascii() else None


def _turned(text: str) -> str | None:
    """A text turned round, where Python certainly does it as DuckDB does, which keeps letters of several parts."""
    return text[::-1] if text.isascii() and text.isprintable() else None


def _taken_back(came: Row | None) -> str | None:
    """Why the rows of a delivery do not count any more; None when they do."""
    if came is None or came["state"] not in _TAKEN_BACK:
        return None
    return taken_back_words(came["state"], came["changed_at"], came["changed_by"], came["changed_why"])  # type: ignore[arg-type]
