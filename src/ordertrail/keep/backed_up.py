"""What a backup holds: its manifest, how files get into it and out of it, and the check of its hashes.

```
backup.json      the manifest: pipeline, application id, last batch, size and SHA-256 of every file
ordertrail.toml  the config file, as it was
markers/         the markers of archive and source
consumers/       where each consumer of the changes stands
tables/ROLE/     a table: its log, and the data files and deletion vectors of its newest version
archive/         the archived files, if they were asked for
```
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.delta.log import storage_error
from ordertrail.durable import fsync_file, fsync_folder
from ordertrail.errors import StorageError, UsageError

VERSION = 1
"""Version of the format."""

MANIFEST = "backup.json"
"""The manifest's file name; a folder without it is no backup."""

CONFIG = "ordertrail.toml"
"""The name of the config file in a backup."""

TABLES, MARKERS, ARCHIVE = "tables", "markers", "archive"
"""The folders of a backup."""

_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class Held(Struct, frozen=True):
    """A file of a backup.

    Attributes:
        size_bytes: Its size.
        sha256: Of its bytes, hexadecimal.
    """

    size_bytes: int
    sha256: str


class Contents(Struct, frozen=True):
    """The manifest of a backup.

    Attributes:
        pipeline: The pipeline's name.
        app_id: The application id of its tables.
        batch: The last batch with the done mark; 0 for none.
        made_at: When it was made, ISO 8601.
        with_archive: Whether it holds the archived files.
        files: Every other file, by its path in the backup.
    """

    pipeline: str
    app_id: str
    batch: int
    made_at: str
    with_archive: bool
    files: Mapping[str, Held]

    def below(self, folder: str) -> list[str]:
        """The paths of the files below a folder, relative to it."""
        return [path.removeprefix(f"{folder}/") for path in self.files if path.startswith(f"{folder}/")]

    @property
    def text(self) -> str:
        """The manifest as canonical JSON."""
        files = {path: [held.size_bytes, held.sha256] for path, held in sorted(self.files.items())}
        document = {
            "version": VERSION,
            "pipeline": self.pipeline,
            "app_id": self.app_id,
            "batch": self.batch,
            "made_at": self.made_at,
            "with_archive": self.with_archive,
            "files": files,
        }
        return json.dumps(document, sort_keys=True)

    @property
    def sha256(self) -> str:
        """The hash of the manifest: it tells two backups apart."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def write_manifest(folder: Path, contents: Contents) -> None:
    """Write the manifest into a backup, durably."""
    path = folder / MANIFEST
    path.write_text(json.dumps({"sha256": contents.sha256, "contents": json.loads(contents.text)}) + "\n", "utf-8")
    fsync_file(path)


def read_manifest(folder: Path) -> Contents:
    """The manifest of a backup.

    Raises:
        UsageError: The folder is no backup, or one of a later release.
        StorageError: The manifest is damaged, or cannot be read.
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_bytes())
        version = document["contents"]["version"]
        if version != VERSION:
            raise UsageError(f"{folder} is a backup of format {version}", hint="use the release that made it, or newer")
        contents = _contents(document["contents"])
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{folder} is no backup: it has no {MANIFEST}", hint="give the folder of a backup") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="check its disk and its rights") from error
    except (ValueError, LookupError, TypeError, AttributeError):
        raise damaged(folder, f"its {MANIFEST} cannot be read") from None
    if contents.sha256 != document.get("sha256"):
        raise damaged(folder, f"its {MANIFEST} was changed")
    return contents


def _contents(document: dict[str, Any]) -> Contents:
    files = {str(path): Held(int(size), str(sha256)) for path, (size, sha256) in document["files"].items()}
    if any(PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts for path in files):
        raise ValueError("a path leads out of the backup")
    words = (str(document[name]) for name in ("pipeline", "app_id", "made_at"))
    pipeline, app_id, made_at = words
    return Contents(pipeline, app_id, int(document["batch"]), made_at, bool(document["with_archive"]), files)


def damaged(folder: Path, what: str) -> StorageError:
    """The error for a backup that is not what it was; nothing is restored from it."""
    return StorageError(
        f"the backup {folder} is damaged: {what}; nothing was restored", hint="take another backup, or repair this one"
    )


def check_hashes(folder: Path, contents: Contents) -> None:
    """Read every file of a backup.

    Raises:
        StorageError: A file is gone or has other bytes than when the backup was made.
    """
    for path, held in contents.files.items():
        try:
            if (size := (folder / path).stat().st_size) != held.size_bytes:
                raise damaged(folder, f"{path} has {size} bytes, not {held.size_bytes}")
            if hash_of(folder / path) != held.sha256:
                raise damaged(folder, f"{path} has other bytes than when it was made")
        except OSError as error:
            raise damaged(folder, f"{path} cannot be read: {error.strerror}") from error


def hash_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Transfer:
    """Puts files in other places, by hard links where that can be done.

    Attributes:
        linked: How many files were linked.
        copied: How many were copied.
    """

    def __init__(self) -> None:
        self.linked = self.copied = 0
        self._placed: dict[tuple[int, int], Path] = {}

    def link(self, source: Path, target: Path) -> None:
        """Put a file that nobody ever writes to again in a new place; a file with two names is copied once."""
        target.parent.mkdir(parents=True, exist_ok=True)
        stat = source.stat()
        key = stat.st_dev, stat.st_ino
        try:
            os.link(self._placed.get(key, source), target)
            self.linked += 1
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self.copy(source, target)
        self._placed.setdefault(key, target)

    def copy(self, source: Path, target: Path) -> None:
        """Put a copy in a new place, durably, with the file's time."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        fsync_file(target)
        self.copied += 1


def fsync_tree(folder: Path) -> None:
    """Make the names of all folders below and including one durable."""
    for inside, _, _ in os.walk(folder, topdown=False):
        fsync_folder(Path(inside))


def files_below(folder: Path) -> Iterator[str]:
    """The paths of all files below a folder, relative to it, sorted; those of hidden names are left out."""
    for inside, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.startswith("."):
                yield (Path(inside) / name).relative_to(folder).as_posix()


def require_folders(config: Config, word: str) -> None:
    """Refuse tables that are found by name: their files are their catalog's.

    Raises:
        UsageError: Saying what to do instead.
    """
    if config.by_name:
        raise UsageError(
            f"{word} works on tables in folders; those of pipeline {config.name} are found by name (spark.tables)",
            hint="use the catalog's own means: copy the five tables at one moment at which no pass runs, such as with "
            "CREATE TABLE … DEEP CLONE",
        )


def require_apart(config: Config, folder: Path, places: Iterable[str] = ("source", "archive", "warehouse")) -> None:
    """Refuse a folder inside one of the pipeline's.

    Raises:
        UsageError: Naming it.
    """
    for name in places:
        if folder.resolve().is_relative_to(getattr(config, name).resolve()):
            raise UsageError(f"{folder} is inside pipeline.{name}", hint="choose a folder outside the pipeline's own")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Translate errors of the disk within the block."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, Path(str(error.filename2 or error.filename or path))) from error
