"""The table of incidents where tables are found by name: Spark reads it whole, and writes it whole in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from ordertrail.arrow import arrow_schema
from ordertrail.config import Config
from ordertrail.engines.base import KeptIncidents
from ordertrail.engines.ledger import app_id_in
from ordertrail.engines.spark.session import commit_of, spark_errors
from ordertrail.engines.spark.tables import SparkTable, tables_of, user_metadata
from ordertrail.engines.spark.work import spark_schema
from ordertrail.errors import CommitConflictError, ForeignChangeError
from ordertrail.model import Probe, no_probe
from ordertrail.rules.incident_rows import incident_of, row_of
from ordertrail.rules.incidents import Incident
from ordertrail.rules.tables import INCIDENTS, owned_by

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class CatalogIncidents:
    """`IncidentTable` in a catalog.

    Args:
        spark: The session.
        config: Of a pipeline whose tables have names.
        probe: Called after each effect.
    """

    def __init__(self, spark: SparkSession, config: Config, probe: Probe = no_probe) -> None:
        config = replace(config, folders=())  # whatever folder the catalog has the table in, Spark writes it
        self._spark = spark
        self._config = config
        self._table = SparkTable(spark, config, config.incidents, INCIDENTS, None)
        self._deliveries = tables_of(spark, config).deliveries
        self._probe = probe

    def possible(self) -> bool:
        """See `IncidentTable.possible`."""
        with spark_errors("cannot look for the tables"):
            return self._deliveries.exists()

    def read(self) -> KeptIncidents:
        """See `IncidentTable.read`."""
        with spark_errors("cannot read the incidents"):
            if not self._table.exists():
                return KeptIncidents(None)
            version = next(iter(self._table.commits())).version
            found = self._table.rows(version).toArrow().to_pylist()
        return KeptIncidents(version, tuple(incident_of(row) for row in found))

    def write(self, before: KeptIncidents, incidents: Sequence[Incident]) -> KeptIncidents:
        """See `IncidentTable.write`.

        Two writers take one `txn`, of which Delta lets one commit; where a session's writes carry none, what is there
        afterwards tells who was first.
        """
        app_id = self._app_id()
        with spark_errors("cannot write the incidents"):
            if before.version is None:
                self._table.create(owned_by(app_id, self._config.name), vectors=False)
                self._probe("incidents.created")
            schema = arrow_schema((column.name, column.type) for column in INCIDENTS)
            rows = pa.Table.from_pylist([row_of(one) for one in incidents], schema)
            frame = self._spark.createDataFrame(rows, schema=spark_schema(INCIDENTS))
            name, number = f"{app_id}.incidents", (before.version or 0) + 1
            with commit_of(self._spark, name, number, user_metadata(name, number)):
                self._table.overwrite(frame, {})
        self._probe("incidents.committed")
        after = self.read()
        if _by_id(after.incidents) != _by_id(incidents):
            raise CommitConflictError("another process has written the incidents meanwhile", hint="run again")
        return after

    def _app_id(self) -> str:
        """The application id of the pipeline's tables, which that of the incidents must be, too."""
        with spark_errors("cannot read the tables"):
            app_id = app_id_in(self._deliveries.state().properties, self._config.tables.deliveries)
            if not self._table.exists():
                return app_id
            theirs = app_id_in(self._table.state().properties, self._config.incidents)
        if theirs != app_id:
            raise ForeignChangeError(
                f"the table {self._config.incidents} belongs to another pipeline than the tables beside it",
                hint="drop it, or give pipeline.incidents another name",
            )
        return app_id


def _by_id(incidents: Sequence[Incident]) -> dict[str, Incident]:
    return {one.incident_id: one for one in incidents}
