"""The terms by which shipments are found, in any case: their numbers, the ends of their numbers, their order numbers.

A term is a text of one row of a table. Terms of one kind are compared byte by byte, so that an exact search and one by
a beginning both read one range of sorted terms; a number turned round makes a search by its last digits one as well.
"""

from __future__ import annotations

import hashlib
import json

import duckdb
from msgspec import Struct

from ordertrail.delta.snapshot import Snapshot
from ordertrail.look.track import order_numbers
from ordertrail.model import Contract
from ordertrail.rules.sql import name_sql, quoted

NUMBER, ENDING, SAID, ORDER = "number", "ending", "said", "order"

_LAST = "\U0010ffff"  # the greatest character: no text that begins with a term comes after the term and it


class Kind(Struct, frozen=True):
    """A kind of terms.

    Attributes:
        name: `number`: the key of a row of the target; `ending`: that turned round; `order_0`, `order_1` ...: its order
            numbers; `said`: the key of a row of the history. In a file name.
        role: The table that the rows are of.
        columns: The columns of it that the term is made from.
        sql: SQL of the term of a row.
        column: The order number's column; "" of the others.
    """

    name: str
    role: str
    columns: tuple[str, ...]
    sql: str
    column: str = ""


def kinds_of(contract: Contract) -> tuple[Kind, ...]:
    """All kinds of terms of a contract, those by which most people search first."""
    number = lower_sql(joined_sql(contract))
    orders = (
        Kind(f"{ORDER}_{place}", "target", (name,), lower_sql(f"CAST({name_sql(name)} AS VARCHAR)"), name)
        for place, name in enumerate(order_numbers(contract))
    )
    return (
        Kind(NUMBER, "target", contract.key, number),
        Kind(SAID, "history", contract.key, number),
        Kind(ENDING, "target", contract.key, turned_sql(number)),
        *orders,
    )


def joined_sql(contract: Contract) -> str:
    """SQL of the key of a row as people write it: its columns, joined by `/`."""
    if len(contract.key) == 1:
        return f"CAST({name_sql(contract.key[0])} AS VARCHAR)"
    return f"concat_ws('/', {', '.join(f'CAST({name_sql(name)} AS VARCHAR)' for name in contract.key)})"


def lower_sql(sql: str) -> str:
    """SQL of a text as terms have it."""
    return f"lower({sql})"


def turned_sql(sql: str) -> str:
    """SQL of a text as the terms of the kind `ending` have it."""
    return f"reverse({sql})"


class Sought(Struct, frozen=True):
    """Which terms are looked for.

    Attributes:
        sql: SQL that is true of them, over `term`.
        spans: Where they are among sorted terms: the first text, and the first one behind them; each span apart from
            the others. Empty: they may be anywhere.
    """

    sql: str
    spans: tuple[tuple[str, str], ...] = ()


def these(*terms: str) -> Sought:
    """Some terms.

    Args:
        terms: In the form of their kind, at least one.
    """
    texts = sorted(set(terms))
    return Sought(f"term IN ({', '.join(map(quoted, texts))})", tuple((text, f"{text}\0") for text in texts))


def beginning(term: str) -> Sought:
    """The terms that begin with a text.

    Args:
        term: In the form of its kind.
    """
    return Sought(f"term >= {quoted(term)} AND term < {quoted(term + _LAST)}", ((term, term + _LAST),))


def holding(term: str) -> Sought:
    """The terms that have a text in them, wherever.

    Args:
        term: In the form of its kind.
    """
    return Sought(f"contains(term, {quoted(term)})")


def ends_sql(contract: Contract, text: str) -> str:
    """SQL that is true of at least the rows whose key ends with a text, over the key's columns.

    It takes a tenth of the time that it takes to turn a key round, which it leaves to keys that are not plain ASCII:
    there a letter may have several parts. Of plain ones only a text with letters asks for their lower case, which is
    most of what this costs.

    Args:
        contract: Of the pipeline.
        text: Plain ASCII, in lower case.
    """
    key = joined_sql(contract)
    ending = lower_sql(key) if any(map(str.isalpha, text)) else key
    return f"(ends_with({ending}, {quoted(text)}) OR strlen({key}) <> length({key}))"


def fingerprint(kind: Kind, snapshot: Snapshot, contract: Contract) -> str:
    """Everything that sorted terms depend on besides the data files, hashed.

    Args:
        kind: Of the terms.
        snapshot: Of its table, any version.
        contract: Of the pipeline.
    """
    types = {column.name: column.type for column in contract.columns}
    depends = [
        snapshot.metadata.table_id,
        kind.sql,
        [types[name] for name in kind.columns],
        duckdb.__version__,  # whose `lower` and `reverse` made them
    ]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:32]
