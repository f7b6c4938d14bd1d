"""The one place where an error becomes two lines, a JSON document and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import click

from ordertrail.cli.log_events import json_line
from ordertrail.cli.screen import json_text, shown
from ordertrail.errors import OrdertrailError, StorageError, UsageError
from ordertrail.look.stoppable import any_stuck

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
BUG = "E_BUG"
"""Code of an unexpected error: never the user's fault."""


def guarded(call: Callable[[], object], words: Sequence[str]) -> int:
    """Run a command.

    Args:
        call: Returns the exit code; None means 0.
        words: The command line: even when it is wrong, it tells whether JSON or tracebacks are wanted.

    Returns:
        The exit code. Only `SystemExit` is ever raised.
    """
    options = words[: words.index("--")] if "--" in words else words
    as_json = "--json" in options
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal's encoding lacks are shown as escapes.
            stream.reconfigure(errors="backslashreplace")
    with _interrupts() as interrupted:
        try:
            return _run(call, as_json)
        except Exception as error:  # noqa: BLE001 - a traceback never reaches a user
            if interrupted():
                return EXIT_INTERRUPTED  # a library may turn a Ctrl-C during its call into an error of its own
            return _told(error, as_json, debug="--debug" in options)


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Note within the block whether Ctrl-C was pressed, and yield a function that tells; Python still handles it."""
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(call: Callable[[], object], as_json: bool) -> int:
    """Run a command; returns its exit code, also when it was used wrongly."""
    try:
        code = call()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        place = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "ordertrail"
        return _say(UsageError.code, error.format_message(), f"see `{place} --help`", as_json, EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        hush()
        return 0


def _told(error: Exception, as_json: bool, *, debug: bool) -> int:
    """Report an error, and return the exit code."""
    if isinstance(error, OrdertrailError):
        return _say(error.code, error.message, error.hint, as_json, error.exit_code)
    if debug or _wants_debug():
        _trace(error)
    what = f"this is a mistake in ordertrail: {type(error).__name__}: {error}".partition("\n")[0]
    hint = "nothing is lost; run it again with --debug and report what that prints"
    return _say(BUG, what, hint, as_json, EXIT_FAILED)


def _trace(error: Exception) -> None:
    """Write a traceback to stderr."""
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):
        if _wants_json():
            text = json_line({"level": "debug", "event": "traceback", "exception": text}) + "\n"
        click.echo(text, err=True, nl=False)


def leave(code: int) -> NoReturn:
    """End this process with an exit code, at once even if a query cannot be stopped."""
    if any_stuck():
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def put(text: str) -> None:
    """Write to stdout and flush; a reader that has gone away (`| head`) is not an error.

    Raises:
        StorageError: Writing to stdout failed.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        hush()
    except OSError as error:
        hush()
        raise StorageError(f"cannot write the output: {error.strerror}", hint="check where stdout goes") from error


def note(text: str) -> None:
    """Write a line to stderr."""
    with suppress(OSError):
        click.echo(json_line({"level": "info", "event": text}) if _wants_json() else shown(text), err=True)


def hush() -> None:
    """Discard what is still to be written to stdout, so that Python does not complain when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(code: str, message: str, hint: str, as_json: bool, exit_code: int) -> int:
    if as_json:
        with suppress(StorageError):
            put(json_text({"error": {"code": code, "message": message, "hint": hint}}))
        return exit_code
    if _wants_json():
        fields = {"code": code, "reason": message, "hint": hint}
        with suppress(OSError):
            click.echo(json_line({"level": "error", "event": "the command failed", **fields}), err=True)
        return exit_code
    first, *more = [shown(line) for line in message.splitlines() if line.strip()] or [""]
    lines = [f"error {code}: {first}", *(f"  {line}" for line in more)]
    if hint:
        lines.append(f"  what to do: {shown(hint)}")
    with suppress(OSError):
        click.echo("\n".join(lines), err=True)
    return exit_code


def _wants_json() -> bool:
    """Whether lines on stderr are JSON; not if the environment asks for a form that there is not."""
    from ordertrail.config import log_format

    try:
        return log_format() == "json"
    except OrdertrailError:
        return False


def _wants_debug() -> bool:
    """Whether the environment asks for everything; not if it asks for a level that there is not."""
    from ordertrail.config import log_level

    try:
        return log_level() == "debug"
    except OrdertrailError:
        return False
