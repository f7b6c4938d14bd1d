"""Commands that keep the tables in order."""

from __future__ import annotations

from pathlib import Path

import click

from ordertrail.cli.frame import Frame, command


@command(
    click.Option(["--dry-run"], is_flag=True, help="Only say how many rows would differ; writes nothing."),
    click.Option(
        ["--history-from-archive"], is_flag=True, help="First write history and rejects anew from the archived files."
    ),
)
def rebuild(frame: Frame, dry_run: bool, history_from_archive: bool) -> int:
    """Write the target anew from the history.

    The cure for a target that is damaged, or that others wrote to: one commit, after which it holds what undisturbed
    passes would have built. What others wrote to it is gone. With --history-from-archive also the cure for history and
    rejects: the archived files, checked by their SHA-256, are loaded again, batch by batch.
    """
    from ordertrail.cli import document, render
    from ordertrail.keep.rebuild import rebuild as write_anew

    config = frame.config()
    with frame.busy("rebuilding") as progress:
        report = write_anew(config, dry_run=dry_run, from_archive=history_from_archive, progress=progress)
    return frame.show(report, document.rebuild, render.rebuild, attention=bool(report.warnings))


@command(
    click.Option(["--dry-run"], is_flag=True, help="Say what would be done, or what stands in its way."),
    click.Option(
        ["--doubled"],
        type=click.Choice(["refuse", "newest"]),
        default="refuse",
        show_default=True,
        help="What becomes of keys that are there more than once: newest keeps one row, by the order rules.",
    ),
)
def adopt(frame: Frame, dry_run: bool, doubled: str) -> int:
    """Take over a target that was there before ordertrail.

    For the engine spark. The audit columns are added, the rows are kept: they become batch 0, in the history too, so
    that the first pass orders and compares with them. The table is written again once.
    """
    from ordertrail.cli import render_adopt
    from ordertrail.engines.spark import adopt as adopting
    from ordertrail.look.document import adopted

    config = frame.config()
    with frame.busy("looking at the target" if dry_run else "adopting"):
        found = (adopting.survey if dry_run else adopting.adopt)(config, doubled=doubled)
    return frame.show(found, adopted, render_adopt.adopt, attention=bool(found.problems))


@command(click.Option(["--dry-run"], is_flag=True, help="Only say what would be done; writes nothing."))
def maintain(frame: Frame, dry_run: bool) -> int:
    """Compact the tables and delete what nobody needs.

    Small files and files with many deleted rows are written again, checkpoints are written, old entries of the log and
    files that no reader can still need are deleted. Passes and readers go on meanwhile. `ordertrail watch` does it by
    itself; how much debt is too much, and how long files stay, is said in [maintenance].
    """
    from ordertrail.cli import document, render
    from ordertrail.keep.maintain import maintain as pay

    config = frame.config()
    with frame.busy("maintaining") as progress:
        report = pay(config, dry_run=dry_run, progress=progress)
    return frame.show(report, document.maintain, render.maintain, attention=bool(report.warnings))


_FOLDER = click.Argument(["folder"], metavar="DIR", type=click.Path(path_type=Path))


@command(
    _FOLDER,
    click.Option(["--with-archive"], is_flag=True, help="Copy the archived files too."),
)
def backup(frame: Frame, folder: Path, with_archive: bool) -> int:
    """Back up the five tables into a new folder.

    With them go the markers of archive and source, and the config file. On the same file system files are linked: that
    takes no space, and later passes cannot harm them. DIR appears once all is complete and checked. A pass waits
    meanwhile.
    """
    from ordertrail.cli import backup_view, document
    from ordertrail.keep.backup import backup as take

    config = frame.config()
    with frame.busy("backing up") as progress:
        report = take(config, folder, config_file=frame.config_file, with_archive=with_archive, progress=progress)
    return frame.show(report, document.backup, backup_view.backup)


@command(
    _FOLDER,
    click.Option(["--force"], is_flag=True, help="Move tables that are there aside; nothing is deleted."),
)
def restore(frame: Frame, folder: Path, force: bool) -> int:
    """Put the five tables of a backup in their places.

    The backup's hashes are checked first. When it is killed, run it again: it goes on where it ended, and no pass
    begins before. Exits with 3 when archived files came after the backup: they are listed, to be loaded again.
    """
    from ordertrail.cli import backup_view, document
    from ordertrail.keep.restore import restore as put_back

    config = frame.config()
    with frame.busy("restoring") as progress:
        report = put_back(config, folder, force=force, progress=progress)
    attention = bool(report.unknown or report.warnings)
    return frame.show(
        report, document.restore, lambda screen, it: backup_view.restore(screen, it, config), attention=attention
    )
