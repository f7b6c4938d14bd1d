"""Mode `append`: which rows the target keeps does not depend on how they came, and the latest state is the upsert's."""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings

from ordertrail.keep.rebuild import Differences, rebuild
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.depth import share
from tests.feeds import FEED_LIMITS, FEED_VENDORS, FeedFile
from tests.harness import House, check_books, check_readers, open_house, without_fsync
from tests.oracle import default_contract, judge, judge_file
from tests.property.test_corrections import KINDS, Model, many_histories
from tests.property.test_order import EXTRA, FEEDS, Arrival, arrivals

pytestmark = [pytest.mark.property, pytest.mark.slow]

APPEND = 'mode = "append"\n'


def accepted(files: Iterable[FeedFile]) -> set[tuple[object, ...]]:
    """The oracle's different rows of some files: the contract's columns and `_rescued`."""
    found: set[tuple[object, ...]] = set()
    contract = default_contract()
    for file in files:
        verdict, rows = judge_file(file, contract, FEED_VENDORS, *FEED_LIMITS.values())
        if verdict.state != "loaded":
            continue
        header = next(csv.reader([file.content.decode().splitlines()[0]]))
        rescued = json.dumps({EXTRA: EXTRA}, separators=(",", ":")) if EXTRA in header else None
        found |= {(*(row.values[name] for name in contract.names), rescued) for row in rows}
    return found


def check_kept(house: House, files: Iterable[FeedFile]) -> None:
    """The target has each accepted row that counts, and `verify` says the same."""
    assert set(house.kept()) == accepted(files)
    check_books(house)
    assert [check for check in verify(house.config).checks if not check.ok] == []
    assert rebuild(house.config, dry_run=True).differences == Differences(0, 0, 0, 0)


@settings(max_examples=share(FEEDS // 2))
@given(arrivals(absent=True))
def test_the_rows_do_not_depend_on_the_arrival(arrival: Arrival) -> None:
    files, batches = arrival
    with tempfile.TemporaryDirectory() as folder, without_fsync():
        house = open_house(Path(folder), APPEND, vendors=FEED_VENDORS, **FEED_LIMITS)
        for some in batches:
            house.drop_all(some)
            house.run()
        check_kept(house, files)
        assert set(house.kept().values()) <= {1}
        assert house.target() == judge(files, None, FEED_VENDORS, **FEED_LIMITS).target


@pytest.mark.series
@pytest.mark.parametrize("seed", range(3))
def test_corrections(tmp_path: Path, seed: int) -> None:
    """Files and corrections in turn: the latest state is the upsert's at each step, and no row ever leaves."""
    chance = random.Random(seed)
    house = open_house(tmp_path, APPEND, vendors=FEED_VENDORS, **FEED_LIMITS)
    model = Model()
    steps = [*KINDS, CorrectionKind.REDO, CorrectionKind.UNDO]
    chance.shuffle(steps)
    before = 0
    for file, kind in zip(many_histories(chance, 200), steps, strict=True):
        house.drop_all([file])
        model.came(house.run(), {file.path: file}, house)
        assert house.target() == model.target(), (seed, kind)
        possible = sorted(model.undone if kind is CorrectionKind.REDO else model.counts)
        of = tuple(chance.sample(possible, min(len(possible), chance.randint(1, 2))))
        if of:
            report = correct(house.pipeline(), Wanted(Correction(kind, of, "a test", "me")))
            model.corrected(kind, of, report, house)
            assert report.correction is not None
            assert report.correction.removed == 0
        assert house.target() == model.target(), (seed, kind)
        check_kept(house, [model.files[one] for one in model.counts])
        assert len(house.rows("target")) >= before
        before = len(house.rows("target"))
    check_readers(house)
