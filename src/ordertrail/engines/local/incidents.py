"""The table of incidents in a folder: read whole, and written whole in one commit, for it is small."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import astuple

from ordertrail.arrow import arrow_schema
from ordertrail.config import Config
from ordertrail.config.rights import umask_of
from ordertrail.delta.actions import Txn
from ordertrail.delta.columns import columns_in
from ordertrail.delta.log import DeltaLog, LogStore, storage_error
from ordertrail.delta.snapshot import Snapshot, read_snapshot
from ordertrail.delta.table import Change, Table
from ordertrail.engines.base import KeptIncidents
from ordertrail.engines.ledger import app_id_in
from ordertrail.engines.local.whole import INCIDENTS_ROLE, log_errors
from ordertrail.errors import CommitConflictError, ForeignChangeError, TableError
from ordertrail.model import Probe, no_probe
from ordertrail.rules.incident_rows import incident_of, row_of
from ordertrail.rules.incidents import Incident
from ordertrail.rules.tables import INCIDENTS, owned_by


class FolderIncidents:
    """`IncidentTable` in a folder.

    What was read last is kept: a look at a table that did not change meanwhile reads no data file.

    Args:
        config: Of the pipeline.
        store: Where commits are written; for tests of failing commits.
        probe: Called after each effect.
    """

    def __init__(self, config: Config, store: LogStore | None = None, probe: Probe = no_probe) -> None:
        self._config = config
        self._table = Table(config.table_path(config.incidents), INCIDENTS, store)
        self._logs = [DeltaLog(config.table_path(name)) for name in reversed(astuple(config.tables))]
        self._probe = probe
        self._kept = KeptIncidents(None)

    def possible(self) -> bool:
        """See `IncidentTable.possible`."""
        return any(log.exists() for log in self._logs)

    def read(self) -> KeptIncidents:
        """See `IncidentTable.read`."""
        if not self._table.log.exists():
            return KeptIncidents(None)
        snapshot = self._table.snapshot()
        if snapshot.version != self._kept.version:
            self._kept = KeptIncidents(snapshot.version, incidents_in(snapshot))
        return self._kept

    def write(self, before: KeptIncidents, incidents: Sequence[Incident]) -> KeptIncidents:
        """See `IncidentTable.write`."""
        with umask_of(self._config):
            app_id = self._app_id()
            if before.version is None:
                self._table.create(owned_by(app_id, self._config.name))
                self._probe("incidents.created")
            base = self._table.snapshot()
            if base.version != (before.version or 0):
                raise CommitConflictError("another process has written the incidents meanwhile", hint="run again")
            version = self._replace(base, app_id, incidents)
        self._kept = KeptIncidents(version, tuple(incidents))
        return self._kept

    def _replace(self, base: Snapshot, app_id: str, incidents: Sequence[Incident]) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = self._table
        schema = arrow_schema((column.name, column.type) for column in INCIDENTS)
        txn = Txn(incidents_id(app_id), base.last_txn(incidents_id(app_id)) + 1, time.time_ns() // 1_000_000)
        path = table.new_path("incidents")
        try:
            pq.write_table(pa.Table.from_pylist([row_of(one) for one in incidents], schema), path, compression="zstd")
        except OSError as error:
            raise storage_error(error, path) from error
        self._probe("incidents.files")
        add = [table.added(path, len(incidents))]
        change = Change(txn, "INCIDENTS", add, list(base.files.values()), anew=True)
        version = table.commit(base, change)
        self._probe("incidents.committed")
        table.checkpoint_if_due(version)
        return version

    def _app_id(self) -> str:
        """The application id of the pipeline's tables, which that of the incidents must be, too.

        Raises:
            ForeignChangeError: The incidents are another pipeline's.
        """
        app_id = self._pipeline_id()
        if self._table.log.exists():
            theirs = app_id_in(self._table.newest().metadata.properties, self._config.incidents)
            if theirs != app_id:
                raise ForeignChangeError(
                    f"the incidents in {self._table.root} belong to another pipeline than the tables beside them",
                    hint="move that folder away, or give pipeline.incidents another name",
                )
        return app_id

    def _pipeline_id(self) -> str:
        """The application id, of the first table that can be read: another may be what an incident is about."""
        trouble: TableError | None = None
        for log in self._logs:
            try:
                return app_id_in(read_snapshot(log).metadata.properties, log.root.name)
            except TableError as error:
                trouble = trouble or error
        raise trouble or TableError("there are no tables", hint="run a pass first: ordertrail run")


def incident_snapshot(config: Config) -> Snapshot | None:
    """The table of incidents in its folder; None when there is none yet, or when a catalog keeps it.

    Raises:
        TableError: Its log is damaged.
        StorageError: It cannot be read.
    """
    if config.by_name:
        return None
    log = DeltaLog(config.table_path(config.incidents))
    if not log.exists():
        return None
    with log_errors(INCIDENTS_ROLE, log.root):
        return read_snapshot(log)


def incidents_in(snapshot: Snapshot) -> tuple[Incident, ...]:
    """The incidents of a table in a folder.

    Raises:
        TableError: A data file is damaged or gone.
        StorageError: A data file cannot be read.
    """
    if not snapshot.files:
        return ()
    found = columns_in(snapshot, INCIDENTS)([column.name for column in INCIDENTS])
    return tuple(incident_of(row) for row in found.to_pylist())


def incidents_id(app_id: str) -> str:
    """The application id of the commits of incidents.

    Args:
        app_id: The pipeline's.
    """
    return f"{app_id}.incidents"
