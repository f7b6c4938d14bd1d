"""What a file is that is no delimited text, by its first bytes; and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

HEAD_BYTES = 1 << 12
"""How many of a file's first bytes tell what it is."""

_EXPORT = "ask the vendor for an export as CSV"
_TAR = slice(257, 262)

# What it is called in a message, and what to do; by a name of ours.
_KINDS = {
    "gzip": ("it is a gzip file", 'set the vendor\'s compression = "auto", which reads it'),
    "zip": ("it is a zip archive", 'set the vendor\'s compression = "auto", which reads it'),
    "xlsx": ("it is an Excel workbook (.xlsx)", "ask the vendor for it saved as CSV UTF-8"),
    "ods": ("it is a spreadsheet of LibreOffice (.ods)", "ask the vendor for it saved as CSV"),
    "docx": ("it is a document of Word (.docx)", _EXPORT),
    "xls": ("it is an Excel workbook of the old kind (.xls)", "ask the vendor for it saved as CSV UTF-8"),
    "pdf": ("it is a PDF document", _EXPORT),
    "parquet": ("it is a Parquet file", _EXPORT),
    "avro": ("it is an Avro file", _EXPORT),
    "orc": ("it is an ORC file", _EXPORT),
    "sqlite": ("it is an SQLite database", _EXPORT),
    "bzip2": ("it is a bzip2 file", "ask the vendor for gzip or zip, which are unpacked"),
    "xz": ("it is an xz file", "ask the vendor for gzip or zip, which are unpacked"),
    "zstd": ("it is a Zstandard file", "ask the vendor for gzip or zip, which are unpacked"),
    "7z": ("it is a 7z archive", "ask the vendor for gzip or zip, which are unpacked"),
    "rar": ("it is a RAR archive", "ask the vendor for gzip or zip, which are unpacked"),
    "tar": ("it is a tar archive", "ask the vendor for a zip archive, or for the files themselves"),
    "image": ("it is a picture", _EXPORT),
}
_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"),
    (b"%PDF-", "pdf"),
    (b"PAR1", "parquet"),
    (b"Obj\x01", "avro"),
    (b"ORC", "orc"),
    (b"SQLite format 3\0", "sqlite"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
)
_ARCHIVES = {"gzip", "zip", "bzip2", "xz", "zstd", "7z", "rar", "tar"}
_ALSO_TEXT = {b"PAR1", b"BZh", b"ORC"}
"""First bytes that a header might have, too; only with bytes that no text has they mean something else."""


def kind_of(head: bytes) -> str:
    """A name for what a file is, by its first bytes; "" for what may be text.

    Args:
        head: `HEAD_BYTES` of them, or the whole file.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic) and (magic not in _ALSO_TEXT or not _is_text(head)):
            return kind
    return "tar" if head[_TAR] == b"ustar" and 0 in head else ""


def described(kind: str) -> tuple[str, str]:
    """What to call a kind in a message, and what to do about it."""
    return _KINDS[kind]


def is_archive(kind: str) -> bool:
    """Whether files of a kind are packed."""
    return kind in _ARCHIVES


def office_kind(names: Iterable[str]) -> str:
    """The kind of an office document, which is a zip archive; "" for any other archive.

    Args:
        names: Of the members.
    """
    found = set(names)
    if "[Content_Types].xml" in found:
        return "docx" if any(name.startswith("word/") for name in found) else "xlsx"
    return "ods" if {"mimetype", "content.xml"} <= found else ""


def _is_text(head: bytes) -> bool:
    return not any(byte < 9 for byte in head)
