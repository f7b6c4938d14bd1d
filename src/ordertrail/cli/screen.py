"""Lines and tables for people: on a terminal with colour and rules, in a pipe as plain columns.

Everything from files and tables goes through `shown`: no control or invisible character reaches a terminal, and nothing
is read as markup.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from ordertrail.rules.unseen import shown, shown_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ordertrail.look.rows import Json

__all__ = ["Column", "Row", "Screen", "Style", "json_text", "on_terminal", "shown"]

Style = Literal["", "bold", "dim", "green", "yellow", "red", "cyan"]

_GAP = "  "
_INDENT = "    "
_MAX_PADDED = 100
_MIN_COLUMN_WIDTH = 13  # a narrower folded cell is unreadable


def json_text(document: Json, *, indent: int | None = 2) -> str:
    """A JSON document as text with a final newline; printing it to a terminal is safe too.

    Args:
        document: What to write.
        indent: None keeps it on one line.
    """
    text = json.dumps(document, ensure_ascii=not _prints_unicode(), indent=indent)
    return shown_json(text) + "\n"


class Column(NamedTuple):
    """A column of a table for people; no struct, because `ordertrail --help` does without msgspec.

    Attributes:
        name: Its heading.
        right: Whether cells are right-aligned, as numbers are.
        detail: Whether on a terminal its cells are on a line of their own below the row, without heading, to save
            width.
    """

    name: str
    right: bool = False
    detail: bool = False


Row = Sequence[str]


class Screen:
    """Collects the output of a command; `text` is written in one go.

    Args:
        terminal: Whether to use colour and rules and fold to the width; else plain columns, one line a row.
        width: Width of the terminal in characters; None detects it.
        colour: False leaves colours out on a terminal too; None asks `NO_COLOR` and the terminal.
    """

    def __init__(self, *, terminal: bool, width: int | None = None, colour: bool | None = None) -> None:
        self._out = io.StringIO()
        self._console = _console(self._out, width, colour) if terminal else None

    @property
    def text(self) -> str:
        """The output so far."""
        return self._out.getvalue()

    @property
    def terminal(self) -> bool:
        """Whether it is shown on a terminal."""
        return self._console is not None

    def line(self, text: str = "", style: Style = "") -> None:
        """Add one line, or a paragraph folded to the width of a terminal."""
        if self._console is None:
            self._out.write(shown(text) + "\n")
        else:
            self._console.print(_rich_text(text, style))

    def verbatim(self, text: str) -> None:
        """Add our own text of several lines unchanged."""
        self._out.write(text)

    def command(self, text: str, about: str) -> None:
        """Add a command to copy, and its purpose."""
        if self._console is None:
            self._out.write(f"{_GAP}{shown(text):<44}  {shown(about)}".rstrip() + "\n")
        else:
            line = _rich_text(f"{_GAP}{text:<44}", "bold").append(f"  {about}", "dim")
            self._console.print(line, soft_wrap=True)

    def heading(self, text: str) -> None:
        """Add a heading, separated from what came before."""
        if self.text:
            self.line()
        self.line(text, "bold")

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Add names and values, with the values aligned."""
        found = list(pairs)
        width = max((len(name) for name, _ in found), default=0)
        for name, value in found:
            if self._console is None:
                self._out.write(f"{_GAP}{shown(name):<{width}}{_GAP}{shown(value)}".rstrip() + "\n")
            else:
                line = _rich_text(f"{_GAP}{name:<{width}}{_GAP}", "dim").append_text(_rich_text(value))
                self._console.print(line, soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Sequence[Row], styles: Mapping[str, Style] | None = None) -> None:
        """Add a table; in a pipe one line a row.

        Args:
            columns: The table's columns.
            rows: Each has as many cells as there are columns.
            styles: By a cell's text, for states and outcomes.
        """
        if self._console is None:
            self._out.write(_plain_table(columns, rows))
        else:
            _rich_table(self._console, columns, rows, styles or {})


def on_terminal(stream: TextIO) -> bool:
    """Whether the stream is a terminal."""
    return not stream.closed and stream.isatty()


def _plain_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    lines = [[shown(cell) for cell in line] for line in ([column.name for column in columns], *rows)]
    # Very long cells are not padded: they would push everything after them out of sight.
    widths = [max((n for line in lines if (n := len(line[i])) <= _MAX_PADDED), default=0) for i in range(len(columns))]
    text = ""
    for line in lines:
        cells = zip(columns, line, widths, strict=True)
        padded = (cell.rjust(width) if column.right else cell.ljust(width) for column, cell, width in cells)
        text += _GAP.join(padded).rstrip() + "\n"
    return text


def _rich_table(console: Console, columns: Sequence[Column], rows: Sequence[Row], styles: Mapping[str, Style]) -> None:
    main = [place for place, column in enumerate(columns) if not column.detail]
    widths = [_width([columns[place].name, *(row[place] for row in rows)]) for place in main]
    room = console.width - len(_GAP) * (len(main) - 1)
    if sum(widths) > room:
        if console.width < len(main) * _MIN_COLUMN_WIDTH:
            _records(console, columns, rows, styles)
            return
        widths = _squeezed(widths, room)
    _row(console, columns, main, widths, [(columns[place].name, "bold") for place in main])
    rule = "\u2500" if _prints_unicode() else "-"
    console.print(_rich_text(rule * (sum(widths) + len(_GAP) * (len(main) - 1)), "dim"))
    for row in rows:
        _row(console, columns, main, widths, [(row[place], styles.get(row[place], "")) for place in main])
        if details := _details(columns, row):
            for part in _rich_text(details, "dim").wrap(console, max(console.width - len(_INDENT), 20)):
                part.rstrip()
                console.print(_rich_text(_INDENT).append_text(part))


def _row(
    console: Console,
    columns: Sequence[Column],
    main: Sequence[int],
    widths: Sequence[int],
    cells: Sequence[tuple[str, Style]],
) -> None:
    """One row; a cell wider than its column continues on the lines below."""
    folded = [_folded(console, text, width) for (text, _), width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, folded))):
        line = _rich_text("")
        for place, width, parts, (_, style) in zip(main, widths, folded, cells, strict=True):
            part = parts[number] if number < len(parts) else ""
            space = " " * (width - _width([part]))
            line.append(space if columns[place].right else "").append(part, style)
            line.append(_GAP if columns[place].right else space + _GAP)
        line.rstrip()
        console.print(line)


def _folded(console: Console, text: str, width: int) -> list[str]:
    if _width([text]) <= width:
        return [shown(text)]
    lines = _rich_text(text).wrap(console, width, overflow="fold")
    return [line.plain.rstrip() for line in lines]


def _squeezed(widths: Sequence[int], room: int) -> list[int]:
    """Widths that fit into the available space: the widest columns are narrowed."""
    found = list(widths)
    while sum(found) > room:
        found[found.index(max(found))] -= 1
    return found


def _records(console: Console, columns: Sequence[Column], rows: Sequence[Row], styles: Mapping[str, Style]) -> None:
    """A line for each cell, when the terminal is too narrow for the columns."""
    width = _width(column.name for column in columns)
    for number, row in enumerate(rows, 1):
        console.print(_rich_text(f"row {number}", "bold"))
        for column, value in zip(columns, row, strict=True):
            if not value and (column.detail or not column.name):
                continue
            space = " " * (width - _width([column.name]))
            line = _rich_text(f"{_GAP}{column.name}{space}{_GAP}", "dim")
            console.print(line.append(shown(value), styles.get(value, "")), soft_wrap=True)


def _details(columns: Sequence[Column], row: Row) -> str:
    dot = " \u00b7 " if _prints_unicode() else " - "
    return dot.join(value for column, value in zip(columns, row, strict=True) if column.detail and value)


def _width(texts: Iterable[str]) -> int:
    """The width of the widest text, in terminal cells."""
    from rich.cells import cell_len

    return max(cell_len(shown(text)) for text in texts)


def _console(out: TextIO, width: int | None, colour: bool | None) -> Console:
    from rich.console import Console

    real = Console(file=sys.stdout)
    return Console(
        file=out,
        width=width or real.width,
        force_terminal=True,
        no_color=real.no_color if colour is None else not colour,
        color_system=None if colour is False or real.color_system is None else "standard",
        highlight=False,
        markup=False,
        emoji=False,
    )


def _rich_text(text: str, style: Style = "") -> Text:
    from rich.text import Text

    return Text(shown(text), style)


def _prints_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
