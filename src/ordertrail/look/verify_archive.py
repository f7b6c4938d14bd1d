"""What `ordertrail verify` says about the archive: files that are gone, have changed, or belong to no delivery."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct, field

from ordertrail.rules.filekey import clean_name
from ordertrail.rules.sender_manifest import archived_place

SHOWN = 10
"""How many files of one kind are named."""


class ArchivedFile(Struct, frozen=True):
    """A delivery's file, as `orders_deliveries` has it.

    Attributes:
        file_name: As the vendor named it.
        archived_to: Below the archive folder; None when it vanished before it was archived.
        size_bytes: Number of bytes that were read.
        sha256: Hash of these bytes, hexadecimal.
    """

    file_name: str
    archived_to: str | None
    size_bytes: int
    sha256: str


class ArchiveFinding(Struct):
    """What was found.

    Attributes:
        files: How many deliveries there are.
        changed: Files whose bytes differ from those that were loaded, one line each: this is wrong.
        gone: Files that are not there (any more): people clear archives.
        unknown: Files below the archive that belong to no delivery, perhaps to tables that are not there now.
    """

    files: int
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def counted(self) -> str:
        """Everything that is not wrong, in one line."""
        text = f"{self.files} files"
        if self.gone:
            text += f", of which {len(self.gone)} are not there (any more): {_listed(self.gone)}"
        if self.unknown:
            text += f"; {len(self.unknown)} that no delivery knows: {_listed(self.unknown)}"
        return text


def look_at_archive(
    archive: Path, known: Iterable[ArchivedFile], *, expected: Callable[[str], bool], hashed: bool = False
) -> ArchiveFinding:
    """Compare the archive with the deliveries. Links are not followed.

    Args:
        archive: The archive folder; it need not be there.
        known: The files of all deliveries.
        expected: Whether a file that no delivery has may be there, by its name: that of a batch under way.
        hashed: Whether to compare the bytes, not only their number; that reads the whole archive.
    """
    files = list(known)
    found = ArchiveFinding(len(files))
    for file in files:
        if file.archived_to is None:
            found.gone.append(clean_name(file.file_name))
            continue
        size = _size(archive / file.archived_to)
        if size is None:
            found.gone.append(clean_name(file.archived_to))
        elif size != file.size_bytes:
            found.changed.append(f"{clean_name(file.archived_to)} has {size} bytes, {file.size_bytes} were loaded")
        elif hashed and (digest := _sha256(archive / file.archived_to)) != file.sha256:
            found.changed.append(f"{clean_name(file.archived_to)} has SHA-256 {digest}, {file.sha256} was loaded")
    names = {file.archived_to for file in files}
    names |= {archived_place(place) for place in names if place is not None}
    found.unknown += (
        clean_name(path) for path in _walk(archive) if path not in names and not expected(path.rpartition("/")[2])
    )
    return found


def under_way(name: str, done: int) -> bool:
    """Whether an archived file's name is that of a batch after the last one with the done mark."""
    batch = name.partition("-")[0]
    return batch.isdecimal() and int(batch) > done


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _size(path: Path) -> int | None:
    """The `stat` of a regular file; None when there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(archive: Path) -> Iterator[str]:
    """The paths of all files below the archive but hidden ones, sorted; folders that cannot be read are left out."""
    for folder, folders, names in os.walk(archive):
        folders.sort()
        inside = "" if Path(folder) == archive else f"{Path(folder).relative_to(archive)}/"
        yield from (inside + name for name in sorted(names) if not name.startswith("."))
