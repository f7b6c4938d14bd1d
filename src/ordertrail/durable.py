"""Files that survive a crash of the machine: either complete under their name, or absent."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def put_if_absent(path: Path, data: bytes) -> None:
    """Write `data` to a new file `path`, atomically and durably, unless the name is taken. Needs hard links.

    Raises:
        FileExistsError: The name is taken.
        OSError: The disk fails; it is unknown whether the file is there.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def fsync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_durably(temporary: Path, path: Path, *, replace: bool) -> None:
    """Give a finished file of the same file system its name, durably; nobody ever sees a part of it there.

    Args:
        temporary: The file. Without `replace` this name may stay as well.
        path: Its name from now on.
        replace: Whether it may take the place of a file that has the name.

    Raises:
        FileExistsError: The name is taken, and `replace` is False.
        OSError: The disk fails.
    """
    fsync_file(temporary)
    if replace:
        temporary.replace(path)
    else:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError as error:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            temporary.rename(path)
    fsync_folder(path.parent)
