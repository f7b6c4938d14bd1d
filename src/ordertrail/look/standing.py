"""The state of a pipeline: what `status` says, and where it comes from.

Reads the logs, the deliveries and the names in the source folder. DuckDB and Arrow are imported only when a table needs
them: `ordertrail status` must answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.columns import Columns, unreadable
from ordertrail.delta.debt import commits_behind, debt_of, reasons
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot
from ordertrail.engines.local.consumers import lags
from ordertrail.engines.local.held import held
from ordertrail.engines.local.whole import log_warnings, progress_of, resets_of
from ordertrail.errors import OrdertrailError
from ordertrail.look import arrivals, rejecting, usual
from ordertrail.look.delivered import NEEDED, Delivered, SetAside, columns_in, delivered, doubts_in, kept_columns
from ordertrail.look.heartbeat import heard
from ordertrail.look.last_look import quiet_until
from ordertrail.look.open_items import NEXT_PASS, Facts, OpenItem, Waiting, asked_of, open_items
from ordertrail.look.space import low_spaces
from ordertrail.model import FoundFile
from ordertrail.rules.cadence import needed_back
from ordertrail.rules.filekey import clean_name, take
from ordertrail.rules.losses import ROLES
from ordertrail.rules.quiet import Quiet
from ordertrail.rules.tables import APP_ID
from ordertrail.sources.directory import UNARCHIVED, source_of
from ordertrail.sources.names import claiming
from ordertrail.sources.settling import NOT_SETTLED, STILL_OPEN

if TYPE_CHECKING:
    import pyarrow as pa

    from ordertrail.engines.spark.session import SparkSession

RECENT = 5
"""How many quarantined or held deliveries `Status` names."""


class Quarantined(Struct, frozen=True):
    """A quarantined or held delivery that needs a person, as `orders_deliveries` has it."""

    delivery_id: str
    vendor: str
    file_name: str
    batch: int
    reason: str | None
    archived_to: str | None


class TableDebt(Struct, frozen=True):
    """The debt of the tables, which `ordertrail maintain` reduces.

    Attributes:
        due: Whether the debt is above the limits of `[maintenance]`.
        reasons: Where it is above them, one line each.
        target_files: Data files of the target.
        target_small_files: Of these, small ones.
        target_deleted_rows: Rows in them that deletion vectors mark.
        target_deleted_share: Share of these among all rows in them, 0 to 1.
        history_files: Data files of the history.
        log_entries: Commits in the logs of the five tables.
    """

    due: bool
    reasons: tuple[str, ...]
    target_files: int
    target_small_files: int
    target_deleted_rows: int
    target_deleted_share: float
    history_files: int
    log_entries: int


class Status(Struct, frozen=True):
    """The state of a pipeline.

    Attributes:
        pipeline: The pipeline's name.
        engine: `embedded` or `spark`.
        last_batch: The last batch with the done mark; None before the first.
        last_loaded_at: Clock of the last batch that loaded a delivery; aware UTC.
        staged_batch_unfinished: A batch is staged and lacks the done mark: a pass runs, or one was cut short.
        target_version: Version of the target's log; None when there are no tables yet: no pass has run.
        target_rows: Live rows of the target.
        target_files: Its data files.
        target_bytes: Their size.
        history_rows: Live rows of the history.
        rejects_rows: Live rows of the rejects.
        deliveries: How many deliveries there are, by state; states without any are left out.
        quarantined_recent: The last `RECENT` quarantined or held deliveries that need a person, newest first.
        waiting_files: Files in the source that a vendor takes: a pass takes them now, or once they are complete.
        waiting: All files in the source but hidden ones, and claims that no batch owns.
        debt: The debt that maintenance would reduce.
        warnings: What could not be read, one line each.
        open_items: Everything that needs a person, as `ordertrail health` lists it.
        doubts: What speaks against rows of the last `RECENT` loaded deliveries with such doubts, one line each.
        quiet: What would change the open items; None where that is not known.
    """

    pipeline: str
    engine: str
    last_batch: int | None
    last_loaded_at: datetime | None
    staged_batch_unfinished: bool
    target_version: int | None
    target_rows: int
    target_files: int
    target_bytes: int
    history_rows: int
    rejects_rows: int
    deliveries: dict[str, int]
    quarantined_recent: tuple[Quarantined, ...]
    waiting_files: int
    waiting: tuple[Waiting, ...]
    debt: TableDebt
    warnings: tuple[str, ...] = ()
    open_items: tuple[OpenItem, ...] = ()
    doubts: tuple[str, ...] = ()
    quiet: Quiet | None = None


def standing(
    config: Config,
    snapshots: Mapping[str, Snapshot],
    came: Delivered | None = None,
    columns: Columns | None = None,
    *,
    service_expected: bool = False,
) -> Status:
    """Where a pipeline stands.

    Args:
        config: Of the pipeline.
        snapshots: Of its five tables, by name.
        came: What its deliveries say; None reads them.
        columns: Reads its deliveries, from memory where that has them; None reads the files.
        service_expected: Whether it needs a person when no service runs.
    """
    tables = {role: snapshots[getattr(config.tables, role)] for role in ROLES}
    target, deliveries, now = tables["target"], tables["deliveries"], datetime.now(UTC)
    app_id = deliveries.metadata.properties.get(APP_ID, "")
    stands, debt, damage = progress_of(tables, app_id), _debt(config, snapshots), log_warnings(tables, app_id)
    columns = columns or kept_columns(columns_in(deliveries))
    came = came or delivered(columns)
    waiting, warnings = waiting_in(config, now)
    many, owed = rejecting.rejecting(columns), () if warnings else _owed(config, columns, waiting, now)
    late = arrivals.late_vendors(owed, now)
    facts = replace(
        _around(config, waiting, warnings, service_expected=service_expected),
        deliveries=came.open,
        rejecting=many,
        late=late,
        usual=usual.usual_of(columns, asked_of(came.open, many, late)),
        debt=debt.reasons,
        damage=(*_resets(target, app_id, stands.loaded), *damage),
        contract=held(config, tables).differs,
        consumers=lags(config, DeltaLog(target.root), app_id),
    )
    return Status(
        pipeline=config.name,
        engine=config.engine,
        last_batch=stands.done or None,
        last_loaded_at=came.last_loaded_at,
        staged_batch_unfinished=stands.unfinished,
        target_version=target.version,
        target_rows=live_rows(target),
        target_files=len(target.files),
        target_bytes=sum(file.size_bytes for file in target.files.values()),
        history_rows=live_rows(tables["history"]),
        rejects_rows=live_rows(tables["rejects"]),
        deliveries=came.states,
        quarantined_recent=tuple(_quarantined(one) for one in came.open[:RECENT]),
        waiting_files=_takeable(waiting),
        waiting=waiting,
        debt=debt,
        warnings=(*warnings, *damage),
        open_items=open_items(config, facts, now),
        doubts=doubts_in(columns, RECENT),
        quiet=quiet_until(facts, owed, deliveries.version, app_id, now),
    )


def _around(config: Config, waiting: Sequence[Waiting], warnings: Sequence[str], *, service_expected: bool) -> Facts:
    """What is known without a look into the tables: the source folder, the service and the disks."""
    return Facts(
        waiting=waiting,
        source_trouble=next(iter(warnings), None),
        heartbeat=heard(config),
        service_expected=service_expected,
        spaces=tuple(low_spaces(config)),
    )


def not_begun(config: Config, *, service_expected: bool = False) -> Status:
    """The state of a pipeline without tables: nothing is loaded, and these files wait.

    Args:
        config: Of the pipeline.
        service_expected: Whether it needs a person when no service runs.
    """
    now = datetime.now(UTC)
    waiting, warnings = waiting_in(config, now)
    facts = _around(config, waiting, warnings, service_expected=service_expected)
    return Status(
        pipeline=config.name,
        engine=config.engine,
        last_batch=None,
        last_loaded_at=None,
        staged_batch_unfinished=False,
        target_version=None,
        target_rows=0,
        target_files=0,
        target_bytes=0,
        history_rows=0,
        rejects_rows=0,
        deliveries={},
        quarantined_recent=(),
        waiting_files=_takeable(waiting),
        waiting=waiting,
        debt=TableDebt(False, (), 0, 0, 0, 0.0, 0, 0),
        warnings=warnings,
        open_items=open_items(config, facts, now),
    )


def in_catalog(config: Config, session: SparkSession | None, *, service_expected: bool = False) -> tuple[OpenItem, ...]:
    """The open items of a pipeline whose tables only Spark reaches.

    Debt and disks are the catalog's; whether the target is the fold is told by each pass.

    Args:
        config: Of the pipeline.
        session: None uses the active one, or starts one.
        service_expected: Whether it needs a person when no service runs.
    """
    from ordertrail.engines.spark.reading import deliveries_of

    now = datetime.now(UTC)
    needed = {*NEEDED, *rejecting.NEEDED, *usual.NEEDED, *(arrivals.NEEDED if config.expectations else ())}
    rows = deliveries_of(config, session, sorted(needed))
    waiting, trouble = waiting_in(config, now)

    def columns(names: Sequence[str]) -> pa.Table:
        return rows.select(list(names))

    aside, many = delivered(columns).open, rejecting.rejecting(columns)
    late = () if trouble else arrivals.late_vendors(_owed(config, columns, waiting, now), now)
    facts = Facts(
        deliveries=aside,
        rejecting=many,
        usual=usual.usual_of(columns, asked_of(aside, many, late)),
        waiting=waiting,
        late=late,
        source_trouble=next(iter(trouble), None),
        heartbeat=heard(config),
        service_expected=service_expected,
    )
    return open_items(config, facts, now)


def _owed(config: Config, columns: Columns, waiting: Sequence[Waiting], now: datetime) -> tuple[arrivals.Owed, ...]:
    """What the vendors owe. What came is read only where a vendor is expected to send anything."""
    if not config.expectations:
        return ()
    return arrivals.owed_by(config, _came(config, columns, waiting, now, days=1), now)


def _came(
    config: Config, columns: Columns, waiting: Sequence[Waiting], now: datetime, *, days: int
) -> Mapping[str, arrivals.Came]:
    back = needed_back((one for _, one in config.expectations), days)
    # What could only not be archived is among the deliveries already.
    new = [file for file in waiting if file.reason != UNARCHIVED]
    return arrivals.came_by_vendor(columns, new, now=now, back=back)


def arrivals_in(
    config: Config, columns: Columns, *, days: int = arrivals.DAYS, now: datetime | None = None
) -> tuple[arrivals.Arrivals, ...]:
    """What came of each vendor, and what is expected.

    Args:
        config: Of the pipeline.
        columns: Reads the deliveries.
        days: How many days are told, today included; 1 or more.
        now: Aware UTC; None reads the clock.
    """
    now = now or datetime.now(UTC)
    waiting, trouble = waiting_in(config, now)
    came = _came(config, columns, waiting, now, days=days)
    return arrivals.arrivals_of(config, came, now, days=days, judged=not trouble)


def _takeable(waiting: Iterable[Waiting]) -> int:
    return sum(1 for file in waiting if file.reason in (NEXT_PASS, NOT_SETTLED, STILL_OPEN))


def waiting_in(config: Config, now: datetime | None = None) -> tuple[tuple[Waiting, ...], tuple[str, ...]]:
    """The files in the source folder by name, and what could not be read, one line each.

    Args:
        config: Of the pipeline.
        now: Aware UTC; None reads the clock.
    """
    now = now or datetime.now(UTC)
    try:
        discovery = source_of(config).discover(now)
    except OrdertrailError as error:
        return (), (str(error),)
    found = [Waiting(clean_name(file.path), file.vendor, NEXT_PASS, _at_rest_since(file)) for file in discovery.files]
    for skipped in discovery.skipped:
        since = None if skipped.since == now else skipped.since
        if since is None and claiming(skipped.file_name.rpartition("/")[2]) is not None:
            continue  # no pass has told of it: one is at work
        vendor = take(skipped.file_name, config.vendors)
        name = None if vendor is None else vendor.name
        found.append(Waiting(skipped.file_name, name, skipped.reason, since, skipped.needs_person))
    return tuple(sorted(found, key=lambda file: file.file_name)), ()


def _at_rest_since(file: FoundFile) -> datetime | None:
    """When a complete file was last changed, renamed or moved: since then it could have been loaded."""
    changed_ns = file.identity.ctime_ns  # 0 on a mount that makes it up
    return datetime.fromtimestamp(changed_ns // 10**9, UTC) if changed_ns else None


def _quarantined(one: SetAside) -> Quarantined:
    return Quarantined(one.delivery_id, one.vendor, one.file_name, one.batch, one.reason, one.archived_to)


def _resets(target: Snapshot, app_id: str, batch: int) -> tuple[str, ...]:
    with suppress(FileNotFoundError):  # an old entry was just cleaned up: then there is nothing new behind it
        return resets_of(target, DeltaLog(target.root), app_id, batch)
    return ()


def _debt(config: Config, snapshots: Mapping[str, Snapshot]) -> TableDebt:
    names, limits = config.tables, config.maintenance
    target = debt_of(snapshots[names.target], limits)
    logs = {name: DeltaLog(snapshot.root) for name, snapshot in snapshots.items()}
    due = [
        reason
        for name, snapshot in snapshots.items()
        if name != names.stage
        for reason in reasons(snapshot, limits, commits_behind(logs[name]))
    ]
    return TableDebt(
        due=bool(due),
        reasons=tuple(due),
        target_files=target.files,
        target_small_files=target.small_files,
        target_deleted_rows=target.deleted_rows,
        target_deleted_share=round(target.deleted_share, 4),
        history_files=len(snapshots[names.history].files),
        log_entries=sum(len(log.entries()[0]) for log in logs.values()),
    )


def live_rows(snapshot: Snapshot) -> int:
    """The number of rows of a table, from its log; for a file without statistics, from the file's footer."""
    total = 0
    for file in snapshot.files.values():
        rows = file.rows
        total += _footer_rows(snapshot.path_of(file)) if rows is None else rows
        if file.deletion_vector is not None:
            vector: dict[str, Any] = json.loads(file.deletion_vector)
            total -= int(vector["cardinality"])
    return total


def _footer_rows(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
