"""What it takes to bring the tables from the contract that they carry to another one, as a list of steps.

The law of a migration: afterwards the tables are those of a pipeline that loaded all archived files under the new
contract, in the contract's columns and in `_rescued`, for all rows that both contracts accept. A row that only the old
contract accepts is kept: a cell that does not fit is NULL then, and its text is in `_rescued`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

from ordertrail.errors import TableError
from ordertrail.model import Column, Contract
from ordertrail.rules.named_migration import BY_NAME
from ordertrail.rules.schema import Terms, terms_of

StepKind = Literal["add", "fill", "type", "rename", "drop", "require", "order", "key", "feed"]

UNFIT_SHOWN = 10
"""So many values that do not fit are shown one by one."""

_VERSION = 1
_TEXTS: Mapping[StepKind, str] = {
    "add": "the column {column} ({after}) is added",
    "fill": "{column} is filled from _rescued",
    "type": "{column} becomes {after}, from {before}",
    "rename": "{before} is renamed to {column}",
    "drop": "{column} ({before}) leaves the target; the history keeps what it has",
    "require": "{column} is required from now on",
    "order": "the target is folded again: rows are ordered by {after}, no longer by {before}",
    "key": "the target is folded again: its key is {after}, no longer {before}",
    "feed": "the change data feed of the target is switched {after}; no row is written for it",
}


PROFILE = "profile"
"""Where a column is filled from that `combine`, `constants` or `from_name` of a vendor tell."""


class Step(Struct, frozen=True):
    """One step of a migration.

    Attributes:
        kind: What is done.
        column: The column, by its new name; "" where it concerns none.
        before: The type, name, key or order that the tables have; None where there is none. Of `fill`, `PROFILE` where
            a vendor's profile tells the column, too.
        after: The one that the contract wants.
        rows: How many values it concerns; None when no value is read.
        unfit: How many of them do not fit, and become NULL.
    """

    kind: StepKind
    column: str
    before: str | None = None
    after: str | None = None
    rows: int | None = None
    unfit: int = 0

    @property
    def table(self) -> str:
        """The role of the table whose rows it concerns: the history with the target, or the target alone."""
        return "target" if self.kind in ("drop", "order", "key", "feed") else "history"

    @property
    def by_itself(self) -> bool:
        """Whether `ordertrail run` does it by itself."""
        return self.kind == "add"

    @property
    def text(self) -> str:
        """The step in one clause."""
        if self.kind == "fill" and self.before == PROFILE:
            return f"{self.column} is filled from what the vendors' profiles say"
        return _TEXTS[self.kind].format(column=self.column, before=self.before, after=self.after)


class Unfit(Struct, frozen=True):
    """A value that does not fit what the new contract says of its column.

    Attributes:
        column: The column, by its new name.
        vendor: Who sent the row.
        file_name: The file's name.
        file_row: Record number in the file, 1 = first after the header.
        value: Its text.
        reason: What is wrong with it.
    """

    column: str
    vendor: str | None
    file_name: str | None
    file_row: int | None
    value: str
    reason: str


class Tally(Struct, frozen=True):
    """What the values of one column came to.

    Attributes:
        retyped: Values of the old column that were read again.
        filled: Cells in `_rescued` that were read.
        unfit_retyped: Of the former, those that do not fit.
        unfit_filled: Of the latter.
        empty: Rows that have no value afterwards.
    """

    retyped: int = 0
    filled: int = 0
    unfit_retyped: int = 0
    unfit_filled: int = 0
    empty: int = 0


class Migration(Struct, frozen=True):
    """A migration as its batch stages it: the new data files are written already, only commits are missing.

    Attributes:
        before: The contract that the tables carry, as `Terms.text`.
        after: The new one.
        steps: What is done, for people.
        versions: The versions of history, target and deliveries that the new files replace.
        history: The new data files of the history, each as JSON `[path, bytes, modified ms, statistics]`.
        target: Those of the target.
        deliveries: Those of the deliveries.
        moves: Whether the target's new files hold the values that it had, if only in other types or under other names.
        feed: Files with the target's changes, for its change data feed.
    """

    before: str
    after: str
    steps: tuple[str, ...]
    versions: tuple[int, int, int]
    history: tuple[str, ...]
    target: tuple[str, ...]
    deliveries: tuple[str, ...]
    moves: bool = False
    feed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The migration as JSON, as `Manifest.migration` keeps it."""
        return json.dumps({**asdict(self), "version": _VERSION}, sort_keys=True)


class Effect(Struct, frozen=True):
    """What a migration may have changed in the target, as `orders_deliveries.migrated` keeps it.

    Attributes:
        columns: By their new names, the columns whose values may differ where they are not NULL.
        all: Whether any row may differ: it was folded in another order, or nothing is known of the migration.
        key: Whether rows have another key.
    """

    columns: tuple[str, ...] = ()
    all: bool = False
    key: bool = False

    @property
    def text(self) -> str:
        """The effect as JSON."""
        return json.dumps({"version": _VERSION, "columns": list(self.columns), "all": self.all, "key": self.key})


def effect_of(steps: Iterable[Step]) -> Effect:
    """What steps may change in the target.

    Args:
        steps: All steps of the migration.
    """
    done = tuple(steps)
    columns = [one.column for one in done if one.kind == "fill" or (one.kind == "type" and not _keeps_values(one))]
    kinds = {one.kind for one in done}
    return Effect(tuple(dict.fromkeys(columns)), bool(kinds & {"order", "key"}), "key" in kinds)


def _keeps_values(step: Step) -> bool:
    """Whether a change of a type gives every value only another form, which a reader can give it as well."""
    before, after = str(step.before), str(step.after)
    numbers = before in ("int", "bigint") and (after == "bigint" or after.startswith("decimal("))
    return step.unfit == 0 and (numbers or after == "string" or (before, after) == ("date", "timestamp"))


def effect_from(text: str | None) -> Effect:
    """Read `Effect.text`, of any release; None is of a release that did not write it.

    Raises:
        TableError: A newer release wrote it.
    """
    if text is None:
        return Effect(all=True)
    body = json.loads(text)
    if body["version"] > _VERSION:
        raise TableError(
            "a newer release of ordertrail brought the tables to another contract",
            hint="run that release, or a newer one",
        )
    return Effect(tuple(map(str, body["columns"])), bool(body["all"]), bool(body["key"]))


def migration_from(text: str) -> Migration:
    """Read `Migration.text`, of any release.

    Raises:
        TableError: It is damaged, a newer release wrote it, or it is one of tables by name.
    """
    try:
        body = json.loads(text)
        if BY_NAME in body:
            raise TableError(
                "a migration is not finished that was begun where only Spark reaches the tables",
                hint="run ordertrail run there: it finishes the migration",
            )
        if body["version"] > _VERSION:
            raise TableError(
                "a newer release of ordertrail began a migration of the tables",
                hint="finish it with that release: install it again, then run ordertrail run",
            )
        steps, history, target, deliveries = (
            tuple(map(str, body[name])) for name in ("steps", "history", "target", "deliveries")
        )
        first, second, third = (int(version) for version in body["versions"])
        versions = (first, second, third)
        said = (str(body["before"]), str(body["after"]), steps, versions, history, target, deliveries)
        return Migration(*said, bool(body.get("moves", False)), tuple(map(str, body.get("feed", ()))))
    except (ValueError, LookupError, TypeError) as error:
        raise TableError(
            f"the stage holds a migration that cannot be read: {type(error).__name__}: {error}",
            hint="restore orders_stage to its last MIGRATE commit",
        ) from error


def carried_contract(terms: Terms, contract: Contract) -> Contract:
    """The contract that the tables carry, as far as they tell: without formats, patterns and limits.

    Args:
        terms: From the tables.
        contract: Supplies what the terms do not tell.
    """
    identifiers = {name for one in contract.columns if one.identifier for name in (*one.was, one.name)}
    columns = tuple(
        Column(
            name,
            kind,
            bool(must),
            identifier=kind == "string" and name in identifiers,
            added=terms.added.get(name, ""),
        )
        for name, (kind, must) in terms.columns.items()
    )
    key = contract.key if terms.key is None or set(terms.key) == set(contract.key) else terms.key
    known = terms.status is not None and terms.status_rank is not None
    status = (terms.status or None) if known else contract.status
    return replace(
        contract,
        columns=columns,
        key=key,
        order_by=terms.order_by or contract.order_by,
        status=status if status in terms.columns else None,
        status_rank=terms.status_rank or () if known else contract.status_rank,
    )


def sources(terms: Terms, contract: Contract) -> dict[str, str | None]:
    """For each column of a contract, the name of the column of the tables that holds its values; None for a new one.

    Args:
        terms: What the tables carry.
        contract: Its columns may say what they were called.
    """
    return {column.name: next(iter(held_as(column, terms, contract)), None) for column in contract.columns}


def held_as(column: Column, terms: Terms, contract: Contract) -> list[str]:
    """The columns of the tables whose place a column takes: that of its name, and those of its earlier names.

    Args:
        column: A column of the contract.
        terms: What the tables carry.
        contract: Its other columns keep the names that they have.
    """
    names = (column.name, *(name for name in column.was if name not in contract.names))
    return [name for name in names if name in terms.columns]


def steps_between(terms: Terms, contract: Contract) -> list[Step]:
    """The steps from the contract that the tables carry to another one, without what only the rows tell.

    Args:
        terms: What the tables carry.
        contract: What they are to carry.
    """
    found: list[Step] = []
    old = sources(terms, contract)
    for column in contract.columns:
        name = old[column.name]
        if name is None:
            found.append(Step("add", column.name, None, column.type))
            if column.required:
                found.append(Step("require", column.name))
            continue
        kind, must = terms.columns[name]
        if name != column.name:
            found.append(Step("rename", column.name, name, column.name))
        if kind != column.type:
            found.append(Step("type", column.name, kind, column.type))
        if must is False and column.required:
            found.append(Step("require", column.name))
    found += [Step("drop", name, terms.columns[name][0]) for name in terms.columns if name not in old.values()]
    return [*found, *_order_steps(terms, contract, {was: now for now, was in old.items() if was is not None})]


def feed_steps(wanted: str, *, on: bool) -> list[Step]:
    """The step that switches the target's change data feed; none where it is as the config says.

    Args:
        wanted: `change_feed` of the config.
        on: Whether the feed is on.
    """
    if on == (wanted != "off"):
        return []
    return [Step("feed", "", "on" if on else "off", "off" if on else "on")]


def _order_steps(terms: Terms, contract: Contract, renamed: Mapping[str, str]) -> Iterable[Step]:
    """The steps that fold the target again.

    Args:
        terms: What the tables carry.
        contract: What they are to carry.
        renamed: The new name of each old column that stays.
    """
    wanted = terms_of(contract)

    def now(name: str | None) -> str | None:
        return name if name is None else renamed.get(name, name)

    if terms.key is not None and {now(name) for name in terms.key} != set(contract.key):
        yield Step("key", "", ", ".join(terms.key), ", ".join(contract.key))
    if terms.order_by is not None and now(terms.order_by) != contract.order_by:
        yield Step("order", "", terms.order_by, contract.order_by)
    if terms.status_rank is None:
        return
    before, after = (now(terms.status), terms.status_rank), (wanted.status, wanted.status_rank)
    if before != after:
        yield Step("order", "", _ranked(*before), _ranked(*after))


def _ranked(status: str | None, rank: Sequence[str] | None) -> str:
    return f"the rank of {status} ({', '.join(rank or ()) or 'none'})" if status else "no status"
