"""Gives files their senders' manifests: a file is complete when its manifest is there and can be read.

A manifest that cannot be read is one whose writer has not finished, for all that can be known; its file waits. One that
says something else than the file holds is no matter of this module: then the file is held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.errors import FileChangedError, OrdertrailError
from ordertrail.model import FileIdentity, FoundFile, SenderManifest, Vendor
from ordertrail.rules.filekey import clean_name
from ordertrail.rules.sender_manifest import MAX_BYTES, archived_place, manifest_path, read_claims


class Opens(Protocol):
    """What is asked of a source."""

    def open(self, path: str) -> BinaryIO:
        """See `Source.open`."""
        ...


class Paired(Struct):
    """What came of pairing.

    Attributes:
        files: The files that can be taken, with their manifests.
        waiting: For the paths of other files and manifests, why they wait.
    """

    files: list[FoundFile] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


def pair(
    found: Iterable[FoundFile],
    about: Mapping[str, str],
    vendors: Sequence[Vendor],
    incomplete: Collection[str],
    source: Opens,
) -> Paired:
    """Pair complete files with complete manifests.

    Args:
        found: Both, each with the vendor that takes the file.
        about: For the path of a manifest, complete or not, that of its file.
        vendors: Of the config.
        incomplete: Paths of files and manifests that are there, but not complete.
        source: Opens manifests.
    """
    named = {vendor.name: vendor for vendor in vendors}
    manifests: dict[str, FoundFile] = {}
    files: list[FoundFile] = []
    for file in found:
        if file.path in about:
            manifests[file.path] = file
        else:
            files.append(file)
    paired = Paired()
    for file in files:
        path = manifest_path(file.path, named[file.vendor])
        if path is None:
            paired.files.append(file)
        elif path in manifests:
            _take(file, manifests[path], source, paired)
        else:
            came = "is not complete" if path in incomplete else "has not come"
            paired.waiting[file.path] = f"its manifest {_name(path)} {came}"
    there = {file.path for file in files}
    for path in manifests:
        if about[path] not in there:
            came = "is not complete" if about[path] in incomplete else "has not come"
            paired.waiting[path] = f"it is the manifest of {_name(about[path])}, which {came}"
    return paired


def _take(file: FoundFile, manifest: FoundFile, source: Opens, paired: Paired) -> None:
    try:
        read = read_manifest(file, manifest, source)
    except FileChangedError:
        paired.waiting[file.path] = f"its manifest {_name(manifest.path)} changed while it was read"
    except (OrdertrailError, ValueError) as error:
        why = error.message if isinstance(error, OrdertrailError) else str(error)
        paired.waiting[file.path] = f"its manifest {_name(manifest.path)} cannot be read: {why}"
    else:
        paired.files.append(replace(file, manifest=read))


def read_manifest(file: FoundFile, manifest: FoundFile, source: Opens) -> SenderManifest:
    """Read the manifest of a file.

    Args:
        file: The file.
        manifest: Its manifest.
        source: Opens it.

    Raises:
        FileChangedError: It vanished.
        SourceError: A permission is missing.
        ValueError: It says nothing that can be understood; the message says why.
    """
    with source.open(manifest.path) as stream:
        data = stream.read(MAX_BYTES + 1)
    claims = read_claims(data, _last(manifest.path), _last(file.path))
    return SenderManifest(manifest.path, manifest.identity, hashlib.sha256(data).hexdigest(), claims)


def archived_manifest(archive: Path, archived_to: str, path: str, vendor: Vendor) -> SenderManifest | None:
    """The manifest that was archived beside a file; None when there is none.

    Args:
        archive: The archive folder.
        archived_to: Where the file is, below it.
        path: Of the file, below the source folder, when it came.
        vendor: Who sent it.

    Raises:
        OSError: It cannot be read.
        ValueError: It says nothing that can be understood; the message says why.
    """
    place = archive / archived_place(archived_to)
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        return None
    claims = read_claims(data, "", _last(path))
    own = manifest_path(path, vendor) or place.name
    return SenderManifest(own, FileIdentity(0, 0, len(data), 0, 0), hashlib.sha256(data).hexdigest(), claims)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _name(path: str) -> str:
    return clean_name(_last(path))
