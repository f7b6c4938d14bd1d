"""Commands that bring a pipeline elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from ordertrail.cli.frame import Frame, command


@command(
    click.Argument(["folder"], type=click.Path(), metavar="DIR"),
    click.Option(
        ["--wheel", "requirement"],
        metavar="WHEEL",
        help="What the job installs: a wheel file, which is copied, or what pip takes; without it this ordertrail.",
    ),
    click.Option(["--email", "emails"], metavar="ADDRESS", multiple=True, help="Who is alerted; may be repeated."),
    click.Option(["--catalog"], metavar="NAME", help="Of tables and Volume; without it the config's."),
    click.Option(["--schema"], metavar="NAME", help="Of tables and Volume; without it the config's."),
    click.Option(
        ["--layout"],
        type=click.Choice(("two-volumes", "one-volume")),
        default="two-volumes",
        show_default=True,
        help="Source and archive in a Volume each, or as source/ and archive/ in one.",
    ),
    click.Option(["--force"], is_flag=True, help="Replace files that are there with other content."),
)
def databricks(
    frame: Frame,
    folder: str,
    requirement: str | None,
    emails: tuple[str, ...],
    catalog: str | None,
    schema: str | None,
    layout: str,
    force: bool,
) -> int:
    """Write a bundle for Databricks: job, notebooks, config and CI.

    To review, commit and deploy. Contract, vendors and table names are those of the config when it is there, else the
    order feed's. Files that were changed since are not replaced.
    """
    from ordertrail.cli import deploy_view
    from ordertrail.databricks.bundle import BundleOptions, deploy

    wanted = BundleOptions(requirement, None, catalog, schema, emails, layout)
    found = deploy(Path(folder), frame.config_file, wanted, force=force)
    return frame.show(found, deploy_view.document, deploy_view.text)


_FOLDER = click.Argument(["folder"], type=click.Path(path_type=Path), metavar="DIR")
_FORCE = click.Option(["--force"], is_flag=True, help="Replace files that are there with other content.")


@command(
    _FOLDER,
    click.Option(["--user"], metavar="NAME", default="ordertrail", show_default=True, help="Who runs the units."),
    click.Option(
        ["--prefix"], metavar="NAME", default="ordertrail", show_default=True, help="What names of units begin with."
    ),
    click.Option(["--program"], metavar="FILE", help="The ordertrail to run; without it this one."),
    click.Option(
        ["--metrics-port"],
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Where the service answers Prometheus; 0 for nowhere.  [default: 9464]",
    ),
    _FORCE,
)
def systemd(
    frame: Frame, folder: Path, user: str, prefix: str, program: str | None, metrics_port: int | None, force: bool
) -> int:
    """Write units for systemd: the service, and timers for the rest.

    For this machine: its config, its folders, its ordertrail. The units may write to the pipeline's folders only. To
    review and install, as README.md in DIR says. Files that were changed since are not replaced.
    """
    from ordertrail.cli import deploy_view
    from ordertrail.deploy.systemd import deploy, options

    config = frame.config()
    found = deploy(folder, config, options(program, user, prefix, metrics_port), force=force)
    return frame.show(found, deploy_view.machine_document, deploy_view.systemd)


@command(_FOLDER, _FORCE)
def docker(frame: Frame, folder: Path, force: bool) -> int:
    """Write an image with this ordertrail, and a compose file.

    With config, dashboard and alert rules; to review, build and run, as README.md in DIR says. Contract and vendors are
    those of the config when it is there, else the order feed's. Files that were changed since are not replaced.
    """
    from ordertrail.cli import deploy_view
    from ordertrail.deploy.docker import deploy

    found = deploy(folder, frame.config_file, force=force)
    return frame.show(found, deploy_view.machine_document, deploy_view.docker)


deploy = click.Group(
    "deploy",
    commands={"databricks": databricks, "systemd": systemd, "docker": docker},
    help="Write what runs the pipeline elsewhere.",
    short_help="Write what runs the pipeline elsewhere.",
)
"""The group of places; each is a command of its own."""
