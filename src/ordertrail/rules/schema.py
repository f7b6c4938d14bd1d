"""The differences between the tables and the contract, and which of them a pass settles by itself.

A property of the history holds the contract that the tables were created with or last brought up to. It tells a change
of the config from a change that somebody made to a table, and a column that was removed from the contract from one that
was never in it.

What decides the schema of the tables counts: the columns, their types, which of them are required, the key and the
order. The status ranks are kept with them, since the target's rows were chosen by them; they may change at any time,
and so may aliases, formats and status maps, which decide how rows are read from now on. `rules.migration` says what it
takes to settle the other differences.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.errors import TableError
from ordertrail.model import Contract
from ordertrail.rules.column_types import contract_type
from ordertrail.rules.others import carried_type, type_text
from ordertrail.rules.tables import TableColumn

CONTRACT = "ordertrail.contract"
"""Property of the history: the contract that the tables carry, as `Terms.text`."""

ALWAYS = frozenset(
    {
        *("_vendor", "_delivery_id", "_file_name", "_file_row", "_batch", "_inserted_at", "_updated_at", "_revision"),
        *("_row_hash", "_rescued", "_outcome", "_loaded_at", "_kind", "_raw", "_errors", "_manifest", "_delivery_no"),
    }
)
"""Names of our own columns that every release created: somebody replaced a table that lacks one of them."""

Kind = Literal[
    "added", "added_required", "taken", "kept", "case", "removed", "renamed", "type", "required", "key", "order_by",
    "replaced", "must_fill", "unfilled", "uncarried",
]  # fmt: skip

_VERSION = 1


class DeclaredColumn(Struct, frozen=True):
    """A column as a table's schema declares it.

    Attributes:
        name: As declared.
        type: The contract type where there is one; else Delta's name of it, or JSON for a nested type.
        nullable: Whether it may be NULL.
    """

    name: str
    type: str
    nullable: bool


class DeclaredTable(Struct, frozen=True):
    """A table as its schema declares it.

    Attributes:
        name: The table's name.
        columns: The columns that it has.
        wanted: Our columns that it should have.
    """

    name: str
    columns: tuple[DeclaredColumn, ...]
    wanted: tuple[TableColumn, ...]

    def column(self, name: str) -> DeclaredColumn | None:
        """The column with a name; None when there is none."""
        return next((column for column in self.columns if column.name == name), None)


class Terms(Struct, frozen=True):
    """The part of a contract that decides the schema of the tables.

    Attributes:
        columns: For each name the type, and whether the column is required.
        key: Names of the key columns; None when they are not known.
        order_by: Name of the column that orders rows; None when it is not known.
        status: Name of the column whose ranks order rows of the same time; "" for none, None when it is not known.
        status_rank: Its values from first to last; None when they are not known.
        added: Of the columns that the tables got from files, by name, the header that first brought each.
    """

    columns: Mapping[str, tuple[str, bool | None]]
    key: tuple[str, ...] | None
    order_by: str | None
    status: str | None = None
    status_rank: tuple[str, ...] | None = None
    added: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The terms as canonical JSON: equal terms have equal texts."""
        columns = {
            name: {"type": kind, "required": bool(must), **({"added": self.added[name]} if name in self.added else {})}
            for name, (kind, must) in self.columns.items()
        }
        body: dict[str, object] = {
            "version": _VERSION,
            "columns": columns,
            "key": sorted(self.key or ()),
            "order_by": self.order_by,
        }
        if self.status is not None and self.status_rank is not None:
            body |= {"status": self.status, "status_rank": list(self.status_rank)}
        return json.dumps(body, sort_keys=True, separators=(",", ":"))


class Difference(Struct, frozen=True):
    """One difference between the tables and the contract.

    Attributes:
        kind: The kind of difference; a pass settles only `added` by itself.
        table: Name of the table; empty when it concerns the contract as a whole.
        column: Name of the column; empty for the whole key.
        before: What the tables have: a type or names.
        after: What the contract wants.
    """

    kind: Kind
    table: str
    column: str
    before: str | None = None
    after: str | None = None

    @property
    def by_itself(self) -> bool:
        """Whether a pass settles it by itself: nothing that exists changes."""
        return self.kind == "added"

    @property
    def ours(self) -> bool:
        """Whether the config was changed rather than a table."""
        return self.kind not in _OF_A_TABLE

    @property
    def text(self) -> str:
        """A sentence that says what differs, with column, types and table."""
        return _TEXTS[self.kind].format(**self._words())

    @property
    def migrates(self) -> bool:
        """Whether `ordertrail migrate` can settle it; see `MIGRATE`."""
        return self.kind in _MIGRATED

    @property
    def hint(self) -> str:
        """What to do about it; where it `migrates`, what to do instead."""
        return _HINTS[self.kind].format(**self._words())

    def _words(self) -> dict[str, str | None]:
        return {"table": self.table, "column": self.column, "before": self.before, "after": self.after}


_TEXTS: dict[Kind, str] = {
    "added": "{table} gets the column {column} ({after})",
    "added_required": "the contract has a new column {column} ({after}) that is required, and rows of {table} lack it",
    "taken": "the contract has a new column {column} ({after}), but somebody else added one of that "
    "name ({before}) to {table}",
    "kept": "the contract has a new column {column} ({after}), but {table} still has one of that name ({before}), "
    "which was taken out of the contract before",
    "case": "the contract says {column}, but in the tables the column is {before}: names that differ only in capital "
    "letters are one name",
    "removed": "the contract no longer has the column {column}, but the tables do ({before})",
    "renamed": "the contract calls the column {before} {column} now",
    "type": "the contract says that {column} is {after}, but in the tables it is {before}",
    "required": "the contract says that {column} is required, but it is NULL in rows of the tables",
    "key": "the contract's key is {after}, but the tables are keyed by {before}",
    "order_by": "the contract orders by {after}, but the tables are ordered by {before}",
    "replaced": "the table {table} has the column {column} as {before}, not as {after}: somebody replaced it",
    "must_fill": "the column {column} of {table} is NOT NULL, and the contract does not require it",
    "unfilled": "the column {column} of {table} is NOT NULL, and nothing that the contract knows fills it",
    "uncarried": "somebody else added the column {column} to {table}, and values of its type {before} cannot be kept",
}

MIGRATE = "ordertrail migrate says what it takes to change the tables, and changes them with --apply"

_OTHER_NAME = (
    'give it another name in [contract], such as name = "{column}_2", and vendors that send it '
    'aliases = {{ {column}_2 = ["{column}"] }}'
)

_HINTS: dict[Kind, str] = {
    "added": "the next pass adds it",
    "added_required": "or remove required from {column} in [contract]: existing rows have NULL in it",
    "taken": _OTHER_NAME,
    "kept": _OTHER_NAME,
    "case": 'write name = "{before}" in [contract], and {before} wherever the config says {column}',
    "removed": 'or put it back: [[contract.columns]] with name = "{column}" and type = "{before}"; a vendor that no '
    "longer sends it lists it as absent; where another column took its place, that one says "
    'was = ["{column}"]',
    "renamed": 'or put name = "{before}" back in [contract]',
    "type": 'or put type = "{before}" back for {column} in [contract]',
    "required": "remove required from {column} in [contract]; where the target has it as NOT NULL, drop that too",
    "key": "or put key = {before} back in [contract]",
    "order_by": 'or put order_by = "{before}" back in [contract]',
    "replaced": "restore the table to a version before that",
    "must_fill": "set required = true for {column} in [contract], or allow NULL, on Spark with ALTER TABLE {table} "
    "ALTER COLUMN {column} DROP NOT NULL",
    "unfilled": "let it be NULL, on Spark with ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL",
    "uncarried": "restore the table to a version before it was added",
}

_MIGRATED: frozenset[Kind] = frozenset({"added_required", "removed", "renamed", "type", "key", "order_by"})

_NAMES_IN_USE: frozenset[Kind] = frozenset({"taken", "kept"})

_OF_A_TABLE: frozenset[Kind] = frozenset({"replaced", "must_fill", "unfilled", "uncarried"})


def terms_of(contract: Contract) -> Terms:
    """The part of a contract that decides the schema of the tables."""
    columns = {column.name: (column.type, column.required) for column in contract.columns}
    added = {column.name: column.added for column in contract.columns if column.added}
    return Terms(columns, contract.key, contract.order_by, contract.status or "", contract.status_rank, added)


def accepted_terms(text: str | None, tables: Sequence[DeclaredTable], contract: Contract) -> Terms:
    """The contract that the tables carry.

    Args:
        text: The property of the history; None when a release older than the property created the tables.
        tables: They tell when there is no property: the stage has the contract's columns and ours and no others; in the
            history the columns of key and order are never NULL.
        contract: As it is now; supplies what the tables do not tell.

    Raises:
        TableError: A newer release wrote the property.
    """
    if text is not None and (held := terms_in(text)) is not None:
        return held
    stage = _table_with(tables, "_manifest")
    if stage is None:
        return terms_of(contract)
    columns = {c.name: (c.type, None) for c in stage.columns if not c.name.startswith("_")}
    history = _table_with(tables, "_outcome")
    must = () if history is None else tuple(c.name for c in history.columns if not c.nullable)
    times = [name for name in must if columns.get(name, ("", None))[0] == "timestamp"]
    order_by = contract.order_by if contract.order_by in must else times[0] if len(times) == 1 else None
    if order_by is None:
        return Terms(columns, None, None)
    return Terms(columns, tuple(name for name in must if name != order_by), order_by)


def terms_by_stage(stage: DeclaredTable) -> Terms:
    """The columns of the contract that the stage tells, all of text as if files had brought them.

    Args:
        stage: Where no property tells more; what the config declares goes before (`rules.added.with_added`).
    """
    columns = {c.name: (c.type, None) for c in stage.columns if not c.name.startswith("_")}
    return Terms(columns, None, None, added={name: name for name, (kind, _) in columns.items() if kind == "string"})


def differences(tables: Sequence[DeclaredTable], accepted: Terms, contract: Contract) -> list[Difference]:
    """All differences between the tables and a contract.

    Args:
        tables: Those that exist.
        accepted: The contract that they carry, see `accepted_terms`.
        contract: The contract that the config asks for.

    Returns:
        First the changes of the config, then those of the tables, in the order of `tables`. A difference of the kind
        `required` matters only when the column has NULLs: the caller, who can read the rows, must check.
    """
    wanted = terms_of(contract)
    found = list(_renamed(accepted, contract))
    names = {one.before: one.column for one in found}
    found += _of_terms(_with_names(accepted, names), wanted)
    changed = {one.column for one in found}
    for table in tables:
        told = _of_table(table, accepted, wanted)
        found += [one for one in told if one.kind in _NAMES_IN_USE or one.column not in changed]
    return found


def declared_columns(schema: str) -> tuple[DeclaredColumn, ...]:
    """The columns of a schema given as JSON text, as Delta and Spark write it."""
    return tuple(
        DeclaredColumn(str(one["name"]), _type_text(one["type"]), bool(one.get("nullable", True)))
        for one in json.loads(schema)["fields"]
    )


def lacking(columns: Iterable[TableColumn], present: Iterable[str]) -> tuple[TableColumn, ...]:
    """Our columns that a table lacks.

    Args:
        columns: The columns that the table should have.
        present: Names of the columns that it has.
    """
    there = frozenset(present)
    return tuple(column for column in columns if column.name not in there)


def may_be_added(column: TableColumn, present: Sequence[str]) -> bool:
    """Whether a missing column can be added to a table: existing rows get NULL in it.

    Args:
        column: The missing column.
        present: Names of the columns that the table has; in Delta, names that differ only in case are the same.
    """
    known = {name.lower() for name in present}
    return not column.required and column.name not in ALWAYS and column.name.lower() not in known


def terms_in(text: str) -> Terms | None:
    """The contract in the property `CONTRACT`; None when somebody wrote something else into it.

    Raises:
        TableError: A newer release wrote it.
    """
    try:
        body = json.loads(text)
        if body["version"] > _VERSION:
            raise TableError(
                f"the property {CONTRACT} of the history is of a newer release of ordertrail",
                hint="run that release, or a newer one",
            )
        columns = {name: (str(one["type"]), bool(one["required"])) for name, one in body["columns"].items()}
        rank = body.get("status_rank")
        ranks = (str(body["status"]), tuple(map(str, rank))) if isinstance(rank, list) else (None, None)
        added = {name: str(one["added"]) for name, one in body["columns"].items() if one.get("added")}
        return Terms(columns, tuple(body["key"]), body["order_by"], ranks[0], ranks[1], added)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


# -- parts ----------------------------------------------------------------------------------------------------------


def _renamed(accepted: Terms, contract: Contract) -> Iterator[Difference]:
    """The columns that only have another name in the contract."""
    gone = {name: kind for name, (kind, _) in accepted.columns.items() if name not in contract.names}
    for column in contract.columns:
        if column.name in accepted.columns:
            continue
        same = next((name for name in gone if name.lower() == column.name.lower()), None)
        before = same or next((name for name in column.was if name in gone), None)
        if before is not None:
            del gone[before]
            yield Difference("case" if same else "renamed", "", column.name, before, column.type)


def _with_names(terms: Terms, names: Mapping[str | None, str]) -> Terms:
    """The same terms with other names of columns."""
    key = None if terms.key is None else tuple(names.get(name, name) for name in terms.key)
    columns = {names.get(name, name): said for name, said in terms.columns.items()}
    return replace(terms, columns=columns, key=key, order_by=names.get(terms.order_by, terms.order_by))


def _of_terms(accepted: Terms, wanted: Terms) -> Iterator[Difference]:
    """The differences between the config and the contract that the tables carry."""
    for name, (before, must) in accepted.columns.items():
        if name not in wanted.columns:
            yield Difference("removed", "", name, before)
            continue
        after, must_now = wanted.columns[name]
        if before != after:
            yield Difference("type", "", name, before, after)
        elif must is False and must_now:
            yield Difference("required", "", name, before, after)
    if accepted.key is not None and set(accepted.key) != set(wanted.key or ()):
        yield Difference("key", "", "", json.dumps(list(accepted.key)), json.dumps(list(wanted.key or ())))
    if accepted.order_by is not None and accepted.order_by != wanted.order_by:
        yield Difference("order_by", "", "", accepted.order_by, wanted.order_by)


def _of_table(table: DeclaredTable, accepted: Terms, wanted: Terms) -> Iterator[Difference]:
    """The differences between a table's columns and those that it should have."""
    present = [column.name for column in table.columns]
    of_rows = any(column.name == "_row_hash" for column in table.wanted)  # rejects and deliveries have no contract
    for column in table.wanted:
        is_new = of_rows and column.name in wanted.columns and column.name not in accepted.columns
        there = table.column(column.name)
        same = there or next((one for one in table.columns if one.name.lower() == column.name.lower()), None)
        if same is not None and is_new and same.name not in accepted.columns:
            before = same.type if there else f"{same.name}, {same.type}"
            in_use: Kind = "kept" if any(one.name == "_outcome" for one in table.wanted) else "taken"
            yield Difference(in_use, table.name, column.name, before, column.type)
        elif there is not None and there.type != column.type:
            yield Difference("replaced", table.name, column.name, there.type, column.type)
        elif there is None and is_new and wanted.columns[column.name][1]:
            yield Difference("added_required", table.name, column.name, None, column.type)
        elif there is None and may_be_added(column, present):
            yield Difference("added", table.name, column.name, None, column.type)
        elif there is None:
            before = "nothing" if same is None else same.name
            yield Difference("replaced", table.name, column.name, before, column.type)
        elif not (there.nullable or column.required or wanted.columns.get(column.name, ("", False))[1]):
            kind: Kind = "must_fill" if column.name in wanted.columns else "unfilled"
            yield Difference(kind, table.name, column.name, there.type, column.type)
    ours = {column.name for column in table.wanted}
    carries = "_inserted_at" in ours and "_outcome" not in ours
    for there in table.columns:
        # `removed` already reports what the contract had before.
        if there.name in ours or there.name in accepted.columns:
            continue
        if not there.nullable:
            yield Difference("unfilled", table.name, there.name, there.type)
        elif carries and carried_type(there.type) is None:
            yield Difference("uncarried", table.name, there.name, there.type)


def _table_with(tables: Sequence[DeclaredTable], column: str) -> DeclaredTable | None:
    """The table that should have a column of ours that no other table has."""
    return next((table for table in tables if any(c.name == column for c in table.wanted)), None)


def _type_text(kind: Any) -> str:  # noqa: ANN401 - JSON
    return contract_type(type_text(kind))
