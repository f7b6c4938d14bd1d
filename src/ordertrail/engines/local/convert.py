"""History or target under another contract: every row with the columns of the new contract, as one query.

Values whose meaning changes are read from their text by the row rules of `rules.cells`, with the formats, zones and
maps of the vendor of their row, just as a file's cells are: values of a column whose type changes, and cells that lie
in `_rescued` because the contract did not know their column when their file was loaded. Vendors whose files are read
alike share a branch of the query, and rows of which nothing has to be read are passed through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.from_profile import FromProfile, from_profile, lacked_sql
from ordertrail.engines.local.said_again import text_of
from ordertrail.engines.local.session import Session
from ordertrail.model import Column, Contract, Vendor
from ordertrail.rules.cell_sql import Cell, sql_type
from ordertrail.rules.cell_text import nulls_of
from ordertrail.rules.cells import AMBIGUOUS, RowSql, header_of, row_hash_sql, row_sql
from ordertrail.rules.headers import Layout, meaning
from ordertrail.rules.migration import UNFIT_SHOWN, Tally, Unfit, sources
from ordertrail.rules.schema import DeclaredColumn, Terms, declared_columns
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn, history_columns, target_columns
from ordertrail.rules.texts import BLANKS

_NO_LIMIT = (1 << 63) - 1
"""Of event times: whether a time was in the future was judged when its file was loaded."""

_OFFSET = r"([Zz]|:\d\d.*[+-]\d\d(:?\d\d)?)$"
"""How the text of a time ends that needs no clock."""


class Reading(Struct, frozen=True):
    """A column of which values are read again.

    Attributes:
        column: As the new contract has it, with all texts that mean no value there.
        old: Name and type of the column of the history that has the values; None for a new column.
        keys: Names in `_rescued` under which the vendors of the branch sent it.
        retyped: Whether the values of the old column are read again, since the type is another one.
        told: What the profile of the vendors tells of it, beside their headers.
    """

    column: Column
    old: tuple[str, str] | None
    keys: tuple[str, ...]
    retyped: bool
    told: FromProfile | None = None


class Branch(Struct, frozen=True):
    """The rows of vendors whose files are read alike.

    Attributes:
        vendors: Their names; None means the rows of everybody else.
        profile: How their files are read.
        readings: The columns of which values are read again.
    """

    vendors: tuple[str, ...] | None
    profile: Vendor
    readings: tuple[Reading, ...]


class Conversion:
    """The history of a pipeline, or its target, under another contract. Reads only.

    Args:
        session: Its config has the new contract and the vendors' profiles.
        history: The table as it is.
        terms: The contract that it carries.
    """

    def __init__(self, session: Session, history: Snapshot, terms: Terms) -> None:
        self._session = session
        self._contract: Contract = session.config.contract
        self._terms = terms
        self._sources = sources(terms, self._contract)
        fields = declared_columns(history.metadata.schema_string)
        self._scan = scan_sql(session.con, history, [TableColumn(one.name, one.type, "") for one in fields])
        self._places = {one.name: f"h{i}" for i, one in enumerate(fields)}
        self.columns = converted_columns(fields, self._contract, terms)
        self.branches = tuple(self._branches())

    def rows_sql(self) -> str:
        """SQL of the rows with the columns of the new contract, and those that leave it or are others'."""
        values = self._values()
        hashed = {**values, "_row_hash": row_hash_sql(values)}
        return " UNION ALL ".join(self._rows(branch, hashed) for branch in self.branches)

    def same_values_sql(self) -> str:
        """The same, but only with values that the columns had: in their new types, without what `_rescued` fills."""
        return " UNION ALL ".join(self._rows(branch, self._values_before(branch)) for branch in self.branches)

    def tallies(self) -> dict[str, Tally]:
        """For each column of the contract that is read again or must have a value, what its values come to."""
        found: dict[str, list[int]] = {}
        for branch in self.branches:
            indexes = {reading.column.name: i for i, reading in enumerate(branch.readings)}
            names = [c.name for c in self._contract.columns if c.name in indexes or c.required]
            if not names:
                continue
            counts = ", ".join(self._counts(name, indexes.get(name)) for name in names)
            # It would put every step of the row rules into those behind it: half a minute for six columns.
            with self._session.without("partial_aggregate_pushdown"):
                row = self._session.run(f"SELECT {counts} FROM {self._converted(branch)}")[0]
            for place, name in enumerate(names):
                numbers = [int(str(number or 0)) for number in row[place * 5 : place * 5 + 5]]
                found[name] = [a + b for a, b in zip(found.get(name, [0] * 5), numbers, strict=True)]
        return {name: Tally(*numbers) for name, numbers in found.items()}

    def unfit(self) -> list[Unfit]:
        """The first values that do not fit, at most `UNFIT_SHOWN`, in the order of their files and rows."""
        return [one for _, one in self.unfit_by_delivery()]

    def unfit_by_delivery(self) -> list[tuple[str | None, Unfit]]:
        """The same, each with its delivery."""
        parts = []
        for branch in self.branches:
            rules = self._rules(branch)
            for i, reading in enumerate(branch.readings):
                checks = [c for c in rules.checks if c.column == reading.column.name and c.rule != "required"]
                why = " ".join(f"WHEN {check.wrong} THEN {check.reason_sql}" for check in checks)
                reason = f"CASE WHEN both{i} THEN 'the file sends it under two names' {why} ELSE '' END"
                said = ", ".join(self._places[name] for name in ("_vendor", "_file_name", "_file_row", "_delivery_id"))
                parts.append(
                    f"SELECT {quoted(reading.column.name)}, {said}, coalesce(c{i}, ''), {reason} "
                    f"FROM {self._converted(branch)} WHERE bad{i}"
                )
        if not parts:
            return []
        rows = self._session.run(f"{' UNION ALL '.join(parts)} ORDER BY 5, 4, 1 LIMIT {UNFIT_SHOWN}")
        texts = [[None if cell is None else str(cell) for cell in row] for row in rows]
        return [
            (delivery, Unfit(str(name), vendor, file, None if row is None else int(row), str(value), str(reason)))
            for name, vendor, file, row, delivery, value, reason in texts
        ]

    def sent(self) -> dict[str, set[str]]:
        """For each column that is read from `_rescued`, the deliveries that sent it."""
        found: dict[str, set[str]] = {}
        for branch in self.branches:
            for i, reading in enumerate(branch.readings):
                if reading.keys or reading.told:
                    seen = (
                        f"SELECT DISTINCT {self._places['_delivery_id']} FROM {self._converted(branch)} WHERE sent{i}"
                    )
                    ids = {str(one) for (one,) in self._session.run(seen) if one is not None}
                    found.setdefault(reading.column.name, set()).update(ids)
        return found

    def without_zone(self) -> list[tuple[str, str, int]]:
        """Times that a clock must explain which the config does not tell: their vendor is not in it.

        Returns:
            For each vendor and column the number of its values.
        """
        branch = self.branches[-1]
        found: list[tuple[str, str, int]] = []
        for i, reading in enumerate(branch.readings):
            if reading.column.type == "timestamp":
                local = f"NOT regexp_matches(c{i}, '{_OFFSET}')"
            elif reading.column.type == "date" and reading.retyped and reading.old and reading.old[1] == "timestamp":
                local = f"NOT fill{i}"
            else:
                continue
            vendor = self._places["_vendor"]
            rows = self._session.run(
                f"SELECT {vendor}, count(*) FROM {self._converted(branch)} WHERE {vendor} IS NOT NULL AND "
                f"c{i} IS NOT NULL AND NOT bad{i} AND {local} GROUP BY ALL ORDER BY ALL"
            )
            found += [(str(name), reading.column.name, int(str(count))) for name, count in rows]
        return found

    # -- branches -------------------------------------------------------------------------------------------

    def _branches(self) -> Iterator[Branch]:
        rescued: dict[str | None, list[str]] = {}
        for vendor, name in self._session.run(
            "SELECT DISTINCT _vendor, unnest(json_keys(_rescued)) AS name FROM "
            f"{self._scan} WHERE _rescued IS NOT NULL ORDER BY ALL"
        ):
            rescued.setdefault(None if vendor is None else str(vendor), []).append(str(name))
        alike: dict[tuple[Vendor, tuple[Reading, ...]], list[str]] = {}
        for vendor in self._session.config.vendors:
            profile = replace(vendor, name="", files="", delimiter=",", quote='"', encoding=None, file_date=None)
            profile = replace(profile, combine=(), constants=(), from_name=None, nulls=())
            readings = tuple(self._readings(vendor, rescued.get(vendor.name, ())))
            alike.setdefault((replace(profile, aliases=(), absent=()), readings), []).append(vendor.name)
        for (profile, readings), names in alike.items():
            yield Branch(tuple(names), profile, readings)
        known = {vendor.name for vendor in self._session.config.vendors}
        strange = sorted({name for vendor, names in rescued.items() if vendor not in known for name in names})
        everybody = Vendor("")
        yield Branch(None, everybody, tuple(self._readings(everybody, strange)))

    def _readings(self, vendor: Vendor, rescued: Sequence[str]) -> Iterator[Reading]:
        """What must be read again in the rows of a vendor."""
        means = meaning(self._contract, vendor)
        for column in self._contract.columns:
            name = self._sources[column.name]
            old = None if name is None else (name, self._terms.columns[name][0])
            keys = tuple(key for key in rescued if key != AMBIGUOUS and means(header_of(key)) == column.name)
            retyped = old is not None and old[1] != column.type
            also = from_profile(column, vendor, rescued)
            if keys or retyped or also:
                yield Reading(replace(column, nulls=_nulls(column, vendor, also)), old, keys, retyped, also)

    # -- SQL ------------------------------------------------------------------------------------------------

    def _rules(self, branch: Branch) -> RowSql:
        """The row rules of the columns that a branch reads again."""
        columns = tuple(reading.column for reading in branch.readings)
        contract = replace(self._contract, columns=columns)
        return row_sql(contract, branch.profile, Layout((), tuple(range(len(columns))), (), ()))

    def _converted(self, branch: Branch) -> str:
        """SQL of a branch's rows: the old columns `h0` ..., the new contract's `new0` ..., and its `_rescued` as `nr`.

        Of each reading also `c0` ..., the text; `sent0` ..., whether the file had the column; `both0` ..., whether it
        had two of it; `bad0` ..., whether the text does not fit; `fill0` ..., whether it lay in `_rescued`.
        """
        old = ", ".join(f"{name_sql(name)} AS {place}" for name, place in self._places.items())
        vendor = f"coalesce({self._places['_vendor']}, '')"
        if branch.vendors is None:
            listed = ", ".join(quoted(one.name) for one in self._session.config.vendors)
            where = f"{vendor} NOT IN ({listed})" if listed else "true"
        else:
            where = f"{vendor} IN ({', '.join(map(quoted, branch.vendors))})"
        relation = f"(SELECT * FROM (SELECT {old} FROM {self._scan}) WHERE {where})"
        if branch.readings:
            relation = self._read(branch, relation)
        read = {reading.column.name: i for i, reading in enumerate(branch.readings)}
        cells = []
        for i, column in enumerate(self._contract.columns):
            name = self._sources[column.name]
            kept = f"CAST(NULL AS {sql_type(column.type)})" if name is None else self._places[name]
            if (place := read.get(column.name)) is not None:
                reading = branch.readings[place]
                there = "NULL" if reading.retyped or reading.old is None else kept
                kept = f"CASE WHEN c{place} IS NOT NULL AND NOT bad{place} THEN v{place} ELSE {there} END"
            cells.append(f"CAST({kept} AS {sql_type(column.type)}) AS new{i}")
        cells.append(f"{self._rescued(branch)} AS nr")
        return f"(SELECT *, {', '.join(cells)} FROM {relation})"

    def _read(self, branch: Branch, relation: str) -> str:
        """SQL of the rows with the texts of the readings, and what the row rules make of them."""
        rules = self._rules(branch)
        texts = [text for i, reading in enumerate(branch.readings) for text in self._texts(i, reading, branch.profile)]
        rows = f"CAST(0 AS INTEGER) AS d, coalesce({self._places['_file_row']}, 0) AS r"
        rows += "".join(f", true AS f{i}" for i in range(len(branch.readings)))
        rows += f", CAST({_NO_LIMIT} AS BIGINT) AS limit_us, '' AS dated"
        relation = f"(SELECT *, {', '.join(texts)}, {rows} FROM {relation})"
        for step in rules.steps:
            if step:
                relation = f"(SELECT *, {', '.join(f'{sql} AS {name}' for name, sql in step)} FROM {relation})"
        bad = []
        for i, reading in enumerate(branch.readings):
            wrong = [c.wrong for c in rules.checks if c.column == reading.column.name and c.rule != "required"]
            bad.append(f"(both{i} OR (c{i} IS NOT NULL AND ({' OR '.join(wrong) or 'false'}))) AS bad{i}")
        return f"(SELECT *, {', '.join(bad)} FROM {relation})"

    def _texts(self, i: int, reading: Reading, vendor: Vendor) -> Iterator[str]:
        """SQL of the text of a reading, and of where it comes from."""
        rescued = self._places["_rescued"]
        found = [f"({rescued} ->> {quoted(_pointer(key))})" for key in reading.keys]
        if reading.told is not None:
            found.append(f"({self._told(reading, reading.told)})")
        have = " + ".join(f"CAST({one} IS NOT NULL AS INTEGER)" for one in found) or "0"
        place = None if reading.old is None else self._places[reading.old[0]]
        empty = "true" if place is None else f"{place} IS NULL"
        yield f"{have} > 0 AS sent{i}"
        yield f"({have} > 1 AND {empty}) AS both{i}"
        yield f"({have} = 1 AND {empty}) AS fill{i}"
        fill = f"CASE WHEN {have} = 1 AND {empty} THEN coalesce({', '.join(found)}) END" if found else "NULL"
        if place is not None and reading.retyped and reading.old is not None:
            fill = f"coalesce({text_of(place, reading.old[1], reading.column.type, vendor)}, {fill})"
        yield f"CAST({fill} AS VARCHAR) AS c{i}"

    def _told(self, reading: Reading, told: FromProfile) -> str:
        files = f"SELECT DISTINCT _file_name FROM {self._scan} WHERE _file_name IS NOT NULL"
        names = [str(name) for (name,) in self._session.run(files)] if told.from_name is not None else []
        file_name, delivery = self._places["_file_name"], self._places["_delivery_id"]
        lacked = "true"
        if reading.old is not None:
            lacked = lacked_sql(delivery, reading.old[0], self._session.deliveries())
        return told.sql(self._places["_rescued"], file_name, lacked, names)

    def _rescued(self, branch: Branch) -> str:
        """SQL of the new `_rescued`: without what was filled, with what does not fit its column's new type."""
        old = self._places["_rescued"]
        members: list[str] = []
        touched: list[str] = []
        for i, reading in enumerate(branch.readings):
            filled = f"(fill{i} AND NOT bad{i})"
            names = {*reading.keys, *(reading.told.keys if reading.told else ())}
            members += [
                f"{quoted(key)}, CASE WHEN NOT {filled} THEN {old} ->> {quoted(_pointer(key))} END" for key in names
            ]
            touched.append(filled)
            if reading.retyped:
                name = reading.column.name
                there = f"{old} ->> {quoted(_pointer(name))}"
                lost = f"(bad{i} AND NOT fill{i} AND NOT both{i})"
                if name not in names:
                    members.append(f"{quoted(name)}, CASE WHEN {lost} THEN c{i} ELSE {there} END")
                touched.append(lost)
        rescued = old
        if touched:
            patched = f"json_merge_patch(coalesce({old}, '{{}}'), json_object({', '.join(members)}))"
            rescued = f"nullif(CAST(CASE WHEN {' OR '.join(touched)} THEN {patched} ELSE {old} END AS VARCHAR), '{{}}')"
        return self._marked(branch, rescued)

    def _marked(self, branch: Branch, rescued: str) -> str:
        """SQL of `_rescued` with the marks of times that the clock showed twice, under their columns' new names."""
        contract = replace(self._contract, columns=tuple(reading.column for reading in branch.readings))
        cells = [Cell(i, column, contract, branch.profile) for i, column in enumerate(contract.columns)]
        marks = {
            c.column.name: f"c{c.index} IS NOT NULL AND NOT bad{c.index} AND {c.ambiguous}" for c in cells if c.is_local
        }
        times = {name for name, (kind, _) in self._terms.columns.items() if kind == "timestamp"}
        stay = {
            column.name: str(self._sources[column.name])
            for column in self._contract.columns
            if column.type == "timestamp" and self._sources[column.name] in times
        }
        moved = {name: name for name in times} != stay
        if not marks and not moved:
            return rescued
        old = f"CAST({self._places['_rescued']} -> '/{AMBIGUOUS}' AS VARCHAR[])"
        ways = {name: [f"coalesce(list_contains({old}, {quoted(was)}), false)"] for name, was in stay.items()}
        for name, mark in marks.items():
            ways.setdefault(name, []).append(f"({mark})")
        listed = ", ".join(
            f"CASE WHEN {' OR '.join(ways[name])} THEN {quoted(name)} END"
            for name in self._contract.names
            if name in ways
        )
        names = f"list_filter([{listed or 'NULL'}], lambda e: e IS NOT NULL)"
        patch = f"json_object({quoted(AMBIGUOUS)}, CASE WHEN len({names}) > 0 THEN {names} END)"
        added = f"json_merge_patch(coalesce({rescued}, '{{}}'), {patch})"
        said = [f"({one})" for one in marks.values()] + ([f"{old} IS NOT NULL"] if moved else [])
        added = f"nullif(CAST({added} AS VARCHAR), '{{}}')"
        return f"CASE WHEN coalesce({' OR '.join(said)}, false) THEN {added} ELSE {rescued} END"

    def _rows(self, branch: Branch, values: Mapping[str, str]) -> str:
        """SQL of a branch's rows with all columns of the new table, in their order.

        Args:
            branch: The branch.
            values: SQL over `_converted` of the columns that are not taken as they are, by name.
        """
        names = [column.name for column in self.columns]
        cells = (f"{values.get(name) or self._places[name]} AS {name_sql(name)}" for name in names)
        return f"SELECT {', '.join(cells)} FROM {self._converted(branch)}"

    def _values(self) -> dict[str, str]:
        return {name: f"new{i}" for i, name in enumerate(self._contract.names)} | {"_rescued": "nr"}

    def _values_before(self, branch: Branch) -> dict[str, str]:
        values = {**self._values(), "_rescued": self._places["_rescued"]}
        for i, reading in enumerate(branch.readings):
            name, old = reading.column.name, reading.old
            there = "NULL" if reading.retyped or old is None else self._places[old[0]]
            values[name] = f"CASE WHEN fill{i} OR both{i} THEN {there} ELSE {values[name]} END"
        return values

    def _counts(self, name: str, i: int | None) -> str:
        """SQL of the five counts of `Tally` of a column."""
        empty = f"count(*) FILTER (WHERE new{self._contract.names.index(name)} IS NULL)"
        if i is None:
            return f"0, 0, 0, 0, {empty}"
        filled = f"(fill{i} OR both{i})"
        parts = (f"c{i} IS NOT NULL AND NOT {filled}", filled, f"bad{i} AND NOT {filled}", f"bad{i} AND {filled}")
        return ", ".join([*(f"count(*) FILTER (WHERE {part})" for part in parts), empty])


def _nulls(column: Column, vendor: Vendor, told: FromProfile | None) -> tuple[str, ...]:
    """The texts that mean no value in a column. What a constant says is always meant."""
    constant = told.constant if told is not None else None
    return tuple(word for word in nulls_of(column, vendor) if constant is None or word != constant.strip(BLANKS))


def converted_columns(fields: Sequence[DeclaredColumn], contract: Contract, terms: Terms) -> tuple[TableColumn, ...]:
    """The columns of history or target under another contract: ours, then those that leave it or are others'.

    Args:
        fields: The table's columns as they are.
        contract: The new one.
        terms: The contract that the table carries.
    """
    of_history = any(field.name == "_outcome" for field in fields)
    wanted = (history_columns if of_history else target_columns)(contract)
    ours = {column.name.lower() for column in wanted} | {
        old.lower() for old in sources(terms, contract).values() if old
    }
    return (*wanted, *(TableColumn(f.name, f.type, "") for f in fields if f.name.lower() not in ours))


def _pointer(name: str) -> str:
    """The JSON pointer (RFC 6901) of a member."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def absent_after(
    deliveries: Sequence[tuple[str, str, tuple[str, ...]]],
    names: Mapping[str, str | None],
    sent: Mapping[str, set[str]],
    never: Mapping[str, Sequence[str]],
) -> dict[str, tuple[str, ...]]:
    """The columns that deliveries lack under the new contract, for those of which it changes.

    Args:
        deliveries: Of each its id, its vendor, and the columns that it lacked under the old contract.
        names: For each column of the contract the old one that has its values; None for a new one.
        sent: For columns that were read from `_rescued`, the deliveries that sent them.
        never: For each vendor the columns that its profile calls absent.
    """
    renamed = {old: new for new, old in names.items() if old is not None}
    found: dict[str, tuple[str, ...]] = {}
    for one, vendor, before in deliveries:
        lacked = [now for name in before if (now := renamed.get(name, name)) in names]
        lacked += [name for name, old in names.items() if old is None and name in never.get(vendor, ())]
        after = tuple(dict.fromkeys(name for name in lacked if one not in sent.get(name, ())))
        if after != before:
            found[one] = after
    return found
