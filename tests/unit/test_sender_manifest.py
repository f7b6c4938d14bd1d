"""Senders' manifests: how they are named, what they say, and which files and manifests belong together."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.model import Claims, FileIdentity, SenderManifest, Vendor
from ordertrail.rules.planning import Candidate, wrong_file, wrong_rows
from ordertrail.rules.sender_manifest import (
    MAX_BYTES,
    archived_place,
    manifest_owner,
    manifest_path,
    naming,
    read_claims,
    unpaired,
)
from ordertrail.sources.directory import DirectorySource

SHA = "ab" * 32
ALL = Claims(10, 812, SHA, "a.csv")
NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "glob", "path", "manifest"),
    [
        ("{name}.manifest.json", "acme/*.csv", "acme/a.csv", "acme/a.csv.manifest.json"),
        ("{stem}.done", "acme/*.csv", "acme/a.b.csv", "acme/a.b.done"),
        ("{stem}.ctl", "*.csv.gz", "a.csv.gz", "a.ctl"),
        ("CTL_{name}", "**/*", "x/y/a", "x/y/CTL_a"),
    ],
)
def test_names_go_both_ways(pattern: str, glob: str, path: str, manifest: str) -> None:
    vendor = Vendor("acme", glob, manifest=pattern)
    assert manifest_path(path, vendor) == manifest
    assert manifest_owner(manifest, [vendor]) == (vendor, path)
    assert manifest_owner(path, [vendor]) is None


def test_the_data_file_decides_whose_manifest_it_is() -> None:
    plain, acme = Vendor("plain", "acme/x*"), Vendor("acme", "acme/*", manifest="{name}.done")
    assert manifest_owner("acme/y.csv.done", [plain, acme]) == (acme, "acme/y.csv")
    assert manifest_owner("acme/x.csv.done", [plain, acme]) is None
    assert manifest_owner("other/y.csv.done", [plain, acme]) is None
    assert manifest_owner("acme/.done", [acme]) is None
    assert manifest_path("a.csv", plain) is None
    lines = unpaired([acme], ["acme/a", "acme/b", "acme/b.done", "acme/c", "acme/d.done", "acme/d", "else"])
    assert lines == ("acme: 2 files have no manifest: acme/a waits for a.done",)


@pytest.mark.parametrize(
    ("pattern", "glob"),
    [("done", "*.csv"), ("{name}{stem}.x", "*.csv"), ("x/{name}", "*.csv"), ("{name}", "*.csv"), ("{size}.x", "*.csv"),
     ("{stem}.csv", "*.csv"), ("{stem}.done", "*"), ("{stem}.done", "*.csv*")],
)  # fmt: skip
def test_names_that_are_no_manifests(pattern: str, glob: str) -> None:
    with pytest.raises(ValueError, match=r"\{name\}|such as"):
        naming(pattern, glob)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("", Claims()),
        ("\ufeff \n", Claims()),
        (json.dumps({"rows": 10, "bytes": 812, "sha256": SHA.upper(), "file": "in/a.csv", "sent": "x"}), ALL),
        (json.dumps({"Row_Count": "10", "file-size": 812, "SHA-256": SHA, "FileName": "c:\\in\\a.csv"}), ALL),
        (json.dumps({"files": [{"name": "b.csv", "rows": 1}, {"name": "a.csv", "rows": 10}]}),
         Claims(rows=10, file_name="a.csv")),
        (json.dumps([{"name": "b.csv", "rows": 1}, {"name": "c.csv"}]), Claims(file_name="b.csv, c.csv")),
        (f"rows=10\nbytes: 812\nsha256 = '{SHA}'\n# by hand\n\nfile=a.csv", ALL),
        ("rows=10\nrecord count=10\n", Claims(rows=10)),
        (f"{SHA}  in/a.csv\n", Claims(sha256=SHA, file_name="a.csv")),
        (f"{SHA} *a.csv", Claims(sha256=SHA, file_name="a.csv")),
        (SHA, Claims(sha256=SHA)),
        ("rows=0", Claims(rows=0)),
    ],
)  # fmt: skip
def test_what_a_manifest_says(text: str, claims: Claims) -> None:
    assert read_claims(text.encode(), "a.csv.done", "a.csv") == claims


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"rows": 10, "sha', "no whole JSON document"),
        (b'{"files": 3}', "no list of objects"),
        (b"[1]", "no list of objects"),
        (b"rows", "neither key=value"),
        (b"OK done", "neither key=value"),
        (b"sent=today", "none of rows, bytes, sha256, file"),
        (b"rows=1,000", "no whole number"),
        (b"rows=-1", "no whole number"),
        (b'{"rows": true}', "no whole number"),
        (b"rows=1\nrecords=2", "two things of rows"),
        (b"sha256=ab12", "not 64 hexadecimal digits"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b" " * (MAX_BYTES + 1), "at most"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_claims(data, "a.csv.done", "a.csv")


def test_every_cut_of_a_json_manifest_is_unread() -> None:
    whole = json.dumps({"rows": 10, "bytes": 812, "sha256": SHA, "file": "a.csv"}).encode()
    assert read_claims(whole, "a.csv.manifest.json", "a.csv") == ALL
    for end in range(len(whole)):
        with pytest.raises(ValueError, match=r"it is (empty|no whole JSON)"):
            read_claims(whole[:end], "a.csv.manifest.json", "a.csv")


def candidate(claims: Claims | None) -> Candidate:
    identity = FileIdentity(1, 2, 812, 0, 5)
    sender = None if claims is None else SenderManifest("in/a.csv.done", identity, "", claims)
    return Candidate(0, "000001-00000-aa", Vendor("acme"), "in/a.csv", "in/a.csv", identity, SHA, 0, "h", sender=sender)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        (None, None),
        (Claims(), None),
        (ALL, None),
        (replace(ALL, file_name="b.csv"), "its manifest a.csv.done is about 'b.csv', not about this file"),
        (replace(ALL, size_bytes=1000), "says 1,000 bytes, the file has 812"),
        (replace(ALL, sha256="cd" * 32), "says SHA-256 cdcd"),
    ],
)
def test_what_is_wrong_with_a_file(claims: Claims | None, why: str | None) -> None:
    said = wrong_file(candidate(claims))
    assert said == why or (why is not None and said is not None and why in said)
    if said is not None:
        assert "ordertrail release 000001-00000-aa" in said
        assert "ordertrail refuse 000001-00000-aa" in said


def test_what_is_wrong_with_its_rows() -> None:
    assert (wrong_rows(candidate(None), 3), wrong_rows(candidate(Claims()), 3)) == (None, None)
    assert wrong_rows(candidate(ALL), 10) is None
    assert "says 10 rows, the file has 1,009" in str(wrong_rows(candidate(ALL), 1009))


def test_where_it_is_archived() -> None:
    assert archived_place("2026/11/20/000001-00000-aa-a.csv") == "2026/11/20/000001-00000-aa-a.csv.manifest"
    assert len(archived_place("x/" + "n" * 255).rpartition("/")[2]) == 255


def test_files_wait_for_their_manifests(tmp_path: Path) -> None:
    """In one folder, one of each: what is taken, and why the others wait."""
    source = tmp_path / "source"
    files = {
        "both.csv": "x", "both.csv.done": "rows=1", "sign.csv": "x", "sign.csv.done": "",
        "alone.csv": "x", "early.csv.done": "rows=1", "half.csv": "x", "half.csv.done": "row",
        "part.csv.tmp": "x", "linked.csv": "x",
    }  # fmt: skip
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    (source / "linked.csv.done").symlink_to(source / "both.csv.done")
    found = DirectorySource(source, tmp_path / "archive", [Vendor("acme", "*", manifest="{name}.done")], 0.0).discover(
        NOW
    )
    assert {one.path: None if one.manifest is None else one.manifest.claims for one in found.files} == {
        "both.csv": Claims(rows=1),
        "sign.csv": Claims(),
    }
    assert {one.file_name: one.reason for one in found.skipped} == {
        "alone.csv": "its manifest alone.csv.done has not come",
        "early.csv.done": "it is the manifest of early.csv, which has not come",
        "half.csv": "its manifest half.csv.done cannot be read: its line 'row' is neither key=value nor a line of "
        "sha256sum",
        "part.csv.tmp": "a temporary name: its writer has not finished",
        "linked.csv": "its manifest linked.csv.done is not complete",
        "linked.csv.done": "a symbolic link",
    }
    assert all(one.since == NOW for one in found.skipped)


def test_a_file_waits_for_a_manifest_that_still_changes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.csv").write_text("x")
    (source / "a.csv.done").write_text("")
    folder = DirectorySource(source, tmp_path / "archive", [Vendor("acme", manifest="{name}.done")], 3600.0)
    closed = folder.discover(datetime.now(UTC), frozenset({"a.csv"}))
    assert {one.file_name: one.reason for one in closed.skipped} == {
        "a.csv": "its manifest a.csv.done is not complete",
        "a.csv.done": "not settled",
    }
    assert [one.path for one in folder.discover(datetime.now(UTC), frozenset({"a.csv", "a.csv.done"})).files] == [
        "a.csv"
    ]
