"""What needs a person while the service runs: its heartbeat, `health` and `status` show one list."""

from __future__ import annotations

import json
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ordertrail.config import Config
from ordertrail.errors import StorageError
from ordertrail.keep import maintain
from ordertrail.look import document
from ordertrail.look.heartbeat import heard, heartbeat_path
from ordertrail.look.open_items import FAILED_PASSES, OpenItem
from ordertrail.look.status import status_of
from ordertrail.watch import schedule, service, upkeep
from ordertrail.watch.heartbeat import Heartbeat
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync

PATIENCE_S = 60.0
BROKEN = b"order_num,tracking_num\n1,008\n"

Wanted = Callable[[Sequence[OpenItem]], bool]


class Service:
    """A service in a thread of this process, and every list of open items that it writes."""

    def __init__(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = config
        self.lists: queue.SimpleQueue[Sequence[OpenItem]] = queue.SimpleQueue()
        self.stop = threading.Event()
        write = Heartbeat.open_items

        def written(beat: Heartbeat, items: Sequence[OpenItem]) -> None:
            write(beat, items)
            self.lists.put(items)

        monkeypatch.setattr(Heartbeat, "open_items", written)

    def until(self, wanted: Wanted) -> dict[str, Any]:
        """The heartbeat once a list is as wanted."""
        while not wanted(self.lists.get(timeout=PATIENCE_S)):
            pass
        found: dict[str, Any] = json.loads(heartbeat_path(self.config).read_text())
        return found

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(
            target=service.watch, args=(self.config,), kwargs={"interval_s": 0.05, "stop": self.stop}
        )
        thread.start()
        try:
            yield
        finally:
            self.stop.set()
            thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with without_fsync():
        house = open_house(tmp_path, "max_reject_share = 0.5\n[maintenance]\nmax_small_files = 2\n")
        house.run()
        yield house


def kinds(items: Sequence[OpenItem]) -> list[str]:
    return [one.kind for one in items]


def test_the_heartbeat_lists_what_health_lists(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Service(house.config, monkeypatch)
    with running.running():
        assert running.until(lambda items: not items)["open_items"]["count"] == 0
        house.drop("bad.csv", BROKEN)
        beat = running.until(lambda items: kinds(items) == ["quarantined"])
        items = status_of(house.config).open_items
    assert beat["open_items"]["items"] == document.health(items)["items"]  # type: ignore[index,call-overload]
    assert beat["attention"]["count"] == 1


def test_passes_that_fail_in_a_row_need_a_person_until_one_succeeds(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERMINAL_BASE_S", "TRANSIENT_BASE_S", "TERMINAL_CAP_S", "TRANSIENT_CAP_S"):
        monkeypatch.setattr(schedule, name, 0.01)
    running = Service(house.config, monkeypatch)
    with running.running():
        running.until(lambda items: not items)
        shutil.rmtree(house.config.source)
        beat = running.until(lambda items: "pipeline:failing" in [one.key for one in items])
        assert beat["failures"] >= FAILED_PASSES
        assert beat["last_error"]["code"] == "E_SOURCE"
        found = next(one for one in status_of(house.config).open_items if one.key == "pipeline:failing")
        assert (found.kind, found.severity) == ("failing", "critical")
        assert "passes failed in a row" in found.text
        assert found.since is not None
        house.config.source.mkdir()
        running.until(lambda items: not items)
        assert status_of(house.config).open_items == ()


def test_a_service_that_is_stopped_is_not_stalled_and_one_that_died_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Service(house.config, monkeypatch)
    with running.running():
        running.until(lambda items: not items)
        left = heartbeat_path(house.config).read_text()
        assert status_of(house.config, service_expected=True).open_items == ()
    assert status_of(house.config).open_items == ()
    body = json.loads(left) | {"beat_at": "2026-01-01T00:00:00+00:00"}
    heartbeat_path(house.config).write_text(json.dumps(body))
    assert kinds(status_of(house.config).open_items) == ["stalled"]


def test_debt_is_the_services_own_until_its_maintenance_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        house.drop(f"{number}.csv", csv_bytes([cells(f"K{number}", "2026-11-20 08:00:00")]))
        house.run()
    assert kinds(status_of(house.config).open_items) == ["debt"]

    def full(_: Config) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(maintain, "maintain", full)
    monkeypatch.setattr(upkeep, "PAUSE_S", 0.05)
    failed = threading.Event()
    tell = Heartbeat.maintenance

    def told(beat: Heartbeat, error: str | None) -> None:
        tell(beat, error)
        failed.set()

    monkeypatch.setattr(Heartbeat, "maintenance", told)
    running = Service(house.config, monkeypatch)
    with running.running():
        assert failed.wait(PATIENCE_S)
        (item,) = status_of(house.config).open_items
        assert item.text.endswith("the service cannot do it: no room")
    assert heard(house.config) is None
