"""The service without a process, a clock or a thread: what it decides, and when."""

from __future__ import annotations

import errno
import json
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs
from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
)
from watchdog.observers.api import EventQueue, ObservedWatch
from watchdog.observers.inotify_c import InotifyConstants

from ordertrail.config import Config, parse_config
from ordertrail.errors import ConfigError, PassRunningError, SourceError, TableError, UsageError
from ordertrail.lock import service_lock
from ordertrail.look.document import open_item
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.look.open_items import OpenItem
from ordertrail.model import DeliveryReport, RowCounts, RunReport, Skipped, State
from ordertrail.sources.directory import DirectorySource, source_of
from ordertrail.sources.names import FileOps
from ordertrail.sources.notes import Notes, notes_path
from ordertrail.sources.settling import HOLD_S
from ordertrail.watch.events import FolderEvents, _Emitter, _Handler
from ordertrail.watch.heartbeat import MOST_ITEMS, Heartbeat
from ordertrail.watch.schedule import (
    BLOCKED_S,
    DEBOUNCE_MAX_S,
    DEBOUNCE_S,
    LOOK_SLACK_S,
    TERMINAL_BASE_S,
    TERMINAL_CAP_S,
    TRANSIENT_BASE_S,
    TRANSIENT_CAP_S,
    Schedule,
)
from ordertrail.watch.service import (
    STOP_GRACE_S,
    Ended,
    FolderEvent,
    Listener,
    Message,
    Parts,
    Service,
    Stop,
    _passes,
    watch,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def config(base: Path, settle_s: float = 1.0) -> Config:
    text = '[pipeline]\nname = "orders"\nsource = "in"\narchive = "archive"\nwarehouse = "tables"\n'
    return parse_config(text + f"settle_s = {settle_s}\n", base=base, environ={})


def report(
    *, batch: int | None = None, skipped: Sequence[tuple[str, str]] = (), warnings: Sequence[str] = ()
) -> RunReport:
    deliveries = []
    if batch is not None:
        deliveries.append(
            DeliveryReport("d1", "default", "a.csv", "00", 1, State.LOADED, None, "a.csv", RowCounts(1, inserted=1))
        )
    return RunReport(
        pipeline="orders",
        engine="embedded",
        batch=batch,
        recovered=False,
        rows=RowCounts(),
        deliveries=tuple(deliveries),
        skipped=tuple(Skipped(*item) for item in skipped),
        warnings=tuple(warnings),
    )


# -- when ---------------------------------------------------------------------------------------------------


def schedule(random: float = 0.5, settle_s: float = 1.0) -> Schedule:
    """One that had its first pass at 100 s and looks every 5 s."""
    made = Schedule(interval_s=5.0, settle_s=settle_s, random=lambda: random, now_s=100.0)
    assert made.due_s == 100.0
    made.started()
    made.done(100.0, unsettled=False)
    return made


def test_nothing_happens_until_the_interval_is_over() -> None:
    assert schedule().due_s == 105.0


def test_a_complete_file_is_waited_for_a_moment_only() -> None:
    plan = schedule()
    plan.closed(101.0)
    assert plan.due_s == pytest.approx(101.0 + DEBOUNCE_S)
    plan.closed(101.04)
    assert plan.due_s == pytest.approx(101.04 + DEBOUNCE_S)
    plan.started()
    plan.done(101.5, unsettled=False)
    assert plan.due_s == 106.5


def test_a_stream_of_files_does_not_put_the_pass_off_for_ever() -> None:
    plan = schedule()
    for n in range(100):
        plan.closed(101.0 + n * DEBOUNCE_S / 2)
    assert plan.due_s == pytest.approx(101.0 + DEBOUNCE_MAX_S)


def test_a_file_that_completes_during_a_pass_starts_the_next_one() -> None:
    plan = schedule()
    plan.started()
    plan.closed(101.0)
    plan.done(102.0, unsettled=False)
    assert plan.due_s < 102.0


def test_what_was_touched_is_looked_at_when_it_has_settled() -> None:
    plan = schedule()
    plan.touched(101.0)
    plan.touched(101.9)
    assert plan.due_s == pytest.approx(102.0 + LOOK_SLACK_S)
    plan.started()
    plan.touched(102.5)
    plan.done(103.0, unsettled=False)
    assert plan.due_s == pytest.approx(103.5 + LOOK_SLACK_S)


def test_files_that_do_not_settle_are_looked_at_more_and_more_rarely() -> None:
    plan = schedule()
    waits = []
    for _ in range(6):
        plan.started()
        plan.done(100.0, unsettled=True)
        waits.append(plan.due_s - 100.0)
    assert waits == pytest.approx([1 + LOOK_SLACK_S, 2 + LOOK_SLACK_S, 4 + LOOK_SLACK_S, 5.0, 5.0, 5.0])
    plan.started()
    plan.done(100.0, unsettled=False)
    plan.started()
    plan.done(100.0, unsettled=True)
    assert plan.due_s - 100.0 == pytest.approx(waits[0])


def test_a_settle_time_longer_than_the_interval_is_waited_for() -> None:
    plan = schedule(settle_s=60.0)
    plan.started()
    plan.done(100.0, unsettled=True)
    assert plan.due_s == pytest.approx(160.0 + LOOK_SLACK_S)


@pytest.mark.parametrize(
    ("transient", "base_s", "cap_s"),
    [(True, TRANSIENT_BASE_S, TRANSIENT_CAP_S), (False, TERMINAL_BASE_S, TERMINAL_CAP_S)],
)
@given(failures=st.integers(1, 200), random=st.floats(0.0, 1.0, exclude_max=True))
def test_back_off_doubles_up_to_its_cap_with_full_jitter(
    transient: bool, base_s: float, cap_s: float, failures: int, random: float
) -> None:
    plan = schedule(random)
    for _ in range(failures):
        plan.started()
        plan.failed(100.0, transient=transient)
    ceiling_s = min(cap_s, base_s * 2 ** (failures - 1))
    assert plan.due_s - 100.0 == pytest.approx(max(DEBOUNCE_S, random * ceiling_s))
    assert plan.backing_off


def test_events_do_not_shorten_a_back_off_and_success_ends_it() -> None:
    plan = schedule(random=0.9)
    plan.started()
    plan.failed(100.0, transient=True)
    due = plan.due_s
    plan.closed(100.1)
    plan.touched(100.1)
    assert plan.due_s == due
    plan.started()
    plan.done(101.0, unsettled=False)
    assert not plan.backing_off
    assert plan.due_s == 106.0
    plan.started()
    plan.failed(106.0, transient=True)
    assert plan.due_s == pytest.approx(106.0 + 0.9 * TRANSIENT_BASE_S)


def test_behind_another_pass_it_waits_a_moment_and_counts_no_failure() -> None:
    plan = schedule(random=0.0)
    plan.started()
    plan.blocked(100.0)
    plan.closed(100.1)
    assert plan.due_s == 100.0 + BLOCKED_S / 2
    assert not plan.backing_off


# -- what ---------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A service whose time passes only while it sleeps. `script` says what arrives when, in seconds since its start."""

    base: Path
    results: list[RunReport | Exception] = field(default_factory=list)
    script: list[tuple[float, Message]] = field(default_factory=list)
    takes_s: float = 0.0
    now_s: float = 0.0
    passes: list[tuple[float, frozenset[str], frozenset[str]]] = field(default_factory=list)
    reports: list[RunReport] = field(default_factory=list)
    listener: Listener | None = None
    settle_s: float = 1.0

    def put(self, message: Message) -> None:
        due_s = self.now_s + (self.takes_s if isinstance(message, Ended) else 0.0)
        self.script = sorted([*self.script, (due_s, message)], key=lambda item: item[0])

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        assert block
        if self.script and (timeout is None or self.script[0][0] <= self.now_s + timeout):
            at_s, message = self.script.pop(0)
            self.now_s = max(self.now_s, at_s)
            return message
        assert timeout is not None, "it would sleep for ever"
        self.now_s += timeout
        raise queue.Empty

    def run(self, complete: frozenset[str], still_open: Callable[[], frozenset[str]]) -> RunReport:
        self.passes.append((round(self.now_s, 6), complete, still_open()))
        result = self.results.pop(0) if self.results else report()
        if isinstance(result, Exception):
            raise result
        return result

    def serve(self, until_s: float) -> bool:
        """Run the service for so long; then `Stop` arrives."""
        for folder in ("in", "tables"):
            (self.base / folder).mkdir(exist_ok=True)
        self.script = sorted([*self.script, (until_s, Stop())], key=lambda item: item[0])
        self.heartbeat = Heartbeat(heartbeat_path(config(self.base)), lambda: NOON + timedelta(seconds=self.now_s))
        parts = Parts(
            run=self.run,
            listener=self.listener,
            heartbeat=self.heartbeat,
            mailbox=self,
            clock=lambda: self.now_s,
            random=lambda: 0.5,
            start=lambda work: work(),
        )
        service = Service(config(self.base, self.settle_s), parts, interval_s=5.0, on_report=self.reports.append)
        return service.serve()

    @property
    def beat(self) -> dict[str, object]:
        found = json.loads(heartbeat_path(config(self.base)).read_text())
        assert isinstance(found, dict)
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_it_looks_at_once_and_then_every_interval(world: World) -> None:
    assert world.serve(until_s=12.0)
    assert [at_s for at_s, *_ in world.passes] == [0.0, 5.0, 10.0]


def test_a_closed_file_is_handed_to_the_pass_it_starts(world: World) -> None:
    world.script = [(1.0, FolderEvent("closed", "acme/a.csv")), (1.01, FolderEvent("closed", "b.csv"))]
    world.serve(until_s=3.0)
    assert world.passes[1:] == [(1.06, frozenset({"acme/a.csv", "b.csv"}), frozenset())]


def test_a_file_that_is_open_is_held_until_it_is_closed(world: World) -> None:
    (world.base / "in").mkdir()
    (world.base / "in" / "a.csv").touch()
    world.script = [
        (1.0, FolderEvent("closed", "a.csv")),
        (1.01, FolderEvent("opened", "a.csv")),
        (6.0, FolderEvent("closed", "a.csv")),
    ]
    world.serve(until_s=7.0)
    assert world.passes[1:] == [
        (1.05, frozenset(), frozenset({"a.csv"})),
        (6.05, frozenset({"a.csv"}), frozenset()),
    ]


def test_an_open_file_that_vanished_is_forgotten(world: World) -> None:
    world.script = [(1.0, FolderEvent("opened", "a.csv"))]
    world.serve(until_s=11.0)
    assert [held for *_, held in world.passes] == [frozenset(), frozenset({"a.csv"}), frozenset()]


@pytest.mark.parametrize(
    "error", [SourceError("away"), TableError("damaged"), PassRunningError("busy"), OSError("odd")]
)
def test_after_a_pass_that_failed_its_files_are_handed_to_the_next(world: World, error: Exception) -> None:
    world.results = [report(), error]
    world.script = [(1.0, FolderEvent("closed", "a.csv"))]
    world.serve(until_s=8.0)
    assert [complete for _, complete, _ in world.passes[1:3]] == [frozenset({"a.csv"})] * 2


@pytest.mark.parametrize("reason", ["not settled", "changed while it was read"])
def test_a_file_that_was_not_complete_is_looked_at_again_soon(world: World, reason: str) -> None:
    world.results = [report(skipped=[("a.csv", reason)])]
    world.serve(until_s=4.0)
    assert [at_s for at_s, *_ in world.passes] == [0.0, 1.02]


def test_other_skipped_files_wait_for_the_interval(world: World) -> None:
    world.results = [report(skipped=[("a.csv", "still open for writing")])]
    world.serve(until_s=4.0)
    assert len(world.passes) == 1


def test_a_config_error_at_the_start_ends_the_service(world: World) -> None:
    world.results = [ConfigError("no such column")]
    with pytest.raises(ConfigError, match="no such column"):
        world.serve(until_s=4.0)


def test_a_config_error_later_does_not(world: World) -> None:
    world.results = [report(), ConfigError("no such column")]
    assert world.serve(until_s=30.0)
    assert len(world.passes) > 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SourceError("away", hint="mount it"), "E_SOURCE", "away (mount it)"),
        (ZeroDivisionError("by zero"), "E_ORDERTRAIL", "ZeroDivisionError: by zero"),
    ],
)
def test_trouble_is_in_the_heartbeat_until_a_pass_succeeds(
    world: World, error: Exception, code: str, message: str
) -> None:
    world.results = [report(batch=7), error]
    seen: list[dict[str, object]] = []

    class Watcher:
        def ensure(self) -> None:
            if heartbeat_path(config(world.base)).exists():
                seen.append(world.beat)

        def close(self) -> None:
            pass

    world.listener = Watcher()
    world.serve(until_s=40.0)
    # As seen at the start of the passes: after the first, after the second, after the third.
    assert [beat["state"] for beat in seen[:3]] == ["idle", "backing_off", "idle"]
    assert [beat["last_error"] for beat in seen[:3]] == [None, {"code": code, "message": message}, None]
    assert [beat["last_batch"] for beat in seen[:3]] == [7, 7, 7]
    assert world.beat["state"] == "stopping"
    assert world.beat["pid"] == os.getpid()


def test_a_lasting_transient_error_is_said_once_and_its_end_too(world: World) -> None:
    world.results = [SourceError("away"), SourceError("away"), SourceError("away"), report()]
    with capture_logs() as logs:
        world.serve(until_s=20.0)
    said = [log["event"] for log in logs if log["log_level"] in ("warning", "error")]
    assert said == ["the pass failed, trying again"]
    assert [log["after"] for log in logs if log["event"] == "passes succeed again"] == ["E_SOURCE"]


def test_a_terminal_error_is_said_every_time_with_its_traceback_for_the_curious(world: World) -> None:
    world.results = [TableError("damaged"), TableError("damaged")]
    with capture_logs() as logs:
        world.serve(until_s=20.0)
    assert [log["code"] for log in logs if log["log_level"] == "error"] == ["E_TABLE", "E_TABLE"]
    assert all(isinstance(log["exc_info"], TableError) for log in logs if log["event"] == "traceback")


def test_another_pass_is_waited_for_in_silence(world: World) -> None:
    world.results = [PassRunningError("busy")] * 3
    with capture_logs() as logs:
        world.serve(until_s=4.0)
    assert [at_s for at_s, *_ in world.passes] == [0.0, 0.75, 1.5, 2.25]
    assert {log["log_level"] for log in logs} <= {"debug", "info"}
    assert world.beat["last_error"] is None


def test_only_news_is_reported(world: World) -> None:
    lone = report(skipped=[("x.txt", "no vendor takes it")])
    loaded = report(batch=1, skipped=[("x.txt", "no vendor takes it")])
    warned = report(warnings=["look here"])
    world.results = [report(), lone, lone, loaded, warned, warned, report()]
    with capture_logs() as logs:
        world.serve(until_s=40.0)
    assert world.reports == [lone, loaded, warned]
    assert [log["file"] for log in logs if log["event"] == "left alone"] == ["x.txt"]
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["look here"]


def test_stopped_in_a_pass_it_waits_for_the_end_of_it(world: World) -> None:
    world.takes_s = STOP_GRACE_S + 1.0
    assert world.serve(until_s=2.0)
    assert world.now_s == world.takes_s
    assert len(world.passes) == 1


def test_a_pass_that_takes_too_long_to_end_is_given_up(world: World) -> None:
    world.takes_s = 3600.0
    assert not world.serve(until_s=2.0)
    assert world.now_s == 2.0 + STOP_GRACE_S


def test_stopped_before_the_first_pass_it_runs_none(world: World) -> None:
    assert world.serve(until_s=0.0)
    assert world.passes == []


@dataclass
class Deaf:
    """A listener that cannot listen."""

    error: OSError
    closed: int = 0

    def ensure(self) -> None:
        raise self.error

    def close(self) -> None:
        self.closed += 1


def test_without_events_it_says_so_once_and_goes_on(world: World) -> None:
    world.listener = Deaf(OSError(errno.ENOSPC, "inotify watch limit reached"))
    with capture_logs() as logs:
        world.serve(until_s=12.0)
    assert len(world.passes) == 3
    warned = [log for log in logs if log["log_level"] == "warning"]
    assert [log["reason"] for log in warned] == ["inotify watch limit reached"]


def test_a_missing_folder_is_left_to_the_pass_to_report(world: World) -> None:
    world.listener = Deaf(FileNotFoundError(errno.ENOENT, "gone"))
    with capture_logs() as logs:
        world.serve(until_s=4.0)
    assert not [log for log in logs if log["log_level"] == "warning"]
    assert world.listener.closed == 1


# -- the source while it is watched -------------------------------------------------------------------------


class Untold(FileOps):
    """Nobody can tell who writes."""

    def is_written(self, descriptor: int) -> bool | None:
        return None


def test_an_open_file_is_not_discovered_until_it_rests_for_long(tmp_path: Path) -> None:
    """An event told of its beginning, none of its end, and the system cannot be asked."""
    settings = config(tmp_path, settle_s=0)
    settings.source.mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (settings.source / name).write_text("x")
    at_s = [100.0]
    source = DirectorySource(
        settings.source,
        settings.archive,
        settings.vendors,
        0.0,
        Untold(),
        Notes(clock=lambda: at_s[0]),
        lambda: frozenset({"a.csv", "c.csv"}),
    )
    soon = source.discover(datetime.now(UTC), frozenset({"c.csv"}))
    assert [file.path for file in soon.files] == ["b.csv", "c.csv"]
    assert [(one.file_name, one.reason) for one in soon.skipped] == [("a.csv", "still open for writing")]
    at_s[0] += HOLD_S - 1
    assert [file.path for file in source.discover(datetime.now(UTC)).files] == ["b.csv"]
    at_s[0] += 1
    assert [file.path for file in source.discover(datetime.now(UTC)).files] == ["a.csv", "b.csv", "c.csv"]


def test_a_file_is_taken_that_nobody_has_open_though_its_closing_was_not_told(tmp_path: Path) -> None:
    settings = config(tmp_path, settle_s=0)
    settings.source.mkdir()
    (settings.source / "a.csv").write_text("x")
    source = source_of(settings, Notes(), lambda: frozenset({"a.csv"}))
    assert len(source.discover(datetime.now(UTC)).files) == 1


def test_the_looks_of_a_service_stay_from_pass_to_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a share a rest takes two looks: no pass waits for the second, and none needs what is written down."""
    monkeypatch.setattr(FileOps, "is_local", lambda ops, descriptor: False)
    settings = config(tmp_path, settle_s=0.001)
    settings.source.mkdir()
    (settings.source / "a.csv").write_text("x")
    run = _passes(settings)
    first = run(frozenset(), frozenset)
    assert (first.batch, [one.reason for one in first.skipped]) == (None, ["not settled"])
    notes_path(settings).unlink()
    assert run(frozenset(), frozenset).batch == 1


# -- the heartbeat ------------------------------------------------------------------------------------------


def test_the_heartbeat_says_who_when_and_what(tmp_path: Path) -> None:
    path = tmp_path / "tables" / ".ordertrail-orders.heartbeat"
    path.parent.mkdir()
    times = iter(NOON + timedelta(seconds=n) for n in range(100))
    beat = Heartbeat(path, lambda: next(times))
    beat.start()
    first = json.loads(path.read_text())
    assert first == {
        "pid": os.getpid(),
        "started_at": NOON.isoformat(),
        "beat_at": (NOON + timedelta(seconds=1)).isoformat(),
        "last_pass_at": None,
        "last_batch": None,
        "state": "idle",
        "last_error": None,
        "attention": None,
        "failures": 0,
        "failing_since": None,
        "maintenance_error": None,
        "open_items": None,
    }
    beat.failed("E_SOURCE", "away")
    assert json.loads(path.read_text())["last_error"] == {"code": "E_SOURCE", "message": "away"}
    beat.passed(3)
    beat.passed(None)
    last = json.loads(path.read_text())
    assert (last["last_batch"], last["last_error"]) == (3, None)
    beat.attention("a.csv is quarantined")
    beat.attention("b.csv is held")
    found = json.loads(path.read_text())["attention"]
    assert (found["count"], found["last"]) == (2, "b.csv is held")
    assert last["beat_at"] < found["at"]
    assert first["beat_at"] < last["last_pass_at"] < last["beat_at"]
    beat.stop()
    beat.state("running")
    assert list(path.parent.iterdir()) == []


def test_the_heartbeat_counts_failed_passes_until_one_succeeds(tmp_path: Path) -> None:
    times = iter(NOON + timedelta(seconds=n) for n in range(100))
    beat = Heartbeat(tmp_path / "beat", lambda: next(times))

    def failing() -> tuple[int, str | None]:
        found = json.loads((tmp_path / "beat").read_text())
        return found["failures"], found["failing_since"]

    beat.failed("E_SOURCE", "away")
    first = (NOON + timedelta(seconds=1)).isoformat()
    assert failing() == (1, first)
    beat.failed("E_SOURCE", "away")
    assert failing() == (2, first)
    beat.passed(None)
    assert failing() == (0, None)


def test_the_heartbeat_names_what_needs_a_person(tmp_path: Path) -> None:
    beat = Heartbeat(tmp_path / "beat", lambda: NOON)
    item = OpenItem("quarantined", "delivery:1", NOON, "warning", "a.csv is quarantined", "ordertrail rejects")
    beat.open_items([item] * (MOST_ITEMS + 1))
    found = json.loads((tmp_path / "beat").read_text())["open_items"]
    assert (found["count"], found["at"], len(found["items"])) == (MOST_ITEMS + 1, NOON.isoformat(), MOST_ITEMS)
    assert found["items"][0] == open_item(item)
    beat.open_items([])
    assert json.loads((tmp_path / "beat").read_text())["open_items"]["count"] == 0
    beat.maintenance("no room")
    assert json.loads((tmp_path / "beat").read_text())["maintenance_error"] == "no room"
    beat.maintenance(None)
    assert json.loads((tmp_path / "beat").read_text())["maintenance_error"] is None


def test_a_heartbeat_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    in_the_way = tmp_path / f"beat.{os.getpid()}.tmp"
    in_the_way.mkdir()
    with capture_logs() as logs:
        beat = Heartbeat(tmp_path / "beat", lambda: NOON)
        beat.state("running")
        beat.state("idle")
        in_the_way.rmdir()
        beat.passed(1)
        beat.stop()
    assert [log["event"] for log in logs] == ["cannot write the heartbeat"]


def test_a_heartbeat_makes_no_folder_and_writes_over_no_other_service(tmp_path: Path) -> None:
    settings = config(tmp_path)
    with service_lock(settings) as first, service_lock(settings) as second:
        assert not first()
        assert not second()
        beat = Heartbeat(heartbeat_path(settings), lambda: NOON, second)
        beat.state("running")
        assert not settings.warehouse.exists()
        settings.warehouse.mkdir()
        assert first()
        with capture_logs() as logs:
            beat.state("idle")
            beat.stop()
        assert not heartbeat_path(settings).exists()
        assert "another `ordertrail watch`" in logs[0]["reason"]
    with service_lock(settings) as later:
        assert later()


def test_what_needs_a_person_is_logged_with_its_reason_and_in_the_heartbeat(tmp_path: Path) -> None:
    settings = replace(config(tmp_path), settle_s=0.0)
    for folder in (settings.source, settings.warehouse):
        folder.mkdir()
    (settings.source / "bad.csv").write_text("what,is\n1,2\n")
    stop = threading.Event()
    beats: list[dict[str, object]] = []

    def look(report: RunReport) -> None:
        beats.append(json.loads(heartbeat_path(settings).read_text()))
        stop.set()

    with capture_logs() as logs:
        watch(settings, interval_s=0.05, on_report=look, stop=stop)
    (told,) = [log for log in logs if log["event"] == "a delivery needs somebody"]
    assert (told["log_level"], told["file"], told["state"]) == ("warning", "bad.csv", "quarantined")
    assert "no column" in told["reason"]
    attention = beats[0]["attention"]
    assert isinstance(attention, dict)
    assert attention["last"].startswith("bad.csv is quarantined: the file has no column")


# -- what the system tells ----------------------------------------------------------------------------------


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., list[tuple[str, str]]]:
    """What is made of watchdog's events about files in a folder."""

    def tell(*events: FileSystemEvent) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        handler = _Handler(str(tmp_path), lambda kind, path: found.append((kind, path)))
        for event in events:
            handler.dispatch(event)
        return found

    return tell


Told = Callable[..., list[tuple[str, str]]]


def test_closed_and_moved_in_files_are_complete(tmp_path: Path, told: Told) -> None:
    name = os.fsdecode(b"sp ace\n\xff.csv")
    for made in ("a.csv", name):
        (tmp_path / made).write_text("x")
    closed, moved = FileClosedEvent(str(tmp_path / "a.csv")), FileMovedEvent("", str(tmp_path / name))
    assert told(closed, moved) == [("closed", "a.csv"), ("closed", name)]


def test_an_empty_file_is_not_complete_when_it_is_closed(tmp_path: Path, told: Told) -> None:
    (tmp_path / "a.csv").touch()
    assert told(FileClosedEvent(str(tmp_path / "a.csv"))) == [("touched", "a.csv")]
    assert told(FileClosedEvent(str(tmp_path / "vanished.csv"))) == [("touched", "vanished.csv")]


def test_a_new_file_is_open_and_a_new_link_is_not(tmp_path: Path, told: Told) -> None:
    (tmp_path / "a.csv").write_text("x")
    assert told(FileCreatedEvent(str(tmp_path / "a.csv"))) == [("opened", "a.csv")]
    os.link(tmp_path / "a.csv", tmp_path / "b.csv")
    assert told(FileCreatedEvent(str(tmp_path / "b.csv"))) == [("touched", "b.csv")]


def test_files_of_new_and_moved_folders_are_left_to_the_settle_rule(tmp_path: Path, told: Told) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    (folder / "a.csv").write_text("x")
    inside = FileCreatedEvent(str(folder / "a.csv"))
    assert told(DirCreatedEvent(str(folder)), inside) == [("touched", "day"), ("touched", "day/a.csv")]
    synthetic = FileMovedEvent("elsewhere", str(folder / "a.csv"), is_synthetic=True)
    assert told(DirMovedEvent("", str(folder)), synthetic) == [("touched", "day"), ("touched", "day/a.csv")]


@pytest.mark.parametrize("name", [".a.csv", "a.csv.part", "~$a.csv", ".hidden/a.csv", ".ordertrail-1.claim"])
def test_hidden_and_temporary_names_wake_nobody(tmp_path: Path, told: Told, name: str) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / name).write_text("x")
    assert told(FileClosedEvent(str(tmp_path / name)), FileCreatedEvent(str(tmp_path / name))) == []


def test_the_folder_itself_wakes_nobody(tmp_path: Path, told: Told) -> None:
    assert told(DirCreatedEvent(str(tmp_path))) == []


def test_a_real_folder_behind_a_link_is_heard_and_heard_again_after_it_was_replaced(tmp_path: Path) -> None:
    arrived: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "in").symlink_to("one")
    events = FolderEvents(tmp_path / "in", lambda kind, path: arrived.put((kind, path)))

    def completed() -> str:
        while True:
            kind, path = arrived.get(timeout=30)
            if kind == "closed":
                return path

    try:
        events.ensure()
        events.ensure()
        (tmp_path / "in" / "a.csv").write_text("x")
        assert completed() == "a.csv"
        (tmp_path / "in").unlink()
        (tmp_path / "in").symlink_to("two")
        events.ensure()
        (tmp_path / "one" / "b.csv").write_text("x")
        (tmp_path / "two" / "c.csv").write_text("x")
        assert completed() == "c.csv"
    finally:
        events.close()
    events.close()


def test_no_event_waits_for_the_other_half_of_a_move(tmp_path: Path) -> None:
    # watchdog holds everything behind an IN_MOVED_FROM back for half a second, and archiving renames every file.
    emitter = _Emitter(EventQueue(), ObservedWatch(str(tmp_path), recursive=True))
    mask = emitter.get_event_mask_from_filter()
    assert mask & InotifyConstants.IN_MOVED_TO
    assert mask & InotifyConstants.IN_CLOSE_WRITE
    assert not mask & InotifyConstants.IN_MOVED_FROM


def test_a_missing_folder_cannot_be_listened_to(tmp_path: Path) -> None:
    events = FolderEvents(tmp_path / "in", lambda _kind, _path: None)
    with pytest.raises(FileNotFoundError):
        events.ensure()
    events.close()


# -- the whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan")])
def test_an_interval_must_be_above_zero(tmp_path: Path, interval_s: float) -> None:
    with pytest.raises(UsageError, match="interval"):
        watch(config(tmp_path), interval_s=interval_s)


def test_with_an_event_of_the_callers_it_loads_and_ends(tmp_path: Path) -> None:
    settings = config(tmp_path, settle_s=0)
    settings.source.mkdir()
    header = ",".join(settings.contract.names)
    text = f"{header}\nO1,T1,2026-11-01,,IN_TRANSIT,a street,2026-11-20 10:00:00\n"
    (settings.source / "order_tracking_2026_11_20.csv").write_text(text)
    stop = threading.Event()
    reports: list[RunReport] = []

    def on_report(found: RunReport) -> None:
        reports.append(found)
        stop.set()

    assert watch(settings, on_report=on_report, stop=stop) == 0
    assert [found.rows.inserted for found in reports] == [1]
    assert not heartbeat_path(settings).exists()
