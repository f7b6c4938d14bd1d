"""One bad corner stops one corner: a folder, a file or an archive without rights, and what waits for ever."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from ordertrail import pipeline
from ordertrail.begin import doctor
from ordertrail.engines.embedded.engine import EmbeddedEngine
from ordertrail.errors import StorageError
from ordertrail.look.standing import waiting_in
from ordertrail.look.verify import verify
from ordertrail.model import RunReport
from ordertrail.sources.names import Entry, FileOps
from ordertrail.sources.notes import Notes, notes_path
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, check_books, open_house

VENDORS = '[[vendors]]\nname = "acme"\nfiles = "acme/*.csv"\n[[vendors]]\nname = "blue"\nfiles = "blue/*.csv"\n'
ACME, BLUE = f"acme/{dated(20)}", f"blue/{dated(21)}"


@dataclass
class Locks:
    """Folders where nothing can be renamed, and files that cannot be opened, of all `FileOps` of this process.

    Attributes:
        folders: Names of folders.
        files: Names of files, with what opening them fails with.
        archive: What linking into another folder fails with.
    """

    folders: set[str] = field(default_factory=set)
    files: dict[str, int] = field(default_factory=dict)
    archive: int | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rename_new, open_regular, link = FileOps.rename_new, FileOps.open_regular, FileOps.link

        def renaming(ops: FileOps, entry: Entry, target: Entry) -> None:
            if os.path.basename(os.readlink(f"/proc/self/fd/{entry.folder}")) in self.folders:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            rename_new(ops, entry, target)

        def opening(ops: FileOps, entry: Entry) -> int | None:
            if entry.name in self.files:
                raise OSError(self.files[entry.name], os.strerror(self.files[entry.name]))
            return open_regular(ops, entry)

        def linking(ops: FileOps, entry: Entry, target: Entry) -> None:
            if self.archive is not None and entry.folder != target.folder:
                raise OSError(self.archive, os.strerror(self.archive))
            link(ops, entry, target)

        monkeypatch.setattr(FileOps, "rename_new", renaming)
        monkeypatch.setattr(FileOps, "open_regular", opening)
        monkeypatch.setattr(FileOps, "link", linking)


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> Locks:
    made = Locks()
    made.install(monkeypatch)
    return made


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = open_house(tmp_path, VENDORS)
    made.drop(ACME, csv_bytes([cells("A", TIMES[0])]))
    made.drop(BLUE, csv_bytes([cells("B", TIMES[0])]))
    return made


def told(report: RunReport, words: str) -> bool:
    return report.needs_person and any(words in warning for warning in report.warnings)


def reasons(house: House) -> dict[str, str]:
    return {one.file_name: one.reason for one in waiting_in(house.config)[0]}


def test_a_folder_where_nothing_can_be_renamed_stops_nobody_else(house: House, locks: Locks) -> None:
    locks.folders = {"acme"}
    first = house.run()
    assert told(first, f"{dated(20)} is loaded and waits to be archived: cannot archive {ACME}: Permission denied")
    assert (set(house.target()), house.left()) == ({("A",), ("B",)}, [ACME])
    assert {d.file_name: d.archived_to is None for d in first.deliveries} == {dated(20): True, dated(21): False}
    house.drop(f"blue/{dated(22)}", csv_bytes([cells("C", TIMES[0])]))
    second = house.run()
    assert ([d.file_name for d in second.deliveries], house.left()) == ([dated(22)], [ACME]), "staged again"
    assert told(second, "waits to be archived")
    assert reasons(house) == {ACME: "loaded; it waits to be archived"}
    locks.folders = set()
    third = house.run()
    assert (third.batch, third.warnings, house.left()) == (None, (), [])
    assert {str(d["archived_to"]) for d in house.rows("deliveries")} == set(house.archived()) - {".ordertrail"}
    check_books(house)


def test_a_file_that_changes_while_it_waits_is_the_next_delivery(house: House, locks: Locks) -> None:
    locks.folders = {"acme"}
    house.run()
    house.drop(ACME, csv_bytes([cells("A", TIMES[0]), cells("C", TIMES[0])]))
    changed = house.run()
    assert ([d.rows.inserted for d in changed.deliveries], set(house.target())) == ([1], {("A",), ("B",), ("C",)})
    locks.folders = set()
    last = house.run()
    assert (last.batch, house.left()) == (None, [])
    assert not Notes(notes_path(house.config)).waiting


def test_a_disk_that_fills_up_before_the_tables_know_does_not_forget_what_waited(
    house: House, locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks.folders = {"acme"}
    house.run()
    locks.folders = set()

    def full(*_: object) -> NoReturn:
        raise StorageError("no space left", hint="free some")

    with monkeypatch.context() as context:
        context.setattr(EmbeddedEngine, "archived", full)
        with pytest.raises(StorageError):
            house.run()
    house.run()
    assert {str(d["archived_to"]) for d in house.rows("deliveries")} == set(house.archived()) - {".ordertrail"}
    check_books(house)


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_an_archive_that_takes_nothing_stops_no_row(house: House, locks: Locks, code: int) -> None:
    """The files are claimed and wait under their hidden names; new ones of the same name are new deliveries."""
    locks.archive = code
    first = house.run()
    assert (first.rows.inserted, first.needs_person, len(first.warnings)) == (2, True, 2)
    house.drop(ACME, csv_bytes([cells("C", TIMES[0])]))
    assert house.run().rows.inserted == 1
    assert set(reasons(house).values()) == {"loaded; it waits to be archived"}
    locks.archive = None
    assert (house.run().warnings, house.left(), len(house.rows("deliveries"))) == ((), [], 3)
    assert {str(d["archived_to"]) for d in house.rows("deliveries")} == set(house.archived()) - {".ordertrail"}


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("aside_bytes", [0, 64 << 20])
def test_a_file_that_cannot_be_read_waits_alone(
    house: House, locks: Locks, monkeypatch: pytest.MonkeyPatch, code: int, aside_bytes: int
) -> None:
    """However large it is; on a share it is noticed only when it is read."""
    monkeypatch.setattr(pipeline, "HASH_ASIDE_BYTES", aside_bytes)
    monkeypatch.setattr(FileOps, "is_local", lambda ops, descriptor: False)
    locks.files = {dated(20): code}
    report = house.run()
    assert (set(house.target()), house.left()) == ({("B",)}, [ACME])
    assert told(report, f"{ACME}: cannot read {ACME}: {os.strerror(code)}") or told(report, f"cannot open {ACME}")
    locks.files = {}
    assert (house.run().rows.inserted, house.left()) == (1, [])


@pytest.mark.parametrize("aside_bytes", [0, 64 << 20])
def test_a_file_whose_disk_fails_while_it_is_read_waits_alone(
    house: House, monkeypatch: pytest.MonkeyPatch, aside_bytes: int
) -> None:
    """Its error is not the tables', whoever of those that read it meets it first."""
    monkeypatch.setattr(pipeline, "HASH_ASIDE_BYTES", aside_bytes)
    open_regular = FileOps.open_regular

    def bad_sectors(ops: FileOps, entry: Entry) -> int | None:
        # The first page of a process's memory cannot be read: EIO.
        return os.open("/proc/self/mem", os.O_RDONLY) if entry.name == dated(20) else open_regular(ops, entry)

    with monkeypatch.context() as failing:
        failing.setattr(FileOps, "open_regular", bad_sectors)
        report = house.run()
    assert (set(house.target()), house.left()) == ({("B",)}, [ACME])
    assert told(report, f"{ACME}: cannot read {ACME}: {os.strerror(errno.EIO)}")
    assert (house.run().rows.inserted, house.left()) == (1, [])


def test_what_waits_for_long_is_told_until_it_goes(house: House) -> None:
    house.drop("ORDER.CSV", b"x")
    assert not house.run().needs_person
    notes = Notes(notes_path(house.config))
    notes.load()
    [look] = notes.looks.values()
    since = datetime.now(UTC) - timedelta(hours=2)
    notes.looks = {"ORDER.CSV": type(look)(since)}
    notes.save()
    report = house.run()
    assert report.warnings == (f"ORDER.CSV has been waiting since {since:%Y-%m-%d %H:%M} UTC: no vendor takes it",)
    assert report.needs_person
    [waits] = waiting_in(house.config)[0]
    assert (waits.reason, waits.since) == ("no vendor takes it", since)
    house.turn(waiting_warn_h=0.0)
    assert not house.run().needs_person
    house.turn(waiting_warn_h=2.0)
    (house.config.source / "ORDER.CSV").unlink()
    assert house.run().warnings == ()


def test_a_claim_that_no_batch_owns_is_told_and_listed(house: House) -> None:
    house.run()
    claim = house.config.source / "acme" / ".ordertrail-000009-00000-0123abcd.claim"
    claim.write_bytes(b"x")
    assert waiting_in(house.config)[0] == (), "it may be one of a pass that is at work"
    assert told(house.run(), "the claim of delivery 000009-00000-0123abcd, which no batch owns")
    assert list(reasons(house)) == [f"acme/{claim.name}"]
    [place] = [check for check in verify(house.config).checks if check.name == "the archived files are in their place"]
    assert f"1 in the source under a claim: acme/{claim.name}" in place.detail


def test_doctor_names_the_vendor_whose_folder_cannot_be_written_to(
    house: House, locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file = house.config.source.parent / "ordertrail.toml"
    folders = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n'
    config_file.write_text(folders + VENDORS)

    def findings() -> dict[str, tuple[str, str]]:
        return {one.name: (one.health, one.detail) for one in doctor.examine(config_file).findings}

    healthy = findings()
    assert healthy["writers"] == ("ok", "the system tells of our own files who still writes to them")
    assert not {"vendor acme", "waiting"} & set(healthy)
    probe = doctor._probe
    monkeypatch.setattr(doctor, "_probe", lambda path: "Permission denied" if path.name == "acme" else probe(path))
    locks.files = {dated(21): errno.EACCES}
    found = findings()
    assert found["vendor acme"] == ("fail", f"{house.config.source / 'acme'}: Permission denied")
    assert found["waiting"] == ("warn", f"{BLUE}: it cannot be read: Permission denied")
    monkeypatch.setattr(doctor, "is_local", lambda descriptor: False)
    assert findings()["writers"][0] == "warn"
    config_file.write_text(folders + "settle_s = 10\n" + VENDORS)
    assert findings()["writers"][0] == "ok"
