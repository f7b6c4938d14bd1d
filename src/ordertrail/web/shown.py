"""How values look on a page, and the templates that show them.

Whatever is text goes through `plain` before it is escaped, without a template having to ask for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ordertrail.look.rows import Cell
from ordertrail.rules.unseen import shown

MOST_CHARACTERS = 300
"""Of a longer text a page shows the beginning, and how long it is."""

_HERE = Path(__file__).parent
_STATIC = {
    "css": ("ordertrail.css", "text/css"),
    "js": ("ordertrail.js", "text/javascript"),
    "icon": ("icon.svg", "image/svg+xml"),
}
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SPANS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def plain(text: str) -> str:
    """Text on one line, its invisible characters and marks of direction as escapes."""
    return shown(text)


def short(value: object, most: int = MOST_CHARACTERS) -> str:
    """A text, or its beginning and its length."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def sentence(text: str) -> str:
    """A text such as an error's hint, with a capital letter and a full stop."""
    told = text.strip()
    return told[:1].upper() + told[1:] + ("" if told[-1:] in ("", ".", "!", "?", ":") else ".")


def lines(text: str) -> Markup:
    """Text of several lines as it is, all other invisible characters as escapes: for `pre` and `textarea`."""
    return escape("\n".join(shown(line) for line in text.splitlines()))


def count(value: int | float | None) -> str:
    """A number with groups of three digits; `–` for none."""
    return "–" if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """A share of 0 to 1 in percent: never 0 or 100 unless it is."""
    if value is None:
        return "–"
    percent = 100 * value
    if value and percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.0f} %" if value in (0, 1) or 10 <= percent <= 99 else f"{min(percent, 99.9):.1f} %"


def size(value: int | float | None) -> str:
    """Bytes in the unit that fits, decimal."""
    if value is None:
        return "–"
    left, place = float(value), 0
    while left >= 999.5 and place < len(_UNITS) - 1:
        left, place = left / 1000, place + 1
    return f"{left:.0f} {_UNITS[place]}" if left >= 9.95 or not place else f"{left:.1f} {_UNITS[place]}"


def lasting(seconds: float | None) -> str:
    """A span of time in the unit that fits."""
    if seconds is None:
        return "–"
    for unit_s, name in _SPANS:
        if abs(seconds) >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{seconds:.0f} s" if abs(seconds) >= 10 else f"{seconds:.1f} s"


def cell(value: Cell) -> str:
    """A value of a table as text; times are UTC."""
    match value:
        case None:
            return ""
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case bool():
            return "true" if value else "false"
        case list() | dict():
            return short(json.dumps(value, ensure_ascii=False, default=str))
        case _:
            return short(value)


def is_number(value: object) -> bool:
    """Whether a value stands right."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def when(zone: ZoneInfo) -> Callable[[datetime | None], str]:
    """Shows times in a zone."""

    def tell(at: datetime | None, form: str = "%Y-%m-%d %H:%M") -> str:
        if at is None:
            return Markup('<span class="none">–</span>')
        utc = at.astimezone(UTC)
        try:
            told = f"{at.astimezone(zone):{form}}"
        except OverflowError:  # at the ends of the calendar
            told = f"{utc:{form}}"
        return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
            f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S}", told
        )

    return tell


def ago(now: datetime) -> Callable[[datetime | None], str]:
    """Shows how long ago something was."""

    def tell(at: datetime | None) -> str:
        if at is None:
            return Markup('<span class="none">–</span>')
        utc, gone_s = at.astimezone(UTC), (now - at).total_seconds()
        told = f"{lasting(gone_s)} ago" if gone_s >= 1 else "now" if gone_s > -1 else f"in {lasting(-gone_s)}"
        return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
            f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S}", told
        )

    return tell


@lru_cache(1)
def static() -> Mapping[str, tuple[str, str, bytes]]:
    """Path with a hash of the content, media type and content of each static file, by word."""
    found = {}
    for word, (name, kind) in _STATIC.items():
        content = (_HERE / "static" / name).read_bytes()
        stem, _, ending = name.rpartition(".")
        found[word] = f"/static/{stem}.{sha256(content).hexdigest()[:12]}.{ending}", kind, content
    return found


def _text(value: object) -> object:
    """What a template shows for a value: Jinja escapes it afterwards."""
    if value is None:
        return ""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@lru_cache(1)
def templates() -> Environment:
    """The templates, with the filters that `ordertrail.web` lists."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "count": count,
        "share": share,
        "size": size,
        "lasting": lasting,
        "lines": lines,
        "sentence": sentence,
        "cell": cell,
        "short": short,
        "shown": shown,
    }
    made.tests |= {
        "numeric": is_number,
        "moment": lambda value: isinstance(value, datetime),
        "day": lambda value: isinstance(value, date),
    }
    made.globals |= {"static": {word: path for word, (path, _, _) in static().items()}}
    return made


__all__ = [
    "ago",
    "cell",
    "count",
    "escape",
    "is_number",
    "lasting",
    "lines",
    "plain",
    "sentence",
    "share",
    "short",
    "size",
    "static",
    "templates",
    "when",
]
