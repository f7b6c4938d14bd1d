"""The output of `init` and `demo`: what was created, the result, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ordertrail.cli.render import STATE_STYLES, outcomes, plural, reject_table
from ordertrail.cli.screen import Column, Screen
from ordertrail.cli.timeline import timeline
from ordertrail.look.rows import cell
from ordertrail.model import DeliveryReport

if TYPE_CHECKING:
    from ordertrail.begin.demo import Demo
    from ordertrail.begin.init import Started
    from ordertrail.config import Config

_QUERY = "SELECT status, count(*) FROM orders_target GROUP BY status"


def again(screen: Screen, config: Config) -> None:
    """`init --anew`."""
    screen.line(f"Pipeline {config.name} may begin again", "bold")
    screen.fields((name, _near(getattr(config, name))) for name in ("source", "archive", "warehouse"))
    screen.line("The next pass takes these folders as its own, and makes the tables that are not there, empty.")


def started(screen: Screen, found: Started) -> None:
    """`init`."""
    config = found.config
    screen.line(f"Wrote {_near(found.file)}", "bold")
    screen.fields((name, _near(getattr(config, name))) for name in ("source", "archive", "warehouse"))
    if found.sample is not None:
        columns = (Column("column"), Column("type"), Column(""))
        roles = dict.fromkeys(config.contract.key, "key") | {config.contract.order_by: "order_by"}
        if config.contract.status:
            roles[config.contract.status] = "status"
        screen.heading(f"The contract, drafted from {found.sample.name}: look it over before the first pass")
        screen.table(columns, [(one.name, one.type, roles.get(one.name, "")) for one in config.contract.columns])
        for note in found.notes:
            screen.line(f"- {note}")
    screen.heading("Next")
    given = "" if found.file.name == "ordertrail.toml" else f" --config {shlex.quote(_near(found.file))}"
    screen.command(f"ordertrail doctor{given}", "is everything fit?")
    screen.command(f"ordertrail run{given}", "load what is in the source folder")


def demo(screen: Screen, found: Demo) -> None:
    """`demo`."""
    reports = found.reports
    vendors = plural(len(found.config.vendors), "vendor")
    files = plural(sum(len(report.deliveries) for report in reports), "file")
    seconds = sum(report.seconds.get("total", 0.0) for report in reports)
    screen.line(f"{vendors} sent {files}; {len(reports)} passes loaded them in {seconds:.1f} s", "bold")
    screen.line(f"All of it is in {found.folder}: config, archive and five Delta tables.")
    screen.heading("What came")
    _what_came(screen, found)
    screen.heading("What was rejected, and why")
    reject_table(screen, found.rejects.dicts())
    _showcase(screen, found)
    screen.heading("Try next")
    number = found.track.key
    screen.command(f"cd {shlex.quote(str(found.folder))}", "")
    screen.command("ordertrail status", "where the pipeline stands")
    screen.command(f"ordertrail track {number}", "that shipment, whole")
    back = next(
        row["delivery_id"] for row in found.deliveries.dicts() if row["state"] == "loaded" and row["rows_rejected"]
    )
    screen.command(f"ordertrail rejects --delivery {back} --for-vendor -o back.csv", "what to send back to a vendor")
    screen.command("ordertrail verify", "nothing lost, nothing doubled?")
    screen.command(f"ordertrail query '{_QUERY}'", "")
    screen.command("ordertrail serve", "all of it in a browser (pip install 'ordertrail[web]')")


def _what_came(screen: Screen, found: Demo) -> None:
    columns = (
        Column("batch", right=True),
        Column("file"),
        Column("state"),
        Column("rows", right=True),
        Column("vendor", detail=True),
        Column("result", detail=True),
    )
    rows = [
        (str(report.batch), one.file_name, str(one.state), str(one.rows.parsed), one.vendor, _became(one))
        for report in found.reports
        for one in report.deliveries
    ]
    screen.table(columns, rows, STATE_STYLES)


def _became(one: DeliveryReport) -> str:
    return one.reason or outcomes(one.rows)


def _showcase(screen: Screen, found: Demo) -> None:
    row = found.track.current
    screen.heading(f"One shipment: {found.track.key}")
    timeline(screen, found.track, found.config.contract)
    if row is not None:
        said = f"{row['_vendor']} said so in {row['_file_name']}, row {row['_file_row']}"
        screen.line(f"* is what the target has: {cell(row['status'])}, {cell(row['address'])}. {said}.")


def _near(path: Path) -> str:
    """A path, relative to the working folder if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
