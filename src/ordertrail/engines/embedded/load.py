"""Load: brings the target up to date by a commit of our own, and composes the load from its parts.

`local.weigh` weighs the rows; `apply` determines which files a commit adds and removes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ordertrail.delta.actions import AddFile, Json
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, scan_sql
from ordertrail.engines.batch_rows import check_balance, row_counts
from ordertrail.engines.embedded.apply import share_file, write_copies, write_vectors
from ordertrail.engines.embedded.damage import resets
from ordertrail.engines.embedded.record import LocalRecorder, Shared
from ordertrail.engines.ledger import RESETS
from ordertrail.engines.load import Load
from ordertrail.engines.local.accepted import ROWS_TAG, WeighedHere
from ordertrail.engines.local.find import cover, cover_distinct
from ordertrail.engines.local.session import Session, others_on
from ordertrail.engines.local.weighing import weighing_of
from ordertrail.model import Batch, Manifest, Outcome, RowCounts
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.tables import stage_columns

SHARE_ROWS = 500_000
"""A stage file with at least this many rows is shared with target and history when all rows are inserted."""

SAMPLE = 64
"""Where keys repeat, those in a sample of one in so many nearly always do, too."""


def load_of(session: Session, batch: Batch) -> Load:
    """The load of a batch by this process alone.

    Args:
        session: The pass.
        batch: As it is staged.

    Raises:
        ForeignChangeError: The stage does not hold it.
    """
    weighing = weighing_of(session, batch)
    applier = CommitApplier(weighing)
    return Load(batch, weighing, applier, LocalRecorder(weighing, applier.shared))


class CommitApplier:
    """`Applier` that writes data files, or marks rows in deletion vectors, and commits them.

    Attributes:
        shared: The data files that the history shares; filled by `share` and `apply`.

    Args:
        weighing: The weighing of the batch.
    """

    def __init__(self, weighing: WeighedHere) -> None:
        self.shared = Shared()
        self._weighing = weighing
        self._session = weighing.session
        self._target = weighing.session.tables.target

    def share(self, target_version: int) -> Mapping[str, RowCounts] | None:
        """See `Applier.share`: the first load of a large file."""
        before, stage, batch = self._target.snapshot(target_version), self._weighing.stage, self._weighing.batch
        files = [file for file in stage.files.values() if ROWS_TAG in file.tags]
        if (
            batch.corrects is not None
            or before.files
            or not files
            or min(file.rows or 0 for file in files) < SHARE_ROWS
        ):
            return None
        folded = not self._session.config.appends and any(manifest.absent for manifest in batch.manifests)
        if folded or others_on(before, self._weighing.contract):
            return None  # a stage file may have a column with the name of one of others, but with other content
        add = self._linked(before, files)
        if add is None:
            return None
        counts = {m.delivery_id: row_counts(m, {Outcome.INSERTED: _staged_rows(m)}) for m in batch.manifests}
        check_balance(counts)
        self._session.probe("load.files")
        self._commit(before, add, ())
        self.shared.files = tuple((stage.path_of(file), file) for file in files)
        return counts

    def apply(self, target_version: int) -> None:
        """See `Applier.apply`."""
        before = self._target.snapshot(target_version)
        # Without rows that go, both write the same; only the first also indexes it.
        write = write_vectors if before.takes_vectors or self._session.config.appends else write_copies
        written = write(self._session, self._weighing.change, before)
        self._session.probe("load.files")
        self._commit(before, written.add, written.remove, written.feed)
        if written.new is not None:
            self.shared.files, self.shared.rest = ((before.path_of(written.new), written.new),), True

    def _linked(self, before: Snapshot, files: Sequence[AddFile]) -> list[AddFile] | None:
        """Data files of the target that are these files of the stage, and indexed; None when some key is there twice.

        The keys of a sample are compared first. Otherwise the index, which is sorted by key, says whether all differ.
        Where the target keeps all rows, a key may be there twice, but not a row: they are indexed once that is sure.
        """
        if not self._distinct(sample=True):
            return None
        stage = self._weighing.stage
        add = [share_file(stage.path_of(file), self._target.root, file) for file in files]
        self._session.probe("load.linked")
        distinct = None if self._session.config.appends else cover_distinct(self._session, before, add)
        if distinct is None and (distinct := self._distinct()):
            cover(self._session, before, add)
        self._session.probe("load.indexed")
        if distinct:
            return add
        for file in add:
            (self._target.root / file.path).unlink()
        return None

    def _distinct(self, *, sample: bool = False) -> bool:
        """Whether every key is in one staged row only; of a target that keeps all rows, whether no row comes twice.

        Args:
            sample: Whether to look only at one key in `SAMPLE`.
        """
        contract = self._weighing.contract
        rows = scan_sql(self._session.con, self._weighing.stage, stage_columns(contract))
        row = contract_key_sql(contract) + (", _row_hash" if self._session.config.appends else "")
        hashes = f"SELECT hash({row}) AS h FROM {rows} WHERE _kind = 'row'"
        if sample:
            hashes = f"SELECT h FROM ({hashes}) WHERE h % {SAMPLE} = 0"
        found = self._session.run(f"SELECT count(*) = count(DISTINCT h) FROM ({hashes})")
        return bool(found[0][0])

    def _commit(
        self, before: Snapshot, add: Sequence[AddFile], remove: Sequence[AddFile], feed: Sequence[AddFile] = ()
    ) -> None:
        batch, app_id = self._weighing.batch, self._session.app_id
        info: dict[str, Json] = {"run_id": batch.run_id, "deliveries": len(batch.manifests)}
        if taken := resets(self._target, app_id, before.last_txn(app_id)):
            info[RESETS] = list(taken)
        operation = "WRITE" if self._session.config.appends else "MERGE"
        change = Change(self._session.txn(batch), operation, add, remove, info, feed=feed)
        version = self._target.commit(before, change)
        self._session.probe("load.committed")
        self._target.checkpoint_if_due(version)


def _staged_rows(manifest: Manifest) -> int:
    return manifest.rows_parsed - manifest.rows_rejected - manifest.rows_duplicate
