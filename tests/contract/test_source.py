"""What every source promises. A new source joins by a harness in `HARNESSES`; two of them are crippled on purpose."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import socket
import stat
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import pytest

from ordertrail.errors import FileChangedError, SourceError
from ordertrail.model import FileIdentity, Manifest, State, Vendor
from ordertrail.rules.filekey import archive_path, clean_name
from ordertrail.sources.base import Source
from ordertrail.sources.directory import DirectorySource
from ordertrail.sources.names import Entry, FileOps, claim_name
from ordertrail.sources.notes import Notes
from ordertrail.sources.settling import CLOCK_SKEW_S, settled

VENDORS = (Vendor("acme", "acme/*.csv"), Vendor("default", "*.csv"))


class NoLinks(FileOps):
    """A file system without hard links, as some shares are."""

    def link(self, entry: Entry, target: Entry) -> None:
        raise OSError(errno.EPERM, "no links here")


class OtherFileSystem(FileOps):
    """The archive is on another file system than the source."""

    def link(self, entry: Entry, target: Entry) -> None:
        if entry.folder != target.folder:
            raise OSError(errno.EXDEV, "cross-device link")
        super().link(entry, target)


@dataclass
class Harness:
    """A source of one kind in `folder`, and how a vendor and a person reach it."""

    folder: Path
    ops: FileOps
    rested_s: float = 0.0

    def __post_init__(self) -> None:
        self.place = self.folder / "source"
        self.place.mkdir()
        self.source: Source = self.settling(0)

    def settling(self, settle_s: float) -> Source:
        notes = Notes(clock=lambda: 1000.0 + self.rested_s)
        return DirectorySource(self.place, self.folder / "archive", VENDORS, settle_s, self.ops, notes)

    def drop(self, path: str, data: bytes = b"a,b\n1,2\n") -> None:
        file = self.place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def manifest(self, path: str, delivery_id: str = "d1") -> Manifest:
        identity = self.source.identify(path)
        name = path.rpartition("/")[2]
        return Manifest(
            delivery_id=delivery_id,
            vendor="acme",
            path=path,
            file_name=clean_name(name),
            identity=identity,
            sha256=self.source.sha256(path),
            file_key=0,
            contract_hash="",
            state=State.LOADED,
            reason=None,
            archive_path=archive_path(delivery_id, name, now(), State.LOADED),
            absent=(),
            rows_parsed=0,
            rows_rejected=0,
            rows_duplicate=0,
            first_error=None,
            discovered_at=now(),
        )

    def archived(self) -> dict[str, bytes]:
        root = self.folder / "archive"
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}

    def left(self) -> set[str]:
        return {str(file.relative_to(self.place)) for file in self.place.rglob("*") if not file.is_dir()}


class NetworkShare(FileOps):
    """Nobody can tell who writes, and the times are those of another clock."""

    def is_local(self, descriptor: int) -> bool:
        return False


HARNESSES = {
    "directory": FileOps,
    "directory, no hard links": NoLinks,
    "directory, two disks": OtherFileSystem,
    "directory, on a share": NetworkShare,
}


@pytest.fixture(params=list(HARNESSES))
def feed(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    return Harness(tmp_path, HARNESSES[request.param]())


def now() -> datetime:
    return datetime.now(UTC)


def ignore(_name: str) -> None:
    """A probe that lets everything live."""


def found(feed: Harness) -> list[str]:
    return [file.path for file in feed.source.discover(now()).files]


def skipped(feed: Harness) -> dict[str, str]:
    return {item.file_name: item.reason for item in feed.source.discover(now()).skipped}


ODD_NAMES = [
    " leading space.csv",
    "two\nlines.csv",
    "'quote' \"double\".csv",
    "\x1b[31mred.csv",
    "-rf.csv",
    "$(reboot);`x`|&.csv",
    "back\\slash.csv",
    "raw\udcff\udc80.csv",
    "ünï🚚.csv",
    "\u202efdp.csv",
    "n" * 251 + ".csv",
]


def test_files_come_in_the_order_of_their_bytes_with_vendor_and_identity(feed: Harness) -> None:
    for path in ["z.csv", "acme/b.csv", "B.csv", "é.csv", "acme.csv", "acme/a.csv"]:
        feed.drop(path)
    files = feed.source.discover(now()).files
    assert [file.path for file in files] == ["B.csv", "acme.csv", "acme/a.csv", "acme/b.csv", "z.csv", "é.csv"]
    assert [file.vendor for file in files] == ["default", "default", "acme", "acme", "default", "default"]
    assert all(file.identity == feed.source.identify(file.path) for file in files)


def test_odd_names_are_found_read_and_archived(feed: Harness) -> None:
    for name in ODD_NAMES:
        feed.drop(name, os.fsencode(name))
    assert sorted(found(feed)) == sorted(ODD_NAMES)
    for number, name in enumerate(ODD_NAMES):
        assert feed.source.sha256(name) == hashlib.sha256(os.fsencode(name)).hexdigest()
        with feed.source.open(name) as file:
            assert file.read() == os.fsencode(name)
        result = feed.source.archive(feed.manifest(name, f"d{number}"), ignore)
        assert result.outcome == "archived"
        assert result.archived_to is not None
        assert feed.archived()[result.archived_to] == os.fsencode(name)
        result.archived_to.encode()
    assert feed.left() == set()


def test_a_file_that_no_vendor_takes_is_reported_and_left_alone(feed: Harness) -> None:
    feed.drop("acme/readme\n.txt")
    feed.drop("other/deep/x.csv")
    assert found(feed) == []
    assert skipped(feed) == {"acme/readme\\n.txt": "no vendor takes it", "other/deep/x.csv": "no vendor takes it"}


@pytest.mark.parametrize(
    "name",
    [
        "a.csv.part",
        "a.tmp",
        "a.filepart",
        "a.crdownload",
        "a.partial",
        "a.swp",
        "a.TEMP",
        "a.csv~",
        "~$a.csv",
        ".~a.csv",
    ],
)
def test_a_temporary_name_is_not_complete(feed: Harness, name: str) -> None:
    feed.drop(name)
    assert found(feed) == []
    assert "temporary name" in skipped(feed)[name]


def test_hidden_names_are_passed_over_in_silence(feed: Harness) -> None:
    for path in [".a.csv", ".hidden/a.csv", ".~tmp~/a.csv"]:
        feed.drop(path)
    assert feed.source.discover(now()) == feed.source.discover(now())
    assert (found(feed), skipped(feed)) == ([], {})


def test_what_is_no_regular_file_is_skipped_with_its_kind(feed: Harness) -> None:
    feed.drop("real.csv")
    feed.drop("folder.csv/x.txt")
    (feed.place / "link.csv").symlink_to("real.csv")
    (feed.place / "dangling.csv").symlink_to("nowhere")
    (feed.place / "linked").symlink_to(feed.folder)
    os.mkfifo(feed.place / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as unix:
        previous = Path.cwd()
        os.chdir(feed.place)  # a socket's path has at most 107 bytes
        try:
            unix.bind("socket.csv")
        finally:
            os.chdir(previous)
    assert found(feed) == ["real.csv"]
    assert skipped(feed) == {
        "dangling.csv": "a symbolic link",
        "folder.csv/x.txt": "no vendor takes it",
        "link.csv": "a symbolic link",
        "linked": "a symbolic link",
        "pipe.csv": "a named pipe",
        "socket.csv": "a socket",
    }


@pytest.mark.parametrize("name", ["link.csv", "pipe.csv", "folder.csv", "missing.csv", "linked/real.csv", "real.csv/x"])
def test_only_a_regular_file_opens_and_nothing_hangs(feed: Harness, name: str) -> None:
    feed.drop("real.csv")
    (feed.place / "link.csv").symlink_to("real.csv")
    (feed.place / "linked").symlink_to(".")
    (feed.place / "folder.csv").mkdir()
    os.mkfifo(feed.place / "pipe.csv")
    for call in (feed.source.open, feed.source.identify, feed.source.sha256):
        with pytest.raises(FileChangedError, match="no longer a regular file"):
            call(name)


@pytest.mark.parametrize("path", ["../real.csv", "/etc/hostname", "a//b", "./a", "a/..", "", "a\0b"])
def test_a_path_cannot_leave_the_source(feed: Harness, path: str) -> None:
    with pytest.raises(SourceError, match="is not the path"):
        feed.source.open(path)


def test_a_missing_source_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "missing", tmp_path / "file"):
        source = DirectorySource(place, tmp_path / "archive", VENDORS, 0)
        with pytest.raises(SourceError, match="mounted"):
            source.discover(now())
        with pytest.raises(SourceError, match="mounted"):
            source.open("a.csv")


def test_a_folder_that_cannot_be_read_is_skipped_with_its_reason(feed: Harness) -> None:
    feed.drop("a.csv")
    previous = Path.cwd()
    try:
        os.chdir(feed.place)
        for _ in range(40):  # deeper than a path may be long
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
    finally:
        os.chdir(previous)
    assert found(feed) == ["a.csv"]
    [left] = feed.source.discover(now()).skipped
    assert (left.reason, left.needs_person) == ("the folder cannot be read: File name too long", True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_permission_is_skipped_with_its_reason(feed: Harness) -> None:
    feed.drop("a.csv")
    feed.drop("acme/b.csv")
    (feed.place / "acme").chmod(0)
    try:
        assert found(feed) == ["a.csv"]
        assert skipped(feed) == {"acme": "the folder cannot be read: Permission denied"}
    finally:
        (feed.place / "acme").chmod(stat.S_IRWXU)


def test_the_archive_is_not_entered_when_it_lies_inside_the_source(tmp_path: Path) -> None:
    source = DirectorySource(tmp_path, tmp_path / "acme", (Vendor("all", "**"),), 0)
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "archived.csv").write_text("x")
    (tmp_path / "a.csv").write_text("x")
    assert [file.path for file in source.discover(now()).files] == ["a.csv"]


def calls_of_a_discovery(feed: Harness, files: int) -> int:
    """How many functions, Python's and C's, `discover` calls for so many files in one folder."""
    (feed.place / "acme").mkdir(exist_ok=True)
    for number in range(files):
        (feed.place / "acme" / f"{number}.csv").touch()
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = feed.source.discover(now()).files
    finally:
        sys.setprofile(before)
    assert len(found) == files
    return calls


def test_each_file_of_a_full_folder_costs_the_same_few_calls(feed: Harness) -> None:
    """Work is counted, not timed: a second for ten thousand files is some 150 calls a file on a slow machine."""
    few, many = calls_of_a_discovery(feed, 500), calls_of_a_discovery(feed, 1000)
    assert (many - few) / 500 < 100, (few, many)
    assert many < 2.3 * few


def test_a_file_must_be_unchanged_for_the_settle_time(feed: Harness) -> None:
    feed.drop("a.csv")
    source = feed.settling(60)
    early = source.discover(now())
    assert early.files == ()
    assert [(item.file_name, item.reason) for item in early.skipped] == [("a.csv", "not settled")]
    assert [file.path for file in source.discover(now(), frozenset({"a.csv"})).files] == ["a.csv"]
    assert source.discover(now(), frozenset({"b.csv"})).files == ()
    feed.rested_s += 61
    assert [file.path for file in source.discover(now() + timedelta(seconds=61)).files] == ["a.csv"]


def test_a_file_that_somebody_has_open_for_writing_waits_however_long_it_rests(feed: Harness) -> None:
    if isinstance(feed.ops, NetworkShare):
        pytest.skip("nobody can tell there")
    feed.drop("a.csv")
    for settle_s in (0, 60):
        source = feed.settling(settle_s)
        with (feed.place / "a.csv").open("ab"):
            for complete in (frozenset[str](), frozenset({"a.csv"})):
                seen = source.discover(now() + timedelta(days=1), complete)
                assert (seen.files, seen.rest_s) == ((), None)
                assert [item.reason for item in seen.skipped] == ["still open for writing"]
        assert len(source.discover(now() + timedelta(days=1)).files) == 1


def test_a_file_that_is_mapped_for_writing_waits_too(feed: Harness) -> None:
    if isinstance(feed.ops, NetworkShare):
        pytest.skip("nobody can tell there")
    feed.drop("a.csv")
    with (feed.place / "a.csv").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert found(feed) == []
    mapped.close()
    assert found(feed) == ["a.csv"]


def test_a_file_that_cannot_be_read_waits_and_needs_a_person(feed: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    feed.drop("a.csv")
    feed.drop("b.csv")
    opened = feed.ops.open_regular

    def refused(entry: Entry) -> int | None:
        if entry.name == "a.csv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(entry)

    monkeypatch.setattr(feed.ops, "open_regular", refused)
    seen = feed.source.discover(now())
    if isinstance(feed.ops, NetworkShare):
        # It is opened only when it is read.
        with pytest.raises(SourceError, match=r"cannot open a\.csv: Permission denied"):
            feed.source.sha256("a.csv")
        return
    assert [file.path for file in seen.files] == ["b.csv"]
    [left] = seen.skipped
    assert (left.file_name, left.reason, left.needs_person) == ("a.csv", "it cannot be read: Permission denied", True)


def test_a_claim_that_nobody_owns_is_told_of(feed: Harness) -> None:
    feed.drop("acme/" + claim_name("d1"))
    feed.drop("acme/" + claim_name("\x1b[31m"))
    seen = feed.source.discover(now())
    evil, left = seen.skipped
    assert (seen.files, left.needs_person) == ((), True)
    assert "the claim of delivery d1, which no batch owns" in left.reason
    assert "\x1b" not in evil.reason + evil.file_name


def test_the_first_look_at_a_file_that_waits_is_kept(feed: Harness) -> None:
    feed.drop("a.txt")
    first = now()
    [left] = feed.source.discover(first).skipped
    [again] = feed.source.discover(first + timedelta(hours=3)).skipped
    assert (left.since, again.since) == (first, first)
    (feed.place / "a.txt").unlink()
    assert feed.source.discover(first + timedelta(hours=4)).skipped == ()
    feed.drop("a.txt")
    [anew] = feed.source.discover(first + timedelta(hours=5)).skipped
    assert anew.since == first + timedelta(hours=5)


def on_share(folder: Path, ops: FileOps | None = None) -> Harness:
    return Harness(folder, ops or NetworkShare())


@pytest.mark.parametrize("behind", [timedelta(seconds=5), timedelta(0), timedelta(days=-1)])
def test_on_a_share_two_looks_by_our_own_clock_make_a_rest(tmp_path: Path, behind: timedelta) -> None:
    """Whatever the file server's clock says: the times of the file are compared with each other only."""
    feed = on_share(tmp_path)
    feed.drop("a.csv")
    source = feed.settling(2)
    first = source.discover(now() + behind)
    assert (first.files, first.rest_s) == ((), 2)
    feed.rested_s += 1.9
    second = source.discover(now() + behind)
    assert (second.files, second.rest_s) == ((), pytest.approx(0.1))
    feed.drop("a.csv", b"more\n")
    feed.rested_s += 0.1
    assert source.discover(now() + behind).rest_s == 2
    feed.rested_s += 2
    assert len(source.discover(now() + behind).files) == 1


class Restless(NetworkShare):
    """A mount that makes up inode and ctime at each look."""

    def __init__(self) -> None:
        self.looks = 0

    def status(self, entry: Entry) -> os.stat_result | None:
        status = super().status(entry)
        if status is None or not stat.S_ISREG(status.st_mode):
            return status
        self.looks += 1
        times = {"st_mtime_ns": status.st_mtime_ns, "st_ctime_ns": status.st_ctime_ns + self.looks}
        return os.stat_result((status.st_mode, 10**6 + self.looks, *status[2:]), times)


@pytest.mark.parametrize("settle_s", [0, 2])
def test_a_file_whose_inode_differs_at_each_look_is_taken_by_its_hash(tmp_path: Path, settle_s: int) -> None:
    feed = on_share(tmp_path, Restless())
    feed.drop("a.csv", b"a\n1\n")
    source = feed.settling(settle_s)
    stamp = (feed.place / "a.csv").stat().st_mtime_ns
    seen = []
    for _ in range(5):
        seen.append([file.path for file in source.discover(now()).files if file.identity == source.identify("a.csv")])
        feed.rested_s += 2
    assert seen == [[], [], ["a.csv"], ["a.csv"], ["a.csv"]]
    feed.drop("a.csv", b"a\n2\n")
    os.utime(feed.place / "a.csv", ns=(stamp, stamp))
    assert source.discover(now()).files == (), "other bytes, same size and time"
    feed.rested_s += 2
    assert len(source.discover(now()).files) == 1


def test_an_old_modification_time_does_not_settle_a_new_file(feed: Harness) -> None:
    feed.drop("a.csv")
    os.utime(feed.place / "a.csv", (0, 0))
    assert feed.settling(60).discover(now()).files == ()


def test_a_modification_time_in_the_future_does_not_block_for_ever(feed: Harness) -> None:
    feed.drop("a.csv")
    future = time.time() + 10 * 365 * 86_400
    os.utime(feed.place / "a.csv", (future, future))
    source = feed.settling(60)
    assert source.discover(now()).files == ()
    feed.rested_s += 61
    assert len(source.discover(now() + timedelta(seconds=61)).files) == 1


S = 1_000_000_000
NOW_NS = 1_000_000 * S
SKEW_NS = round(CLOCK_SKEW_S * S)


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "settle_s", "complete"),
    [
        (NOW_NS - 2 * S, NOW_NS - 2 * S, 2.0, True),
        (NOW_NS - 2 * S, NOW_NS - 2 * S + 1, 2.0, False),
        (NOW_NS - 2 * S + 1, NOW_NS - 9 * S, 2.0, False),
        (NOW_NS + 9 * S, NOW_NS - 9 * S, 2.0, True),
        (NOW_NS - 9 * S, NOW_NS + S, 2.0, False),
        (NOW_NS - 9 * S, NOW_NS + SKEW_NS - 1, 2.0, False),
        (NOW_NS - 9 * S, NOW_NS + SKEW_NS, 2.0, True),
        (NOW_NS, NOW_NS, 0.0, True),
        (NOW_NS, NOW_NS + S, 0.0, True),
    ],
)
def test_the_settle_rule(mtime_ns: int, ctime_ns: int, settle_s: float, complete: bool) -> None:
    assert settled(FileIdentity(1, 1, 1, mtime_ns, ctime_ns), NOW_NS, settle_s) is complete


def test_the_identity_moves_with_every_write(feed: Harness) -> None:
    feed.drop("a.csv", b"1234")
    first = feed.source.identify("a.csv")
    assert first == feed.source.identify("a.csv")
    stamp = (feed.place / "a.csv").stat()
    with (feed.place / "a.csv").open("r+b") as file:
        file.write(b"9")
    os.utime(feed.place / "a.csv", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert feed.source.identify("a.csv") != first


def test_archiving_again_says_already(feed: Harness) -> None:
    feed.drop("acme/a.csv", b"x")
    manifest = feed.manifest("acme/a.csv")
    first = feed.source.archive(manifest, ignore)
    assert (first.outcome, first.archived_to, first.note) == ("archived", manifest.archive_path, None)
    again = feed.source.archive(manifest, ignore)
    assert (again.outcome, again.archived_to, again.note) == ("already", manifest.archive_path, None)
    assert feed.archived() == {manifest.archive_path: b"x"}
    assert feed.left() == set()


def test_a_vanished_file_is_said_not_raised(feed: Harness) -> None:
    feed.drop("acme/a.csv")
    manifest = feed.manifest("acme/a.csv")
    (feed.place / "acme" / "a.csv").unlink()
    assert feed.source.archive(manifest, ignore).outcome == "vanished"
    (feed.place / "acme").rmdir()
    result = feed.source.archive(manifest, ignore)
    assert (result.outcome, result.archived_to) == ("vanished", None)
    assert result.note is not None


def test_a_changed_file_keeps_its_name_and_is_found_again(feed: Harness) -> None:
    feed.drop("acme/a.csv", b"old")
    manifest = feed.manifest("acme/a.csv")
    feed.drop("acme/a.csv", b"new")
    result = feed.source.archive(manifest, ignore)
    assert (result.outcome, result.archived_to) == ("changed", None)
    assert (feed.place / "acme" / "a.csv").read_bytes() == b"new"
    assert found(feed) == ["acme/a.csv"]
    assert feed.archived() == {}
