"""A page: what it is asked, and what it answers, apart from how either is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from ordertrail.errors import UsageError
from ordertrail.look.follow import Moment
from ordertrail.look.rows import Json, Rows

Twin: TypeAlias = Literal["html", "json", "csv"]

ROWS_ON_A_PAGE = 50
ROWS_IN_A_FILE = 10_000

_CARRIED = ("tz",)


class Ask(Struct, frozen=True):
    """What a reader asks of a page.

    Attributes:
        path: Of the page, without the ending of a twin.
        query: What stands after `?`; of a name that stands there twice the last value.
        twin: How the answer is wanted.
        now: Aware UTC.
        zone: In which times are shown.
        from_elsewhere: Whether the reader followed a link on a page of another site.
    """

    path: str
    query: Mapping[str, str]
    twin: Twin
    now: datetime
    zone: ZoneInfo
    from_elsewhere: bool = False

    @property
    def rows_most(self) -> int:
        """How many rows a list may have."""
        return ROWS_IN_A_FILE if self.twin == "csv" else ROWS_ON_A_PAGE

    def text(self, name: str, default: str = "") -> str:
        """A text of the query, without spaces around it."""
        return self.query.get(name, "").strip() or default

    def choice(self, name: str, choices: Sequence[str], default: str = "") -> str:
        """One of some words.

        Raises:
            UsageError: It is another one.
        """
        value = self.text(name, default)
        if value != default and value not in choices:
            raise UsageError(f"there is no {name} {value!r}", hint=f"choose one of {', '.join(choices)}")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number, both limits inclusive.

        Raises:
            UsageError: It is none, or outside the limits.
        """
        value = self.text(name)
        if not value:
            return default
        if not value.isascii() or not value.isdigit() or len(value) > 18 or not least <= int(value) <= most:
            raise UsageError(f"{name} is {value[:40]!r}", hint=f"give a whole number from {least:,} to {most:,}")
        return int(value)

    def url(self, **changes: object) -> str:
        """The address of this page with a change.

        Args:
            changes: New values by name; None and "" leave the name out.
        """
        return _address(self.path, {**self.query, **changes})

    def to(self, path: str, **query: object) -> str:
        """The address of another page, which shows times in the same zone.

        Args:
            path: Its path.
            query: Its state; None and "" leave a name out.
        """
        carried = {name: self.query[name] for name in _CARRIED if name in self.query}
        return _address(path, {**query, **carried})

    def twin_url(self, twin: Twin) -> str:
        """The address of this page's twin, in the same state."""
        return _address(f"{self.path if self.path != '/' else '/today'}.{twin}", dict(self.query))


def _address(path: str, query: Mapping[str, object]) -> str:
    told = urlencode({name: str(value) for name, value in query.items() if value not in (None, "")})
    return f"{path}?{told}" if told else path


class Answer(Struct, frozen=True):
    """What a page answers.

    Attributes:
        document: The JSON twin; the template has it as `doc`.
        rows: The CSV twin; None where a page is no list.
        more: What else the template needs.
        status: Of the answer.
        file: What the CSV twin is in place of `rows`; None where it is those.
    """

    document: Mapping[str, Json]
    rows: Rows | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    file: bytes | None = None


class Page(Struct, frozen=True):
    """A page.

    Attributes:
        name: Of its template.
        path: Where it is, such as `/deliveries`.
        title: Its heading.
        make: Answers it.
        under: The name of the page in the navigation that it belongs to; "" means itself.
        begins: Whether it is made before the first pass, too.
        listed: Whether it has a CSV twin.
        slow: Whether it may take seconds: such pages wait for each other, and no other page waits for them.
    """

    name: str
    path: str
    title: str
    make: Callable[[Moment, Ask], Answer]
    under: str = ""
    begins: bool = False
    listed: bool = False
    slow: bool = False
