"""Chooses the weighing of a batch in this process: by the pipeline's mode, and whether the batch is a correction."""

from __future__ import annotations

from ordertrail.engines.local.accepted import WeighedHere
from ordertrail.engines.local.append import AppendWeighing
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.weigh import LocalWeighing, Reads
from ordertrail.model import Batch


def weighing_of(session: Session, batch: Batch, reads: Reads | None = None) -> WeighedHere:
    """The weighing of a batch in this process.

    Args:
        session: The pass.
        batch: As it is staged: an ordinary one, or a correction.
        reads: Provides the rows to weigh against; None means the session's tables.
    """
    if batch.corrects is not None:
        from ordertrail.engines.local.append_correct import AppendCorrection
        from ordertrail.engines.local.correct import CorrectionWeighing

        return (AppendCorrection if session.config.appends else CorrectionWeighing)(session, batch, reads)
    return (AppendWeighing if session.config.appends else LocalWeighing)(session, batch, reads)
