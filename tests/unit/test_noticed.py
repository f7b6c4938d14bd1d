"""What a person is told of a vendor's files though nothing is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.begin import doctor
from ordertrail.model import Vendor
from ordertrail.pipeline import Pipeline
from ordertrail.rules.noticed import misdated, shared_globs
from tests.feeds import TIMES, cells, csv_bytes
from tests.harness import open_house


@pytest.mark.parametrize(
    ("first", "second", "paths", "said"),
    [
        (
            "*.csv",
            "*.csv",
            (),
            "acme and blue have the same glob, '*.csv': acme comes first and takes them, blue does not",
        ),
        (
            "**/*.csv",
            "blue/*.csv",
            (),
            "acme's glob '**/*.csv' takes files of blue's 'blue/*.csv', such as 'blue/x.csv'",
        ),
        ("*_a*.csv", "b_*.csv", ("b_a1.csv",), "'b_a1.csv' fits the globs of acme and blue: acme comes first"),
        ("acme/*.csv", "blue/*.csv", ("acme/a.csv", "blue/b.csv"), None),
        ("a*.csv", "b*.csv", ("a.csv", "b.csv", "c.csv"), None),
        ("blue/special.csv", "blue/*.csv", ("blue/b.csv",), None),
    ],
)
def test_globs_that_share_files_say_who_wins(first: str, second: str, paths: tuple[str, ...], said: str | None) -> None:
    found = shared_globs([Vendor("acme", first), Vendor("blue", second)], paths)
    assert found[0].startswith(said) if said else not found, found


def test_a_date_that_fits_one_name_is_no_mistake() -> None:
    vendor = Vendor("acme", file_date="%d%m%Y")
    assert misdated(vendor, ["a.csv", "a_23112026.csv"]) == ()
    assert "fits no name that came, such as 'a.csv'" in misdated(vendor, ["a.csv", "a_2026_11_23.csv"])[0]
    assert "no date in names such as 'a.csv'" in misdated(Vendor("acme"), ["a.csv"])[0]


def vendors_of(file: Path) -> list[tuple[str, str]]:
    return [(one.health, one.detail) for one in doctor.examine(file).findings if one.name == "vendors"]


def test_doctor_looks_at_the_files_that_wait_and_at_those_that_came(tmp_path: Path) -> None:
    toml = (
        '[[vendors]]\nname = "acme"\nfiles = "a*.csv"\nfile_date = "%d%m%Y"\n'
        '[[vendors]]\nname = "blue"\nfiles = "*2026*.csv"\n'
    )
    file = tmp_path / "ordertrail.toml"
    head = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n'
    file.write_text(head + toml, encoding="utf-8")
    house = open_house(tmp_path, toml)
    assert vendors_of(file) == [("ok", "their globs part the files, and the dates of names fit")]
    house.drop("a_2026_11_20.csv", csv_bytes([cells("A", TIMES[0], "LOST")]))
    waiting = vendors_of(file)
    assert [health for health, _ in waiting] == ["warn", "warn"]
    assert "'a_2026_11_20.csv' fits the globs of acme and blue" in waiting[0][1]
    assert "file_date = '%d%m%Y' fits no name that came" in waiting[1][1]
    Pipeline(house.config).run()
    came = [detail for _, detail in vendors_of(file)]
    assert any("file_date = '%d%m%Y' fits no name that came" in one for one in came)
    assert any("neither mapped (status_map) nor ranked" in one for one in came)
