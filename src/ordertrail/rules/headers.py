"""Map a file's header to the contract: by name, never by position (P5)."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from msgspec import Struct

from ordertrail.errors import QuarantineError
from ordertrail.model import Contract, Vendor
from ordertrail.rules.bounds import MAX_NOTED, MAX_SHOWN_CHARS, cut
from ordertrail.rules.texts import visible

RESERVED = frozenset({"file_index", "file_row_number"})
"""Names that no column may have: DuckDB's Parquet reader uses them for columns of its own."""

MAX_UNKNOWN_COLUMNS = 1000
"""Most columns of a file that the contract does not know: each costs the row kernel memory on every thread."""

MAX_NAME_CHARS = 500
"""Longest name of a column that the contract does not know: `_rescued` of every row keeps the name."""

MAX_NAMES_CHARS = 50_000
"""Most characters that the names of all such columns may have together."""

_NO_NAME = re.compile(r"[^a-z0-9]+")


class Layout(Struct, frozen=True):
    """Where the contract's columns stand in a file.

    Attributes:
        header: The header's cells.
        cells: For each contract column its place in the header, 0 = first; None when the vendor never sends it.
        unknown: (name for `_rescued`, place) of the columns that no contract column claims, sorted by name.
        absent: Names of the contract columns without a place, which nothing else tells.
        parts: (index of a contract column, places of the cells that make it).
        told: Names of the contract columns that no cell has: `constants`, and what the file's name tells.
    """

    header: tuple[str, ...]
    cells: tuple[int | None, ...]
    unknown: tuple[tuple[str, int], ...]
    absent: tuple[str, ...]
    parts: tuple[tuple[int, tuple[int, ...]], ...] = ()
    told: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """A header name in lower case, without spaces, underscores and what nobody sees, so that names can be compared."""
    return "".join(visible(visible(name).casefold()).split()).replace("_", "")


def cleaned(name: str) -> str:
    """The name that a header gives to a column which the tables get from it: lower snake case, in ASCII.

    Accents go, and everything between letters and digits becomes one underscore; before a leading digit stands `c_`.

    Returns:
        The name; "" when the header has no ASCII letter or digit.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    letters = "".join(char for char in plain if not unicodedata.combining(char))
    found = _NO_NAME.sub("_", letters).strip("_")
    return f"c_{found}" if found[:1].isdigit() else found


def owners(contract: Contract, vendor: Vendor) -> dict[str, str]:
    """The contract column that each name in a header means, by `folded` names: its name, an alias, or an earlier name.

    Args:
        contract: The columns.
        vendor: Whose aliases apply.
    """
    columns = sorted(contract.columns, key=lambda column: not column.added)  # what the config says goes before
    found = {folded(name): column.name for column in columns for name in (*column.was, column.name)}
    return found | {folded(alias): name for name, aliases in vendor.aliases for alias in aliases}


def meaning(contract: Contract, vendor: Vendor) -> Callable[[str], str | None]:
    """Tells the contract column that a name in `_rescued` means; None for none.

    Args:
        contract: The columns; those that the tables got from files also go by what a name is `cleaned` to.
        vendor: Whose aliases apply.
    """
    owner = owners(contract, vendor)
    added = {column.name for column in contract.columns if column.added}

    def means(name: str) -> str | None:
        found = owner.get(folded(name))
        near = owner.get(folded(cleaned(name))) if found is None and added else None
        return near if near in added else found

    return means


def needed_places(header: Sequence[str], contract: Contract, vendor: Vendor) -> tuple[int, ...]:
    """The places in a header of the cells without which no row can be: those of the key and of the event time."""
    owner, made = owners(contract, vendor), dict(vendor.combine)
    names = {*contract.key, contract.order_by}
    parts = {folded(part) for name in names for part in made.get(name, ())}
    return tuple(i for i, cell in enumerate(header) if owner.get(folded(cell)) in names or folded(cell) in parts)


def max_columns(contract: Contract) -> int:
    """How many columns a file may have; a longer header is not even parsed."""
    return len(contract.columns) + MAX_UNKNOWN_COLUMNS


def map_header(header: tuple[str, ...], contract: Contract, vendor: Vendor) -> Layout:
    """Find every contract column in a header, by its name or by one of the vendor's aliases.

    Args:
        header: The header's cells, stripped.
        contract: What a row must meet.
        vendor: Whose aliases and absent columns apply.

    Raises:
        QuarantineError: Rule `header`: two columns claim one contract column, or names are too long. Rule
            `missing_column`: a contract column is missing. Rule `unknown_column`: there are too many of them, or the
            contract is strict and there is one.
    """
    places, unknown = _claimed(header, contract, vendor)
    parts = _parts(header, places, vendor)
    made = {place for found in parts.values() for place in found}
    unknown = {name: place for name, place in unknown.items() if place not in made}
    told = told_by_config(vendor)
    places |= {name: found[0] for name, found in parts.items()}
    wanted = [column.name for column in contract.columns if not column.added]
    missing = [name for name in wanted if name not in {*places, *told, *vendor.absent}]
    if missing:
        raise QuarantineError(
            f"the file has no column {listed(missing)}; its header is {listed(header)}",
            rule="missing_column",
            column=missing[0],
            hint=_missing_hint(missing, contract),
        )
    if len(unknown) > MAX_UNKNOWN_COLUMNS:
        raise QuarantineError(
            f"the file has {len(unknown)} columns that the contract does not know, more than {MAX_UNKNOWN_COLUMNS}",
            rule="unknown_column",
            hint="check that the delimiter is right; if it is, ask the vendor to leave columns out",
        )
    _require_short(unknown)
    named = [name for name, place in unknown.items() if header[place]]
    if named and contract.unknown_columns == "strict":
        raise QuarantineError(
            f"the file has columns that the contract does not know: {listed(named)}",
            rule="unknown_column",
            hint="add them to the contract, or set unknown_columns = 'rescue'",
        )
    return Layout(
        header,
        tuple(places.get(name) for name in contract.names),
        tuple(sorted(unknown.items())),
        tuple(name for name in contract.names if name not in places and name not in told),
        tuple((contract.names.index(name), found) for name, found in parts.items()),
        told,
    )


def mapped(layout: Layout, contract: Contract, vendor: Vendor) -> tuple[str, ...]:
    """How contract columns were found that the header does not name themselves, in the order of the contract.

    Args:
        layout: Of a file of the vendor.
        contract: The columns.
        vendor: Whose constants apply.

    Returns:
        At most MAX_NOTED texts such as `tracking_num <- 'Tracking No'`.
    """
    made, constants = dict(layout.parts), dict(vendor.constants)
    found = []
    for place, (name, cell) in enumerate(zip(contract.names, layout.cells, strict=True)):
        if place in made:
            found.append((name, " + ".join(_quoted(layout.header[part]) for part in made[place])))
        elif name in constants:
            found.append((name, f"the constant {_quoted(constants[name])}"))
        elif name in layout.told:
            found.append((name, "the name of the file"))
        elif cell is not None and folded(layout.header[cell]) != folded(name):
            found.append((name, _quoted(layout.header[cell])))
    return tuple(f"{name} <- {source}" for name, source in found[:MAX_NOTED])


def _quoted(text: str) -> str:
    return repr(cut(text, MAX_SHOWN_CHARS))


def told_by_config(vendor: Vendor) -> tuple[str, ...]:
    """The contract columns that no file of a vendor carries, but its constants and its files' names tell."""
    groups = () if vendor.from_name is None else tuple(re.compile(vendor.from_name).groupindex)
    return (*(name for name, _ in vendor.constants), *groups)


def named(file_name: str, vendor: Vendor) -> dict[str, str]:
    """What a file's name says of contract columns, by the vendor's `from_name`.

    Args:
        file_name: The path's last part.
        vendor: Who sent the file.

    Raises:
        QuarantineError: Rule `from_name`: the name does not say it.
    """
    if vendor.from_name is None:
        return {}
    match = re.search(vendor.from_name, file_name)
    found = {} if match is None else match.groupdict()
    if match is None or not all(found.values()):
        raise QuarantineError(
            f"the file's name {cut(file_name, MAX_SHOWN_CHARS)!r} does not match from_name = {vendor.from_name!r}, "
            f"which says {', '.join(re.compile(vendor.from_name).groupindex)}",
            rule="from_name",
            hint="correct from_name of the vendor, then run ordertrail replay --all-quarantined; or have it renamed",
        )
    return found


def _parts(header: Sequence[str], places: dict[str, int], vendor: Vendor) -> dict[str, tuple[int, ...]]:
    """For each column that several cells make, their places; nothing for one that the vendor may leave out.

    Raises:
        QuarantineError: A column is in the file although the config says where it comes from, or a part is missing.
    """
    for name in (*(name for name, _ in vendor.combine), *told_by_config(vendor)):
        if name in places:
            raise QuarantineError(
                f"the file has the column {cut(header[places[name]], MAX_SHOWN_CHARS)!r}, and the vendor's profile "
                f"says that {name} comes from elsewhere",
                rule="header",
                column=name,
                hint=f"take {name} out of the vendor's combine, constants or from_name",
            )
    folds = [folded(cell) for cell in header]
    found: dict[str, tuple[int, ...]] = {}
    for name, wanted in vendor.combine:
        there = [[place for place, fold in enumerate(folds) if fold == folded(part)] for part in wanted]
        if not any(there) and name in vendor.absent:
            continue
        for part, at in zip(wanted, there, strict=True):
            if len(at) != 1:
                what = "no column" if not at else f"{len(at)} columns"
                raise QuarantineError(
                    f"the file has {what} {part!r}, of which {name} is made; its header is {listed(header)}",
                    rule="missing_column" if not at else "header",
                    column=name,
                    hint=f"correct combine.{name} of the vendor, then run ordertrail replay --all-quarantined",
                )
        found[name] = tuple(at[0] for at in there)
    return found


def _claimed(header: tuple[str, ...], contract: Contract, vendor: Vendor) -> tuple[dict[str, int], dict[str, int]]:
    """The places of the contract's columns by their names, and of all others by unique names."""
    places: dict[str, int] = {}
    unknown: dict[str, int] = {}
    counts: dict[str, int] = {}
    seen = [visible(cell) for cell in header]
    for place, (cell, name) in enumerate(zip(seen, _meant(header, contract, vendor), strict=True)):
        if name is None:
            unknown[_free_name(cell or f"column {place + 1}", unknown, counts)] = place
        elif name in places:
            first, second = header[places[name]], header[place]
            raise QuarantineError(
                f"two columns of the file are {name}: {cut(first, MAX_SHOWN_CHARS)!r} and "
                f"{cut(second, MAX_SHOWN_CHARS)!r}",
                rule="header",
                column=name,
                hint="send one of them, or take one out of the vendor's aliases",
            )
        else:
            places[name] = place
    return places, unknown


def _meant(header: Sequence[str], contract: Contract, vendor: Vendor) -> list[str | None]:
    """The contract column that each cell of a header means, or None.

    A column that the tables got from files also goes by what headers are `cleaned` to, where no cell is its very name.
    When two cells of a file mean it alike, neither does (P5): a vendor may change their places.
    """
    owner = owners(contract, vendor)
    found = [owner.get(folded(cell)) for cell in header]
    added = {column.name for column in contract.columns if column.added}
    if not added:
        return found
    times = Counter(found)
    found = [None if name in added and times[name] > 1 else name for name in found]
    near = [None if name else owner.get(folded(cleaned(cell))) for cell, name in zip(header, found, strict=True)]
    once = {name for name, count in Counter(near).items() if count == 1 and name in added and not times[name]}
    return [other if other in once else name for name, other in zip(found, near, strict=True)]


def _free_name(name: str, taken: dict[str, int], counts: dict[str, int]) -> str:
    """The name, made unique with the first free number from 2 on.

    Args:
        name: As it stands in the header.
        taken: Names that are taken.
        counts: For each name the number used last: no lower one is free, so equal names cost no search.
    """
    free, count = name, counts.get(name, 1)
    while free in taken:
        count += 1
        free = f"{name} ({count})"
    counts[name] = count
    return free


def _require_short(unknown: dict[str, int]) -> None:
    """Refuse names of unknown columns that would turn a small file into a large table: every row keeps them."""
    longest = max(unknown, key=len, default="")
    if len(longest) > MAX_NAME_CHARS:
        raise QuarantineError(
            f"the name of column {unknown[longest] + 1} has {len(longest):,} characters, more than {MAX_NAME_CHARS}: "
            f"{cut(longest, MAX_SHOWN_CHARS)!r}",
            rule="header",
            hint="check that the file has a header and the delimiter is right; if so, ask the vendor for shorter names",
        )
    total = sum(map(len, unknown))
    if total > MAX_NAMES_CHARS:
        raise QuarantineError(
            f"the names of the {len(unknown):,} columns that the contract does not know have {total:,} characters "
            f"together, more than {MAX_NAMES_CHARS:,}",
            rule="header",
            hint="ask the vendor to leave columns out, or for shorter names",
        )


def _missing_hint(missing: list[str], contract: Contract) -> str:
    """What to do about columns that a file lacks; suggests only what the config accepts."""
    again = "then run ordertrail replay --all-quarantined"
    if any(name in contract.key or name == contract.order_by for name in missing):
        return f"add an alias for the vendor, as every row needs its key and its time, {again}"
    if any(column.required for column in contract.columns if column.name in missing):
        return f"add an alias for the vendor; or make the column optional and list it as absent, {again}"
    return f"add an alias for the vendor, or list the column as absent, {again}"


def listed(names: Sequence[str]) -> str:
    """Names in a message: each of them cut, and the first twenty of many."""
    shown = ", ".join(repr(cut(name, MAX_SHOWN_CHARS)) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
