"""Rejected rows go back to the vendor, are corrected, and load."""

from __future__ import annotations

import csv
from pathlib import Path

from click.testing import CliRunner

from ordertrail.cli import cli
from tests.harness import open_house, without_fsync

TOML = """
[[vendors]]
name = "acme"
delimiter = ";"
encoding = "cp1252"
"""
HEADER = ["order_num", "tracking_num", "pck_recieved_date", "package_deliver_date", "status", "address"]


def test_there_and_back(tmp_path: Path) -> None:
    with without_fsync():
        house = open_house(tmp_path, toml=TOML)
        (tmp_path / "ordertrail.toml").write_text(
            '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n' + TOML
        )
        rows = ["O1;001;;;IN_TRANSIT;Köln;2026-11-20 08:00:00", "O2;002;31.11.2026;;IN_TRANSIT;Köln;gestern"]
        text = "\n".join([";".join([*HEADER, "last_update_timestamp"]), *rows, ""])
        house.drop("a.csv", text.encode("cp1252"))
        house.run()
        name = str(house.delivery("a.csv")["delivery_id"])
        back = tmp_path / "back.csv"
        words = ["rejects", "--config", str(tmp_path / "ordertrail.toml"), "--delivery", name]
        result = CliRunner().invoke(cli, [*words, "--for-vendor", "-o", str(back)])
        assert (result.exit_code, result.stdout) == (0, f"1 rejected row of a.csv: {back}\n")
        again = CliRunner().invoke(cli, [*words, "--for-vendor", "-o", str(back)])
        assert (again.exit_code, "name a new file" in again.stderr) == (2, True)
        assert CliRunner().invoke(cli, [*words, "--for-vendor"]).exit_code == 2

        with back.open(encoding="cp1252", newline="") as file:
            header, row = csv.reader(file, delimiter=";")
        assert header == [*HEADER, "last_update_timestamp", "ordertrail_line", "ordertrail_problem"]
        assert (row[5], row[7]) == ("Köln", "3")
        assert "pck_recieved_date: " in row[8]
        assert "last_update_timestamp: " in row[8]
        row[2], row[6] = "2026-11-30", "2026-11-20 09:00:00"
        house.drop("b.csv", "\n".join([";".join(header[:7]), ";".join(row[:7]), ""]).encode("cp1252"))
        house.run()
        assert {key[0] for key in house.target()} == {"001", "002"}
