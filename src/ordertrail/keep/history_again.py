"""Writes history and rejects anew from replayed batches: one commit a table, which removes all old files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pyarrow as pa
from msgspec.structs import replace

from ordertrail.delta.actions import Txn
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, Table, duckdb_errors, scan_sql
from ordertrail.engines.ledger import archive_id
from ordertrail.engines.local.anew import write_anew
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.whole import log_errors
from ordertrail.errors import StorageError, TableError
from ordertrail.keep.past import Past
from ordertrail.keep.replay import Replay
from ordertrail.model import Outcome, RowCounts
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import APP_ID, DELIVERIES, REJECTS, history_columns, owned_by

OPERATION = "REBUILD"


def standing(session: Session, role: str, table: Table) -> Snapshot | None:
    """The snapshot of a table that is to be written anew; None when there is no table.

    Args:
        session: Its application id is known.
        role: The table's role.
        table: The table; its data files may be damaged or gone.

    Raises:
        TableError: Its log is damaged, or it is not ours; the hint says to move it away.
    """
    if not table.log.exists():
        return None
    with log_errors(role, table.root):
        snapshot = table.snapshot()
        snapshot.require_writable()
        if snapshot.metadata.properties.get(APP_ID) != session.app_id:
            raise TableError(f"the table {table.root} belongs to another pipeline")
    return snapshot


def keep_rows(replay: Replay, history: Snapshot, wanted: Sequence[Past]) -> set[str]:
    """Create `kept_rows`: the rows of some deliveries that the old history still has, complete and unchanged.

    Each data file is read separately, so that a damaged one does not affect the others. Rows are verified by their
    number, their places in the file and their hashes.

    Args:
        replay: Gets the table.
        history: The old one.
        wanted: Deliveries whose file cannot be read.

    Returns:
        Ids of the deliveries whose rows are all there.
    """
    session = replay.session
    columns = history_columns(session.config.contract)
    ids = ", ".join(quoted(one.manifest.delivery_id) for one in wanted)
    empty = replace(history, files={})
    session.run(f"CREATE OR REPLACE TEMP TABLE kept_rows AS FROM {scan_sql(session.con, empty, columns)}")
    for path, file in history.files.items():
        rows = scan_sql(session.con, replace(history, files={path: file}), columns)
        try:
            with duckdb_errors("it cannot be read"):
                session.run(f"INSERT INTO kept_rows SELECT * FROM {rows} WHERE _delivery_id IN ({ids})")
        except (TableError, StorageError):
            continue
    hashed = row_hash_sql({name: name_sql(name) for name in (*session.config.contract.names, "_rescued")})
    found = session.run(
        "SELECT _delivery_id, count(*), count(DISTINCT _file_row), count(*) FILTER (_row_hash IS DISTINCT FROM h) "
        f"FROM (SELECT *, {hashed} AS h FROM kept_rows) GROUP BY ALL"
    )
    sound = {str(i): int(str(rows)) for i, rows, places, wrong in found if rows == places and not wrong}
    return {one.manifest.delivery_id for one in wanted if sound.get(one.manifest.delivery_id, 0) == one.accepted}


def write_history(session: Session, replay: Replay, base: Snapshot | None, done: int) -> int:
    """Replace all rows by the replayed ones, in one commit.

    Args:
        session: A session on the pipeline's own tables.
        replay: All batches up to `done` are loaded.
        base: The old history; None creates the table.
        done: The last batch with the done mark.

    Returns:
        Its rows.

    Raises:
        CommitConflictError: A pass on another machine has been here meanwhile; nothing was written.
        StorageError: The disk is full or fails; nothing was written.
    """
    return _put(session, replay, session.tables.history, base, replay.rows_sql(replay.session.tables.history), done)


def write_rejects(session: Session, replay: Replay, base: Snapshot | None, done: int) -> tuple[int, bool]:
    """Like `write_history`, for the rejects. Those of deliveries that were not parsed again are copied.

    Returns:
        The number of rows, and whether all of those could be copied.
    """
    rows = replay.rows_sql(replay.session.tables.rejects)
    whole = base is not None
    if base is not None:
        ids = ", ".join(quoted(one) for one in replay.rejected) or "''"
        names = ", ".join(name_sql(column.name) for column in REJECTS)
        old = (
            f"SELECT {names} FROM {scan_sql(replay.session.con, base, REJECTS)} "
            f"WHERE delivery_id NOT IN ({ids}) AND batch <= {done}"
        )
        try:
            with duckdb_errors("the rejects cannot be read"):
                replay.session.run(f"SELECT count(*) FROM ({old})")
            rows = f"{rows} UNION ALL {old}"
        except (TableError, StorageError):
            whole = False
    return _put(session, replay, session.tables.rejects, base, rows, done), whole


def amend_counts(session: Session, past: Sequence[Past], counts: Mapping[str, RowCounts]) -> list[str]:
    """Write the outcomes of undisturbed passes into deliveries whose outcomes a foreign write had distorted.

    Args:
        session: A session on the pipeline's own tables.
        past: The deliveries as they are recorded.
        counts: The replayed counts, by delivery id.

    Returns:
        Ids of the deliveries that were amended; when there are none, nothing is written.
    """
    changed = [
        one.manifest.delivery_id for one in past if counts.get(one.manifest.delivery_id, one.counts) != one.counts
    ]
    if not changed:
        return []
    table = session.tables.deliveries
    base = table.snapshot()
    found = {"delivery_id": pa.array(changed, pa.string())}
    for outcome in Outcome:
        found[f"rows_{outcome}"] = pa.array([getattr(counts[one], outcome) for one in changed], pa.int64())
    names = ", ".join(
        f"coalesce(a.{name_sql(column.name)}, d.{name_sql(column.name)}) AS {name_sql(column.name)}"
        if column.name in found
        else f"d.{name_sql(column.name)}"
        for column in DELIVERIES
    )
    session.con.register("amended", pa.table(found))
    path = table.new_path("r")
    rows = session.copy(
        f"SELECT {names} FROM {scan_sql(session.con, base, DELIVERIES)} d LEFT JOIN amended a USING (delivery_id)", path
    )
    session.con.unregister("amended")
    app_id = archive_id(session.app_id)
    txn = Txn(app_id, base.last_txn(app_id), time.time_ns() // 1_000_000)
    table.commit(base, Change(txn, OPERATION, [table.added(path, rows)], list(base.files.values())))
    session.probe("rebuild.deliveries")
    return changed


def _put(session: Session, replay: Replay, table: Table, base: Snapshot | None, sql: str, done: int) -> int:
    if base is None:
        table.create(owned_by(session.app_id, session.config.name))
        session.probe(f"rebuild.{table.root.name}.table")
        base = table.snapshot()
    files = write_anew(replay.session, table, sql, done)
    session.probe(f"rebuild.{table.root.name}.files")
    rows = sum(file.rows or 0 for file in files)
    txn = Txn(session.app_id, done, time.time_ns() // 1_000_000)
    version = table.commit(base, Change(txn, OPERATION, files, list(base.files.values()), anew=True))
    session.probe(f"rebuild.{table.root.name}.committed")
    table.checkpoint_if_due(version)
    return rows
