"""Commands that load files, or say what loading them would do."""

from __future__ import annotations

from pathlib import Path

import click

from ordertrail.cli import ahead
from ordertrail.cli.frame import Frame, command
from ordertrail.cli.telling import telling


@command(ahead=ahead.database)
def run(frame: Frame) -> int:
    """Load the files that wait: one whole pass.

    They are checked, loaded into the target and archived, in one batch.

    A pass that was cut short is finished first. Nothing waiting is no error.
    """
    from ordertrail import startup
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.pipeline import Pipeline

    startup.keep_freed()
    config = frame.config()
    with telling(config) as tell, frame.busy("loading"):
        report = Pipeline(config).run()
    return tell(report, frame.show(report, document.run_report, render.run_report, attention=report.needs_person))


@command(ahead=ahead.database)
def stage(frame: Frame) -> int:
    """The first half of a pass: read and check files.

    `ordertrail load` does the second half. The two are the two tasks of a job; `ordertrail run` does both.
    """
    from ordertrail import startup
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.pipeline import Pipeline

    startup.keep_freed()
    config = frame.config()
    with telling(config, whole_pass=False) as tell, frame.busy("staging"):
        report = Pipeline(config).stage()
    return tell(report, frame.show(report, document.run_report, render.stage_report, attention=report.needs_person))


@command(ahead=ahead.database)
def load(frame: Frame) -> int:
    """The second half: load what is staged, then archive."""
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.pipeline import Pipeline

    config = frame.config()
    with telling(config) as tell, frame.busy("loading"):
        report = Pipeline(config).load()
    return tell(report, frame.show(report, document.run_report, render.load_report, attention=report.needs_person))


@command(
    click.Option(
        ["--interval", "interval_s"],
        type=click.FloatRange(min=0.05),
        metavar="SECONDS",
        default=5.0,
        show_default=True,
        help="Between looks at the source folder when no event tells of a file.",
    ),
    click.Option(
        ["--metrics-port"],
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Answer GET /metrics for Prometheus there; 0 takes a free port. Needs the extra `web`.",
    ),
    click.Option(
        ["--metrics-address"],
        metavar="IP",
        default="127.0.0.1",
        show_default=True,
        help="On this address of the machine. Anybody who reaches another one than the default may read the metrics.",
    ),
)
def watch(frame: Frame, interval_s: float, metrics_port: int | None, metrics_address: str) -> int:
    """Load every file as soon as it is complete.

    A service: it ends on SIGTERM or Ctrl-C, after the pass that runs.
    The log on stderr has a line for each delivery. With --json stdout has one document a pass, each on one line.
    """
    from ordertrail import startup

    startup.share_arenas()
    from ordertrail.look import document
    from ordertrail.watch.metrics_server import listening
    from ordertrail.watch.service import watch as serve

    startup.stay()
    config = frame.config(log="info", service=True)
    metrics = None if metrics_port is None else listening(metrics_port, metrics_address)
    return serve(
        config,
        interval_s=interval_s,
        on_report=lambda report: frame.tell(report, document.run_report),
        metrics=metrics,
    )


@command(
    click.Argument(["files"], nargs=-1, required=True, metavar="FILE...", type=click.Path()),
    click.Option(["--vendor"], metavar="NAME", help="Who sent them; without it, whose glob takes them."),
)
def plan(frame: Frame, files: tuple[str, ...], vendor: str | None) -> int:
    """Say what loading some files would do; writes nothing.

    The files may lie anywhere. Exits with 3 when one of them would be quarantined or held.
    """
    from ordertrail.cli import render
    from ordertrail.look import document
    from ordertrail.look.plan import plan_files

    config = frame.config()
    with frame.busy("planning"):
        report = plan_files(config, [Path(file) for file in files], vendor=vendor)
    bad = any(file.state in ("quarantined", "held") for file in report.files)
    return frame.show(report, document.plan, render.plan, attention=bad)
