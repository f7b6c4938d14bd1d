"""Decides whether SQL only reads, from DuckDB's own parse of it, before any of it is bound or run.

The type of a statement does not tell: `WITH x AS (DELETE … RETURNING *) SELECT …` is a SELECT. Neither does its plan: a
function such as `arrow_scan`, which takes an address in memory, does its harm during planning. So everything that a
query may contain is listed, and anything else is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import duckdb

from ordertrail.errors import QueryError

READING = "SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN"
"""The statements that `query` accepts."""

_Tree: TypeAlias = "bool | int | float | str | list[_Tree] | dict[str, _Tree] | None"

_EXPLAIN = re.compile(r"\s*EXPLAIN\b\s*(?:ANALYZE\b|\([^)]*\))?", re.IGNORECASE)
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS = re.compile(
    "range|generate_series|unnest|repeat|repeat_row|json_each|json_tree|histogram|histogram_values|test_all_types"
    "|icu_calendar_names|pg_timezone_names|pragma_version|pragma_table_info"
    "|duckdb_(columns|databases|functions|keywords|schemas|settings|tables|temporary_files|memory|types|views)"
)
"""Functions that generate rows from nothing or from their arguments, or describe the connection."""


def require_reading(con: duckdb.DuckDBPyConnection, sql: str, example: str) -> None:
    """Refuse anything but one statement that reads.

    Args:
        con: Parses it.
        sql: The user's.
        example: A table's name, for the hint.

    Raises:
        QueryError: It is none, or more than one, or does more than read.
        duckdb.Error: It does not parse.
    """
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        problem = "there is no SQL" if not statements else "there is more than one statement"
        raise QueryError(problem, hint=f"give one statement, such as SELECT * FROM {example}")
    statement, text = statements[0], statements[0].query
    if statement.type == duckdb.StatementType.EXPLAIN and (start := _EXPLAIN.match(text)):
        # EXPLAIN ANALYZE runs what it explains.
        text = text[start.end() :]
        inner = con.extract_statements(text)
        statement = inner[0] if len(inner) == 1 else statement
    if statement.type != duckdb.StatementType.SELECT:
        raise _refusal(statement.type.name)
    tree: _Tree = _parsed(con, text)
    if not isinstance(tree, dict) or tree.get("error"):
        raise _refusal(statement.type.name)
    for node in _nodes(tree):
        _require_reading_node(node)


def require_condition(con: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Refuse anything but one expression that only reads, such as may stand after WHERE.

    Args:
        con: Parses it.
        condition: The user's.

    Raises:
        QueryError: It is none, or more than one, or does more than read.
        duckdb.Error: It does not parse.
    """
    require_reading(con, where_sql("t", condition), "t")
    # Nothing but the condition may differ: `true) ORDER BY (x`, say, adds to the statement around it.
    if _around(con, where_sql("t", condition)) != _around(con, where_sql("t", "true")):
        raise QueryError("this is more than one expression", hint="give what may stand after WHERE, and nothing else")


def where_sql(relation: str, condition: str) -> str:
    """SQL of the rows of a relation for which a condition is true; a comment at its end does not go on after it."""
    return f"SELECT * FROM {relation} WHERE (\n{condition}\n)"


def _around(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The parse of a statement without its condition."""
    tree = _parsed(con, sql)
    for statement in tree.get("statements", ()):
        statement["node"]["where_clause"] = None
    return json.dumps(tree)


def _parsed(con: duckdb.DuckDBPyConnection, sql: str) -> Any:  # noqa: ANN401 - JSON
    # To the end, for a connection with a result that waits runs nothing else.
    ((text,),) = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    return json.loads(text)


def _require_reading_node(node: dict[str, _Tree]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return  # the type of a column, or no node of the parse
    if kind.endswith("_NODE") and kind not in _READING_NODES:
        raise _refusal(kind.removesuffix("_NODE").removesuffix("_QUERY"))
    if kind == "TABLE_FUNCTION":
        function = node.get("function")
        name = str(function.get("function_name")) if isinstance(function, dict) else "?"
        if not _TABLE_FUNCTIONS.fullmatch(name.lower()):
            raise QueryError(f"{name}() cannot be read from here", hint="a query reads the tables only")


def _nodes(tree: _Tree) -> Iterator[dict[str, _Tree]]:
    """Every object of a parse, at any depth; without recursion, because SQL may be nested arbitrarily deep."""
    left = [tree]
    while left:
        match left.pop():
            case dict() as found:
                yield found
                left += found.values()
            case list() as items:
                left += items
            case _:
                pass


def _refusal(kind: str) -> QueryError:
    return QueryError(
        f"{kind}: the tables are read only, and this statement does more than read", hint=f"use {READING}"
    )
