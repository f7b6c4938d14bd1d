"""What the steps of a pass in DuckDB share."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import duckdb
from msgspec import Struct, field
from msgspec.structs import replace
from pyroaring import BitMap64

from ordertrail.config import Config
from ordertrail.delta.actions import AddFile, Txn
from ordertrail.delta.log import LogStore
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Table, scan_sql
from ordertrail.delta.vectors import marked_rows
from ordertrail.engines.batch_rows import known_deliveries
from ordertrail.engines.ledger import app_id_in, archive_id
from ordertrail.keyindex.index import KeyIndex
from ordertrail.model import Batch, Contract, Probe, State
from ordertrail.parse.database import Database, connect, release
from ordertrail.parse.kernel import PARQUET
from ordertrail.rules.accepted import LOADED
from ordertrail.rules.corrections import Known, undone
from ordertrail.rules.others import others_of
from ordertrail.rules.planning import LoadedFile
from ordertrail.rules.schema import CONTRACT, terms_of
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import (
    DELIVERIES,
    OF_APPEND,
    REJECTS,
    TableColumn,
    history_columns,
    stage_columns,
    target_columns,
)
from ordertrail.rules.volume import RECENT
from ordertrail.scratch import SPILL

MARKED_ROWS = 16_000_000
"""So many deleted rows of the target a pass remembers between finding rows and marking more (2 bytes each)."""

_TOLD = {
    "discovered_at", "reason", "first_error", "archived_to", "staged_at", "loaded_at", "changed_at", "replayed_by",
    "correction", "migrated", "lines_skipped", "doubts",
}  # fmt: skip
_ASKED = tuple(column for column in DELIVERIES if column.name not in _TOLD)
"""The columns of `orders_deliveries` that a pass asks for. Every pass reads all its rows; people ask for the others."""


class Tables(Struct, frozen=True):
    """The five tables."""

    stage: Table
    target: Table
    history: Table
    rejects: Table
    deliveries: Table

    @property
    def all(self) -> tuple[Table, Table, Table, Table, Table]:
        """The tables in the order in which a batch writes them."""
        return self.stage, self.target, self.history, self.rejects, self.deliveries


def tables_of(config: Config, store: LogStore | None = None) -> Tables:
    """The five tables of a config; reads and creates nothing.

    Args:
        config: Names, folders and contract.
        store: Where commits are written; for tests of failing commits.
    """
    names, contract = config.tables, config.contract
    bounded = (*contract.key, contract.order_by, "_batch")
    holds = {CONTRACT: terms_of(contract).text}
    return Tables(
        stage=Table(config.table_path(names.stage), stage_columns(contract), store, bounded),
        target=Table(
            config.table_path(names.target),
            target_columns(contract),
            store,
            bounded,
            OF_APPEND if config.appends else None,
        ),
        history=Table(config.table_path(names.history), history_columns(contract), store, bounded, holds),
        rejects=Table(config.table_path(names.rejects), REJECTS, store),
        deliveries=Table(config.table_path(names.deliveries), DELIVERIES, store),
    )


class Session(Struct):
    """One pass in DuckDB on tables in folders.

    Attributes:
        config: Names, folders, contract and limits.
        con: DuckDB with the kernel's functions.
        pool: Cuts records.
        tables: The five tables.
        app_id: The pipeline's application id; known once the tables are open.
        probe: Called after each effect.
        index: Finds the target's rows of some keys; None means that a scan finds them.
        salt: Salt of the key hashes when there is no index.
        spill: DuckDB's folder for temporary files, for a new database.
    """

    config: Config
    con: duckdb.DuckDBPyConnection
    pool: Executor
    tables: Tables
    app_id: str
    probe: Probe
    index: KeyIndex | None = None
    salt: bytes = field(default_factory=lambda: os.urandom(16))
    spill: Path | None = None
    _deliveries: int = -1
    _marked: tuple[int, dict[str, BitMap64]] = field(default_factory=lambda: (-1, {}))

    def key_hash_sql(self, key: str) -> str:
        """SQL of the 128-bit hash that represents a key in a load's tables and in the key index.

        It is MD5 with a secret salt, so that nobody can make two keys collide; by chance two of 10^9 do with a
        probability of 10^-21.

        Args:
            key: SQL of the key as text.
        """
        salt = self.salt if self.index is None else self.index.salt
        return f"md5_number({quoted(salt.hex())} || {key})"

    def deliveries(self) -> str:
        """SQL of a relation with the rows of `orders_deliveries`, which are read once for each version of the table.

        It lacks the columns that only people ask for.
        """
        snapshot = self.tables.deliveries.snapshot()
        if snapshot.version != self._deliveries:
            self._read_deliveries(snapshot)
            self._deliveries = snapshot.version
        return "deliveries"

    def read_deliveries(self, snapshot: Snapshot) -> None:
        """Let `deliveries` give other rows for the newest version of the table: those that its next commit will hold.

        Args:
            snapshot: With the files of that commit.
        """
        self._read_deliveries(snapshot)
        self._deliveries = self.tables.deliveries.snapshot().version

    def _read_deliveries(self, snapshot: Snapshot) -> None:
        self.run(f"CREATE OR REPLACE TEMP TABLE deliveries AS FROM {scan_sql(self.con, snapshot, _ASKED)}")

    def marked_rows(self, target: Snapshot, file: AddFile) -> BitMap64:
        """As `delta.vectors.marked_rows`, of a live data file of the target; each vector of a version is read once.

        Args:
            target: Any version; what is kept is that of the last one asked for, as long as it is small.
            file: Of that version.
        """
        if file.deletion_vector is None:
            return BitMap64()
        version, known = self._marked
        if version != target.version:
            self._marked = target.version, (known := {})
        rows = known.get(file.deletion_vector)
        if rows is None:
            rows = marked_rows(target.root, file)
            if len(rows) + sum(map(len, known.values())) <= MARKED_ROWS:
                known[file.deletion_vector] = rows
        return rows

    @property
    def database(self) -> Database:
        """The current DuckDB database, and how to open a new one."""
        return Database(self.con, self._renew)

    def _renew(self) -> duckdb.DuckDBPyConnection:
        """Open a new, empty DuckDB database in place of one that refuses everything after an error of its own."""
        release(self.con)
        spill = self.spill or self.config.warehouse / SPILL
        self.con = connect(self.config.threads, self.config.memory_limit_mb, spill)
        self._deliveries = -1
        return self.con

    def txn(self, batch: Batch) -> Txn:
        """The `txn` of a batch's commits."""
        return batch_txn(self.app_id, batch)

    def archive_txn(self, batch: Batch) -> Txn:
        """The `txn` that says that a batch's files are archived."""
        return batch_txn(archive_id(self.app_id), batch)

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Run one statement to its end and return its rows."""
        return self.con.execute(sql).fetchall()

    @contextmanager
    def joins_as_written(self) -> Iterator[None]:
        """Make DuckDB keep the right side of a join in memory within the block, and stream the left one, as written.

        DuckDB would otherwise build its hash table on the wide staged rows, because it misjudges how many rows a filter
        leaves.
        """
        with self.without("join_order", "build_side_probe_side"):
            yield

    @contextmanager
    def without(self, *optimizers: str) -> Iterator[None]:
        """Switch some of DuckDB's optimizers off within the block.

        Args:
            optimizers: Their names, as `duckdb_optimizers()` has them.
        """
        self.run(f"SET disabled_optimizers = {quoted(','.join(optimizers))}")
        try:
            yield
        finally:
            self.run("RESET disabled_optimizers")

    def copy(self, query: str, path: object, parquet: str = PARQUET) -> int:
        """Write a query's rows to a new Parquet file; returns their number."""
        return int(str(self.run(f"COPY ({query}) TO {quoted(str(path))} ({parquet})")[0][0]))


def others_on(target: Snapshot, contract: Contract) -> tuple[TableColumn, ...]:
    """The columns of the target that others added, see `rules.others`."""
    return others_of(target.metadata.schema_string, target_columns(contract))


def app_id_of(snapshot: Snapshot) -> str:
    """The application id of a table of ours, see `ledger.app_id_in`."""
    return app_id_in(snapshot.metadata.properties, str(snapshot.root))


def batch_txn(app_id: str, batch: Batch) -> Txn:
    """The `txn` of a batch under an application id."""
    return Txn(app_id, batch.number, int(batch.clock.timestamp() * 1000))


def recent_rows(session: Session, vendors: Collection[str]) -> dict[str, tuple[int, ...]]:
    """See `Engine.recent_rows`."""
    rows = session.con.execute(
        f"SELECT vendor, list(rows_parsed) FROM (SELECT vendor, rows_parsed FROM {session.deliveries()} "
        f"WHERE {LOADED} AND vendor IN ({', '.join(map(quoted, vendors))}) "
        f"QUALIFY row_number() OVER (PARTITION BY vendor ORDER BY delivery_id DESC) <= {RECENT}) GROUP BY vendor"
    ).fetchall()
    return {str(vendor): tuple(counts) for vendor, counts in rows}


def loaded_files(session: Session, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
    """See `Engine.loaded_files`."""
    if not sizes_bytes:
        return ()
    listed = ", ".join(map(str, set(sizes_bytes)))
    rows = session.con.execute(
        "SELECT delivery_id, vendor, sha256, contract_hash, file_key, path, epoch_ms(modified_at), rows_parsed, "
        f"size_bytes, state, changed_by, changed_why FROM {session.deliveries()} "
        f"WHERE ({LOADED} OR state = 'undone') AND size_bytes IN ({listed})"
    ).fetchall()
    return tuple(
        replace(LoadedFile(*told), undone=undone(by, why) if state == State.UNDONE else None)
        for *told, state, by, why in rows
    )


def past(session: Session) -> tuple[Known, ...]:
    """See `Engine.past`."""
    snapshot = session.tables.deliveries.snapshot()
    return known_deliveries(session.con.sql(f"FROM {scan_sql(session.con, snapshot, DELIVERIES)}").to_arrow_table())
