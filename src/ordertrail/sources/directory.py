"""A source that is a folder on a disk, or on a share that is mounted like one."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from ordertrail.errors import FileChangedError
from ordertrail.model import FileIdentity, FoundFile, Manifest, Probe, Skipped, Vendor
from ordertrail.rules.filekey import clean_name, take
from ordertrail.sources.archive import archive_file
from ordertrail.sources.base import ArchiveResult, Discovery, translating
from ordertrail.sources.names import (
    GONE_ERRNOS,
    Entry,
    FileOps,
    identity_of,
    is_hidden,
    is_temporary,
    open_folder,
    split,
)

CLOCK_SKEW_S = 600.0
"""How far a file server's clock may be ahead of ours: a change stamped later than that says nothing, in seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def settled(identity: FileIdentity, now_ns: int, settle_s: float) -> bool:
    """Whether a file has been unchanged for `settle_s`, as far as the clock tells.

    Every write and every change of the times moves ctime, and nobody can set it; so ctime decides. A ctime up to
    `CLOCK_SKEW_S` ahead of our clock is that of a file server and is waited for; one further ahead was made before our
    clock was set back, and must not block for ever. mtime counts too, for file systems that keep no ctime, unless it
    lies in the future: there it can only have been set by hand.

    Args:
        identity: Of the file.
        now_ns: Nanoseconds since 1970 UTC.
        settle_s: Seconds; 0 takes every file.
    """
    settle_ns = round(settle_s * 1e9)
    if settle_ns <= 0:
        return True
    skew_ns = round(CLOCK_SKEW_S * 1e9)
    changed = -skew_ns < now_ns - identity.ctime_ns < settle_ns
    written = 0 <= now_ns - identity.mtime_ns < settle_ns
    return not (changed or written)


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """The folder where vendors drop files, and the archive beside it. See `Source` for what each method promises.

    Attributes:
        source: The folder; vendors' globs are below it. It may be a symbolic link, nothing in it may.
        archive_root: Made when it is missing. When it lies inside the source, discovery does not enter it.
        vendors: In the order of the config.
        settle_s: A file is complete when unchanged for this long, in seconds.
        ops: How files are linked, renamed and written.
    """

    source: Path
    archive_root: Path
    vendors: Sequence[Vendor]
    settle_s: float
    ops: FileOps = field(default_factory=FileOps)

    def discover(self, now: datetime, complete: frozenset[str] = frozenset()) -> Discovery:
        """List the complete files; see `Source.discover`."""
        look = _Look(self, (now - _EPOCH) // timedelta(microseconds=1) * 1000, complete)
        with translating("read the source folder", str(self.source)):
            os.close(os.open(self.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            look.enter("")
        while look.folders:
            look.enter_or_skip(look.folders.pop())
        files = sorted(look.files, key=lambda file: os.fsencode(file.path))
        skipped = sorted(look.skipped, key=lambda item: os.fsencode(item[0]))
        return Discovery(tuple(files), tuple(Skipped(clean_name(path), reason) for path, reason in skipped))

    def identify(self, path: str) -> FileIdentity:
        """What `stat` says now; see `Source.identify`."""
        with self._entry(path, "look at") as entry:
            status = self.ops.status(entry)
        if status is None or not stat.S_ISREG(status.st_mode):
            raise _gone(path)
        return identity_of(status)

    def open(self, path: str) -> BinaryIO:
        """Open for reading; see `Source.open`."""
        return self._open(path)

    def sha256(self, path: str) -> str:
        """SHA-256 of the whole file; see `Source.sha256`."""
        with self._open(path) as file, translating("read", path):
            return hashlib.file_digest(file, "sha256").hexdigest()

    def archive(self, manifest: Manifest, probe: Probe) -> ArchiveResult:
        """Move a delivery's file into the archive; see `Source.archive`."""
        return archive_file(self.source, self.archive_root, manifest, probe, self.ops)

    def _open(self, path: str) -> BufferedReader:
        with self._entry(path, "open") as entry:
            descriptor = self.ops.open_regular(entry)
        if descriptor is None:
            raise _gone(path)
        return os.fdopen(descriptor, "rb")

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


class _Look:
    """One walk over the source: folders still to enter, and what was found so far."""

    def __init__(self, source: DirectorySource, now_ns: int, complete: frozenset[str]) -> None:
        self.source = source
        self.now_ns = now_ns
        self.complete = complete
        self.folders: list[str] = []
        self.files: list[FoundFile] = []
        self.skipped: list[tuple[str, str]] = []
        self.archive = _place(source.archive_root)

    def enter_or_skip(self, folder: str) -> None:
        try:
            self.enter(folder)
        except OSError as error:
            if error.errno not in GONE_ERRNOS:
                self.skipped.append((folder.rstrip("/"), f"the folder cannot be read: {error.strerror}"))

    def enter(self, folder: str) -> None:
        """Look at the entries of a folder below the source: `""`, or a path that ends with `/`."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if folder else 0)
        descriptor = os.open(self.source.source / folder, flags)
        try:
            status = os.fstat(descriptor)
            if folder and (status.st_dev, status.st_ino) == self.archive:
                return
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if not is_hidden(entry.name):
                        self.see(entry, folder + entry.name)
        finally:
            os.close(descriptor)

    def see(self, entry: os.DirEntry[str], path: str) -> None:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                self.folders.append(path + "/")
            return
        if is_temporary(entry.name):
            self.skipped.append((path, "a temporary name: its writer has not finished"))
            return
        vendor = take(path, self.source.vendors)
        if vendor is None and entry.is_file(follow_symlinks=False):
            self.skipped.append((path, "no vendor takes it"))
            return
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self.skipped.append((path, f"cannot be looked at: {error.strerror}"))
            return
        if not stat.S_ISREG(status.st_mode):
            kind = next((name for matches, name in _KINDS if matches(status.st_mode)), "no regular file")
            self.skipped.append((path, kind))
        elif vendor is not None:
            self.take(path, vendor, identity_of(status))

    def take(self, path: str, vendor: Vendor, identity: FileIdentity) -> None:
        if path in self.complete or settled(identity, self.now_ns, self.source.settle_s):
            self.files.append(FoundFile(path, vendor.name, identity))
        else:
            self.skipped.append((path, "not settled"))


def _place(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _gone(path: str) -> FileChangedError:
    message = f"{clean_name(path)} vanished or is no longer a regular file"
    return FileChangedError(message, hint="nothing to do: the next pass looks again")
