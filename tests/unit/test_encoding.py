"""Encodings: declared, marked, or UTF-8; never guessed, never mended."""

from __future__ import annotations

import codecs
import io

import pytest

from ordertrail.errors import QuarantineError
from ordertrail.parse.encoding import utf8_chunks, utf8_text, without_nul

TEXT = "h,i\nZoë,📦 €\nend,1\n"


def decoded(data: bytes, encoding: str | None = None, chunk_bytes: int = 4) -> str:
    return decoded_bytes(data, encoding, chunk_bytes).decode()


def decoded_bytes(data: bytes, encoding: str | None = None, chunk_bytes: int = 4) -> bytes:
    return without_nul(b"".join(utf8_chunks(io.BytesIO(data), encoding, chunk_bytes)), (), 1)


@pytest.mark.parametrize("chunk_bytes", [4, 5, 7, 1 << 20])
@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides(codec: str, chunk_bytes: int) -> None:
    assert decoded(TEXT.encode(codec), None, chunk_bytes) == TEXT


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF32_LE])
def test_both_byte_orders(mark: bytes) -> None:
    codec = {2: "utf-16", 4: "utf-32"}[len(mark)] + (
        "-be" if mark in (codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE) else "-le"
    )
    assert decoded(mark + TEXT.encode(codec)) == TEXT
    assert decoded(mark + TEXT.encode(codec), codec) == TEXT


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 1 << 20])
@pytest.mark.parametrize(
    "codec", ["cp1252", "iso-8859-15", "utf-16-le", "utf-16-be", "utf-32-le", "utf-8", "utf_8_sig"]
)
def test_a_declared_encoding(codec: str, chunk_bytes: int) -> None:
    text = TEXT.replace("📦 ", "")
    assert decoded(text.encode(codec), codec, chunk_bytes) == text


def test_a_declared_utf_8_may_have_a_mark() -> None:
    assert decoded(codecs.BOM_UTF8 + TEXT.encode(), "utf-8") == TEXT


@pytest.mark.parametrize("declared", ["cp1252", "iso-8859-15", "ascii", "utf-8", "utf-16", "utf-16-le", "utf-32-be"])
@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_goes_before_a_declaration_that_it_contradicts(codec: str, declared: str) -> None:
    """`ï»¿order_num` was a header, and what is `Zoë` became `ZoÃ«` in the target."""
    assert decoded(TEXT.encode(codec), declared) == TEXT


def test_bytes_behind_a_mark_that_are_not_what_it_says_are_a_quarantine() -> None:
    """The body was written in the declared encoding, by another program than the mark."""
    with pytest.raises(QuarantineError, match="line 2 is not utf-8: byte 0xEB"):
        utf8_text(decoded_bytes(codecs.BOM_UTF8 + "h,i\nZoë,€\n".encode("cp1252"), "cp1252"), 1)
    with pytest.raises(QuarantineError, match="is not utf-16-le"):
        decoded(codecs.BOM_UTF16_LE + b"h,i\nodd", "cp1252")


@pytest.mark.parametrize(
    ("data", "encoding", "line"),
    [
        (b"a\nb\n\x81\n", "cp1252", 3),
        ("a\nb".encode("utf-16-le") + b"\x00\xd8a\x00", "utf-16-le", 2),
        (codecs.BOM_UTF16_LE + "a\nb\n".encode("utf-16-le") + b"x", None, 3),
        ("a\n".encode("utf-32-le") + b"\xff\xff\xff\xff", "utf-32-le", 2),
        (b"abcdef\n", "utf-16", 1),
        (b"abcdefgh\n", "utf-32", 1),
    ],
)
def test_what_does_not_decode_is_a_quarantine_that_names_the_line(data: bytes, encoding: str | None, line: int) -> None:
    for chunk_bytes in (1 << 20, 4):
        with pytest.raises(QuarantineError, match=f"line {line} is not ") as caught:
            decoded(data, encoding, chunk_bytes)
        assert caught.value.rule == "encoding"
        assert "encoding" in caught.value.hint


@pytest.mark.parametrize("chunk_bytes", [1, 3, 100])
def test_a_nul_byte_is_no_text(chunk_bytes: int) -> None:
    chunks = list(utf8_chunks(io.BytesIO(b"a\nb\nc\0\n"), None, chunk_bytes))
    with pytest.raises(QuarantineError, match="a NUL byte in line 12") as caught:
        [without_nul(chunk, chunks[:n], 10) for n, chunk in enumerate(chunks)]
    assert caught.value.rule == "binary"


def test_utf_16_without_a_mark_says_what_to_do() -> None:
    with pytest.raises(QuarantineError) as caught:
        decoded("a,b\n".encode("utf-16-le"))
    assert "UTF-16" in caught.value.hint


@pytest.mark.parametrize(
    "data", [b"\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xf4\x90\x80\x80", b"caf\xe9"]
)
def test_utf_8_is_strict(data: bytes) -> None:
    with pytest.raises(QuarantineError, match=r"line 12 is not utf-8: byte 0x[0-9A-F]{2}"):
        utf8_text(b"a\nb\n" + data, 10)
    assert utf8_text(memoryview("é".encode()), 1) == "é"
