"""Files with a sender's manifest, from the source folder into tables and archive, and every command that meets one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertrail.begin.doctor_vendors import vendor_notes
from ordertrail.errors import UsageError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.plan import plan_files
from ordertrail.look.status import open_items_of
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, RunReport
from ordertrail.sources.names import Entry, FileOps
from tests.feeds import TIMES, cells, csv_bytes
from tests.harness import House, bag, check_books, open_house, without_fsync

TOML = """
[[vendors]]
name = "acme"
files = "acme/*.csv"
manifest = "{name}.manifest.json"

[[vendors]]
name = "depot"
files = "depot/*"
manifest = "{name}.done"
"""
SUFFIX = ".manifest"


def rows(*keys: str) -> bytes:
    return csv_bytes([cells(key, TIMES[0]) for key in keys])


def says(house: House, path: str, **claims: object) -> None:
    house.drop(f"{path}.manifest.json", json.dumps(claims))


def decide(house: House, kind: CorrectionKind, name: str) -> RunReport:
    ids = (str(house.delivery(name)["delivery_id"]),)
    return correct(house.pipeline(), Wanted(Correction(kind, ids, "a test", "ops")))


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    with without_fsync():
        yield


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = open_house(tmp_path, toml=TOML)
    for name in ("right", "short", "bytes", "hash", "other", "late", "half"):
        made.drop(f"acme/{name}.csv", rows(name, f"{name}2"))
    right = (made.config.source / "acme/right.csv").read_bytes()
    sha256 = hashlib.sha256(right).hexdigest()
    says(made, "acme/right.csv", rows=2, bytes=len(right), sha256=sha256, file="right.csv")
    says(made, "acme/short.csv", rows=3)
    says(made, "acme/bytes.csv", bytes=9)
    says(made, "acme/hash.csv", sha256="ab" * 32)
    says(made, "acme/other.csv", file="another.csv")
    made.drop("acme/half.csv.manifest.json", '{"rows": 2, "byt')
    made.drop("depot/sign.csv", rows("sign"))
    made.drop("depot/sign.csv.done", "")
    return made


def test_what_a_pass_and_a_plan_do(house: House) -> None:
    source = house.config.source
    files = sorted(path for path in source.rglob("*") if path.suffix == ".csv")
    plan = plan_files(house.config, [*files, source / "depot/sign.csv.done"])
    report = house.run()
    states = {one.file_name: str(one.state) for one in report.deliveries}
    assert states == {"right.csv": "loaded", "sign.csv": "loaded", **dict.fromkeys(
        ("short.csv", "bytes.csv", "hash.csv", "other.csv"), "held")}  # fmt: skip
    assert {Path(one.path).name: one.state and str(one.state) for one in plan.files} == {
        **states, "late.csv": None, "half.csv": None, "sign.csv.done": None}  # fmt: skip
    left = {Path(one.path).name: one.reason for one in plan.files if one.state is None}
    assert left["late.csv"] == "its manifest late.csv.manifest.json has not come"
    assert left["sign.csv.done"] == "it is the manifest of sign.csv"
    reasons = {one.file_name: str(one.reason) for one in report.deliveries if one.reason}
    assert {Path(one.path).name: one.reason for one in plan.files if str(one.state) == "held"} == reasons
    for name, words in {
        "short.csv": "says 3 rows, the file has 2", "bytes.csv": "says 9 bytes, the file has",
        "hash.csv": "says SHA-256 abab", "other.csv": "is about 'another.csv'"}.items():  # fmt: skip
        assert words in reasons[name]
        assert f"ordertrail release {house.delivery(name)['delivery_id']}" in reasons[name]
    assert {key[0] for key in house.target()} == {"right", "right2", "sign"}
    assert house.left() == ["acme/half.csv", "acme/half.csv.manifest.json", "acme/late.csv"]
    skipped = {one.file_name: one.reason for one in report.skipped}
    assert skipped["acme/late.csv"] == "its manifest late.csv.manifest.json has not come"
    assert "no whole JSON document" in skipped["acme/half.csv"]
    assert vendor_notes(house.config)[0].startswith("acme: 1 file has no manifest: acme/late.csv waits for late.csv")

    # Each manifest is beside its file, and verify knows it; a rebuild does not need it.
    archived = house.archived()
    places = [str(house.delivery(name)["archived_to"]) for name in states]
    assert {*archived} == {*places, *(place + SUFFIX for place in places)}
    assert archived[str(house.delivery("sign.csv")["archived_to"]) + SUFFIX] == b""
    assert [check for check in verify(house.config).checks if not check.ok or "no delivery knows" in str(check)] == []

    # The rest of the manifests comes, with one that changes its mind.
    says(house, "acme/late.csv", rows=2)
    says(house, "acme/half.csv", rows=2)
    assert {one.file_name: str(one.state) for one in house.run().deliveries} == {
        "late.csv": "loaded", "half.csv": "loaded"}  # fmt: skip
    assert house.left() == []
    check_books(house)


def test_what_a_person_decides_and_a_rebuild_keeps(house: House) -> None:
    house.run()
    for name in ("short.csv", "hash.csv"):
        with pytest.raises(UsageError, match="its manifest"):
            decide(house, CorrectionKind.REPLAY, name)
    held = house.delivery("short.csv")
    assert sorted(one.key for one in open_items_of(house.config) if one.kind == "held") == sorted(
        f"delivery:{house.delivery(name)['delivery_id']}"
        for name in ("short.csv", "bytes.csv", "hash.csv", "other.csv")
    )
    assert [str(one.state) for one in decide(house, CorrectionKind.RELEASE, "short.csv").deliveries] == ["loaded"]
    decide(house, CorrectionKind.REFUSE, "hash.csv")
    # Whoever reads a file again that was released need not judge it again.
    decide(house, CorrectionKind.REPLAY, "short.csv")
    assert {key[0] for key in house.target()} == {"right", "right2", "sign", "short", "short2"}
    (house.config.archive / (str(held["archived_to"]) + SUFFIX)).unlink()
    before = {table: bag(house.rows(table)) for table in ("target", "history", "rejects", "deliveries")}
    assert rebuild(house.config, from_archive=True) is not None
    assert {table: bag(house.rows(table)) for table in before} == before
    check_books(house)


def test_a_manifest_that_cannot_be_archived_waits_with_its_file(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    rename_new = FileOps.rename_new

    def refused(ops: FileOps, entry: Entry, target: Entry) -> None:
        if entry.name == "right.csv.manifest.json":
            raise PermissionError(13, "Permission denied")
        rename_new(ops, entry, target)

    with monkeypatch.context() as locked:
        locked.setattr(FileOps, "rename_new", refused)
        warnings = house.run().warnings
        assert any("right.csv is loaded and waits to be archived" in line for line in warnings)
        again = house.run()
        assert [one.file_name for one in again.deliveries] == []
        assert ("acme/right.csv.manifest.json", "loaded; it waits to be archived") in {
            (one.file_name, one.reason) for one in again.skipped}  # fmt: skip
    house.run()
    place = str(house.delivery("right.csv")["archived_to"])
    assert {place, place + SUFFIX} <= {*house.archived()}
    assert "acme/right.csv.manifest.json" not in house.left()
