"""Kill -9 at each effect of keeping incidents and sending: a message may come twice, never not at all."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ordertrail.alerts.evaluate import evaluate
from ordertrail.alerts.outbox import Outbox
from ordertrail.config import Alert, parse_config
from ordertrail.config.values import Address
from ordertrail.delta.table import Table
from ordertrail.engines.local.incidents import FolderIncidents
from ordertrail.pipeline import Pipeline
from ordertrail.rules.alert_text import Message
from ordertrail.rules.incidents import Cause, Incident, Seen
from ordertrail.rules.outbox import LEASE, Channel
from ordertrail.rules.secrets import SecretUrl
from tests.depth import drawn
from tests.fault.world import World
from tests.harness import without_fsync

pytestmark = pytest.mark.fault

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BAD = Cause("quarantined", "delivery:1", "warning", "a.csv is quarantined", "ordertrail rejects")
WORSE = Cause("disk", "disk:archive", "critical", "the disk is full", "ordertrail doctor")
LOOKS = ((BAD,), (BAD, WORSE), (WORSE,), ())
"""What needs a person, look by look; two minutes and a lease pass between them."""

CHANNELS = ("mail", "sms")


class Life:
    """One process that keeps incidents and sends; a message is a line of a file, synced before it counts as sent."""

    def __init__(self, base: Path, probe: Callable[[str], None]) -> None:
        self._base = base
        self._now = NOON
        config = parse_config((base / "ordertrail.toml").read_text(), base=base, environ={})
        self._table = FolderIncidents(config, probe=probe)
        alerts = [Alert(Channel(name), Address(SecretUrl(f"json://{name}"))) for name in CHANNELS]
        self._channels = [one.channel for one in alerts]
        self._outbox = Outbox("orders", self._table, alerts, self._send, lambda: self._now, probe)

    def _send(self, alert: Alert, message: Message) -> str:
        with (self._base / "told").open("a") as file:
            file.write(json.dumps([alert.name, message.text]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return ""

    def look(self, place: int) -> tuple[Incident, ...]:
        self._now = NOON + place * (LEASE + timedelta(minutes=2))
        evaluate(self._table, Seen(LOOKS[min(place, len(LOOKS) - 1)]), self._channels, lambda: self._now)
        self._outbox.send()
        return self._table.read().incidents


def life(base: Path, kill_at: int | None) -> int:
    """A process that looks at everything in turn, and is killed at an effect; how many effects it had, -1 if killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code, seen = 1, 0

        def probe(_: str) -> None:
            nonlocal seen
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        try:
            os.close(reader)
            one = Life(base, probe)
            begin = int((base / "place").read_text()) if (base / "place").exists() else 0
            for place in range(begin, len(LOOKS) + 1):
                (base / "place").write_text(str(place))
                with without_fsync():  # a kill loses nothing that was written
                    one.look(place)
            os.write(writer, str(seen).encode())
            code = 0
        finally:
            if code:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    assert text or os.WIFSIGNALED(status)
    return int(text) if text else -1


def told(base: Path) -> list[tuple[str, str]]:
    return [tuple(json.loads(line)) for line in (base / "told").read_text().splitlines()]  # type: ignore[misc]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    found = World.make(tmp_path_factory.mktemp("alerts") / "world")
    with without_fsync():
        Pipeline(found.config).run()
    return found


@pytest.fixture(autouse=True)
def without_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written by delta-rs, which a process cannot use when the one that it was forked from has used it."""
    monkeypatch.setattr(Table, "checkpoint_if_due", lambda *_: None)


def heard(base: Path) -> dict[str, list[str]]:
    """By channel, the first lines about one incident, in the order in which they came."""
    found: dict[str, list[str]] = {name: [] for name in CHANNELS}
    for channel, text in told(base):
        lines = re.findall(rf"(?:over: )?(?:{BAD.text}|{WORSE.text})", text)
        found[channel] += lines[1:] if "; " in text.partition("\n")[0] else lines
    return found


OVER = sorted(f"over: {one.text}" for one in (BAD, WORSE))
ALL = sorted(f"{mark}{one.text}" for mark in ("", "over: ") for one in (BAD, WORSE))


@pytest.mark.slow
def test_killed_anywhere_nothing_is_lost_and_at_most_one_message_comes_twice(world: World, tmp_path: Path) -> None:
    undisturbed = world.copy(tmp_path / "undisturbed")
    effects = life(undisturbed.base, None)
    assert effects > 30
    assert {name: sorted(lines) for name, lines in heard(undisturbed.base).items()} == dict.fromkeys(CHANNELS, ALL)
    for kill_at in drawn(range(effects), "alerts"):
        one = world.copy(tmp_path / f"killed-{kill_at}")
        assert life(one.base, kill_at) == -1, kill_at
        assert life(one.base, None) >= 0, kill_at
        for name, lines in heard(one.base).items():
            # A claim that was cut short waits for its lease; what began and ended meanwhile is told as ended.
            assert [line for line in sorted(set(lines)) if "over" in line] == OVER, (kill_at, name)
            assert BAD.text in lines or lines[0] == f"over: {BAD.text}", (kill_at, name)
        assert len(told(one.base)) <= len(told(undisturbed.base)) + 1, kill_at
        incidents = Life(one.base, lambda _: None).look(len(LOOKS))
        closed = sorted((one.key, one.count, one.open) for one in incidents)
        assert closed == [(BAD.key, 1, False), (WORSE.key, 1, False)]
        assert all(post.waiting is None for one in incidents for post in one.posts), kill_at


def test_processes_that_look_at_one_moment_send_nothing_twice(world: World, tmp_path: Path) -> None:
    both = world.copy(tmp_path / "both")
    for place in range(len(LOOKS)):
        gate, opener = os.pipe()
        children = [begun(both.base, place, gate) for _ in range(3)]
        os.write(opener, b"xxx")
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
        os.close(gate)
        os.close(opener)
    assert {name: sorted(lines) for name, lines in heard(both.base).items()} == dict.fromkeys(CHANNELS, ALL)


def begun(base: Path, place: int, gate: int) -> int:
    """A process that looks once when the gate opens."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.read(gate, 1)
            Life(base, lambda _: None).look(place)
            code = 0
        finally:
            if code:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
    return pid
