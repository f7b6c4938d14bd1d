"""Where a sample has the columns of a contract: by name, by other vendors' names, by likeness, by content."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.begin.draft import Looked
from ordertrail.begin.profile import Placed
from ordertrail.begin.roles import key_of, status_of, time_of
from ordertrail.begin.values import Facts
from ordertrail.model import Contract, Vendor
from ordertrail.rules.guessing import meant
from ordertrail.rules.headers import folded, owners
from ordertrail.rules.likeness import likeness, matched

LIKE_ENOUGH = 0.65
"""From this likeness on a header is taken for a column; between `MAYBE` and this it is a suggestion."""

MAYBE = 0.45
"""Below this likeness nothing is said."""

_NUMBERS = ("bigint", "double")


class Places(Struct, frozen=True):
    """Where a sample has a contract's columns.

    Attributes:
        placed: The columns that were found, in the contract's order.
        maybe: (column, header) of those that may be found, but nobody is certain.
        others: Headers that no contract column is read from.
    """

    placed: tuple[Placed, ...]
    maybe: tuple[tuple[str, str], ...]
    others: tuple[str, ...]


def places_of(looked: Looked, contract: Contract, vendors: Sequence[Vendor]) -> tuple[Looked, Places]:
    """Find a contract's columns in a sample.

    Args:
        looked: The sample.
        contract: The columns.
        vendors: Whose aliases may be used by this one, too.

    Returns:
        The sample, with names for its columns if it has no header; and where the columns are.
    """
    if not looked.sample.header:
        looked = _named(looked, contract)
    columns = looked.columns
    found: dict[str, Placed] = {}
    for facts in columns:
        name = _by_name(facts.header, contract, vendors) if _once(facts, columns) else None
        if name is not None and name not in found and not (name == contract.order_by and facts.kind == "clock"):
            found[name] = Placed(name, (facts.header,), facts)
    _by_content(looked, contract, found)
    free = [one for one in columns if _once(one, columns) and one.header not in _used(found)]
    open_ones = [one for one in contract.columns if one.name not in found and not one.added]
    likes = {
        (one.header, column.name): likeness(one.header, column.name)
        for one in free
        for column in open_ones
        if _may_be(one, column.type)
    }
    by_header = {one.header: one for one in free}
    for name, header in matched(likes, LIKE_ENOUGH).items():
        found[name] = Placed(name, (header,), by_header[header])
    left = {pair: like for pair, like in likes.items() if pair[1] not in found and pair[0] not in _used(found)}
    maybe = matched(left, MAYBE)
    order = list(contract.names)
    placed = tuple(sorted(found.values(), key=lambda one: order.index(one.name)))
    others = tuple(one.header for one in columns if one.header and one.header not in _used(found))
    return looked, Places(placed, tuple(maybe.items()), others)


def _once(facts: Facts, columns: Sequence[Facts]) -> bool:
    """Whether a column has a name, and one of its own."""
    return bool(facts.header) and sum(folded(one.header) == folded(facts.header) for one in columns) == 1


def _used(found: dict[str, Placed]) -> set[str]:
    return {header for one in found.values() for header in one.headers}


def _by_name(header: str, contract: Contract, vendors: Sequence[Vendor]) -> str | None:
    """The column that a header names: by its own name, an alias of any vendor, or a usual name of it."""
    name = owners(contract, Vendor("")).get(folded(header))
    if name is None:
        known = [found for vendor in vendors if (found := owners(contract, vendor).get(folded(header)))]
        name = known[0] if len(set(known)) == 1 else None
    owner = meant(header)
    if name is None and owner is not None:
        same = [column for column in contract.names if meant(column) == owner]
        name = same[0] if len(same) == 1 else None
    return name


def _by_content(looked: Looked, contract: Contract, found: dict[str, Placed]) -> None:
    """The time, the key and the status, where no name tells them."""
    columns = looked.columns
    used = [place for place, one in enumerate(columns) if one.header in _used(found)]
    if contract.order_by not in found:
        free = [one if place not in used else replace(one, kind="string") for place, one in enumerate(columns)]
        time = time_of(free, looked.sample.columns) or time_of(columns, looked.sample.columns)
        if time is not None:
            headers = tuple(columns[place].header for place in time.places)
            for name in [name for name, one in found.items() if set(one.headers) & set(headers)]:
                if len(headers) == 1:
                    del found[name]
            found[contract.order_by] = Placed(contract.order_by, headers, time.facts)
    used = [place for place, one in enumerate(columns) if one.header in _used(found)]
    if len(contract.key) == 1 and contract.key[0] not in found and len(used) < len(columns):
        place = key_of(columns, used)
        if columns[place].kind in ("string", *_NUMBERS) and _once(columns[place], columns):
            found[contract.key[0]] = Placed(contract.key[0], (columns[place].header,), columns[place])
            used.append(place)
    if contract.status is not None and contract.status not in found:
        status = status_of(columns, used)
        if status is not None and _once(columns[status], columns):
            found[contract.status] = Placed(contract.status, (columns[status].header,), columns[status])


def _may_be(facts: Facts, kind: str) -> bool:
    """Whether the values of a column may be of a contract column's type."""
    if not facts.values:
        return True
    if kind in ("date", "timestamp"):
        return facts.is_time
    if kind == "string":
        return not facts.is_time and facts.kind != "clock"
    return facts.kind in _NUMBERS if kind != "boolean" else facts.kind == "boolean"


def _named(looked: Looked, contract: Contract) -> Looked:
    """The columns of a file without a header, named by what they hold."""
    columns = looked.columns
    time = time_of(columns, looked.sample.columns)
    taken = list(time.places if time else ())
    names = [f"column {place}" for place in range(1, len(columns) + 1)]
    if len(contract.key) == 1 and len(taken) < len(columns):
        taken.append(key_of(columns, taken))
        names[taken[-1]] = contract.key[0]
    if time is not None and len(time.places) == 1:
        names[time.places[0]] = contract.order_by
    status = status_of(columns, taken)
    if contract.status is not None and status is not None:
        names[status] = contract.status
    vendor = looked.sample.vendor
    told = time is not None and {*contract.key} <= {*names}
    vendor = replace(vendor, columns=tuple(names)) if told else replace(vendor, header=True, skip_lines=None)
    named = tuple(replace(one, header=name) for one, name in zip(columns, names, strict=True))
    return replace(looked, sample=replace(looked.sample, vendor=vendor), columns=named)
