"""Match a file's header to the contract: by name, never by position (P5)."""

from __future__ import annotations

from dataclasses import dataclass

from ordertrail.errors import QuarantineError
from ordertrail.model import Contract, Vendor

MAX_UNKNOWN_COLUMNS = 1000
"""A file with more other columns is no feed of shipments; each costs the row kernel memory on every thread."""


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


def map_header(header: tuple[str, ...], contract: Contract, vendor: Vendor) -> Layout:
    """Find every contract column in a header, by its name or by one of the vendor's aliases.

    Args:
        header: The header's cells, stripped.
        contract: What a row must meet.
        vendor: Whose aliases and absent columns apply.

    Raises:
        QuarantineError: Rule `header`: two columns claim one contract column. Rule `missing_column`. Rule
            `unknown_column`, for a contract that is strict.
    """
    owner = {folded(column.name): column.name for column in contract.columns}
    owner |= {folded(alias): name for name, aliases in vendor.aliases for alias in aliases}
    places: dict[str, int] = {}
    unknown: dict[str, int] = {}
    for place, cell in enumerate(header):
        name = owner.get(folded(cell))
        if name is None:
            unknown[_free_name(cell or f"column {place + 1}", unknown)] = place
        elif name in places:
            first, second = header[places[name]], cell
            raise QuarantineError(
                f"two columns of the file are {name}: {first!r} and {second!r}",
                rule="header",
                column=name,
                hint="send one of them, or take one out of the vendor's aliases",
            )
        else:
            places[name] = place
    missing = [name for name in contract.names if name not in places and name not in vendor.absent]
    if missing:
        raise QuarantineError(
            f"the file has no column {_listed(missing)}; its header is {_listed(header)}",
            rule="missing_column",
            column=missing[0],
            hint="add an alias for the vendor, or list the column as absent, then drop the file in again",
        )
    if len(unknown) > MAX_UNKNOWN_COLUMNS:
        raise QuarantineError(
            f"the file has {len(unknown)} columns that the contract does not know, more than {MAX_UNKNOWN_COLUMNS}",
            rule="unknown_column",
            hint="see whether the delimiter is right; else ask the vendor to leave columns out",
        )
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


def _free_name(name: str, taken: dict[str, int]) -> str:
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name} ({count})"
    return free


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
