"""Brings the tables to another contract: a batch whose new data files are written before it is staged.

The stage's commit names these files, so a migration that was cut needs only its commits: history, target, rejects and,
last, deliveries, the done mark. Whoever opens the tables next finishes it. Readers see each table change in one commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from ordertrail.delta.actions import AddFile, Json, Metadata, delta_type
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, Table
from ordertrail.engines.batch_rows import delivery_rows, header_rows
from ordertrail.engines.embedded.migrated import Told, tell
from ordertrail.engines.embedded.record import amend, mark_archived
from ordertrail.engines.local.anew import write_anew
from ordertrail.engines.local.bearers import find_bearers
from ordertrail.engines.local.convert import Conversion
from ordertrail.engines.local.find import cover, open_index
from ordertrail.engines.local.others import carry_by_key
from ordertrail.engines.local.relations import Relation
from ordertrail.engines.local.schema import unfinished_migration
from ordertrail.engines.local.session import Session, others_on
from ordertrail.errors import ConfigError, ForeignChangeError, TableError, UsageError
from ordertrail.log import Log
from ordertrail.model import Batch, Contract, RowCounts
from ordertrail.rules.migration import Effect, Migration, carried_contract, sources
from ordertrail.rules.schema import CONTRACT, Terms, terms_in, terms_of
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import TableColumn

OPERATION = "MIGRATE"
"""Name of the commits in the logs of the tables."""

_log = Log()


class Preparation:
    """Writes the new data files of a migration; nothing is committed.

    Args:
        session: Its config has the new contract.
        terms: The contract that the tables carry.
        conversion: The history under the new contract.
        done: The last batch with the done mark.
        effect: What the migration may change in the target.
    """

    def __init__(self, session: Session, terms: Terms, conversion: Conversion, done: int, effect: Effect) -> None:
        self._session = session
        self._terms = terms
        self._conversion = conversion
        self._done = done
        self._effect = effect
        tables = session.tables
        self.bases = (tables.history.newest(), tables.target.newest(), tables.deliveries.newest())
        self.history: list[AddFile] = []
        self.target: list[AddFile] = []
        self.deliveries: list[AddFile] = []
        self.told = Told()

    def write(self, batch: Batch, absent: Mapping[str, tuple[str, ...]]) -> None:
        """Write the new data files of history, deliveries and target, and index the target's.

        Where the target keeps all rows, no step rewrites rows: then history and target keep their files.

        Args:
            batch: The migration, with its manifest.
            absent: By delivery id, the columns that a delivery lacks under the new contract, where they change.

        Raises:
            StorageError: The disk is full or fails; what was written is removed again.
        """
        session, tables = self._session, self._session.tables
        history, target, deliveries = self.bases
        try:
            if not session.config.appends:
                self.history = write_anew(session, tables.history, self._conversion.rows_sql(), self._done)
                session.probe("migrate.history.files")
            self.deliveries = [_amended(session, deliveries, batch, absent, self._effect)]
            session.probe("migrate.deliveries.files")
            if not session.config.appends:
                self._write_target(history, target, deliveries)
                session.probe("migrate.target.files")
        except BaseException:
            for table, files in ((tables.history, self.history), (tables.deliveries, self.deliveries)):
                for file in files:
                    (table.root / file.path).unlink(missing_ok=True)
            raise

    def _write_target(self, history: Snapshot, target: Snapshot, deliveries: Snapshot) -> None:
        held = {file.path: file for file in self.history}
        table, contract = self._session.tables.history, self._session.config.contract
        new = replace(history, files=held, metadata=new_metadata(table, history, self._terms, contract))
        ledger = replace(deliveries, files={file.path: file for file in self.deliveries})
        others, carried = _carried(self._session, self._terms, target)
        self.target = write_target(self._session, target, new, ledger, self._done, others, carried)
        self.told = tell(self._session, self._terms, target, self.target)

    def migration(self, before: str, after: str, steps: Sequence[str]) -> Migration:
        """What the batch stages.

        Args:
            before: The contract that the tables carry.
            after: The new one.
            steps: For people.
        """
        history, target, deliveries = (tuple(map(_said, f)) for f in (self.history, self.target, self.deliveries))
        first, second, third = (base.version for base in self.bases)
        versions, feed = (first, second, third), tuple(map(_said, self.told.feed))
        return Migration(before, after, tuple(steps), versions, history, target, deliveries, self.told.moves, feed)


def write_target(
    session: Session,
    base: Snapshot,
    history: Snapshot,
    deliveries: Snapshot,
    done: int,
    others: Sequence[TableColumn],
    carried: Relation | None,
) -> list[AddFile]:
    """Write the target anew, as the fold of the history, and index it.

    Args:
        session: Its config has the contract of the fold.
        base: The target as it is.
        history: The history to fold.
        deliveries: The ledger that goes with it.
        done: The last batch that counts.
        others: Columns of others on the target.
        carried: Their values by key; None where there are none.
    """
    table = session.tables.target
    session.read_deliveries(deliveries)
    bearers = find_bearers(session, history, deliveries, done)
    session.probe("migrate.folded")
    files = write_anew(session, table, bearers.rows_sql(others, carried), done)
    rows = sum(file.rows or 0 for file in files)
    if rows != bearers.rows:
        raise TableError(
            f"{rows} rows written for {bearers.rows} keys; nothing was committed",
            hint="run ordertrail verify; if it finds nothing, this is a bug in ordertrail, please report it",
        )
    if base.takes_vectors:
        session.index = open_index(session.config, base)
        cover(session, base, files)
    return files


def stage_migration(session: Session, batch: Batch, terms: Terms) -> None:
    """Overwrite the stage with a migration, in one commit that also gives it the new contract's columns.

    Args:
        session: Its config has the new contract.
        batch: The migration; from here on it happens.
        terms: The contract that the tables carry.

    Raises:
        CommitConflictError: Another pass has staged meanwhile; nothing was written.
    """
    table = session.tables.stage
    base = table.newest()
    path = table.new_path(f"b{batch.number:06d}-deliveries")
    rows = header_rows(batch, [None for _ in batch.files])
    pq.write_table(rows, path)
    add = [table.added(path, rows.num_rows)]
    metadata = new_metadata(table, base, terms, session.config.contract)
    remove = list(base.files.values())
    info: dict[str, Json] = {"run_id": batch.run_id, "deliveries": len(batch.manifests)}
    change = Change(session.txn(batch), OPERATION, add, remove, info, anew=True, metadata=metadata)
    table.commit(base, change)
    session.probe("migrate.stage.committed")


def finish_migration(session: Session) -> None:
    """Do the commits that a staged migration lacks. Idempotent; called before anything else looks at the tables.

    Args:
        session: Its config must have the contract that the migration leads to.

    Raises:
        ConfigError: The config has another contract.
        ForeignChangeError: Somebody else wrote to the history meanwhile.
    """
    found = unfinished_migration(session)
    if found is None:
        return
    batch, migration = found
    if terms_of(session.config.contract).text != migration.after:
        raise ConfigError(
            f"batch {batch.number}, which changes the tables to another contract ({'; '.join(migration.steps)}), is "
            "not finished, and [contract] was changed since",
            hint="put [contract] back as it was for ordertrail migrate --apply, then run ordertrail run: it finishes "
            "the batch",
        )
    _log.info("finishing a migration of the tables", batch=batch.number)
    commit_migration(session, batch, migration)


def commit_migration(session: Session, batch: Batch, migration: Migration) -> None:
    """Commit what a migration lacks: history, target, rejects and, last, deliveries.

    Args:
        session: Its config has the new contract.
        batch: As it is staged.
        migration: Likewise.
    """
    found, tables, app_id = (batch, migration), session.tables, session.app_id
    history, target, deliveries = tables.history.newest(), tables.target.newest(), tables.deliveries.newest()
    done = deliveries.last_txn(app_id)
    if history.last_txn(app_id) < batch.number:
        _require(tables.history, history, migration.versions[0])
        _commit(session, tables.history, history, found, _files(migration.history))
        session.probe("migrate.history.committed")
    if target.last_txn(app_id) < batch.number:
        files, told = _files(migration.target), Told(migration.moves, _files(migration.feed))
        anew = not session.config.appends
        if anew and not _same_rows(tables.target, migration.versions[1], target.version):
            ledger = replace(deliveries, files={file.path: file for file in _files(migration.deliveries)})
            files = _folded_again(session, migration, target, ledger, done)
            told = tell(session, _terms(migration.before), target, files)
        _commit(session, tables.target, target, found, files, told)
        session.probe("migrate.target.committed")
    rejects = tables.rejects.newest()
    if rejects.last_txn(app_id) < batch.number:
        tables.rejects.commit(rejects, Change(session.txn(batch), OPERATION))
        session.probe("migrate.rejects.committed")
    if done < batch.number:
        _require(tables.deliveries, deliveries, migration.versions[2])
        change = Change(session.txn(batch), OPERATION, _files(migration.deliveries), list(deliveries.files.values()))
        tables.deliveries.commit(deliveries, change)
        session.probe("migrate.deliveries.committed")
    mark_archived(session, batch, {})


def new_metadata(table: Table, base: Snapshot, terms: Terms, contract: Contract) -> Metadata:
    """Schema and properties of a table under another contract; what others wrote into them stays.

    Args:
        table: Its columns are those of the new contract.
        base: As it is.
        terms: The contract that the tables carry. Columns that leave it stay in the history, and may be NULL there.
        contract: The new one.
    """
    fields = {field["name"]: field for field in json.loads(base.metadata.schema_string)["fields"]}
    wanted = []
    for column in table.columns:
        kind = delta_type(column.type)
        old = fields.get(column.name, {})
        kept = old.get("metadata", {}) if old.get("type") == kind else {}
        wanted.append({"name": column.name, "type": kind, "nullable": not column.required, "metadata": kept})
    gone = {column.name for column in table.columns}
    gone |= {old for name, old in sources(terms, contract).items() if old is not None and old != name}
    if not any(column.name == "_outcome" for column in table.columns):
        gone |= set(terms.columns)
    same = {name.lower() for name in gone}  # Delta takes names that differ in case for one
    wanted += [{**field, "nullable": True} for name, field in fields.items() if name.lower() not in same]
    return replace(base.metadata, schema_string=json.dumps({"type": "struct", "fields": wanted}))


# -- parts ----------------------------------------------------------------------------------------------------------


def _commit(
    session: Session,
    table: Table,
    base: Snapshot,
    step: tuple[Batch, Migration],
    files: Sequence[AddFile],
    told: Told | None = None,
) -> None:
    """Replace all rows of a table and its schema, in one commit.

    Where the target keeps all rows, only schema and properties are replaced.
    """
    batch, migration = step
    metadata = new_metadata(table, base, _terms(migration.before), session.config.contract)
    if table is session.tables.history:
        metadata = replace(metadata, properties={**metadata.properties, CONTRACT: migration.after})
    anew = not session.config.appends
    gone, told = list(base.files.values()) if anew else [], told or Told()
    change = Change(
        session.txn(batch), OPERATION, files, gone, anew=anew, metadata=metadata, feed=told.feed, moves=told.moves
    )
    version = table.commit(base, change)
    table.checkpoint_if_due(version)


def _folded_again(
    session: Session, migration: Migration, target: Snapshot, ledger: Snapshot, done: int
) -> list[AddFile]:
    """The target's new data files, when somebody wrote to it after they were written first."""
    terms = _terms(migration.before)
    others, carried = _carried(session, terms, target)
    return write_target(session, target, session.tables.history.newest(), ledger, done, others, carried)


def _carried(session: Session, terms: Terms, target: Snapshot) -> tuple[tuple[TableColumn, ...], Relation | None]:
    """Columns of others on the target, and their values by key."""
    before = carried_contract(terms, session.config.contract)
    others = others_on(target, before)
    if not others:
        return (), None
    if before.key != session.config.contract.key and set(before.key) != set(session.config.contract.key):
        names = ", ".join(one.name for one in others)
        raise UsageError(
            f"others added columns to the target ({names}), and their values go with the old key; nothing was changed",
            hint="take them out of the target first",
        )
    old = replace(session, config=replace(session.config, contract=before))
    return others, carry_by_key(old, target, others)[0]


def _amended(
    session: Session, base: Snapshot, batch: Batch, absent: Mapping[str, tuple[str, ...]], effect: Effect
) -> AddFile:
    """Write the deliveries again, with the migration itself and with other absent columns."""
    table = session.tables.deliveries
    changed = pa.table(
        {
            "delivery_id": pa.array(list(absent), pa.string()),
            "absent": pa.array([json.dumps(list(names)) for names in absent.values()], pa.string()),
        }
    )
    rows = delivery_rows(batch, {one.delivery_id: RowCounts() for one in batch.manifests})
    told = pa.array([effect.text] * rows.num_rows, pa.string())
    rows = rows.set_column(rows.schema.get_field_index("migrated"), "migrated", told)
    small, path = table.new_path("m"), table.new_path(f"b{batch.number:06d}")
    pq.write_table(rows, small)
    more = f" UNION ALL BY NAME FROM read_parquet({quoted(str(small))})"
    try:
        return table.added(path, amend(session, base, changed, ("absent",), path, more))
    finally:
        small.unlink()


def _require(table: Table, newest: Snapshot, version: int) -> None:
    """Refuse a table that somebody else wrote rows to after the new files were written."""
    if not _same_rows(table, version, newest.version):
        raise ForeignChangeError(
            f"somebody else wrote to {table.root.name} while it was brought to another contract",
            hint=f"restore {table.root.name} to version {version}, then run ordertrail run: it finishes the migration",
        )


def _same_rows(table: Table, since: int, until: int) -> bool:
    """Whether a table holds the same rows at two versions, as after a compaction."""
    for version in range(since + 1, until + 1):
        for action in table.log.read(version):
            for kind, body in action.items():
                rewritten = isinstance(body, dict) and body.get("dataChange") is False
                if kind == "metaData" or (kind in ("add", "remove") and not rewritten):
                    return False
    return True


def _terms(text: str) -> Terms:
    found = terms_in(text)
    if found is None:
        raise TableError("the stage holds a migration from no contract", hint="restore orders_stage from a backup")
    return found


def _said(file: AddFile) -> str:
    return json.dumps([file.path, file.size_bytes, file.modified_ms, file.stats])


def _files(said: Sequence[str]) -> list[AddFile]:
    return [AddFile(*json.loads(text)) for text in said]
