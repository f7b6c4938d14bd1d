"""The service maintains the tables of a real pipeline: beside its passes, and it ends in time while it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ordertrail.delta.log import DeltaLog
from ordertrail.model import RunReport
from ordertrail.watch import upkeep
from ordertrail.watch.service import watch
from tests.harness import House, check_books, check_readers, open_house

DEADLINE_S = 90.0
HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
EAGER = "[maintenance]\nmax_small_files = 1\n"

# argv: folder
SERVICE = """
import functools, sys, threading
from pathlib import Path
from ordertrail.keep import maintain
from ordertrail.watch import service as watch
from ordertrail.watch import upkeep
from ordertrail.config import load_config
base = Path(sys.argv[1])
upkeep.PAUSE_S = 0.0
def probe(name):
    if name == "maintain.files":
        (base / "stuck").touch()
        threading.Event().wait()
maintain.maintain = functools.partial(maintain.maintain, probe=probe)
sys.exit(watch.watch(load_config(base / "ordertrail.toml"), interval_s=0.2))
"""


def drop(house: House, number: int) -> None:
    """A file as a vendor moves it in."""
    row = f"O{number},T{number % 3},2026-11-01,,IN_TRANSIT,X,2026-11-20 10:{number:02d}:00\n"
    waiting = house.config.source.parent / f"part_{number}.csv"
    waiting.write_text(HEADER + row)
    waiting.rename(house.config.source / waiting.name)


def wait(until: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline_s, "it did not come to that"
        time.sleep(0.02)


def operations(house: House, table: str) -> list[str]:
    found = [action for _, actions in DeltaLog(house.table_path(table)).backwards() for action in actions]
    return [str(action["commitInfo"]["operation"]) for action in found if "commitInfo" in action]  # type: ignore[index,call-overload]


@pytest.mark.slow
def test_the_service_maintains_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PAUSE_S", 0.0)
    monkeypatch.setattr(upkeep, "PAUSE_FACTOR", 0.0)
    house = open_house(tmp_path, EAGER)
    stop, loaded = threading.Event(), list[RunReport]()
    service = threading.Thread(
        target=lambda: watch(house.config, interval_s=0.1, stop=stop, on_report=loaded.append), daemon=True
    )
    service.start()
    for number in range(6):
        drop(house, number)
        wait(lambda number=number: len(loaded) > number)  # type: ignore[misc]
    wait(lambda: "OPTIMIZE" in operations(house, "history"))
    stop.set()
    service.join(DEADLINE_S)
    assert not service.is_alive()
    maintaining = [thread for thread in threading.enumerate() if thread.name == "ordertrail-maintain"]
    for thread in maintaining:
        thread.join(DEADLINE_S)
    check_books(house)
    check_readers(house)


@pytest.mark.slow
def test_a_stuck_maintenance_holds_up_neither_passes_nor_the_end(tmp_path: Path) -> None:
    house = open_house(tmp_path, EAGER)
    config = f'[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n{EAGER}'
    (tmp_path / "ordertrail.toml").write_text(config)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path)], env=environment) as service:
        try:
            number = 0
            while not (tmp_path / "stuck").exists():
                drop(house, number)
                number += 1
                assert number < 30
                wait(lambda: not house.left() or (tmp_path / "stuck").exists())
            drop(house, number)
            wait(lambda: not house.left())
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=5.0) == 0
        finally:
            service.kill()
    check_books(house)
    check_readers(house)
