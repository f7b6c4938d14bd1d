"""Gives the target the rows of the fold of the history, in one commit, as if the batches had just built it.

The fold is replayed by `local.bearers`. The outcomes recorded in the history are not used, because a damaged target may
have distorted them. The changes of the replay are exactly the rows that undisturbed batches call `inserted` and
`updated`. Unchanged rows, older rows, ties that only the history settles and columns that some vendor never sends all
follow from that one rule.

After a change of the contract the replay follows today's contract: so do the contract's columns, and the audit columns
are those that the batches would have written under it.
"""

from __future__ import annotations

import time

from msgspec import Struct

from ordertrail.delta.actions import Json, Txn
from ordertrail.delta.said import FILES, ROWS
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Table, scan_sql
from ordertrail.engines.local.bearers import Bearers, find_bearers
from ordertrail.engines.local.net import compared_sql
from ordertrail.engines.local.others import carry_by_key
from ordertrail.engines.local.relations import Relation
from ordertrail.engines.local.schema import bring_up_to_date, require_agreement
from ordertrail.engines.local.session import Session, app_id_of, others_on
from ordertrail.engines.local.whole import FROM_ARCHIVE, cure, cure_of_files, log_errors
from ordertrail.errors import CommitConflictError, ForeignChangeError, TableError
from ordertrail.keep.append_again import Lacking
from ordertrail.keep.difference import Difference, Settled
from ordertrail.model import Contract
from ordertrail.rules.accepted import ACCEPTED_ROWS, RECORDED, recorded_sql
from ordertrail.rules.schema import CONTRACT
from ordertrail.rules.tables import DELIVERIES, TableColumn, history_columns, owned_by, target_columns

OPERATION = "REBUILD"
"""Name of the commit in the target's log."""

ATTEMPTS = 5
"""How often the commit is tried again when another writer takes the target's next version."""


class Differences(Struct, frozen=True):
    """How the target differs from what a rebuild would write, in rows.

    Attributes:
        missing: Keys that the target lacks.
        extra: Rows of keys that the history does not know, and further rows of a key that it does.
        different: Keys with another value in a column of the contract or in `_rescued`.
        audit: Keys that differ only in an audit column.
    """

    missing: int
    extra: int
    different: int
    audit: int

    @property
    def total(self) -> int:
        """The sum of all differences."""
        return self.missing + self.extra + self.different + self.audit


class Rebuild:
    """One rebuild. Nothing is written before `write`, and no reader sees anything before `commit`.

    Args:
        session: The session; this sets its `app_id`.

    Raises:
        TableError: History or deliveries are missing, damaged, or do not agree with each other: a target folded from
            them would lack rows.
        ConfigError: The contract was changed in a way that the tables cannot follow.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        tables = session.tables
        self._deliveries = sound(tables.deliveries, "deliveries")
        session.app_id = app_id_of(self._deliveries)
        self.done = self._deliveries.last_txn(session.app_id)
        self._history = sound(tables.history, "history")
        self._agreeing = [tables.history, tables.deliveries]
        if CONTRACT not in self._history.metadata.properties:
            self._agreeing.append(tables.stage)  # which then says what contract the tables carry
        require_agreement(session, self._agreeing)
        self._bearers: Bearers | None = None
        self._others: tuple[TableColumn, ...] = ()
        self._carried: Relation | None = None
        self._base: Snapshot | None = None
        if app_id_of(self._history) != session.app_id:
            raise ForeignChangeError(
                f"{tables.history.root.name} and {tables.deliveries.root.name} belong to different pipelines",
                hint="restore them from one backup; the target was not touched",
            )
        behind = self._history.last_txn(session.app_id)
        if behind < self.done:
            raise self._incomplete(f"{tables.history.root.name} stands at batch {behind}, not {self.done}")
        self._check_history()
        self._lacking: Lacking | None = None
        if session.config.appends:
            self._lacking = Lacking(session, self._history, self._deliveries, self.done)

    @property
    def contract(self) -> Contract:
        """The contract of the fold."""
        return self._session.config.contract

    @property
    def staged(self) -> int:
        """Number of the newest batch in the stage; 0 when there is no stage."""
        stage = self._session.tables.stage
        return stage.snapshot().last_txn(self._session.app_id) if stage.log.exists() else 0

    @property
    def history_rows(self) -> int:
        """The number of accepted rows that are folded."""
        return self._number(f"SELECT count(*) FROM {self._past()} WHERE {recorded_sql(self.done)}")

    def target(self) -> Snapshot | None:
        """The snapshot of the target; None when there is none. Its data files may be damaged or gone.

        Raises:
            TableError: The log is damaged, or the table is not ours, or has a feature that we do not write to.
        """
        table = self._session.tables.target
        if not table.log.exists():
            return None
        aside = f"move the folder {table.root} away, then run ordertrail rebuild: it creates the table anew"
        try:
            snapshot = table.snapshot()
            snapshot.require_writable()
            if app_id_of(snapshot) != self._session.app_id:
                raise ForeignChangeError(f"the table {table.root} belongs to another pipeline")
        except TableError as error:
            raise type(error)(error.message, hint=aside) from error
        # Not automatically: columns of others would be lost with the folder.
        require_agreement(self._session, [table])
        return snapshot

    def bring_up_to_date(self) -> Snapshot | None:
        """Apply `local.schema.bring_up_to_date`, and return the new snapshot of the target."""
        bring_up_to_date(self._session, [*self._agreeing, self._session.tables.target])
        return self.target()

    # -- the fold -------------------------------------------------------------------------------------------

    def fold(self) -> int:
        """Find the rows of the history that bear the target's, see `local.bearers`.

        Returns:
            The number of rows that the target must have: that of keys or, where it keeps all rows, of different rows.
        """
        session = self._session
        if self._lacking is not None:
            rows = self._lacking.fold()
            session.probe("rebuild.folded")
            return rows
        self._bearers = find_bearers(session, self._history, self._deliveries, self.done)
        session.probe("rebuild.folded")
        return self._bearers.rows

    def _rows_sql(self) -> str:
        """SQL of the target's rows, in the order of its columns; after `fold`."""
        if self._bearers is None:
            raise ValueError("`fold` comes first")
        return self._bearers.rows_sql(self._others, self._carried)

    def carry(self, target: Snapshot) -> list[str]:
        """Keep the columns of others for `write`; nobody else may write there before the commit.

        Args:
            target: The current snapshot.

        Returns:
            The data files that could not be read; values of others in their rows are lost.
        """
        self._others = others_on(target, self._session.config.contract)
        if not self._others or self._lacking is not None:
            return []
        self._carried, unread = carry_by_key(self._session, target, self._others)
        return unread

    # -- what it would change, and doing it -----------------------------------------------------------------

    def differences(self, target: Snapshot) -> Differences:
        """Compare the target with what `write` would write; call it after `fold`.

        Raises:
            TableError: The target's data files cannot be read.
            StorageError: Likewise.
        """
        if self._lacking is not None:
            return Differences(*self._lacking.compare(target), 0, 0)
        contract = self._session.config.contract
        shown = compared_sql(contract)
        scan = scan_sql(self._session.con, target, target_columns(contract))
        there = f"SELECT {shown}, 1 AS old, 0 AS new FROM {scan}"
        wanted = f"SELECT {shown}, 0 AS old, 1 AS new FROM ({self._rows_sql()})"
        found = self._session.run(
            "SELECT count(*) FILTER (WHERE old = 0), sum(greatest(old - new, 0)), "
            "count(*) FILTER (WHERE old > 0 AND new > 0 AND c), "
            "count(*) FILTER (WHERE old > 0 AND new > 0 AND a AND NOT c) "
            "FROM (SELECT sum(old) AS old, sum(new) AS new, min(c) <> max(c) AS c, min(a) <> max(a) AS a "
            f"FROM ({there} UNION ALL {wanted}) GROUP BY k)"
        )[0]
        return Differences(*(int(str(number or 0)) for number in found))

    def write(self, target: Snapshot | None) -> Settled:
        """Write the data files that give the target the rows of the fold; call it after `fold`.

        Args:
            target: As it is; None when there is none, and the table is created.

        Raises:
            TableError: The rows written are not as many as the keys.
            StorageError: The disk is full or fails. What was written is removed again.
        """
        self._create()
        base = target or self.target()
        if base is None:
            raise TableError(f"the table {self._session.tables.target.root} vanished", hint="run rebuild again")
        self._base = base
        if self._lacking is not None:
            return self._lacking.settle(base)
        return Difference(self._session, base, self._rows_sql(), self._others).settle(self.done)

    def _create(self) -> None:
        config, table = self._session.config, self._session.tables.target
        properties = owned_by(self._session.app_id, config.name)
        table.create(properties, vectors=config.vectors, feed=config.change_feed != "off")
        self._session.probe("rebuild.table")

    def commit(self, settled: Settled, rows: int) -> tuple[int, Settled]:
        """Settle the difference in one commit; rows that are right stay where they are.

        The commit carries the `txn` of the last batch with the done mark, even if the target had that of a batch that
        is not recorded yet: the next pass then loads that batch again, from the stage.

        Args:
            settled: From `write`.
            rows: The rows of the fold.

        Returns:
            The target's new version, and the files that it got: others when somebody else wrote meanwhile.

        Raises:
            CommitConflictError: A pass on another machine has been here meanwhile; nothing was written.
        """
        session, table, base = self._session, self._session.tables.target, self._base
        assert base is not None
        # A batch that a target has which keeps all rows stays in it: the next pass records it.
        standing = base.last_txn(session.app_id) if self._lacking is not None else 0
        txn = Txn(session.app_id, max(self.done, standing), time.time_ns() // 1_000_000)
        for _ in range(ATTEMPTS):
            files = len(base.files) - len(settled.remove) + len(settled.add)
            if self._lacking is not None:
                rows = (base.live_rows or 0) + settled.written
            info: dict[str, Json] = {ROWS: rows, FILES: files}
            try:
                version = table.commit(base, settled.change(txn, OPERATION, info))
            except CommitConflictError:
                settled.discard(table)
                known, base = base.txns, table.snapshot()
                if base.txns != known or self._recorded_meanwhile():
                    break
                if others_on(base, session.config.contract):
                    break  # their columns have changed since they were kept
                settled = self.write(base)  # rows that somebody else wrote are not in the history: they go
                continue
            session.probe("rebuild.committed")
            table.checkpoint_if_due(version)
            return version, settled
        settled.discard(table)
        raise CommitConflictError(
            f"{table.root.name} was written by somebody else meanwhile", hint="nothing was changed; run rebuild again"
        )

    # -- parts ----------------------------------------------------------------------------------------------

    def _check_history(self) -> None:
        """Check that the history has as many rows of every delivery as the deliveries say, and no others."""
        deliveries = scan_sql(self._session.con, self._deliveries, DELIVERIES)
        wrong = self._session.run(
            "SELECT coalesce(id, 'unknown'), coalesce(h.n, 0), coalesce(d.n, 0) FROM "
            f"(SELECT _delivery_id AS id, count(*) AS n FROM {self._past()} WHERE {recorded_sql(self.done)} "
            "GROUP BY ALL) h "
            f"FULL JOIN (SELECT delivery_id AS id, {ACCEPTED_ROWS} AS n FROM {deliveries} WHERE {RECORDED}) d "
            "USING (id) WHERE coalesce(h.n, 0) <> coalesce(d.n, 0) ORDER BY 1 LIMIT 1"
        )
        for delivery_id, found, expected in wrong:
            history, ledger = self._history.root.name, self._deliveries.root.name
            raise self._incomplete(
                f"{history} has {found} rows of delivery {delivery_id}, but {ledger} says that {expected} were accepted"
            )

    def _incomplete(self, message: str) -> TableError:
        return TableError(
            message,
            hint=f"restore that table from a backup, or run {FROM_ARCHIVE}; the target was not touched, for it may be "
            "right",
        )

    def _recorded_meanwhile(self) -> bool:
        return self._session.tables.deliveries.snapshot().version != self._deliveries.version

    def _past(self) -> str:
        return scan_sql(self._session.con, self._history, history_columns(self._session.config.contract))

    def _number(self, sql: str) -> int:
        return int(str(self._session.run(sql)[0][0]))


def sound(table: Table, role: str) -> Snapshot:
    """The snapshot of a table that a rebuild reads, after checking that all its data files exist.

    Args:
        table: Which one.
        role: Of the table.

    Raises:
        TableError: It is missing, or damaged.
    """
    if not table.log.exists():
        raise TableError(f"there is no Delta table in {table.root}", hint=cure(role))
    with log_errors(role, table.root):
        snapshot = table.snapshot()
    for file in snapshot.files.values():
        path = snapshot.path_of(file)
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            raise TableError(
                f"{table.root.name} lacks its data file {path.name}, or it is damaged",
                hint=f"{cure_of_files(role)}; the target was not touched",
            )
    return snapshot
