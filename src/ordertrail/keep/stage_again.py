"""Recreates a lost stage without rows: once its batch has the done mark, no step needs them."""

from __future__ import annotations

import time

from ordertrail.delta.actions import Txn
from ordertrail.delta.table import Change
from ordertrail.engines.ledger import archive_id
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.whole import cure, log_errors
from ordertrail.errors import TableError
from ordertrail.rules.tables import owned_by

OPERATION = "REBUILD"


def stage_again(session: Session, done: int, *, records_follow: bool = False) -> str | None:
    """Bring a missing stage, or one that is behind, up to the done mark; idempotent.

    The next pass finds files of that batch that were not archived yet in the source: they are duplicates.

    Args:
        session: Its application id is known.
        done: The last batch with the done mark.
        records_follow: Whether history and rejects are written anew afterwards, up to the done mark.

    Returns:
        What was done; None when the stage needs nothing.

    Raises:
        TableError: The stage is damaged; or it is lost, and history or rejects have a batch that only it could finish.
    """
    tables = session.tables
    stage = tables.stage
    with log_errors("stage", stage.root):
        there = stage.newest().last_txn(session.app_id) if stage.log.exists() else None
    records = [table for table in (tables.history, tables.rejects) if table.log.exists()]
    ahead = max((table.newest().last_txn(session.app_id) for table in records), default=0)
    needed = ahead if ahead > done and not records_follow else done
    if there is not None and there >= needed:
        return None
    if needed > done:
        raise TableError(
            f"the stage has lost batch {needed}, which was not finished, and records of it are there",
            hint=cure("stage", ahead=True),
        )
    stage.create(owned_by(session.app_id, session.config.name))
    now_ms = time.time_ns() // 1_000_000
    base = stage.newest()
    stage.commit(base, Change(Txn(session.app_id, done, now_ms), OPERATION, (), list(base.files.values()), anew=True))
    session.probe("rebuild.stage")
    ledger = tables.deliveries.snapshot()
    if ledger.last_txn(archive_id(session.app_id)) < done:
        tables.deliveries.commit(ledger, Change(Txn(archive_id(session.app_id), done, now_ms), "ARCHIVE"))
    return f"the stage was lost; it is created again, without rows: batch {done} is done"
