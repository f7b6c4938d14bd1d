"""Corrections on every way: the same shipments, whoever weighs the batches before, between and after them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, RunReport, State, Vendor
from tests.feeds import Cells, cells, csv_bytes, dated
from tests.harness import House


def mend(house: House, kind: CorrectionKind, *names: str, file: Path | None = None) -> RunReport:
    ids = tuple(str(house.delivery(name)["delivery_id"]) for name in names)
    return correct(house.pipeline(), Wanted(Correction(kind, ids, "a test", "ops"), file))


def keys(report: RunReport) -> tuple[int, int, int, int]:
    assert report.correction is not None
    done = report.correction
    return done.touched, done.restored, done.kept, done.removed


def load(house: House, name: str, rows: Sequence[Cells]) -> RunReport:
    house.drop(name, csv_bytes(rows))
    return house.run()


def said(house: House) -> dict[str, tuple[object, object]]:
    return {str(key[0]): (row["status"], row["address"]) for key, row in house.target().items()}


@pytest.mark.spared("executors", covered_by="spark")  # a correction is weighed on the driver, whoever loaded
def test_a_file_is_taken_back_and_comes_back(house: House) -> None:
    """Restored, kept and removed at once; a tie that only the history decides; and the batches after it."""
    load(house, dated(20), [cells("A", "2026-11-20 08:00:00"), cells("T", "2026-11-20 08:00:00", address="X")])
    load(
        house,
        dated(21),
        [
            cells("A", "2026-11-21 08:00:00", "DELIVERED"),
            cells("N", "2026-11-21 08:00:00"),
            cells("T", "2026-11-20 08:00:00", address="Y"),
            cells("K", "2026-11-21 08:00:00"),
        ],
    )
    load(house, dated(23), [cells("K", "2026-11-21 08:00:00"), cells("T", "2026-11-20 08:00:00", address="X")])
    assert keys(mend(house, CorrectionKind.UNDO, dated(21))) == (4, 1, 2, 1)
    assert said(house) == {"A": ("IN_TRANSIT", "X"), "T": ("IN_TRANSIT", "X"), "K": ("IN_TRANSIT", "X")}
    row = next(row for row in house.rows("target") if row["tracking_num"] == "A")
    assert (row["_batch"], row["_revision"], row["_file_name"]) == (4, 3, dated(20))
    # K's row still names the file that was taken back; at the same time the file of the 22nd must win over it, for
    # of those that count only the 23rd comes later.
    late = load(
        house, dated(22), [cells("K", "2026-11-21 08:00:00", address="Z"), cells("A", "2026-11-20 09:00:00", "LOST")]
    )
    assert (late.rows.stale, late.rows.updated) == (1, 1)
    assert said(house)["A"] == ("LOST", "X")
    assert keys(mend(house, CorrectionKind.UNDO, dated(23))) == (2, 1, 1, 0)
    assert said(house)["K"] == ("IN_TRANSIT", "Z")
    mend(house, CorrectionKind.REDO, dated(21), dated(23))
    assert said(house) == {
        "A": ("DELIVERED", "X"),
        "N": ("IN_TRANSIT", "X"),
        "T": ("IN_TRANSIT", "X"),
        "K": ("IN_TRANSIT", "X"),
    }


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_files_take_the_place_of_others(house: House, tmp_path: Path) -> None:
    load(house, dated(20), [cells("A", "2026-11-20 08:00:00"), cells("B", "2026-11-20 08:00:00")])
    quarantined = csv_bytes([cells("C", "2026-11-21 08:00:00")]).replace(b"last_update_timestamp", b"Updated")
    house.drop(dated(21), quarantined)
    assert house.run().deliveries[0].state is State.QUARANTINED
    fixed = tmp_path / "fixed.csv"
    fixed.write_bytes(
        csv_bytes([cells("A", "2026-11-20 08:00:00", address="Y"), ("bad",), cells("D", "2026-11-20 07:00:00")])
    )
    report = mend(house, CorrectionKind.CORRECT, dated(20), file=fixed)
    assert keys(report) == (3, 2, 0, 1)
    (new,) = report.deliveries
    assert (new.rows.parsed, new.rows.updated, new.rows.inserted, new.rows.rejected) == (3, 1, 1, 1)
    house.turn(vendors=(replace(Vendor("default"), aliases=(("last_update_timestamp", ("Updated",)),)),))
    assert keys(mend(house, CorrectionKind.REPLAY, dated(21))) == (1, 1, 0, 0)
    assert said(house) == {"A": ("IN_TRANSIT", "Y"), "C": ("IN_TRANSIT", "X"), "D": ("IN_TRANSIT", "X")}
    states = {str(row["delivery_id"]): row["state"] for row in house.rows("deliveries")}
    assert sorted(map(str, states.values())) == ["correction", "correction", "loaded", "loaded", "replayed", "undone"]
