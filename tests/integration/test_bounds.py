"""Batches that older releases staged without bounds are finished within them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.look.verify import verify
from ordertrail.model import State
from ordertrail.parse import job
from ordertrail.rules import headers, manifests
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, open_house

UNBOUNDED = 1 << 60
NAME = "x" * 12_000_000


@pytest.fixture
def staged(tmp_path: Path) -> House:
    """A batch of a good file and of one with a header name of many megabytes, staged as before there were bounds."""
    house = open_house(tmp_path, memory_limit_mb=64)
    house.drop(dated(20), csv_bytes([cells("A", TIMES[0])]))
    house.drop(dated(21), NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ordertrail.parse.grammar.MAX_RECORD_BYTES", UNBOUNDED)
        for module in (job, headers, manifests):
            patch.setattr(module, "cut", lambda text, limit: text)
        house.stage()
    return house


def test_a_batch_staged_with_a_monster_is_finished(staged: House) -> None:
    """The pass failed after the target's commit, then every pass failed; deleting the file did not help."""
    report = staged.load()
    assert {d.state for d in report.deliveries} == {State.LOADED, State.QUARANTINED}
    assert sorted(staged.target()) == [("A",)]
    delivery = staged.delivery(dated(21))
    [reject] = staged.rows("rejects")
    for text in (delivery["reason"], delivery["first_error"], reject["reason"]):
        assert len(str(text)) < 2100
        assert "characters in all)" in str(text)
    assert NAME.encode() in staged.archived().values()
    assert staged.run().batch is None
    assert verify(staged.config).ok


class KilledError(Exception):
    """A pass ends at once."""


@pytest.mark.parametrize("effect", ["shorten.files", "shorten.committed"])
def test_only_texts_for_people_are_shortened_also_by_a_pass_that_was_cut_short(staged: House, effect: str) -> None:
    def kill(name: str) -> None:
        if name == effect:
            raise KilledError

    row = [row for row in staged.rows("stage") if row["_kind"] == "row"]
    with pytest.raises(KilledError):
        staged.pipeline(kill).load()
    staged.load()
    after = staged.rows("stage")
    assert [row for row in after if row["_kind"] == "row"] == row
    assert sorted(str(row["_kind"]) for row in after) == ["delivery", "delivery", "reject", "row"]
    assert sorted(staged.target()) == [("A",)]
