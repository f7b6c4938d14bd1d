"""What tables have and what the contract wants: the differences, and which of them a pass settles by itself.

The tables carry the contract that they were made with, or last brought up to: a property of the history holds it.
With it a change of the config is told from a change that somebody made to a table, and a column that was taken out of
the contract from one that was never in it.

Only what decides the tables' schema counts: columns, their types, which of them must be filled, key and order. Aliases,
formats, status maps and ranks decide how rows are read from now on, and may change at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ordertrail.errors import TableError
from ordertrail.model import Contract
from ordertrail.rules.column_types import contract_type
from ordertrail.rules.others import carried_type, type_text
from ordertrail.rules.tables import TableColumn

CONTRACT = "ordertrail.contract"
"""Property of the history: the contract that the tables hold, as `Terms.text`."""

ALWAYS = frozenset(
    {
        *("_vendor", "_delivery_id", "_file_name", "_file_row", "_batch", "_inserted_at", "_updated_at", "_revision"),
        *("_row_hash", "_rescued", "_outcome", "_loaded_at", "_kind", "_raw", "_errors", "_manifest", "_delivery_no"),
    }
)
"""Names of our own columns that every release made: a table without one of them was replaced by somebody."""

Kind = Literal[
    "added", "added_required", "taken", "removed", "type", "required", "key", "order_by", "replaced",
    "must_fill", "unfilled", "uncarried",
]  # fmt: skip

_VERSION = 1


@dataclass(frozen=True, slots=True)
class DeclaredColumn:
    """A column as a table's schema declares it.

    Attributes:
        name: As it stands there.
        type: In the words of a contract where it has one; else as Delta calls it, nested ones as JSON.
        nullable: Whether it may be NULL.
    """

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class DeclaredTable:
    """A table as its schema declares it.

    Attributes:
        name: Of the table.
        columns: What it has.
        wanted: What it should have of ours.
    """

    name: str
    columns: tuple[DeclaredColumn, ...]
    wanted: tuple[TableColumn, ...]

    def column(self, name: str) -> DeclaredColumn | None:
        """The column of a name; None when there is none."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Terms:
    """What of a contract decides the schema of tables.

    Attributes:
        columns: By name, the type, and whether a row must have it.
        key: Names of the key columns; None when it is not known.
        order_by: Name of the column that orders; None when it is not known.
    """

    columns: Mapping[str, tuple[str, bool | None]]
    key: tuple[str, ...] | None
    order_by: str | None

    @property
    def text(self) -> str:
        """As canonical JSON: equal terms have equal texts."""
        columns = {name: {"type": kind, "required": bool(must)} for name, (kind, must) in self.columns.items()}
        body = {"version": _VERSION, "columns": columns, "key": sorted(self.key or ()), "order_by": self.order_by}
        return json.dumps(body, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between what tables have and what the contract wants.

    Attributes:
        kind: What it is; `added` alone is settled by itself.
        table: Name of the table; empty when it is the contract as a whole.
        column: Name of the column; empty for the whole key.
        before: As the tables have it: type or names.
        after: As the contract wants it.
    """

    kind: Kind
    table: str
    column: str
    before: str | None = None
    after: str | None = None

    @property
    def by_itself(self) -> bool:
        """Whether a pass settles it: nothing that is there changes."""
        return self.kind == "added"

    @property
    def ours(self) -> bool:
        """Whether the config was changed, and not a table."""
        return self.kind not in _OF_A_TABLE

    @property
    def text(self) -> str:
        """What differs, naming column, types and table."""
        return _TEXTS[self.kind].format(**self._words())

    @property
    def hint(self) -> str:
        """What to do about it."""
        return _HINTS[self.kind].format(**self._words())

    def _words(self) -> dict[str, str | None]:
        return {"table": self.table, "column": self.column, "before": self.before, "after": self.after}


_TEXTS: dict[Kind, str] = {
    "added": "{table} gets the column {column} ({after})",
    "added_required": "the contract has a new column {column} ({after}) that is required, and rows of {table} lack it",
    "taken": "the contract has a new column {column} ({after}), and {table} has one of that name ({before}) which "
    "is somebody else's",
    "removed": "the contract has no column {column} any more, and the tables have it ({before})",
    "type": "the contract says that {column} is {after}, and the tables have it as {before}",
    "required": "the contract says that {column} is required, and rows of the tables are NULL there",
    "key": "the contract's key is {after}, and the tables are keyed by {before}",
    "order_by": "the contract orders by {after}, and the tables are ordered by {before}",
    "replaced": "the table {table} has the column {column} as {before}, not as {after}: somebody replaced it",
    "must_fill": "the column {column} of {table} is NOT NULL, and the contract does not require it",
    "unfilled": "the column {column} of {table} is NOT NULL, and nothing that the contract knows fills it",
    "uncarried": "the column {column} of {table} is somebody else's, and its type {before} cannot be carried along",
}

_HINTS: dict[Kind, str] = {
    "added": "the next pass adds it",
    "added_required": "take required out of {column} in [contract]: rows that are there have NULL in it",
    "taken": "give it another name in [contract], and vendors an alias for it",
    "removed": 'put it back: [[contract.columns]] with name = "{column}" and type = "{before}"; a vendor that does not '
    "send it any more lists it as absent",
    "type": 'put type = "{before}" back for {column} in [contract]',
    "required": "take required out of {column} in [contract]; a target that has it as NOT NULL must let it be NULL",
    "key": "put key = {before} back in [contract]",
    "order_by": 'put order_by = "{before}" back in [contract]',
    "replaced": "restore the table to a version from before that",
    "must_fill": "set required = true for {column} in [contract], or let it be NULL, on Spark with ALTER TABLE {table} "
    "ALTER COLUMN {column} DROP NOT NULL",
    "unfilled": "let it be NULL, on Spark with ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL",
    "uncarried": "restore the table to a version from before it was added",
}

_OF_A_TABLE: frozenset[Kind] = frozenset({"replaced", "must_fill", "unfilled", "uncarried"})


def terms_of(contract: Contract) -> Terms:
    """What of a contract decides the schema of tables."""
    columns = {column.name: (column.type, column.required) for column in contract.columns}
    return Terms(columns, contract.key, contract.order_by)


def accepted_terms(text: str | None, tables: Sequence[DeclaredTable], contract: Contract) -> Terms:
    """The contract that tables hold.

    Args:
        text: The property of the history, or None: a release before it made the tables.
        tables: Without the property they tell: the stage has the contract's columns and our own, and no others; in the
            history the columns of key and order are never NULL.
        contract: As it is now; says what the tables do not tell.

    Raises:
        TableError: A newer release wrote the property.
    """
    if text is not None and (held := _held(text)) is not None:
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


def differences(tables: Sequence[DeclaredTable], accepted: Terms, contract: Contract) -> list[Difference]:
    """All that tables have otherwise than a contract wants.

    Args:
        tables: Those that are there.
        accepted: The contract that they hold, see `accepted_terms`.
        contract: What is wanted.

    Returns:
        First what the config says otherwise, then what the tables have otherwise, in the order of `tables`. Differences
        of the kind `required` stand only where a column has NULLs: whoever knows the rows must look.
    """
    wanted = terms_of(contract)
    found = list(_of_terms(accepted, wanted))
    changed = {one.column for one in found}
    for table in tables:
        found += [one for one in _of_table(table, accepted, wanted) if one.column not in changed]
    return found


def declared_columns(schema: str) -> tuple[DeclaredColumn, ...]:
    """The columns of a schema as its JSON text, as Delta and Spark write it."""
    return tuple(
        DeclaredColumn(str(one["name"]), _type_text(one["type"]), bool(one.get("nullable", True)))
        for one in json.loads(schema)["fields"]
    )


def lacking(columns: Iterable[TableColumn], present: Iterable[str]) -> tuple[TableColumn, ...]:
    """Those of our columns that a table does not have.

    Args:
        columns: What the table should have.
        present: Names of the columns that it has.
    """
    there = frozenset(present)
    return tuple(column for column in columns if column.name not in there)


def may_be_added(column: TableColumn, present: Sequence[str]) -> bool:
    """Whether a column that a table lacks can be added to it: the rows that are there have NULL in it.

    Args:
        column: The table lacks it.
        present: Names of the columns that the table has; Delta tells them apart without regard to case.
    """
    known = {name.lower() for name in present}
    return not column.required and column.name not in ALWAYS and column.name.lower() not in known


def _held(text: str) -> Terms | None:
    """The contract in a property; None when somebody wrote something else there."""
    try:
        body = json.loads(text)
        if body["version"] > _VERSION:
            raise TableError(
                f"the property {CONTRACT} of the history is of a newer release of ordertrail",
                hint="run that release, or a newer one",
            )
        columns = {name: (str(one["type"]), bool(one["required"])) for name, one in body["columns"].items()}
        return Terms(columns, tuple(body["key"]), body["order_by"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


# -- parts ----------------------------------------------------------------------------------------------------------


def _of_terms(accepted: Terms, wanted: Terms) -> Iterator[Difference]:
    """What the config says otherwise than the contract that the tables hold."""
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
    """What a table has otherwise than its columns should be."""
    present = [column.name for column in table.columns]
    for column in table.wanted:
        is_new = column.name in wanted.columns and column.name not in accepted.columns
        there = table.column(column.name)
        if there is not None and is_new:
            yield Difference("taken", table.name, column.name, there.type, column.type)
        elif there is not None and there.type != column.type:
            yield Difference("replaced", table.name, column.name, there.type, column.type)
        elif there is None and is_new and wanted.columns[column.name][1]:
            yield Difference("added_required", table.name, column.name, None, column.type)
        elif there is None and may_be_added(column, present):
            yield Difference("added", table.name, column.name, None, column.type)
        elif there is None:
            same = next((name for name in present if name.lower() == column.name.lower()), None)
            yield Difference("replaced", table.name, column.name, same or "nothing", column.type)
        elif not (there.nullable or column.required or wanted.columns.get(column.name, ("", False))[1]):
            kind: Kind = "must_fill" if column.name in wanted.columns else "unfilled"
            yield Difference(kind, table.name, column.name, there.type, column.type)
    ours = {column.name for column in table.wanted}
    carries = "_inserted_at" in ours and "_outcome" not in ours
    for there in table.columns:
        # What the contract had before is told by `removed`.
        if there.name in ours or there.name in accepted.columns:
            continue
        if not there.nullable:
            yield Difference("unfilled", table.name, there.name, there.type)
        elif carries and carried_type(there.type) is None:
            yield Difference("uncarried", table.name, there.name, there.type)


def _table_with(tables: Sequence[DeclaredTable], column: str) -> DeclaredTable | None:
    """The table that should have a column of ours which no other has."""
    return next((table for table in tables if any(c.name == column for c in table.wanted)), None)


def _type_text(kind: Any) -> str:  # noqa: ANN401 - JSON
    return contract_type(type_text(kind))
