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


deploy = click.Group(
    "deploy",
    commands={"databricks": databricks},
    help="Write what runs the pipeline elsewhere.",
    short_help="Write what runs the pipeline elsewhere.",
)
"""The group of places; each is a command of its own."""
