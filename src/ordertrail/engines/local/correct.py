"""Weighs a correction in DuckDB: what the target must become when other deliveries count than before.

The keys that the deliveries concerned know are folded again, from the history's rows that count and from the rows that
are staged with the correction. Every such key gets an outcome (`rules.corrections`), and every staged row as well. The
key index finds their rows in the target. The history has no index: it is read once, by its keys, and for so many keys
that whole rows do not fit into memory once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.load import require_staged
from ordertrail.engines.local import relations as r
from ordertrail.engines.local.accepted import ChangeSet
from ordertrail.engines.local.find import find_by_scan, find_rows
from ordertrail.engines.local.fold import fold, place_deliveries
from ordertrail.engines.local.relations import Relation, StagedBatch, WeighedBatch
from ordertrail.engines.local.session import Session, others_on
from ordertrail.engines.local.weigh import (
    OUTCOME_OF,
    FindRows,
    Reads,
    WholeTables,
    count_outcomes,
    deliveries_of,
    ordered,
)
from ordertrail.model import Batch, Contract, Correction, CorrectionKind, RowCounts
from ordertrail.rules import corrections as rules
from ordertrail.rules import outcomes as order_rules
from ordertrail.rules import placing
from ordertrail.rules.accepted import LOADED, RECORDED, lacking_sql, recorded_sql
from ordertrail.rules.audit import CHANGED, listed_sql
from ordertrail.rules.placing import (
    OF_ROW,
    content_sql,
    contract_key_sql,
    of_delivery_sql,
    order_sql,
    placed_or_lowest_sql,
)
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn, history_columns, stage_columns

WHOLE_KEYS = 1_000_000
"""Up to so many keys, whole rows of the history are read at once and kept; for more, narrow ones come first."""

_FAR_APART = "UNION ALL SELECT chr(1) UNION ALL SELECT chr(1114111)"
"""Two more keys, which make DuckDB 2.0 leave out rows by a Bloom filter while it scans.

Where the first eight bytes of all keys are nearly alike, as with numbers of one carrier, DuckDB takes a filter on these
bytes instead, which leaves out nothing. The scan is a fifth faster with it.
"""

CORRECTION_ROWS = "correction_rows"
"""The rows that `gather` makes."""

_ORIGIN = ("_vendor", "_delivery_id", "_file_name", "_file_row")


class CorrectionWeighing:
    """`Weighing` of a correction in DuckDB.

    Attributes:
        session: The pass.
        batch: As it is staged.
        contract: The pipeline's contract.
        stage: The stage with the batch.
        before: The target that the batch was last weighed against by `weigh`; None before that.

    Args:
        session: The pass.
        batch: As it is staged.
        reads: Provides the rows to weigh against; None means the session's tables.

    Raises:
        ForeignChangeError: The stage does not hold the batch.
    """

    def __init__(self, session: Session, batch: Batch, reads: Reads | None = None) -> None:
        self.session = session
        self.batch = batch
        self.contract = session.config.contract
        self.stage = session.tables.stage.snapshot()
        self.before: Snapshot | None = None
        self._correction = correction_of(batch)
        self._reads = reads or WholeTables(session)
        self._others: tuple[TableColumn, ...] = ()
        self._weighed: WeighedBatch | None = None
        self._past = ""
        require_staged(self.stage.txns.get(session.app_id), batch)

    @property
    def change(self) -> ChangeSet:
        """The changes to apply to the target, once the correction was weighed."""
        assert self._weighed is not None
        keys = key_cells_sql(self.contract)
        return ChangeSet(self.batch, self.stage, self._weighed, self._others, CORRECTION_ROWS, keys)

    @property
    def said(self) -> ChangeSet:
        """The rows that are staged with the correction, with their outcomes: what the history gets."""
        assert self._weighed is not None
        return ChangeSet(self.batch, self.stage, replace(self._weighed, outcomes=r.OUTCOMES, folded=None))

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh`."""
        self.before = before = self._reads.target(target_version)
        self._others = others_on(before, self.contract)
        counts = self._judged(before, find_rows, rules.FATES)
        self._gather()
        return counts

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh_again`."""
        return self._judged(self._reads.target(target_version), find_by_scan, rules.FATES_AGAIN)

    def close(self) -> None:
        """See `Weighing.close`."""
        self._reads.close()

    # -- what each key becomes ------------------------------------------------------------------------------

    def _judged(self, target: Snapshot, find: FindRows, rule: str) -> dict[str, RowCounts]:
        """Fill the relations that the rules read, and give every touched key and every staged row its outcome."""
        run = self.session.run
        history = scan_sql(self.session.con, self._reads.history(""), history_columns(self.contract))
        staged = touched_keys(self.session, self.batch, self.stage, history)
        deliveries = staged.deliveries
        found = find(self.session, target, staged)
        placed = place_deliveries(self.session, None, (self.batch.number, deliveries), counting_sql(self._correction))
        r.CURRENT.make(run, placed_or_lowest_sql(str(found.before)))
        joined = f"SELECT n.k, n.dn, n.ch, {_of('n', OF_ROW)}, {of_delivery_sql('n', 'p')}"
        r.STAGED.make(run, f"{joined} FROM {r.NEW_ROWS} n JOIN {placed} p USING (delivery_id)")
        r.CODES_ROW.make(run, order_rules.codes_sql(self.batch.number))
        best = ordered(self.session, r.BEST, found.doubled, order_rules.BEST, order_rules.BEST_ALONE)
        ordered(self.session, r.RANKED, staged.repeated, order_rules.RANKED, order_rules.RANKED_ALONE)
        folded = self._fold(history, placed)
        fates = r.FATES.make(run, rule)
        r.OUTCOMES.make(run, rules.OUTCOMES_IN_CORRECTION)
        self._weighed = WeighedBatch(staged, found, placed, best, fates, folded)
        return self._count()

    # -- the fold -------------------------------------------------------------------------------------------

    def _fold(self, history: str, placed: Relation) -> Relation | None:
        """Create `winners`: the newest row of every touched key; and the fold itself where deliveries lack columns."""
        run, key = self.session.run, contract_key_sql(self.contract)
        self._past = past_rows_sql(self.session, self.batch, history)
        hashed = self.session.key_hash_sql(key)
        run(
            "CREATE OR REPLACE TEMP TABLE past_rows AS SELECT "
            f"{hashed} AS k, {order_sql(self.contract)}, coalesce(_row_hash, -1) AS ch, _pos AS hpos "
            f"FROM {self._past}"
        )
        number_past_deliveries(self.session, str(placed))
        order = f"{_of('x', OF_ROW)}, {of_delivery_sql('x', 'p')}"
        run(
            "CREATE OR REPLACE TEMP TABLE candidates AS "
            f"SELECT x.k, x.ch, x.hpos, d.dn, {order} FROM past_rows x JOIN {placed} p USING (delivery_id) "
            f"JOIN past_deliveries d USING (delivery_id) UNION ALL "
            f"SELECT x.k, x.ch, NULL AS hpos, x.dn, {order} FROM {r.NEW_ROWS} x JOIN {placed} p USING (delivery_id)"
        )
        r.WINNERS.make(
            run,
            f"SELECT k, ch, hpos, dn, fr FROM candidates QUALIFY row_number() OVER "
            f"(PARTITION BY k ORDER BY {placing.NEWEST_FIRST}) = 1",
        )
        absent = self._absent_columns()
        return self._folded(placed, absent, hashed) if absent else None

    def _folded(self, placed: Relation, absent: tuple[str, ...], hashed: str) -> Relation:
        """The fold of all cells, and its content in `winners`."""
        stage = scan_sql(self.session.con, self.stage, stage_columns(self.contract))
        rows = [self._past, f"(SELECT * FROM {stage} WHERE _kind = 'row')"]
        folded = fold(self.session, placed, rows, absent, hashed)
        run = self.session.run
        run(f"CREATE OR REPLACE TEMP TABLE folded_rows AS FROM {folded}")
        run(
            f"CREATE OR REPLACE TEMP TABLE folded_winners AS SELECT w.k, f.ch, w.hpos, w.dn, w.fr FROM {r.WINNERS} w "
            f"JOIN (SELECT _k, {content_sql(self.contract)} AS ch FROM folded_rows) f ON w.k = f._k"
        )
        r.WINNERS.make(run, "FROM folded_winners")
        return folded

    def _absent_columns(self) -> tuple[str, ...]:
        """Contract columns that some delivery, of this batch or counted before, lacks."""
        absent = {name for manifest in self.batch.files for name in manifest.absent}
        absent |= {str(row[0]) for row in self.session.run(lacking_sql(self.session.deliveries(), RECORDED))}
        return tuple(sorted(absent & set(self.contract.names)))

    # -- the rows to write ----------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Create `correction_rows`: the rows that keys get whose row changes, with the columns of the stage."""
        written = (
            f"SELECT w.* FROM {r.WINNERS} w JOIN {r.FATES} f ON w.k = f.k WHERE f.outcome IN {listed_sql(CHANGED)}"
        )
        assert self._weighed is not None
        deliveries = gather(self.session, self.stage, self._past, written)
        self._weighed = replace(self._weighed, staged=replace(self._weighed.staged, deliveries=deliveries))

    # -- counting -------------------------------------------------------------------------------------------

    def _count(self) -> dict[str, RowCounts]:
        """Rows by outcome of the staged deliveries, and keys by outcome of the correction itself."""
        return count_correction(self.session, self.batch, f"SELECT outcome, count(*) FROM {r.FATES} GROUP BY ALL")


# -- what every weighing of a correction does ------------------------------------------------------------------------


def touched_keys(session: Session, batch: Batch, stage: Snapshot, history: str) -> StagedBatch:
    """Create `new_rows` and `touched`: the keys that the deliveries concerned know.

    Args:
        session: The pass.
        batch: The correction.
        stage: The stage with it.
        history: SQL of the history's rows.

    Returns:
        The keys, as the relations by which rows of the target are found.
    """
    run, con, contract = session.run, session.con, session.config.contract
    deliveries = deliveries_of(session, batch)
    key, hashed = contract_key_sql(contract), session.key_hash_sql(contract_key_sql(contract))
    cells = ", ".join(f"{name_sql(name)} AS kc{i}" for i, name in enumerate(contract.key))
    names = ", ".join(f"kc{i}" for i in range(len(contract.key)))
    r.NEW_ROWS.make(
        run,
        f"SELECT {hashed} AS k, _delivery_no AS dn, {content_sql(contract)} AS ch, "
        f"{order_sql(contract)}, {key} AS key, {cells} "
        f"FROM {scan_sql(con, stage, stage_columns(contract))} WHERE _kind = 'row'",
    )
    known = run(
        f"SELECT delivery_id, batch FROM {session.deliveries()} "
        f"WHERE {RECORDED} AND batch < {batch.number} AND delivery_id IN ({_listed(correction_of(batch).of)})"
    )
    parts = [f"SELECT k, key, {names} FROM {r.NEW_ROWS}"]
    if known:
        ids, batches = _listed(str(one) for one, _ in known), ", ".join({str(number) for _, number in known})
        parts.append(
            f"SELECT {hashed} AS k, {key} AS key, {cells} FROM {history} "
            f"WHERE _batch IN ({batches}) AND _delivery_id IN ({ids})"
        )
    touched = r.TOUCHED.make(run, f"SELECT DISTINCT ON (k) * FROM ({' UNION ALL '.join(parts)})")
    rows = r.STAGED_ROWS.make(
        run,
        f"SELECT k, -1 AS dn, CAST(0 AS BIGINT) AS ch, CAST(NULL AS BIGINT) AS ev, -2 AS rk, "
        f"CAST(0 AS BIGINT) AS fr, CAST(0 AS BIGINT) AS fk FROM {touched}",
    )
    keys = f"(SELECT k, key FROM {touched})"
    return StagedBatch(deliveries, rows, keys, r.REPEATED.make(run, order_rules.several(str(r.NEW_ROWS))))


def correction_of(batch: Batch) -> Correction:
    """The decision that a batch carries out; it is a correction."""
    manifest = batch.corrects
    assert manifest is not None and manifest.correction is not None  # noqa: PT018 - one fact
    return manifest.correction


def counting_sql(correction: Correction) -> str:
    """SQL that is true of the recorded deliveries that count once a correction is made."""
    listed = f"delivery_id IN ({_listed(correction.of)})"
    if correction.kind is CorrectionKind.REDO:
        return f"({LOADED} OR {listed})"
    return f"({LOADED} AND NOT {listed})" if correction.kind in rules.TAKES_BACK else LOADED


def past_rows_sql(session: Session, batch: Batch, history: str) -> str:
    """SQL of the history's rows of the touched keys, from before a correction; read once where they fit into memory.

    Args:
        session: The pass; it has `touched`.
        batch: The correction.
        history: SQL of the history's rows.
    """
    contract = session.config.contract
    key = contract_key_sql(contract)
    names = ("_delivery_id", "_file_row", *contract.names, "_rescued", "_row_hash", "_batch", "_pos")
    rows = f"SELECT {', '.join(map(name_sql, names))} FROM {history}"
    touched = f"SELECT key FROM {r.TOUCHED}"
    known = f"{rows} WHERE {key} IN ({touched})"
    if int(str(session.run(f"SELECT count(*) FROM {r.TOUCHED}")[0][0])) <= WHOLE_KEYS:
        # Batches are compared afterwards: on all rows of the history that takes a tenth of the time of reading it.
        session.run(f"CREATE OR REPLACE TEMP TABLE past_whole AS {rows} WHERE {key} IN ({touched} {_FAR_APART})")
        known = f"FROM past_whole WHERE {key} IN ({touched})"
    return f"(SELECT * FROM ({known}) WHERE {recorded_sql(batch.number - 1)})"


def number_past_deliveries(session: Session, deliveries: str) -> None:
    """Create `past_deliveries`: a number `dn` below 0 for each earlier delivery.

    Args:
        session: The pass.
        deliveries: A relation with `delivery_id`; those of the batch are left out.
    """
    session.run(
        "CREATE OR REPLACE TEMP TABLE past_deliveries AS SELECT delivery_id, "
        f"CAST(-row_number() OVER (ORDER BY delivery_id) AS INTEGER) AS dn FROM {deliveries} "
        f"WHERE delivery_id NOT IN (SELECT delivery_id FROM {r.BATCH_DELIVERIES})"
    )


def gather(session: Session, stage: Snapshot, past: str, written: str) -> Relation:
    """Create `correction_rows`: rows to write, of the stage and of the history, with the columns of the stage.

    Args:
        session: The pass; it has `past_deliveries`.
        stage: The stage.
        past: From `past_rows_sql`.
        written: SQL of these rows: `dn` and `fr`, and `hpos`, the position in the history, NULL when it is staged.

    Returns:
        `winning_deliveries`.
    """
    run, con, contract = session.run, session.con, session.config.contract
    names = (*_ORIGIN, *contract.names, "_rescued", "_row_hash")
    cells = ", ".join(f"s.{name_sql(name)}" for name in names)
    new = (
        f"SELECT 'row' AS _kind, s._delivery_no, {cells} FROM {scan_sql(con, stage, stage_columns(contract))} s "
        f"JOIN ({written}) w ON w.dn = s._delivery_no AND w.fr = s._file_row "
        "WHERE s._kind = 'row' AND w.hpos IS NULL"
    )
    parts = [new]
    if run(f"SELECT count(*) FROM ({written}) WHERE hpos IS NOT NULL")[0][0]:
        # Of vendor and file the deliveries tell: reading them in every row of the history takes longer.
        origin = "d.vendor AS _vendor, h._delivery_id, d.file_name AS _file_name, h._file_row"
        cells = ", ".join(f"h.{name_sql(name)}" for name in names[len(_ORIGIN) :])
        old = f"FROM {past} h JOIN ({written}) w ON h._pos = w.hpos "
        old += f"JOIN {session.deliveries()} d ON d.delivery_id = h._delivery_id"
        parts.append(f"SELECT 'row' AS _kind, w.dn AS _delivery_no, {origin}, {cells} {old}")
    run(f"CREATE OR REPLACE TEMP TABLE {CORRECTION_ROWS} AS {' UNION ALL '.join(parts)}")
    both = f"SELECT delivery_id, dn FROM {r.BATCH_DELIVERIES} UNION ALL SELECT delivery_id, dn FROM past_deliveries"
    return r.WINNING_DELIVERIES.make(run, both)


def count_correction(session: Session, batch: Batch, fates: str) -> dict[str, RowCounts]:
    """Rows by outcome of the staged deliveries, and keys by outcome of the correction itself.

    Args:
        session: The pass; it has `outcomes` and `touched`.
        batch: The correction.
        fates: SQL of the number of keys by outcome.
    """
    counts = count_outcomes(session, batch, r.OUTCOMES, r.BATCH_DELIVERIES)
    found = {OUTCOME_OF[int(str(code))]: int(str(n)) for code, n in session.run(fates)}
    touched = int(str(session.run(f"SELECT count(*) FROM {r.TOUCHED}")[0][0]))
    keys = {str(outcome): found.get(outcome, 0) for outcome in rules.KEY_OUTCOMES}
    assert batch.corrects is not None
    return {**counts, batch.corrects.delivery_id: RowCounts(parsed=touched, **keys)}


def key_cells_sql(contract: Contract) -> str:
    """SQL of the touched keys with the contract's key columns, for those who apply a correction."""
    keys = ", ".join(f"kc{i} AS {name_sql(name)}" for i, name in enumerate(contract.key))
    return f"(SELECT {keys} FROM {r.TOUCHED})"


def _of(alias: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)


def _listed(texts: Iterable[object]) -> str:
    return ", ".join(quoted(str(text)) for text in texts) or "''"
