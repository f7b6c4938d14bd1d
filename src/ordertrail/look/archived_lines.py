"""Some lines of an archived file, for people: where a rejected record came from.

Only the file that the ledger names, below the archive folder, is ever opened, and no more of it is kept than is shown.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.errors import QuarantineError
from ordertrail.look.rows import Row
from ordertrail.model import Vendor
from ordertrail.parse.encoding import codec_of
from ordertrail.parse.reader import DeliveryReader
from ordertrail.parse.records import RecordBlock
from ordertrail.parse.unpacking import Readable, members
from ordertrail.rules.filekey import clean_name

AROUND = 2
"""Lines shown before and after the one that is asked for."""

MOST_CHARACTERS = 4_000
"""Of a longer line the beginning is shown."""

READ_BYTES = 256 << 20
"""A line further down in a file than this is not looked for."""

CHECKED_BYTES = 32 << 20
"""The SHA-256 of a larger file is not computed for a look."""

CUT_BYTES = 64 << 20
"""The row of a line is not looked for further down in a file than this."""

_CHUNK_BYTES = 1 << 20
_END = re.compile(r"\r\n|\n|\r")


class Line(Struct, frozen=True):
    r"""A line of a file.

    Attributes:
        number: 1 = first.
        text: Without its end; bytes that the encoding does not have as `\xNN`.
        cut: Whether it is longer.
    """

    number: int
    text: str
    cut: bool = False


class Lines(Struct, frozen=True):
    """Lines of an archived file.

    Attributes:
        lines: In order; empty when they are not there or cannot be read.
        trouble: Why there are none; "" when there are.
        checked: Whether the file has the SHA-256 that the ledger has; None when it is too large to find out.
        codec: In which it was read; "" when it was not.
    """

    lines: tuple[Line, ...]
    trouble: str = ""
    checked: bool | None = None
    codec: str = ""


def archived_lines(config: Config, row: Row, line: int, around: int = AROUND) -> Lines:
    """A line of a delivery's archived file, with some around it.

    Args:
        config: Of the pipeline.
        row: The delivery's row in the ledger.
        line: The number of the line, 1 = first.
        around: How many lines before and after it.
    """
    try:
        with _opened(config, row) as file:
            checked = _checked(file, os.fstat(file.fileno()).st_size, str(row["sha256"] or ""))
            return _read(file, _vendor_of(config, row), (max(line - around, 1), line + around), checked)
    except _NoFileError as error:
        return Lines((), str(error))


def line_of_row(config: Config, row: Row, number: int) -> int | Lines:
    """The line in which a row of a delivery's archived file begins, as rejects tell it.

    That is not always one more than the number of the row: above it may be titles, blank lines and cells of several
    lines. So the file is cut as a pass cuts it, up to that row, with the vendor's profile as it is now.

    Args:
        config: Of the pipeline.
        row: The delivery's row in the ledger.
        number: The number of the row, as `_file_row` has it.

    Returns:
        The number of the line, 1 = first; or no lines, and why.
    """
    try:
        with _opened(config, row) as file:
            reader = DeliveryReader(file, _vendor_of(config, row), config.contract, raw=True, trailers=False)
            if reader.header() is not None:
                for block in reader.blocks():
                    if (line := _line_in(block, number)) is not None:
                        return line
                    if file.tell() > CUT_BYTES:
                        return Lines((), f"row {number:,} is more than {CUT_BYTES >> 20} MB into the file")
    except _NoFileError as error:
        return Lines((), str(error))
    except QuarantineError as error:
        return Lines((), error.message)
    return Lines((), f"the file has no row {number:,}")


def _line_in(block: RecordBlock, number: int) -> int | None:
    import numpy as np

    broken = block.broken
    known = [(block.rows, block.lines), *([] if broken is None else [(broken.numbers, broken.lines)])]
    for numbers, lines in known:
        at = int(np.searchsorted(numbers, number))
        if lines is not None and at < len(numbers) and numbers[at] == number:
            return int(lines[at])
    return None


class _NoFileError(Exception):
    """Why an archived file cannot be read."""


@contextmanager
def _opened(config: Config, row: Row) -> Iterator[BufferedReader]:
    """The archived file of a delivery, for the block.

    Raises:
        _NoFileError: There is none, or it cannot be read, also while the block reads it.
    """
    if not row["archived_to"]:
        raise _NoFileError("its file is not in the archive")
    place = str(row["archived_to"])
    path = _inside(config.archive, place)
    if path is None:
        raise _NoFileError(f"{clean_name(place)} is not below the archive folder")
    try:
        # Neither a symbolic link that came there meanwhile, nor a pipe that would wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _NoFileError(f"{clean_name(place)} is no regular file")
        with os.fdopen(descriptor, "rb") as file:
            yield file
    except OSError as error:
        raise _NoFileError(f"{clean_name(place)} cannot be read: {error.strerror or error}") from error


def _vendor_of(config: Config, row: Row) -> Vendor:
    vendors = {vendor.name: vendor for vendor in config.vendors}
    return vendors.get(str(row["vendor"]), Vendor(str(row["vendor"])))


def _inside(archive: Path, place: str) -> Path | None:
    """The path of an archived file, if it is really below the archive."""
    try:
        root, path = archive.resolve(), (archive / place).resolve()
    except (OSError, ValueError):
        return None
    return path if path != root and path.is_relative_to(root) else None


def _checked(file: BufferedReader, size_bytes: int, sha256: str) -> bool | None:
    if size_bytes > CHECKED_BYTES or not sha256:
        return None
    found = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return found == sha256


def _read(file: BufferedReader, vendor: Vendor, wanted: tuple[int, int], checked: bool | None) -> Lines:
    """Lines of the text of a file, or of the texts packed in it, whose lines are counted on."""
    first, last = wanted
    number, read_bytes, codec, found = 1, 0, "", list[Line]()
    try:
        for member in members(file, vendor):
            text = _Text(member.stream, vendor.encoding, READ_BYTES - read_bytes)
            codec = text.codec
            for line in text.lines():
                if first <= number <= last:
                    found.append(Line(number, line[:MOST_CHARACTERS], len(line) > MOST_CHARACTERS))
                number += 1
                if number > last:
                    return Lines(tuple(found), "", checked, codec)
            read_bytes += text.read_bytes
            if read_bytes > READ_BYTES:
                return Lines((), f"line {first} is more than {READ_BYTES >> 20} MB into the file", checked, codec)
    except QuarantineError as error:
        return Lines(tuple(found), "" if found else error.message, checked, codec)
    trouble = "" if found else f"the file has {number - 1:,} lines"
    return Lines(tuple(found), trouble, checked, codec)


class _Text:
    """A text as lines, of which only as much is kept as is shown.

    Args:
        stream: The text from its first byte on.
        encoding: Of texts without a byte order mark; None means UTF-8.
        most_bytes: No more is read than this and one chunk.
    """

    def __init__(self, stream: Readable, encoding: str | None, most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self._chunk = stream.read(_CHUNK_BYTES)
        self.codec, mark_bytes = codec_of(self._chunk, encoding)
        self._chunk = self._chunk[mark_bytes:]
        self.read_bytes = 0

    def lines(self) -> Iterator[str]:
        """The lines without their ends, long ones cut behind what is shown of them."""
        decoder = codecs.getincrementaldecoder(self.codec)("backslashreplace")
        chunk, rest = self._chunk, ""
        while chunk:
            if self.read_bytes > self._most_bytes:
                return
            self.read_bytes += len(chunk)
            text = rest + decoder.decode(chunk)
            parts = _END.split(text)
            # A line may go on in the next chunk, and so may its end: of \r\n only the first half may be here yet.
            rest = parts.pop()
            if text.endswith("\r") and parts:
                rest = parts.pop() + "\r"
            yield from parts
            if len(rest) > 2 * MOST_CHARACTERS:
                rest = rest[: MOST_CHARACTERS + 1] + rest[-1]  # it may be half of an end
            chunk = self._stream.read(_CHUNK_BYTES)
        parts = _END.split(rest + decoder.decode(b"", final=True))
        yield from parts if parts[-1] else parts[:-1]
