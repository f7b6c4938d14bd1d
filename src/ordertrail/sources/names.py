"""Names in a folder: which ones discovery skips, which ones the archive chooses, and the operations on them.

An operation names a file by an open folder and a last part, so that nobody can put a symbolic link in between; no
operation follows a link or replaces an existing file. `FileOps` is the seam where tests simulate a full disk, a second
file system, or one without hard links.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path, PurePosixPath

from msgspec import Struct

from ordertrail.errors import SourceError
from ordertrail.model import FileIdentity
from ordertrail.rules.filekey import clean_name, fitted
from ordertrail.sources import writers

_TEMPORARY_SUFFIXES = (".part", ".tmp", ".filepart", ".crdownload", ".partial", ".swp", ".temp", "~")
_TEMPORARY_PREFIXES = ("~$", ".~")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_RENAME_NOREPLACE = 1

NO_LINK_ERRNOS = _NOT_SUPPORTED | {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK}
"""Errors of link(2) after which a copy or rename may work: other file system, no links, file of another user."""

GONE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors of a call on a name when the file, or a folder above it, has vanished or changed its kind."""


def is_hidden(name: str) -> bool:
    """Whether a name has a leading dot: such names, claims left by a crash included, are skipped silently."""
    return name.startswith(".") and not name.startswith(_TEMPORARY_PREFIXES)


def is_temporary(name: str) -> bool:
    """Whether a name marks an unfinished file (`.part`, `.tmp`, a trailing `~` ...); case does not matter."""
    return name.lower().endswith(_TEMPORARY_SUFFIXES) or name.startswith(_TEMPORARY_PREFIXES)


def claim_name(delivery_id: str) -> str:
    """The hidden name that holds a delivery's file in its own folder while it is archived."""
    return f".ordertrail-{delivery_id}.claim"


def claiming(name: str) -> str | None:
    """The delivery whose claim has this name; None when it is no claim."""
    begin, end = claim_name("\0").split("\0")
    inside = name.startswith(begin) and name.endswith(end)
    return name[len(begin) : -len(end)] if inside else None


def copy_name(delivery_id: str) -> str:
    """The hidden name of an unfinished copy, in the folder of the destination."""
    return f".ordertrail-{delivery_id}.copy"


def archive_names(name: str) -> Iterator[str]:
    """The name, then `<name>.1`, `<name>.2` ... without end, each within 255 bytes."""
    yield name
    for number in count(1):
        yield fitted(name, f".{number}")


def source_names(name: str) -> Iterator[str]:
    """The name, then `<stem>.1<extension>`, `<stem>.2<extension>` ...: names that the same vendor takes."""
    yield name
    extension = PurePosixPath(name).suffix
    for number in count(1):
        yield fitted(name.removesuffix(extension), f".{number}{extension}")


def identity_of(status: os.stat_result) -> FileIdentity:
    """The parts of `stat` that show whether a file was written to."""
    return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def split(path: str) -> tuple[tuple[str, ...], str]:
    """A path below a folder as (folders, last part).

    Raises:
        SourceError: It is absolute or has an empty part, `.` or `..`: it would leave the folder.
    """
    *folders, name = path.split("/")
    if not {"", ".", ".."}.isdisjoint((*folders, name)) or "\0" in path:
        message = f"{clean_name(path)!r} is not the path of a file below its folder"
        raise SourceError(message, hint="the manifest was damaged; run `ordertrail verify`")
    return tuple(folders), name


def open_folder(root: Path, folders: tuple[str, ...]) -> int | None:
    """A descriptor of a folder below `root`; only `root` itself may be a symbolic link.

    Returns:
        The descriptor, or None when a folder below the root is missing, a symbolic link, or no folder.

    Raises:
        OSError: Anything else; also when the root itself is missing.
    """
    folder = os.open(root, _FOLDER_FLAGS)
    for part in folders:
        try:
            below = os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            if error.errno in GONE_ERRNOS:
                return None
            raise
        finally:
            os.close(folder)
        folder = below
    return folder


def make_folder(root: Path, folders: tuple[str, ...], ops: FileOps) -> int:
    """A descriptor of a folder below `root`; missing folders are created durably. Idempotent.

    Raises:
        SourceError: A folder below the root is a symbolic link: whoever planted it would choose where files go.
        OSError: Anything else.
    """
    for missing in reversed([folder for folder in (root, *root.parents) if not folder.exists()]):
        missing.mkdir(exist_ok=True)
        _sync_path(missing.parent, ops)
    folder = os.open(root, _FOLDER_FLAGS)
    for number, part in enumerate(folders, 1):
        try:
            try:
                below = os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                ops.sync(folder)
                below = os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            if error.errno in GONE_ERRNOS:
                path = clean_name("/".join((str(root), *folders[:number])))
                hint = "make it a folder again; to spread an archive over disks, mount them there"
                raise SourceError(f"{path} is a symbolic link or no folder, and is not followed", hint=hint) from error
            raise
        finally:
            os.close(folder)
        folder = below
    return folder


def _sync_path(folder: Path, ops: FileOps) -> None:
    descriptor = os.open(folder, _FOLDER_FLAGS)
    try:
        ops.sync(descriptor)
    finally:
        os.close(descriptor)


class Entry(Struct, frozen=True):
    """A name in an open folder.

    Attributes:
        folder: Descriptor of the folder.
        name: The last part of the path.
    """

    folder: int
    name: str


class FileOps:
    """The operations on names and files, as the operating system performs them. All raise `OSError`."""

    def status(self, entry: Entry) -> os.stat_result | None:
        """`stat` of the entry itself, a symbolic link not followed; None when nothing has that name."""
        try:
            return os.stat(entry.name, dir_fd=entry.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_regular(self, entry: Entry) -> int | None:
        """A descriptor for reading, or None when the entry is missing or not a regular file."""
        status = self.status(entry)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        try:
            descriptor = os.open(entry.name, _FILE_FLAGS, dir_fd=entry.folder)
        except OSError as error:
            if error.errno in GONE_ERRNOS | {errno.ENXIO}:
                return None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor

    def is_local(self, descriptor: int) -> bool:
        """Whether a file or folder is on a disk of this machine, see `writers.is_local`."""
        return writers.is_local(descriptor)

    def is_written(self, descriptor: int) -> bool | None:
        """Whether somebody has the file open for writing; None when that cannot be determined.

        Args:
            descriptor: From `open_regular`.
        """
        return writers.is_written(descriptor) if self.is_local(descriptor) else None

    def link(self, entry: Entry, target: Entry) -> None:
        """A second name for the file; atomic; `FileExistsError` when the target is there."""
        os.link(entry.name, target.name, src_dir_fd=entry.folder, dst_dir_fd=target.folder, follow_symlinks=False)

    def rename_new(self, entry: Entry, target: Entry) -> None:
        """Rename; `FileExistsError` when the target is there.

        Atomic where the kernel and the file system support RENAME_NOREPLACE (renameat2(2)); elsewhere it checks first,
        which suffices while only one pass at a time creates these names.
        """
        if self._rename_noreplace(entry, target):
            return
        if self.status(target) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.name)
        os.rename(entry.name, target.name, src_dir_fd=entry.folder, dst_dir_fd=target.folder)

    def replace(self, entry: Entry, target: Entry) -> None:
        """Rename, replacing the target if it exists. Atomic."""
        os.replace(entry.name, target.name, src_dir_fd=entry.folder, dst_dir_fd=target.folder)

    def unlink(self, entry: Entry) -> None:
        """Remove the name; nothing happens when it does not exist."""
        with suppress(FileNotFoundError):
            os.unlink(entry.name, dir_fd=entry.folder)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all bytes."""
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]

    def sync(self, descriptor: int) -> None:
        """Make a file or a folder durable. A file system that cannot sync folders is tolerated."""
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise

    def _rename_noreplace(self, entry: Entry, target: Entry) -> bool:
        call = _renameat2()
        if call is None:
            return False
        names = (entry.folder, os.fsencode(entry.name), target.folder, os.fsencode(target.name))
        if call(*names, _RENAME_NOREPLACE) == 0:
            return True
        code = ctypes.get_errno()
        if code in _NOT_SUPPORTED:
            return False
        raise OSError(code, os.strerror(code), entry.name, None, target.name)


@cache
def _renameat2() -> Callable[..., int] | None:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call
