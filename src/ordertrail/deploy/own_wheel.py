"""The ordertrail that is installed here as a wheel, so that a bundle brings it along and no index needs to have it.

The format is that of https://packaging.python.org/en/latest/specifications/binary-distribution-format/. The same
installation gives the same bytes each time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path

from ordertrail import __version__

NAME = f"ordertrail-{__version__}-py3-none-any.whl"
"""The wheel's file name."""

_INFO = f"ordertrail-{__version__}.dist-info"
_WHEEL = "Wheel-Version: 1.0\nGenerator: ordertrail\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


def own_wheel() -> bytes:
    """The installed package as a wheel.

    Raises:
        OSError: A file of it cannot be read.
        PackageNotFoundError: It runs without being installed.
    """
    content = {**_package(), **_information()}
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items())
    content[f"{_INFO}/RECORD"] = f"{record}{_INFO}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path, _FIRST_DAY)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _package() -> dict[str, bytes]:
    root = Path(__file__).parents[1]
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"ordertrail/{path.relative_to(root).as_posix()}": path.read_bytes() for path in found}


def _information() -> dict[str, bytes]:
    installed = metadata.distribution("ordertrail")
    found = {f"{_INFO}/WHEEL": _WHEEL.encode()}
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        if (text := installed.read_text(name)) is not None:
            found[f"{_INFO}/{name}"] = text.encode()
    return found


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
