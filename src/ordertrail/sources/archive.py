"""Moves a delivery's file into the archive; a kill at any instant neither loses nor overwrites bytes (P6).

```
 source name ──rename──► claim (hidden, same folder) ──verify──► link, else copy + verify ──► archive name
      ▲                        │ differs from the manifest, or somebody writes        then the claim goes
      └──── gets its name back ┘
```
The files on the disk are the only state: a repeated call looks at them and goes on. A claim of the same delivery is
recognized by its name, which contains the delivery id; a finished archive file by its name, size and SHA-256.

The claim is opened once: the bytes that are hashed are those that are linked or copied, whatever happens to the name
meanwhile. A file that belongs to another user, or has a second name, is copied: otherwise its bytes could be changed in
the archive.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.errors import StorageError
from ordertrail.model import FileIdentity, Manifest, Probe
from ordertrail.rules.filekey import clean_name
from ordertrail.sources.base import ArchiveResult, translating
from ordertrail.sources.names import (
    NO_LINK_ERRNOS,
    Entry,
    FileOps,
    archive_names,
    claim_name,
    copy_name,
    identity_of,
    make_folder,
    open_folder,
    source_names,
    split,
)
from ordertrail.sources.notes import Late
from ordertrail.sources.settling import loose, same_file

TRUST_STAT_BYTES = 64 * 1024 * 1024
"""A file of at least this size that `stat` proves unchanged is not hashed again before it is linked, in bytes."""

RACY_NS = 2_000_000_000
"""A file changed less than this before it was discovered may change again within one tick of its clock, in ns."""

_CHUNK_BYTES = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def archive_file(
    source: Path,
    archive_root: Path,
    manifest: Manifest,
    probe: Probe,
    ops: FileOps | None = None,
    *,
    watchful: bool = True,
) -> ArchiveResult:
    """Move a delivery's file to `manifest.archive_path`; see `Source.archive` for the promises.

    Args:
        source: The source folder.
        archive_root: The archive folder; made when it is missing.
        manifest: The delivery's manifest.
        probe: Called with `archive.claimed`, `archive.verified`, `archive.copied`, `archive.linked` and
            `archive.dropped`, each right after its effect; a file that gets its name back is linked and dropped too.
        ops: How files are linked, renamed and written.
        watchful: Whether files whose writer may not have finished are checked again later: a file that was copied keeps
            its claim until then. False where files appear complete.

    Raises:
        SourceError: A folder or a permission is missing.
        StorageError: The disk is full, read-only or failing.
    """
    ops = ops or FileOps()
    home_folders, name = split(manifest.path)
    shelf_folders, archive_name = split(manifest.archive_path)
    with ExitStack() as stack, translating("archive", manifest.path):
        home = open_folder(source, home_folders)
        shelf = make_folder(archive_root, shelf_folders, ops)
        stack.callback(os.close, shelf)
        if home is not None:
            stack.callback(os.close, home)
        move = Move(manifest, probe, ops, shelf, archive_name, watchful)
        try:
            return _archived(move, home, name)
        except FileNotFoundError:
            # Where no lock reaches, another pass may have archived it meanwhile: the files there now decide.
            return _archived(move, home, name)


def _archived(move: Move, home: int | None, name: str) -> ArchiveResult:
    """Go on from what is on the disk; `home` is the file's open folder, None when it is gone."""
    placed = move.placed()
    if home is None:
        return move.vanished() if placed is None else move.result("already", placed)
    entry, claim = Entry(home, name), Entry(home, claim_name(move.manifest.delivery_id))
    return move.begin(entry, claim) if placed is None else move.finish(entry, claim, placed)


@contextmanager
def _refusals() -> Iterator[None]:
    """Ignore operations that a share, or a folder that is not on a disk, does not support."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS):
            raise
    except NotImplementedError:
        pass


def unchanged_by_stat(before: FileIdentity, after: FileIdentity, manifest: Manifest) -> bool:
    """Whether `stat` alone proves that a renamed file is the one that was read, so that it need not be hashed again.

    git's rule against "racily clean" files (git, Documentation/technical/racy-git.txt): equal times prove nothing for
    a file that changed just before it was looked at, because a second change within the tick leaves them equal. So
    both times must be older than `RACY_NS` before `discovered_at`.

    Args:
        before: Directly before the rename.
        after: Directly after it; a rename moves ctime, so that is left out.
        manifest: Of the delivery.
    """
    noticed_ns = (manifest.discovered_at - _EPOCH) // timedelta(microseconds=1) * 1000
    return (
        before == manifest.identity
        and before.size_bytes >= TRUST_STAT_BYTES
        and same_file(before, after)
        and max(before.mtime_ns, before.ctime_ns) < noticed_ns - RACY_NS
    )


class _SwappedError(Exception):
    """Another file has the name that was verified."""


class Move(Struct, frozen=True):
    """One delivery on its way: `shelf` is the open folder of the archive where it goes."""

    manifest: Manifest
    probe: Probe
    ops: FileOps
    shelf: int
    archive_name: str
    watchful: bool

    def placed(self) -> str | None:
        """The archive name that already holds the delivery's content, or None."""
        for name in archive_names(self.archive_name):
            entry = Entry(self.shelf, name)
            if self.ops.status(entry) is None:
                return None
            if self.holds(entry):
                return name
        raise AssertionError("archive_names has no end")

    def begin(self, entry: Entry, claim: Entry) -> ArchiveResult:
        """Nothing is archived yet: claim the file, verify it, move it."""
        before = None
        if self.ops.status(claim) is None:
            if self.is_written(entry):
                return ArchiveResult("written", None)
            before = self._claim(entry, claim)
            if before is None:
                return self.vanished()
        descriptor = self.ops.open_regular(claim)
        if descriptor is None:
            return self._changed(entry, claim)
        with os.fdopen(descriptor, "rb") as file:
            written = self.ops.is_written(descriptor)
            if written:
                self.give_back(entry, claim)
                return ArchiveResult("written", None)
            seen = identity_of(os.fstat(descriptor))
            trusted = written is False and before is not None and unchanged_by_stat(before, seen, self.manifest)
            if not trusted and not self._content(file):
                return self._changed(entry, claim)
            self.probe("archive.verified")
            return self._put_away(entry, claim, file, seen)

    def _put_away(self, entry: Entry, claim: Entry, file: BufferedReader, seen: FileIdentity) -> ArchiveResult:
        """Give the verified claim, which is open, its place in the archive."""
        status = os.fstat(file.fileno())
        shareable = status.st_nlink == 1 and status.st_uid == os.geteuid()
        try:
            placed = self._put(claim, partial(self._link_of, file.fileno())) if shareable else None
        except _SwappedError:
            # The verified bytes are open here, whatever has their name now.
            placed = None
        copied = placed is None
        if placed is None:
            if not self._copy(file):
                return self._changed(entry, claim)
            placed = self._put_copy()
        self.ops.sync(self.shelf)
        self.probe("archive.linked")
        self._drop_copy()
        return self._settle(entry, claim, file, placed, seen if copied else None)

    def _settle(
        self, entry: Entry, claim: Entry, file: BufferedReader, placed: str, seen: FileIdentity | None
    ) -> ArchiveResult:
        """The archive has the file: drop the claim, unless it was written to after it was copied as `seen`."""
        after = os.fstat(file.fileno())
        standing = self.ops.status(claim)
        if standing is None or not self._stands(standing, after, file.fileno()):
            # Somebody took the claim's name: the file that has it now is not ours to delete.
            note = None if standing is None else self.give_back(entry, claim)
            return self.result("archived", placed, note)
        written = self.ops.is_written(file.fileno())
        if seen is not None and (written or not same_file(seen, identity_of(after))):
            return self.result("archived", placed, self.give_back(entry, claim))
        late = None
        if written is not False and self.watchful:
            identity = loose(identity_of(after))
            late = Late(self.manifest, self._path(placed), identity, seen is not None, datetime.now(UTC))
        if late is None or not late.claimed:
            self.ops.unlink(claim)
            self.probe("archive.dropped")
        return self.result("archived", placed, None, late)

    def finish(self, entry: Entry, claim: Entry, placed: str) -> ArchiveResult:
        """The archive holds the content: drop what an interrupted call left in the source."""
        self.ops.sync(self.shelf)
        self._drop_copy()
        if self.ops.status(claim) is None:
            status = self.ops.status(entry)
            if status is None or not same_file(identity_of(status), self.manifest.identity):
                return self.result("already", placed, None, self._late_of(placed))
            if self._claim(entry, claim) is None:
                return self.result("already", placed, None, self._late_of(placed))
        descriptor = self.ops.open_regular(claim)
        if descriptor is None:
            return self.result("already", placed, self.give_back(entry, claim))
        with os.fdopen(descriptor, "rb") as file:
            if not self._content(file):
                return self.result("already", placed, self.give_back(entry, claim))
            there = self.ops.status(Entry(self.shelf, placed))
            linked = there is not None and os.path.samestat(there, os.fstat(descriptor))
            seen = None if linked else identity_of(os.fstat(descriptor))
            return replace(self._settle(entry, claim, file, placed, seen), outcome="already")

    def _late_of(self, placed: str) -> Late | None:
        """Report a late file again: an interrupted call may not have reported it."""
        entry = Entry(self.shelf, placed)
        status = self.ops.status(entry)
        if not self.watchful or status is None or self.is_written(entry) is False:
            return None
        return Late(self.manifest, self._path(placed), loose(identity_of(status)), False, datetime.now(UTC))

    def _stands(self, standing: os.stat_result, opened: os.stat_result, descriptor: int) -> bool:
        """Whether a name still belongs to the open file. On mounts that make up inodes, size and mtime decide."""
        if os.path.samestat(standing, opened):
            return True
        return not self.ops.is_local(descriptor) and loose(identity_of(standing)) == loose(identity_of(opened))

    def is_written(self, entry: Entry) -> bool | None:
        """Whether somebody has the file open for writing; None when it is missing, or the system cannot tell."""
        try:
            descriptor = self.ops.open_regular(entry)
        except BlockingIOError:
            return True
        if descriptor is None:
            return None
        try:
            return self.ops.is_written(descriptor)
        finally:
            os.close(descriptor)

    def result(
        self, outcome: Literal["archived", "already"], placed: str, note: str | None = None, late: Late | None = None
    ) -> ArchiveResult:
        """A result of a delivery that is in the archive under the name `placed`."""
        if placed != self.archive_name:
            taken = f"another file has the name {clean_name(self.archive_name)}: archived as {clean_name(placed)}"
            note = taken if note is None else f"{taken}; {note}"
        return ArchiveResult(outcome, self._path(placed), note, late)

    def vanished(self) -> ArchiveResult:
        """Source, claim and archive file are all missing."""
        note = f"{clean_name(self.manifest.path)} vanished before it was archived; its rows are loaded"
        return ArchiveResult("vanished", None, note)

    def _path(self, placed: str) -> str:
        folder = self.manifest.archive_path.rpartition("/")[0]
        return f"{folder}/{placed}" if folder else placed

    def _claim(self, entry: Entry, claim: Entry) -> FileIdentity | None:
        """Rename the source to its claim; its identity directly before, or None when there is no regular file."""
        before = self.ops.status(entry)
        if before is None or not stat.S_ISREG(before.st_mode):
            return None
        try:
            self.ops.rename_new(entry, claim)
        except FileNotFoundError:
            return None
        self.probe("archive.claimed")
        return identity_of(before)

    def holds(self, entry: Entry) -> bool:
        """Whether the entry is a regular file with the manifest's size and SHA-256, unchanged while it was hashed."""
        descriptor = self.ops.open_regular(entry)
        if descriptor is None:
            return False
        with os.fdopen(descriptor, "rb") as file:
            return self._content(file)

    def _content(self, file: BufferedReader) -> bool:
        """Whether an open file has the manifest's size and SHA-256, unchanged while it was hashed."""
        before = os.fstat(file.fileno())
        if before.st_size != self.manifest.identity.size_bytes:
            return False
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
        return digest == self.manifest.sha256 and loose(identity_of(before)) == loose(identity_of(after))

    def _link_of(self, descriptor: int, entry: Entry, target: Entry) -> None:
        """Link the entry, which must be the open file: its name may belong to another file by now."""
        self.ops.link(entry, target)
        linked = self.ops.status(target)
        if linked is None or not os.path.samestat(linked, os.fstat(descriptor)):
            self.ops.unlink(target)
            raise _SwappedError

    def _put(self, entry: Entry, put: Callable[[Entry, Entry], None]) -> str | None:
        """Give the entry the first free name of the archive; that name, or None where `put` does not work."""
        for name in archive_names(self.archive_name):
            try:
                put(entry, Entry(self.shelf, name))
            except FileExistsError:
                if not self.holds(Entry(self.shelf, name)):
                    continue
                # Where no lock reaches, another pass may have archived it since `placed` looked.
            except OSError as error:
                if error.errno in NO_LINK_ERRNOS:
                    return None
                raise
            return name
        raise AssertionError("archive_names has no end")

    def _put_copy(self) -> str:
        copy = self.copy_entry()
        placed = self._put(copy, self.ops.link) or self._put(copy, self.ops.rename_new)
        if placed is None:
            raise PermissionError(errno.EPERM, "the archive lets no file be linked or renamed")
        return placed

    def _copy(self, file: BufferedReader) -> bool:
        """Copy the open claim beside its archive name and read it back; False when it is not the manifest's file."""
        copy = self.copy_entry()
        self.ops.unlink(copy)
        try:
            self.write_copy(file, copy)
            right = self.holds(copy)
        except OSError:
            # A full disk gets its room back at once; after a kill the next call begins with the unlink above.
            self.ops.unlink(copy)
            raise
        if right:
            self.probe("archive.copied")
            return True
        self.ops.unlink(copy)
        if self._content(file):
            message = f"the archived copy of {clean_name(self.manifest.path)} does not read back as it was written"
            raise StorageError(message, hint="check the archive's disk; the file is still in the source folder")
        return False

    def write_copy(self, file: BufferedReader, copy: Entry) -> None:
        """Write as many of an open file's first bytes as the delivery had into a new file, with its mode and time."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        status = os.fstat(file.fileno())
        left_bytes = self.manifest.identity.size_bytes
        file.seek(0)
        target = os.open(copy.name, flags, 0o600, dir_fd=copy.folder)
        try:
            while chunk := file.read(min(_CHUNK_BYTES, left_bytes)):
                self.ops.write(target, chunk)
                left_bytes -= len(chunk)
            # A share may refuse either; that must not keep the file from being archived.
            with _refusals():
                os.fchmod(target, stat.S_IMODE(status.st_mode) & 0o777)
            with _refusals():
                os.utime(target, ns=(status.st_atime_ns, self.manifest.identity.mtime_ns))
            self.ops.sync(target)
            if hasattr(os, "posix_fadvise"):
                # What is read back should come from the disk, not from the cache that was just written.
                os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(target)

    def copy_entry(self) -> Entry:
        """The name of a copy until it is complete."""
        return Entry(self.shelf, copy_name(self.manifest.delivery_id))

    def _drop_copy(self) -> None:
        self.ops.unlink(self.copy_entry())

    def _changed(self, entry: Entry, claim: Entry) -> ArchiveResult:
        self._drop_copy()
        return ArchiveResult("changed", None, self.give_back(entry, claim))

    def give_back(self, entry: Entry, claim: Entry) -> str:
        """Give the claim its name in the source back, or a free one next to it; returns what happened in one line."""
        for name in source_names(entry.name):
            target = Entry(entry.folder, name)
            try:
                self._link_or_rename(claim, target)
            except FileExistsError:
                if not self.one_file(claim, target):
                    continue
            self.probe("archive.linked")
            self.ops.unlink(claim)
            self.probe("archive.dropped")
            return f"the file changed after it was read: it is in the source folder as {clean_name(name)}"
        raise AssertionError("source_names has no end")

    def _link_or_rename(self, entry: Entry, target: Entry) -> None:
        try:
            self.ops.link(entry, target)
        except OSError as error:
            if error.errno not in NO_LINK_ERRNOS:
                raise
            self.ops.rename_new(entry, target)

    def one_file(self, one: Entry, other: Entry) -> bool:
        """Whether two names belong to one file: a call was killed between the link and the unlink."""
        first, second = self.ops.status(one), self.ops.status(other)
        return first is not None and second is not None and os.path.samestat(first, second)
