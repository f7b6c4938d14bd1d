"""A pass that changes nothing about what needs a person does not look again; one that may have does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ordertrail import load_config
from ordertrail.alerts import after
from ordertrail.look import last_look
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.look.last_look import AT_LEAST_EVERY, last_look_path
from ordertrail.look.space import Space
from tests.commands import Call, call_in
from tests.harness import NOON_NS

BAD = "order_num,status\n{},X\n"
GOOD = (
    "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
    "0001,1Z{},2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
)


class Desk:
    """A pipeline whose looks are counted."""

    def __init__(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        self.call = call
        self.looks = 0
        self._number = 0
        found = after.looked_at

        def counted(*words: object, **more: object) -> object:
            self.looks += 1
            return found(*words, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(after, "looked_at", counted)

    def drop(self, text: str = GOOD, name: str = "") -> Path:
        """A file that no other one equals."""
        self._number += 1
        file = Path("data/source", name or f"order_tracking_2024_11_{20 + self._number}.csv")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text.format(self._number))
        os.utime(file, ns=(NOON_NS, NOON_NS))
        return file

    def looked(self, code: int | None = 0) -> bool:
        """Whether the next pass looks at everything; it ends with a code, or with any."""
        before = self.looks
        found = self.call("run")
        assert code in (None, found.exit_code), found.output
        return self.looks > before

    def open(self) -> list[str]:
        """The kinds of the open incidents."""
        return [one["kind"] for one in json.loads(self.call("alerts", "list", "--json").stdout)["incidents"]]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    call = call_in(tmp_path / "orders", monkeypatch)
    with Path("ordertrail.toml").open("a") as file:
        file.write('\n[[alerts]]\nname = "hook"\nurl = "json://127.0.0.1:1/hook"\nmin_severity = "critical"\n')
    found = Desk(call, monkeypatch)
    found.drop()
    assert found.looked()
    return found


def path() -> Path:
    return last_look_path(load_config())


def test_passes_of_ordinary_files_do_not_look_again(desk: Desk) -> None:
    for _ in range(3):
        assert not desk.looked()
        desk.drop()
        assert not desk.looked()
    assert len(path().read_text().splitlines()) == 4


def test_what_opens_and_closes_is_seen_by_the_pass_that_did_it(desk: Desk) -> None:
    bad = desk.drop(BAD)
    text = bad.read_text()
    assert desk.looked(code=3)
    assert desk.open() == ["quarantined"]
    desk.drop()
    assert not desk.looked()
    assert desk.open() == ["quarantined"]
    with Path("ordertrail.toml").open("a") as config:
        config.write('vendors = ["default"]\n')
    assert desk.looked(), "another config may judge otherwise"
    assert not desk.looked()
    (delivery,) = [one for one in json.loads(desk.call("deliveries", "--json").stdout)["rows"] if one["reason"]]
    desk.call("dismiss", delivery["delivery_id"], "--why", "known")
    assert desk.looked(), "somebody else has changed the deliveries"
    assert desk.open() == []
    desk.drop(text, "again.csv")
    assert desk.looked(code=3)
    assert desk.open() == ["quarantined"]


def test_files_that_wait_for_a_person_are_seen_when_they_come_and_go(desk: Desk) -> None:
    config = Path("ordertrail.toml")
    text = config.read_text()
    config.write_text(re.sub(r"(?m)^waiting_warn_h = .*$", "waiting_warn_h = 0.0000001", text))
    assert desk.looked()
    alone = desk.drop(name="nobody.txt")
    assert desk.looked(code=None)
    assert desk.open() == ["waiting"]
    assert desk.looked(code=3), "now the pass itself warns of it"
    assert not desk.looked(code=3)
    alone.unlink()
    assert desk.looked()
    assert desk.open() == []


def test_a_batch_that_nobody_told_of_is_looked_at_by_the_next_pass(desk: Desk) -> None:
    """As after a kill between the done mark and the look."""
    desk.drop(BAD)
    script = "from ordertrail import Pipeline, load_config; Pipeline(load_config()).run()"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert desk.open() == []
    desk.drop()
    assert desk.looked()
    assert desk.open() == ["quarantined"]


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock, when nobody has looked for long."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + AT_LEAST_EVERY + timedelta(seconds=1)

    monkeypatch.setattr(last_look, "datetime", Clock)


def service(_: pytest.MonkeyPatch) -> None:
    heartbeat_path(load_config()).write_text("{}")


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_look, "low_spaces", lambda _: iter([Space("archive", Path("/"), 1)]))


def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has changed the incidents."""
    monkeypatch.setattr(last_look, "_same_incidents", lambda *_: False)


def damaged(_: pytest.MonkeyPatch) -> None:
    path().write_bytes(path().read_bytes()[:-20])


def zeros(_: pytest.MonkeyPatch) -> None:
    """As after a crash of the machine: the size is written, the bytes are not."""
    with path().open("ab") as file:
        file.write(b"\0\0\0")


def gone(_: pytest.MonkeyPatch) -> None:
    path().unlink()


def ahead(_: pytest.MonkeyPatch) -> None:
    """The tables were restored, the file was not."""
    with path().open("ab") as file:
        file.write(b"900\n")


@pytest.mark.parametrize("change", [later, full, told, damaged, zeros, gone, ahead])
def test_in_doubt_everything_is_looked_at(
    desk: Desk, change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not desk.looked()
    with monkeypatch.context() as within:
        change(within)
        assert desk.looked()
    assert not desk.looked()


def test_beside_a_service_everything_is_looked_at(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    service(monkeypatch)
    assert desk.looked()
    assert desk.looked()


def test_a_look_that_cannot_be_kept_is_made_again(desk: Desk) -> None:
    path().unlink()
    path().mkdir()
    assert desk.looked()
    assert desk.looked()


def test_such_a_pass_imports_nothing_of_alerts_and_tables(desk: Desk) -> None:
    desk.drop()
    script = (
        "import sys\nfrom ordertrail.cli import cli\n"
        "sys.argv = ['ordertrail', 'run']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "looked = {'ordertrail.alerts', 'ordertrail.look.standing', 'ordertrail.look.status', 'shlex', 'statistics'}\n"
        "assert not looked & set(sys.modules), looked & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
