"""The texts of a delivery: the file itself, or what is packed in it, by its first bytes and not by its name.

A gzip file is one text, a zip archive one for each member that holds rows. They are unpacked while they are read, into
memory of a fixed size and never to disk, so the name of a member is no path. What is packed may be an attack: the
unpacked size and its ratio to the packed one are bounded, and so is the number of members.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, BinaryIO, Protocol

from msgspec import Struct

from ordertrail.errors import QuarantineError
from ordertrail.model import Vendor
from ordertrail.rules.bounds import MAX_SHOWN_CHARS, cut
from ordertrail.rules.filekey import clean_name
from ordertrail.rules.magic import HEAD_BYTES, described, is_archive, kind_of, office_kind

MAX_RATIO = 200
"""An archive may unpack to this many times its packed size; texts of real rows pack to a fifth, at most to a 50th."""

RATIO_FREE_BYTES = 64 << 20
"""Up to this unpacked size the ratio does not count: a small file of equal rows packs well."""

MAX_MEMBERS = 1000
"""Most members of a zip archive."""

MAX_DIRECTORY_BYTES = 1 << 20
"""Longest directory of a zip archive: it is read whole."""

_PACKED_BYTES = 1 << 16
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
_ENCRYPTED = 0x1
_ZIP = "the zip archive"
_END_BYTES = 22
_AGAIN = "nothing of it was loaded: ask the vendor to send it again"


class Readable(Protocol):
    """What is read from a text."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, at least one before the end; b"" there."""
        ...


class Member(Struct, frozen=True):
    """One text of a delivery.

    Attributes:
        name: Its name in the archive; "" of a text that has none.
        stream: The text from its first byte on, read once.
    """

    name: str
    stream: Readable


def members(stream: BinaryIO, vendor: Vendor) -> Iterator[Member]:
    """The texts of a delivery, in the order of the archive; each is read to its end before the next one is asked for.

    Args:
        stream: Positioned at the file's first byte; a zip archive needs one that can seek.
        vendor: Its `compression` and `max_unpacked_mb` apply.

    Raises:
        QuarantineError: Rule `archive`, here or while a text is read: the archive is damaged, cut off, encrypted, too
            large when it is unpacked, or holds something else than texts. Rule `binary`: it is no text.
    """
    head = _filled(stream, HEAD_BYTES)
    kind = kind_of(head)
    if vendor.compression == "auto" and kind == "gzip":
        text = _Gzip(_Rest(head, stream), _Budget(vendor, "the gzip file"))
        yield Member("", _unpacked(text, "the gzip file"))
    elif vendor.compression == "auto" and kind == "zip":
        yield from _zip_members(stream, vendor)
    else:
        if kind:
            raise _no_text("the file", kind)
        yield Member("", _Rest(head, stream))


def _filled(stream: Readable, size: int) -> bytes:
    """The first bytes of a stream, fewer than asked for only where it ends."""
    found = stream.read(size)
    while 0 < len(found) < size and (more := stream.read(size - len(found))):
        found += more
    return found


def _refused(message: str, *, hint: str) -> QuarantineError:
    return QuarantineError(message, rule="archive", hint=hint)


def _no_text(what: str, kind: str) -> QuarantineError:
    name, hint = described(kind)
    return QuarantineError(f"{what} is not text: {name}", rule="binary", hint=hint)


class _Rest:
    """A stream of which the first bytes were read already."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        """See `Readable`."""
        if not self._head:
            return self._stream.read(size)
        head, self._head = self._head, b""
        return head + self._stream.read(max(size - len(head), 0))


def _unpacked(text: Readable, what: str) -> Readable:
    """An unpacked text, refused when it is packed once more or is none."""
    head = _filled(text, HEAD_BYTES)
    kind = kind_of(head)
    if is_archive(kind):
        raise _refused(
            f"{what} holds an archive: {described(kind)[0]}",
            hint="only one level is unpacked: ask the vendor to pack the files themselves",
        )
    if kind:
        raise _no_text(f"what {what} holds", kind)
    return _Rest(head, text)


class _Budget:
    """How much an archive may unpack to, over all its members.

    Args:
        vendor: Its `max_unpacked_mb` applies.
        what: What is unpacked, for messages.
    """

    def __init__(self, vendor: Vendor, what: str) -> None:
        self._most_mb = vendor.max_unpacked_mb
        self._what = what
        self._unpacked_bytes = 0

    def spend(self, size_bytes: int, packed_bytes: int) -> None:
        """Count unpacked bytes.

        Args:
            size_bytes: How many more there are.
            packed_bytes: How many packed bytes all of them come from so far.

        Raises:
            QuarantineError: There are too many.
        """
        self._unpacked_bytes += size_bytes
        if self._unpacked_bytes > self._most_mb << 20:
            raise _refused(
                f"{self._what} unpacks to more than {self._most_mb:,} MB",
                hint="if it is what the vendor means to send, raise the vendor's max_unpacked_mb, then run "
                "ordertrail replay --all-quarantined",
            )
        if self._unpacked_bytes > max(RATIO_FREE_BYTES, MAX_RATIO * packed_bytes):
            raise _refused(
                f"{self._what} unpacks to more than {MAX_RATIO} times its size, as only made-up data does",
                hint="ask the vendor what it is; to load it all the same, unpack it and send what it holds",
            )


# --- gzip ----------------------------------------------------------------------------------------------------------


class _Gzip:
    """The text of a gzip file, which may be several texts, one after the other; zeros behind the last are padding."""

    def __init__(self, stream: Readable, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._waiting = b""
        self._unpack = zlib.decompressobj(wbits=31)
        self._open = True
        self._packed_bytes = 0

    def read(self, size: int, /) -> bytes:
        """See `Readable`; fewer bytes than asked for come only at the end, however small the texts are."""
        found: list[bytes] = []
        while size > 0 and (data := self._some(size)):
            found.append(data)
            size -= len(data)
        return b"".join(found)

    def _some(self, size: int) -> bytes:
        while self._waiting or self._fill():
            if not self._open:
                self._waiting = self._waiting.lstrip(b"\0")
                if self._waiting:
                    self._unpack = zlib.decompressobj(wbits=31)
                    self._open = True
                continue
            data = self._next(size)
            self._budget.spend(len(data), self._packed_bytes)
            if data:
                return data
        if self._open:
            raise _refused("the gzip file ends too early: it was cut off", hint=_AGAIN)
        return b""

    def _fill(self) -> bool:
        self._waiting = self._stream.read(_PACKED_BYTES)
        self._packed_bytes += len(self._waiting)
        return bool(self._waiting)

    def _next(self, size: int) -> bytes:
        try:
            data = self._unpack.decompress(self._waiting, size)
        except zlib.error as error:
            raise _refused(f"the gzip file is damaged: {_words(error)}", hint=_AGAIN) from None
        self._open = not self._unpack.eof
        self._waiting = self._unpack.unconsumed_tail if self._open else self._unpack.unused_data
        return data


def _words(error: Exception) -> str:
    """What zlib or zipfile says, without numbers of zlib's own."""
    return str(error).rpartition(": ")[2] or type(error).__name__


# --- zip -----------------------------------------------------------------------------------------------------------


class _ZipText:
    """The text of a member of a zip archive; damage to it is the fault of the archive."""

    def __init__(self, file: IO[bytes], name: str, budget: _Budget, packed_bytes: int) -> None:
        self._file = file
        self._name = name
        self._budget = budget
        self._packed_bytes = packed_bytes

    def read(self, size: int, /) -> bytes:
        """See `Readable`."""
        with _damage_told(self._name):
            data = self._file.read(size)
        self._budget.spend(len(data), self._packed_bytes)
        return data


@contextmanager
def _damage_told(member: str = "") -> Iterator[None]:
    """Turn what `zipfile` raises of a damaged archive into a refusal; an error of the disk stays what it is."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise _damaged(error, member) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # which a place before the file's first byte gives
            raise
        raise _damaged(error, member) from None


def _zip_members(stream: BinaryIO, vendor: Vendor) -> Iterator[Member]:
    size_bytes = stream.seek(0, os.SEEK_END)
    count = _members_said(stream, size_bytes)
    with _damage_told():
        box = zipfile.ZipFile(stream)
    with closing(box):
        infos = box.infolist()
        if len(infos) != count:
            raise _damaged(zipfile.BadZipFile(f"it says that it has {count} members, its directory has {len(infos)}"))
        if kind := office_kind(info.filename for info in infos):
            raise _no_text("the file", kind)
        _require_few(len(infos))
        for info in infos:
            _require_inside(info.filename)
        wanted = [info for info in infos if _holds_rows(info.filename)]
        for info in wanted:
            _require_plain(info)
        total = sum(info.file_size for info in wanted)
        _Budget(vendor, _ZIP).spend(total, min(sum(info.compress_size for info in wanted), size_bytes))
        budget, packed_bytes = _Budget(vendor, _ZIP), 0
        for info in wanted:
            packed_bytes = min(packed_bytes + info.compress_size, size_bytes)
            with _damage_told(info.filename):
                file = box.open(info)
            with file:
                text = _ZipText(file, info.filename, budget, packed_bytes)
                yield Member(clean_name(info.filename), _unpacked(text, f"the member {_shown(info.filename)}"))


def _members_said(stream: BinaryIO, size_bytes: int) -> int:
    """How many members an archive says it has, which `zipfile` does not look at.

    Raises:
        QuarantineError: Its directory, which is read whole, is missing or too long.
    """
    tail_bytes = min(size_bytes, _END_BYTES + 0xFFFF)
    stream.seek(size_bytes - tail_bytes)
    tail = _filled(stream, tail_bytes)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END_BYTES > len(tail):
        raise _damaged(zipfile.BadZipFile("its directory is missing"))
    count, directory_bytes = struct.unpack_from("<HI", tail, at + 10)
    locator = tail[max(at - 20, 0) : at]
    if locator.startswith(b"PK\x06\x07"):
        stream.seek(min(struct.unpack_from("<Q", locator, 8)[0], size_bytes))
        end = _filled(stream, 56)
        if len(end) == 56 and end.startswith(b"PK\x06\x06"):
            count, directory_bytes = struct.unpack_from("<QQ", end, 32)
    if directory_bytes > MAX_DIRECTORY_BYTES:
        _require_few(max(count, MAX_MEMBERS + 1))
    return int(count)


def _require_few(count: int) -> None:
    if count > MAX_MEMBERS:
        raise _refused(
            f"the zip archive has more than {MAX_MEMBERS:,} members",
            hint="ask the vendor to put the rows into fewer files",
        )


def _require_inside(name: str) -> None:
    """Refuse a name that leads out of the archive. No name is used as a path; such an archive is no honest one."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or parts[0].endswith(":"):
        raise _refused(
            f"the member {_shown(name)} has a name that leads out of the zip archive",
            hint="ask the vendor who packed it, and why; nothing of it was unpacked",
        )


def _require_plain(info: zipfile.ZipInfo) -> None:
    name = _shown(info.filename)
    if info.flag_bits & _ENCRYPTED:
        raise _refused(f"the member {name} of the zip archive is encrypted", hint="ask the vendor to send it openly")
    if info.compress_type not in _METHODS:
        method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise _refused(
            f"the member {name} of the zip archive is packed with {method}",
            hint="ask the vendor for a zip archive of the usual kind (deflate), or for gzip",
        )


def _holds_rows(name: str) -> bool:
    """Whether a member is a file that a vendor means to send: no folder, and none of what macOS adds."""
    *folders, last = name.split("/")
    return bool(last) and not last.startswith(".") and "__MACOSX" not in folders


def _damaged(error: Exception, name: str = "") -> QuarantineError:
    where = f"the member {_shown(name)} of the zip archive" if name else "the zip archive"
    return _refused(f"{where} is damaged or was cut off: {_words(error)}", hint=_AGAIN)


def _shown(name: str) -> str:
    return repr(cut(clean_name(name), MAX_SHOWN_CHARS))
