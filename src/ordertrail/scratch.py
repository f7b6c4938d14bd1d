"""Folders for what a command puts aside while it works, and finding those of commands that were killed.

A command holds a lock (`flock`) on its folder; the system lets go of it when the process dies, however it dies. So what
is left over is told from what is in use, without process ids, which another machine or a container counts anew.
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
from dataclasses import dataclass
from pathlib import Path

from ordertrail.config import Config

SPILL = ".ordertrail-spill"
"""Where a pass and a rebuild spill to. Only they do, under the pipeline's lock."""

LOCKED_WITHIN_S = 60.0
"""A folder that was made longer ago, in seconds, has its lock by now."""

UNFINISHED_AGE_S = 3600.0
"""A small file that somebody was writing is left over after this long, in seconds."""

_FOLDER = re.compile(r"\.ordertrail-(?:verify|maintain|rebuild)-[0-9a-f]{32}")
_FILE = re.compile(r"\.ordertrail(?:-.+\.(?:heartbeat|notes))?\.\d+(?:\.[0-9a-f]{8})?\.tmp|\.ordertrail-doctor-\w+")


@dataclass(frozen=True, slots=True)
class SweepScratch:
    """Delete what killed commands left in the pipeline's folders.

    Attributes:
        paths: Files and folders.
        table: It is of no table.
    """

    paths: tuple[Path, ...]
    table: str = ""


@contextmanager
def scratch_folder(parent: Path, word: str) -> Iterator[Path]:
    """A folder of one's own; it goes at the end. Where none can be made, only its name is given.

    Args:
        parent: An existing folder.
        word: What it is for: `verify`, `maintain`, `rebuild` or `query`.
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
    """Delete the folders of one word that killed commands of this user left.

    Args:
        parent: Where `scratch_folder` made them.
        word: As `scratch_folder` has it.
    """
    name = re.compile(rf"\.ordertrail-{word}-[0-9a-f]{{32}}")
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and _is_mine_and_old(entry) and not _in_use(Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_mine_and_old(entry: os.DirEntry[str]) -> bool:
    # Between the making of a folder and its lock it is in use too.
    stat = entry.stat(follow_symlinks=False)
    return stat.st_uid == os.getuid() and time.time() - stat.st_mtime > LOCKED_WITHIN_S


def plan_scratch(config: Config) -> SweepScratch | None:
    """What killed commands left; None when there is nothing. Reads only."""
    now_s = time.time()
    found: list[Path] = []
    for folder in dict.fromkeys((config.warehouse, config.archive, config.source)):
        with suppress(OSError), os.scandir(folder) as entries:
            found += (Path(entry.path) for entry in entries if _is_left(entry, now_s))
    return SweepScratch(tuple(sorted(found))) if found else None


def sweep_scratch(step: SweepScratch) -> int:
    """Delete what is still left over. Under the pipeline's lock, for the sake of `SPILL`.

    Returns:
        How many of the paths are gone.
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
    """Whether a living command holds a folder."""
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
