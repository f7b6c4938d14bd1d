"""The thread of the service that keeps incidents and sends; the test turns it, and holds its clocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.alerts import service
from ordertrail.alerts.service import EVERY_S, Means, Teller
from ordertrail.config import Address, Alert, Config, parse_config
from ordertrail.engines.base import KeptIncidents
from ordertrail.errors import CommitConflictError, StorageError, TableError
from ordertrail.look.open_items import OpenItem
from ordertrail.rules.alert_text import Message
from ordertrail.rules.incidents import Incident
from ordertrail.rules.outbox import FAILED_SENDS, Channel
from ordertrail.rules.secrets import SecretUrl

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BAD = OpenItem("quarantined", "delivery:1", None, "warning", "a.csv is quarantined", "ordertrail rejects", "acme", 3)
TOLD = "orders: a.csv is quarantined (3 rows, at most as many shipments)"


def failing(passes: int) -> OpenItem:
    text = f"{passes} passes failed in a row"
    return OpenItem("failing", "pipeline:failing", NOON, "critical", text, "ordertrail doctor")


@dataclass
class Table:
    """A table of incidents in memory."""

    kept: KeptIncidents = field(default_factory=lambda: KeptIncidents(None))
    error: Exception | None = None
    there: bool = True
    conflicts: int = 0

    def possible(self) -> bool:
        return self.there

    def read(self) -> KeptIncidents:
        if self.error is not None:
            raise self.error
        return self.kept

    def write(self, before: KeptIncidents, incidents: Sequence[Incident]) -> KeptIncidents:
        if self.conflicts:
            self.conflicts -= 1
            raise CommitConflictError("taken")
        assert before == self.kept
        self.kept = KeptIncidents((before.version or 0) + 1, tuple(incidents))
        return self.kept


@dataclass
class Desk:
    """A teller between fakes.

    Attributes:
        items: What needs a person; an error cannot be listed.
    """

    config: Config
    monkeypatch: pytest.MonkeyPatch
    table: Table = field(default_factory=Table)
    items: Sequence[OpenItem] | Exception = ()
    at_s: float = 0.0
    told: list[tuple[str, str]] = field(default_factory=list)
    pinged: list[bool] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    looks: int = 0

    def __post_init__(self) -> None:
        means = Means(self._send, self._ping, self.now, lambda: self.at_s, lambda _: self.table)
        self.monkeypatch.setattr(service, "looked_at", lambda _: (self._found(), None))
        self.monkeypatch.setattr("ordertrail.alerts.after.looked_at", lambda *_, **__: (self._found(), None))
        self.teller = Teller(self.config, means)

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.at_s)

    def _found(self) -> tuple[OpenItem, ...]:
        self.looks += 1
        if isinstance(self.items, Exception):
            raise self.items
        return tuple(self.items)

    def _send(self, alert: Alert, message: Message) -> str:
        if alert.name in self.down:
            return "refused"
        self.told.append((alert.name, message.title))
        return ""

    def _ping(self, _: Address, failed: bool) -> str:
        self.pinged.append(not failed)
        return ""

    def passed(self, *, ok: bool, after_s: float = 5.0) -> float:
        """A pass ends, its list is made, and the thread has its turn; when the next one is due."""
        self.at_s += after_s
        self.teller.passed(ok=ok)
        try:
            self.teller.listed()
        except TableError:
            assert isinstance(self.items, TableError)
        return self.teller.turn()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    text = '[pipeline]\nsource = "in"\narchive = "done"\nwarehouse = "tables"\n'
    alerts = tuple(Alert(Channel(name), Address(SecretUrl(f"json://{name}"))) for name in ("mail", "sms"))
    config = parse_config(text, base=Path("/srv/orders"), environ={})
    ping = Address(SecretUrl("https://ping/x"))
    return Desk(replace(config, alerts=alerts, ping=ping), monkeypatch)


def test_500_failing_passes_are_one_message_and_one_recovery(desk: Desk) -> None:
    for number in range(500):
        desk.items = (failing(number),) if number >= 3 else ()
        desk.passed(ok=False)
    first = [
        ("mail", "orders CRITICAL: 3 passes failed in a row"),
        ("sms", "orders CRITICAL: 3 passes failed in a row"),
    ]
    assert desk.told == first
    writes = desk.table.kept.version
    assert writes == 1 + 2 * 2  # opened; claimed and marked on two channels
    desk.items = ()
    desk.passed(ok=True)
    assert [title for _, title in desk.told[2:]] == ["orders: over: 3 passes failed in a row"] * 2


def test_failed_passes_end_no_incident_of_failing_ones(desk: Desk) -> None:
    desk.items = (failing(3),)
    desk.passed(ok=False)
    desk.items = ()
    desk.passed(ok=False)  # a new service has failed once
    assert desk.table.kept.incidents[0].open
    desk.passed(ok=True)
    assert not desk.table.kept.incidents[0].open


def test_a_channel_that_is_down_is_told_on_the_other(desk: Desk) -> None:
    desk.items, desk.down = (BAD,), {"mail"}
    for _ in range(FAILED_SENDS + 3):
        desk.passed(ok=True, after_s=300)
    assert desk.told[0] == ("sms", TOLD)
    assert desk.told[1][1].startswith("orders CRITICAL: the channel mail takes no messages, after 3 attempts: refused")
    assert {channel for channel, _ in desk.told} == {"sms"}
    desk.down.clear()
    for _ in range(2):
        desk.passed(ok=True, after_s=3600)
    assert ("mail", TOLD) in desk.told
    assert any(title.startswith("orders: over: the channel mail") for _, title in desk.told)


def test_it_looks_by_its_own_clock_when_no_pass_does(desk: Desk) -> None:
    assert desk.passed(ok=True) == EVERY_S
    assert desk.looks == 1
    desk.at_s += EVERY_S - 1
    desk.teller.turn()
    assert desk.looks == 1
    desk.items = (BAD,)
    desk.at_s += 2
    desk.teller.turn()
    assert desk.looks == 2
    assert desk.told[0] == ("mail", TOLD)


def test_it_turns_again_when_the_next_message_is_due(desk: Desk) -> None:
    desk.items, desk.down = (BAD,), {"mail"}
    assert desk.passed(ok=True) == 30.0  # the first retry


def test_a_list_that_cannot_be_made_is_an_incident_and_ends_none(desk: Desk) -> None:
    desk.items = (BAD,)
    desk.passed(ok=True)
    desk.items = TableError("the log of orders_target is damaged", hint="restore it")
    desk.passed(ok=False)
    keys = {one.key for one in desk.table.kept.incidents if one.open}
    assert keys == {BAD.key, "pipeline:tables"}
    desk.items = (BAD,)
    desk.passed(ok=True)
    assert {one.key for one in desk.table.kept.incidents if one.open} == {BAD.key}


def test_incidents_that_cannot_be_kept_are_told_without_them_at_most_hourly(desk: Desk) -> None:
    desk.items, desk.table.error = (BAD,), StorageError("the disk is full", hint="free some")
    for _ in range(100):
        desk.passed(ok=False, after_s=60)
    titles = [title for channel, title in desk.told if channel == "mail"]
    assert titles == ["orders CRITICAL: incidents cannot be kept: the disk is full"] * 2
    desk.table.error = None
    desk.passed(ok=True)
    assert desk.told[-1][1] == TOLD


def test_another_process_that_writes_meanwhile_is_read_again(desk: Desk) -> None:
    desk.items, desk.table.conflicts = (BAD,), 3
    desk.passed(ok=True)
    assert len(desk.told) == 2


def test_nothing_is_kept_or_told_before_there_are_tables(desk: Desk) -> None:
    desk.items, desk.table.there = (BAD,), False
    assert desk.passed(ok=False) == EVERY_S
    assert (desk.told, desk.table.kept.version) == ([], None)


def test_the_dead_mans_switch_is_asked_at_most_once_a_minute_but_at_once_when_it_turns(desk: Desk) -> None:
    for _ in range(25):
        desk.passed(ok=True)
    assert desk.pinged == [True, True, True]
    desk.passed(ok=False)
    desk.passed(ok=False)
    desk.passed(ok=True)
    assert desk.pinged == [True, True, True, False, True]


def test_a_channel_that_hangs_holds_up_nobody(desk: Desk) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: Alert, __: Message) -> str:
        hangs.set()
        goes_on.wait(60)
        return ""

    means = Means(hang, table=lambda _: desk.table)
    teller = Teller(replace(desk.config, ping=None), means)
    desk.items = (BAD,)
    teller.start()
    teller.listed()
    assert hangs.wait(60)
    began_s = time.perf_counter()
    for _ in range(1000):
        teller.passed(ok=True)
        teller.listed()
    assert (time.perf_counter() - began_s) / 1000 < 0.005
    assert teller.running
    teller.stop()
    goes_on.set()


def test_what_goes_on_writes_nothing(desk: Desk) -> None:
    desk.items = (BAD,)
    desk.passed(ok=True)
    before = desk.table.kept
    for _ in range(100):
        desk.passed(ok=True)
    assert desk.table.kept is before
