"""Columns that files bring and no config declares: `unknown_columns = "add"` makes them columns of the tables.

Such a column is a nullable string. The contract that the tables carry (`rules.schema.Terms`) lists it, marked with the
header that first brought it; `with_added` puts it into the contract that a pass or a command works under. From then on
it is a column like any other, but that no file must have it.

The name of the column is the header in lower case, without accents, with one underscore in place of everything between
ASCII letters and digits; before a leading digit stands `c_`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.model import Column, Contract, Vendor
from ordertrail.rules.bounds import MAX_COLUMNS, MAX_SHOWN_CHARS, cut
from ordertrail.rules.headers import RESERVED, Layout, cleaned, folded, map_header, owners
from ordertrail.rules.schema import DeclaredTable, terms_in

MAX_NAME_CHARS = 120
"""Longest name of an added column; a longer one stays in `_rescued`."""

NAMED = 5
"""How many headers a note shows; it counts the rest."""

_OURS = "a name that begins with _ is one of ordertrail's own"
_EMPTY = "it has no ASCII letter or digit to make a name of"
_LONG = f"its name would have more than {MAX_NAME_CHARS} characters"
_READERS = "its name would be one that readers of Parquet files use"
_KNOWN = "its name would be that of a column of the contract, or an alias: make it an alias of that column"
_TAKEN = "the tables have a column of that name that is not the contract's"
_TWICE = "another column of the file has the same name"


class Refused(Struct, frozen=True):
    """Columns of files that stay in `_rescued`.

    Attributes:
        vendor: Who sends them.
        headers: As they stand in the files.
        why: The reason, the same for all.
    """

    vendor: str
    headers: tuple[str, ...]
    why: str

    @property
    def note(self) -> str:
        """One line for people."""
        shown = ", ".join(repr(cut(one, MAX_SHOWN_CHARS)) for one in self.headers[:NAMED])
        more = f" and {len(self.headers) - NAMED} more" if len(self.headers) > NAMED else ""
        return f"{self.vendor}: not added to the tables, and kept in _rescued: {shown}{more}: {self.why}"


class Newcomers(Struct, frozen=True):
    """What the files of a batch bring beyond the contract.

    Attributes:
        columns: To be added to the tables, in the order in which the files bring them.
        refused: What stays in `_rescued`.
    """

    columns: tuple[Column, ...] = ()
    refused: tuple[Refused, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns to add."""
        return tuple(column.name for column in self.columns)

    def with_columns(self, contract: Contract) -> Contract:
        """A contract with the columns to add, after its own."""
        return replace(contract, columns=(*contract.columns, *self.columns))

    @property
    def notes(self) -> tuple[str, ...]:
        """What stays in `_rescued` and why, one line each."""
        return tuple(one.note for one in self.refused)


NOBODY = Newcomers()
"""Of a batch that brings nothing."""


def with_added(contract: Contract, text: str | None) -> Contract:
    """The contract of a config with the columns that its tables got from files and that it does not declare.

    Args:
        contract: Of the config; added columns that it has already are looked up anew.
        text: The contract that the tables carry, as their property has it; None when they have none.

    Raises:
        TableError: A newer release wrote the property.
    """
    declared = tuple(column for column in contract.columns if not column.added)
    terms = None if text is None else terms_in(text)
    known = {name for column in declared for name in (column.name.lower(), *column.was)}
    added = {} if terms is None else terms.added
    more = (Column(name, "string", added=header) for name, header in added.items() if name not in known)
    columns = (*declared, *more)
    return contract if columns == contract.columns else replace(contract, columns=columns)


def newcomers(
    found: Sequence[tuple[Vendor, Layout]],
    contract: Contract,
    vendors: Sequence[Vendor],
    tables: Iterable[DeclaredTable],
) -> Newcomers:
    """Which columns of files become columns of the tables.

    Args:
        found: The layouts of the files under the contract, with their vendors; the order decides who comes first.
        contract: With the columns that were added before.
        vendors: All of the config: nobody's alias becomes a column.
        tables: The tables as they are.
    """
    names = _Names(contract, vendors, tables)
    for _, layout in found:
        for cells in _alike(layout):
            if len(cells) == 1:
                names.add(cells[0])
    wider = replace(contract, columns=(*contract.columns, *names.columns))
    refused: dict[tuple[str, str], dict[str, None]] = {}
    for vendor, layout in found:
        for _, place in map_header(layout.header, wider, vendor).unknown:
            if header := layout.header[place]:
                why = names.refusal(header) or _TWICE
                refused.setdefault((vendor.name, why), {})[header] = None
    return Newcomers(names.columns, tuple(Refused(one, tuple(some), why) for (one, why), some in refused.items()))


def lacking_too(absent: str | None, names: Collection[str]) -> str:
    """The list of columns that a file lacks, as `orders_deliveries` keeps it, with those that came later.

    Args:
        absent: The list so far, as JSON.
        names: Columns that were added since.
    """
    return json.dumps(list(dict.fromkeys((*json.loads(absent or "[]"), *names))))


# -- parts ----------------------------------------------------------------------------------------------------------


class _Names:
    """Gives new columns their names, as long as there is room.

    Args:
        contract: With the columns that were added before.
        vendors: Whose aliases are no names.
        tables: Whose columns are taken.
    """

    def __init__(self, contract: Contract, vendors: Sequence[Vendor], tables: Iterable[DeclaredTable]) -> None:
        own = replace(contract, columns=tuple(column for column in contract.columns if not column.added))
        self._known = {name for vendor in vendors for name in owners(own, vendor)} | set(owners(own, Vendor("")))
        self._added = {folded(column.name) for column in contract.columns if column.added}
        rows = [table for table in tables if any(column.name == "_row_hash" for column in table.wanted)]
        self._taken = {c.name.lower() for table in rows for c in table.columns} - set(contract.names)
        self._most = contract.max_added_columns
        self._room = self._most - len(self._added)
        self._room_of_all = MAX_COLUMNS - len(contract.columns)
        self._new: dict[str, Column] = {}

    @property
    def columns(self) -> tuple[Column, ...]:
        """The new columns."""
        return tuple(self._new.values())

    def add(self, header: str) -> None:
        """Make a column of a header, if it may become one and is none yet."""
        key = folded(cleaned(header))
        if self._problem(header) is None and key not in self._added and key not in self._new and self._full is None:
            self._new[key] = Column(cleaned(header), "string", added=header)

    def refusal(self, header: str) -> str | None:
        """Why a header is no column of the tables; None when it is one."""
        key = folded(cleaned(header))
        if (problem := self._problem(header)) is not None or key in self._added or key in self._new:
            return problem
        return self._full

    @property
    def _full(self) -> str | None:
        """Why there is no room for another column; None while there is."""
        if len(self._new) >= self._room_of_all:
            return f"tables have at most {MAX_COLUMNS} columns of the contract"
        return f"max_added_columns = {self._most} is reached" if len(self._new) >= self._room else None

    def _problem(self, header: str) -> str | None:
        name = cleaned(header)
        if header.startswith("_"):
            return _OURS
        if not name:
            return _EMPTY
        if len(name) > MAX_NAME_CHARS:
            return _LONG
        if name in RESERVED:
            return _READERS
        if folded(name) in self._known:
            return _KNOWN
        return _TAKEN if name in self._taken else None


def _alike(layout: Layout) -> Iterator[list[str]]:
    """The headers of a file that nobody knows, by the column that they would be.

    One that is the column's name but for case, spaces and underscores comes before those that only clean to it.
    """
    groups: dict[str, list[str]] = {}
    for _, place in sorted(layout.unknown, key=lambda one: one[1]):
        if header := layout.header[place]:
            groups.setdefault(folded(cleaned(header)), []).append(header)
    for key, headers in groups.items():
        yield [header for header in headers if folded(header) == key] or headers
