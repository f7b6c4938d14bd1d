"""Random corrections by Spark: hundreds of small histories at once, each folded as the oracle folds it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ordertrail.keep.rebuild import Differences, rebuild
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.feeds import FEED_LIMITS, FEED_VENDORS, FeedFile
from tests.harness import House, open_house
from tests.property.test_corrections import Model, many_histories
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.slow]

HISTORIES = 300
STEPS = (CorrectionKind.UNDO, CorrectionKind.UNDO, CorrectionKind.REDO, CorrectionKind.REPLAY)


def came(house: House, model: Model, file: FeedFile) -> None:
    house.drop_all([file])
    model.came(house.run(), {file.path: file}, house)


@pytest.mark.parametrize("seed", [1, 2])
def test_spark_corrects_as_the_oracle_folds(spark: Spark, tmp_path: Path, seed: int) -> None:
    """The files are loaded by the embedded engine, which shares the tables; every correction is Spark's."""
    del spark
    chance = random.Random(seed)
    house = open_house(tmp_path, vendors=FEED_VENDORS, **FEED_LIMITS)
    model = Model()
    files = many_histories(chance, HISTORIES)
    for file in files[:4]:
        came(house, model, file)
    for step, kind in enumerate(STEPS):
        house.turn(engine="spark")
        possible = sorted(model.undone if kind is CorrectionKind.REDO else model.counts)
        of = tuple(chance.sample(possible, min(len(possible), 1 + step % 2)))
        report = correct(house.pipeline(), Wanted(Correction(kind, of, "a test", "me")))
        model.corrected(kind, of, report, house)
        assert house.target() == model.target(), (seed, step)
        house.turn(engine="embedded")
        if step < 2:
            came(house, model, files[4 + step])
            assert house.target() == model.target(), (seed, step)
    proof = verify(house.config)
    assert proof.ok, [one for one in proof.checks if not one.ok]
    assert rebuild(house.config, dry_run=True).differences == Differences(0, 0, 0, 0)
