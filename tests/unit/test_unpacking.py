"""What is packed in a delivery, and what packed data may not do."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertrail.errors import QuarantineError
from ordertrail.model import Vendor
from ordertrail.parse import unpacking
from ordertrail.parse.unpacking import MAX_MEMBERS, MAX_RATIO, RATIO_FREE_BYTES, members

AUTO = Vendor("acme")
MB = 1 << 20


def texts(data: bytes, vendor: Vendor = AUTO) -> list[tuple[str, bytes]]:
    """Name and text of each member, read in odd pieces."""
    found = []
    for member in members(io.BytesIO(data), vendor):
        parts = []
        while part := member.stream.read(77_777):
            assert len(part) <= 77_777
            parts.append(part)
        found.append((member.name, b"".join(parts)))
    return found


def read_through(data: bytes, vendor: Vendor = AUTO) -> int:
    """The unpacked size; nothing is kept."""
    size = 0
    for member in members(io.BytesIO(data), vendor):
        while part := member.stream.read(MB):
            size += len(part)
    return size


def zipped(parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as box:
        for name, data in parts.items():
            box.writestr(name, data)
    return out.getvalue()


def noise(size: int) -> bytes:
    """Text that packs badly."""
    return random.Random(7).randbytes(size // 2).hex().encode()


def refused(data: bytes, vendor: Vendor = AUTO) -> QuarantineError:
    with pytest.raises(QuarantineError) as caught:
        read_through(data, vendor)
    assert caught.value.hint
    return caught.value


def test_a_plain_file_is_its_only_text() -> None:
    for size in (0, 1, 4095, 4096, 4097, 300_000):
        data = noise(size)
        assert texts(data) == [("", data)]


def test_packed_texts_come_back_whole() -> None:
    one, two = noise(300_000), b"x\n" * 100_000
    assert texts(gzip.compress(one) + gzip.compress(b"") + gzip.compress(two)) == [("", one + two)]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert texts(zipped({"b.csv": one, "d/a.csv": two, "empty": b""}, method)) == [
            ("b.csv", one),
            ("d/a.csv", two),
            ("empty", b""),
        ]


def test_a_gzip_file_may_be_cut_nowhere() -> None:
    data = gzip.compress(noise(3000))
    for end in range(20, len(data), 97):
        assert "cut off" in refused(data[:end]).message
    assert "damaged" in refused(data + b"more").message


def test_every_damaged_byte_of_an_archive_is_noticed_or_harmless() -> None:
    parts = {"a.csv": noise(400), "b.csv": noise(300)}
    data, right = zipped(parts), list(parts.items())
    for at in range(0, len(data), 3):
        wrong = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        with contextlib.suppress(QuarantineError):
            found = texts(wrong)
            if found != [("", wrong)]:  # a name, a date, or the mark that says it is an archive at all
                assert [text for _, text in found] == [text for _, text in right], at


def test_a_place_before_the_first_byte_is_damage_too(tmp_path: Path) -> None:
    """A file answers with an error of the system where a stream in memory says that the value is wrong."""
    data = zipped({"a.csv": noise(400), "b.csv": noise(300)})
    directory, refusals = data.index(b"PK\x01\x02"), 0
    for at in range(directory, len(data)):
        file = tmp_path / "orders.zip"
        file.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        with file.open("rb") as stream:
            try:
                for member in members(stream, AUTO):
                    member.stream.read(MB)
            except QuarantineError:
                refusals += 1
    assert refusals > 50


def test_what_unpacks_to_too_much_is_refused_as_soon_as_that_is_known() -> None:
    vendor = Vendor("acme", max_unpacked_mb=3)
    error = refused(gzip.compress(noise(4 * MB), 1), vendor)
    assert (error.rule, "more than 3 MB" in error.message) == ("archive", True)
    assert "max_unpacked_mb" in error.hint
    assert read_through(gzip.compress(noise(3 * MB), 1), vendor) == 3 * MB
    two = zipped({"a": noise(2 * MB), "b": noise(2 * MB)})
    assert "more than 3 MB" in refused(two, vendor).message
    # An archive may lie about the sizes of its members.
    lying = two.replace(struct.pack("<I", 2 * MB), struct.pack("<I", 9))
    assert refused(lying, vendor).rule == "archive"


def test_a_bomb_is_refused_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "RATIO_FREE_BYTES", 16 * MB)
    nothing = gzip.compress(b" " * 5 * MB) * 4
    zip_bomb = zipped({"a.csv": b" " * 20 * MB})
    assert MAX_RATIO * len(nothing) < 16 * MB < RATIO_FREE_BYTES
    for bomb in (nothing, zip_bomb):
        tracemalloc.start()
        error = refused(bomb)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert f"more than {MAX_RATIO} times its size" in error.message
        assert peak < 8 * MB


def test_members_that_share_their_bytes_do_not_raise_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "RATIO_FREE_BYTES", MB)
    box = zipped({"a": b" " * MB, "b": b" " * MB})
    first = box.index(b"PK\1\2")
    second = box.index(b"PK\1\2", first + 1)
    offset = struct.unpack_from("<I", box, second + 42)[0]
    overlapping = box[: second + 42] + struct.pack("<I", 0) + box[second + 46 :]
    assert offset > 0
    assert refused(overlapping).rule == "archive"


@pytest.mark.parametrize("zip64", [False, True])
def test_an_archive_with_a_long_directory_is_not_even_opened(zip64: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_DIRECTORY_BYTES", 500)
    if zip64:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    data = zipped({f"{i:05d}": b"" for i in range(20)})
    assert (b"PK\x06\x06" in data) == zip64
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert f"more than {MAX_MEMBERS:,} members" in refused(data).message


def test_an_archive_of_too_many_members_is_refused() -> None:
    assert "members" in refused(zipped({f"{i}": b"" for i in range(MAX_MEMBERS + 1)})).message
    assert len(texts(zipped({f"{i}": b"" for i in range(MAX_MEMBERS)}))) == MAX_MEMBERS


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "..\\a", "c:/a", "C:\\a", "\\\\host\\a"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = name
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as box:
        box.writestr(info, b"text")
    assert "leads out of the zip archive" in refused(out.getvalue()).message


@pytest.mark.parametrize("name", ["a..csv", "..a", "day:1/a.csv", "a/b.csv", "x y.csv"])
def test_names_that_look_like_it_are_not(name: str) -> None:
    assert [member.name for member in members(io.BytesIO(zipped({name: b""})), AUTO)] == (
        [] if name.startswith(".") else [name]
    )


def kinds() -> Iterator[tuple[bytes, str]]:
    yield b"BZh91AY&SY\0\1", "bzip2"
    yield b"\xfd7zXZ\0\0", "an xz file"
    yield b"\x28\xb5\x2f\xfd\x04", "Zstandard"
    yield b"7z\xbc\xaf\x27\x1c\0", "7z"
    yield b"Rar!\x1a\x07\0", "RAR"
    yield b"a.csv" + bytes(252) + b"ustar\x0000" + bytes(300), "a tar archive"
    yield b"PAR1\x15\0", "Parquet"
    yield b"\xff\xd8\xff\xe0", "picture"
    yield zipped({"mimetype": b"x", "content.xml": b"x"}), "(.ods)"
    yield zipped({"[Content_Types].xml": b"x", "word/document.xml": b"x"}), "(.docx)"


@pytest.mark.parametrize(("data", "name"), list(kinds()), ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_no_text_is_named(data: bytes, name: str) -> None:
    assert name in refused(data).message
    packed = refused(gzip.compress(data)).message
    assert name in packed or "holds an archive: it is a zip archive" in packed


def test_a_header_that_begins_like_something_else_is_text() -> None:
    for begin in (b"PAR1", b"BZh", b"ORC", b"II", b"GIF8"):
        data = begin + b",tracking_num\n1,2\n"
        assert texts(data) == [("", data)]
