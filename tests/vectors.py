"""Deletion vectors written by hand, by PROTOCOL.md ("Deletion Vector Format"); slow, small and independent."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path

from ordertrail.delta.actions import Json

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAGIC = 1681511377
_COOKIE_WITHOUT_RUNS = 12346


def z85(data: bytes) -> str:
    """Base 85 of ZeroMQ RFC 32; whole groups of four bytes only."""
    text = ""
    for at in range(0, len(data), 4):
        value = int.from_bytes(data[at : at + 4], "big")
        text += "".join(_Z85[value // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return text


def roaring(rows: Iterable[int]) -> bytes:
    """A portable 64-bit Roaring bitmap behind Delta's magic number: array containers only."""
    groups: dict[int, dict[int, list[int]]] = {}
    for row in sorted(rows):
        groups.setdefault(row >> 32, {}).setdefault(row >> 16 & 0xFFFF, []).append(row & 0xFFFF)
    out = struct.pack("<IQ", _MAGIC, len(groups))
    for high, containers in groups.items():
        out += struct.pack("<III", high, _COOKIE_WITHOUT_RUNS, len(containers))
        out += b"".join(struct.pack("<HH", key, len(values) - 1) for key, values in containers.items())
        offset = 8 + 8 * len(containers)
        for values in containers.values():
            out += struct.pack("<I", offset)
            offset += 2 * len(values)
        out += b"".join(struct.pack(f"<{len(values)}H", *values) for values in containers.values())
    return out


def inline_vector(rows: Iterable[int]) -> dict[str, Json]:
    """A descriptor that holds the vector itself."""
    wanted = sorted(rows)
    data = roaring(wanted)
    padded = data + bytes(-len(data) % 4)
    return {"storageType": "i", "pathOrInlineDv": z85(padded), "sizeInBytes": len(data), "cardinality": len(wanted)}


def file_vector(root: Path, rows: Iterable[int], prefix: str = "") -> dict[str, Json]:
    """A descriptor of a new vector file in a table's folder, below `prefix`."""
    wanted = sorted(rows)
    data, name = roaring(wanted), uuid.uuid4()
    path = root / prefix / f"deletion_vector_{name}.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x01" + struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data)))
    return {
        "storageType": "u",
        "pathOrInlineDv": prefix + z85(name.bytes),
        "offset": 1,
        "sizeInBytes": len(data),
        "cardinality": len(wanted),
    }
