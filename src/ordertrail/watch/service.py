"""The service: runs a pass whenever a file is complete, until it is told to stop.

One thread decides. It sleeps on a mailbox that receives all messages: the folder's events, the signals, the end of a
pass. `Schedule` says when the next pass is due; it is a plain state machine without a clock.

A file is complete when the system reports that it was closed or moved in (`ordertrail.watch.events`) or, without an
event, when it has settled. The folder is scanned every `interval_s` in any case: on a network share, or with events
lost or unavailable, that is how files are found.
"""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Literal, Protocol, assert_never

from msgspec import Struct

from ordertrail import __version__
from ordertrail.alerts.channels import require_apprise
from ordertrail.alerts.service import Teller
from ordertrail.config import Config
from ordertrail.config.rights import umask_of
from ordertrail.errors import ConfigError, OrdertrailError, PassRunningError, UsageError
from ordertrail.lock import service_lock
from ordertrail.log import Log, drain
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.look.metrics import Metrics
from ordertrail.model import Probe, RunReport, State, no_probe
from ordertrail.sources.directory import source_of
from ordertrail.sources.notes import Notes, notes_path
from ordertrail.sources.settling import NOT_SETTLED
from ordertrail.watch.counts import PassCounts, Run
from ordertrail.watch.heartbeat import Heartbeat
from ordertrail.watch.metrics_server import Listening, answering
from ordertrail.watch.open_list import OpenList
from ordertrail.watch.schedule import Schedule
from ordertrail.watch.signals import stopping_by_event, stopping_by_signal
from ordertrail.watch.upkeep import Upkeep

STOP_GRACE_S = 4.0
"""How long a pass may go on after SIGTERM before it is abandoned; below the 5 s that are promised, in seconds."""

_log = Log()


class FolderEvent(Struct, frozen=True):
    """Something happened to a path below the source folder; see `ordertrail.watch.events.Post`."""

    kind: Literal["closed", "opened", "touched"]
    path: str


class Ended(Struct, frozen=True):
    """A pass ended, with its report or its error."""

    result: RunReport | Exception


class Stop(Struct, frozen=True):
    """The service must end."""


Message = FolderEvent | Ended | Stop


class Mailbox(Protocol):
    """The mailbox on which the service sleeps. `queue.SimpleQueue` is one: a signal handler may use it any time."""

    def put(self, message: Message, /) -> None:
        """Add a message, from any thread; never blocks."""

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """The next message; `queue.Empty` after `timeout` seconds."""


class Listener(Protocol):
    """Reports events of files in the source folder."""

    def ensure(self) -> None:
        """Listen to the folder as it is now. Idempotent. Raises `OSError` when that is not possible."""

    def close(self) -> None:
        """Stop listening."""


class Parts(Struct, frozen=True):
    """The collaborators of the service; tests pass fakes.

    Attributes:
        run: Runs one pass. Gets the paths that are complete, and a function that returns those still open for writing.
        listener: Reports events of the folder; None when the system has no such events.
        heartbeat: Records what the service does.
        mailbox: Receives all messages.
        clock: Monotonic, in seconds.
        random: Returns numbers in [0, 1).
        start: Starts a pass in another thread.
        upkeep: Maintains the tables when asked after each successful pass; None leaves that to people.
        open_list: Lists what needs a person when asked after each pass; None lists nothing.
        teller: Keeps incidents and sends alerts; None does neither.
    """

    run: Run
    listener: Listener | None
    heartbeat: Heartbeat
    mailbox: Mailbox
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    start: Callable[[Callable[[], None]], None] = lambda work: threading.Thread(
        target=work, name="ordertrail-pass", daemon=True
    ).start()
    upkeep: Upkeep | None = None
    open_list: OpenList | None = None
    teller: Teller | None = None


class Service:
    """The loop. It ends when `Stop` arrives, or at the first pass with an error in the config.

    Args:
        config: The pipeline's config.
        parts: Its collaborators.
        interval_s: Time between scans when nothing happens, in seconds.
        on_report: Called after each pass that has something to report.
    """

    def __init__(
        self, config: Config, parts: Parts, *, interval_s: float, on_report: Callable[[RunReport], None]
    ) -> None:
        self._config = config
        self._parts = parts
        self._interval_s = interval_s
        self._on_report = on_report
        self._schedule = Schedule(
            interval_s=interval_s, settle_s=config.settle_s, random=parts.random, now_s=parts.clock()
        )
        self._complete: set[str] = set()
        self._handed: frozenset[str] = frozenset()
        self._open: set[str] = set()
        self._running = False
        self._began = False
        self._stop_by_s: float | None = None
        self._deaf: str | None = None
        self._told: frozenset[tuple[str, str]] = frozenset()
        self._trouble: tuple[str, str] | None = None

    def serve(self) -> bool:
        """Run passes until `Stop` arrives.

        Returns:
            Whether the last pass ended; False when it was still running at the end of its grace.

        Raises:
            ConfigError: From the first pass: nothing will get better by itself.
        """
        while True:
            now_s = self._parts.clock()
            timeout_s: float | None
            if self._stop_by_s is not None:
                if not self._running or now_s >= self._stop_by_s:
                    return not self._running
                timeout_s = self._stop_by_s - now_s
            else:
                timeout_s = None if self._running else max(0.0, self._schedule.due_s - now_s)
            try:
                self._take(self._parts.mailbox.get(timeout=timeout_s))
            except queue.Empty:
                # A pass starts only when the mailbox is empty, so that it covers everything announced before.
                if not self._running and self._stop_by_s is None and self._schedule.due_s <= self._parts.clock():
                    self._start()

    def _take(self, message: Message) -> None:
        match message:
            case FolderEvent(kind, path):
                self._note(kind, path)
            case Ended(result):
                self._end(result)
            case Stop():
                if self._stop_by_s is None:
                    _log.info("stopping", running=self._running)
                    self._stop_by_s = self._parts.clock() + STOP_GRACE_S
                    self._parts.heartbeat.state("stopping")
            case _:
                assert_never(message)

    def _note(self, kind: Literal["closed", "opened", "touched"], path: str) -> None:
        now_s = self._parts.clock()
        if kind == "opened":
            self._open.add(path)
            self._complete.discard(path)
            return
        self._open.discard(path)
        if kind == "closed":
            self._complete.add(path)
            self._schedule.closed(now_s)
        else:
            self._schedule.touched(now_s)

    def _start(self) -> None:
        self._listen()
        self._schedule.started()
        self._handed, self._complete = frozenset(self._complete), set()
        self._running = True
        self._parts.heartbeat.state("running")
        handed = self._handed

        def work() -> None:
            try:
                result: RunReport | Exception = self._parts.run(handed, lambda: frozenset(self._open))
            except Exception as error:  # noqa: BLE001 - a failed pass does not end the service: it records the error and goes on
                result = error
            self._parts.mailbox.put(Ended(result))

        self._parts.start(work)

    def _listen(self) -> None:
        """Listen to events if possible; without them the scan at every interval finds the files."""
        if self._parts.listener is None:
            return
        try:
            self._parts.listener.ensure()
        except FileNotFoundError:
            # The pass reports that the folder is missing.
            self._parts.listener.close()
        except OSError as error:
            reason = error.strerror or str(error)
            if reason != self._deaf:
                hint = f"looking every {self._interval_s:g} s instead; see sysctl fs.inotify"
                _log.warning("no events from the source folder", reason=reason, hint=hint)
            self._deaf = reason
        else:
            self._deaf = None

    def _end(self, result: RunReport | Exception) -> None:
        self._running = False
        now_s = self._parts.clock()
        match result:
            case RunReport():
                reasons = {item.reason for item in result.skipped}
                self._schedule.done(now_s, unsettled=not reasons.isdisjoint((NOT_SETTLED, "changed while it was read")))
                self._open = {path for path in self._open if os.path.lexists(self._config.source / path)}
                self._succeeded(result)
                if self._parts.upkeep is not None and self._stop_by_s is None:
                    self._parts.upkeep.consider()
            case PassRunningError():
                self._complete |= self._handed - self._open
                self._schedule.blocked(now_s)
                _log.debug("waiting for another pass to end")
            case ConfigError() | UsageError() if not self._began:
                raise result
            case _:
                self._complete |= self._handed - self._open
                self._schedule.failed(now_s, transient=isinstance(result, OrdertrailError) and result.transient)
                self._failed(result, self._schedule.due_s - now_s)
        self._began = True
        if self._stop_by_s is None:
            self._parts.heartbeat.state("backing_off" if self._schedule.backing_off else "idle")

    def _succeeded(self, report: RunReport) -> None:
        self._tell(ok=True)
        recovered = self._trouble is not None
        if self._trouble is not None:
            _log.info("passes succeed again", after=self._trouble[0])
        self._trouble = None
        self._parts.heartbeat.passed(report.batch)
        for delivery in report.deliveries:
            if delivery.state in (State.QUARANTINED, State.HELD):
                what = f"{delivery.file_name} is {delivery.state}: {delivery.reason}"
                self._parts.heartbeat.attention(what)
                _log.warning(
                    "a delivery needs somebody",
                    file=delivery.file_name,
                    vendor=delivery.vendor,
                    state=str(delivery.state),
                    reason=delivery.reason,
                    delivery=delivery.delivery_id,
                )
        told = frozenset(
            {(item.file_name, item.reason) for item in report.skipped} | {("", w) for w in report.warnings}
        )
        before, self._told = self._told, told
        news = told - before
        for file, text in sorted(news):
            if file:
                _log.info("left alone", file=file, reason=text)
            else:
                self._parts.heartbeat.attention(text)
                _log.warning(text)
        if news or report.deliveries:
            self._on_report(report)
        teller = self._parts.teller
        loaded = bool(report.deliveries) and (teller is None or teller.concerned(report))
        self._list_open(news=loaded or recovered or told != before)

    def _list_open(self, *, news: bool) -> None:
        if self._parts.open_list is not None and self._stop_by_s is None:
            self._parts.open_list.refresh(news=news)

    def _tell(self, *, ok: bool) -> None:
        if self._parts.teller is not None and self._stop_by_s is None:
            self._parts.teller.passed(ok=ok)

    def _failed(self, error: Exception, wait_s: float) -> None:
        self._tell(ok=False)
        ours = isinstance(error, OrdertrailError)
        code = error.code if isinstance(error, OrdertrailError) else OrdertrailError.code
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        self._parts.heartbeat.failed(code, message)
        retry = f"{wait_s:.1f} s"
        if not (isinstance(error, OrdertrailError) and error.transient):
            _log.error("the pass failed and needs somebody", code=code, reason=message, retry_in=retry)
        elif (code, message) != self._trouble:
            _log.warning("the pass failed, trying again", code=code, reason=message, retry_in=retry)
        else:
            _log.debug("the pass failed again", code=code, retry_in=retry)
        _log.debug("traceback", exc_info=error)
        self._trouble = code, message
        self._list_open(news=True)


def _no_report(_: RunReport) -> None:
    """Ignore a report."""


def watch(
    config: Config,
    *,
    interval_s: float = 5.0,
    on_report: Callable[[RunReport], None] = _no_report,
    stop: threading.Event | None = None,
    metrics: Listening | None = None,
) -> int:
    """Watch the source folder and load what arrives, until SIGTERM or SIGINT.

    A pass that is running when the service is told to stop has `STOP_GRACE_S` to end. Then it is abandoned, which is as
    safe as any kill (P1): the next pass finishes what is staged. A thread cannot be ended from outside, so the process
    ends at once; a second signal does the same. With `stop`, the process belongs to the caller: an abandoned pass stays
    in its daemon thread, and the caller handles signals.

    Args:
        config: From `load_config`.
        interval_s: Seconds between looks at the folder when no event tells of a file.
        on_report: Called in this thread after each pass that loaded something, or that skipped or warned of something
            new.
        stop: Ends the service when set, instead of signals.
        metrics: Where to answer `/metrics`; None answers nowhere.

    Returns:
        The exit code: 0.

    Raises:
        ConfigError: Something in the config makes every pass impossible.
        PassRunningError: Another service watches for this pipeline.
        UsageError: `interval_s` is not above 0, metrics cannot be answered, or alerts need apprise.
    """
    if not interval_s > 0:
        raise UsageError(f"an interval of {interval_s:g} s makes no sense", hint="give seconds above 0")
    if config.alerts:
        require_apprise()
    mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with ExitStack() as held:
        held.enter_context(umask_of(config))
        alone = held.enter_context(service_lock(config))
        alone()
        held.enter_context(
            stopping_by_signal(lambda: mailbox.put(Stop()))
            if stop is None
            else stopping_by_event(lambda: mailbox.put(Stop()), stop)
        )
        heartbeat = Heartbeat(heartbeat_path(config), lambda: datetime.now(UTC), alone)
        listener = _listener(config, mailbox)
        upkeep = Upkeep(config, tell=heartbeat.maintenance) if config.maintenance.auto else None
        teller = Teller(config)
        open_list = OpenList(teller.listed, heartbeat.open_items)
        run = _passes(config) if metrics is None else held.enter_context(_counted(config, metrics))
        parts = Parts(run, listener, heartbeat, mailbox, upkeep=upkeep, open_list=open_list, teller=teller)
        _log.info("watching", source=str(config.source), interval_s=interval_s, events=listener is not None)
        heartbeat.start()
        teller.start()
        try:
            ended = Service(config, parts, interval_s=interval_s, on_report=on_report).serve()
        finally:
            teller.stop()
            heartbeat.stop()
        if not ended:
            _log.warning("the pass was abandoned; the next one finishes it")
        cut_short = upkeep is not None and upkeep.running
        if cut_short:
            _log.info("maintenance was cut short; it begins anew next time")
        # A thread at work in a library must not outlive the interpreter.
        if stop is None and (cut_short or open_list.running or teller.running or not ended):
            _leave()
        if listener is not None:
            listener.close()
        _log.info("stopped")
        drain()
    return 0


@contextmanager
def _counted(config: Config, metrics: Listening) -> Iterator[Run]:
    """Answer `/metrics` within the block; yields the function that runs a pass."""
    counts = PassCounts()
    with answering(Metrics(config, __version__, counts.passes, busy=lambda: counts.running).exposition, metrics):
        yield counts.counting(_passes(config, counts.probe))


def _passes(config: Config, probe: Probe = no_probe) -> Run:
    """The function that runs one pass. The engine is imported here, after the signals are handled: it takes time."""
    from ordertrail.pipeline import Pipeline

    # The looks are kept here from pass to pass, even if they cannot be written to a file.
    notes = Notes(notes_path(config))

    def run(complete: frozenset[str], still_open: Callable[[], frozenset[str]]) -> RunReport:
        # The service looks again by itself, so no pass waits for a file to be at rest.
        source = source_of(config, notes, still_open)
        return Pipeline(config, probe=probe, source=source, notes=notes, patience_s=0.0).run(complete)

    return run


def _listener(config: Config, mailbox: Mailbox) -> Listener | None:
    try:
        from ordertrail.watch.events import FolderEvents
    except ImportError:
        return None
    return FolderEvents(config.source, lambda kind, path: mailbox.put(FolderEvent(kind, path)))


def _leave() -> None:
    """End the process without waiting for the pass."""
    drain()
    # If the pass holds the lock of an output stream, flushing would wait for it: this ends the process then.
    watchdog = threading.Timer(0.5, os._exit, (0,))
    watchdog.daemon = True
    watchdog.start()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)
