"""The load of a batch: the one sequence of steps, on every engine.

Is the batch recorded already? Committed already? Otherwise weigh the rows, check that they add up (P3), and apply them
to the target. Then record: history, rejects and, last, deliveries, the done mark. The seams of `base` hide how a step
works; an engine composes a load from parts.
"""

from __future__ import annotations

from collections.abc import Mapping

from ordertrail.engines.base import Applier, Recorder, Weighing
from ordertrail.engines.batch_rows import check_balance
from ordertrail.errors import CommitConflictError, ForeignChangeError, TableError
from ordertrail.model import Batch, RowCounts
from ordertrail.trace import step


class Load:
    """One batch's load: `run`, then `record`.

    Args:
        batch: As it is staged.
        weighing: Determines the outcomes of its rows.
        applier: Applies them to the target.
        recorder: Reads what the tables say about the batch, and records it.
    """

    def __init__(self, batch: Batch, weighing: Weighing, applier: Applier, recorder: Recorder) -> None:
        self.batch = batch
        self._weighing = weighing
        self._applier = applier
        self._recorder = recorder

    def run(self) -> Mapping[str, RowCounts]:
        """See `Engine.load`. Outcomes that the history has of the batch count, even if the target was rebuilt since."""
        recorded = self._recorder.recorded()
        if recorded is not None:
            check_balance(recorded)
        version, loaded = self._recorder.target()
        if loaded >= self.batch.number:
            if recorded is not None and self.batch.corrects is None:
                return recorded
            return {**self._weighed_again(), **(recorded or {})}
        counts = self._applier.share(version)
        if counts is None:
            with step("weigh"):
                counts = self._weighing.weigh(version)
                check_balance(counts)
            with step("apply"):
                self._applier.apply(version)
        return {**counts, **(recorded or {})}

    def record(self, counts: Mapping[str, RowCounts]) -> None:
        """See `Engine.record`."""
        with step("record"):
            self._recorder.history()
            self._recorder.rejects()
            self._recorder.deliveries(counts)

    def close(self) -> None:
        """Release all resources. Idempotent."""
        self._weighing.close()

    def _weighed_again(self) -> Mapping[str, RowCounts]:
        """The outcomes of a batch that was applied by a pass that was killed before it recorded it."""
        version = self._recorder.committed()
        if version is None:
            raise ForeignChangeError(
                f"the commit of batch {self.batch.number} is gone from the log of {self._recorder.target_name}",
                hint="run ordertrail rebuild, then run again: it takes the batch from the stage",
            )
        counts = self._weighing.weigh_again(version)
        check_balance(counts)
        return counts


def overtaken(batch: Batch) -> CommitConflictError:
    """The error of a pass that finds its batch staged by another one."""
    return CommitConflictError(
        f"another pass has staged batch {batch.number} meanwhile", hint="nothing was written; run again"
    )


def require_staged(staged: int | None, batch: Batch) -> None:
    """Refuse a batch that the stage does not hold.

    Args:
        staged: The number of the batch that it holds; None for none.
        batch: The one to be loaded.

    Raises:
        ForeignChangeError: Another pass has staged meanwhile.
    """
    if staged != batch.number:
        raise ForeignChangeError(
            f"the stage holds batch {staged}, not {batch.number}",
            hint="another pass has staged meanwhile; run again",
        )


def loaded(load: Load | None, batch: Batch) -> Load:
    """The load of the batch to record.

    Raises:
        TableError: The batch was not loaded.
    """
    if load is None or load.batch.number != batch.number:
        raise TableError(f"batch {batch.number} is not loaded", hint="load it first")
    return load
