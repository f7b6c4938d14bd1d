"""What all commands share: common options, the config, logs and progress, and how a result is shown."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from ordertrail.cli.errors import put
from ordertrail.cli.log_events import json_line, text_line
from ordertrail.cli.log_lines import LineOf, LogLines, write_line
from ordertrail.cli.screen import Screen, json_text, on_terminal, shown

if TYPE_CHECKING:
    from ordertrail.config import Config
    from ordertrail.look.rows import Json

EXIT_ATTENTION = 3
"""Done, but something needs a person."""

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_BATCH = re.compile(r"batch[ :=]*(\d{1,18})", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Result = TypeVar("Result")


class Frame(NamedTuple):
    """One call of a command; no struct, because `ordertrail --help` does without msgspec.

    Attributes:
        config_file: The config file, which need not exist.
        as_json: One JSON document on stdout instead of text.
        debug: Whether to log everything.
    """

    config_file: Path
    as_json: bool
    debug: bool

    def config(self, *, log: str | None = "warning", service: bool = False) -> Config:
        """Read the config, and send logs to stderr from here on.

        Args:
            log: The level unless `ORDERTRAIL_LOG` sets one; None for a command that only reads tables: what it calls
                logs nothing, and it must answer at once.
            service: Whether log lines must never block; see `log_lines`.
        """
        from ordertrail.config import load_config, trace_exporters

        if log is not None:
            self.logs(log, service=service)
            if trace_exporters():
                from ordertrail.cli.traces import start_traces

                start_traces()
        return load_config(self.config_file)

    def logs(self, level: str = "warning", *, service: bool = False) -> None:
        """Send logs to stderr, from this level on unless `ORDERTRAIL_LOG` sets one, as `ORDERTRAIL_LOG_FORMAT` says."""
        from ordertrail.config import log_format, log_level
        from ordertrail.log import configure_when_needed

        wanted = "debug" if self.debug else log_level(default=level)
        line_of = json_line if log_format() == "json" else text_line
        lines = LogLines(line_of=line_of) if service else None
        configure_when_needed(
            wanted, functools.partial(_log_to_stderr, wanted, line_of, lines), None if lines is None else lines.drain
        )

    def tell(self, result: Result, document: Callable[[Result], Json]) -> None:
        """Print one of many documents, on one line; prints nothing without --json, because the log reports it.

        A document that cannot be written is lost, without further effect.
        """
        if self.as_json:
            write_line("stdout", json_text(document(result), indent=None).rstrip("\n"))

    def show(
        self,
        result: Result,
        document: Callable[[Result], Json],
        text: Callable[[Screen, Result], None],
        *,
        attention: bool = False,
    ) -> int:
        """Print a result, as JSON or for people.

        Args:
            result: The result to show.
            document: Turns it into the JSON document.
            text: Writes it for people.
            attention: Whether something in it needs a person.

        Returns:
            The exit code, 0 or 3.
        """
        if self.as_json:
            put(json_text(document(result)))
        else:
            screen = Screen(terminal=on_terminal(sys.stdout))
            text(screen, result)
            put(screen.text)
        return EXIT_ATTENTION if attention else 0

    @contextmanager
    def busy(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Show on a terminal that something is in progress; yields a function that changes the text."""
        if not on_terminal(sys.stderr):
            yield lambda _: None
            return
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status(f"{escape(doing)} ...", spinner="line") as status:
            yield lambda words: status.update(f"{escape(shown(words))} ...")


Call = Callable[..., int]


def command(
    *params: click.Parameter, name: str | None = None, ahead: Callable[[], None] | None = None
) -> Callable[[Call], click.Command]:
    """Turn a function into a command: it gets a `Frame` and the parameters, and returns the exit code.

    Args:
        params: The command's own arguments and options; `--config`, `--json` and `--debug` are added.
        name: The command's name; None means the function's.
        ahead: Begins to load what the command needs as a rule, see `cli.ahead`; None for nothing.
    """

    def make(function: Call) -> click.Command:
        @functools.wraps(function)
        def call(config_file: str, as_json: bool, debug: bool, **given: object) -> int:
            if ahead is not None:
                ahead()
            return function(Frame(Path(config_file), as_json, debug), **given)

        # click's mark for lines that keep their breaks; in a raw docstring it is two characters.
        help_text = inspect.cleandoc(function.__doc__ or "").replace("\\b\n", "\b\n")
        return click.Command(name or function.__name__, callback=call, params=[*params, *_common()], help=help_text)

    return make


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config", "config_file"],
            type=click.Path(),
            metavar="FILE",
            default="ordertrail.toml",
            show_default=True,
            help="The pipeline's config file.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document on stdout, nothing else."),
        click.Option(["--debug"], is_flag=True, help="Log everything to stderr; tracebacks for unexpected errors."),
    ]


def user() -> str:
    """The user of the system who runs this."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def point_in_time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """A date, an ISO 8601 time (UTC without an offset), or how long ago: `90m`, `12h`, `7d`, `2w`; aware UTC."""
    if value is None:
        return None
    text = value.strip()
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        example = "write it such as 2026-11-23, 2026-11-23T08:00, 12h or 7d"
        raise click.BadParameter(f"{text!r} is no time: {example}") from None


def batch_or_time(context: click.Context, parameter: click.Parameter, value: str | None) -> int | datetime | None:
    """`batch 12`, or a time as `point_in_time` takes it."""
    if value is not None and (batch := _BATCH.fullmatch(value.strip())):
        return int(batch[1])
    try:
        return point_in_time(context, parameter, value)
    except click.BadParameter as error:
        raise click.BadParameter(f"{error.message}; or a batch: 'batch 12'") from None


# --- logs --------------------------------------------------------------------------------------------------------


class _Stderr:
    """Writes log lines to the current stderr; a line that cannot be written is lost."""

    def __init__(self, lines: LogLines | None) -> None:
        self._lines = lines

    def msg(self, line: str) -> None:
        if self._lines is None:
            write_line("stderr", line)
        else:
            self._lines.put(line)

    debug = info = warning = error = critical = exception = msg


def _log_to_stderr(level: str, line_of: LineOf, lines: LogLines | None) -> None:
    import structlog

    def rendered(_: object, __: str, event: MutableMapping[str, object]) -> str:
        return line_of(event)

    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stderr(lines),
    )
