"""`ordertrail maintain`: reduces the debt of the five tables, while passes go on.

The plan is data: `--dry-run` prints exactly the steps that a run executes. Each step is independent, and every reader
reads the same rows before and after it; a kill between or within steps leaves files that the next maintenance sweeps.
The pipeline's lock is needed only for moments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar, assert_never

from msgspec import Struct, field

from ordertrail.config import Config
from ordertrail.delta.debt import Compaction, commits_behind, compactions
from ordertrail.delta.features import PROTECTED_BEFORE
from ordertrail.delta.log import DeltaLog, LogStore
from ordertrail.delta.log_cleanup import CleanUp, checkpoint, clean_up, plan_clean_up
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.delta.table import Table
from ordertrail.delta.vacuum import Sweep, plan_sweep, sweep
from ordertrail.engines.choice import placed
from ordertrail.engines.local.consumers import Lag, lags
from ordertrail.engines.local.find import is_indexed, open_index
from ordertrail.engines.local.held import held
from ordertrail.engines.local.incidents import incident_snapshot, incidents_id
from ordertrail.engines.local.session import Session, tables_of
from ordertrail.engines.local.whole import read_whole
from ordertrail.errors import TableError, UnsupportedTableError
from ordertrail.keep.compact import compact, tidy_index
from ordertrail.lock import maintenance_lock, pipeline_lock
from ordertrail.log import Log
from ordertrail.markers import require_tables
from ordertrail.model import Probe, no_probe
from ordertrail.parse.database import connected
from ordertrail.rules.tables import APP_ID, INCIDENTS
from ordertrail.scratch import SweepScratch, plan_scratch, scratch_folder, sweep_scratch

WAIT_S = 60.0
"""How long a step waits for a running pass, in seconds."""

CHECKPOINT_COMMITS = 10
"""A checkpoint is written when there were at least this many commits since the last one."""

_HOUR_S = 3600.0
_CLOCKS_S = 60.0  # a log entry is written a moment after the time that it gives to the files that it removes
_log = Log()


class Checkpoint(Struct, frozen=True):
    """Write a checkpoint of a table's newest version.

    Attributes:
        table: The table's plain name.
        commits: How many commits a reader must replay without it.
    """

    table: str
    commits: int


class TidyIndex(Struct, frozen=True):
    """Merge the runs of the target's key index.

    Attributes:
        table: The target's plain name.
    """

    table: str


Step = Compaction | Checkpoint | CleanUp | Sweep | TidyIndex | SweepScratch
"""One step, on one table except for the last kind."""

Found = TypeVar("Found")


class MaintenancePlan(Struct, frozen=True):
    """What maintenance would do, in order.

    Attributes:
        steps: The steps.
        warnings: What cannot be done, one line each.
    """

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()


class StepDone(Struct, frozen=True):
    """How a step of a plan ended.

    Attributes:
        step: The step.
        done: Whether it was carried out.
        note: Why it was not, or a remark.
        seconds: How long it took.
    """

    step: Step
    done: bool
    note: str
    seconds: float


class MaintenanceReport(Struct, frozen=True):
    """What maintenance did, or would do.

    Attributes:
        pipeline: The pipeline's name.
        dry_run: Nothing was done.
        steps: The steps of the plan, in order.
        warnings: What a person should know, one line each.
        seconds: How long all of it took.
    """

    pipeline: str
    dry_run: bool
    steps: tuple[StepDone, ...]
    warnings: tuple[str, ...]
    seconds: float


def plan_maintenance(config: Config) -> MaintenancePlan:
    """Plan the maintenance; writes nothing.

    Args:
        config: The pipeline's config.

    Raises:
        TableError: No pass has run yet, or a table is damaged.
    """
    now_s = time.time()
    config = placed(config)
    tables = tables_of(config)
    limits = config.maintenance
    steps: list[Step] = []
    warnings: list[str] = []
    read_whole(config)
    app_id = _app_id(tables.deliveries)
    for table in tables.all:
        snapshot = read_snapshot(table.log)
        try:
            snapshot.require_writable()
        except UnsupportedTableError as error:
            warnings.append(str(error))
            continue
        found = () if table is tables.stage else compactions(snapshot, limits)
        steps += found
        behind = commits_behind(table.log)
        if found or behind >= CHECKPOINT_COMMITS:
            steps.append(Checkpoint(table.root.name, behind))
        keep_from = _keep_from(table, app_id)
        unread = _unread(config, table.log, app_id, now_s) if table is tables.target else None
        if PROTECTED_BEFORE not in snapshot.metadata.properties:
            keep_from = keep_from if unread is None else min(keep_from, unread.version)
            steps += _some(plan_clean_up(table.log, keep_from, limits.log_retention_h * _HOUR_S, now_s))
        if table is not tables.stage:  # each batch sweeps the stage itself
            steps += _some(plan_sweep(table.log, _retention_s(config, unread, now_s), now_s))
        if table is tables.target and is_indexed(config, snapshot):
            steps.append(TidyIndex(table.root.name))
    steps += _of_incidents(config, app_id, now_s)
    steps += _some(plan_scratch(config))
    return MaintenancePlan(tuple(steps), tuple(warnings))


def _of_incidents(config: Config, app_id: str, now_s: float) -> list[Step]:
    """The steps on the table of incidents: each change of it replaces its one file, so there is nothing to compact."""
    table = _incidents(config)
    if table is None:
        return []
    limits, behind = config.maintenance, commits_behind(table.log)
    steps: list[Step] = [Checkpoint(table.root.name, behind)] if behind >= CHECKPOINT_COMMITS else []
    keep_from = _keep_from(table, incidents_id(app_id))
    steps += _some(plan_clean_up(table.log, keep_from, limits.log_retention_h * _HOUR_S, now_s))
    return steps + _some(plan_sweep(table.log, limits.retention_h * _HOUR_S, now_s))


def _incidents(config: Config) -> Table | None:
    if incident_snapshot(config) is None:
        return None
    return Table(config.table_path(config.incidents), INCIDENTS)


def maintain(
    config: Config,
    plan: MaintenancePlan | None = None,
    *,
    dry_run: bool = False,
    probe: Probe = no_probe,
    store: LogStore | None = None,
    progress: Callable[[str], None] = no_probe,
) -> MaintenanceReport:
    """Maintain the tables of a pipeline.

    Args:
        config: Of the pipeline.
        plan: From `plan_maintenance`; None creates one.
        dry_run: Whether to create only the plan.
        probe: Called after every effect with its name; for fault tests.
        store: Where commits are written; for tests of failing commits.
        progress: Called with a short description before each step.

    Raises:
        PassRunningError: Maintenance is already running, or a pass took longer than `WAIT_S`.
        OrdertrailError: Something went wrong; the tables are intact, and another run goes on from there.
    """
    began = time.perf_counter()
    config = placed(config)
    if dry_run:
        plan = plan_maintenance(config) if plan is None else plan
        planned = tuple(StepDone(step, False, "", 0.0) for step in plan.steps)
        return MaintenanceReport(config.name, True, planned, plan.warnings, time.perf_counter() - began)
    require_tables(config)
    with maintenance_lock(config):
        plan = plan_maintenance(config) if plan is None else plan
        with _session(config, probe, store) as session:
            run = _Run(session, lambda: pipeline_lock(config, wait_s=WAIT_S))
            for step in plan.steps:
                progress(describe(step))
                run.carry_out(step)
    return MaintenanceReport(
        config.name, False, tuple(run.done), (*plan.warnings, *run.warnings), time.perf_counter() - began
    )


def word(step: Step) -> str:
    """The kind of a step, as one word for programs."""
    match step:
        case Compaction():
            return "compact"
        case Checkpoint():
            return "checkpoint"
        case CleanUp():
            return "clean_up"
        case Sweep():
            return "vacuum"
        case TidyIndex():
            return "tidy_index"
        case SweepScratch():
            return "sweep_scratch"
        case _:
            assert_never(step)


def describe(step: Step) -> str:
    """A step in a few words."""
    match step:
        case Compaction():
            return f"write {_count(len(step.files), 'file')} of {step.table} again: {step.reason}"
        case Checkpoint():
            return f"write a checkpoint of {step.table}"
        case CleanUp():
            return f"delete {_count(len(step.names), 'old log entry')} of {step.table}"
        case Sweep():
            return f"delete {_count(len(step.files), 'file')} of {step.table} that nobody needs"
        case TidyIndex():
            return f"tidy the key index of {step.table}"
        case SweepScratch():
            return f"delete {_count(len(step.paths), 'file')} that killed commands left"
        case _:
            assert_never(step)


class _Run(Struct):
    """A plan being carried out."""

    session: Session
    locked: Callable[[], AbstractContextManager[None]]
    done: list[StepDone] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def carry_out(self, step: Step) -> None:
        began = time.perf_counter()
        try:
            note = self._do(step)
        except UnsupportedTableError as error:
            self.warnings.append(str(error))
            note = error.message
        seconds = round(time.perf_counter() - began, 4)
        self.done.append(StepDone(step, note is None, note or "", seconds))
        _log.debug("maintenance", step=describe(step), note=note or "done", seconds=seconds)

    def _do(self, step: Step) -> str | None:
        """Carry out a step; returns the reason when it is not needed or not possible."""
        if isinstance(step, SweepScratch):
            with self.locked():
                gone = sweep_scratch(step)
            self.session.probe("maintain.scratch")
            return None if gone == len(step.paths) else f"{len(step.paths) - gone} are in use, or cannot be deleted"
        tables = (*self.session.tables.all, *_some(_incidents(self.session.config)))
        table = next(one for one in tables if one.root.name == step.table)
        match step:
            case Compaction():
                return compact(self.session, table, step, self.locked)
            case Checkpoint():
                return self._checkpoint(table)
            case CleanUp():
                return self._clean_up(table, step)
            case Sweep():
                return self._sweep(table, step)
            case TidyIndex():
                tidy_index(self.session, table.snapshot())
                return None
            case _:
                assert_never(step)

    def _checkpoint(self, table: Table) -> str | None:
        try:
            note = checkpoint(table.log)
        except UnsupportedTableError:
            raise
        except TableError as error:
            self.warnings.append(str(error))
            note = error.message
        self.session.probe("maintain.checkpoint")
        return note

    def _clean_up(self, table: Table, step: CleanUp) -> str | None:
        with self.locked():
            if _unfinished(self.session):
                return "a batch is not finished yet: run a pass first"
            try:
                clean_up(table.log, step, self.session.probe)
            except UnsupportedTableError:
                raise
            except TableError as error:
                self.warnings.append(str(error))
                return error.message
        return None

    def _sweep(self, table: Table, step: Sweep) -> str | None:
        config, app_id = self.session.config, self.session.app_id
        with self.locked():
            # The pass that finishes the batch reads the target as the batch left it, whatever was written since.
            if _unfinished(self.session):
                return "a batch is not finished yet: run a pass first"
            now_s = time.time()
            unread = _unread(config, table.log, app_id, now_s) if table is self.session.tables.target else None
            gone = sweep(table.log, step, _retention_s(config, unread, now_s), now_s, self.session.probe)
        return None if gone == len(step.files) else f"{len(step.files) - gone} files are needed again, or gone"


@contextmanager
def _session(config: Config, probe: Probe, store: LogStore | None) -> Iterator[Session]:
    # Files are compacted and indexed by the columns and the key that the tables have.
    config = held(config, read_whole(config)).config
    tables = tables_of(config, store)
    target = read_snapshot(tables.target.log)
    index = open_index(config, target) if is_indexed(config, target) else None
    try:
        with (
            scratch_folder(config.warehouse, "maintain") as spill,
            connected(config.threads, config.memory_limit_mb, spill) as con,
            ThreadPoolExecutor(max_workers=1) as pool,
        ):
            # Key hashes use the salt of the session's index.
            yield Session(config, con, pool, tables, _app_id(tables.deliveries), probe, index)
    finally:
        if index is not None:
            index.close()


def _app_id(table: Table) -> str:
    return read_snapshot(table.log).metadata.properties.get(APP_ID, "")


def _keep_from(table: Table, app_id: str) -> int:
    """The oldest version that must stay readable: the one before the last batch's commit."""
    newest = 0
    for version, actions in table.log.backwards():
        newest = max(newest, version)
        txns = [action["txn"] for action in actions if isinstance(action.get("txn"), dict)]
        if any(isinstance(txn, dict) and txn.get("appId") == app_id for txn in txns):
            return max(0, version - 1)
    return newest


def _unread(config: Config, log: DeltaLog, app_id: str, now_s: float) -> Lag | None:
    """The consumer of the changes that is furthest behind, of those for which versions of the target are kept."""
    since = datetime.fromtimestamp(now_s, UTC) - timedelta(days=config.maintenance.consumer_keep_d)
    return min((one for one in lags(config, log, app_id) if one.since > since), key=lambda one: one.since, default=None)


def _retention_s(config: Config, unread: Lag | None, now_s: float) -> float:
    """How long files stay that the newest version does not need, in seconds."""
    retention_s = config.maintenance.retention_h * _HOUR_S
    return retention_s if unread is None else max(retention_s, now_s - unread.since.timestamp() + _CLOCKS_S)


def _unfinished(session: Session) -> bool:
    """Whether a batch is staged and lacks the done mark."""
    staged, done = (
        read_snapshot(table.log).last_txn(session.app_id) for table in (session.tables.stage, session.tables.deliveries)
    )
    return staged > done


def _some(one: Found | None) -> list[Found]:
    return [] if one is None else [one]


def _count(count: int, word: str) -> str:
    many = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count:,} {word if count == 1 else many}"
