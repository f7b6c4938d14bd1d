"""The one sequence of a load, with parts that only note who asked them for what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest

from ordertrail.engines.load import Load, loaded, require_staged
from ordertrail.errors import BalanceError, ForeignChangeError, TableError
from ordertrail.model import Batch, RowCounts

BATCH = Batch(7, "run", datetime(2026, 11, 28, tzinfo=UTC), ())
WEIGHED = {"d": RowCounts(parsed=1, inserted=1)}
RECORDED = {"d": RowCounts(parsed=1, updated=1)}
SHARED = {"d": RowCounts(parsed=2, inserted=2)}
LOST = {"d": RowCounts(parsed=2, inserted=1)}
VERSION, COMMITTED = 20, 18


class Parts:
    """Weighing, applier and recorder in one, in whatever state the tables are."""

    target_name = "orders_target"

    def __init__(
        self,
        *,
        target: int = 6,
        committed: int | None = None,
        recorded: Mapping[str, RowCounts] | None = None,
        shared: Mapping[str, RowCounts] | None = None,
        weighed: Mapping[str, RowCounts] = WEIGHED,
    ) -> None:
        self.asked: list[object] = []
        self._target = target
        self._committed = committed
        self._recorded = recorded
        self._shared = shared
        self._weighed = weighed

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        self.asked.append(("weigh", target_version))
        return self._weighed

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        self.asked.append(("weigh again", target_version))
        return self._weighed

    def close(self) -> None:
        self.asked.append("close")

    def share(self, target_version: int) -> Mapping[str, RowCounts] | None:
        self.asked.append(("share", target_version))
        return self._shared

    def apply(self, target_version: int) -> None:
        self.asked.append(("apply", target_version))

    def target(self) -> tuple[int, int]:
        return VERSION, self._target

    def committed(self) -> int | None:
        return self._committed

    def recorded(self) -> Mapping[str, RowCounts] | None:
        return self._recorded

    def history(self) -> None:
        self.asked.append("history")

    def rejects(self) -> None:
        self.asked.append("rejects")

    def deliveries(self, counts: Mapping[str, RowCounts]) -> None:
        self.asked.append(("deliveries", counts))


def load_of(parts: Parts) -> Load:
    return Load(BATCH, parts, parts, parts)


WHOLE = [("share", VERSION), ("weigh", VERSION), ("apply", VERSION)]
AGAIN = [("weigh again", COMMITTED)]


@pytest.mark.parametrize(
    ("parts", "counts", "asked"),
    [
        (lambda: Parts(), WEIGHED, WHOLE),
        (lambda: Parts(shared=SHARED), SHARED, WHOLE[:1]),
        # Killed between the target's commit and the history's: what it committed is worked out again, nothing written.
        (lambda: Parts(target=7, committed=COMMITTED), WEIGHED, AGAIN),
        (lambda: Parts(target=9, committed=COMMITTED), WEIGHED, AGAIN),
        # Killed after the history: it says what became of the rows.
        (lambda: Parts(target=7, recorded=RECORDED), RECORDED, []),
        # The target was rebuilt without the batch: it gets the rows, and the history still says what became of them.
        (lambda: Parts(target=6, recorded=RECORDED), RECORDED, WHOLE),
        (lambda: Parts(target=6, recorded=RECORDED, shared=SHARED), RECORDED, WHOLE[:1]),
    ],
)
def test_a_batch_is_weighed_and_applied_once(
    parts: Callable[[], Parts], counts: Mapping[str, RowCounts], asked: list[object]
) -> None:
    made = parts()
    assert load_of(made).run() == counts
    assert made.asked == asked


@pytest.mark.parametrize(
    ("parts", "asked"),
    [
        (lambda: Parts(weighed=LOST), WHOLE[:2]),
        (lambda: Parts(weighed=LOST, target=7, committed=COMMITTED), AGAIN),
        (lambda: Parts(recorded=LOST), []),
    ],
)
def test_counts_that_do_not_add_up_stop_a_load_before_it_writes(
    parts: Callable[[], Parts], asked: list[object]
) -> None:
    made = parts()
    with pytest.raises(BalanceError, match="delivery d does not add up"):
        load_of(made).run()
    assert made.asked == asked


def test_a_commit_that_is_gone_from_the_log_cannot_be_weighed_again() -> None:
    parts = Parts(target=7)
    with pytest.raises(ForeignChangeError, match="the commit of batch 7 is gone from the log of orders_target"):
        load_of(parts).run()
    assert parts.asked == []


def test_the_done_mark_comes_last() -> None:
    parts = Parts()
    load = load_of(parts)
    load.record(WEIGHED)
    load.close()
    assert parts.asked == ["history", "rejects", ("deliveries", WEIGHED), "close"]


def test_only_the_staged_batch_is_loaded_and_only_a_loaded_one_recorded() -> None:
    require_staged(7, BATCH)
    for staged in (None, 6, 8):
        with pytest.raises(ForeignChangeError, match=f"the stage holds batch {staged}, not 7"):
            require_staged(staged, BATCH)
    load = load_of(Parts())
    assert loaded(load, BATCH) is load
    other = Batch(8, BATCH.run_id, BATCH.clock, ())
    for missing in (None, load):
        with pytest.raises(TableError, match="batch 8 is not loaded"):
            loaded(missing, other)
