"""P2 and P9: our passes, a lost key index, maintenance and delta-rs' writes in any sequence; readers and model agree.

`INTERLEAVINGS=200` plays so many sequences. With Spark as well: `tests/spark/test_interleaving.py`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.depth import share
from tests.harness import open_house, without_fsync
from tests.interleaving import FOREIGN, OURS, ByVectors, DeltaRs, Step, World, play

pytestmark = [pytest.mark.property, pytest.mark.slow]

SEQUENCES = int(os.environ.get("INTERLEAVINGS", "8"))
LONGEST = 12

seeds = st.integers(0, 2**16)
# Half of the steps are passes: it is they that must get along with whatever came between.
sends = st.tuples(st.just("ordertrail"), st.just("send"), seeds)
others = st.one_of(
    st.tuples(st.just("ordertrail"), st.sampled_from(OURS[1:]), seeds),
    st.tuples(st.just("delta-rs"), st.sampled_from(FOREIGN), seeds),
    st.tuples(st.just("vectors"), st.just("delete"), seeds),
)
sequences = st.lists(st.one_of(sends, others), min_size=3, max_size=LONGEST)

EVERY_KIND = [
    step
    for number, (who, what) in enumerate([*(("delta-rs", what) for what in FOREIGN), ("vectors", "delete")])
    for step in (
        (who, what, number),
        ("ordertrail", "send", number),
        ("ordertrail", OURS[1 + number % 2], number),
        ("ordertrail", "send", number + 100),
    )
]
"""Every kind of foreign write with a pass after it, then without an index or after maintenance a pass again."""


@settings(max_examples=share(SEQUENCES))
@given(sequences)
@example(EVERY_KIND)
def test_any_sequence_of_writers_ends_as_the_model_says(steps: list[Step]) -> None:
    """After every step delta-rs, Polars, DuckDB and `ordertrail query` read what the model says."""
    with tempfile.TemporaryDirectory() as folder, without_fsync():
        world = World(open_house(Path(folder)), {"delta-rs": DeltaRs(), "vectors": ByVectors()})
        for step in [("ordertrail", "send", 0), *steps]:
            play(world, step)
