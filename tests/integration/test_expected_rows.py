"""Files with another number of rows than expected, and files that were cut off: held, decided about, and rebuilt."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.errors import UsageError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.plan import plan_files
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.feeds import TIMES, cells, csv_bytes
from tests.harness import House, bag, check_books, open_house, without_fsync

TOML = """
[[vendors]]
name = "acme"
files = "acme/*.csv"
expect_rows = "learn"

[[vendors]]
name = "depot"
files = "depot/*.csv"
expect_rows = [2, 3]
final_newline = true
"""


def rows(name: str, count: int) -> bytes:
    return csv_bytes([cells(f"{name}-{number}", TIMES[0]) for number in range(count)])


def decide(house: House, kind: CorrectionKind, name: str) -> None:
    ids = (str(house.delivery(name)["delivery_id"]),)
    correct(house.pipeline(), Wanted(Correction(kind, ids, "a test", "ops")))


def test_from_source_to_rebuild(tmp_path: Path) -> None:
    with without_fsync():
        house = open_house(tmp_path, toml=TOML)
        for number in range(10):
            house.drop(f"acme/day{number}.csv", rows(f"d{number}", 20))
        assert {str(one.state) for one in house.run().deliveries} == {"loaded"}

        house.drop("acme/short.csv", rows("s", 16))
        house.drop("acme/next.csv", rows("n", 19))
        house.drop("depot/good.csv", rows("g", 3))
        house.drop("depot/many.csv", rows("m", 4))
        house.drop("depot/header.csv", rows("h", 0))
        house.drop("depot/nothing.csv", b"")
        house.drop("depot/cut.csv", rows("c", 3)[:-1])
        plan = plan_files(house.config, sorted(house.config.source.rglob("*.csv")))
        report = house.run()
        wanted = {"next.csv": "loaded", "good.csv": "loaded"} | dict.fromkeys(
            ("short.csv", "many.csv", "header.csv", "nothing.csv", "cut.csv"), "held"
        )
        assert {one.file_name: str(one.state) for one in report.deliveries} == wanted
        reasons = {one.file_name: one.reason for one in report.deliveries}
        assert {Path(one.path).name: one.reason for one in plan.files} == reasons
        assert str(reasons["short.csv"]).startswith(
            "it has 16 rows, fewer than the 17 to 40 that the last 10 files teach"
        )
        assert "it has 0 rows, fewer than the 2 to 3" in str(reasons["nothing.csv"])
        assert "line 4 has no line end: the file was cut off" in str(reasons["cut.csv"])
        rules = {(one["file_name"], one["rule"]) for one in house.rows("rejects")}
        assert rules == {(name, "cut_off" if name == "cut.csv" else "expect_rows") for name in wanted if name in {
            one for one, state in wanted.items() if state == "held"}}  # fmt: skip

        for name in ("short.csv", "cut.csv"):
            with pytest.raises(UsageError, match=r"would be held|is still held"):
                decide(house, CorrectionKind.REPLAY, name)
            decide(house, CorrectionKind.RELEASE, name)
        decide(house, CorrectionKind.REFUSE, "many.csv")
        assert {key[0] for key in house.target()} >= {"s-15", "n-18", "c-2"}
        before = {table: bag(house.rows(table)) for table in ("target", "history", "rejects", "deliveries")}
        assert rebuild(house.config, from_archive=True) is not None
        assert {table: bag(house.rows(table)) for table in before} == before
        check_books(house)
