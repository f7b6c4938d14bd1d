"""How much room is left on the disks of a pipeline."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config

LOW_SPACE_BYTES = 1_000_000_000
"""Less free space than this is a warning."""

NO_SPACE_BYTES = 50_000_000
"""With less free space than this a batch may not fit."""


class Space(Struct, frozen=True):
    """The room on the disk of a folder.

    Attributes:
        name: `warehouse` or `archive`.
        folder: The folder, or the nearest existing one above it.
        free_bytes: How much is left for us.
    """

    name: str
    folder: Path
    free_bytes: int


def nearest(path: Path) -> Path:
    """The folder itself, or the nearest existing one above it."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))


def free_bytes(folder: Path) -> int:
    """The free space on the disk of an existing folder."""
    return shutil.disk_usage(folder).free


def low_spaces(config: Config) -> Iterator[Space]:
    """The disks of warehouse and archive that are nearly full, each disk once.

    What cannot be asked, such as a mount without a size, is left out.
    """
    seen: set[int] = set()
    for name, path in (("warehouse", config.warehouse), ("archive", config.archive)):
        try:
            folder = nearest(path)
            status = os.statvfs(folder)
            device = folder.stat().st_dev
            free = free_bytes(folder)
        except OSError:
            continue
        if status.f_blocks and device not in seen and free < LOW_SPACE_BYTES:
            yield Space(name, folder, free)
        seen.add(device)
