"""Commands that look at the tables."""

from __future__ import annotations

import io
import sys
from datetime import datetime
from pathlib import Path

import click

from ordertrail.cli import ahead
from ordertrail.cli.errors import note, put
from ordertrail.cli.frame import Frame, batch_or_time, command, point_in_time
from ordertrail.cli.screen import on_terminal

_VENDOR = click.Option(["--vendor"], metavar="NAME", help="Only of this vendor.")
_SINCE = click.Option(
    ["--since"],
    callback=point_in_time,
    metavar="TIME",
    help="Only from then on: 2026-11-23, 2026-11-23T08:00, 12h, 7d.",
)
_LIMIT = click.Option(
    ["--limit"], type=click.IntRange(min=1), metavar="N", default=100, show_default=True, help="At most so many."
)
_AS_OF = click.Option(
    ["--as-of"],
    callback=batch_or_time,
    metavar="TIME|batch N",
    help="As it was then: 2026-11-23T08:00, 12h (ago), 'batch 12'.",
)


@command()
def status(frame: Frame) -> int:
    """Where the pipeline stands, and what waits."""
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.look.status import status_of

    return frame.show(status_of(frame.config(log=None)), document.status, render.status)


@command(
    click.Option(["--service"], is_flag=True, help="`ordertrail watch` should be running: it is an item if it is not."),
    click.Option(
        ["--live"], is_flag=True, help="Only whether `ordertrail watch` lives and its passes succeed; reads no table."
    ),
)
def health(frame: Frame, service: bool, live: bool) -> int:
    """What needs a person now; exits with 3 when anything does.

    Quarantined and held deliveries whose bytes were not loaded since, files that wait for long, passes that fail, a
    service without heartbeat, debt, a disk that is nearly full, a target that may not be the fold of the history. One
    line when nothing does. With --live for the health check of a container: what only a person can mend is left out.
    """
    from ordertrail.cli import open_view
    from ordertrail.look import document
    from ordertrail.look.status import live_items_of, open_items_of

    config = frame.config(log=None)
    items = live_items_of(config) if live else open_items_of(config, service_expected=service)
    return frame.show(
        items,
        document.health,
        lambda screen, found: open_view.health(screen, config.name, found),
        attention=bool(items),
    )


@command(
    _VENDOR,
    _SINCE,
    click.Option(
        ["--state"],
        metavar="STATE",
        help="Only these: loaded, empty, duplicate, quarantined, held, undone, replayed, refused, dismissed, "
        "correction.",
    ),
    _LIMIT,
)
def deliveries(frame: Frame, vendor: str | None, since: datetime | None, state: str | None, limit: int) -> int:
    """The files that came, newest batch first."""
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.look.status import Reader

    with Reader(frame.config(log=None)) as reader:
        found = reader.deliveries(vendor=vendor, since=since, state=state, limit=limit)
        return frame.show(found, document.rows, render.deliveries)


@command(
    _VENDOR,
    _SINCE,
    click.Option(["--delivery"], metavar="ID", help="Only of this delivery, as `ordertrail deliveries` names it."),
    click.Option(
        ["--limit"], type=click.IntRange(min=1), metavar="N", help="At most so many.  [default: 100, with --csv all]"
    ),
    click.Option(
        ["--open", "only_open"],
        is_flag=True,
        help="Only those that are open: no later file brought a row with their key and event time.",
    ),
    click.Option(["--csv", "form"], flag_value="csv", help="CSV on stdout, to send back to the vendor."),
    click.Option(
        ["--for-vendor", "form"],
        flag_value="vendor",
        help="With --delivery and -o: its rejected rows as its vendor writes them, with line and problem.",
    ),
    click.Option(
        ["--output", "-o", "path"], type=click.Path(path_type=Path), metavar="FILE", help="With --for-vendor: where to."
    ),
)
def rejects(
    frame: Frame,
    vendor: str | None,
    since: datetime | None,
    delivery: str | None,
    limit: int | None,
    only_open: bool,
    form: str | None,
    path: Path | None,
) -> int:
    """What was rejected, and why.

    With --csv it is made for a spreadsheet: cells that one would run as a formula begin with an apostrophe. With
    --for-vendor the rows of one delivery are written with its vendor's header, delimiter and encoding, and two
    columns more, ordertrail_line and ordertrail_problem; a FILE that is there is not replaced.
    """
    from ordertrail.cli import render, send_back
    from ordertrail.look import document
    from ordertrail.look.rows import Rows
    from ordertrail.look.status import Reader

    if form == "csv" and frame.as_json:
        raise click.UsageError("--csv and --json do not go together")
    if form == "vendor" or path is not None:
        others = (only_open, frame.as_json, vendor, since, limit)
        if form != "vendor" or path is None or delivery is None or any(others):
            raise click.UsageError("--for-vendor goes with --delivery ID and -o FILE, and with nothing else")
        from ordertrail.look.vendor_file import write_vendor_file

        with Reader(frame.config(log=None)) as reader:
            put(f"{write_vendor_file(reader, delivery, path)}\n")
        return 0
    with Reader(frame.config(log=None)) as reader:
        limit = limit or (None if form == "csv" else 100)
        if only_open:
            found = reader.open_rejects(vendor=vendor, since=since, delivery=delivery)
            cut = limit is not None and len(found) > limit
            found = Rows(found.columns, found.rows[:limit], cut)
        else:
            found = reader.rejects(vendor=vendor, since=since, delivery=delivery, limit=limit)
    if form == "csv":
        terminal = on_terminal(sys.stdout)
        if isinstance(sys.stdout, io.TextIOWrapper) and not terminal:
            sys.stdout.reconfigure(encoding="utf-8")
        put(send_back.rejects_csv(found, terminal=terminal))
        return 0
    return frame.show(found, document.rows, render.rejects)


@command(_VENDOR, _LIMIT)
def drift(frame: Frame, vendor: str | None, limit: int) -> int:
    """What vendors send that the contract does not know.

    The columns whose cells are kept in _rescued, of deliveries that count: who sends them, since when, how full they
    are, the type that their values allow, and the lines for the config.
    """
    from ordertrail.cli import drift_view
    from ordertrail.look.status import Reader

    with Reader(frame.config(log=None)) as reader:
        found = reader.drift(vendor=vendor, limit=limit)
    return frame.show(found, drift_view.document, drift_view.drift)


@command(click.Argument(["number"], metavar="NUM"), _AS_OF, ahead=ahead.libraries)
def track(frame: Frame, number: str, as_of: int | datetime | None) -> int:
    """One shipment: what it is now, and how it came to that.

    Every row that ever spoke of it is listed, oldest first, with what became of the row; rejected rows below, as far
    as their raw record still has the number.

    NUM is the key; the parts of a key of several columns are joined by `/`. When no shipment has exactly this key, it
    is looked for in any case, then as an order number (order_num, and text columns with identifier = true), then as the
    end of the key (its last digits), its beginning, or another part of it, of at least 3 characters. One match is
    shown, several are listed, at most 20.

    With --as-of all is as it was then, made from the history.
    """
    from ordertrail.cli import timeline
    from ordertrail.look import document
    from ordertrail.look.status import Reader

    with Reader(frame.config(log=None)) as reader:
        found = reader.track(number, as_of=as_of)
    code = frame.show(found, document.track, lambda screen, it: timeline.track(screen, it, reader.config.contract))
    _tell(reader.differs)
    return code


@command(
    click.Argument(["sql"], metavar="SQL"),
    click.Option(
        ["--max-rows"],
        type=click.IntRange(min=0),
        metavar="N",
        default=10_000,
        show_default=True,
        help="At most so many, 0 for all. When there are more, a line on stderr says so.",
    ),
    click.Option(
        ["--timeout", "timeout_s"],
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        default=30.0,
        show_default=True,
        help="The query is stopped after so long; 0 lets it run.",
    ),
    _AS_OF,
)
def query(frame: Frame, sql: str, max_rows: int, timeout_s: float, as_of: int | datetime | None) -> int:
    """Run one SQL query over the five tables.

    The SQL is DuckDB's, and can only read. The tables go by their configured names, by default orders_target,
    orders_history, orders_rejects, orders_deliveries and orders_stage.

    With --as-of they hold what they held then: the target is made from the history, which works for all time. In one
    statement with others a table is asked by `FROM orders_target AT (BATCH => 12)`.
    """
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.look.status import Reader

    with Reader(frame.config(log=None)) as reader:
        found = reader.query(sql, max_rows=max_rows or None, timeout_s=timeout_s or None, as_of=as_of)
    frame.show(found, document.rows, render.rows)
    _tell(reader.differs)
    if found.cut:
        note(f"only the first {max_rows:,} rows are here; --max-rows N takes more")
    return 0


@command(
    click.Argument(["table"], metavar="TABLE"),
    click.Option(
        ["--output", "-o", "path"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        required=True,
        help="Where to: a name that ends with .csv, .parquet or .xlsx.",
    ),
    click.Option(["--where"], metavar="SQL", help="Only rows for which this is true: \"status = 'RETURNED'\"."),
    _AS_OF,
    click.Option(["--force"], is_flag=True, help="Replace a file that is there."),
)
def export(frame: Frame, table: str, path: Path, where: str | None, as_of: int | datetime | None, force: bool) -> int:
    """Write a table's rows to a file: CSV, Parquet or Excel.

    TABLE is target, history, deliveries, rejects or stage, or its configured name. The rows are those of the newest
    batch, in no particular order; passes may run meanwhile. The file appears when it is complete. With --as-of they
    are those of then, made from the history.

    Times are UTC. In .xlsx all keys and identifiers are text, and so are times; it needs the extra `excel`.
    """
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.look.export import export as write

    config = frame.config(log=None)
    with frame.busy(f"exporting {table}"):
        found = write(config, table, path, where=where, as_of=as_of, force=force)
    code = frame.show(found, document.exported, render.exported)
    _tell(found.differs)
    return code


def _tell(differs: str) -> None:
    """Say on stderr that the tables, as they are shown, carry another contract than the config."""
    if differs:
        note(f"Note: {differs}")


@command(click.Option(["--archive"], is_flag=True, help="Read all archived files too, and compare their SHA-256."))
def verify(frame: Frame, archive: bool) -> int:
    """Prove from the tables that nothing is lost or doubled.

    Exits with 3 when something is wrong, and says what to do.
    """
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.look.verify import verify as prove

    config = frame.config()
    with frame.busy("verifying") as progress:
        report = prove(config, progress, archive=archive)
    return frame.show(report, document.verify, render.verify, attention=not report.ok)
