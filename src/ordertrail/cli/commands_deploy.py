"""Commands that bring a pipeline elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from ordertrail import __version__
from ordertrail.cli.frame import Frame, command


@command(
    click.Argument(["folder"], type=click.Path(), metavar="DIR"),
    click.Option(
        ["--wheel", "requirement"],
        metavar="WHEEL",
        default=f"ordertrail=={__version__}",
        help="What the job installs: a wheel file, which is copied, or what pip takes; without it this version.",
    ),
    click.Option(["--email", "emails"], metavar="ADDRESS", multiple=True, help="Who is alerted; may be repeated."),
    click.Option(["--catalog"], metavar="NAME", help="Of tables and Volume; without it the config's."),
    click.Option(["--schema"], metavar="NAME", help="Of tables and Volume; without it the config's."),
    click.Option(["--git-url"], metavar="URL", help="Production's repository; without it the remote of DIR's own."),
    click.Option(["--force"], is_flag=True, help="Replace files that are there with other content."),
)
def databricks(
    frame: Frame,
    folder: str,
    requirement: str,
    emails: tuple[str, ...],
    catalog: str | None,
    schema: str | None,
    git_url: str | None,
    force: bool,
) -> int:
    """Write a bundle for Databricks: job, notebooks, config and CI.

    To review, commit and deploy. Contract, vendors and table names are those of the config when it is there, else the
    order feed's. Files that were changed since are not replaced.
    """
    from ordertrail.cli import delivered
    from ordertrail.databricks.bundle import BundleOptions, deploy

    wanted = BundleOptions(requirement, None, catalog, schema, emails, git_url)
    found = deploy(Path(folder), frame.config_file, wanted, force=force)
    return frame.show(found, delivered.document, delivered.text)


deploy = click.Group(
    "deploy",
    commands={"databricks": databricks},
    help="Write what runs the pipeline elsewhere.",
    short_help="Write what runs the pipeline elsewhere.",
)
"""The group of places; each is a command of its own."""
