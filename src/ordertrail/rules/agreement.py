"""Whether the tables and the contract agree; every engine asks before it writes anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.errors import ConfigError, OrdertrailError, TableError, UsageError
from ordertrail.model import Contract
from ordertrail.rules.schema import MIGRATE, DeclaredTable, Difference, Terms, accepted_terms, differences, terms_of

HasNulls = Callable[[str], bool]
"""Whether a column of target or history has NULLs. Reads rows; called only for a column that has become required."""


_TOLD = 3
"""At most so many differences are told; what settles one of many settles the others, or names them next."""

_PUT_BACK = "or put [contract] back as it was"


class Agreement(Struct, frozen=True):
    """What must be written so that the tables carry the contract.

    Attributes:
        added: Columns to add, in the order of the tables.
        text: The contract as text for the history's property; None when the property already has it.
    """

    added: tuple[Difference, ...]
    text: str | None


def agree(
    tables: Sequence[DeclaredTable], text: str | None, contract: Contract, has_nulls: HasNulls, *, merged: bool = False
) -> Agreement:
    """Compare the tables with the contract; reads only.

    Args:
        tables: Those that exist.
        text: The history's property with the contract that the tables carry; None when there is no such property.
        contract: The contract that the config asks for.
        has_nulls: Looks into target and history.
        merged: Whether Delta's own MERGE writes the target: it keeps columns of others, whatever their type.

    Raises:
        ConfigError: The contract was changed in a way that the tables cannot follow.
        TableError: Somebody changed a table.
    """
    accepted = accepted_terms(text, tables, contract)
    found = differences(tables, accepted, contract)
    found = [one for one in found if one.kind != "required" or has_nulls(one.column)]
    if merged:
        found = [one for one in found if one.kind != "uncarried"]
    refused = [one for one in found if not one.by_itself]
    if refused:
        raise _refusal(refused, ConfigError if refused[0].ours else TableError)
    terms = terms_of(contract)
    if accepted.status_rank is not None:
        # The rows of the target were chosen by these ranks; only a migration folds them by others.
        terms = replace(terms, status=accepted.status, status_rank=accepted.status_rank)
    wanted = terms.text
    return Agreement(tuple(found), None if text == wanted else wanted)


def refuse_taken(tables: Sequence[DeclaredTable], accepted: Terms, contract: Contract) -> None:
    """Refuse a contract that gives a new column a name that a table has already, for another column.

    Args:
        tables: With the columns that they should have under the contract.
        accepted: The contract that they carry.
        contract: The new one.

    Raises:
        ConfigError: A name is taken.
    """
    found = differences(tables, accepted, contract)
    if in_use := [one for one in found if one.kind in ("taken", "kept", "case")]:
        raise _refusal(in_use, ConfigError)


def refuse_never_null(table: DeclaredTable, contract: Contract) -> None:
    """Refuse to take over a target with a NOT NULL column that ordertrail does not always fill.

    Raises:
        UsageError: The target has such a column.
    """
    found = differences([table], terms_of(contract), contract)
    if refused := [one for one in found if one.kind in ("must_fill", "unfilled")]:
        raise _refusal(refused, UsageError)


def _refusal(refused: Sequence[Difference], kind: type[OrdertrailError]) -> OrdertrailError:
    """The error that says what is in the way, and what to do: `migrate` comes after what it cannot settle."""
    once = {(one.kind, one.column): one for one in reversed(refused)}
    told = [one for one in reversed(once.values()) if not one.migrates]
    hints = [one.hint for one in told]
    if not told:
        told = list(reversed(once.values()))
        hints = [MIGRATE, told[0].hint if len(told) == 1 else _PUT_BACK]
    more = len(told) - _TOLD
    text = "; ".join(one.text for one in told[:_TOLD]) + (f"; and {more} more" if more > 0 else "")
    return kind(text, hint="; ".join(list(dict.fromkeys(hints))[:_TOLD]))
