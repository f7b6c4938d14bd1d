"""What a pass does with files that cannot be archived, or come late: how often, in which order, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ordertrail.errors import OrdertrailError, SourceError, StorageError
from ordertrail.model import Batch, FileIdentity, Manifest, Probe, State, no_probe
from ordertrail.sources.archiving import DISK_FAILURES, FAILURES, LATE_FILES, NAMED, Archiving
from ordertrail.sources.base import ArchiveResult, LateResult, Source
from ordertrail.sources.late import LATE_S
from ordertrail.sources.notes import Late, Notes

NOW = datetime(2026, 11, 23, tzinfo=UTC)
IDENTITY = FileIdentity(1, 2, 3, 4, 5)


def manifest(number: int) -> Manifest:
    name = f"{number:04d}"
    return Manifest(
        delivery_id=name,
        vendor="acme",
        path=f"{name}.csv",
        file_name=f"{name}.csv",
        identity=IDENTITY,
        sha256="",
        file_key=0,
        contract_hash="",
        state=State.LOADED,
        reason=None,
        archive_path=f"2026/{name}.csv",
        absent=(),
        rows_parsed=1,
        rows_rejected=0,
        rows_duplicate=0,
        first_error=None,
        discovered_at=NOW,
    )


@dataclass
class Shelf:
    """A source whose archive fails for some files."""

    failing: dict[str, OrdertrailError] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    late: dict[str, LateResult] = field(default_factory=dict)
    looked: list[tuple[str, datetime]] = field(default_factory=list)

    def archive(self, one: Manifest, probe: Probe) -> ArchiveResult:
        self.tried.append(one.delivery_id)
        if one.delivery_id in self.failing:
            raise self.failing[one.delivery_id]
        return ArchiveResult("archived", one.archive_path)

    def look_again(self, late: Late, now: datetime, probe: Probe) -> LateResult:
        self.looked.append((late.manifest.delivery_id, now))
        return self.late.get(late.manifest.delivery_id, LateResult("same", late.archived_to))


def a_pass(shelf: Shelf, notes: Notes) -> Archiving:
    source: Source = shelf  # type: ignore[assignment]
    shelf.tried.clear()
    return Archiving(source, notes, no_probe)


def batch_of(count: int) -> Batch:
    return Batch(1, "", NOW, tuple(manifest(number) for number in range(count)))


def test_after_some_failures_of_a_disk_the_rest_waits_untried_and_each_has_its_turn() -> None:
    shelf, notes = Shelf(), Notes()
    count = DISK_FAILURES + 2
    shelf.failing = {f"{number:04d}": StorageError("full") for number in range(count)}
    first = a_pass(shelf, notes)
    assert set(first.batch(batch_of(count)).values()) == {None}
    assert (shelf.tried, len(notes.waiting)) == (["0000", "0001", "0002"], count)
    assert first.warnings == [
        "0000.csv is loaded and waits to be archived: full",
        "0001.csv is loaded and waits to be archived: full",
        "0002.csv is loaded and waits to be archived: full",
        "2 more files are loaded and wait to be archived",
    ]
    second = a_pass(shelf, notes)
    assert second.again(NOW) == {}
    assert shelf.tried == ["0000", "0001", "0002"]
    third = a_pass(shelf, notes)
    third.again(NOW)
    assert shelf.tried == ["0003", "0004", "0000"]
    assert len(third.warnings) == count
    shelf.failing.clear()
    last = a_pass(shelf, notes)
    assert last.again(NOW) == {f"{number:04d}": f"2026/{number:04d}.csv" for number in range(count)}
    assert (last.warnings, notes.waiting, notes.trouble) == ([], {}, {})


def test_folders_without_rights_hold_up_no_other_and_are_named_up_to_a_number() -> None:
    shelf, notes = Shelf(), Notes()
    locked = NAMED + DISK_FAILURES
    shelf.failing = {f"{number:04d}": SourceError("no right") for number in range(locked)}
    one = a_pass(shelf, notes)
    placed = one.batch(batch_of(locked + 1))
    assert placed[f"{locked:04d}"] is not None
    assert one.warnings[NAMED:] == [f"{DISK_FAILURES} more files are loaded and wait to be archived"]
    shelf.failing = {f"{number:04d}": SourceError("no right") for number in range(FAILURES + 5)}
    many = a_pass(shelf, notes)
    many.batch(batch_of(FAILURES + 5))
    assert len(shelf.tried) == FAILURES


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (LateResult("same", "2026/0000.csv"), True),
        (LateResult("written", "2026/0000.csv"), True),
        (LateResult("settled", "2026/0000.csv"), False),
        (LateResult("returned", "2026/0000.csv", "it came late"), False),
        (LateResult("returned", None, "it came late"), False),
    ],
)
def test_late_files_are_looked_at_until_they_settle_or_return(result: LateResult, kept: bool) -> None:
    shelf, notes = Shelf(late={"0000": result}), Notes()
    notes.late = {"0000": Late(manifest(0), "2026/0000.csv", IDENTITY, False, NOW)}
    archiving = a_pass(shelf, notes)
    assert archiving.again(NOW) == ({} if result.archived_to else {"0000": None})
    assert bool(notes.late) is kept
    assert archiving.warnings == ([] if result.note is None else ["0000.csv (delivery 0000): it came late"])


def test_a_late_file_that_was_only_touched_is_compared_with_its_new_times() -> None:
    touched = FileIdentity(1, 2, 3, 9, 9)
    shelf, notes = Shelf(late={"0000": LateResult("same", "2026/0000.csv", None, touched)}), Notes()
    notes.late = {"0000": Late(manifest(0), "2026/0000.csv", IDENTITY, False, NOW)}
    a_pass(shelf, notes).again(NOW)
    assert notes.late["0000"].identity == touched


def test_only_the_newest_late_files_are_looked_at_more_than_once() -> None:
    shelf, notes = Shelf(), Notes()
    for number in range(LATE_FILES + 2):
        one = manifest(number)
        notes.late[one.delivery_id] = Late(one, one.archive_path, IDENTITY, False, NOW)
    a_pass(shelf, notes).again(NOW)
    end = NOW + timedelta(seconds=LATE_S)
    assert [when for _, when in shelf.looked] == [end, end] + [NOW] * LATE_FILES
