"""The dry run: stages into a scratch folder, weighs, and commits nothing.

It uses the real staging and the real order rules on the real tables. Only the tables that it writes to, stage and
rejects, are different ones, in a folder that is deleted afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.engines.base import Ledger, Staged, StageRequest
from ordertrail.engines.batch_rows import check_balance
from ordertrail.engines.embedded.feed import feed_notes
from ordertrail.engines.embedded.stage import stage_batch
from ordertrail.engines.local.accepted import WeighedHere
from ordertrail.engines.local.brought import brought
from ordertrail.engines.local.relations import TOUCHED
from ordertrail.engines.local.schema import declared, require_agreement
from ordertrail.engines.local.session import Session, Tables, app_id_of, loaded_files, past, recent_rows, tables_of
from ordertrail.engines.local.weighing import weighing_of
from ordertrail.engines.local.whole import look, progress_of
from ordertrail.look.rows import Cell, Row
from ordertrail.model import Batch, Outcome, Reject, RowCounts, no_probe
from ordertrail.parse.compiled import refuse_unreadable
from ordertrail.parse.database import connected
from ordertrail.rules.accepted import ABSENT, RECORDED
from ordertrail.rules.added import Newcomers
from ordertrail.rules.corrections import Known
from ordertrail.rules.losses import ROLES
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.planning import LoadedFile
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import APP_ID, stage_columns, target_columns

_NEW_APP_ID = "00000000-0000-0000-0000-000000000000"


class Weighed(Struct, frozen=True):
    """A batch that was staged into the scratch folder and weighed.

    Attributes:
        staged: The batch with its manifests, and the files that changed while they were read.
        counts: Rows by outcome, by delivery id.
        rejects: The first rejects of each delivery, by delivery id, in file order.
    """

    staged: Staged
    counts: Mapping[str, RowCounts]
    rejects: Mapping[str, tuple[Reject, ...]]


class Changed(Struct, frozen=True):
    """A shipment that a correction would change.

    Attributes:
        key: Its key columns.
        change: `restored` or `removed`; of a target that keeps all rows `appended`, a row that it would get.
        before: Its contract columns and `_rescued` in the target; None when the target has no row of it.
        after: The same, as the correction would leave them; None when it would be removed.
    """

    key: Row
    change: str
    before: Row | None
    after: Row | None


class WeighedCorrection(Struct, frozen=True):
    """A correction that was staged into the scratch folder and weighed.

    Attributes:
        batch: With its manifests.
        counts: Rows by outcome, by delivery id; of the correction itself, keys by outcome.
        changes: The first shipments that would change, in the order of their keys.
    """

    batch: Batch
    counts: Mapping[str, RowCounts]
    changes: tuple[Changed, ...]


_SAID = {Outcome.INSERTED: "restored", Outcome.UPDATED: "restored", Outcome.REMOVED: "removed"}
_APPENDED = {Outcome.INSERTED: "appended"}


class DryRun:
    """Reads the pipeline's tables and writes to a stage of its own. A pass may run meanwhile.

    Use `open_dry_run`.

    Args:
        session: Target, history and deliveries are the pipeline's; stage and rejects are scratch.
        ledger: The pipeline's ledger.
        tables: Makes the tables of the session for a config; only `widen` asks for others.
    """

    def __init__(self, session: Session, ledger: Ledger, tables: Callable[[Config], Tables] = tables_of) -> None:
        self._session = session
        self._tables = tables
        self.ledger = ledger

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """The `loaded` deliveries with one of these sizes."""
        with duckdb_errors("cannot read the deliveries"):
            return loaded_files(self._session, sizes_bytes)

    def recent_rows(self, vendors: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """See `Books.recent_rows`."""
        with duckdb_errors("cannot read the deliveries"):
            return recent_rows(self._session, vendors)

    def widen(self, request: StageRequest) -> Newcomers:
        """Go on as if the tables had got the columns that the files bring; see `Books.widen`. Nothing is written.

        Args:
            request: The files; `weigh` or `correct` follows.
        """
        with duckdb_errors("cannot plan"):
            session = self._session
            found = brought(request, session.config, lambda: [declared(table) for table in session.tables.all])
            if found.columns:
                session.config = replace(session.config, contract=found.with_columns(session.config.contract))
                session.tables = self._tables(session.config)
                lacking = f"list_concat({ABSENT}, [{', '.join(map(quoted, found.names))}])"
                session.run(
                    f"UPDATE {session.deliveries()} SET absent = CAST(to_json({lacking}) AS VARCHAR) WHERE {RECORDED}"
                )
            return found

    def weigh(self, request: StageRequest, max_rejects: int) -> Weighed:
        """Parse the files and determine the outcome that every row would have.

        Args:
            request: The files, in a batch with a number above `ledger.highest`.
            max_rejects: How many rejects of each delivery to return.
        """
        with duckdb_errors("cannot plan"):
            staged = stage_batch(self._session, request)
            if not staged.batch.manifests:
                return Weighed(staged, {}, {})
            target = self._session.tables.target.snapshot()
            counts = weighing_of(self._session, staged.batch).weigh(target.version)
            check_balance(counts)
            return Weighed(staged, counts, self._rejects(max_rejects))

    def past(self) -> tuple[Known, ...]:
        """All deliveries, for a correction."""
        with duckdb_errors("cannot read the deliveries"):
            return past(self._session)

    def correct(self, request: StageRequest, max_changes: int) -> WeighedCorrection:
        """Determine what a correction would do to the target.

        Args:
            request: The correction and the files that it reads, in a batch with a number above `ledger.highest`.
            max_changes: How many of the shipments that would change to return.
        """
        with duckdb_errors("cannot plan"):
            batch = stage_batch(self._session, request).batch
            target = self._session.tables.target.snapshot()
            weighing = weighing_of(self._session, batch)
            counts = weighing.weigh(target.version)
            check_balance(counts)
            return WeighedCorrection(batch, counts, self._changes(weighing, target, max_changes))

    def _changes(self, weighing: WeighedHere, target: Snapshot, most: int) -> tuple[Changed, ...]:
        session, change = self._session, weighing.change
        contract = session.config.contract
        names = [name_sql(name) for name in (*contract.names, "_rescued")]
        was = ", ".join(f"{name} := b.{name}" for name in names)
        source = "c" if change.weighed.folded is None else "n"
        folded = "" if change.weighed.folded is None else f"LEFT JOIN {change.weighed.folded} n ON f.k = n._k"
        shall = ", ".join(f"{name} := {source}.{name}" for name in names)
        keys = ", ".join(f"{name_sql(name)} := kc{i}" for i, name in enumerate(contract.key))
        said = {CODES[one]: said for one, said in (_APPENDED if session.config.appends else _SAID).items()}
        rows = session.run(
            f"SELECT struct_pack({keys}), f.outcome, CASE WHEN f.pos IS NOT NULL THEN struct_pack({was}) END, "
            f"CASE WHEN f.outcome <> {CODES[Outcome.REMOVED]} THEN struct_pack({shall}) END "
            f"FROM {change.weighed.outcomes} f JOIN {TOUCHED} t ON t.k = f.k "
            f"LEFT JOIN {scan_sql(session.con, target, target_columns(contract))} b ON b._pos = f.pos "
            f"LEFT JOIN {change.rows} c ON c._delivery_no = f.dn AND c._file_row = f.fr {folded} "
            f"WHERE f.outcome <> {CODES[Outcome.UNCHANGED]} ORDER BY t.key LIMIT {most}"
        )
        return tuple(
            Changed(cast(dict[str, Cell], key), said[int(str(code))], cast(Row | None, was), cast(Row | None, shall))
            for key, code, was, shall in rows
        )

    def first_rows(self, most: int) -> dict[str, list[tuple[int, Row]]]:
        """The first good rows of each delivery that was staged, by delivery id: record number and contract columns.

        Args:
            most: How many of each delivery.
        """
        with duckdb_errors("cannot plan"):
            session = self._session
            names = session.config.contract.names
            staged = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(session.config.contract))
            values = ", ".join(f"{name_sql(name)} := {name_sql(name)}" for name in names)
            rows = session.run(
                f"SELECT _delivery_id, _file_row, struct_pack({values}) FROM {staged} WHERE _kind = 'row' QUALIFY "
                f"row_number() OVER (PARTITION BY _delivery_id ORDER BY _file_row) <= {most} ORDER BY 1, 2"
            )
        found: dict[str, list[tuple[int, Row]]] = {}
        for delivery_id, number, row in rows:
            found.setdefault(str(delivery_id), []).append((int(str(number)), cast(Row, row)))
        return found

    def _rejects(self, max_rejects: int) -> dict[str, tuple[Reject, ...]]:
        session = self._session
        staged = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(session.config.contract))
        rows = session.run(
            f"SELECT _delivery_id, _file_row, _raw, _errors, _file_line FROM {staged} WHERE _kind = 'reject' "
            f"QUALIFY row_number() OVER (PARTITION BY _delivery_id ORDER BY _file_row NULLS FIRST) <= {max_rejects} "
            "ORDER BY _delivery_id, _file_row NULLS FIRST"
        )
        found: dict[str, list[Reject]] = {}
        for delivery_id, file_row, raw, errors, file_line in rows:
            listed = found.setdefault(str(delivery_id), [])
            for error in json.loads(str(errors)):
                row, line = (None if number is None else int(str(number)) for number in (file_row, file_line))
                text = None if raw is None else str(raw)
                listed.append(Reject(row, error["column"], error["value"], error["rule"], error["reason"], text, line))
        return {delivery_id: tuple(rejects[:max_rejects]) for delivery_id, rejects in found.items()}


@contextmanager
def open_dry_run(config: Config, scratch: Path) -> Iterator[DryRun]:
    """Open the tables for a dry run; a pipeline without tables gets empty ones in the scratch folder.

    Args:
        config: The pipeline's config. Nothing is written below its folders.
        scratch: An empty folder; the caller deletes it.
    """

    def tables(config: Config) -> Tables:
        real, own = tables_of(config), tables_of(config.embedded_in(scratch / "warehouse"))
        return replace(real, stage=own.stage, rejects=own.rejects) if there else own

    real, own = tables_of(config), tables_of(config.embedded_in(scratch / "warehouse"))
    there = len(look(config)) == len(real.all)
    with connected(config.threads, config.memory_limit_mb, scratch / "spill") as con:
        refuse_unreadable(config, con)
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="ordertrail-cut") as pool:
            session = Session(config, con, pool, own, _NEW_APP_ID, no_probe)
            ledger = Ledger(0, 0, 0, 0)
            if there:
                session.tables = real
                ledger = _standing(session)
                session.tables = replace(real, stage=own.stage, rejects=own.rejects)
            for table in own.all if session.tables is own else (own.stage, own.rejects):
                table.create({APP_ID: session.app_id})
            yield DryRun(session, ledger, tables)


def _standing(session: Session) -> Ledger:
    """Where the pipeline's tables stand; the session gets their application id."""
    require_agreement(session)
    snapshots = [table.snapshot() for table in session.tables.all]
    for snapshot in snapshots:
        snapshot.require_writable()
    session.app_id = app_id_of(snapshots[0])
    stands = progress_of(dict(zip(ROLES, snapshots, strict=True)), session.app_id)
    notes = feed_notes(session.config, snapshots[1])
    return Ledger(stands.staged, stands.done, stands.done, stands.highest, notes=notes)
