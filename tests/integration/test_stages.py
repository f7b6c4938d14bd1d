"""A stage of every release there was is finished by this one, and files that they loaded are known again.

`tests/golden/stages/DATE` is a pipeline as the main branch of that day left it: batch 1 is loaded, batch 2 is staged.
`tests/golden_stage.py` wrote it, and says when a new one is due.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ordertrail import load_config
from ordertrail.look.plan import plan_files
from ordertrail.model import RowCounts, State
from tests.golden_stage import FIRST, MTIME_NS, STAGES
from tests.harness import House, check_books, check_readers

RELEASES = sorted(path.name for path in STAGES.iterdir() if path.is_dir())


@pytest.fixture(params=RELEASES)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    """The pipeline of a release, in a folder of the test's own."""
    shutil.copytree(STAGES / request.param, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "source").rglob("*.csv"):
        os.utime(file, ns=(MTIME_NS, MTIME_NS))
    return House(load_config(tmp_path / "ordertrail.toml"))


def test_a_stage_of_every_release_is_finished(house: House) -> None:
    report = house.run()
    assert (report.batch, report.recovered) == (2, True)
    assert [delivery.state for delivery in report.deliveries] == [
        State.DUPLICATE, State.LOADED, State.EMPTY, State.QUARANTINED,
    ]  # fmt: skip
    assert report.rows == RowCounts(parsed=6, inserted=1, updated=1, duplicate=2, rejected=2)
    assert {key[0]: row["status"] for key, row in house.target().items()} == {
        "00131": "DELIVERED", "00132": "PICKED_UP", "00133": "PICKED_UP", "00134": "PICKED_UP",
    }  # fmt: skip
    assert not any(path.endswith(".csv") for path in house.left())
    check_books(house)
    check_readers(house)


def test_a_file_that_another_release_loaded_is_a_duplicate_when_it_is_sent_again(house: House) -> None:
    house.run()
    path = "blue/order_tracking_2026_11_21.csv"
    sent = house.drop(path, FIRST[path], MTIME_NS)
    assert [file.state for file in plan_files(house.config, [sent]).files] == [State.DUPLICATE]
    assert [delivery.state for delivery in house.run().deliveries] == [State.DUPLICATE]
