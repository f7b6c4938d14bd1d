"""A backup and a restore, for people."""

from __future__ import annotations

import shlex

from ordertrail.cli.render import attention, plural
from ordertrail.cli.screen import Screen
from ordertrail.config import Config
from ordertrail.keep.backup import BackupReport
from ordertrail.keep.restore import RestoreReport
from ordertrail.rules.filekey import clean_name

_SHOWN = 10


def backup(screen: Screen, report: BackupReport) -> None:
    """`backup`."""
    size = f"{plural(report.files, 'file')}, {report.size_bytes / 1e6:,.1f} MB"
    screen.line(f"{report.pipeline}: batch {report.batch} is in {report.folder}, in {report.seconds:.2f} s", "bold")
    screen.line(f"{size}; {report.linked:,} of them linked, which takes no space")
    if not report.with_archive:
        screen.line("The archived files are not in it (--with-archive).", "dim")
    for note in report.notes:
        screen.line(f"{note}.")


def restore(screen: Screen, report: RestoreReport, config: Config) -> None:
    """`restore`.

    Args:
        screen: Where to write.
        report: What was restored.
        config: Names the folders that files must be copied between.
    """
    begun = "a restore that was cut short is finished: " if report.resumed else ""
    screen.line(f"{report.pipeline}: {begun}the tables are at batch {report.batch}, in {report.seconds:.2f} s", "bold")
    screen.line(f"from {report.folder}, made {report.made_at}")
    if report.aside is not None:
        screen.line(f"What was there before is in {report.aside}.")
    if report.archived:
        screen.line(f"{plural(report.archived, 'archived file')} put back.")
    attention(screen, report.warnings)
    if not report.unknown:
        return
    screen.line(f"{plural(len(report.unknown), 'archived file')} came after the backup; their rows are in no table.")
    screen.line("To load them again, copy each where its vendor's files go, then run ordertrail run:")
    for one in report.unknown[:_SHOWN]:
        archived = shlex.quote(clean_name(str(config.archive / one.archived_to)))
        target = config.source / (one.path or "VENDOR'S FOLDER")
        screen.line(f"  cp -p {archived} {shlex.quote(clean_name(str(target)))}")
    if len(report.unknown) > _SHOWN:
        screen.line(f"  and {len(report.unknown) - _SHOWN:,} more: --json")
