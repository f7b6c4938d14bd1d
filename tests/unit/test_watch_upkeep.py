"""Maintenance by the service without a thread or a clock: when it runs, and that nothing of it ends the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from structlog.testing import capture_logs

from ordertrail.config import Config, parse_config
from ordertrail.errors import PassRunningError, StorageError
from ordertrail.watch.upkeep import PAUSE_FACTOR, PAUSE_S, SWEEP_EVERY_S, Upkeep, due_reasons


def config(base: Path) -> Config:
    text = '[pipeline]\nsource = "in"\narchive = "archive"\nwarehouse = "tables"\n'
    return parse_config(text, base=base, environ={})


@dataclass(slots=True)
class Scene:
    """An upkeep whose thread, clock and work are the test's."""

    base: Path
    now_s: float = 1000.0
    due: tuple[str, ...] = ("target: 21 small files",)
    takes_s: float = 0.0
    error: Exception | None = None
    runs: int = 0
    held: list[Callable[[], None]] = field(default_factory=list)
    hold: bool = False
    told: list[str | None] = field(default_factory=list)

    def made(self) -> Upkeep:
        return Upkeep(
            config(self.base),
            run=self.run,
            due=lambda: self.due,
            tell=self.told.append,
            clock=lambda: self.now_s,
            start=self.start,
        )

    def run(self) -> None:
        self.runs += 1
        self.now_s += self.takes_s
        if self.error is not None:
            raise self.error

    def start(self, work: Callable[[], None]) -> None:
        if self.hold:
            self.held.append(work)
        else:
            work()


def test_it_runs_when_something_is_due_and_then_pauses(tmp_path: Path) -> None:
    scene = Scene(tmp_path, takes_s=7.0)
    upkeep = scene.made()
    upkeep.consider()
    assert (scene.runs, upkeep.running) == (1, False)
    scene.now_s += PAUSE_FACTOR * 7.0 - 0.1
    upkeep.consider()
    assert scene.runs == 1
    scene.now_s += 0.2
    upkeep.consider()
    assert scene.runs == 2


def test_nothing_due_means_no_run_until_it_is_time_to_sweep(tmp_path: Path) -> None:
    scene = Scene(tmp_path, due=())
    upkeep = scene.made()
    upkeep.consider()
    assert scene.runs == 0
    for _ in range(3):
        scene.now_s += PAUSE_S + 0.1
        upkeep.consider()
    assert scene.runs == 1
    scene.now_s += SWEEP_EVERY_S
    upkeep.consider()
    assert scene.runs == 2


def test_one_at_a_time_and_asking_never_waits(tmp_path: Path) -> None:
    scene = Scene(tmp_path, hold=True)
    upkeep = scene.made()
    upkeep.consider()
    scene.now_s += 1e6
    upkeep.consider()
    assert len(scene.held) == 1
    assert upkeep.running
    scene.held[0]()
    assert not upkeep.running


def test_an_error_is_told_once_and_the_next_time_comes(tmp_path: Path) -> None:
    scene = Scene(tmp_path, error=StorageError("cannot write c.parquet: No space left on device"))
    upkeep = scene.made()
    with capture_logs() as logs:
        for _ in range(3):
            upkeep.consider()
            scene.now_s += PAUSE_S + 0.1
        scene.error = None
        upkeep.consider()
    told = [entry["event"] for entry in logs if entry["log_level"] in ("info", "warning")]
    assert told == ["maintenance failed; passes go on", "maintenance succeeds again"]
    assert scene.runs == 4


def test_a_bug_does_not_end_the_service_either(tmp_path: Path) -> None:
    scene = Scene(tmp_path, error=ZeroDivisionError("division by zero"))
    upkeep = scene.made()
    with capture_logs() as logs:
        upkeep.consider()
    assert not upkeep.running
    assert any("ZeroDivisionError" in str(entry.get("reason")) for entry in logs)


def test_a_pass_that_goes_on_is_no_trouble(tmp_path: Path) -> None:
    scene = Scene(tmp_path, error=PassRunningError("another pass is running"))
    with capture_logs() as logs:
        scene.made().consider()
    assert not [entry for entry in logs if entry["log_level"] == "warning"]


def test_before_the_first_pass_nothing_is_due(tmp_path: Path) -> None:
    assert due_reasons(config(tmp_path)) == ()


def test_it_tells_why_it_failed_and_that_it_succeeds_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, error=StorageError("no room"))
    upkeep = scene.made()
    upkeep.consider()
    scene.error = None
    scene.now_s += PAUSE_S + 0.1
    upkeep.consider()
    assert scene.told == ["no room", None]
