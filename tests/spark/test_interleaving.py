"""P2 and P9 with Spark among the writers and the readers: the model of `tests/interleaving.py`, every kind of write.

`SPARK_INTERLEAVINGS=50` plays so many sequences.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.harness import open_house, without_fsync
from tests.interleaving import FOREIGN, OURS, DeltaRs, Step, World, play
from tests.spark.session import Spark, SparkWriter

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]  # long, so that a busy machine fails no test

SEQUENCES = int(os.environ.get("SPARK_INTERLEAVINGS", "1"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_any_sequence_of_writers_ends_as_the_model_says(tmp_path: Path, spark: Spark, seed: int) -> None:
    """Every kind of write once, by Spark and by delta-rs, in a random sequence, with passes between them."""
    with without_fsync():
        writers = {"spark": SparkWriter(spark), "delta-rs": DeltaRs()}
        world = World(open_house(tmp_path), writers, {"Spark": spark.read})
        for step in sequence(random.Random(seed)):
            play(world, step)


def sequence(chance: random.Random) -> list[Step]:
    """All kinds of steps, shuffled; after two of three of them a pass."""
    kinds = [(who, what) for who in ("spark", "delta-rs") for what in FOREIGN]
    kinds += [("ordertrail", what) for what in OURS]
    chance.shuffle(kinds)
    steps: list[Step] = [("ordertrail", "send", chance.randrange(2**16))]
    for who, what in kinds:
        steps.append((who, what, chance.randrange(2**16)))
        if chance.random() < 2 / 3:
            steps.append(("ordertrail", "send", chance.randrange(2**16)))
    return steps
