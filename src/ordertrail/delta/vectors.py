"""Deletion vectors: which rows of a data file are deleted, in files that every Delta reader understands.

Source of the format: https://github.com/delta-io/delta/blob/master/PROTOCOL.md, sections "Deletion Vectors" and
"Deletion Vector Format". A vector is a set of physical row numbers as a portable 64-bit Roaring bitmap. Reading checks
everything that can be checked, because a vector that has lost rows makes deleted rows reappear.
"""

from __future__ import annotations

import array
import json
import os
import re
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from ordertrail.delta.actions import AddFile, Json
from ordertrail.delta.log import path_inside, storage_error
from ordertrail.durable import fsync_folder
from ordertrail.errors import StorageError, TableError, UnsupportedTableError

FOLDER = "_dv"
"""Folder of our vector files below the table's folder: the clean-ups of other writers skip a folder with `_`."""

Rows = NDArray[np.int64]
"""Physical row numbers of one data file."""

_CURE = "run ordertrail rebuild: it writes the target anew from the history, without its deletion vectors"
_NOT_ROWS = "a deletion vector marks one row or more, counted from 0"
_MAGIC = struct.pack("<I", 1681511377)
_FORMAT = b"\x01"
_WORD = struct.Struct(">I")
_NO_ROW = 1 << 63
"""Row numbers are signed: this one and all above it are none."""

_UUID_CHARACTERS = 20
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGIT = {sign: value for value, sign in enumerate(_Z85)}


def vector_file(root: Path, descriptor: Mapping[str, Json]) -> Path | None:
    """Locate a vector: a path below `root`, or None for one that the log itself contains.

    Args:
        root: The table's folder.
        descriptor: As in the log.

    Raises:
        UnsupportedTableError: It is outside the table's folder, or stored in a way that we do not know.
        TableError: The descriptor is damaged.
    """
    kind, place = descriptor.get("storageType"), descriptor.get("pathOrInlineDv")
    if not isinstance(place, str):
        raise _damaged(root, f"a vector of {root.name}", "its descriptor names no place")
    if kind == "i":
        return None
    if kind == "u":
        prefix, name = place[:-_UUID_CHARACTERS], place[-_UUID_CHARACTERS:]
        try:
            number = uuid.UUID(bytes=_from_z85(name))
        except ValueError:
            raise _damaged(root, f"a vector of {root.name}", f"{place!r} is no name of a file") from None
        place = f"{prefix}/deletion_vector_{number}.bin" if prefix else f"deletion_vector_{number}.bin"
        path = None if prefix.startswith("/") or ".." in prefix.split("/") else root / place
    elif kind == "p":
        path = path_inside(root, place)
    else:
        raise UnsupportedTableError(
            f"the table {root.name} has a deletion vector of the unknown storage type {kind!r}",
            hint="upgrade ordertrail, or rewrite the table without deletion vectors",
        )
    if path is None:
        raise UnsupportedTableError(
            f"{root.name} refers to the deletion vector {place} outside its folder", hint="do not clone shallowly"
        )
    return path


def read_vector(root: Path, descriptor: Mapping[str, Json]) -> Rows:
    """The rows that a vector marks as deleted.

    Args:
        root: The table's folder.
        descriptor: As in the log.

    Returns:
        Physical row numbers, ascending, each once.

    Raises:
        TableError: The vector or its descriptor is damaged.
        StorageError: The file is missing or cannot be read.
    """
    return rows_in(_read_bitmap(root, descriptor))


def _read_bitmap(root: Path, descriptor: Mapping[str, Json]) -> BitMap64:
    """As `read_vector`, as a bitmap."""
    path = vector_file(root, descriptor)
    what = f"the deletion vector {path}" if path else f"a deletion vector in the log of {root.name}"
    size, cardinality = (_number(root, what, descriptor, name) for name in ("sizeInBytes", "cardinality"))
    if path:
        payload = _payload(root, path, descriptor.get("offset"), size)
    else:
        try:
            payload = _from_z85(str(descriptor["pathOrInlineDv"]))
        except ValueError as error:
            raise _damaged(root, what, str(error)) from None
        if not 0 <= len(payload) - size < _WORD.size:
            raise _damaged(root, what, f"it has {len(payload)} bytes for {size}")
        payload = payload[:size]
    if payload[: len(_MAGIC)] != _MAGIC:
        raise _damaged(root, what, "it does not begin with the magic number of its format")
    try:
        # pyroaring checks the order and the bounds of its content.
        rows = BitMap64.deserialize(payload[len(_MAGIC) :])
    except (ValueError, IndexError) as error:
        raise _damaged(root, what, str(error)) from None
    if len(rows) != cardinality or (rows and rows.max() >= _NO_ROW):
        raise _damaged(root, what, f"it marks {len(rows)} rows, not {cardinality}")
    return rows


def deleted_rows(root: Path, file: AddFile) -> Rows:
    """The rows of a data file that its vector marks as deleted; none when it has no vector.

    Args:
        root: The table's folder.
        file: A live data file of the table.

    Returns:
        Physical row numbers, ascending, each once.

    Raises:
        TableError: The vector is damaged, or marks rows that the data file does not have.
        StorageError: The vector's file is missing or cannot be read.
    """
    return rows_in(marked_rows(root, file))


def marked_rows(root: Path, file: AddFile) -> BitMap64:
    """As `deleted_rows`, as a bitmap: it has a fourth of the size, and more rows are added in a tenth of the time."""
    if file.deletion_vector is None:
        return BitMap64()
    rows = _read_bitmap(root, json.loads(file.deletion_vector))
    if rows and file.rows is not None and rows.max() >= file.rows:
        raise _damaged(root, f"the deletion vector of {file.path}", f"it marks row {rows.max()} of {file.rows}")
    return rows


def rows_in(bitmap: BitMap64) -> Rows:
    """The row numbers in a bitmap, ascending."""
    return np.frombuffer(bitmap.to_array(), dtype=np.int64)


def bitmap_of(rows: NDArray[np.integer[Any]]) -> BitMap64:
    """A bitmap of some row numbers.

    Args:
        rows: In any order.

    Raises:
        ValueError: One is negative.
    """
    if len(rows) and rows.min() < 0:
        raise ValueError(_NOT_ROWS)
    # By far the fastest way: pyroaring iterates over anything but an array.array number by number.
    return BitMap64(array.array("Q", rows.astype(np.uint64).tobytes()))


def write_vectors(root: Path, rows: Sequence[NDArray[np.integer[Any]] | BitMap64]) -> list[dict[str, Json]]:
    """Write one new file with all given vectors; it is durable when this returns.

    A file that no commit refers to is ignored: a crash afterwards leaves only garbage.

    Args:
        root: The table's folder.
        rows: For each vector the physical row numbers to mark: one or more, in any order, or a bitmap of them.

    Returns:
        The descriptors, in the order of `rows`; none without `rows`.

    Raises:
        StorageError: The disk is full, read-only or failing; no file was created.
        ValueError: A vector without rows, or with a negative one.
    """
    if not rows:
        return []
    name = uuid.uuid4()
    content, descriptors = bytearray(_FORMAT), list[dict[str, Json]]()
    for wanted in rows:
        payload, cardinality = _serialized(wanted)
        descriptors.append(
            {
                "storageType": "u",
                "pathOrInlineDv": FOLDER + _to_z85(name.bytes),
                "offset": len(content),
                "sizeInBytes": len(payload),
                "cardinality": cardinality,
            }
        )
        content += _WORD.pack(len(payload)) + payload + _WORD.pack(zlib.crc32(payload))
    path = root / FOLDER / f"deletion_vector_{name}.bin"
    try:
        _put(path, content)
    except OSError as error:
        raise storage_error(error, path) from error
    return descriptors


def _serialized(rows: NDArray[np.integer[Any]] | BitMap64) -> tuple[bytes, int]:
    bitmap = rows if isinstance(rows, BitMap64) else bitmap_of(rows)
    if not bitmap:
        raise ValueError(_NOT_ROWS)
    bitmap.run_optimize()
    return _MAGIC + bitmap.serialize(), len(bitmap)


def _put(path: Path, content: bytes | bytearray) -> None:
    """Write a new file under a temporary name, then rename it, durably."""
    folder = path.parent
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(folder)


def _payload(root: Path, path: Path, offset: Json, size: int) -> bytes:
    """The bytes of one vector in its file, after checking their checksum."""
    what = f"the deletion vector {path}"
    start = 0 if offset is None else offset
    if not isinstance(start, int) or start < 0:
        raise _damaged(root, what, f"its offset is {offset!r}")
    try:
        with path.open("rb") as file:
            kind = file.read(len(_FORMAT))
            file.seek(start)
            found = file.read(size + 2 * _WORD.size)
    except ValueError as error:  # a zero byte in the path
        raise _damaged(root, what, str(error)) from None
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise TableError(f"{what} is not there", hint=_CURE, path=path) from error
        raise StorageError(f"cannot read {what}: {error.strerror or error}", hint="see to the disk") from error
    if kind != _FORMAT:
        raise _damaged(root, what, "it is not of version 1 of the format")
    if len(found) != size + 2 * _WORD.size or _WORD.unpack_from(found)[0] != size:
        raise _damaged(root, what, f"it does not have {size} bytes at {start}")
    payload = found[_WORD.size : -_WORD.size]
    if zlib.crc32(payload) != _WORD.unpack_from(found, _WORD.size + size)[0]:
        raise _damaged(root, what, "its checksum does not fit")
    return payload


def _number(root: Path, what: str, descriptor: Mapping[str, Json], name: str) -> int:
    value = descriptor.get(name)
    if not isinstance(value, int) or value < 0:
        raise _damaged(root, what, f"its {name} is {value!r}")
    return value


def _damaged(root: Path, what: str, why: str) -> TableError:
    return TableError(f"{what} is damaged: {why}", hint=_CURE, path=root)


def _to_z85(data: bytes) -> str:
    """Base 85 of ZeroMQ RFC 32; `data` is whole groups of four bytes."""
    values = (value for (value,) in _WORD.iter_unpack(data))
    return "".join(_Z85[value // 85**power % 85] for value in values for power in (4, 3, 2, 1, 0))


def _from_z85(text: str) -> bytes:
    """The bytes of a base 85 text.

    Raises:
        ValueError: It is not base 85.
    """
    if len(text) % 5:
        raise ValueError("its text is no base 85")
    out = bytearray()
    try:
        for group in re.findall("(?s).{5}", text):
            value = 0
            for sign in group:
                value = value * 85 + _DIGIT[sign]
            out += _WORD.pack(value)
    except (KeyError, struct.error):
        raise ValueError("its text is no base 85") from None
    return bytes(out)
