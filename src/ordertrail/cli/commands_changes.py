"""The command that tells what batches changed."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from ordertrail.cli.errors import hush, note
from ordertrail.cli.frame import Frame, command

if TYPE_CHECKING:
    from ordertrail.look.consume import Request


class _Given(TypedDict):
    """The options of `changes`."""

    from_batch: int | None
    to_batch: int | None
    net: bool
    follow: bool
    form: str | None
    path: Path | None
    force: bool
    name: str | None
    listed: bool
    dropped: str | None


@command(
    click.Option(
        ["--from-batch"],
        type=click.IntRange(min=0),
        metavar="N",
        help="The first batch.  [default: where the consumer stopped, else the first of all]",
    ),
    click.Option(
        ["--to-batch"],
        type=click.IntRange(min=0),
        metavar="M",
        help="The last batch, inclusive, as far as it is done.  [default: the newest]",
    ),
    click.Option(["--net"], is_flag=True, help="One change a shipment: from before the first batch to after the last."),
    click.Option(["--follow"], is_flag=True, help="Go on as batches come, until SIGTERM or Ctrl-C."),
    click.Option(
        ["--format", "form"],
        type=click.Choice(["jsonl", "csv", "parquet"]),
        help="How they are written.  [default: as FILE ends, else jsonl]",
    ),
    click.Option(
        ["--output", "-o", "path"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where to, instead of stdout: a name that ends with .jsonl, .csv or .parquet.",
    ),
    click.Option(["--force"], is_flag=True, help="Replace a file that is there."),
    click.Option(
        ["--consumer", "name"],
        metavar="NAME",
        help="Begin where this consumer stopped, and record where it stands after each batch.",
    ),
    click.Option(["--consumers", "listed"], is_flag=True, help="List the consumers that are recorded, and end."),
    click.Option(["--drop", "dropped"], metavar="NAME", help="Forget a consumer, and end."),
)
def changes(frame: Frame, **given: Unpack[_Given]) -> int:
    """What batches changed: rows inserted, updated, deleted.

    One line of JSON a change, by batch and key: the row before, the row after, and which delivery and row made it so.
    The last line says which batch comes next; give it as --from-batch the next time. Made from the history, so it works
    for all time and needs no setting.

    Exits with 3 when a batch is asked for that cannot be read; nothing is ever skipped.
    """
    from ordertrail import startup
    from ordertrail.engines.local.changes import Wanted
    from ordertrail.look.changes import FORMATS
    from ordertrail.look.consume import Request

    if given["listed"] or given["dropped"] is not None:
        return _consumers(frame, given["dropped"])
    path, form = given["path"], given["form"]
    ending = "" if path is None else path.suffix.lower().removeprefix(".")
    form = form or (ending if ending in FORMATS else "jsonl")
    first, last = given["from_batch"], given["to_batch"]
    if given["follow"] and (given["net"] or path is not None):
        raise click.UsageError("--follow writes batch after batch to stdout: not with --net or --output")
    if path is None and (form == "parquet" or frame.as_json or given["force"]):
        what = "--format parquet" if form == "parquet" else "--json" if frame.as_json else "--force"
        raise click.UsageError(f"{what} needs a file: --output FILE")
    if path is not None and ending != form:
        raise click.UsageError(f"--format {form} needs a file whose name ends with .{form}")
    if first is not None and last is not None and last < first:
        raise click.UsageError("--to-batch is before --from-batch")
    startup.share_arenas()
    if given["follow"]:
        startup.stay()
    request = Request(Wanted(first, last, given["net"]), form, given["name"], given["follow"])
    return _to_stdout(frame, request) if path is None else _to_file(frame, request, path, force=given["force"])


def _to_file(frame: Frame, request: Request, path: Path, *, force: bool) -> int:
    from ordertrail.cli import changes_view
    from ordertrail.look.consume import consume_file

    config = frame.config(log=None)
    with frame.busy("writing the changes"):
        found = consume_file(config, request, path, force=force)
    code = frame.show(found, changes_view.document, changes_view.written)
    for line in found.notes:
        note(f"Note: {line}")
    return code


def _to_stdout(frame: Frame, request: Request) -> int:
    from ordertrail.look.consume import consume
    from ordertrail.watch.signals import stopping_by_signal

    config, out, stop = frame.config(log=None), sys.stdout.buffer, threading.Event()

    def tell(line: str) -> None:
        note(f"Note: {line}")

    try:
        if request.follow:
            with stopping_by_signal(stop.set):
                consume(config, request, out, wait=stop.wait, stopped=stop.is_set, tell=tell)
            return 0
        found = consume(config, request, out, tell=tell)
    except BrokenPipeError:
        hush()  # a reader that has gone away (`| head`) is not an error
        return 0
    if request.form != "jsonl":
        note(f"next batch: {found.next_batch}")
    return 0


def _consumers(frame: Frame, dropped: str | None) -> int:
    from ordertrail.cli import changes_view
    from ordertrail.engines.choice import placed
    from ordertrail.engines.local.consumers import drop
    from ordertrail.look.consume import standings

    config = frame.config(log=None)
    if dropped is not None:
        drop(placed(config), dropped)
    return frame.show(standings(config), changes_view.consumers_document, changes_view.consumers)
