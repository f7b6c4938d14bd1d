"""What speaks against the rows of a file although they meet the contract: texts for people, a few a file.

They are in the report of the pass, in `plan`, in `orders_deliveries` and in `status`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from ordertrail.model import DeliveryReport, Manifest, State


def swallowed_text(line: int, lines: int) -> str:
    """That cells hold lines which look like rows.

    Args:
        line: Of the file, in which the first such row begins.
        lines: How many lines look like rows.
    """
    many = "a line that looks like a row" if lines == 1 else f"{lines:,} lines that look like rows"
    return (
        f"line {line}: a quoted cell goes on over {many}; if its quote is a stray one, write newlines_in_cells = false "
        "for the vendor: then it is a reject, and the lines below it are read"
    )


def doubted(deliveries: Iterable[DeliveryReport | Manifest]) -> tuple[str, ...]:
    """The doubts about deliveries that are loaded, one line each."""
    loaded = (one for one in deliveries if one.state is State.LOADED)
    return tuple(doubt_line(one.vendor, one.file_name, text) for one in loaded for text in one.doubts)


def doubt_line(vendor: str, file_name: str, text: str) -> str:
    """One doubt about one file, as a line."""
    return f"{vendor}: {file_name}: {text}"


def doubts_json(doubts: Iterable[str]) -> str | None:
    """Doubts as `orders_deliveries` keeps them; None for none."""
    found = list(doubts)
    return json.dumps(found, ensure_ascii=False) if found else None


def doubts_from(text: str | None) -> tuple[str, ...]:
    """Doubts as `orders_deliveries` keeps them."""
    return tuple(map(str, json.loads(text))) if text else ()
