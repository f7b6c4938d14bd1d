"""Adds to tables in folders the columns that the files of a batch bring, before the batch is staged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from ordertrail.delta.actions import Txn
from ordertrail.delta.table import Change
from ordertrail.engines.base import StageRequest
from ordertrail.engines.embedded.record import amend
from ordertrail.engines.ledger import archive_id
from ordertrail.engines.local.brought import brought
from ordertrail.engines.local.schema import ATTEMPTS, bring_up_to_date, declared
from ordertrail.engines.local.session import Session
from ordertrail.errors import CommitConflictError
from ordertrail.model import Contract
from ordertrail.rules.accepted import RECORDED
from ordertrail.rules.added import Newcomers, lacking_too

OPERATION = "ADD COLUMNS"
"""Name of the commit of the deliveries."""


def widen(session: Session, request: StageRequest, follow: Callable[[Contract], None]) -> Newcomers:
    """See `Books.widen`.

    First the deliveries learn that they lack the columns, for nobody reads there of columns that the contract does not
    have; then the history gets columns and contract, and the other tables follow it.

    Args:
        session: The pass.
        request: The batch.
        follow: Lets the session work under another contract.
    """
    found = brought(request, session.config, lambda: [declared(table) for table in session.tables.all])
    if found.columns:
        _note_absent(session, found.names)
        follow(found.with_columns(session.config.contract))
        bring_up_to_date(session)
    return found


def _note_absent(session: Session, names: Sequence[str]) -> None:
    """Say of the deliveries that are there that they lack columns, in one commit."""
    rows = session.run(f"SELECT delivery_id, absent FROM {session.deliveries()} WHERE {RECORDED}")
    before = {str(one): None if text is None else str(text) for one, text in rows}
    after = {one: lacking_too(text, names) for one, text in before.items()}
    if after.items() <= before.items():
        return
    changed = pa.table(
        {"delivery_id": pa.array(list(after), pa.string()), "absent": pa.array(list(after.values()), pa.string())}
    )
    table, name = session.tables.deliveries, archive_id(session.app_id)
    for attempt in range(ATTEMPTS):
        base = table.snapshot()
        path = table.new_path("absent")
        try:
            file = table.added(path, amend(session, base, changed, ("absent",), path))
            txn = Txn(name, base.last_txn(name), 0)
            table.commit(base, Change(txn, OPERATION, [file], list(base.files.values())))
            break
        except CommitConflictError:
            path.unlink(missing_ok=True)
            if attempt + 1 == ATTEMPTS:
                raise
    session.probe("absent.committed")
