"""How much of a file's text is kept beside the rows themselves: in rejects, manifests and messages.

A text that is longer is cut, with a mark that says how long it was. The archived file has the whole (P5).
"""

from __future__ import annotations

MAX_RAW_CHARS = 10_000
"""Of a rejected record."""

MAX_VALUE_CHARS = 1_000
"""Of a rejected cell."""

MAX_REASON_CHARS = 2_000
"""Of a reason, and of the first error of a delivery."""

MAX_REJECTS = 1_000_000
"""Of a quarantined delivery; of one with more the first `FEW_REJECTS` are kept. Of a loaded one all are."""

FEW_REJECTS = 5_000
"""So few that DuckDB keeps the first ones while it reads on; of more it would sort all."""

MAX_SHOWN_CHARS = 60
"""Of a name inside a message."""


def cut(text: str, limit: int) -> str:
    """The text, or when it has more than `limit` characters so many of them and the mark."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters in all)"


def cut_sql(text: str, limit: int) -> str:
    """DuckDB SQL of `cut`.

    Args:
        text: SQL of the text; worked out more than once.
        limit: As in `cut`.
    """
    # No text has more characters than bytes, and those are known.
    mark = f"left({text}, {limit}) || '… (' || CAST(length({text}) AS VARCHAR) || ' characters in all)'"
    return f"CASE WHEN strlen({text}) > {limit} AND length({text}) > {limit} THEN {mark} ELSE {text} END"
