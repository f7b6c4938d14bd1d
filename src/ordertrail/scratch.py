"""Folders for the temporary files of a command, and the clean-up of those that killed commands left.

A command holds a lock (`flock`) on its folder, and the system releases it when the process dies, however it dies. So
left-overs can be told from folders in use without process ids, which another machine or a container numbers on its own.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config

SPILL = ".ordertrail-spill"
"""Folder to which passes and rebuilds spill. Only they use it, under the pipeline's lock."""

LOCKED_WITHIN_S = 60.0
"""A folder older than this, in seconds, has been locked by its command if that still runs."""

UNFINISHED_AGE_S = 3600.0
"""An unfinished small file counts as left over after this long, in seconds."""

_FOLDER = re.compile(r"\.ordertrail-(?:verify|maintain|rebuild)-[0-9a-f]{32}")
_FILE = re.compile(r"\.ordertrail(?:-.+\.(?:heartbeat|notes))?\.\d+(?:\.[0-9a-f]{8})?\.tmp|\.ordertrail-doctor-\w+")


class SweepScratch(Struct, frozen=True):
    """A step that deletes what killed commands left in the pipeline's folders.

    Attributes:
        paths: Files and folders.
        table: Always empty: the step concerns no table.
    """

    paths: tuple[Path, ...]
    table: str = ""


@contextmanager
def scratch_folder(parent: Path, word: str) -> Iterator[Path]:
    """A folder for the caller alone, deleted at the end. If it cannot be created, only its name is returned.

    Args:
        parent: An existing folder.
        word: What uses it: `verify`, `maintain`, `rebuild`, `query`, `export` or `read`.
    """
    folder = parent / f".ordertrail-{word}-{uuid.uuid4().hex}"
    descriptor: int | None = None
    with suppress(OSError):
        folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def sweep_left(parent: Path, word: str) -> None:
    """Delete the folders of one command that killed processes of this user left.

    Args:
        parent: Where `scratch_folder` created them.
        word: As in `scratch_folder`.
    """
    name = re.compile(rf"\.ordertrail-{word}-[0-9a-f]{{32}}")
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and _is_mine_and_old(entry) and not _in_use(Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_mine_and_old(entry: os.DirEntry[str]) -> bool:
    # Between its creation and its lock a folder is in use, too.
    stat = entry.stat(follow_symlinks=False)
    return stat.st_uid == os.getuid() and time.time() - stat.st_mtime > LOCKED_WITHIN_S


def plan_scratch(config: Config) -> SweepScratch | None:
    """Find what killed commands left; None when there is nothing. Reads only."""
    now_s = time.time()
    found: list[Path] = []
    for folder in dict.fromkeys((config.warehouse, config.archive, config.source)):
        with suppress(OSError), os.scandir(folder) as entries:
            found += (Path(entry.path) for entry in entries if _is_left(entry, now_s))
    return SweepScratch(tuple(sorted(found))) if found else None


def sweep_scratch(step: SweepScratch) -> int:
    """Delete what is still left over. The caller holds the pipeline's lock, because passes use `SPILL`.

    Returns:
        How many of the paths were deleted.
    """
    gone = 0
    for path in step.paths:
        if not path.is_dir():
            with suppress(OSError):
                path.unlink(missing_ok=True)
        elif path.name == SPILL or not _in_use(path):
            shutil.rmtree(path, ignore_errors=True)
        gone += not os.path.lexists(path)
    return gone


def _is_left(entry: os.DirEntry[str], now_s: float) -> bool:
    if entry.is_dir(follow_symlinks=False):
        if entry.name == SPILL:
            return next(Path(entry.path).iterdir(), None) is not None
        return _FOLDER.fullmatch(entry.name) is not None and not _in_use(Path(entry.path))
    old = now_s - entry.stat(follow_symlinks=False).st_mtime >= UNFINISHED_AGE_S
    return old and _FILE.fullmatch(entry.name) is not None


def _in_use(folder: Path) -> bool:
    """Whether a running command holds the folder's lock."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
