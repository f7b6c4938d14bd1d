"""`FROM orders_target AT (BATCH => 12)`: a table as it was after a batch, in one statement with others.

DuckDB's grammar knows `AT (VERSION => …)` only, and cannot be extended. So the clause is found among the tokens of the
statement, outside text and comments, and replaced by the name of a view that shows the table as of that batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import duckdb

_CLAUSE = ("at", "(", "batch", "=>")


def view_at(table: str, batch: int) -> str:
    """The name of the view that shows a table as of a batch."""
    return f"{table}_at_batch_{batch}"


def with_views(sql: str, tables: Collection[str]) -> tuple[str, tuple[int, ...]]:
    """Replace the clauses of a statement.

    Args:
        sql: The user's.
        tables: The names of the tables, in lower case.

    Returns:
        The statement with the names of views, and the batches that they show, ascending. A clause that is not written
        as above stays: DuckDB says what is wrong with it.
    """
    if "batch" not in sql.lower():
        return sql, ()
    try:
        data = sql.encode()
        found = duckdb.tokenize(sql)
    except (UnicodeEncodeError, duckdb.Error):
        return sql, ()  # the query itself says so
    starts = [place for place, kind in found if kind != duckdb.token_type.comment]
    ends = [*starts[1:], len(data)]
    words = [data[start:end].decode(errors="replace").strip() for start, end in zip(starts, ends, strict=True)]
    batches: set[int] = set()
    out = data
    for i in reversed(range(len(words) - len(_CLAUSE) - 2)):
        table = words[i].strip('"').lower()
        clause = tuple(word.lower() for word in words[i + 1 : i + 1 + len(_CLAUSE)])
        number, last = words[i + 1 + len(_CLAUSE)], i + 2 + len(_CLAUSE)
        if table not in tables or clause != _CLAUSE or not _is_batch(number) or not words[last].startswith(")"):
            continue
        batches.add(int(number))
        view = view_at(table, int(number))
        # Without an alias of the user's, columns are still those of the table: orders_target.status.
        alias = "" if _is_alias(found, words, starts, last + 1) else f' AS "{table}"'
        end = starts[last] + 1
        out = out[: starts[i]] + f'"{view}"{alias}'.encode() + out[end:]
    return out.decode(), tuple(sorted(batches))


def _is_batch(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= 18  # a BIGINT


def _is_alias(found: Sequence[tuple[int, object]], words: list[str], starts: list[int], place: int) -> bool:
    """Whether the word after a clause gives the table a name."""
    if place >= len(words):
        return False
    kinds = dict(found)
    return words[place].lower() == "as" or kinds[starts[place]] == duckdb.token_type.identifier
