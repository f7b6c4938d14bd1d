"""The books of tables that only Spark reads: opens them, tells where the last pass stopped and what is staged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ordertrail.engines.base import Admit, Ledger, StageRequest, anyone
from ordertrail.engines.batch_rows import known_deliveries
from ordertrail.engines.ledger import adopt_id, agreed_app_id, app_id_in, reset_warnings
from ordertrail.engines.local.whole import require_whole
from ordertrail.engines.spark.migrate import finish_migration
from ordertrail.engines.spark.record import mark_archived
from ordertrail.engines.spark.schema import bring_up_to_date
from ordertrail.engines.spark.session import spark_errors
from ordertrail.engines.spark.stage import read_staged
from ordertrail.engines.spark.tables import SparkTable, TableState
from ordertrail.engines.spark.widen import widen
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import TableError, UnsupportedTableError
from ordertrail.model import Batch, State
from ordertrail.parse.compiled import refuse_unreadable
from ordertrail.rules.added import Newcomers, with_added
from ordertrail.rules.change_feed import FEED, feed_note
from ordertrail.rules.constraints import constraints_of
from ordertrail.rules.corrections import Known, undone
from ordertrail.rules.losses import ROLES, Standing
from ordertrail.rules.planning import LoadedFile
from ordertrail.rules.schema import CONTRACT
from ordertrail.rules.tables import owned_by
from ordertrail.rules.volume import RECENT

RETENTION = "delta.setTransactionRetentionDuration"
"""A table property that makes Delta forget `txn`s; refused on our tables."""


class CatalogBooks:
    """`Books` of tables that Spark reads and writes.

    Args:
        run: The pass; `open` fills in what the steps of a batch share.
    """

    def __init__(self, run: SparkPass) -> None:
        self.run = run

    def open(self, admit: Admit = anyone) -> Ledger:
        """See `Books.open`."""
        refuse_unreadable(self.run.config)
        with spark_errors("cannot open the tables"):
            run = self.run
            states = self._made(admit)
            run.constraints = constraints_of(run.config.contract, states[1].properties)
            run.target_version = states[1].version
            batches = [state.batches.get(run.app_id, 0) for state in states]
            staged, target, *_, done = batches
            archived = states[-1].batches.get(run.archive_id, 0)
            run.resets = self._foreign_resets(states[1], target, done)
            for table, state in zip(run.tables.all, states, strict=True):
                run.saw(table, {run.app_id: 0, run.archive_id: 0, **state.batches})
            return Ledger(staged, done, archived, max(batches), run.resets, run.app_id, _feed_notes(run, states[1]))

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """See `Books.loaded_files`."""
        with spark_errors("cannot read the deliveries"):
            known = self.run.deliveries()
        sizes = pa.array(sorted(set(sizes_bytes)), pa.int64())
        states = pa.array([str(State.LOADED), str(State.UNDONE)])
        known = known.filter(pc.and_(pc.is_in(known["state"], states), pc.is_in(known["size_bytes"], sizes)))
        times_us = known["modified_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
        return tuple(
            LoadedFile(
                delivery_id=row["delivery_id"],
                vendor=row["vendor"],
                sha256=row["sha256"],
                contract_hash=row["contract_hash"],
                file_key=row["file_key"],
                clean_path=row["path"],
                mtime_ms=time_us // 1000,
                rows_parsed=row["rows_parsed"],
                size_bytes=row["size_bytes"],
                undone=undone(row["changed_by"], row["changed_why"]) if row["state"] == State.UNDONE else None,
            )
            for row, time_us in zip(known.to_pylist(), times_us, strict=True)
        )

    def recent_rows(self, vendors: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """See `Books.recent_rows`."""
        with spark_errors("cannot read the deliveries"):
            known = self.run.deliveries()
        known = known.filter(pc.equal(known["state"], str(State.LOADED))).sort_by([("delivery_id", "descending")])
        of = {name: known.filter(pc.equal(known["vendor"], name)) for name in vendors}
        return {name: tuple(rows["rows_parsed"][:RECENT].to_pylist()) for name, rows in of.items()}

    def past(self) -> tuple[Known, ...]:
        """See `Books.past`."""
        with spark_errors("cannot read the deliveries"):
            return known_deliveries(self.run.tables.deliveries.rows().toArrow())

    def widen(self, request: StageRequest) -> Newcomers:
        """See `Books.widen`."""
        with spark_errors("cannot add columns"):
            return widen(self.run, request)

    def staged(self) -> Batch:
        """See `Books.staged`."""
        with spark_errors("cannot read the stage"):
            return read_staged(self.run)

    def archived(self, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
        """See `Books.archived`."""
        with spark_errors("cannot note what is archived"):
            mark_archived(self.run, batch, elsewhere)

    def close(self) -> None:
        """See `Books.close`."""
        with spark_errors("cannot release Spark"):
            self.run.close()

    # -- parts ----------------------------------------------------------------------------------------------

    def _made(self, admit: Admit) -> list[TableState]:
        """The state of all five tables; missing ones are created with the application id of the others."""
        run = self.run
        known, found = existing(run)
        run.app_id = admit(found)
        if finish_migration(run, known):
            known, _ = existing(run)
        for table in bring_up_to_date(run, known):
            known[table] = table.state()
        tables = run.tables.all
        missing = [table for table in tables if table not in known]
        properties = owned_by(run.app_id, run.config.name)
        for table in missing:
            is_target = table is run.tables.target
            feed = is_target and run.config.change_feed != "off"
            table.create(properties, vectors=is_target and run.config.vectors, feed=feed)
        return [known.get(table) or table.state() for table in tables]

    def _foreign_resets(self, state: TableState, target: int, done: int) -> tuple[str, ...]:
        """Warnings about commits of others that removed rows of the target wholesale, until it is written anew."""
        run = self.run
        name = run.tables.target.name
        ours = {run.app_id, adopt_id(run.app_id)}
        if not target and not done:
            return ()
        since: list[tuple[int, str, str]] = []
        for one in run.tables.target.commits(state.recent):
            if ours & one.batches.keys():
                return tuple(dict.fromkeys((*reset_warnings(name, since), *one.resets)))
            if not one.batches:
                since.append((one.version, one.operation, one.mode))
        return reset_warnings(name, since)


def existing(run: SparkPass) -> tuple[dict[SparkTable, TableState], str | None]:
    """The tables that are there, with their state, and the application id that they agree on; None without tables.

    Args:
        run: From here on it has that id, and the columns that the tables got from files.

    Raises:
        TableError: One of the tables is lost, or somebody changed one.
    """
    states = {table.name: table.state() for table in run.tables.all if table.exists()}
    if (history := states.get(run.tables.history.name)) is not None:
        run.follow(with_added(run.config.contract, history.properties.get(CONTRACT)))
    known = {table: states[table.name] for table in run.tables.all if table.name in states}
    app_ids: list[str] = []
    for table, state in known.items():
        app_ids.append(app_id_in(state.properties, table.name))
        _require_lasting(table.name, state)
    found = agreed_app_id(app_ids, f"{run.config.catalog}.{run.config.schema}")
    run.app_id = found or ""
    _require_whole(run, known)
    return known, found


def _require_whole(run: SparkPass, known: Mapping[SparkTable, TableState]) -> None:
    """Refuse tables when one is lost, see `whole.require_whole`."""
    found: list[Standing] = []
    done = max((state.batches.get(run.app_id, 0) for state in known.values()), default=0)
    if (ledger := known.get(run.tables.deliveries)) is not None:
        done = ledger.batches.get(run.app_id, 0)
    for role, table in zip(ROLES, run.tables.all, strict=True):
        state = known.get(table)
        # Rows alone do not show a batch without rows.
        known_batch = state is not None and (state.by_commits or table is run.tables.deliveries)
        batch = state.batches.get(run.app_id, 0) if state is not None else None
        found.append(Standing(role, table.name, batch if known_batch or state is None else max(done, batch or 0)))
    try:
        require_whole(found)
    except TableError as error:
        hint = "restore the table as its catalog offers it (UNDROP TABLE, RESTORE TABLE), or from a backup"
        raise TableError(error.message, hint=error.hint if run.config.in_folders else hint) from error


def _feed_notes(run: SparkPass, target: TableState) -> tuple[str, ...]:
    """A line that says how config and target differ in the change data feed, if they do."""
    on = target.properties.get(FEED, "").lower() == "true"
    note = feed_note(run.config.change_feed, run.tables.target.name, on=on)
    return () if note is None else (note,)


def _require_lasting(name: str, state: TableState) -> None:
    if RETENTION in state.properties:
        raise UnsupportedTableError(
            f"the table {name} has the property {RETENTION}: batches that are loaded would be forgotten",
            hint=f"ALTER TABLE {name} UNSET TBLPROPERTIES ('{RETENTION}')",
        )
