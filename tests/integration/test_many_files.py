"""Very many files in one pass: right, and each of them its own delivery. `FILES=10000` for more."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from ordertrail.model import RowCounts, RunReport
from tests.depth import share
from tests.feeds import DAY_ONE, STATUSES, FeedFile, cells, csv_bytes, dated
from tests.harness import NOON_NS, House, check_books, check_readers, open_house
from tests.oracle import judge

FILES = int(os.environ.get("FILES") or 1000 + share(2000))
FOLLOW_UP_FILES = 100
KEYS = 1_200
VENDORS = """
[[vendors]]
name = "acme"
files = "acme/**/*.csv"

[[vendors]]
name = "blue"
files = "blue/*.csv"
"""


def tiny_files(start: int, count: int) -> list[FeedFile]:
    """Files of one to three rows; every key comes in several of them, some rows are bad, some files are the same."""
    random_ = random.Random(start)
    files = []
    for number in range(start, start + count):
        folder = random_.choice(("acme", "acme/2026/11", "blue"))
        rows = []
        for _ in range(random_.randint(1, 3)):
            time = DAY_ONE + timedelta(minutes=random_.randrange(48 * 60))
            key = f"{random_.randrange(1, KEYS):06}" if random_.random() > 0.01 else ""
            rows.append(cells(key, time.isoformat(), random_.choice(STATUSES), f"Street {random_.randrange(5)}"))
        if number % 100 == 1:
            rows = [cells("000001", DAY_ONE.isoformat())]
        files.append(FeedFile(f"{folder}/{dated(20 + number % 3, f'_{number:05}')}", csv_bytes(rows), NOON_NS + number))
    return files


def check_pass(house: House, files: list[FeedFile], report: RunReport) -> None:
    """Every file became one delivery of the pass, nothing was left, and nothing was lost."""
    assert (report.skipped, report.warnings, house.left()) == ((), (), [])
    assert len({d.delivery_id for d in report.deliveries}) == len(files)
    assert Counter(d.file_name for d in report.deliveries) == Counter(f.path.rpartition("/")[2] for f in files)
    assert report.rows == sum((d.rows for d in report.deliveries), RowCounts())
    assert report.rows.parsed == sum(file.content.count(b"\n") - 1 for file in files)
    assert all(d.rows.balanced and d.archived_to for d in report.deliveries)


@pytest.mark.slow
def test_thousands_of_files_in_one_pass(tmp_path: Path) -> None:
    """P2, P3, P6 and no limit that counts files; two more batches with late rows follow."""
    house = open_house(tmp_path, VENDORS, max_reject_share=0.5)
    batches = [
        tiny_files(0, FILES),
        tiny_files(FILES, FOLLOW_UP_FILES),
        tiny_files(FILES + FOLLOW_UP_FILES, FOLLOW_UP_FILES),
    ]
    for files in batches:
        house.drop_all(files)
        report = house.run()
        print(f"{len(files)} files: {report.seconds}")
        check_pass(house, files, report)
    sent = [file for files in batches for file in files]
    assert house.target() == judge(sent, None, house.config.vendors, max_reject_share=0.5).target
    assert len(house.archived()) == len(sent)
    check_books(house)
    check_readers(house)
