"""Reading the changes as a consumer does: from where it stopped, and on and on as batches come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.engines.choice import placed
from ordertrail.engines.local.changes import Wanted
from ordertrail.engines.local.consumers import Consumer, consumer_of, consumers_of, reading, record
from ordertrail.engines.local.whole import read_whole
from ordertrail.errors import ForeignChangeError
from ordertrail.look.changes import Written, next_line, write_changes, write_file
from ordertrail.model import Probe, no_probe
from ordertrail.rules.tables import APP_ID

POLL_S = 0.5
"""How often `follow` looks for a new batch, in seconds."""

SEEN_EVERY_S = 60.0
"""How often a consumer that waits for a batch is noted as seen, in seconds."""


class Request(Struct, frozen=True):
    """What a consumer asks for.

    Attributes:
        wanted: Which changes; its `from_batch` comes before the place where the consumer stopped.
        form: One of `changes.FORMATS`.
        name: The consumer's name; None for one that keeps its place itself.
        follow: Whether to go on as batches come.
    """

    wanted: Wanted
    form: str = "jsonl"
    name: str | None = None
    follow: bool = False


class Standing(Struct, frozen=True):
    """Where a consumer stands.

    Attributes:
        name: Its name.
        next_batch: The batch that it reads next.
        behind: How many batches are done that it has not read; None when it reads other tables than these.
        seen_at: When it last read; aware UTC.
    """

    name: str
    next_batch: int
    behind: int | None
    seen_at: datetime


def standings(config: Config) -> tuple[Standing, ...]:
    """All consumers of a pipeline.

    Args:
        config: Of the pipeline.

    Raises:
        TableError: A table is damaged, or no pass has run yet.
        StorageError: A consumer's file cannot be read.
    """
    config = placed(config)
    app_id, done = _done(config)
    return tuple(
        Standing(
            name=one.name,
            next_batch=one.next_batch,
            behind=max(0, done + 1 - one.next_batch) if one.app_id == app_id else None,
            seen_at=one.seen_at,
        )
        for one in consumers_of(config)
    )


def consume_file(config: Config, request: Request, path: Path, *, force: bool, probe: Probe = no_probe) -> Written:
    """Write changes to a new file, and then record where the consumer stands.

    Args:
        config: Of the pipeline.
        request: What is asked for; not to follow.
        path: The file, which appears when it is complete.
        force: Whether to replace a file that is there.
        probe: Called after each effect; for fault tests.

    Raises:
        OrdertrailError: As of `changes.write_file` and `consumers.record`.
    """
    with ExitStack() as held:
        feed = _Feed.open(config, request, held, probe)
        written = write_file(feed.config, feed.wanted, path, request.form, force=force, probe=probe)
        feed.read_to(written.next_batch)
        return written


def consume(
    config: Config,
    request: Request,
    out: BinaryIO,
    *,
    wait: Callable[[float], bool] = lambda _: True,
    stopped: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = no_probe,
    probe: Probe = no_probe,
) -> Written:
    """Write changes to a stream.

    Args:
        config: Of the pipeline.
        request: What is asked for.
        out: The stream. Each batch is written whole and flushed, and then the consumer's place is recorded.
        wait: Waits for some seconds for the next look, and says whether to end; only to follow.
        stopped: Says whether to end after the batch that is being written.
        tell: Called with what the reader must know, one line each, once.
        probe: Called after each effect; for fault tests.

    Raises:
        OrdertrailError: As of `changes.write_changes` and `consumers.record`.
    """
    with ExitStack() as held:
        feed = _Feed.open(config, request, held, probe)
        total = Written(0, 0, 0)
        told: set[str] = set()
        first = True
        while True:
            written = write_changes(
                feed.config,
                feed.wanted,
                out,
                request.form,
                batch_done=lambda batch: feed.written(out, batch),
                stopped=stopped,
                head=first,
            )
            total = replace(
                written,
                from_batch=total.from_batch if not first else written.from_batch,
                changes=total.changes + written.changes,
                size_bytes=total.size_bytes + written.size_bytes,
            )
            for note in written.notes:
                if note not in told:
                    tell(note)
                told.add(note)
            first = False
            last = feed.wanted.to_batch
            feed.wanted = replace(feed.wanted, from_batch=written.next_batch)
            done = not request.follow or (last is not None and written.next_batch > last)
            if done or stopped() or feed.wait_for_batch(wait):
                if request.form == "jsonl" and not request.follow:
                    out.write(next_line(written.next_batch))
                    out.flush()
                return total


class _Feed(Struct):
    """A consumer that reads."""

    config: Config
    asked: Config
    request: Request
    wanted: Wanted
    app_id: str
    probe: Probe
    seen_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def open(cls, config: Config, request: Request, held: ExitStack, probe: Probe) -> _Feed:
        """Find where to begin."""
        tables = placed(config)
        app_id, _ = _done(tables)
        wanted = request.wanted
        if request.name is not None:
            held.enter_context(reading(tables, request.name))
            known = consumer_of(tables, request.name)
            if known is not None and known.app_id != app_id and wanted.from_batch is None:
                raise ForeignChangeError(
                    f"the consumer {request.name} has read other tables than those of this pipeline",
                    hint=f"let it begin anew: ordertrail changes --drop {request.name}, or give --from-batch",
                )
            if known is not None and wanted.from_batch is None:
                wanted = replace(wanted, from_batch=known.next_batch)
        return cls(tables, config, request, wanted, app_id, probe)

    def written(self, out: BinaryIO, batch: int) -> None:
        """All changes before a batch are written and flushed."""
        self.probe("changes.flushed")
        if self.request.follow and self.request.form == "jsonl":
            out.write(next_line(batch))
            out.flush()
        self.read_to(batch)

    def read_to(self, batch: int) -> None:
        """Record that the consumer has all changes before a batch."""
        if self.request.name is not None:
            self.seen_at = datetime.now(UTC)
            record(self.config, Consumer(self.request.name, self.app_id, batch, self.seen_at))
            self.probe("changes.recorded")

    def wait_for_batch(self, wait: Callable[[float], bool]) -> bool:
        """Wait until another batch is done; True when it is time to end."""
        log = DeltaLog(self.config.table_path(self.config.tables.deliveries))
        while True:
            version = max(log.entries()[0], default=0)
            _, done = _done(self.config)
            if done + 1 != self.wanted.from_batch:
                self.config = placed(self.asked)
                return False
            # Without the version that was the newest one, somebody restored the table.
            while log.has(version) and not log.has(version + 1):
                if wait(POLL_S):
                    return True
                if (datetime.now(UTC) - self.seen_at).total_seconds() >= SEEN_EVERY_S:
                    self.read_to(self.wanted.from_batch or 0)
                    self.seen_at = datetime.now(UTC)


def _done(config: Config) -> tuple[str, int]:
    """The application id of the tables, and the last batch that is done."""
    deliveries = read_whole(config)["deliveries"]
    app_id = deliveries.metadata.properties.get(APP_ID, "")
    return app_id, deliveries.last_txn(app_id)
