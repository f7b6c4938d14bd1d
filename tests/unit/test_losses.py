"""Which states of the five tables passes leave, and which only somebody else does."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ordertrail.rules.losses import ROLES, Progress, Standing, loss, makeable

Batches = tuple[int | None, int | None, int | None, int | None, int | None]


def standings(batches: Batches) -> list[Standing]:
    return [Standing(role, f"t_{role}", batch) for role, batch in zip(ROLES, batches, strict=True)]


@pytest.mark.parametrize(
    "batches",
    [
        (None, None, None, None, None),
        (0, None, None, None, None),
        (0, 0, None, None, None),
        (0, 0, 0, 0, None),
        (0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0),
        (1, 1, 0, 0, 0),
        (1, 1, 1, 1, 1),
        (8, 7, 7, 7, 7),
        (8, 8, 8, 7, 7),
        (8, 8, 8, 8, 7),
        # A target that was rebuilt beside the first records of a batch without the done mark.
        (8, 7, 8, 8, 7),
    ],
)
def test_what_passes_leave_also_those_that_were_killed(batches: Batches) -> None:
    assert loss(standings(batches)) is None


@pytest.mark.parametrize(
    ("batches", "role", "words"),
    [
        ((0, None, 0, 0, 0), "target", "t_target is not there"),
        ((None, 0, None, None, None), "stage", "t_stage is not there"),
        ((7, 7, None, 7, 7), "history", "t_history is not there"),
        ((7, 7, 7, None, None), "rejects", "t_rejects is not there"),
        ((7, 7, 7, 7, None), "deliveries", "up to batch 7"),
        ((0, None, 0, 0, 0), "target", "but t_stage, t_history, t_rejects and t_deliveries are before the first batch"),
        ((None, 3, None, None, None), "stage", "the table t_stage is not there, but t_target is up to batch 3"),
        ((7, 8, 7, 7, 7), "stage", "the table t_stage stands at batch 7, but t_target"),
        ((1, None, None, None, None), "target", "t_target is not there"),
        ((7, 6, 7, 7, 7), "target", "t_target stands at batch 6, but batch 7 is done according to t_deliveries"),
        ((7, 7, 0, 7, 7), "history", "t_history stands at batch 0"),
        ((8, 8, 7, 6, 7), "rejects", "t_rejects stands at batch 6"),
        ((6, 7, 7, 7, 7), "stage", "t_stage stands at batch 6"),
        ((7, 8, 7, 7, 7), "stage", "but t_target, which is written after it, at batch 8"),
        ((9, 9, 9, 9, 7), "deliveries", "t_deliveries stands at batch 7, but t_stage at batch 9"),
    ],
)
def test_what_only_a_loss_leaves(batches: Batches, role: str, words: str) -> None:
    found = loss(standings(batches))
    assert found is not None
    assert found.role == role
    assert words in found.what


@pytest.mark.parametrize(
    ("batches", "ahead"),
    [
        *(((None, 7, 7, 7, 7), False), ((7, 8, 7, 7, 7), False), ((None, 8, 8, 7, 7), True), ((6, 8, 8, 8, 7), True)),
        *(((None, 0, 0, 0, 0), False), ((None, 1, 1, 0, 0), True)),  # the first batch is recorded like any other
    ],
)
def test_a_lost_stage_is_told_apart_by_whether_records_of_its_batch_are_there(batches: Batches, ahead: bool) -> None:
    found = loss(standings(batches))
    assert found is not None
    assert found.role == "stage"
    assert found.ahead == ahead


@pytest.mark.parametrize("batches", [(8, 6, 8, 7, 7), (8, None, 8, 8, 7), (9, 9, 9, 9, 7)])
def test_records_ahead_matter_only_where_the_stage_is_lost(batches: Batches) -> None:
    found = loss(standings(batches))
    assert found is not None
    assert found.role != "stage"
    assert not found.ahead


def test_tables_are_made_in_their_order_before_the_first_batch_only() -> None:
    assert makeable(standings((0, 0, None, None, None)))
    assert not makeable(standings((1, 0, None, None, None)))
    assert not makeable(standings((0, None, 0, None, None)))


def test_the_progress_of_five_tables_says_which_batch_is_next_and_whether_one_is_unfinished() -> None:
    done = Progress(staged=4, loaded=4, recorded=4, rejected=4, done=4, archived=3)
    assert (done.highest, done.unfinished) == (4, False)
    recording = replace(done, staged=5, loaded=5, recorded=5)
    assert (recording.highest, recording.unfinished) == (5, True)
    assert replace(done, loaded=7).highest == 7  # a table from a later backup still takes its number
