"""The bytes that a correction reads: archived files, checked against the ledger, and a file that takes a place.

A file that takes the place of another is put into the archive before anything is committed, so that from the stage's
commit on nothing depends on where it came from. When the correction fails after that, the archive has one file that no
delivery knows; `ordertrail verify` names it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from ordertrail.durable import fsync_folder
from ordertrail.errors import FileChangedError, StorageError, UsageError
from ordertrail.model import FileIdentity
from ordertrail.rules.corrections import Known
from ordertrail.rules.filekey import clean_name
from ordertrail.rules.planning import Candidate
from ordertrail.sources.base import translated
from ordertrail.sources.names import identity_of

_NAMED = 10


class Bytes(Struct, frozen=True):
    """A regular file whose bytes are known.

    Attributes:
        path: Where it is.
        identity: Its `stat` when it was hashed.
        sha256: Of the whole file, hexadecimal.
    """

    path: Path
    identity: FileIdentity
    sha256: str

    def unchanged(self) -> bool:
        """Whether it is still the file that was hashed."""
        try:
            return identity_of(self.path.stat()) == self.identity
        except OSError:
            return False

    def open(self) -> BinaryIO:
        """Open it at its first byte.

        Raises:
            FileChangedError: It is gone.
        """
        try:
            return self.path.open("rb")
        except OSError as error:
            raise FileChangedError(f"{clean_name(str(self.path))} vanished while it was read") from error


class Shelf:
    """The files of one correction, by the numbers of its candidates."""

    def __init__(self) -> None:
        self._files: dict[int, Bytes] = {}

    def add(self, number: int, file: Bytes) -> None:
        """Add the file of a candidate."""
        self._files[number] = file

    def open(self, candidate: Candidate) -> BinaryIO:
        """See `StageRequest.open_file`."""
        return self._files[candidate.number].open()

    def unchanged(self, candidate: Candidate) -> bool:
        """See `StageRequest.unchanged`."""
        return self._files[candidate.number].unchanged()


def archived_files(archive: Path, deliveries: Mapping[str, Known]) -> dict[str, Bytes]:
    """The archived files of some deliveries. All are looked at before one is refused.

    Args:
        archive: The archive folder.
        deliveries: By their ids.

    Raises:
        UsageError: The file of some of them is gone, or has other bytes than those that came.
    """
    found: dict[str, Bytes] = {}
    wrong = []
    for delivery_id, one in deliveries.items():
        file = archived_file(archive, one)
        if isinstance(file, Bytes):
            found[delivery_id] = file
        else:
            wrong.append(f"{delivery_id} ({one.file_name}): {file}")
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise UsageError(
            f"the archived file of {len(wrong)} of {len(deliveries)} deliveries cannot be read again: "
            f"{'; '.join(wrong[:_NAMED])}{more}; nothing was done",
            hint="put the files back into the archive from a backup, under these names, and repeat the command, or "
            "leave these deliveries out",
        )
    return found


def archived_file(archive: Path, one: Known) -> Bytes | str:
    """The archived file of a delivery, or why it cannot be read again.

    Args:
        archive: The archive folder.
        one: The delivery.
    """
    if not one.sha256:
        return "its rows were there before ordertrail and come from no file"
    if one.archived_to is None:
        return "it is not in the archive"
    path = archive / one.archived_to
    try:
        found = read_bytes(path)
    except FileNotFoundError:
        return f"{one.archived_to} is gone"
    except OSError as error:
        return f"{one.archived_to} cannot be read: {error.strerror or error}"
    if found is None:
        return f"{one.archived_to} is no regular file"
    if found.sha256 != one.sha256:
        return f"{one.archived_to} was changed: its SHA-256 is {found.sha256}, that of the delivery is {one.sha256}"
    return found


def read_bytes(path: Path) -> Bytes | None:
    """Hash a file; None when it is no regular file, or changes meanwhile.

    Raises:
        OSError: It cannot be read.
    """
    before = path.stat()
    if not stat.S_ISREG(before.st_mode):
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    same = identity_of(before) == identity_of(after)
    return Bytes(path, identity_of(after), digest) if same else None


def shelve(file: Bytes, archive: Path, place: str) -> Bytes:
    """Copy a file into the archive; a file with the same bytes that is there already, from a killed attempt, is kept.

    Args:
        file: The file.
        archive: The archive folder.
        place: Below the archive.

    Returns:
        The copy.

    Raises:
        StorageError: The disk is full or fails.
        SourceError: A permission is missing.
        UsageError: The file changed meanwhile, or another one has that place.
    """
    target = archive / place
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(file.path, target)
        copied = read_bytes(target)
    except OSError as error:
        raise translated(error, "archive", str(file.path)) from error
    if copied is None or copied.sha256 != file.sha256:
        raise UsageError(
            f"{clean_name(str(file.path))} changed while it was copied; nothing was done",
            hint="repeat the command once nobody writes to it",
        )
    return copied


def _copy(source: Path, target: Path) -> None:
    """Copy a file, durably and without overwriting; the name appears with the last byte."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with source.open("rb") as read, temporary.open("xb") as written:
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())
        if not target.exists():
            temporary.rename(target)
        fsync_folder(target.parent)
    except OSError as error:
        if error.errno is None:
            raise StorageError(f"cannot copy {clean_name(str(source))}: {error}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
