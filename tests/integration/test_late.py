"""A vendor that is late, on a real pipeline: told by every command and the heartbeat, and closed by the file itself."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ordertrail.config import load_config
from ordertrail.look import standing
from ordertrail.look.status import Reader, open_items_of
from ordertrail.watch.heartbeat import Heartbeat
from ordertrail.watch.open_list import EVERY_S, OpenList
from tests.commands import Call, call_in
from tests.harness import NOON_NS

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
GOOD = HEADER + "0001,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
BAD = "no,such,header\n1,2,3\n"
VENDORS = """
[[vendors]]
name = "acme"
files = "acme/*.csv"
expect_every = "4h"
expect_grace = "10m"

[[vendors]]
name = "blue"
files = "blue/*.csv"
"""


class Clock:
    """The time of those who look: as long ago or ahead as the test says."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self, zone: object = UTC) -> datetime:
        assert zone is UTC
        return datetime.now(UTC) + self.ahead

    @staticmethod
    def fromtimestamp(seconds: float, zone: object) -> datetime:
        assert zone is UTC
        return datetime.fromtimestamp(seconds, UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(standing, "datetime", made)
    return made


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    return call_in(tmp_path, monkeypatch, VENDORS)


def drop(path: str, text: str) -> None:
    file = Path("data/source", path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    os.utime(file, ns=(NOON_NS, NOON_NS))


def items_of(call: Call) -> list[dict[str, Any]]:
    result = call("health", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["healthy"] else 3)
    assert json.loads(call("status", "--json").stdout)["open_items"] == found["items"]
    items: list[dict[str, Any]] = found["items"]
    return items


def kinds(call: Call) -> list[str]:
    return [one["kind"] for one in items_of(call)]


def test_a_vendor_is_late_until_its_file_is_there(call: Call, clock: Clock) -> None:
    assert kinds(call) == [], "before the first pass"
    drop("acme/one.csv", GOOD)
    drop("blue/one.csv", GOOD)
    assert call("run").exit_code == 0
    clock.ahead = timedelta(hours=4, minutes=9)
    assert kinds(call) == []
    clock.ahead = timedelta(hours=4, minutes=11)
    (item,) = items_of(call)
    assert (item["kind"], item["key"], item["severity"]) == ("late", "vendor:acme:late", "warning")
    assert item["text"].startswith("acme is late: a file was expected by ")
    assert "the last one, one.csv, came 20" in item["text"]
    text = call("status").output
    assert "late" in text
    assert item["next"] in text
    assert item["next"] == "ordertrail deliveries --vendor acme"
    shown = call(*shlex.split(item["next"])[1:])
    assert (shown.exit_code, "one.csv" in shown.output) == (0, True)
    # It was complete, and no pass has taken it yet.
    clock.ahead = timedelta(0)
    drop("acme/two.csv", GOOD.replace("0001", "0002"))
    clock.ahead = timedelta(hours=3)
    assert kinds(call) == ["waiting"]
    # Now the file of long ago is the last one again, but for a new one.
    Path("data/source/acme/two.csv").unlink()
    clock.ahead = timedelta(hours=5)
    assert kinds(call) == ["late"]
    clock.ahead = timedelta(0)
    assert kinds(call) == []


@pytest.mark.parametrize(("text", "others"), [(GOOD, []), (BAD, ["quarantined"])], ids=["the same again", "broken"])
def test_a_file_came_whatever_becomes_of_it(
    call: Call, clock: Clock, monkeypatch: pytest.MonkeyPatch, text: str, others: list[str]
) -> None:
    drop("acme/one.csv", GOOD)
    assert call("run").exit_code == 0
    drop("acme/two.csv", text)
    call("run")
    config = load_config("ordertrail.toml")
    with Reader(config) as reader:
        first, second = (row["discovered_at"] for row in reader.deliveries().dicts()[::-1])
        acme, blue = reader.arrivals(days=3)
        asked = reader.arrivals(now=datetime.now(UTC) + timedelta(days=1))
    assert isinstance(first, datetime)
    assert isinstance(second, datetime)
    assert (acme.files, acme.last_file, acme.last_at) == (2, "two.csv", second.astimezone(UTC))
    assert acme.next_expected == second.astimezone(UTC) + timedelta(hours=4)
    assert (blue.files, blue.expectation, blue.next_expected) == (0, "", None)
    assert (acme.late_since, asked[0].late_since is None) == (None, False)
    clock.ahead = timedelta(hours=4, minutes=11)
    assert kinds(call) == [*others, "late"]


def test_where_the_source_cannot_be_read_nobody_is_late(call: Call, clock: Clock) -> None:
    """The file may be there."""
    drop("acme/one.csv", GOOD)
    assert call("run").exit_code == 0
    clock.ahead = timedelta(hours=5)
    Path("data/source").rename("data/away")
    assert kinds(call) == ["failing"]
    Path("data/away").rename("data/source")
    assert kinds(call) == ["late"]


def test_the_service_tells_without_a_file(call: Call, clock: Clock) -> None:
    """The list is made by the clock of `watch`, and its heartbeat names the vendor within a minute."""
    drop("acme/one.csv", GOOD)
    assert call("run").exit_code == 0
    config, now_s = load_config("ordertrail.toml"), [0.0]
    beat = Heartbeat(Path("beat"), lambda: datetime.now(UTC))
    work: list[Callable[[], None]] = []
    listed = OpenList(lambda: open_items_of(config), beat.open_items, clock=lambda: now_s[0], start=work.append)
    listed.refresh(news=True)
    work.pop()()
    clock.ahead = timedelta(hours=4, minutes=11)
    listed.refresh(news=False)
    assert work == []
    now_s[0] += EVERY_S
    listed.refresh(news=False)
    work.pop()()
    beat.state("idle")
    told = json.loads(Path("beat").read_text())["open_items"]
    assert (told["count"], told["items"][0]["key"]) == (1, "vendor:acme:late")


def test_doctor_says_which_expectation_says_nothing(call: Call) -> None:
    def notes() -> list[str]:
        found = json.loads(call("doctor", "--json").stdout)["checks"]
        return [one["detail"] for one in found if one["name"] == "vendors"]

    assert notes() == ["their globs part the files, and the dates of names fit"]
    drop("blue/one.csv", GOOD)
    assert call("run").exit_code == 0
    assert notes() == ["acme: no file has come yet, so nothing is missed before the first one"]
