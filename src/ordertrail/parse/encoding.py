"""The bytes of a file, whatever its encoding, as strict UTF-8.

The encoding is that of a byte order mark, else the vendor's declared one, else UTF-8. A mark describes this very file,
and no header begins with the characters that a mark is in another encoding (`ï»¿` in cp1252), so it takes precedence
over the declaration. Nothing is guessed: bytes that cannot be decoded raise a `QuarantineError` that names the line,
and never become a replacement character.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ordertrail.errors import QuarantineError
from ordertrail.parse.unpacking import Readable

# Longest marks first: the UTF-32 LE mark begins with the UTF-16 LE one.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_MOSTLY = 0.9
_BY_NULS = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}

_HINT = (
    "declare the vendor's encoding in the config, for example encoding = 'cp1252', then run "
    "ordertrail replay --all-quarantined; "
    "a file with a byte order mark must have the encoding of the mark: ask the vendor to write it anew"
)


def utf8_chunks(stream: Readable, encoding: str | None, chunk_bytes: int) -> Iterator[bytes]:
    """Read a file as UTF-8 without a byte order mark.

    Args:
        stream: Positioned at the file's first byte.
        encoding: The declared codec of a file without a byte order mark; None means UTF-8.
        chunk_bytes: How much to read at a time.

    Yields:
        Non-empty chunks, which may hold NULs: see `without_nul`. An encoding other than UTF-8 is decoded strictly here;
        UTF-8 passes through unchanged, and `utf8_text` checks it when it is cut into cells.

    Raises:
        QuarantineError: Rule `encoding`: the bytes are not valid in that encoding.
    """
    first = stream.read(max(chunk_bytes, len(codecs.BOM_UTF32_LE)))
    codec, mark_bytes = codec_of(first, encoding)
    if not mark_bytes and codec in ("utf-8", "utf-8-sig", "ascii") and (wide := wide_codec(first)):
        raise QuarantineError(
            f"the file is {wide.upper()} without a byte order mark",
            rule="encoding",
            hint=f'write encoding = "{wide}" for the vendor, then run ordertrail replay --all-quarantined',
        )
    first = first[mark_bytes:]
    if codec in ("utf-8", "utf-8-sig", "ascii"):
        yield from _chunks(first, stream, chunk_bytes)
    else:
        yield from _decoded(_chunks(first, stream, chunk_bytes), codec)


def without_nul(chunk: bytes, before: Iterable[bytes], line: int) -> bytes:
    """A chunk of a text, which holds no NUL.

    Args:
        chunk: From `utf8_chunks`.
        before: The chunks before it, from the line on.
        line: Number of the line with which they begin.

    Raises:
        QuarantineError: Rule `binary`: it holds one; names the line.
    """
    if 0 in chunk:
        at = line + sum(map(count_lines, before)) + chunk[: chunk.index(0)].count(b"\n")
        raise QuarantineError(
            f"the file is not text: a NUL byte in line {at}",
            rule="binary",
            hint="send a text file; if it is UTF-16 without a byte order mark, declare the vendor's encoding",
        )
    return chunk


def codec_of(first: bytes, encoding: str | None) -> tuple[str, int]:
    """The codec of a file, and the length of its byte order mark.

    Args:
        first: Its first bytes, at least four where it has them.
        encoding: The declared codec of a file without a byte order mark; None means UTF-8.
    """
    for mark, name in _MARKS:
        if first.startswith(mark):
            return name, len(mark)
    return codecs.lookup(encoding).name if encoding else "utf-8", 0


def wide_codec(head: bytes) -> str:
    """The codec of text with two or four bytes a character, by where its NULs are; "" for anything else."""
    if b"\0" not in head[:4096]:
        return ""
    octets = np.frombuffer(head[: len(head[:4096]) // 4 * 4], dtype=np.uint8).reshape(-1, 4)
    if len(octets) < 2:
        return ""
    empty = tuple(((octets == 0).mean(axis=0) > _MOSTLY).tolist())
    return _BY_NULS.get(empty, "")


def count_lines(data: bytes) -> int:
    r"""Count the line ends `\n`, `\r\n` and lone `\r`; several times faster than `bytes.count` for short lines."""
    if data.find(b"\r") < 0:
        return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")))
    return len(physical_ends(data))


def physical_ends(data: bytes) -> NDArray[np.int64]:
    r"""Offsets of the last bytes of all line ends, `\n`, `\r\n` and lone `\r`, also of those inside quotes."""
    octets = np.frombuffer(data, dtype=np.uint8)
    ends = octets == ord("\n")
    if data.find(b"\r") >= 0:
        alone = octets == ord("\r")
        alone[:-1] &= ~ends[1:]
        ends |= alone
    return np.flatnonzero(ends)


def utf8_text(data: bytes | memoryview, line: int) -> str:
    """Decode UTF-8 strictly.

    Args:
        data: Bytes that begin at the start of a line.
        line: Number of that line in the file, 1 = first.

    Raises:
        QuarantineError: Rule `encoding`, naming the line and the byte.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        at = line + bytes(data[: error.start]).count(b"\n")
        raise _undecodable("utf-8", at, bytes(data)[error.start]) from None


def _chunks(first: bytes, stream: Readable, chunk_bytes: int) -> Iterator[bytes]:
    if first:  # empty when the chunk was only a byte order mark
        yield first
    while chunk := stream.read(chunk_bytes):
        yield chunk


def _decoded(chunks: Iterator[bytes], codec: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(codec)("strict")
    line = 1
    pending = b""
    for chunk in chunks:
        pending = chunk
        try:
            text = decoder.decode(chunk)
            data = text.encode("utf-8", "strict")
        except UnicodeDecodeError as error:
            at = line + error.object[: error.start].count(b"\n")
            raise _undecodable(codec, at, error.object[error.start]) from None
        except UnicodeError as error:  # UTF-16 or UTF-32 without a mark, or half of a surrogate pair
            raise QuarantineError(f"line {line} is not {codec}: {error}", rule="encoding", hint=_HINT) from None
        line += text.count("\n")
        if data:
            yield data
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _undecodable(codec, line, pending[-1]) from None


def _undecodable(codec: str, line: int, byte: int) -> QuarantineError:
    return QuarantineError(
        f"line {line} is not {codec}: byte 0x{byte:02X}",
        rule="encoding",
        hint=_HINT,
    )
