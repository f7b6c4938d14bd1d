"""How much of a file's text is kept beside the rows themselves: in rejects, manifests and messages.

A longer text is cut, with a mark that says how long it was. The archived file keeps all of it (P5).
"""

from __future__ import annotations

MAX_NOTED = 20
"""How many names of one kind a manifest keeps for people."""

MAX_COLUMNS = 1200
"""A contract with more columns takes minutes to compile; the row rules grow with the square of their number."""

MAX_RAW_CHARS = 10_000
"""Longest text of a rejected record, in characters."""

MAX_VALUE_CHARS = 1_000
"""Longest text of a rejected cell, in characters."""

MAX_REASON_CHARS = 2_000
"""Longest reason, and longest first error of a delivery, in characters."""

MAX_REJECTS = 1_000_000
"""Most rejects kept of a quarantined delivery; of one with more, the first `FEW_REJECTS` are kept. A loaded delivery
keeps all."""

FEW_REJECTS = 5_000
"""Few enough for DuckDB to keep the first ones while it reads on; for more it would sort all of them."""

MAX_SHOWN_CHARS = 60
"""Longest name inside a message, in characters."""


def cut(text: str, limit: int) -> str:
    """The text; when it is longer than `limit` characters, that many of them and the mark."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters in all)"


def cut_sql(text: str, limit: int) -> str:
    """`cut` as DuckDB SQL.

    Args:
        text: SQL of the text; evaluated more than once.
        limit: As in `cut`.
    """
    # A text never has more characters than bytes, and DuckDB knows the number of bytes.
    mark = f"left({text}, {limit}) || '… (' || CAST(length({text}) AS VARCHAR) || ' characters in all)'"
    return f"CASE WHEN strlen({text}) > {limit} AND length({text}) > {limit} THEN {mark} ELSE {text} END"
