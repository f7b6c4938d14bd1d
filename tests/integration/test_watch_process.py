"""The service as a process of its own, on a real folder: files arrive, signals arrive, the process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from ordertrail.config import Config, parse_config
from ordertrail.delta.table import Table, scan_sql
from ordertrail.errors import TableError
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.markers import MARKER
from ordertrail.pipeline import Pipeline
from ordertrail.rules.tables import target_columns

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0
HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"

# argv: folder, settle_s, interval_s, then switches
SERVICE = """
import errno, os, sys, threading
from pathlib import Path
import structlog
from ordertrail.config import parse_config
from ordertrail.watch import service as watch
from ordertrail.watch import heartbeat as watch_heartbeat
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
base, settle_s, interval_s, switches = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:]
watch_heartbeat.BEAT_S = 0.1
text = '[pipeline]\\nname = "orders"\\nsource = "in"\\narchive = "archive"\\nwarehouse = "tables"\\n'
text += f'settle_s = {settle_s}\\n[[vendors]]\\nname = "all"\\nfiles = "**/*.csv"\\n'
config = parse_config(text, base=base, environ={})
if "deaf" in switches:
    from ordertrail.watch.events import FolderEvents
    def limit(self):
        raise OSError(errno.ENOSPC, "inotify watch limit reached")
    FolderEvents.ensure = limit
if "stuck" in switches:
    from ordertrail import pipeline
    original = pipeline.Pipeline.__init__
    def probe(name):
        if name == switches[1]:
            (base / "stuck").touch()
            threading.Event().wait()
    def init(self, config, **more):
        original(self, config, **{**more, "probe": probe})
    pipeline.Pipeline.__init__ = init
sys.exit(watch.watch(config, interval_s=interval_s))
"""


def row(number: int, status: str = "IN_TRANSIT", second: int = 0) -> str:
    return f"O{number},T{number},2026-11-01,,{status},a street,2026-11-20 10:00:{second:02d}\n"


class World:
    """A pipeline in a folder, and the services started on it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.source = base / "in"
        for folder in (self.source, base / "tables"):
            folder.mkdir()
        self.services: list[subprocess.Popen[str]] = []
        text = '[pipeline]\nname = "orders"\nsource = "in"\narchive = "archive"\nwarehouse = "tables"\n'
        text += 'settle_s = 0\n[[vendors]]\nname = "all"\nfiles = "**/*.csv"\n'
        self.config: Config = parse_config(text, base=base, environ={})

    def start(self, *switches: str, settle_s: float = 30.0, interval_s: float = 30.0) -> subprocess.Popen[str]:
        """Start a service. Neither settling nor looking helps within a test's deadline unless it asks for that."""
        command = [sys.executable, "-c", SERVICE, str(self.base), str(settle_s), str(interval_s), *switches]
        log = (self.base / f"log{len(self.services)}").open("w")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with log:
            service = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment)
        self.services.append(service)
        return service

    def started(self, *switches: str, settle_s: float = 30.0, interval_s: float = 30.0) -> subprocess.Popen[str]:
        """Start a service and wait until it is idle after its first pass."""
        service = self.start(*switches, settle_s=settle_s, interval_s=interval_s)
        self.wait(lambda: self.beat()["last_pass_at"] is not None and self.beat()["state"] == "idle")
        return service

    def beat(self) -> dict[str, object]:
        try:
            found = json.loads(heartbeat_path(self.config).read_text())
        except FileNotFoundError:
            return {"last_pass_at": None, "state": None, "beat_at": None}
        assert isinstance(found, dict)
        return found

    def wait(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert time.monotonic() < deadline, self.logs()
            for service in self.services[-1:]:
                assert service.poll() is None, self.logs()
            time.sleep(0.02)

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.base.glob("log*")))

    def rows(self) -> dict[str, tuple[str, int]]:
        """Status and revision of each shipment in the target; a shipment that is there twice fails."""
        columns = target_columns(self.config.contract)
        table = Table(self.config.table_path(self.config.tables.target), columns)
        try:
            snapshot = table.snapshot()
        except TableError:
            return {}
        if not snapshot.files:
            return {}
        with duckdb.connect() as connection:
            query = f"SELECT tracking_num, status, _revision FROM {scan_sql(connection, snapshot, columns)}"
            found = connection.execute(query).fetchall()
        keyed = {key: (status, revision) for key, status, revision in found}
        assert len(keyed) == len(found)
        return keyed

    def put(self, name: str, *rows: str) -> None:
        with (self.source / name).open("w") as file:
            file.write(HEADER + "".join(rows))

    def has(self, *numbers: int) -> Callable[[], bool]:
        return lambda: {f"T{n}" for n in numbers} <= set(self.rows())

    def ends(self, service: subprocess.Popen[str], number: signal.Signals) -> None:
        """The service ends with exit code 0 within 5 s of the signal."""
        service.send_signal(number)
        assert service.wait(timeout=5.0) == 0, self.logs()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for service in world.services:
        if service.poll() is None:
            service.kill()
            service.wait()


def test_files_are_loaded_when_closed_or_moved_in_and_the_service_ends_in_good_order(world: World) -> None:
    service = world.started()
    world.put("order_tracking_2026_11_20.csv", row(1))
    world.wait(world.has(1))

    elsewhere = world.base / "moved.csv"
    elsewhere.write_text(HEADER + row(2))
    elsewhere.rename(world.source / "order_tracking_2026_11_21.csv")
    world.wait(world.has(2))

    (world.source / "upload.part").write_text(HEADER + row(3))
    (world.source / "upload.part").rename(world.source / "order_tracking_2026_11_22.csv")
    world.wait(world.has(3))

    assert world.rows() == {f"T{n}": ("IN_TRANSIT", 1) for n in (1, 2, 3)}
    world.wait(lambda: world.beat().get("last_batch") == 3)
    assert world.beat()["pid"] == service.pid
    world.ends(service, signal.SIGTERM)
    assert not heartbeat_path(world.config).exists()
    assert not list(world.config.warehouse.glob("*.tmp"))
    assert world.logs().count("delivery ") == 3
    assert "leaked" not in world.logs()
    assert "Traceback" not in world.logs()


@pytest.mark.parametrize("switches", [(), ("deaf",)], ids=["events", "no events"])
def test_a_file_that_is_kept_open_is_not_loaded_before_it_is_closed(world: World, switches: tuple[str, ...]) -> None:
    service = world.started(*switches, settle_s=0.2, interval_s=0.2)
    with (world.source / "order_tracking_2026_11_20.csv").open("w") as file:
        file.write(HEADER + row(1) + row(2)[:9])
        file.flush()
        # Long after the file has settled: passes have looked at it and left it alone.
        world.wait(lambda: "still open for writing" in world.logs())
        world.put("order_tracking_2026_11_21.csv", row(9))
        world.wait(world.has(9))
        assert set(world.rows()) == {"T9"}
        file.write(row(2)[9:] + row(3))
    world.wait(world.has(1, 2, 3))
    world.ends(service, signal.SIGTERM)
    assert world.rows() == {f"T{n}": ("IN_TRANSIT", 1) for n in (1, 2, 3, 9)}
    report = Pipeline(world.config).run()
    assert report.batch is None


def test_without_events_files_are_found_by_looking(world: World) -> None:
    service = world.started("deaf", settle_s=0.1, interval_s=0.3)
    world.put("order_tracking_2026_11_20.csv", row(1))
    world.wait(world.has(1))
    world.put("order_tracking_2026_11_21.csv", row(1, "DELIVERED", 5), row(2))
    world.wait(world.has(2))
    assert world.rows() == {"T1": ("DELIVERED", 2), "T2": ("IN_TRANSIT", 1)}
    assert world.logs().count("no events from the source folder") == 1
    world.ends(service, signal.SIGINT)


def test_new_and_moved_in_folders_are_watched(world: World) -> None:
    service = world.started(settle_s=0.2)
    world.source.joinpath("night").mkdir()
    world.put("night/order_tracking_2026_11_19.csv", row(4))
    world.wait(world.has(4))
    folder = world.base / "day"
    folder.mkdir()
    (folder / "order_tracking_2026_11_20.csv").write_text(HEADER + row(1))
    folder.rename(world.source / "day")
    world.wait(world.has(1))
    # The folder moved in is listened to from now on: this file is loaded when it is closed, at once.
    world.put("day/order_tracking_2026_11_21.csv", row(2))
    world.wait(world.has(2))
    world.source.joinpath("day").rename(world.source / "evening")
    world.put("evening/order_tracking_2026_11_22.csv", row(3))
    world.wait(world.has(3))
    world.ends(service, signal.SIGTERM)


@pytest.mark.parametrize("point", ["stage.committed", "load.committed"])
def test_a_pass_that_does_not_end_is_abandoned_and_finished_by_the_next(world: World, point: str) -> None:
    service = world.started("stuck", point)
    world.put("order_tracking_2026_11_20.csv", row(1), row(2))
    world.wait((world.base / "stuck").exists)
    first = world.beat()["beat_at"]
    world.wait(lambda: world.beat()["beat_at"] != first)
    assert world.beat()["state"] == "running"

    world.ends(service, signal.SIGTERM)

    assert not heartbeat_path(world.config).exists()
    report = Pipeline(world.config).run()
    assert report.recovered
    assert world.rows() == {"T1": ("IN_TRANSIT", 1), "T2": ("IN_TRANSIT", 1)}
    assert Pipeline(world.config).run().batch is None


def test_a_second_signal_ends_at_once(world: World) -> None:
    service = world.started("stuck", "stage.committed")
    world.put("order_tracking_2026_11_20.csv", row(1))
    world.wait((world.base / "stuck").exists)
    service.send_signal(signal.SIGINT)
    world.wait(lambda: world.beat()["state"] == "stopping")
    began = time.monotonic()
    service.send_signal(signal.SIGINT)
    assert service.wait(timeout=5.0) == 0
    assert time.monotonic() - began < 3.0
    assert Pipeline(world.config).run().recovered


@pytest.mark.fault
def test_killed_in_a_pass_and_started_again(world: World) -> None:
    service = world.started("stuck", "load.committed")
    world.put("order_tracking_2026_11_20.csv", row(1), row(2))
    world.wait((world.base / "stuck").exists)
    service.kill()
    service.wait()
    assert heartbeat_path(world.config).exists()

    second = world.started()
    world.put("order_tracking_2026_11_21.csv", row(2, "DELIVERED", 9), row(3))
    world.wait(world.has(3))
    assert world.rows() == {"T1": ("IN_TRANSIT", 1), "T2": ("DELIVERED", 2), "T3": ("IN_TRANSIT", 1)}
    world.ends(second, signal.SIGTERM)
    assert [path.name for path in world.source.iterdir()] == [MARKER]


def test_a_source_folder_that_comes_later_or_goes_away(world: World) -> None:
    world.source.rmdir()
    service = world.start(interval_s=0.3)
    world.wait(lambda: world.beat()["state"] == "backing_off")
    world.source.mkdir()
    world.wait(lambda: world.beat()["state"] == "idle")
    world.put("order_tracking_2026_11_20.csv", row(1))
    world.wait(lambda: world.has(1)() and [path.name for path in world.source.iterdir()] == [MARKER])
    world.source.rename(world.base / "gone")
    world.wait(lambda: world.beat()["state"] == "backing_off")
    error = world.beat()["last_error"]
    assert isinstance(error, dict)
    assert error["code"] == "E_SOURCE"
    world.source.mkdir()
    # Only events find this file in time: the service listens to the new folder, not to the one renamed away.
    world.wait(lambda: world.beat()["state"] == "idle")
    world.put("order_tracking_2026_11_21.csv", row(2))
    world.wait(world.has(2))
    world.ends(service, signal.SIGTERM)
    assert world.logs().count("the pass failed, trying again") == 2
    assert world.logs().count("passes succeed again") == 2
