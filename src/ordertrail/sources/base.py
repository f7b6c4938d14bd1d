"""The seam between the pipeline and the place where vendors drop their files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO, Literal, Protocol

from msgspec import Struct

from ordertrail.errors import OrdertrailError, SourceError, StorageError
from ordertrail.model import FileIdentity, FoundFile, Manifest, Probe, Skipped
from ordertrail.rules.filekey import clean_name
from ordertrail.sources.notes import Late

_STORAGE_ERRNOS = frozenset({errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT})
_PERMISSION_ERRNOS = frozenset({errno.EACCES, errno.EPERM})


class Discovery(Struct, frozen=True):
    """What a listing of the source found.

    Attributes:
        files: Complete files that a vendor takes, sorted by the bytes of their paths.
        skipped: All other files except hidden ones, with the reason, in the same order; also claims without an owner.
        rest_s: After this many seconds a second look could take the files that may be at rest; None when it would take
            no more.
    """

    files: tuple[FoundFile, ...]
    skipped: tuple[Skipped, ...]
    rest_s: float | None = None


class ArchiveResult(Struct, frozen=True):
    """The result of archiving one delivery's file.

    Attributes:
        outcome: `archived` by this call; `already` archived before; `changed`: the file is no longer the one of the
            manifest, it has its name back and is the next delivery; `vanished`: it is nowhere; `written`: somebody
            has it open for writing, it keeps its name until the next call.
        archived_to: Its path below the archive folder; None when it is not there.
        note: What a person should know, in one line; None when all went as planned.
        late: What must be checked again, because its writer may not have finished.
    """

    outcome: Literal["archived", "already", "changed", "vanished", "written"]
    archived_to: str | None
    note: str | None = None
    late: Late | None = None


LateOutcome = Literal["same", "settled", "returned", "written"]


class LateResult(Struct, frozen=True):
    """What another check of an archived file found.

    Attributes:
        outcome: `same`: it is to be checked again; `settled`: no more writes are expected; `returned`: it was written
            to after it was archived, and is in the source folder again, as the next delivery; `written`: somebody has
            it open for writing.
        archived_to: The path of the delivery's bytes below the archive folder; None when they are not there.
        note: What a person should know, in one line.
        identity: What to compare the file with from now on: its times changed, its bytes did not.
    """

    outcome: LateOutcome
    archived_to: str | None
    note: str | None = None
    identity: FileIdentity | None = None


class Source(Protocol):
    """A place with vendors' files. Paths are below it, `/` between folders, surrogate escapes for odd bytes.

    Every method raises `SourceError` when the source as a whole or a permission is missing and `StorageError` when
    the storage is full, read-only or failing; never a bare `OSError`.
    """

    def discover(self, now: datetime, complete: frozenset[str] = frozenset()) -> Discovery:
        """List the complete files: nobody writes to them, and they are at rest. Changes nothing; idempotent.

        Args:
            now: Aware; compared with the times of files on local disks, and recorded as when a file was first seen.
            complete: Paths that the system reported as closed: the settle rule does not apply to them.

        Returns:
            What was found. A file or folder that cannot be looked at is skipped with its reason, never an error.

        Raises:
            SourceError: The source itself is missing or cannot be read.
        """

    def identify(self, path: str) -> FileIdentity:
        """The `stat` of a file now; two equal answers mean that nobody wrote in between.

        Raises:
            FileChangedError: It vanished or is no longer a regular file.
        """

    def open(self, path: str) -> BinaryIO:
        """Open for reading, at the first byte. Follows no symbolic link and never waits for a pipe.

        Raises:
            FileChangedError: It vanished or is no longer a regular file. Failing reads raise it, too.
        """

    def sha256(self, path: str) -> str:
        """SHA-256 of the whole file as it is now, hexadecimal. Memory is constant.

        Raises:
            FileChangedError: It vanished or is no longer a regular file.
        """

    def archive(self, manifest: Manifest, probe: Probe) -> ArchiveResult:
        """Move a delivery's file to `manifest.archive_path`.

        Idempotent: after a kill at any instant the same call goes on and ends in the same state. Never overwrites and
        never deletes the last copy of any bytes. Only for one process at a time.

        Raises:
            SourceError: A permission is missing. What was begun is finished by the next call.
            StorageError: The storage is full or failing. What was begun is finished by the next call.
        """

    def look_again(self, late: Late, now: datetime, probe: Probe) -> LateResult:
        """Check an archived file whose writer may not have finished.

        A file that was written to goes back to the source. If it still begins with the bytes of the delivery, these
        stay in the archive. Idempotent, like `archive`.

        Args:
            late: From the result of `archive`.
            now: Aware; tells how long ago it was archived.
            probe: Called with `late.copied`, `late.returned` and `late.restored`, each right after its effect.

        Raises:
            SourceError: A permission is missing. What was begun is finished by the next call.
            StorageError: The storage is full or failing. What was begun is finished by the next call.
        """


def translated(error: OSError, action: str, path: str) -> OrdertrailError:
    """Our error for one of the operating system.

    Args:
        error: As raised.
        action: The attempted action, such as `read`; the message begins with `cannot <action>`.
        path: The file or folder; shown as clean text.
    """
    message = f"cannot {action} {clean_name(path)}: {error.strerror or error}"
    if error.errno in _STORAGE_ERRNOS:
        return StorageError(message, hint="free space or repair the disk; the next pass goes on from here")
    if error.errno in _PERMISSION_ERRNOS:
        hint = "give the user that runs ordertrail the right to read, write and rename in the folder and those above"
        return SourceError(message, hint=hint)
    return SourceError(message, hint="check that the source and archive folders are there and mounted")


@contextmanager
def translating(action: str, path: str) -> Iterator[None]:
    """Translate an `OSError` within the block with `translated`."""
    try:
        yield
    except OSError as error:
        raise translated(error, action, path) from error
