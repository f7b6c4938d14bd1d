"""What the checks of `ordertrail verify` look at, and what one of them finds."""

from __future__ import annotations

from msgspec import Struct, field

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Table, scan_sql
from ordertrail.engines.local.session import Session
from ordertrail.rules.tables import APP_ID, DELIVERIES, REJECTS, history_columns, target_columns

EXAMPLES = 10
"""How many examples of one problem a check names."""

_LOOKS = 10


class Finding(Struct):
    """What a check found: `counted` when all is well, else `wrong` and what to do."""

    counted: str
    wrong: list[str] = field(default_factory=list)
    hint: str = ""
    more: int = 0


class Proof:
    """The five tables as of the last batch with the done mark, under the contract that they carry.

    Attributes:
        session: The pass; its config has that contract.
        config: The same config.
        asked: The config as it was given.
        archive: Whether to compare the archived files by their hashes, too.
        snapshots: The newest of each table, by name.
        target: The target as it is judged.
        done: The last batch with the done mark.
        note: What to say of a batch in progress.
    """

    def __init__(self, session: Session, asked: Config, archive: bool) -> None:
        self.session = session
        self.config, self.asked = session.config, asked
        self.archive = archive
        tables = session.tables
        # From the last table that a batch writes to the first: a pass that runs meanwhile is only ahead in the others.
        # When it has finished a batch meanwhile, look again.
        for _ in range(_LOOKS):
            self.snapshots = {table.root.name: table.snapshot() for table in reversed(tables.all)}
            if tables.deliveries.snapshot().version == self.of(tables.deliveries).version:
                break
        deliveries, target = self.of(tables.deliveries), self.of(tables.target)
        session.app_id = deliveries.metadata.properties.get(APP_ID, "")
        self.done = deliveries.last_txn(session.app_id)
        self.target, self.note = target, ""
        loading = target.last_txn(session.app_id)
        if loading > self.done and (taken := tables.target.version_of(session.app_id, loading)):
            self.target = tables.target.snapshot(taken - 1)
            self.note = f"; batch {loading} is under way, the target is judged as it was before it"
        contract = self.config.contract
        self._columns = {
            tables.deliveries.root.name: DELIVERIES,
            tables.rejects.root.name: REJECTS,
            tables.history.root.name: history_columns(contract),
        }

    @property
    def standing(self) -> list[Snapshot]:
        """All snapshots that are checked: the newest of each table, and the target as it is judged."""
        others = [s for s in self.snapshots.values() if s.root != self.target.root or s.version != self.target.version]
        return [*others, self.target]

    def of(self, table: Table) -> Snapshot:
        """The snapshot of a table that is checked."""
        return self.snapshots[table.root.name]

    def rows(self, table: Table) -> str:
        """SQL of a table's rows; not for the target, which is judged at another version."""
        return scan_sql(self.session.con, self.of(table), self._columns[table.root.name])

    def target_rows(self) -> str:
        """SQL of the rows of the target."""
        return scan_sql(self.session.con, self.target, target_columns(self.config.contract))

    def number(self, sql: str) -> int:
        """The single number that a query returns."""
        return int(str(self.session.run(sql)[0][0]))

    def texts(self, sql: str) -> tuple[list[str], int]:
        """The first texts that a query returns, and how many more there are."""
        rows = self.session.run(f"SELECT wrong, count(*) OVER () FROM ({sql}) q(wrong) ORDER BY wrong LIMIT {EXAMPLES}")
        return [str(row[0]) for row in rows], int(str(rows[0][1])) - len(rows) if rows else 0
