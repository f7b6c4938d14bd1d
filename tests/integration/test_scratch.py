"""What a killed command leaves is swept by the next maintenance; what is in use, or young, stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertrail.keep.maintain import describe, maintain, plan_maintenance
from ordertrail.scratch import SPILL, SweepScratch, scratch_folder
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync

HOLDER = """
import sys, time
from pathlib import Path
from ordertrail.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "verify") as folder:
    (folder / "spilt").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with without_fsync():
        house = open_house(tmp_path)
        house.drop("order_tracking_2026_11_20.csv", csv_bytes([cells("1", "2026-11-20 10:00:00")]))
        house.run()
        yield house


def scratch_of(house: House) -> set[Path]:
    return {
        path for step in plan_maintenance(house.config).steps if isinstance(step, SweepScratch) for path in step.paths
    }


def old(file: Path) -> Path:
    file.write_text("x")
    os.utime(file, (time.time() - 7200,) * 2)
    return file


def test_a_killed_verify_is_swept_and_one_at_work_is_not(house: House) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", HOLDER, str(house.config.warehouse)]
    with (
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as holder,
        scratch_folder(house.config.warehouse, "maintain") as ours,
    ):
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().strip())
        assert left.is_dir()
        assert scratch_of(house) == set()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert scratch_of(house) == {left}
        report = maintain(house.config, dry_run=True)
        assert left.is_dir()
        report = maintain(house.config)
        assert ours.is_dir()
    assert "delete 1 file that killed commands left" in [describe(one.step) for one in report.steps if one.done]
    assert not left.exists()
    assert not ours.exists()
    assert scratch_of(house) == set()


def test_spilt_rows_and_files_that_were_being_written_are_swept_once_they_are_old(house: House) -> None:
    config = house.config
    (config.warehouse / SPILL).mkdir()
    (config.warehouse / SPILL / "duckdb_temp_block").write_text("x")
    left = {
        config.warehouse / SPILL,
        old(config.archive / ".ordertrail.123.0123abcd.tmp"),
        old(config.source / ".ordertrail.123.0123abcd.tmp"),
        old(config.warehouse / ".ordertrail-orders.heartbeat.99.tmp"),
        old(config.warehouse / ".ordertrail-doctor-x1y2"),
    }
    claim = old(config.source / ".ordertrail-000002-00000-0123abcd.claim")
    (config.archive / ".ordertrail.124.0123abcd.tmp").write_text("young")
    assert scratch_of(house) == left
    maintain(config)
    assert not any(path.exists() for path in left)
    assert claim.exists()
    assert scratch_of(house) == set()
    house.run()


def test_where_no_folder_can_be_made_its_name_does(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "gone", "verify") as folder:
        assert not folder.exists()
