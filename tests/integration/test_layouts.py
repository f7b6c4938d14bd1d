"""Files of every layout through a pipeline's life: held and released, replayed, and rebuilt out of the archive."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from pathlib import Path

import pytest

from ordertrail.keep.rebuild import rebuild
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, RunReport
from tests.harness import House, bag, check_books, open_house

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
TOML = """[[vendors]]
name = "acme"
files = "acme/*"

[[vendors]]
name = "depot"
files = "depot/*"
trailer = '^TRL (?P<rows>[0-9]+)'
"""


def row(number: int, status: str = "IN_TRANSIT") -> str:
    return f"O{number},{number:05d},,,{status},X,2026-11-20 08:00:00\n"


def zipped(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as box:
        for name, text in members.items():
            box.writestr(name, text)
    return out.getvalue()


def decide(house: House, kind: CorrectionKind, *ids: str) -> RunReport:
    return correct(house.pipeline(), Wanted(Correction(kind, ids, "a test", "ops")))


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = open_house(tmp_path, toml=TOML)
    made.drop("acme/a.csv.gz", gzip.compress(("Report\n\n" + HEADER + row(1) + ",,,,,,\n" + HEADER + row(2)).encode()))
    made.drop("acme/b.zip", zipped(x=HEADER + row(3) + "O9,9,bad,,X,X,2026-11-20 08:00:00\n", y=HEADER + row(4)))
    made.drop("depot/c.csv", HEADER + row(5) + row(6) + "TRL 3\n")
    made.drop("depot/d.csv", HEADER + row(7) + "TRL 1\n")
    return made


def test_counts_and_places(house: House) -> None:
    report = house.run()
    assert [(one.file_name, str(one.state), one.rows.parsed, one.lines_skipped) for one in report.deliveries] == [
        ("a.csv.gz", "loaded", 2, 3), ("b.zip", "loaded", 3, 0), ("c.csv", "held", 2, 0), ("d.csv", "loaded", 1, 1),
    ]  # fmt: skip
    assert [house.delivery(name)["lines_skipped"] for name in ("a.csv.gz", "d.csv")] == [3, 1]
    assert [(one["file_row"], one["file_line"]) for one in house.rows("rejects") if one["file_row"]] == [(2, 3)]
    assert (
        "acme: 3 lines are no rows: titles, the header again, a trailer, continuation lines, or delimiters alone"
        in report.notes
    )
    assert house.archived()[str(house.delivery("b.zip")["archived_to"])].startswith(b"PK")
    check_books(house)


def test_a_held_file_is_released_with_its_rows(house: House) -> None:
    house.run()
    held = house.delivery("c.csv")
    assert "tells 3 rows, the file has 2" in held["reason"]
    assert {key[0] for key in house.target()} == {"00001", "00002", "00003", "00004", "00007"}
    report = decide(house, CorrectionKind.RELEASE, str(held["delivery_id"]))
    assert [str(one.state) for one in report.deliveries] == ["loaded"]
    assert {key[0] for key in house.target()} >= {"00005", "00006"}
    check_books(house)


def test_a_rebuild_out_of_the_archive_reads_them_again(house: House) -> None:
    house.run()
    decide(house, CorrectionKind.RELEASE, str(house.delivery("c.csv")["delivery_id"]))
    decide(house, CorrectionKind.REPLAY, str(house.delivery("b.zip")["delivery_id"]))
    before = {table: bag(house.rows(table)) for table in ("target", "history", "rejects", "deliveries")}
    shutil.rmtree(house.table_path("rejects"))  # so that no row of it can be copied
    report = rebuild(house.config, from_archive=True)
    assert report is not None
    for table, rows in before.items():
        assert bag(house.rows(table)) == rows, table
    check_books(house)
