"""`vendor add`: a profile is appended to a config, and nothing that is there is changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ordertrail.begin import vendor_add
from ordertrail.begin.vendor_add import AddedVendor, add_vendor
from ordertrail.config import load_config
from ordertrail.errors import ConfigError, UsageError

HEAD = '# mine\n[pipeline]\nsource = "s"\narchive = "a"\nwarehouse = "w"\n'
BLUE = '[[vendors]]\nname = "blue"\nfiles = "blue/**/*.csv"\naliases = { tracking_num = ["Kennung"] }\n'
SAMPLE = "Kennung;Letzte Änderung;Status\n007;20.11.2026 10:00;Zugestellt\n008;21.11.2026 10:00;Im Zoo\n"


def add(tmp_path: Path, config: str, sample: str = SAMPLE, *, name: str = "new", files: str = "new/*") -> AddedVendor:
    file, path = tmp_path / "ordertrail.toml", tmp_path / "sample.csv"
    file.write_bytes(config.encode())
    path.write_text(sample, encoding="utf-8")
    return add_vendor(load_config(file), name, sample=path, files=files, encoding=None)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_there_stays_byte_for_byte(tmp_path: Path, end: str) -> None:
    before = (HEAD + BLUE).rstrip("\n").replace("\n", end)
    (tmp_path / "ordertrail.toml").write_text("")
    os.chmod(tmp_path / "ordertrail.toml", 0o640)
    added = add(tmp_path, before)
    after = (tmp_path / "ordertrail.toml").read_bytes().decode()
    assert after == before + end * 2 + added.appended.replace("\n", end)
    assert (tmp_path / "ordertrail.toml").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ordertrail.toml", "sample.csv"]


def test_columns_are_found_and_the_rest_is_said(tmp_path: Path) -> None:
    added = add(tmp_path, HEAD + BLUE)
    vendor = load_config(tmp_path / "ordertrail.toml").vendors[-1]
    assert vendor == added.vendor
    assert dict(vendor.aliases) == {"tracking_num": ("Kennung",), "last_update_timestamp": ("Letzte Änderung",)}
    assert dict(vendor.formats) == {"last_update_timestamp": ("%d.%m.%Y %H:%M",)}
    assert vendor.delimiter == ";"
    assert vendor.absent == ("order_num", "pck_recieved_date", "package_deliver_date", "address")
    assert dict(vendor.status_map) == {"Zugestellt": "DELIVERED"}
    assert '#"Im Zoo" = ""' in added.appended
    assert '#timezone = "America/Chicago"' in added.appended
    assert dict(added.found)["status"] == ("Status",)


def test_the_vendor_that_was_implied_is_written_down(tmp_path: Path) -> None:
    add(tmp_path, HEAD)
    assert [(one.name, one.files) for one in load_config(tmp_path / "ordertrail.toml").vendors] == [
        ("default", "*.csv"),
        ("new", "new/*"),
    ]


def test_a_default_that_is_written_down_is_a_vendor_as_any_other(tmp_path: Path) -> None:
    said = '[[vendors]]\nname = "default"\n'
    add(tmp_path, HEAD + said)
    assert [one.name for one in load_config(tmp_path / "ordertrail.toml").vendors] == ["default", "new"]
    with pytest.raises(UsageError, match="is taken"):
        add(tmp_path, HEAD + said, files="*.csv")


def test_the_vendor_that_was_implied_makes_room(tmp_path: Path) -> None:
    added = add(tmp_path, HEAD, files="*.csv")
    assert [one.name for one in load_config(tmp_path / "ordertrail.toml").vendors] == ["new"]
    assert any("is now new" in note for note in added.notes)


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [("blue", "x/*", "there is a vendor"), ("new", "blue/**/*.csv", "is taken"), ("new", "blue/*.csv", "is taken")],
)
def test_what_is_taken_is_refused(tmp_path: Path, name: str, files: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        add(tmp_path, HEAD + BLUE, name=name, files=files)
    assert (tmp_path / "ordertrail.toml").read_text() == HEAD + BLUE


def test_a_glob_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves the source folder"):
        add(tmp_path, HEAD + BLUE, files="../*.csv")
    assert (tmp_path / "ordertrail.toml").read_text() == HEAD + BLUE


def test_a_column_that_every_row_needs_waits_for_a_name(tmp_path: Path) -> None:
    added = add(tmp_path, HEAD + BLUE, "Kennung,Note\nA1234,x\nB1234,y\n")
    assert any("last_update_timestamp: add aliases" in note for note in added.notes)
    assert '#last_update_timestamp = [""]' in added.appended


def test_a_carrier_column_gets_the_name_of_the_vendor(tmp_path: Path) -> None:
    columns = "".join(
        f'[[contract.columns]]\nname = "{name}"\ntype = "{kind}"\n'
        for name, kind in (("k", "string"), ("at", "timestamp"), ("carrier", "string"))
    )
    config = f'{HEAD}[contract]\nkey = "k"\norder_by = "at"\nstatus = ""\n{columns}'
    added = add(tmp_path, config, "k,at\nA1,2026-11-20 10:00\n")
    assert dict(added.vendor.constants) == {"carrier": "new"}


def test_a_config_that_changed_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted = vendor_add._drafted

    def meanwhile(*given: object) -> object:
        (tmp_path / "ordertrail.toml").write_text(HEAD + "# theirs\n" + BLUE)
        return drafted(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(vendor_add, "_drafted", meanwhile)
    with pytest.raises(UsageError, match="changed by somebody"):
        add(tmp_path, HEAD + BLUE)
    assert (tmp_path / "ordertrail.toml").read_text() == HEAD + "# theirs\n" + BLUE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ordertrail.toml", "sample.csv"]
