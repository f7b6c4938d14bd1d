"""One pass: recover, discover, stage, load, record, archive. This is the one place that orders effects.

Their order makes a kill at any instant harmless:

1. finish the batch that is staged but lacks the done mark, with the same code as any other;
2. decide everything about the next batch once, and commit it with the rows to the stage;
3. load, record, and only then, after the done mark, touch the vendors' files.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from msgspec.structs import asdict

from ordertrail.config import Config
from ordertrail.engines.base import Engine, Ledger, Staged, StageRequest
from ordertrail.engines.choice import engine_of, placed
from ordertrail.errors import CommitConflictError, FileChangedError, OrdertrailError, SourceError, StorageError
from ordertrail.lock import make_warehouse, pipeline_lock
from ordertrail.log import Log
from ordertrail.markers import Belonging, archived_last, refuse_lost_tables
from ordertrail.model import (
    Batch,
    CorrectionReport,
    DeliveryReport,
    FoundFile,
    Probe,
    RowCounts,
    RunReport,
    Skipped,
    no_probe,
)
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.doubts import doubted
from ordertrail.rules.filekey import clean_name
from ordertrail.rules.noticed import noticed
from ordertrail.rules.planning import Candidate, LoadedFile, bounded, candidate_of, repeats
from ordertrail.rules.reports import correction_report, delivery_report
from ordertrail.rules.waiting import waiting_warnings
from ordertrail.sources.archiving import Archiving
from ordertrail.sources.base import Discovery, Source
from ordertrail.sources.directory import source_of
from ordertrail.sources.notes import Notes, notes_path
from ordertrail.trace import note, timed, traced_pass

if TYPE_CHECKING:
    from ordertrail.engines.local.change_rows import Changes
    from ordertrail.engines.local.reading import TableRows

HASH_ASIDE_BYTES = 64 << 20
"""Files of at least this size are hashed in a thread of their own while they are parsed."""

PATIENCE_S = 60.0
"""Longest time a pass waits for files that need a second look, in seconds; see `sources.settling`."""

CORRECTION_WAITS_S = 60.0
"""How long a correction waits for a pass that runs, in seconds: `watch` may always be in one."""

LOAD_ATTEMPTS = 5
"""How often a load is computed again when another writer takes the target's next version."""

_log = Log()

Ask = Callable[[Batch, Engine], StageRequest]
"""Says what to stage for a correction, or raises; gets its batch, without manifests, and the open engine, to read."""


class Pipeline:
    """A pipeline as its config describes it.

    Args:
        config: From `load_config`.
        probe: Called after every effect with its name; for fault tests.
        engine: Creates the engine of a pass; None uses the config's.
        source: Where the files are; None uses the config's folder.
        notes: What passes remember about the files, shared with the source; None uses the notes below the warehouse.
        patience_s: How long a pass waits, in seconds, when only a second look can tell whether a file is at rest.
        sleep: Sleeps for a number of seconds.
    """

    def __init__(
        self,
        config: Config,
        *,
        probe: Probe = no_probe,
        engine: Callable[[Config, Probe], Engine] | None = None,
        source: Source | None = None,
        notes: Notes | None = None,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.probe = probe
        self._new_engine = engine or engine_of
        self.notes = notes or Notes(notes_path(config))
        self.source = source or source_of(config, self.notes)
        self.patience_s = patience_s
        self.sleep = sleep

    def run(self, complete: frozenset[str] = frozenset()) -> RunReport:
        """Run one whole pass.

        Args:
            complete: Paths below the source that the system reported as closed; the settle rule does not apply to them.

        Raises:
            PassRunningError: Another pass is running; nothing was done.
            OrdertrailError: Something went wrong; every error leaves the tables in a state from which the next pass
                goes on.
        """
        with self._open() as job:
            job.finish_staged()
            job.finish_archiving()
            staged = job.stage_next(complete)
            if staged is not None:
                job.finish(staged)
            return job.report()

    def stage(self, complete: frozenset[str] = frozenset()) -> RunReport:
        """Run steps 1 to 3 of a pass: finish what is staged, then stage the next batch. The first notebook."""
        with self._open() as job:
            job.finish_staged()
            job.finish_archiving()
            staged = job.stage_next(complete)
            return job.report(staged)

    def load(self) -> RunReport:
        """Run steps 4 to 6 of a pass for the staged batch, if it is not done. The second notebook calls this."""
        with self._open() as job:
            job.finish_staged(recovery=False)
            return job.report()

    def target(self) -> TableRows:
        """The latest state of every shipment: `.to_arrow()`, `.to_pandas()`, `.to_polars()`, or lazily `.scan()`."""
        return self._rows("target")

    def history(self) -> TableRows:
        """Every row that was ever accepted, with its outcome; read as `target`."""
        return self._rows("history")

    def deliveries(self) -> TableRows:
        """Every file that came, with what became of it; read as `target`."""
        return self._rows("deliveries")

    def rejects(self) -> TableRows:
        """Every cell, row and file that was rejected, and why; read as `target`."""
        return self._rows("rejects")

    def changes(self, from_batch: int | None = None, to_batch: int | None = None, *, net: bool = False) -> Changes:
        """What batches changed in the target, by batch and key; iterate over it, or over its `.batches()`.

        Args:
            from_batch: `.next_batch` of the last call; None means the first of all.
            to_batch: The last batch, inclusive; None means the newest.
            net: Whether to give one change a key over all of them.
        """
        from ordertrail.engines.local.change_rows import changes

        return changes(placed(self.config), from_batch, to_batch, net=net)

    def _rows(self, role: str) -> TableRows:
        from ordertrail.engines.local.reading import table_rows

        return table_rows(placed(self.config), role)

    def correct(self, ask: Ask, *, locked: bool = False) -> RunReport:
        """Carry out a correction, as a batch of its own; what an earlier pass left is finished first.

        Args:
            ask: Says what to stage; `mend` has one for each kind of correction. When it raises, nothing is written.
            locked: Whether the caller holds the pipeline's lock.

        Raises:
            PassRunningError: Another pass is still running after a minute; nothing was done.
            OrdertrailError: As `run`.
        """
        with self._open(None if locked else CORRECTION_WAITS_S) as job:
            job.finish_staged()
            job.finish_archiving()
            job.finish(job.stage_correction(ask))
            return job.report()

    @contextmanager
    def _open(self, wait_s: float | None = 0.0) -> Iterator[_Pass]:
        refuse_lost_tables(self.config)
        make_warehouse(self.config)
        lock = nullcontext() if wait_s is None else pipeline_lock(self.config, wait_s=wait_s)
        with lock, traced_pass(pipeline=self.config.name, engine=self.config.engine):
            engine = self._new_engine(self.config, self.probe)
            hashing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ordertrail-hash")
            self.notes.load()
            try:
                yield _Pass(self, engine, hashing)
            finally:
                self.notes.save()
                hashing.shutdown(wait=True, cancel_futures=True)
                engine.close()


class _Pass:
    """A running pass: what was done so far, and how long it took."""

    def __init__(self, pipeline: Pipeline, engine: Engine, hashing: Executor) -> None:
        self._pipeline = pipeline
        self._config = pipeline.config
        self._hashing = hashing
        self._engine = engine
        self._source = pipeline.source
        self._notes = pipeline.notes
        self._probe = pipeline.probe
        self._archiving = Archiving(self._source, self._notes, self._probe)
        self._started = time.perf_counter()
        self._seconds = dict.fromkeys(("discover", "stage", "load", "archive"), 0.0)
        belonging = Belonging(self._config)
        self._ledger: Ledger = engine.open(belonging)
        belonging.enter(self._ledger.app_id, self._archived_last, self._probe)
        self._warnings = list(self._ledger.warnings)
        self._noticed = list(self._ledger.notes)
        self._added: list[str] = []
        self._deliveries: list[DeliveryReport] = []
        self._skipped: list[Skipped] = []
        self._unreadable: dict[str, str] = {}
        self._recovered = False
        self._batch: int | None = None
        self._corrected: CorrectionReport | None = None

    # -- steps ----------------------------------------------------------------------------------------------

    def finish_staged(self, *, recovery: bool = True) -> None:
        """Finish the batch in the stage if it lacks the done mark; archive what it has not archived yet."""
        if self._ledger.staged > self._ledger.done:
            batch = self._engine.staged()
            _log.info("finishing the staged batch", batch=batch.number)
            self._recovered = recovery
            self.finish(batch)
        elif self._ledger.staged > self._ledger.archived:
            with timed(self._seconds, "archive"):
                self._archive(self._engine.staged())

    def finish_archiving(self) -> None:
        """Archive what earlier passes could not, and check again files whose writers may not have finished."""
        with timed(self._seconds, "archive"):
            moved = self._archiving.again(datetime.now(UTC))
            try:
                if moved:
                    self._engine.archived(Batch(self._ledger.archived, uuid.uuid4().hex, datetime.now(UTC), ()), moved)
            except OrdertrailError:
                self._archiving.undone()
                raise
            self._archiving.settled()

    def stage_next(self, complete: frozenset[str]) -> Batch | None:
        """Discover, plan and stage the next batch; None when nothing is waiting."""
        with timed(self._seconds, "discover"):
            clock, discovery = self._discover(complete)
            self._skipped += discovery.skipped
            self._warnings += waiting_warnings(discovery.skipped, clock, self._config.waiting_warn_h)
            number = 1 + max(self._ledger.highest, self._batch or 0)
            candidates = self._candidates(discovery.files, number)
        if not candidates:
            return None
        with timed(self._seconds, "stage"):
            batch = Batch(number, uuid.uuid4().hex, clock, ())
            known = self._engine.loaded_files([c.identity.size_bytes for c in candidates])
            duplicates, held = repeats(candidates, known)
            self._probe("plan.decided")
            staged = self._stage(batch, candidates, duplicates, held)
        for candidate in staged.changed:
            self._leave(candidate.path)
        self._notes.forget(manifest.path for manifest in staged.batch.manifests)
        return staged.batch if staged.batch.manifests else None

    def stage_correction(self, ask: Ask) -> Batch:
        """Stage a correction: what `ask` says of the deliveries that are there."""
        with timed(self._seconds, "stage"):
            batch = Batch(1 + max(self._ledger.highest, self._batch or 0), uuid.uuid4().hex, datetime.now(UTC), ())
            request = ask(batch, self._engine)
            self._probe("plan.decided")
            return self._staged(request).batch

    def finish(self, batch: Batch) -> None:
        """Load, record and archive a staged batch."""
        with timed(self._seconds, "load"):
            counts = self._load(batch)
            self._engine.record(batch, counts)
        self._batch = batch.number
        self._noticed += noticed(batch.manifests, self._config.vendors)
        with timed(self._seconds, "archive"):
            archived = self._archive(batch)
        if (corrects := batch.corrects) is not None:
            self._corrected = correction_report(corrects, counts[corrects.delivery_id], appends=self._config.appends)
        for manifest in batch.files:
            report = delivery_report(manifest, counts[manifest.delivery_id], archived[manifest.delivery_id])
            self._deliveries.append(report)
            _log.info(
                "delivery",
                file=report.file_name,
                vendor=report.vendor,
                state=str(report.state),
                batch=batch.number,
                parsed=report.rows.parsed,
                rejected=report.rows.rejected,
            )

    def report(self, staged: Batch | None = None) -> RunReport:
        """What the pass did. A batch that was only staged is reported with its rejects but without outcomes."""
        if staged is not None:
            self._batch = staged.number
            self._noticed += noticed(staged.manifests, self._config.vendors)
            for one in staged.files:
                rows = RowCounts(one.rows_parsed, rejected=one.rows_rejected, duplicate=one.rows_duplicate)
                self._deliveries.append(delivery_report(one, rows, None))
        total = time.perf_counter() - self._started
        rows = sum((d.rows for d in self._deliveries), RowCounts())
        vendors = len({one.vendor for one in self._deliveries})
        note(batch=self._batch, deliveries=len(self._deliveries), vendors=vendors, recovered=self._recovered)
        note(**{f"rows.{outcome}": count for outcome, count in asdict(rows).items()})
        return RunReport(
            pipeline=self._config.name,
            engine=self._config.engine,
            batch=self._batch,
            recovered=self._recovered,
            rows=rows,
            deliveries=tuple(self._deliveries),
            skipped=(*self._archiving.skipped, *self._skipped),
            warnings=(*self._warnings, *self._archiving.warnings, *doubted(self._deliveries)),
            seconds={name: round(s, 4) for name, s in (*self._seconds.items(), ("total", total))},
            notes=tuple(dict.fromkeys(self._noticed)),
            correction=self._corrected,
            added_columns=tuple(self._added),
        )

    # -- parts ----------------------------------------------------------------------------------------------

    def _archived_last(self) -> bool:
        """Whether the files archived last are in the archive, if there are any."""
        ledger = self._ledger
        if not ledger.staged:
            return True
        paths = [one.archive_path for one in self._engine.staged().manifests if not one.archived]
        return archived_last(self._config.archive, paths if ledger.archived >= ledger.staged else (), ledger.staged)

    def _candidates(self, files: Sequence[FoundFile], batch: int) -> list[Candidate]:
        vendors = {vendor.name: vendor for vendor in self._config.vendors}
        hashes = {vendor.name: contract_hashes(self._config.contract, vendor) for vendor in self._config.vendors}
        found: list[Candidate] = []
        for file in files:
            try:
                digest = self._digest(file)
                if self._source.identify(file.path) != file.identity:
                    raise FileChangedError(f"{clean_name(file.path)} changed while it was read")
            except FileChangedError:
                self._leave(file.path)
            except (SourceError, StorageError) as error:
                self._unreadable[file.path] = str(error)
                self._leave(file.path)
            else:
                vendor = vendors[file.vendor]
                found.append(candidate_of(file, vendor, (batch, len(found)), digest, hashes[vendor.name]))
        return bounded(found, self._config.volumes, self._config.shares, self._engine.recent_rows)

    def _discover(self, complete: frozenset[str]) -> tuple[datetime, Discovery]:
        """List the source, twice when only a second look can tell whether a file is at rest; and when that was."""
        clock = datetime.now(UTC)
        discovery = self._source.discover(clock, complete)
        if discovery.rest_s is not None and discovery.rest_s <= self._pipeline.patience_s:
            self._pipeline.sleep(discovery.rest_s)
            clock = datetime.now(UTC)
            discovery = self._source.discover(clock, complete)
        return clock, discovery

    def _digest(self, file: FoundFile) -> str | Future[str]:
        if file.identity.size_bytes < HASH_ASIDE_BYTES:
            return self._source.sha256(file.path)
        return self._hashing.submit(self._hash_aside, file.path)

    def _hash_aside(self, path: str) -> str:
        """The hash of a large file; None when it cannot be read: then it drops out as a small one does."""
        try:
            return self._source.sha256(path)
        except FileChangedError:
            return ""
        except (SourceError, StorageError) as error:
            self._unreadable[path] = str(error)
            return ""

    def _leave(self, path: str) -> None:
        """Report that a file was not read to its end."""
        name = clean_name(path)
        why = self._unreadable.get(path)
        self._skipped.append(Skipped(name, "changed while it was read" if why is None else why))
        if why is not None:
            self._warnings.append(f"{name}: {why}")

    def _stage(
        self,
        batch: Batch,
        candidates: Sequence[Candidate],
        duplicates: Mapping[int, LoadedFile],
        held: Mapping[int, str],
    ) -> Staged:
        def open_file(candidate: Candidate) -> BinaryIO:
            try:
                return self._source.open(candidate.path)
            except (SourceError, StorageError) as error:
                self._unreadable[candidate.path] = str(error)
                raise FileChangedError(error.message) from error

        def unchanged(candidate: Candidate) -> bool:
            try:
                return bool(candidate.sha256) and self._source.identify(candidate.path) == candidate.identity
            except FileChangedError:
                return False
            except (SourceError, StorageError) as error:
                self._unreadable[candidate.path] = str(error)
                return False

        return self._staged(StageRequest(batch, candidates, open_file, unchanged, duplicates, held=held))

    def _staged(self, request: StageRequest) -> Staged:
        """Add the columns that the files bring, in commits of their own (ADR 27); then stage them."""
        brought = self._engine.widen(request)
        if brought.columns:
            _log.info("columns added to the tables", columns=list(brought.names))
        self._added += brought.names
        self._noticed += brought.notes
        return self._engine.stage(request)

    def _load(self, batch: Batch) -> Mapping[str, RowCounts]:
        for _ in range(LOAD_ATTEMPTS - 1):
            try:
                return self._engine.load(batch)
            except CommitConflictError as error:
                _log.warning("somebody else wrote to the target, computing again", reason=error.message)
        return self._engine.load(batch)

    def _archive(self, batch: Batch) -> dict[str, str | None]:
        """Archive after the done mark, and correct the tables where a file was archived elsewhere than planned."""
        archived = self._archiving.batch(batch)
        planned = {manifest.delivery_id: manifest.archive_path or None for manifest in batch.manifests}
        self._engine.archived(batch, {one: place for one, place in archived.items() if place != planned[one]})
        return archived
