"""Match a file's header to the contract: by name, never by position (P5)."""

from __future__ import annotations

from dataclasses import dataclass

from ordertrail.errors import QuarantineError
from ordertrail.model import Contract, Vendor
from ordertrail.rules.bounds import MAX_SHOWN_CHARS, cut

MAX_UNKNOWN_COLUMNS = 1000
"""A file with more other columns is no feed of shipments; each costs the row kernel memory on every thread."""

MAX_NAME_CHARS = 500
"""Of a column that the contract does not know: its name is kept in `_rescued` of every row."""

MAX_NAMES_CHARS = 50_000
"""Of the names of all such columns together."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the contract's columns stand in a file.

    Attributes:
        header: The header's cells.
        cells: For each contract column its place in the header, 0 = first, or None when the vendor never sends it.
        unknown: (name for `_rescued`, place) of the columns that no contract column claims, sorted by name.
        absent: Names of the contract columns without a place.
    """

    header: tuple[str, ...]
    cells: tuple[int | None, ...]
    unknown: tuple[tuple[str, int], ...]
    absent: tuple[str, ...]


def folded(name: str) -> str:
    """A header name without regard to case, spaces and underscores."""
    return "".join(name.casefold().split()).replace("_", "")


def max_columns(contract: Contract) -> int:
    """How many columns a file may have; a header is not even taken apart when it has more."""
    return len(contract.columns) + MAX_UNKNOWN_COLUMNS


def map_header(header: tuple[str, ...], contract: Contract, vendor: Vendor) -> Layout:
    """Find every contract column in a header, by its name or by one of the vendor's aliases.

    Args:
        header: The header's cells, stripped.
        contract: What a row must meet.
        vendor: Whose aliases and absent columns apply.

    Raises:
        QuarantineError: Rule `header`: two columns claim one contract column, or names are too long. Rule
            `missing_column`. Rule `unknown_column`: too many of them, or any for a contract that is strict.
    """
    places, unknown = _claimed(header, contract, vendor)
    missing = [name for name in contract.names if name not in places and name not in vendor.absent]
    if missing:
        raise QuarantineError(
            f"the file has no column {_listed(missing)}; its header is {_listed(header)}",
            rule="missing_column",
            column=missing[0],
            hint=_missing_hint(missing, contract),
        )
    if len(unknown) > MAX_UNKNOWN_COLUMNS:
        raise QuarantineError(
            f"the file has {len(unknown)} columns that the contract does not know, more than {MAX_UNKNOWN_COLUMNS}",
            rule="unknown_column",
            hint="see whether the delimiter is right; else ask the vendor to leave columns out",
        )
    _require_short(unknown)
    named = [name for name, place in unknown.items() if header[place]]
    if named and contract.unknown_columns == "strict":
        raise QuarantineError(
            f"the file has columns that the contract does not know: {_listed(named)}",
            rule="unknown_column",
            hint="add them to the contract, or set unknown_columns = 'rescue'",
        )
    return Layout(
        header,
        tuple(places.get(name) for name in contract.names),
        tuple(sorted(unknown.items())),
        tuple(name for name in contract.names if name not in places),
    )


def _claimed(header: tuple[str, ...], contract: Contract, vendor: Vendor) -> tuple[dict[str, int], dict[str, int]]:
    """Places of the contract's columns, by their names, and of all others, by names of their own."""
    owner = {folded(column.name): column.name for column in contract.columns}
    owner |= {folded(alias): name for name, aliases in vendor.aliases for alias in aliases}
    places: dict[str, int] = {}
    unknown: dict[str, int] = {}
    counts: dict[str, int] = {}
    for place, cell in enumerate(header):
        name = owner.get(folded(cell))
        if name is None:
            unknown[_free_name(cell or f"column {place + 1}", unknown, counts)] = place
        elif name in places:
            first, second = header[places[name]], cell
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


def _free_name(name: str, taken: dict[str, int], counts: dict[str, int]) -> str:
    """The name, or with the first number from 2 on that makes it one of its own.

    Args:
        name: As it stands in the header.
        taken: Names that are taken.
        counts: By name, the number it had last: none below is free, so that equal names cost no search.
    """
    free, count = name, counts.get(name, 1)
    while free in taken:
        count += 1
        free = f"{name} ({count})"
    counts[name] = count
    return free


def _require_short(unknown: dict[str, int]) -> None:
    """Names of unknown columns are kept with every row: refuse those that would make a large table of a small file."""
    longest = max(unknown, key=len, default="")
    if len(longest) > MAX_NAME_CHARS:
        raise QuarantineError(
            f"the name of column {unknown[longest] + 1} has {len(longest):,} characters, more than {MAX_NAME_CHARS}: "
            f"{cut(longest, MAX_SHOWN_CHARS)!r}",
            rule="header",
            hint="see whether the file has a header and the delimiter is right; else ask the vendor for shorter names",
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
    """What to do about columns that a file lacks; only what the config then takes."""
    again = "then copy the file back with cp -p"
    if any(name in contract.key or name == contract.order_by for name in missing):
        return f"add an alias for the vendor, for no row can do without its key and its time, {again}"
    if any(column.required for column in contract.columns if column.name in missing):
        return f"add an alias for the vendor; or require the column no longer and list it as absent, {again}"
    return f"add an alias for the vendor, or list the column as absent, {again}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(repr(cut(name, MAX_SHOWN_CHARS)) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
