"""Whether the tables and the contract agree: asked by every engine before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ordertrail.errors import ConfigError, OrdertrailError, TableError, UsageError
from ordertrail.model import Contract
from ordertrail.rules.schema import DeclaredTable, Difference, accepted_terms, differences, terms_of

HasNulls = Callable[[str], bool]
"""Whether a column of target or history has NULLs. Reads rows; asked only when the contract began to require it."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What is to be written so that tables hold a contract.

    Attributes:
        added: Columns to add, in the order of the tables.
        text: The contract, for the history's property; None when it stands there already.
    """

    added: tuple[Difference, ...]
    text: str | None


def agree(
    tables: Sequence[DeclaredTable], text: str | None, contract: Contract, has_nulls: HasNulls, *, merged: bool = False
) -> Agreement:
    """Compare tables with a contract. Reads only.

    Args:
        tables: Those that are there.
        text: The property of the history with the contract that the tables hold; None without.
        contract: What is wanted.
        has_nulls: Looks into target and history.
        merged: Delta's own MERGE writes the target: it leaves columns of others alone, whatever their type.

    Raises:
        ConfigError: The contract was changed in a way that the tables cannot follow.
        TableError: Somebody changed a table.
    """
    found = differences(tables, accepted_terms(text, tables, contract), contract)
    found = [one for one in found if one.kind != "required" or has_nulls(one.column)]
    if merged:
        found = [one for one in found if one.kind != "uncarried"]
    refused = [one for one in found if not one.by_itself]
    if refused:
        raise _refusal(refused, ConfigError if refused[0].ours else TableError)
    wanted = terms_of(contract).text
    return Agreement(tuple(found), None if text == wanted else wanted)


def refuse_never_null(table: DeclaredTable, contract: Contract) -> None:
    """Refuse a target that is to be taken over and has a column which may not be NULL and is not always filled.

    Raises:
        UsageError: It has.
    """
    found = differences([table], terms_of(contract), contract)
    if refused := [one for one in found if one.kind in ("must_fill", "unfilled")]:
        raise _refusal(refused, UsageError)


def _refusal(refused: Sequence[Difference], kind: type[OrdertrailError]) -> OrdertrailError:
    return kind("; ".join(one.text for one in refused), hint="; ".join(dict.fromkeys(one.hint for one in refused)))
