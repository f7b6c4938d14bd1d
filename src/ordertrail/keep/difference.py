"""The net difference between the target and the rows that it should have, and the data files that settle it.

A row that is right stays where it is: it is no change, so no reader of the table's changes sees it. Files that cannot
be read leave the target whole, and all rows that nobody reads any more are written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.delta.actions import AddFile, Json, Txn
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import ROW_BITS, Change, Table, scan_sql
from ordertrail.engines.embedded.apply import Doomed, mark, remaining_sql, rows_by_file
from ordertrail.engines.embedded.feed import feed_of, images_sql, write_changes
from ordertrail.engines.local.anew import write_anew
from ordertrail.engines.local.find import physical_rows
from ordertrail.engines.local.net import compared_sql, key_sql, rows_at_sql
from ordertrail.engines.local.session import Session
from ordertrail.errors import OrdertrailError, TableError
from ordertrail.rules.tables import TableColumn, target_columns


class Settled(Struct, frozen=True):
    """The data files that settle a difference; nothing is committed yet.

    Attributes:
        add: Data files to add: old ones with other vectors, and new ones.
        remove: Live data files to remove.
        new: Of those to add, the new ones.
        written: Rows that were written because the target lacked them or had them otherwise.
        feed: Files with these changes, where the commit does not say them by itself; see `embedded.feed`.
    """

    add: tuple[AddFile, ...]
    remove: tuple[AddFile, ...]
    new: tuple[AddFile, ...]
    written: int
    feed: tuple[AddFile, ...] = ()

    def change(self, txn: Txn, operation: str, info: Mapping[str, Json]) -> Change:
        """The commit that settles the difference."""
        return Change(txn, operation, self.add, self.remove, info, anew=True, feed=self.feed)

    def discard(self, table: Table) -> None:
        """Delete the new data files, which nothing names."""
        for file in (*self.new, *self.feed):
            (table.root / file.path).unlink(missing_ok=True)


class Difference:
    """The target compared with the rows that it should have, row for row in all our columns.

    Makes the DuckDB tables `there_rows`, `wanted_rows` and `kept_rows`. Values of others are not compared: they stay
    with the row that stays.

    Args:
        session: The pass.
        target: As it is. Some of its files may be damaged or gone.
        rows_sql: SQL of the rows that it should have, one a key, with the target's columns and then those of others.
        others: Columns of others on the target.
    """

    def __init__(self, session: Session, target: Snapshot, rows_sql: str, others: Sequence[TableColumn]) -> None:
        self._session = session
        self._target = target
        self._rows_sql = rows_sql
        self._others = tuple(others)
        contract = session.config.contract
        shown = compared_sql(contract)
        self._unread = self._read(shown)
        session.run(f"CREATE OR REPLACE TEMP TABLE wanted_rows AS SELECT {shown} FROM ({rows_sql})")
        # Of several rows of a key any equal one may stay, unless they differ in columns of others.
        one = "HAVING count(*) = 1" if others else ""
        session.run(
            "CREATE OR REPLACE TEMP TABLE kept_rows AS SELECT t.k, min(t.pos) AS pos FROM there_rows t "
            "JOIN wanted_rows w ON t.k = w.k AND t.c = w.c AND t.a = w.a "
            f"WHERE t.k IN (SELECT k FROM there_rows GROUP BY k {one}) GROUP BY t.k"
        )

    def settle(self, batch: int) -> Settled:
        """Write the data files that settle the difference.

        Args:
            batch: The last batch that counts, for the names of files.

        Raises:
            TableError: The rows written are not those that were missing; a bug. What was written is removed again.
            StorageError: The disk is full or fails; likewise.
        """
        session, target, table = self._session, self._target, self._session.tables.target
        session.run("CREATE OR REPLACE TEMP VIEW gone_rows AS FROM there_rows ANTI JOIN kept_rows USING (pos)")
        doomed = rows_by_file(target, session.con.execute("SELECT pos FROM gone_rows").fetchnumpy()["pos"])
        kept, wanted = self._count("kept_rows"), self._count("wanted_rows")
        parts = [self._missing_sql(kept)] if kept < wanted else []
        touched = [file for file, _ in doomed]
        marked: list[AddFile] = []
        copied = 0
        if target.takes_vectors:
            marked = mark(session, target, doomed)
        elif touched:
            parts.append(remaining_sql(session, target, touched, self._others, "gone_rows"))
            copied = _live(session, target, doomed)
        new = write_anew(session, table, " UNION ALL BY NAME ".join(parts), batch) if parts else []
        settled = Settled((*marked, *new), (*touched, *self._unread), tuple(new), wanted - kept)
        written = sum(file.rows or 0 for file in new)
        if written != wanted - kept + copied:
            settled.discard(table)
            raise TableError(
                f"{written} rows written for {wanted - kept} keys; nothing was committed",
                hint="run ordertrail verify; if it finds nothing, this is a bug in ordertrail, please report it",
            )
        feed = feed_of(session.config, target)
        told = feed == "images" or not target.takes_vectors
        if feed != "off" and (self._unread or (touched and told)):
            return replace(settled, feed=self._changes(kept, batch))
        return settled

    def _changes(self, kept: int, batch: int) -> tuple[AddFile, ...]:
        """Write the changes that settle the difference. What a file held that cannot be read, nobody knows."""
        session, columns = self._session, (*target_columns(self._session.config.contract), *self._others)
        before = rows_at_sql(session, self._target, "gone_rows", columns)
        was_there = "true" if self._unread else "false"
        sql = images_sql(session, before, self._missing_sql(kept), self._others, was_there=was_there)
        written = write_changes(session, sql, batch)
        session.probe("rebuild.feed")
        return () if written is None else (written,)

    def _read(self, shown: str) -> tuple[AddFile, ...]:
        """Make `there_rows`: the target's rows as they are compared; returns the files that cannot be read.

        A file of which the log says a wrong number of rows counts as one of these: other readers believe the log.
        """
        session, columns = self._session, target_columns(self._session.config.contract)
        read = f"SELECT _pos AS pos, {shown} FROM "
        unread = []
        nothing = scan_sql(session.con, _only(self._target, None), columns)
        session.run(f"CREATE OR REPLACE TEMP TABLE there_rows AS {read}{nothing}")
        for number, file in enumerate(self._target.files.values()):
            try:
                if file.rows not in (None, pq.read_metadata(self._target.path_of(file)).num_rows):
                    unread.append(file)
                    continue
                scan = scan_sql(session.con, _only(self._target, file), columns)
                placed = f"SELECT pos + {number << ROW_BITS}, k, c, a FROM ({read}{scan})"
                session.run(f"INSERT INTO there_rows {placed}")
            except (duckdb.Error, pa.ArrowException, OrdertrailError, OSError):
                unread.append(file)
        return tuple(unread)

    def _missing_sql(self, kept: int) -> str:
        """SQL of the rows that no row of the target equals."""
        if not kept:
            return self._rows_sql
        key = key_sql(self._session.config.contract)
        return f"SELECT * FROM ({self._rows_sql}) WHERE {key} NOT IN (SELECT k FROM kept_rows)"

    def _count(self, relation: str) -> int:
        return int(str(self._session.run(f"SELECT count(*) FROM {relation}")[0][0]))


def _only(target: Snapshot, file: AddFile | None) -> Snapshot:
    """The target with one file, or with none."""
    return replace(target, files={} if file is None else {file.path: file})


def _live(session: Session, target: Snapshot, doomed: Doomed) -> int:
    """The number of live rows of some files that stay."""
    return sum(physical_rows(target, f) - len(session.marked_rows(target, f)) - len(gone) for f, gone in doomed)
