"""The archive's state machine, killed before every single effect, on one and on two file systems."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.errors import SourceError, StorageError
from ordertrail.model import FileIdentity, Manifest, Probe, State
from ordertrail.sources.archive import RACY_NS, TRUST_STAT_BYTES, archive_file, unchanged_by_stat
from ordertrail.sources.base import ArchiveResult
from ordertrail.sources.names import Entry, FileOps, archive_names, claim_name, copy_name, identity_of, source_names

OLD, NEW, FOREIGN = b"tracking_num\n1\n", b"tracking_num\n2, newer\n", b"somebody else's"
ARCHIVED = "2026/11/23/d1-a.csv"


class Killed(BaseException):
    """The process died here."""


@dataclass
class Disk(FileOps):
    """Counts effects, dies before one of them, and can refuse links.

    Attributes:
        life: Effects until it dies; None lives for ever.
        link_errno: What a link between two folders fails with.
        link_nowhere: Links inside one folder fail too.
    """

    life: int | None = None
    link_errno: int | None = None
    link_nowhere: bool = False
    probes: list[str] = field(default_factory=list)
    written_bytes: int = 0

    def effect(self) -> None:
        if self.life is not None:
            if self.life == 0:
                raise Killed
            self.life -= 1

    def probe(self, name: str) -> None:
        self.effect()
        self.probes.append(name)

    def link(self, entry: Entry, target: Entry) -> None:
        self.effect()
        if self.link_errno is not None and (self.link_nowhere or entry.folder != target.folder):
            raise OSError(self.link_errno, os.strerror(self.link_errno))
        super().link(entry, target)

    def rename_new(self, entry: Entry, target: Entry) -> None:
        self.effect()
        super().rename_new(entry, target)

    def unlink(self, entry: Entry) -> None:
        self.effect()
        super().unlink(entry)

    def write(self, descriptor: int, data: bytes) -> None:
        self.effect()
        super().write(descriptor, data[: len(data) // 2])
        self.effect()
        super().write(descriptor, data[len(data) // 2 :])
        self.written_bytes += len(data)

    def sync(self, descriptor: int) -> None:
        self.effect()
        super().sync(descriptor)


class OldKernelDisk(Disk):
    """No RENAME_NOREPLACE and no links: some network shares."""

    def _rename_noreplace(self, entry: Entry, target: Entry) -> bool:
        return False


DISKS: dict[str, Callable[..., Disk]] = {
    "one file system": Disk,
    "two file systems": lambda **more: Disk(link_errno=errno.EXDEV, **more),
    "files of another user": lambda **more: Disk(link_errno=errno.EPERM, **more),
    "no links": lambda **more: Disk(link_errno=errno.ENOTSUP, link_nowhere=True, **more),
    "no links, old kernel": lambda **more: OldKernelDisk(link_errno=errno.ENOTSUP, link_nowhere=True, **more),
}


@pytest.fixture(params=list(DISKS))
def make_disk(request: pytest.FixtureRequest) -> Callable[..., Disk]:
    return DISKS[request.param]


@dataclass
class Place:
    """A source with one file that was read, and its archive."""

    root: Path

    def __post_init__(self) -> None:
        self.source, self.archive = self.root / "source", self.root / "archive"
        self.home = self.source / "acme"
        self.home.mkdir(parents=True)
        self.file, self.claim = self.home / "a.csv", self.home / claim_name("d1")
        self.target = self.archive / ARCHIVED
        self.file.write_bytes(OLD)
        os.utime(self.file, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
        self.manifest = manifest_of(self.file)

    def run(self, disk: Disk, probe: Probe | None = None) -> ArchiveResult:
        return archive_file(self.source, self.archive, self.manifest, probe or disk.probe, disk)

    def contents(self) -> dict[str, bytes]:
        return {str(f.relative_to(self.root)): f.read_bytes() for f in sorted(self.root.rglob("*")) if f.is_file()}


def manifest_of(file: Path) -> Manifest:
    return Manifest(
        delivery_id="d1",
        vendor="acme",
        path="acme/a.csv",
        file_name="a.csv",
        identity=identity_of(file.stat()),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        file_key=0,
        contract_hash="",
        state=State.LOADED,
        reason=None,
        archive_path=ARCHIVED,
        absent=(),
        rows_parsed=1,
        rows_rejected=0,
        rows_duplicate=0,
        first_error=None,
        discovered_at=datetime.now(UTC),
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def killed_at_every_effect(
    root: Path, make_disk: Callable[..., Disk], prepare: Callable[[Place], None]
) -> Iterator[tuple[Place, ArchiveResult]]:
    """Fresh places, each killed once at another effect and once more in the recovery, then run to the end."""
    for first in range(100):
        survived = False
        for second in (0, 1, 2, 4, 7):
            place = Place(root / f"{first}-{second}")
            prepare(place)
            for life in (first, second):
                try:
                    place.run(make_disk(life=life))
                except Killed:
                    values = place.contents().values()
                    assert any(value in (OLD, NEW) for value in values), "every copy of the file is gone"
                else:
                    survived = survived or life == first
            yield place, place.run(make_disk())
        if survived:
            return
    raise AssertionError("it never ends")


def test_killed_at_any_effect_it_ends_archived(tmp_path: Path, make_disk: Callable[..., Disk]) -> None:
    seen = set()
    for place, result in killed_at_every_effect(tmp_path, make_disk, lambda _place: None):
        seen.add(result.outcome)
        assert (result.archived_to, result.note) == (ARCHIVED, None)
        assert place.contents() == {f"archive/{ARCHIVED}": OLD}
        assert place.target.stat().st_mtime_ns == place.manifest.identity.mtime_ns
    assert seen == {"archived", "already"}


def test_killed_at_any_effect_it_never_overwrites(tmp_path: Path, make_disk: Callable[..., Disk]) -> None:
    def occupy(place: Place) -> None:
        for name in (ARCHIVED, ARCHIVED + ".1"):
            (place.archive / name).parent.mkdir(parents=True, exist_ok=True)
            (place.archive / name).write_bytes(FOREIGN)

    for place, result in killed_at_every_effect(tmp_path, make_disk, occupy):
        assert result.archived_to == ARCHIVED + ".2"
        assert result.note == "another file has the name d1-a.csv: archived as d1-a.csv.2"
        expected = {ARCHIVED: FOREIGN, ARCHIVED + ".1": FOREIGN, ARCHIVED + ".2": OLD}
        assert place.contents() == {f"archive/{name}": data for name, data in expected.items()}


def test_killed_at_any_effect_a_changed_file_gets_its_name_back(tmp_path: Path, make_disk: Callable[..., Disk]) -> None:
    for place, result in killed_at_every_effect(tmp_path, make_disk, lambda place: _rewrite(place.file)):
        # Killed just before its end, the first call had given the name back; then the next claims it once more.
        assert (result.outcome, result.archived_to) == ("changed", None)
        assert result.note is not None
        assert place.contents() == {"source/acme/a.csv": NEW}


def _rewrite(file: Path) -> None:
    file.write_bytes(NEW)


def test_a_new_file_under_the_name_of_the_claim_stays(place: Place, make_disk: Callable[..., Disk]) -> None:
    def probe(name: str) -> None:
        if name == "archive.claimed":
            place.file.write_bytes(NEW)

    assert place.run(make_disk(), probe).outcome == "archived"
    assert place.contents() == {f"archive/{ARCHIVED}": OLD, "source/acme/a.csv": NEW}
    assert place.run(make_disk()).outcome == "already"
    assert place.contents() == {f"archive/{ARCHIVED}": OLD, "source/acme/a.csv": NEW}


def test_a_changed_file_whose_name_was_taken_is_kept_beside_it(place: Place, make_disk: Callable[..., Disk]) -> None:
    place.file.rename(place.claim)
    place.claim.write_bytes(NEW)
    place.file.write_bytes(FOREIGN)
    (place.home / "a.1.csv").write_bytes(FOREIGN)
    result = place.run(make_disk())
    assert result.outcome == "changed"
    assert result.note == "the file changed after it was read: it is in the source folder as a.2.csv"
    kept = {"a.csv": FOREIGN, "a.1.csv": FOREIGN, "a.2.csv": NEW}
    assert place.contents() == {f"source/acme/{name}": data for name, data in kept.items()}


def test_a_file_changed_with_size_and_times_kept_is_seen(place: Place) -> None:
    stamp = place.file.stat()
    place.file.write_bytes(OLD.replace(b"1", b"2"))
    os.utime(place.file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert place.run(Disk()).outcome == "changed"


def test_the_probes_are_called_after_each_effect(place: Place, make_disk: Callable[..., Disk]) -> None:
    disk = make_disk()
    place.run(disk)
    copied = ["archive.copied"] if disk.link_errno is not None else []
    assert disk.probes == ["archive.claimed", "archive.verified", *copied, "archive.linked", "archive.dropped"]
    assert (disk.written_bytes > 0) == bool(copied)


def test_a_kill_at_each_probe_leaves_what_the_probe_says(tmp_path: Path) -> None:
    for name in ["archive.claimed", "archive.verified", "archive.copied", "archive.linked", "archive.dropped"]:
        place = Place(tmp_path / name)

        def probe(at: str, name: str = name) -> None:
            if at == name:
                raise Killed

        with pytest.raises(Killed):
            place.run(Disk(link_errno=errno.EXDEV), probe)
        assert not place.file.exists()
        assert place.claim.exists() == (name != "archive.dropped")
        assert place.target.exists() == (name in {"archive.linked", "archive.dropped"})
        assert (place.target.parent / copy_name("d1")).exists() == (name in {"archive.copied", "archive.linked"})
        place.run(Disk(link_errno=errno.EXDEV))
        assert place.contents() == {f"archive/{ARCHIVED}": OLD}


def test_a_copy_on_a_real_second_file_system(tmp_path: Path) -> None:
    place = Place(tmp_path)
    here = tmp_path.stat().st_dev
    there = [place for place in map(Path, ("/dev/shm", "/var/tmp", "/tmp")) if place.is_dir()]
    other = next((place for place in there if place.stat().st_dev != here and os.access(place, os.W_OK)), None)
    if other is None:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=other) as folder:
        place.archive = Path(folder) / "archive"
        place.file.chmod(0o640)
        disk = Disk()
        assert place.run(disk).outcome == "archived"
        assert "archive.copied" in disk.probes
        status = (place.archive / ARCHIVED).stat()
        assert (status.st_mtime_ns, status.st_mode & 0o7777) == (place.manifest.identity.mtime_ns, 0o640)
        assert (place.archive / ARCHIVED).read_bytes() == OLD
        assert not list(place.home.iterdir())


def test_a_copy_that_does_not_read_back_is_never_trusted(place: Place) -> None:
    class Liar(Disk):
        def write(self, descriptor: int, data: bytes) -> None:
            super().write(descriptor, data.replace(b"1", b"7"))

    with pytest.raises(StorageError, match="does not read back"):
        place.run(Liar(link_errno=errno.EXDEV))
    assert place.contents() == {f"source/acme/{place.claim.name}": OLD}
    assert place.run(Disk()).outcome == "archived"


def test_a_claim_that_is_written_to_after_it_was_copied_is_kept(place: Place) -> None:
    def probe(name: str) -> None:
        if name == "archive.copied":
            place.claim.write_bytes(NEW)

    result = place.run(Disk(link_errno=errno.EXDEV), probe)
    assert (result.outcome, result.archived_to) == ("archived", ARCHIVED)
    assert result.note is not None
    assert place.contents() == {f"archive/{ARCHIVED}": OLD, "source/acme/a.csv": NEW}


@pytest.mark.parametrize(
    ("code", "error", "hint"),
    [
        (errno.ENOSPC, StorageError, "free space"),
        (errno.EDQUOT, StorageError, "free space"),
        (errno.EIO, StorageError, "disk"),
        (errno.EROFS, StorageError, "disk"),
        (errno.EACCES, SourceError, "right"),
        (errno.ESTALE, SourceError, "mounted"),
    ],
)
def test_a_disk_that_fails_leaves_no_half_copy_and_goes_on_later(
    place: Place, code: int, error: type[Exception], hint: str
) -> None:
    class Failing(Disk):
        def write(self, descriptor: int, data: bytes) -> None:
            os.write(descriptor, data[:3])
            raise OSError(code, os.strerror(code))

    with pytest.raises(error, match=r"cannot archive acme/a\.csv") as raised:
        place.run(Failing(link_errno=errno.EXDEV))
    assert hint in raised.value.hint  # type: ignore[attr-defined]
    assert place.contents() == {f"source/acme/{place.claim.name}": OLD}
    assert place.run(Disk(link_errno=errno.EXDEV)).outcome == "archived"
    assert place.contents() == {f"archive/{ARCHIVED}": OLD}


def test_a_missing_source_folder_is_not_a_vanished_file(place: Place) -> None:
    place.source.rename(place.root / "unmounted")
    with pytest.raises(SourceError, match="cannot archive"):
        place.run(Disk())


def test_what_took_the_name_of_a_vanished_file_stays(place: Place) -> None:
    place.file.unlink()
    place.file.symlink_to("elsewhere")
    assert place.run(Disk()).outcome == "vanished"
    assert place.file.is_symlink()
    place.file.unlink()
    place.file.mkdir()
    assert place.run(Disk()).outcome == "vanished"
    assert place.file.is_dir()


def test_a_link_in_the_archive_is_not_followed(place: Place) -> None:
    place.target.parent.mkdir(parents=True)
    (place.root / "precious").write_bytes(OLD)
    place.target.symlink_to(place.root / "precious")
    assert place.run(Disk()).archived_to == ARCHIVED + ".1"
    assert place.target.is_symlink()


def test_the_very_file_left_beside_its_archived_copy_is_dropped(place: Place) -> None:
    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(OLD)
    assert place.run(Disk()).outcome == "already"
    assert place.contents() == {f"archive/{ARCHIVED}": OLD}


def test_the_same_bytes_sent_again_are_a_new_delivery(place: Place) -> None:
    place.run(Disk())
    place.file.write_bytes(OLD)
    assert place.run(Disk()).outcome == "already"
    assert place.file.read_bytes() == OLD


def test_a_claim_with_other_content_beside_a_finished_archive_is_given_back(place: Place) -> None:
    place.run(Disk())
    place.claim.write_bytes(NEW)
    result = place.run(Disk())
    assert (result.outcome, result.archived_to) == ("already", ARCHIVED)
    assert result.note is not None
    assert place.contents() == {f"archive/{ARCHIVED}": OLD, "source/acme/a.csv": NEW}


@pytest.mark.parametrize("path", ["../out.csv", "/tmp/out.csv", "a/../../out.csv", ""])
def test_an_archive_path_cannot_leave_the_archive(place: Place, path: str) -> None:
    place.manifest = replace(place.manifest, archive_path=path)
    with pytest.raises(SourceError, match="is not the path"):
        place.run(Disk())
    assert place.contents() == {"source/acme/a.csv": OLD}


def test_free_names_fit_and_keep_what_the_vendor_is_known_by() -> None:
    in_source, in_archive = source_names("a.csv"), archive_names("a.csv")
    assert [next(in_source) for _ in range(3)] == ["a.csv", "a.1.csv", "a.2.csv"]
    assert [next(in_archive) for _ in range(3)] == ["a.csv", "a.csv.1", "a.csv.2"]
    long = iter(source_names("é" * 125 + ".csv"))
    assert [len(os.fsencode(next(long))) for _ in range(2)] == [254, 254]


def test_renaming_never_replaces(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for ops in (FileOps(), OldKernelDisk()):
            (tmp_path / "one").write_bytes(OLD)
            (tmp_path / "two").write_bytes(FOREIGN)
            with pytest.raises(FileExistsError):
                ops.rename_new(Entry(folder, "one"), Entry(folder, "two"))
            assert (tmp_path / "two").read_bytes() == FOREIGN
            with pytest.raises(FileNotFoundError):
                ops.rename_new(Entry(folder, "none"), Entry(folder, "three"))
    finally:
        os.close(folder)


SECOND = 1_000_000_000
FOUND_AT = datetime(2026, 11, 23, tzinfo=UTC)
FOUND_NS = int(FOUND_AT.timestamp()) * SECOND
BIG = FileIdentity(1, 2, TRUST_STAT_BYTES, FOUND_NS - RACY_NS - 1, FOUND_NS - RACY_NS - 1)


@pytest.mark.parametrize(
    ("seen", "before", "after", "trusted"),
    [
        (BIG, BIG, replace(BIG, ctime_ns=FOUND_NS + 9), True),
        (BIG, replace(BIG, ctime_ns=BIG.ctime_ns - 1), BIG, False),
        (BIG, BIG, replace(BIG, inode=3), False),
        (BIG, BIG, replace(BIG, mtime_ns=BIG.mtime_ns + 1), False),
        (BIG, BIG, replace(BIG, size_bytes=BIG.size_bytes + 1), False),
        (replace(BIG, size_bytes=TRUST_STAT_BYTES - 1), None, None, False),
        (replace(BIG, mtime_ns=FOUND_NS - RACY_NS), None, None, False),
        (replace(BIG, ctime_ns=FOUND_NS - RACY_NS), None, None, False),
        (replace(BIG, mtime_ns=FOUND_NS + 9), None, None, False),
    ],
)
def test_stat_is_trusted_only_where_it_proves(
    place: Place, seen: FileIdentity, before: FileIdentity | None, after: FileIdentity | None, trusted: bool
) -> None:
    manifest = replace(place.manifest, identity=seen, discovered_at=FOUND_AT)
    assert unchanged_by_stat(before or seen, after or seen, manifest) is trusted


class Untold(Disk):
    """A disk where nobody can tell who writes."""

    def is_written(self, descriptor: int) -> bool | None:
        return None


def test_a_big_file_is_hashed_again_only_when_racy_or_copied_or_perhaps_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapping that is written to need not move mtime: only that nobody has one makes `stat` a proof."""
    digests: list[BufferedReader] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: digests.append(file) or digest(file, name))
    for number, (age_s, disk, hashed) in enumerate(
        [(60, Disk(), 0), (0, Disk(), 1), (60, Disk(link_errno=errno.EXDEV), 1), (60, Untold(), 1)]
    ):
        place = Place(tmp_path / str(number))
        with place.file.open("r+b") as file:
            file.truncate(TRUST_STAT_BYTES)
        found_at = datetime.now(UTC) + timedelta(seconds=age_s)
        place.manifest = replace(manifest_of(place.file), discovered_at=found_at)
        digests.clear()
        assert place.run(disk).outcome == "archived"
        assert len(digests) == hashed


# --- the archive as evidence ---------------------------------------------------------------------------------------


def by_link(claim: Path, elsewhere: Path) -> None:
    claim.symlink_to(elsewhere)


def by_file(claim: Path, elsewhere: Path) -> None:
    claim.write_bytes(FOREIGN)


@pytest.mark.parametrize("swap", [by_link, by_file])
def test_a_name_that_is_swapped_after_it_was_verified_changes_nothing(
    place: Place, make_disk: Callable[..., Disk], swap: Callable[[Path, Path], None]
) -> None:
    """What is archived is the file that was hashed; what took its name gets the source's name."""
    (place.root / "precious").write_bytes(FOREIGN)

    def probe(name: str) -> None:
        if name == "archive.verified":
            place.claim.unlink()
            swap(place.claim, place.root / "precious")

    assert place.run(make_disk(), probe).outcome == "archived"
    assert not place.target.is_symlink()
    assert place.target.read_bytes() == OLD
    assert place.file.is_symlink() == (swap is by_link)
    assert place.contents() == {f"archive/{ARCHIVED}": OLD, "precious": FOREIGN, "source/acme/a.csv": FOREIGN}


def test_a_file_with_a_second_name_is_copied(place: Place) -> None:
    """The vendor's other name would be one of the archived bytes."""
    other = place.root / "kept by the vendor"
    other.hardlink_to(place.file)
    assert place.run(Disk()).outcome == "archived"
    other.write_bytes(NEW)
    assert place.contents() == {f"archive/{ARCHIVED}": OLD, other.name: NEW}


def test_a_file_of_another_user_is_copied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner may change it wherever it is."""
    inode = place.file.stat().st_ino
    monkeypatch.setattr(os, "geteuid", lambda: place.file.parent.stat().st_uid + 1)
    disk = Disk()
    assert place.run(disk).outcome == "archived"
    assert "archive.copied" in disk.probes
    assert place.target.stat().st_ino != inode
    assert place.contents() == {f"archive/{ARCHIVED}": OLD}


@pytest.mark.parametrize("planted", ["2026", "2026/11", "2026/11/23"])
def test_a_link_among_the_folders_of_the_archive_is_not_followed(
    place: Place, make_disk: Callable[..., Disk], planted: str
) -> None:
    elsewhere = place.root / "elsewhere"
    elsewhere.mkdir()
    (place.archive / planted).parent.mkdir(parents=True)
    (place.archive / planted).symlink_to(elsewhere)
    with pytest.raises(SourceError, match=f"archive/{planted} is a symbolic link") as raised:
        place.run(make_disk())
    assert "mount" in raised.value.hint
    assert (list(elsewhere.iterdir()), place.file.read_bytes()) == ([], OLD)
    (place.archive / planted).unlink()
    assert place.run(make_disk()).outcome == "archived"


def test_the_archive_itself_may_be_a_link(place: Place) -> None:
    (place.root / "disk").mkdir()
    place.archive.symlink_to(place.root / "disk")
    assert place.run(Disk()).outcome == "archived"
    assert place.target.read_bytes() == OLD


def test_a_file_that_is_open_for_writing_keeps_its_name(place: Place, make_disk: Callable[..., Disk]) -> None:
    with place.file.open("ab"):
        result = place.run(make_disk())
        assert (result.outcome, result.archived_to) == ("written", None)
        assert place.contents() == {"source/acme/a.csv": OLD}
    assert place.run(make_disk()).outcome == "archived"


def test_a_file_that_is_opened_after_it_was_claimed_gets_its_name_back(place: Place) -> None:
    with ExitStack() as stack:

        def probe(name: str) -> None:
            if name == "archive.claimed":
                stack.enter_context(place.claim.open("ab"))

        result = place.run(Disk(), probe)
        assert (result.outcome, result.note) == ("written", None)
        assert place.contents() == {"source/acme/a.csv": OLD}
    assert place.run(Disk()).outcome == "archived"


def test_a_copied_claim_that_somebody_writes_to_is_given_back(place: Place) -> None:
    with ExitStack() as stack:

        def probe(name: str) -> None:
            if name == "archive.copied":
                stack.enter_context(place.claim.open("ab"))

        result = place.run(Disk(link_errno=errno.EXDEV), probe)
        assert (result.outcome, result.archived_to) == ("archived", ARCHIVED)
        assert result.note is not None
        assert place.contents() == {f"archive/{ARCHIVED}": OLD, "source/acme/a.csv": OLD}


@pytest.mark.parametrize("link_errno", [None, errno.EXDEV])
def test_where_nobody_can_tell_it_is_looked_at_again(place: Place, link_errno: int | None) -> None:
    """A copied file keeps its claim until then, so that no byte is written into a file without a name."""
    disk = Untold(link_errno=link_errno)
    first, again = place.run(disk), place.run(disk)
    for result in (first, again):
        assert result.late is not None
        assert (result.archived_to, result.late.archived_to) == (ARCHIVED, ARCHIVED)
        assert result.late.claimed == (link_errno is not None)
    assert place.claim.exists() == (link_errno is not None)
    whole = archive_file(place.source, place.archive, place.manifest, disk.probe, disk, watchful=False)
    assert (whole.outcome, whole.late) == ("already", None)
    assert place.contents() == {f"archive/{ARCHIVED}": OLD}
