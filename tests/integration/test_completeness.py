"""Half an upload is never the end of it: writers that stall, shares whose clock is wrong, writers that come late."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.look.verify import verify
from ordertrail.model import RunReport
from ordertrail.pipeline import Pipeline
from ordertrail.sources.directory import DirectorySource
from ordertrail.sources.late import LATE_S
from ordertrail.sources.names import Entry, FileOps, claim_name
from ordertrail.sources.notes import Notes, notes_path
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, check_books, open_house

KEYS = [f"{number:03d}" for number in range(1, 101)]
WHOLE = csv_bytes([cells(key, TIMES[0]) for key in KEYS])
HALF = csv_bytes([cells(key, TIMES[0]) for key in KEYS[:50]])
REST = WHOLE.removeprefix(HALF)


@dataclass
class Share(FileOps):
    """A network share: nobody can tell who writes, and its clock is not ours.

    Attributes:
        copies: The archive is on another disk.
    """

    copies: bool = False

    def is_local(self, descriptor: int) -> bool:
        return False

    def link(self, entry: Entry, target: Entry) -> None:
        if self.copies and entry.folder != target.folder and target.name.startswith("0"):
            raise OSError(errno.EXDEV, "another disk")
        super().link(entry, target)


@dataclass
class Desk:
    """A pipeline whose passes are made one by one, each by a process that knows only what was written down."""

    house: House
    ops: FileOps
    now_s: float = 1000.0
    slept_s: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    def run(self, patience_s: float = 60.0, notes: Notes | None = None) -> RunReport:
        config = self.house.config
        notes = notes or Notes(notes_path(config), lambda: self.now_s)
        source = DirectorySource(
            config.source, config.archive, config.vendors, config.settle_s, self.ops, notes, lambda: frozenset()
        )
        return Pipeline(config, source=source, notes=notes, patience_s=patience_s, sleep=self.sleep).run()

    @property
    def file(self) -> Path:
        return self.house.config.source / dated(23)


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Desk]:
    def make(ops: FileOps | None = None, settle_s: float = 2.0, toml: str = "") -> Desk:
        return Desk(replace_settle(open_house(tmp_path, toml), settle_s), ops or FileOps())

    return make


def replace_settle(house: House, settle_s: float) -> House:
    return House(replace(house.config, settle_s=settle_s))


MakeDesk = Callable[..., Desk]


def loaded(desk: Desk) -> list[str]:
    return sorted(str(key) for (key,) in desk.house.target())


def test_a_writer_that_stalls_is_waited_for(desk: MakeDesk) -> None:
    at = desk(settle_s=0)
    with at.file.open("wb") as writer:
        writer.write(HALF)
        writer.flush()
        report = at.run()
        assert [(one.file_name, one.reason) for one in report.skipped] == [(dated(23), "still open for writing")]
        assert (report.batch, at.slept_s) == (None, [])
        writer.write(REST)
    assert at.run().rows.inserted == 100
    assert not at.house.left()


def test_a_writer_that_comes_back_before_the_file_is_archived_is_waited_for(desk: MakeDesk) -> None:
    """The rows that were read are loaded; the file keeps its name until it is closed, and is the next delivery then."""
    at = desk(settle_s=0)
    at.file.write_bytes(HALF)
    with at.file.open("ab") as writer:
        writer.close()

        def opened(name: str) -> None:
            nonlocal writer
            if name == "deliveries.committed":
                writer = at.file.open("ab")
                writer.write(REST[:9])
                writer.flush()

        first = at.house.run(opened)
        assert (first.rows.inserted, first.deliveries[0].archived_to) == (50, None)
        assert "still open for writing" in first.skipped[0].reason
        assert at.house.left() == [dated(23)]
        again = at.run()
        assert (again.batch, at.house.left()) == (None, [dated(23)])
        writer.write(REST[9:])
        writer.close()
    last = at.run()
    assert (last.rows.parsed, last.rows.inserted) == (100, 50)
    assert (loaded(at), at.house.left()) == (KEYS, [])
    assert list(at.house.archived().values()) == [WHOLE]
    check_books(at.house)


@pytest.mark.parametrize("copies", [False, True])
def test_a_late_writer_on_a_share_is_found_and_told(desk: MakeDesk, copies: bool) -> None:
    """It stalled longer than any rest, and wrote the other half into the file that was archived."""
    at = desk(Share(copies))
    with at.file.open("wb") as writer:
        writer.write(HALF)
        writer.flush()
        first = at.run()
        assert (first.rows.inserted, first.warnings, at.slept_s) == (50, (), [2.0])
        assert at.house.left() == ([f".ordertrail-{first.deliveries[0].delivery_id}.claim"] if copies else [])
        assert at.run().batch is None
        writer.write(REST)
    [wrong] = [check for check in verify(at.house.config).checks if not check.ok] or [None]
    if not copies:
        assert wrong is not None
        assert f"has {len(WHOLE)} bytes, {len(HALF)} were loaded" in wrong.detail
    second = at.run()
    assert (second.needs_person, second.rows.inserted) == (True, 50)
    assert "it is in the source folder" in second.warnings[0]
    assert (loaded(at), at.house.left()) == (KEYS, [".ordertrail-000002-00000-" + tail(at)] if copies else [])
    assert sorted(at.house.archived().values(), key=len) == [HALF, WHOLE], "the bytes of both deliveries"
    assert verify(at.house.config).ok
    assert at.run().warnings == ()
    check_books(at.house)


def tail(at: Desk) -> str:
    newest = str(at.house.delivery(dated(23))["delivery_id"])
    return claim_name(newest).removeprefix(".ordertrail-000002-00000-")


def test_a_late_writer_that_changed_what_was_loaded_is_found_too(desk: MakeDesk) -> None:
    at = desk(Share())
    at.file.write_bytes(WHOLE)
    with at.file.open("r+b") as writer:
        at.run()
        writer.seek(len(WHOLE) - len(REST))
        writer.write(REST.replace(b"IN_TRANSIT", b"DELIVERED,"[:10]))
    report = at.run()
    assert "the bytes that were loaded are no longer in the archive" in report.warnings[0]
    assert at.house.rows("deliveries")[0]["archived_to"] != at.house.rows("deliveries")[1]["archived_to"]
    assert len(at.house.archived()) == 1


def test_a_late_file_is_looked_at_for_an_hour(desk: MakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    at = desk(Share(copies=True))
    at.file.write_bytes(WHOLE)
    at.run()
    assert len(at.house.left()) == 1
    notes = Notes(notes_path(at.house.config))
    notes.load()
    [late] = notes.late.values()
    old = replace(late, since=late.since.fromtimestamp(late.since.timestamp() - LATE_S, late.since.tzinfo))
    notes.late = {old.manifest.delivery_id: old}
    notes.save()
    assert (at.run().warnings, at.house.left()) == ((), [])
    notes.load()
    assert not notes.late


class Restless(Share):
    """A mount that makes up inode and ctime at each look, without hard links."""

    looks = 0

    def status(self, entry: Entry) -> os.stat_result | None:
        status = super().status(entry)
        if status is None or not stat.S_ISREG(status.st_mode):
            return status
        self.looks += 1
        times = {"st_mtime_ns": status.st_mtime_ns, "st_ctime_ns": status.st_ctime_ns + self.looks}
        return os.stat_result((status.st_mode, 10**6 + self.looks, *status[2:]), times)

    def link(self, entry: Entry, target: Entry) -> None:
        raise OSError(errno.EPERM, "no links here")


@pytest.mark.parametrize("settle_s", [0.0, 2.0])
def test_on_a_mount_that_makes_up_inodes_a_file_is_loaded_once_and_archived(
    desk: MakeDesk, monkeypatch: pytest.MonkeyPatch, settle_s: float
) -> None:
    at = desk(Restless(), settle_s=settle_s)
    at.file.write_bytes(WHOLE)
    reports = []
    for number in range(6):
        # Each pass on another machine, as jobs in a cloud are: the clock is another one each time.
        monkeypatch.setattr("ordertrail.sources.notes._boot_id", lambda number=number: str(number))
        reports.append(at.run())
        at.now_s -= 100
    assert [report.rows.inserted for report in reports if report.batch is not None] == [100]
    assert all(report.warnings == () for report in reports)
    assert WHOLE in at.house.archived().values()
    check_books(at.house)


def test_a_run_waits_for_all_that_may_rest(desk: MakeDesk) -> None:
    at = desk(Share())
    at.file.write_bytes(WHOLE)
    at.run(patience_s=0)
    at.now_s += 1.5
    at.file.with_name(dated(24)).write_bytes(WHOLE)
    report = at.run()
    assert (len(report.deliveries), at.slept_s) == (2, [2.0])


def test_a_run_does_not_wait_when_the_run_before_it_has_looked(desk: MakeDesk) -> None:
    at = desk(Share())
    at.file.write_bytes(WHOLE)
    report = at.run(patience_s=0)
    assert (report.batch, report.skipped[0].reason, at.slept_s) == (None, "not settled", [])
    at.now_s += 1.5
    assert at.run(patience_s=0).batch is None
    at.now_s += 0.5
    assert (at.run().rows.inserted, at.slept_s) == (100, [])


def test_a_look_of_another_boot_or_clock_counts_for_nothing(desk: MakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    at = desk(Share())
    at.file.write_bytes(WHOLE)
    at.run(patience_s=0)
    monkeypatch.setattr("ordertrail.sources.notes._boot_id", lambda: "another")
    at.now_s += 60
    assert at.run(patience_s=0).batch is None
    at.now_s = 5.0
    assert at.run(patience_s=0).batch is None
    at.now_s = 7.0
    assert at.run(patience_s=0).rows.inserted == 100


def test_notes_that_are_lost_or_damaged_are_begun_anew(desk: MakeDesk) -> None:
    at = desk(Share())
    at.file.write_bytes(WHOLE)
    path = notes_path(at.house.config)
    for damage in (b"", b"{", b"[]", b'{"version": 1}', b'{"version": 9}', b"\xff"):
        at.run(patience_s=0)
        path.write_bytes(damage)
    at.now_s += 2
    assert at.run(patience_s=0).batch is None
    at.now_s += 2
    assert at.run(patience_s=0).rows.inserted == 100


def test_a_local_file_that_rested_is_taken_at_once_and_nothing_is_written_down(desk: MakeDesk) -> None:
    at = desk(settle_s=0.001)
    at.house.drop(dated(23), WHOLE)
    assert (at.run().rows.inserted, at.slept_s) == (100, [])
    assert not notes_path(at.house.config).exists()
