"""What vendors send beyond the contract, in `_rescued` or in columns that the tables got, and how to take it in.

Only rows of deliveries that count are read, by aggregates in DuckDB; of each column at most `MAX_VALUES` different
values are looked at for its type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.config.template import toml_value
from ordertrail.model import Column, Vendor
from ordertrail.rules.accepted import ABSENT, ACCEPTED_ROWS, LOADED
from ordertrail.rules.cells import AMBIGUOUS, header_of, row_sql
from ordertrail.rules.guessing import ID_WORDS, column_name, meant, type_of, unfit_sql
from ordertrail.rules.headers import RESERVED, Layout, folded, owners, told_by_config
from ordertrail.rules.sql import name_sql, quoted

if TYPE_CHECKING:
    import pyarrow as pa

MAX_VALUES = 200
"""So many different values of a column are looked at for its type, the most frequent ones."""

SHARE = 0.9
"""A guessed type holds at least this share of them."""

_ALIKE = 0.85
_NO_LIMIT = (1 << 63) - 1
_NO_HEADER = re.compile(r"column \d+")
_NUMBERED = re.compile(r"(.*) \(\d+\)", re.DOTALL)


class Misfit(Struct, frozen=True):
    """A value that the guessed type does not hold.

    Attributes:
        value: As it stands in the file.
        file_name: The file.
        file_row: Record number in it, 1 = first after the header.
    """

    value: str
    file_name: str
    file_row: int | None


class Paste(Struct, frozen=True):
    """Lines for the config.

    Attributes:
        vendor: The vendor whose `[[vendors]]` gets the lines, instead of its lines for the same settings; None for a
            column of the contract.
        toml: The lines.
    """

    vendor: str | None
    toml: str


class Drifted(Struct, frozen=True):
    """A column that the contract does not know.

    Attributes:
        column: Its name in the files; of one that was added, that in the tables.
        vendors: Who sends it.
        first_seen: When the first delivery with a value in it was discovered.
        first_file: The name of that file.
        share: Of the rows of these vendors, the share with a value in it, 0 to 1.
        guess: The type that its values allow.
        unfit: How many values that type does not hold.
        example: One of those; None when there is none.
        like: The contract column that it seems to be, so that an alias takes it in; None for a column of its own.
        paste: What to put into the config; empty when no setting can take the column in.
        note: Why not, or what is doubtful; empty when there is nothing to say.
        state: Where its values are: `rescued` in `_rescued`, `added` in a column of their own.
    """

    column: str
    vendors: tuple[str, ...]
    first_seen: datetime
    first_file: str
    share: float
    guess: str
    unfit: int
    example: Misfit | None
    like: str | None
    paste: tuple[Paste, ...]
    note: str = ""
    state: Literal["rescued", "added"] = "rescued"


class Drift(Struct, frozen=True):
    """All of them.

    Attributes:
        columns: The fullest first.
        more: How many there are beside those.
    """

    columns: tuple[Drifted, ...]
    more: int = 0


class _Found(Struct):
    """One column, under all its spellings that the contract could not tell apart."""

    spellings: dict[str, list[str]]  # vendor: spellings
    filled: int
    first: tuple[str, datetime, str]  # delivery, time, file
    values: set[str]
    files: dict[str, int]  # vendor: how many of its files have a value in it
    added: Column | None = None

    @property
    def header(self) -> str:
        if self.added is not None:
            return self.added.name
        return min(header_of(one) for names in self.spellings.values() for one in names)


def drift(
    config: Config,
    read: Callable[[str], pa.Table],
    *,
    taken: Iterable[str] = (),
    vendor: str | None = None,
    limit: int | None = None,
) -> Drift:
    """Find what vendors send beyond the contract.

    Args:
        config: Of the pipeline.
        read: Runs SQL over the tables.
        taken: Names of the columns that the tables have: no new column may have one of them.
        vendor: Only what this vendor sends.
        limit: At most so many columns.
    """
    deliveries = name_sql(config.tables.deliveries)
    found = _grouped(read(_columns_sql(config)).to_pylist(), config)
    sent = read(
        f"SELECT vendor, CAST(sum({ACCEPTED_ROWS}) AS BIGINT) AS n, list(DISTINCT {ABSENT}) AS absent, "
        f"count(*) FILTER ({ACCEPTED_ROWS} > 0) AS files FROM {deliveries} WHERE {LOADED} GROUP BY vendor"
    ).to_pylist()
    rows = {one["vendor"]: one["n"] for one in sent}
    elsewhere = {one.name: frozenset(told_by_config(one)) for one in config.vendors}
    lacks = {
        one["vendor"]: frozenset.intersection(*map(frozenset, one["absent"]))
        - elsewhere.get(one["vendor"], frozenset())
        for one in sent
    }
    some = {one["vendor"]: frozenset.union(*map(frozenset, one["absent"])) for one in sent}
    wanted = [one for one in found.values() if vendor is None or vendor in one.spellings]
    ranked = sorted(wanted, key=lambda one: (-one.filled, one.header))
    shown = ranked[:limit]
    guesses = [_guess(one) for one in shown]
    unfit = _unfit(config, read, [(one, *guess[:2]) for one, guess in zip(shown, guesses, strict=True)])
    suggested = _Suggested(config, (lacks, some), {one["vendor"]: one["files"] for one in sent}, found, taken)
    columns = []
    for place, (one, (kind, formats, doubt)) in enumerate(zip(shown, guesses, strict=True)):
        like, paste, told = suggested.of(one, kind, formats, partial(_fits, config, read, one))
        count, example = unfit.get(place, (0, None))
        share = one.filled / max(sum(rows.get(name, 0) for name in one.spellings), 1)
        doubts = f"it {doubt}; give it a type and formats" if doubt and paste and like is None else ""
        note = "; ".join(filter(None, (told, doubts)))
        vendors = tuple(sorted(one.spellings))
        _, at, file = one.first
        state: Literal["rescued", "added"] = "rescued" if one.added is None else "added"
        columns.append(Drifted(one.header, vendors, at, file, share, kind, count, example, like, paste, note, state))
    return Drift(tuple(columns), len(ranked) - len(shown))


# --- what is there -----------------------------------------------------------------------------------------------


def _cells_sql(config: Config) -> str:
    """SQL of the cells that count: vendor, delivery, time, file, row, name, trimmed value, and whether it was added."""
    of_row = "d.vendor, d.delivery_id AS id, d.discovered_at AS seen, d.file_name AS file, h._file_row AS line"
    source = (
        f"FROM {name_sql(config.tables.history)} h JOIN (FROM {name_sql(config.tables.deliveries)} "
        f"WHERE {LOADED}) d ON h._delivery_id = d.delivery_id"
    )
    rescued = "map_entries(CAST(CAST(h._rescued AS JSON) AS MAP(VARCHAR, VARCHAR)))"
    parts = [f"SELECT {of_row}, unnest({rescued}) AS e, false AS added {source} WHERE h._rescued IS NOT NULL"]
    if added := [column.name for column in config.contract.columns if column.added]:
        cells = ", ".join(f"{{'key': {quoted(name)}, 'value': h.{name_sql(name)}}}" for name in added)
        parts.append(f"SELECT {of_row}, unnest([{cells}]) AS e, true AS added {source}")
    return (
        "SELECT vendor, id, seen, file, line, e.key AS name, trim(e.value) AS value, added "
        f"FROM ({' UNION ALL '.join(parts)}) WHERE e.key <> {quoted(AMBIGUOUS)} AND trim(e.value) <> ''"
    )


def _columns_sql(config: Config) -> str:
    first = "min(id) AS id, arg_min(seen, id) AS seen, arg_min(file, id) AS file"
    return (
        f"SELECT name, added, vendor, count(*) AS filled, count(DISTINCT id) AS files, {first}, "
        f'approx_top_k(value, {MAX_VALUES}) AS "values" FROM ({_cells_sql(config)}) GROUP BY name, added, vendor'
    )


def _grouped(rows: Sequence[Mapping[str, Any]], config: Config) -> dict[str, _Found]:
    """The columns by their folded names: case, spaces and underscores do not make another column.

    The names of columns that were added begin with an underscore, which no folded name has.
    """
    columns = {column.name: column for column in config.contract.columns}
    found: dict[str, _Found] = {}
    for row in sorted(rows, key=lambda one: (one["name"], one["vendor"])):
        first = (row["id"], row["seen"], row["file"])
        folds = folded(header_of(row["name"]))
        name, added = (f"_{row['name']}", columns[row["name"]]) if row["added"] else (folds, None)
        one = found.setdefault(name, _Found({}, 0, first, set(), {}, added))
        one.spellings.setdefault(row["vendor"], []).append(row["name"])
        one.filled += row["filled"]
        one.files[row["vendor"]] = one.files.get(row["vendor"], 0) + row["files"]
        one.first = min(one.first, first)
        one.values |= set(row["values"])
    return found


def _guess(one: _Found) -> tuple[str, tuple[str, ...], str]:
    if ID_WORDS & set(column_name(one.header).split("_")):
        return "string", (), ""
    return type_of(one.values, SHARE)


def _unfit(
    config: Config,
    read: Callable[[str], pa.Table],
    guesses: Sequence[tuple[_Found, str, tuple[str, ...]]],
) -> dict[int, tuple[int, Misfit | None]]:
    """By the column's place: how many values do not fit, and the first of them."""
    typed = [(place, *guess) for place, guess in enumerate(guesses) if guess[1] != "string"]
    if not typed:
        return {}
    names = ", ".join(
        f"({quoted(name)}, {'false' if one.added is None else 'true'}, {place})"
        for place, one, _, _ in typed
        for name in sorted({name for names in one.spellings.values() for name in names})
    )
    kinds = " ".join(
        f"WHEN place IN ({', '.join(str(p) for p, _, k, f in typed if (k, f) == kind)}) "
        f"THEN {unfit_sql('value', *kind)}"
        for kind in dict.fromkeys((k, f) for _, _, k, f in typed)
    )
    found = read(
        "SELECT place, count(*) AS n, arg_min({'value': value, 'file': file, 'line': line}, (id, line)) AS first "
        f"FROM ({_cells_sql(config)}) JOIN (VALUES {names}) AS k(known, theirs, place) "
        f"ON name = known AND added = theirs WHERE CASE {kinds} END GROUP BY place"
    ).to_pylist()
    return {
        one["place"]: (one["n"], Misfit(one["first"]["value"], one["first"]["file"], one["first"]["line"]))
        for one in found
    }


def _fits(config: Config, read: Callable[[str], pa.Table], one: _Found, name: str) -> bool:
    """Whether the values of a rescued column meet the rules of a contract column, but for the share of misfits."""
    contract = replace(config.contract, columns=tuple(c for c in config.contract.columns if c.name == name))
    values = ", ".join(map(quoted, sorted(one.values)))
    rows = "CAST(0 AS INTEGER) AS d, CAST(1 AS BIGINT) AS r, true AS f0"
    relation = f"(SELECT unnest([{values}]) AS c0, {rows}, CAST({_NO_LIMIT} AS BIGINT) AS limit_us, '' AS dated)"
    for profile in config.vendors:
        if profile.name not in one.spellings:
            continue
        # In UTC each local time is there once: only whether the text is a time counts here.
        rules = row_sql(
            contract,
            replace(profile, timezone="UTC", combine=(), constants=(), from_name=None),
            Layout((), (0,), (), ()),
        )
        judged = relation
        for step in filter(None, rules.steps):
            judged = f"(SELECT *, {', '.join(f'{sql} AS {named}' for named, sql in step)} FROM {judged})"
        wrong = " OR ".join(check.wrong for check in rules.checks) or "false"
        (found,) = read(f"SELECT count(*) FILTER ({wrong}) AS n FROM {judged}").to_pylist()
        if found["n"] > (1 - SHARE) * len(one.values):
            return False
    return True


def _parts(vendor: Vendor) -> dict[str, str]:
    """The contract column that each part of a combined one makes, by folded headers."""
    return {folded(header): column for column, headers in vendor.combine for header in headers}


# --- what to do --------------------------------------------------------------------------------------------------


class _Suggested:
    """Finds what takes a column in; no two columns get one name or one contract column.

    Args:
        config: Of the pipeline.
        lacks: By vendor, the contract columns that none of its files carries; and those that some of them lack.
        files: By vendor, how many of its files have rows that count.
        found: All rescued columns, by their folded names.
        taken: Names of the columns that the tables have.
    """

    def __init__(
        self,
        config: Config,
        lacks: tuple[Mapping[str, frozenset[str]], Mapping[str, frozenset[str]]],
        files: Mapping[str, int],
        found: Mapping[str, _Found],
        taken: Iterable[str],
    ) -> None:
        self._config, self._files, self._found = config, files, found
        self._lacks, self._lack_some = lacks
        self._taken = {name.lower() for name in taken}
        self._owners = {one.name: owners(config.contract, one) | _parts(one) for one in config.vendors}
        self._used = {name for owner in self._owners.values() for name in owner} | {folded(name) for name in RESERVED}
        self._meant: set[str] = set()

    def of(
        self, one: _Found, kind: str, formats: tuple[str, ...], fits: Callable[[str], bool]
    ) -> tuple[str | None, tuple[Paste, ...], str]:
        """(contract column, lines, note) for a column of this type; `fits` says whether a contract column holds it."""
        if one.added is not None:
            return None, tuple(self._taken_over(one, one.added, kind, formats)), ""
        own = folded(one.header)
        claims = {name: self._owners.get(name, {}).get(own) for name in one.spellings}
        if all(claims.values()):
            return (
                None,
                (),
                "the config takes it in by now: ordertrail migrate fills it from _rescued, but for what does not fit",
            )
        if refused := _refused(one, self._found):
            return None, (), refused
        like = self._like(one)
        if like and fits(like):
            self._meant.add(like)
            return like, tuple(self._aliases(one, like)), ""
        told = [f"its name is like {like}, but its values do not fit that column"] if like else []
        told += [
            f"{count} of {self._files[name]} files of {name} have a value in it" for name, count in self._some(one)
        ]
        return None, tuple(self._column(one, kind, formats)), "; ".join(told)

    def _some(self, one: _Found) -> list[tuple[str, int]]:
        """The vendors that send a column in some of their files, or empty in some, with the number of the others."""
        return [(name, count) for name, count in sorted(one.files.items()) if count < self._files.get(name, 0)]

    def _like(self, one: _Found) -> str | None:
        """The contract column that it seems to be, of those that no file of its vendors ever carried."""
        free = [
            name
            for name in (column.name for column in self._config.contract.columns if not column.added)
            if name not in self._meant and all(name in self._lacks.get(vendor, ()) for vendor in one.spellings)
        ]
        means = meant(one.header)
        if means in free:
            return means
        near = get_close_matches(folded(one.header), [folded(name) for name in free], n=1, cutoff=_ALIKE)
        return next((name for name in free if near and folded(name) == near[0]), None)

    def _aliases(self, one: _Found, like: str) -> Iterator[Paste]:
        for profile in self._config.vendors:
            if profile.name in one.spellings:
                yield Paste(profile.name, self._alias(profile, like, one.spellings[profile.name]))

    def _column(self, one: _Found, kind: str, formats: tuple[str, ...]) -> Iterator[Paste]:
        """A column of its own: its block, an alias where its name is another, and who does not send it."""
        own = folded(one.header)
        others = self._found.keys() - {own}
        name = base = column_name(one.header)
        count = 1
        while folded(name) in self._used or folded(name) in others or name.lower() in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._used.add(folded(name))
        yield _block(name, kind, formats)
        some = dict(self._some(one))
        for profile in self._config.vendors:
            if profile.name not in one.spellings:
                yield Paste(profile.name, f"absent = {toml_value((*profile.absent, name))}")
                continue
            if own != folded(name):
                yield Paste(profile.name, self._alias(profile, name, one.spellings[profile.name]))
            if profile.name in some:
                yield Paste(profile.name, f"absent = {toml_value((*profile.absent, name))}")

    def _taken_over(self, one: _Found, column: Column, kind: str, formats: tuple[str, ...]) -> Iterator[Paste]:
        """A column that the tables have: its block, who does not always send it, and an alias for its header."""
        yield _block(column.name, kind, formats)
        for profile in self._config.vendors:
            lines = []
            if profile.name not in one.spellings or column.name in self._lack_some.get(profile.name, ()):
                lines.append(f"absent = {toml_value((*profile.absent, column.name))}")
            if profile.name in one.spellings and folded(column.added) != folded(column.name):
                lines.append(self._alias(profile, column.name, [column.added]))
            if lines:
                yield Paste(profile.name, "\n".join(lines))

    def _alias(self, profile: Vendor, column: str, headers: Sequence[str]) -> str:
        aliases = {name: list(known) for name, known in profile.aliases}
        aliases[column] = [*aliases.get(column, ()), *map(header_of, headers)]
        return f"aliases = {toml_value(aliases)}"


def _block(name: str, kind: str, formats: tuple[str, ...]) -> Paste:
    lines = ["[[contract.columns]]", f"name = {toml_value(name)}", f"type = {toml_value(kind)}"]
    if formats:
        lines.append(f"formats = {toml_value(formats)}")
    return Paste(None, "\n".join(lines))


def _refused(one: _Found, found: Mapping[str, _Found]) -> str:
    """Why no setting can take the column in; empty when one can."""
    numbered = _NUMBERED.fullmatch(one.header)
    if _NO_HEADER.fullmatch(one.header):
        return "it has no header: ask the vendor for one"
    if (numbered and folded(numbered[1]) in found) or f"{folded(one.header)}(2)" in found:
        return "a file has this header twice: ask the vendor for different ones"
    twice = next((names for names in one.spellings.values() if len(names) > 1), None)
    if twice:
        return f"a vendor spells it {' and '.join(map(repr, twice))}: if one file has both, no column can take them"
    return ""
