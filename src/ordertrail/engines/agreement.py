"""Whether the tables and the contract agree: asked by every engine before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ordertrail.errors import ConfigError, TableError
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


def agree(tables: Sequence[DeclaredTable], text: str | None, contract: Contract, has_nulls: HasNulls) -> Agreement:
    """Compare tables with a contract. Reads only.

    Args:
        tables: Those that are there.
        text: The property of the history with the contract that the tables hold; None without.
        contract: What is wanted.
        has_nulls: Looks into target and history.

    Raises:
        ConfigError: The contract was changed in a way that the tables cannot follow.
        TableError: Somebody changed a table.
    """
    found = unsettled(tables, text, contract, has_nulls)
    refused = [one for one in found if not one.by_itself]
    if refused:
        kind = ConfigError if refused[0].ours else TableError
        raise kind("; ".join(one.text for one in refused), hint="; ".join(dict.fromkeys(one.hint for one in refused)))
    wanted = terms_of(contract).text
    return Agreement(tuple(found), None if text == wanted else wanted)


def unsettled(
    tables: Sequence[DeclaredTable], text: str | None, contract: Contract, has_nulls: HasNulls
) -> list[Difference]:
    """All differences between tables and a contract; arguments as of `agree`."""
    found = differences(tables, accepted_terms(text, tables, contract), contract)
    return [one for one in found if one.kind != "required" or has_nulls(one.column)]
