"""A source that is a folder on a disk or on a mounted share."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.config.rights import restrict
from ordertrail.errors import FileChangedError, OrdertrailError
from ordertrail.model import FileIdentity, FoundFile, Manifest, Probe, Skipped, Vendor
from ordertrail.rules.filekey import clean_name, take
from ordertrail.rules.sender_manifest import SUFFIX, manifest_owner
from ordertrail.sources.archive import archive_file
from ordertrail.sources.base import ArchiveResult, Discovery, LateResult, translating
from ordertrail.sources.late import look_again
from ordertrail.sources.names import (
    GONE_ERRNOS,
    Entry,
    FileOps,
    claiming,
    identity_of,
    is_hidden,
    is_temporary,
    open_folder,
    split,
)
from ordertrail.sources.notes import Late, Notes, notes_path
from ordertrail.sources.pairing import pair
from ordertrail.sources.settling import Look, Sight, hashed, judge, looked, loose, same_file

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_OTHERS = 1000
"""For how many files that no vendor takes, or that cannot be read, it is remembered when they were first seen."""

NO_VENDOR = "no vendor takes it"
"""Why a file waits whose path no vendor's glob matches."""

UNARCHIVED = "loaded; it waits to be archived"
"""Why a file waits although its rows are already in the tables."""

ORPHAN = (
    "the claim of delivery {}, which no batch owns any more: if that delivery is archived (ordertrail deliveries), "
    "delete it; else give it a name that a vendor takes, and it is read again"
)
"""Why a claim is reported; with the delivery's id."""

_BUFFER_BYTES = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def source_of(
    config: Config, notes: Notes | None = None, still_open: Callable[[], frozenset[str]] = frozenset
) -> DirectorySource:
    """The source of a pipeline.

    Args:
        config: Of the pipeline.
        notes: The results of earlier looks; None reads what the last pass wrote.
        still_open: See `DirectorySource`.
    """
    if notes is None:
        notes = Notes(notes_path(config))
        notes.load()
    vendors, settle_s = config.vendors, config.settle_s
    return DirectorySource(
        config.source, config.archive, vendors, settle_s, notes=notes, still_open=still_open, umask=config.umask
    )


class DirectorySource(Struct, frozen=True):
    """The folder where vendors drop files, and the archive beside it. See `Source` for what each method promises.

    Attributes:
        source: The folder; vendors' globs are below it. It may be a symbolic link, nothing in it may.
        archive_root: Made when it is missing. When it lies inside the source, discovery does not enter it.
        vendors: In the order of the config.
        settle_s: A file is complete when unchanged for this long, in seconds.
        ops: How files are linked, renamed and written.
        notes: The results of earlier looks.
        still_open: Returns the paths of files that were created but not closed, by the events.
        umask: Permissions that archived files lose; None keeps those they came with.
    """

    source: Path
    archive_root: Path
    vendors: Sequence[Vendor]
    settle_s: float
    ops: FileOps = field(default_factory=FileOps)
    notes: Notes = field(default_factory=Notes)
    still_open: Callable[[], frozenset[str]] = frozenset
    umask: int | None = None

    def discover(self, now: datetime, complete: frozenset[str] = frozenset()) -> Discovery:
        """List the complete files; see `Source.discover`."""
        look = _Walk(self, now, complete)
        with translating("read the source folder", str(self.source)):
            os.close(os.open(self.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            look.enter("")
        while look.folders:
            look.enter_or_skip(look.folders.pop())
        look.judge()
        look.pair()
        self.notes.looks = look.looks
        files = sorted(look.files, key=lambda file: os.fsencode(file.path))
        skipped = [look.skipped[path] for path in sorted(look.skipped, key=os.fsencode)]
        return Discovery(tuple(files), tuple(skipped), max(look.rests_s, default=None))

    def identify(self, path: str) -> FileIdentity:
        """The `stat` of a file now; see `Source.identify`."""
        with self._entry(path, "look at") as entry:
            status = self.ops.status(entry)
        if status is None or not stat.S_ISREG(status.st_mode):
            raise _gone(path)
        identity = identity_of(status)
        look = self.notes.looks.get(path)
        return loose(identity) if look is not None and look.restless else identity

    def open(self, path: str) -> BinaryIO:
        """Open for reading; see `Source.open`."""
        return BufferedReader(_Reading(self._descriptor(path), path), _BUFFER_BYTES)

    def sha256(self, path: str) -> str:
        """SHA-256 of the whole file; see `Source.sha256`."""
        with os.fdopen(self._descriptor(path), "rb") as file, translating("read", path):
            return hashlib.file_digest(file, "sha256").hexdigest()

    def archive(self, manifest: Manifest, probe: Probe) -> ArchiveResult:
        """Move a delivery's file into the archive; see `Source.archive`."""
        watchful = self.settle_s > 0
        result = archive_file(self.source, self.archive_root, manifest, probe, self.ops, watchful=watchful)
        if result.archived_to is not None:
            restrict(self.archive_root / result.archived_to, self.umask)
        return result

    def look_again(self, late: Late, now: datetime, probe: Probe) -> LateResult:
        """Look at an archived file again; see `Source.look_again`."""
        return look_again(self.source, self.archive_root, late, now, probe, self.ops)

    def _descriptor(self, path: str) -> int:
        with self._entry(path, "open") as entry:
            descriptor = self.ops.open_regular(entry)
        if descriptor is None:
            raise _gone(path)
        return descriptor

    @contextmanager
    def _entry(self, path: str, action: str) -> Iterator[Entry]:
        folders, name = split(path)
        with translating(action, path):
            folder = open_folder(self.source, folders)
            if folder is None:
                raise _gone(path)
            try:
                yield Entry(folder, name)
            finally:
                os.close(folder)


class _Reading(FileIO):
    """A file that is being read. A failure of its disk concerns this file only: it drops out of the batch."""

    def __init__(self, descriptor: int, path: str) -> None:
        super().__init__(descriptor, "rb")
        self._path = path

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        with self._dropping_out():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._dropping_out():
            return super().readall()

    @contextmanager
    def _dropping_out(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"cannot read {clean_name(self._path)}: {error.strerror or error}"
            raise FileChangedError(message, hint="nothing to do: the next pass tries again") from error


class _Walk:
    """One walk over the source: folders still to enter, and what was found so far."""

    def __init__(self, source: DirectorySource, now: datetime, complete: frozenset[str]) -> None:
        self.source = source
        self.now = now
        self.now_ns = (now - _EPOCH) // timedelta(microseconds=1) * 1000
        self.at_s = source.notes.clock()
        self.complete = complete
        self.expects = any(vendor.manifest is not None for vendor in source.vendors)
        unarchived = source.notes.waiting.values()
        self.waiting = {manifest.path: manifest.identity for manifest in unarchived}
        self.waiting |= {one.sender.path: one.sender.identity for one in unarchived if one.sender is not None}
        self.folders: list[str] = []
        self.seen: list[tuple[FoundFile, Sight]] = []
        self.files: list[FoundFile] = []
        self.about: dict[str, str] = {}
        """For the path of a sender's manifest, that of the file that it is about."""
        self.skipped: dict[str, Skipped] = {}
        self.looks: dict[str, Look] = {}
        self.rests_s: list[float] = []
        self.others = 0
        self.archive = _place(source.archive_root)

    def enter_or_skip(self, folder: str) -> None:
        try:
            self.enter(folder)
        except OSError as error:
            if error.errno not in GONE_ERRNOS:
                reason = f"the folder cannot be read: {error.strerror}"
                self.skip(folder.rstrip("/"), reason, needs_person=True)

    def enter(self, folder: str) -> None:
        """Visit the entries of a folder below the source: `""`, or a path that ends with `/`."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if folder else 0)
        descriptor = os.open(self.source.source / folder, flags)
        try:
            status = os.fstat(descriptor)
            if folder and (status.st_dev, status.st_ino) == self.archive:
                return
            local = self.source.ops.is_local(descriptor)
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if not is_hidden(entry.name):
                        self.see(entry, folder + entry.name, descriptor, local)
                    elif (owner := claiming(entry.name)) is not None:
                        self.see_claim(folder + entry.name, owner)
        finally:
            os.close(descriptor)

    def see_claim(self, path: str, owner: str) -> None:
        if owner.removesuffix(SUFFIX) in self.source.notes.waiting:
            self.skip(path, UNARCHIVED)
        elif owner not in self.source.notes.late:
            self.skip(path, ORPHAN.format(clean_name(owner)), needs_person=True)

    def see(self, entry: os.DirEntry[str], path: str, folder: int, local: bool) -> None:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                self.folders.append(path + "/")
            return
        if is_temporary(entry.name):
            self.skip(path, "a temporary name: its writer has not finished")
            return
        vendor = take(path, self.source.vendors)
        if self.expects and (owner := manifest_owner(path, self.source.vendors)) is not None:
            vendor, self.about[path] = owner
        if vendor is None and entry.is_file(follow_symlinks=False):
            self.skip(path, NO_VENDOR)
            return
        try:
            status = self.source.ops.status(Entry(folder, entry.name))
            if status is None:
                return
            if not stat.S_ISREG(status.st_mode):
                self.skip(path, next((name for matches, name in _KINDS if matches(status.st_mode)), "no regular file"))
            elif vendor is not None:
                sight = Sight(local, self.written(Entry(folder, entry.name)) if local else None)
                self.seen.append((FoundFile(path, vendor.name, identity_of(status)), sight))
        except OSError as error:
            if error.errno not in GONE_ERRNOS:
                self.skip(path, f"it cannot be read: {error.strerror}", needs_person=True)

    def written(self, entry: Entry) -> bool | None:
        """Whether somebody has a local file open for writing. Files on a network are not opened just to find out."""
        try:
            descriptor = self.source.ops.open_regular(entry)
        except BlockingIOError:
            # Somebody else holds a lease on it, as a file server does while a client writes.
            return True
        if descriptor is None:
            return None
        try:
            return self.source.ops.is_written(descriptor)
        finally:
            os.close(descriptor)

    def judge(self) -> None:
        """Decide for each file whether it is complete; after the walk, so that no event of a file is missed."""
        opened = self.source.still_open() - self.complete
        for file, sight in self.seen:
            events = replace(sight, opened=file.path in opened, closed=file.path in self.complete)
            try:
                self.take(file, events)
            except FileChangedError:
                continue
            except OrdertrailError as error:
                self.skip(file.path, error.message, needs_person=True)

    def pair(self) -> None:
        """Give each file its sender's manifest; files that lack one, and manifests that lack their file, wait."""
        if self.expects:
            paired = pair(self.files, self.about, self.source.vendors, self.skipped, self.source)
            self.files = paired.files
            for path, reason in paired.waiting.items():
                self.skip(path, reason)

    def take(self, file: FoundFile, sight: Sight) -> None:
        loaded = self.waiting.get(file.path)
        if loaded is not None and same_file(loaded, file.identity):
            self.skip(file.path, UNARCHIVED)
            return
        before = self.source.notes.looks.get(file.path)
        look = looked(before, file.identity, self.at_s, self.now, local=sight.local)
        if look.restless:
            look = hashed(look, before, self.source.sha256(file.path), self.at_s)
            file = replace(file, identity=loose(file.identity))
        self.looks[file.path] = look
        verdict = judge(sight, look, self.at_s, self.now_ns, self.source.settle_s)
        if verdict.reason is None:
            self.files.append(file)
            return
        self.skip(file.path, verdict.reason)
        if verdict.rest_s is not None:
            self.rests_s.append(verdict.rest_s)

    def skip(self, path: str, reason: str, *, needs_person: bool = False) -> None:
        look = self.looks.get(path) or self.source.notes.looks.get(path) or Look(self.now)
        if path not in self.looks:
            self.others += 1
        if self.others > MAX_OTHERS:
            self.skipped[path] = Skipped(clean_name(path), reason, None, needs_person)
            return
        # When the clock was set back, a file must not appear to wait since a time in the future.
        look = replace(look, first_seen=min(look.first_seen, self.now))
        self.looks[path] = look
        self.skipped[path] = Skipped(clean_name(path), reason, look.first_seen, needs_person)


def _place(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _gone(path: str) -> FileChangedError:
    message = f"{clean_name(path)} vanished or is no longer a regular file"
    return FileChangedError(message, hint="nothing to do: the next pass looks again")
