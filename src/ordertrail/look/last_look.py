"""What the last look at the open items found, in a small file, so that a pass that changes nothing need not look again.

A derived file, never the truth: it names the versions of the tables that it speaks of, and who finds it missing,
damaged, or of other versions looks at everything. Its first line is the look; passes that changed nothing add lines
with the versions of the deliveries that they made. This module imports nothing that a pass has not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.config.rights import umask_of
from ordertrail.delta.log import DeltaLog
from ordertrail.errors import TableError
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.look.space import low_spaces
from ordertrail.model import RunReport
from ordertrail.rules.quiet import Quiet, earliest, may_change, told_of

if TYPE_CHECKING:
    from ordertrail.look.arrivals import Owed
    from ordertrail.look.open_items import Facts
    from ordertrail.rules.incidents import Incident

AT_LEAST_EVERY = timedelta(hours=1)
"""What no report of a pass tells, such as debt and consumers that are behind, is looked at this often."""

_MOST_COMMITS = 4
"""A pass commits the deliveries twice: the done mark, and the mark that its files are archived."""


_FORM = 1
"""Of the file, and of what follows from it; another number makes every file one of another config."""


class LastLook(Struct, frozen=True):
    """What the last look found.

    Attributes:
        config: What the config was, see `_fingerprint`.
        quiet: What would change the open items.
        incidents: The version of the table of incidents; None when there is none.
        told: What the pass before it said, see `told_of`.
    """

    config: str
    quiet: Quiet
    incidents: int | None
    told: tuple[str, ...]


def quiet_until(facts: Facts, owed: Sequence[Owed], deliveries: int, app_id: str, now: datetime) -> Quiet | None:
    """What would change the open items that follow from some facts.

    Args:
        facts: As they are.
        owed: What the vendors owe.
        deliveries: The version of the deliveries.
        app_id: Of the pipeline's tables.
        now: Aware UTC.

    Returns:
        None where something is open that may close without a trace in a report: then everything is looked at again.
    """
    if facts.source_trouble or facts.contract or facts.damage or facts.spaces:
        return None
    due = [one.due.late_from for one in owed if one.due is not None and one.due.late_from > now]
    vendors = {
        *(one.vendor for one in facts.late),
        *(one.vendor for one in facts.rejecting),
        # A file of these may bring the next deadline nearer, or be the first one to have any.
        *(one.vendor for one in owed if one.due is None or one.expectation.kind == "learned"),
    }
    return Quiet(
        app_id,
        deliveries,
        now,
        earliest(now + AT_LEAST_EVERY, due),
        tuple(sorted((one.vendor, one.sha256) for one in facts.deliveries)),
        tuple(sorted(vendors)),
    )


def last_look_path(config: Config) -> Path:
    """The file of a pipeline's last look."""
    return config.warehouse / f".ordertrail-{config.catalog}.{config.schema}.{config.tables.target}.looked"


def remember(
    config: Config, quiet: Quiet | None, report: RunReport, version: int | None, incidents: Sequence[Incident]
) -> None:
    """Keep what a look found after a pass. What cannot be written is not kept.

    Args:
        config: Of the pipeline.
        quiet: From the look; None keeps nothing.
        report: Of the pass.
        version: Of the table of incidents, after messages were sent; None when there is none.
        incidents: What it holds.
    """
    if quiet is None or config.by_name or heartbeat_path(config).exists():
        return  # a service may begin to fail at any time, and one that has died is an item
    posts = [post.next_at or quiet.at for one in incidents for post in one.posts if post.waiting]
    reminders = [one.remind_at for one in incidents if one.open]
    quiet = replace(quiet, until=earliest(quiet.until, [*posts, *reminders]))
    look = LastLook(_fingerprint(config), quiet, version, told_of(report, quiet.at, config.waiting_warn_h))
    path = last_look_path(config)
    fresh = path.with_name(f"{path.name}.new")
    with suppress(OSError), umask_of(config):
        fresh.write_bytes(msgspec.json.encode(look) + b"\n")
        fresh.replace(path)


def nothing_new(config: Config, report: RunReport, now: datetime | None = None) -> bool:
    """Whether a pass has certainly left the open items and the incidents as the last look found them.

    Args:
        config: Of the pipeline.
        report: Of the pass.
        now: Aware UTC; None reads the clock.
    """
    if config.by_name:
        return False
    now = now or datetime.now(UTC)
    with suppress(OSError, ValueError), last_look_path(config).open("r+b", buffering=0) as file:
        look = _parts(file.read())
        newest = unchanged(config, look.quiet, report, now)
        if newest is None or not _holds(config, look, report, now):
            return False
        if newest != look.quiet.deliveries:
            # Behind what was read: to give another file the name would wait for the disk.
            file.write(b"%d\n" % newest)
        return True
    return False


def unchanged(config: Config, quiet: Quiet, report: RunReport, now: datetime) -> int | None:
    """The newest version of the deliveries, when nothing has changed the open items that a look found.

    Args:
        config: Of the pipeline.
        quiet: From the look.
        report: Of the pass since; only its batch may have changed the deliveries.
        now: Aware UTC.

    Returns:
        None when something may have changed them.
    """
    if not quiet.at <= now < quiet.until or may_change(quiet, report):
        return None
    log = DeltaLog(config.table_path(config.tables.deliveries))
    with suppress(FileNotFoundError, TableError):
        return _only_of(quiet, log, report.batch)
    return None


def _only_of(quiet: Quiet, log: DeltaLog, batch: int | None) -> int | None:
    """The newest version of the deliveries, where one batch alone has changed them since a look."""
    ours: Sequence[tuple[object, object]] = ((quiet.app_id, batch), (f"{quiet.app_id}.archive", batch))
    newest = quiet.deliveries
    if not log.has(newest):
        return None
    while log.has(newest + 1):
        newest += 1
        marks = [mark for action in log.read(newest) if isinstance(mark := action.get("txn"), dict)]
        known = marks and all((one.get("appId"), one.get("version")) in ours for one in marks)
        if newest > quiet.deliveries + _MOST_COMMITS or not known:
            return None
    return newest


def _holds(config: Config, look: LastLook, report: RunReport, now: datetime) -> bool:
    """Whether all that a look goes by but the deliveries is as it was."""
    return (
        look.told == told_of(report, now, config.waiting_warn_h)
        and look.config == _fingerprint(config)
        and not heartbeat_path(config).exists()
        and not any(low_spaces(config))
        and _same_incidents(config, look.incidents)
    )


def _same_incidents(config: Config, version: int | None) -> bool:
    log = DeltaLog(config.table_path(config.incidents))
    return not log.exists() if version is None else log.has(version) and not log.has(version + 1)


def _fingerprint(config: Config) -> str:
    """Tells configs apart, but for secrets."""
    expected = [
        (name, replace(one, holidays=frozenset()), sorted(one.holidays))  # a set is in another order in each process
        for name, one in config.expectations
    ]
    text = repr((_FORM, replace(config, expectations=()), expected))
    return hashlib.sha256(text.encode()).hexdigest()


def _parts(text: bytes) -> LastLook:
    """The look, with the newest version of the deliveries for which a pass found it to hold.

    Raises:
        ValueError: The file is damaged.
    """
    first, *versions = text.splitlines()
    look = msgspec.json.decode(first, type=LastLook)
    newest = max((look.quiet.deliveries, *map(int, versions)))
    return replace(look, quiet=replace(look.quiet, deliveries=newest))
