"""Corrections of whole pipelines: after any of them the target is what it would be had only that come which counts."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.errors import UsageError
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, RunReport
from tests.depth import share
from tests.feeds import (
    ADDRESSES,
    FEED_LIMITS,
    FEED_VENDORS,
    NO_ADDRESS,
    STATUSES,
    TIMES,
    FeedFile,
    cells,
    csv_bytes,
    dated,
)
from tests.harness import NOON_NS, House, check_books, open_house, without_fsync
from tests.oracle import Accepted, Key, Row, default_contract, fold, judge_file
from tests.property.test_arrivals import check_rebuilds
from tests.property.test_order import FEEDS, Arrival, arrivals

pytestmark = [pytest.mark.property, pytest.mark.slow]

KINDS = (CorrectionKind.UNDO, CorrectionKind.UNDO, CorrectionKind.REDO, CorrectionKind.REPLAY)


@dataclass(slots=True)
class Model:
    """What counts, kept beside the pipeline.

    Attributes:
        files: The file of every delivery.
        batches: Its batch: of the same file read twice, the later reading wins.
        counts: The deliveries that count.
        undone: Those that were taken back.
        replaced: By delivery, the one that took its place.
    """

    files: dict[str, FeedFile] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)
    counts: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    replaced: dict[str, str] = field(default_factory=dict)

    def came(self, report: RunReport, by_path: Mapping[str, FeedFile], house: House) -> None:
        """A pass has loaded some files."""
        paths = {row["delivery_id"]: str(row["path"]) for row in house.rows("deliveries")}
        for one in report.deliveries:
            file = by_path[paths[one.delivery_id]]
            self.files[one.delivery_id] = file
            self.batches[one.delivery_id] = report.batch or 0
            if one.state == "loaded":
                self.counts.add(one.delivery_id)
            same = {other for other, known in self.files.items() if known.content == file.content} - {one.delivery_id}
            mine = {other for other in same if vendor(self.files[other]) == vendor(file)}
            if one.state == "held":
                assert mine & self.undone
                assert not mine & self.counts
            elif one.state == "loaded":
                assert not mine & self.undone or mine & self.counts - {one.delivery_id}

    def corrected(self, kind: CorrectionKind, of: Sequence[str], report: RunReport, house: House) -> None:
        """A correction was made."""
        self.counts -= set(of)
        self.undone -= set(of)
        if kind is CorrectionKind.UNDO:
            self.undone |= set(of)
        elif kind is CorrectionKind.REDO:
            self.counts |= set(of)
            self.replaced = {one: by for one, by in self.replaced.items() if one not in of}
        else:
            rows = {row["replayed_by"]: row["delivery_id"] for row in house.rows("deliveries") if row["replayed_by"]}
            for one in report.deliveries:
                self.files[one.delivery_id] = self.files[str(rows[one.delivery_id])]
                self.batches[one.delivery_id] = report.batch or 0
                self.replaced[str(rows[one.delivery_id])] = one.delivery_id
                if one.state == "loaded":
                    self.counts.add(one.delivery_id)

    def target(self) -> dict[Key, Row]:
        """What the target must be."""
        contract, rows = default_contract(), {}
        for one in self.counts:
            file = self.files[one]
            found = judge_file(file, contract, FEED_VENDORS, *FEED_LIMITS.values(), self.batches[one])[1]
            for row in found:
                rows.setdefault(tuple(row.values[name] for name in contract.key), []).append(row)
        accepted: dict[Key, list[Accepted]] = rows
        return {key: fold(contract, of_key) for key, of_key in accepted.items()}


def vendor(file: FeedFile) -> str:
    return file.path.partition("/")[0]


def many_histories(chance: random.Random, shipments: int) -> list[FeedFile]:
    """Six files that give many shipments a random history each: ties, late rows, repeats, a vendor without address."""
    files = []
    for number in range(6):
        sender, day = chance.choice(("acme", "blue")), chance.choice((20, 21, 22))
        keys = [f"{key:04d}" for key in range(1, shipments + 1) if chance.random() < 0.5]
        rows = [cells(key, chance.choice(TIMES), chance.choice(STATUSES), chance.choice(ADDRESSES)) for key in keys]
        lacks = sender == "blue" and chance.random() < 0.5
        content = csv_bytes(rows, NO_ADDRESS) if lacks else csv_bytes(rows)
        files.append(FeedFile(f"{sender}/{number}_{dated(day)}", content, NOON_NS))
    return files


@pytest.mark.series
@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_histories_at_once(tmp_path: Path, seed: int) -> None:
    """Every step is one correction of two thirds of the shipments; in between files come, and batches are repeated."""
    chance = random.Random(seed)
    house = open_house(tmp_path, vendors=FEED_VENDORS, **FEED_LIMITS)
    model = Model()
    files = many_histories(chance, 1000)
    steps = [*KINDS, CorrectionKind.REDO, CorrectionKind.UNDO]
    chance.shuffle(steps)
    for file, kind in zip(files, steps, strict=True):
        house.drop_all([file])
        model.came(house.run(), {file.path: file}, house)
        possible = sorted(model.undone if kind is CorrectionKind.REDO else model.counts)
        of = tuple(chance.sample(possible, min(len(possible), chance.randint(1, 2))))
        if of:
            report = correct(house.pipeline(), Wanted(Correction(kind, of, "a test", "me")))
            model.corrected(kind, of, report, house)
        assert house.target() == model.target(), (seed, kind)
    assert verify(house.config).ok
    check_rebuilds(house)
    check_books(house)


def test_the_order_of_corrections_does_not_matter(tmp_path: Path) -> None:
    """Three deliveries are taken back, one of them comes again: each order of doing so ends in the same shipments."""
    files = many_histories(random.Random(7), 200)
    before = open_house(tmp_path / "before", vendors=FEED_VENDORS, **FEED_LIMITS)
    for file in files:
        before.drop_all([file])
        before.run()
    ids = sorted(str(row["delivery_id"]) for row in before.rows("deliveries") if row["state"] == "loaded")[:3]
    targets = []
    for number, order in enumerate(permutations(ids)):
        shutil.copytree(tmp_path / "before", tmp_path / str(number))
        house = open_house(tmp_path / str(number), vendors=FEED_VENDORS, **FEED_LIMITS)
        for one in order:
            correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, (one,), "a test", "me")))
        correct(house.pipeline(), Wanted(Correction(CorrectionKind.REDO, (ids[1],), "a test", "me")))
        targets.append(house.target())
    assert all(target == targets[0] for target in targets)
    assert targets[0] != before.target()


def test_replay_of_all_is_a_pipeline_with_todays_config_from_the_start(tmp_path: Path) -> None:
    files = many_histories(random.Random(11), 200)
    mapped = tuple(replace(one, status_map=(("LOST", "EXCEPTION"), ("", "UNKNOWN"))) for one in FEED_VENDORS)
    house = open_house(tmp_path / "old", vendors=FEED_VENDORS, **FEED_LIMITS)
    fresh = open_house(tmp_path / "new", vendors=mapped, **FEED_LIMITS)
    for file in files:
        for one in (house, fresh):
            one.drop_all([file])
            one.run()
    ids = tuple(sorted(str(row["delivery_id"]) for row in house.rows("deliveries")))
    assert house.target() != fresh.target()
    house.turn(vendors=mapped)
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.REPLAY, ids, "a test", "me")))
    assert house.target() == fresh.target()
    assert verify(house.config).ok


@settings(max_examples=share(FEEDS // 2))  # the thousand histories do the rest
@given(arrivals(absent=True), st.data())
def test_after_any_corrections_the_target_is_the_fold_of_what_counts(arrival: Arrival, data: st.DataObject) -> None:
    _, batches = arrival
    with tempfile.TemporaryDirectory() as folder, without_fsync():
        house = open_house(Path(folder), vendors=FEED_VENDORS, **FEED_LIMITS)
        model = Model()
        for batch in batches:
            house.drop_all(batch)
            model.came(house.run(), {file.path: file for file in batch}, house)
            for _ in range(data.draw(st.integers(0, 2))):
                correct_something(house, model, data)
            assert house.target() == model.target()
        proof = verify(house.config)
        assert proof.ok, [check for check in proof.checks if not check.ok]
        check_rebuilds(house)
        check_books(house)


def correct_something(house: House, model: Model, data: st.DataObject) -> None:
    """Draw a correction that is possible, make it, and check what it says."""
    kind = data.draw(st.sampled_from(KINDS))
    possible = sorted(
        {
            CorrectionKind.UNDO: model.counts,
            CorrectionKind.REDO: model.undone,
            CorrectionKind.REPLAY: model.counts | model.undone,
        }[kind]
    )
    if not possible:
        return
    of = data.draw(st.lists(st.sampled_from(possible), min_size=1, max_size=2, unique=True))
    before = house.target()
    wanted = Wanted(Correction(kind, tuple(of), "a test", "me"))
    if kind is not CorrectionKind.UNDO and any(model.replaced.get(one) in model.counts for one in of):
        with pytest.raises(UsageError, match="was replaced by"):
            correct(house.pipeline(), wanted)
        return
    report = correct(house.pipeline(), wanted)
    assert report.correction is not None
    done = report.correction
    assert done.touched == done.restored + done.kept + done.removed
    model.corrected(kind, of, report, house)
    after = house.target()
    assert after == model.target()
    assert len(before.keys() - after.keys()) <= done.removed
    changed = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    assert len(changed) + len(after.keys() - before.keys()) <= done.restored
