"""Commands that mend what has happened: corrections of deliveries, and tables that carry an older contract."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ordertrail.cli.frame import Frame, command, user
from ordertrail.cli.screen import Screen, on_terminal
from ordertrail.errors import UsageError

if TYPE_CHECKING:
    from ordertrail.config import Config
    from ordertrail.mend.corrections import Wanted
    from ordertrail.mend.preview import Preview

_IDS = click.Argument(["deliveries"], nargs=-1, required=True, metavar="DELIVERY...")
_ONE = click.Argument(["delivery"], metavar="DELIVERY")
_WHY = click.Option(["--why"], required=True, metavar="TEXT", help="The reason; it stays with the delivery.")
_WHY_NOT = click.Option(["--why"], default="", metavar="TEXT", help="The reason; it stays with the delivery.")
_BY = click.Option(["--by"], default=None, metavar="NAME", help="Who decided; the user of the system by default.")
_PLAN = click.Option(["--plan", "only_plan"], is_flag=True, help="Only say what it would do; writes nothing.")
_YES = click.Option(["--yes"], is_flag=True, help="Do it without asking; needed where there is no terminal.")


@command(_IDS, _WHY, _BY, _PLAN, _YES)
def undo(frame: Frame, deliveries: Sequence[str], why: str, by: str | None, only_plan: bool, yes: bool) -> int:
    """Take deliveries back: their rows no longer count.

    The target becomes what it would be had these files never come; later files keep their effect. One batch, one commit
    of the target. `ordertrail redo` makes them count again.
    """
    return _carry_out(frame, _wanted("undo", deliveries, why, by), only_plan=only_plan, yes=yes)


@command(_IDS, _WHY, _BY, _PLAN, _YES)
def redo(frame: Frame, deliveries: Sequence[str], why: str, by: str | None, only_plan: bool, yes: bool) -> int:
    """Make deliveries count again that were taken back."""
    return _carry_out(frame, _wanted("redo", deliveries, why, by), only_plan=only_plan, yes=yes)


@command(
    click.Argument(["deliveries"], nargs=-1, metavar="[DELIVERY...]"),
    click.Option(
        ["--all-quarantined"], is_flag=True, help="All that are quarantined or held and were not loaded since."
    ),
    click.Option(["--vendor"], metavar="NAME", help="With --all-quarantined: only those of this vendor."),
    _WHY_NOT,
    _BY,
    _PLAN,
    _YES,
)
def replay(
    frame: Frame,
    deliveries: Sequence[str],
    all_quarantined: bool,
    vendor: str | None,
    why: str,
    by: str | None,
    only_plan: bool,
    yes: bool,
) -> int:
    """Read archived files again, under today's config.

    This is how a file is healed once the config is mended: a quarantined one loads, a loaded one is read anew. It keeps
    its place in the order of files. What still cannot be loaded stays as it was.
    """
    if bool(deliveries) == all_quarantined or (vendor is not None and not all_quarantined):
        raise UsageError("name the deliveries to read again, or use --all-quarantined, with or without --vendor")
    wanted = _wanted("replay", deliveries, why, by, all_quarantined=all_quarantined, vendor=vendor)
    return _carry_out(frame, wanted, only_plan=only_plan, yes=yes)


@command(
    _ONE,
    click.Option(["--with", "file"], required=True, metavar="FILE", type=click.Path(), help="The right file."),
    _WHY,
    _BY,
    _PLAN,
    _YES,
)
def correct(frame: Frame, delivery: str, file: str, why: str, by: str | None, only_plan: bool, yes: bool) -> int:
    """Put another file in the place of a delivery.

    The old one is taken back and the new one loaded in one batch, so that no reader sees the time between. The new file
    has the old one's name and place in the order. It is copied into the archive and stays where it is.
    """
    wanted = _wanted("correct", [delivery], why, by, file=Path(file))
    return _carry_out(frame, wanted, only_plan=only_plan, yes=yes)


@command(_IDS, _WHY_NOT, _BY, _PLAN, _YES)
def release(frame: Frame, deliveries: Sequence[str], why: str, by: str | None, only_plan: bool, yes: bool) -> int:
    """Load deliveries that are held."""
    return _carry_out(frame, _wanted("release", deliveries, why, by), only_plan=only_plan, yes=yes)


@command(_IDS, _WHY_NOT, _BY)
def refuse(frame: Frame, deliveries: Sequence[str], why: str, by: str | None) -> int:
    """Decide that held deliveries are not loaded."""
    return _carry_out(frame, _wanted("refuse", deliveries, why, by), only_plan=False, yes=True)


@command(_IDS, _WHY, _BY)
def dismiss(frame: Frame, deliveries: Sequence[str], why: str, by: str | None) -> int:
    """Say that files that were set aside need nobody."""
    return _carry_out(frame, _wanted("dismiss", deliveries, why, by), only_plan=False, yes=True)


@command(
    click.Option(["--apply"], is_flag=True, help="Do it; without, it only says what it takes."),
    click.Option(
        ["--replay"],
        is_flag=True,
        help="Name the archived files of which this contract accepts more; with --apply read them again.",
    ),
    _BY,
)
def migrate(frame: Frame, apply: bool, replay: bool, by: str | None) -> int:
    """Bring the tables to the contract in the config.

    Says what differs between the contract that the tables carry and the one in the config, and what it takes: columns
    to add, to fill from _rescued, to rename or to drop, types that change, another key or order. With --apply it is
    done, in one batch; a value that does not fit is NULL afterwards, and its text is in _rescued.

    With --apply --replay the batch after it reads quarantined files, and files with rejected rows, again where the
    contract accepts more of them now.
    """
    from ordertrail.cli import render_migration
    from ordertrail.mend.document import migration
    from ordertrail.mend.migration import migrate as bring

    config = frame.config()
    with frame.busy("comparing") as progress:
        report = bring(config, apply=apply, replay=replay, by=(by or user()).strip(), progress=progress)
    return frame.show(report, migration, render_migration.report, attention=bool(report.problems))


def _wanted(
    kind: str,
    ids: Sequence[str],
    why: str,
    by: str | None,
    *,
    file: Path | None = None,
    all_quarantined: bool = False,
    vendor: str | None = None,
) -> Wanted:
    from ordertrail.mend.corrections import Wanted
    from ordertrail.model import Correction, CorrectionKind

    correction = Correction(CorrectionKind(kind), tuple(ids), why.strip(), (by or user()).strip())
    if kind in ("undo", "redo", "correct", "dismiss") and not correction.why:
        raise UsageError("--why is blank", hint="say why in a few words: they stay with the delivery")
    return Wanted(correction, file, all_quarantined, vendor)


def _carry_out(frame: Frame, wanted: Wanted, *, only_plan: bool, yes: bool) -> int:
    """Show what a correction would do, or ask and do it."""
    from ordertrail.cli import document, render_mend
    from ordertrail.look.document import run_report
    from ordertrail.mend.corrections import correct as carry_out
    from ordertrail.pipeline import Pipeline

    config = frame.config()
    if only_plan:
        with frame.busy("planning"):
            found = _previewed(config, wanted)
        return frame.show(found, document.preview, render_mend.preview, attention=bool(found.report.warnings))
    if not yes and not _agreed(frame, lambda screen: render_mend.preview(screen, _previewed(config, wanted))):
        return 0
    with frame.busy("correcting"):
        report = carry_out(Pipeline(config), wanted)
    return frame.show(report, run_report, render_mend.report, attention=report.needs_person)


def _previewed(config: Config, wanted: Wanted) -> Preview:
    """What a correction would do. Its modules are imported here, since most corrections do not need them."""
    from ordertrail.mend.preview import preview

    return preview(config, wanted)


def _agreed(frame: Frame, show: Callable[[Screen], None]) -> bool:
    """Whether the person at the terminal agrees, once they have seen what would be done."""
    if frame.as_json or not on_terminal(sys.stdin) or not on_terminal(sys.stderr):
        raise UsageError(
            "a correction asks before it is made, and there is nobody to ask",
            hint="repeat it with --plan to see what it would do, then with --yes",
        )
    screen = Screen(terminal=True)
    show(screen)
    click.echo(screen.text, err=True)
    return click.confirm("Do this?", err=True)
