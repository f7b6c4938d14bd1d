"""The salt of a key index: 16 random bytes in a file of its folder, created once."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

from ordertrail.durable import put_if_absent

NAME = "salt"
_MAGIC = b"OTKEYSLT"


def salt_of(folder: Path) -> bytes:
    """The salt of an index; created when it is missing or damaged.

    A new salt makes all runs foreign. Two processes that create one at the same time agree on the first; after damage
    each may use its own for a while, and the runs of one are foreign to the other. When the file can be neither written
    nor read, the salt is temporary and nothing is covered.
    """
    path = folder / NAME
    fresh = os.urandom(16)
    try:
        if (salt := _read(path)) is not None:
            return salt
        path.unlink(missing_ok=True)
        save_salt(folder, fresh)
        return _read(path) or fresh
    except OSError:
        return fresh


def save_salt(folder: Path, salt: bytes) -> None:
    """Write the salt unless there is one.

    Raises:
        OSError: The disk is full or failing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / NAME).exists():
        body = _MAGIC + salt
        with contextlib.suppress(FileExistsError):
            put_if_absent(folder / NAME, body + zlib.crc32(body).to_bytes(4, "little"))


def _read(path: Path) -> bytes | None:
    """The salt; None when it is missing or damaged; OSError when the file cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    body, checksum = data[:-4], data[-4:]
    whole = len(data) == 28 and body[:8] == _MAGIC and zlib.crc32(body).to_bytes(4, "little") == checksum
    return body[8:] if whole else None
