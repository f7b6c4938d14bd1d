"""Commands to begin with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from ordertrail.cli.frame import Frame, command

_SHELLS = ("bash", "zsh", "fish")


@command(
    click.Option(["--from", "sample"], type=click.Path(), metavar="FILE", help="Draft the contract from this file."),
    click.Option(["--encoding"], metavar="NAME", help="Of that file, such as cp1252; without it, what is found."),
    click.Option(["--force"], is_flag=True, help="Replace the config file when it is there."),
    click.Option(["--anew"], is_flag=True, help="Write no config: let the pipeline begin again without its tables."),
)
def init(frame: Frame, sample: str | None, encoding: str | None, force: bool, anew: bool) -> int:
    """Write a commented config and make the folders it names.

    With --from the contract and the vendor are drafted from a file as the vendor sends it. What is doubtful stays
    text, and what only a person can decide is a TODO in the config: look it over.

    With --anew the next pass may begin where tables, archive or source are not those that the pipeline had: tables
    that are not there are made, empty. Archived files stay where they are.
    """
    from ordertrail.begin.init import begin_again, start_pipeline
    from ordertrail.cli import document, welcome

    if anew:
        again = begin_again(frame.config(), others=bool(sample or encoding or force))
        return frame.show(again, document.again, welcome.again)
    file = Path(sample) if sample else None
    found = start_pipeline(frame.config_file, sample=file, encoding=encoding, force=force)
    return frame.show(found, document.started, welcome.started)


@command(
    click.Option(
        ["--dir", "folder"],
        type=click.Path(),
        metavar="FOLDER",
        default="ordertrail-demo",
        show_default=True,
        help="Made anew when an earlier demo made it.",
    ),
    click.Option(["--force"], is_flag=True, help="Also in a folder that holds other things; nothing is replaced."),
)
def demo(frame: Frame, folder: str, force: bool) -> int:
    """See it work on made-up vendor files.

    Three vendors send messy files for four days. They are loaded day by day into a pipeline in a folder of
    its own, which is yours to play with.
    """
    from ordertrail.begin.demo import run_demo
    from ordertrail.cli import document, welcome

    frame.logs()
    with frame.busy("making the files") as progress:
        found = run_demo(Path(folder), datetime.now(UTC).date(), force=force, progress=progress)
    return frame.show(found, document.demo, welcome.demo)


@command()
def doctor(frame: Frame) -> int:
    """Look whether machine, config and folders are fit.

    Exits with 3 when something is not, and says what to do.
    """
    from ordertrail.begin.doctor import examine
    from ordertrail.cli import document, render

    report = examine(frame.config_file)
    return frame.show(report, document.doctor, render.doctor, attention=not report.ok)


@command(click.Argument(["shell"], type=click.Choice(_SHELLS)))
def completion(frame: Frame, shell: str) -> int:
    r"""Print the script for a shell's completion.

    \b
    bash: echo 'eval "$(ordertrail completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(ordertrail completion zsh)"' >> ~/.zshrc
    fish: ordertrail completion fish > ~/.config/fish/completions/ordertrail.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from ordertrail.cli import PROGRAM, cli

    found = get_completion_class(shell) or ShellComplete
    # The base class's method: bash's own starts bash to look at its version.
    script = ShellComplete.source(found(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE"))
    return frame.show(script, lambda text: {"shell": shell, "script": text}, lambda screen, text: screen.verbatim(text))


@command(
    click.Argument(["name"]),
    click.Option(
        ["--from", "sample"], type=click.Path(), metavar="FILE", required=True, help="A file as it sends them."
    ),
    click.Option(["--files"], metavar="GLOB", required=True, help="Which files are its, below the source folder."),
    click.Option(["--encoding"], metavar="NAME", help="Of its files, such as cp1252; without it, what is found."),
)
def add(frame: Frame, name: str, sample: str, files: str, encoding: str | None) -> int:
    """Append a vendor to the config, drafted from one of its files.

    The columns of the contract are looked for in the file: by name, by the names that other vendors use, by likeness,
    by what they hold. Nothing that is in the config is changed. What only a person can decide is a TODO in the new
    lines: look them over, then plan the file.
    """
    from ordertrail.begin.vendor_add import add_vendor
    from ordertrail.cli import vendor_view

    added = add_vendor(frame.config(), name, sample=Path(sample), files=files, encoding=encoding)
    return frame.show(added, vendor_view.added_document, vendor_view.added)


vendor = click.Group(
    "vendor",
    commands={"add": add},
    help="Who sends files, and how they look.",
    short_help="Who sends files, and how they look.",
)
"""The group of commands about vendors."""
