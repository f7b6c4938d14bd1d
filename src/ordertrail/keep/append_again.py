"""What a target that keeps every row (mode `append`) lacks of the history, and the data file that adds it.

Nothing can be taken out of such a target: rows that the history does not know stay, and are told.
"""

from __future__ import annotations

import duckdb

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.anew import write_anew
from ordertrail.engines.local.session import Session
from ordertrail.errors import OrdertrailError, TableError
from ordertrail.keep.difference import Settled
from ordertrail.rules.accepted import TAKEN_BACK, accepted_sql, recorded_sql
from ordertrail.rules.audit import states_sql
from ordertrail.rules.placing import content_sql, contract_key_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import DELIVERIES, history_columns, target_columns


class Lacking:
    """The accepted rows of deliveries that count, each different one once, compared with the target.

    Makes the DuckDB tables `counting_rows`, `known_rows` and `lacking_rows`.

    Args:
        session: The pass.
        history: With the accepted rows.
        deliveries: The ledger.
        batch: The last batch that counts; it is done.
    """

    def __init__(self, session: Session, history: Snapshot, deliveries: Snapshot, batch: int) -> None:
        contract = session.config.contract
        self._session = session
        self._batch = batch
        self._past = scan_sql(session.con, history, history_columns(contract))
        self._ledger = scan_sql(session.con, deliveries, DELIVERIES)
        self._shown = f"{contract_key_sql(contract)} AS k, {content_sql(contract)} AS c"

    def fold(self) -> int:
        """Find the rows that the target must have; of equal ones the first that came.

        Returns:
            How many they are.
        """
        run = self._session.run
        run(
            f"CREATE OR REPLACE TEMP TABLE known_rows AS SELECT {self._shown}, _delivery_id AS d, _file_row AS r, "
            f"_batch AS bn, _pos AS pos, {accepted_sql(self._batch, self._ledger)} AS counts FROM {self._past} "
            f"WHERE {recorded_sql(self._batch)}"
        )
        run(
            "CREATE OR REPLACE TEMP TABLE counting_rows AS SELECT k, c, pos FROM known_rows WHERE counts "
            "QUALIFY row_number() OVER (PARTITION BY k, c ORDER BY bn, d, r) = 1"
        )
        return self._count("counting_rows")

    def compare(self, target: Snapshot | None) -> tuple[int, int]:
        """Find the rows that the target lacks, after `fold`.

        Args:
            target: As it is; None when there is none.

        Returns:
            How many rows it lacks, and how many it has that the history does not know.

        Raises:
            TableError: A data file cannot be read: such a target is made anew.
        """
        run, extra = self._session.run, 0
        lacking = "FROM counting_rows"
        if target is not None:
            scan = scan_sql(self._session.con, target, target_columns(self._session.config.contract))
            try:
                run(
                    f"CREATE OR REPLACE TEMP TABLE there_rows AS SELECT {self._shown}, _delivery_id AS d, "
                    f"_file_row AS r, _batch AS bn FROM {scan}"
                )
            except (duckdb.Error, OrdertrailError, OSError) as error:
                raise TableError(
                    f"a data file of {target.root.name} cannot be read, and none can be taken out of a table that is "
                    f"append only: {str(error).splitlines()[0]}",
                    hint=f"restore the file from a backup; or move the folder {target.root} away, then run ordertrail "
                    "rebuild: it makes the table anew",
                ) from error
            gone = f"SELECT delivery_id FROM {self._ledger} WHERE {TAKEN_BACK}"
            lacking += f" ANTI JOIN (SELECT k, c FROM there_rows WHERE coalesce(d, '') NOT IN ({gone})) USING (k, c)"
            extra = self._count(
                f"(SELECT * FROM there_rows t ANTI JOIN known_rows s ON t.d = s.d AND t.r = s.r AND t.c = s.c "
                f"WHERE coalesce(t.bn, 0) <= {self._batch})"
            )
        run(f"CREATE OR REPLACE TEMP TABLE lacking_rows AS {lacking}")
        return self._count("lacking_rows"), extra

    def settle(self, target: Snapshot) -> Settled:
        """Write the rows that the target lacks to new data files; nothing is committed.

        Args:
            target: As it is.

        Raises:
            TableError: As `compare`; or other rows were written than were lacking, which is a bug.
            StorageError: The disk is full or fails. What was written is removed again.
        """
        session, table = self._session, self._session.tables.target
        missing, _ = self.compare(target)
        if not missing:
            return Settled((), (), (), 0)
        audit = states_sql("h._loaded_at", "h._loaded_at", "CAST(1 AS BIGINT)")
        names = [column.name for column in target_columns(session.config.contract)]
        cells = ", ".join(f"{audit.get(name, f'h.{name_sql(name)}')} AS {name_sql(name)}" for name in names)
        rows = f"SELECT {cells} FROM {self._past} h JOIN lacking_rows l ON h._pos = l.pos"
        new = tuple(write_anew(session, table, rows, self._batch))
        settled = Settled(new, (), new, missing)
        if (written := sum(file.rows or 0 for file in new)) != missing:
            settled.discard(table)
            raise TableError(
                f"{written} rows written for {missing}; nothing was committed",
                hint="run ordertrail verify; if it finds nothing, this is a bug in ordertrail, please report it",
            )
        return settled

    def _count(self, relation: str) -> int:
        return int(str(self._session.run(f"SELECT count(*) FROM {relation}")[0][0]))
