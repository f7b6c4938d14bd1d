"""`ordertrail verify`: proves again, from the tables alone, that nothing is lost, doubled or wrong.

It only reads, and may run while a pass does: it judges the batches with the done mark, and the target as it was before
a batch in progress. DuckDB computes and spills, so memory is bounded by `memory_limit_mb`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.footers import unfit_columns
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.choice import placed
from ordertrail.engines.ledger import batches_of_nothing
from ordertrail.engines.local.fold import fold, place_deliveries
from ordertrail.engines.local.held import held
from ordertrail.engines.local.schema import require_agreement
from ordertrail.engines.local.session import Session, others_on, tables_of
from ordertrail.engines.local.whole import FROM_ARCHIVE, error_of, read_whole, standings_of
from ordertrail.errors import ConfigError, StorageError, TableError
from ordertrail.look.proof import EXAMPLES, Finding, Proof
from ordertrail.look.standing import waiting_in
from ordertrail.look.verify_append import rows_once, rows_whole
from ordertrail.look.verify_archive import ArchivedFile, look_at_archive, under_way
from ordertrail.look.verify_files import LOST_CHANGES, change_faults, file_faults, reader_faults, vector_faults
from ordertrail.look.verify_incidents import NAME, has_incidents, prove_incidents
from ordertrail.markers import no_tables_yet, read_marker
from ordertrail.model import Outcome, no_probe
from ordertrail.parse.database import connected
from ordertrail.rules.accepted import ACCEPTED_OUTCOMES, LOADED, RECORDED, lacking_sql, recorded_sql
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.losses import ROLES, loss
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import APP_ID
from ordertrail.scratch import scratch_folder
from ordertrail.sources.names import claiming

_SPOILT = "delete the damaged checkpoints, and _last_checkpoint beside each: the logs are whole without them"


class Check(Struct, frozen=True):
    """The result of one check.

    Attributes:
        name: What should hold, in a few words.
        ok: Whether it does.
        detail: What was counted, or what is wrong, with up to `EXAMPLES` examples.
        hint: What to do; empty when it holds.
    """

    name: str
    ok: bool
    detail: str
    hint: str = ""


class VerifyReport(Struct, frozen=True):
    """All checks, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return all(check.ok for check in self.checks)


def verify(config: Config, progress: Callable[[str], None] = no_probe, *, archive: bool = False) -> VerifyReport:
    """Check the tables of a pipeline.

    Args:
        config: Of the pipeline.
        progress: Called with the name of each check before it is made.
        archive: Whether to compare the SHA-256 of the archived files, too; that reads the whole archive.

    Raises:
        TableError: No pass has run yet: there is no table.
        StorageError: There are no tables although there should be: the disk is not mounted.
    """
    config = placed(config)
    tables = tables_of(config)
    if not any(table.log.exists() for table in tables.all):
        raise no_tables_yet(config)
    progress(_READABLE)
    try:
        asked, config = config, held(config, read_whole(config)).config
        with (
            scratch_folder(config.warehouse, "verify") as spill,
            connected(config.threads, config.memory_limit_mb, spill) as con,
            ThreadPoolExecutor(max_workers=1) as pool,
        ):
            proof = Proof(Session(config, con, pool, tables_of(config), "", no_probe), asked, archive)
            checks = [Check(_READABLE, True, f"all five, up to batch {proof.done}{proof.note}")]
            for name, prove in _checks(config):
                progress(name)
                checks.append(_checked(name, prove, proof))
    except TableError as error:
        checks = [Check(_READABLE, False, error.message, error.hint)]
    return VerifyReport(tuple(checks))


def _checked(name: str, prove: _Prove, proof: Proof) -> Check:
    try:
        with duckdb_errors("it cannot be checked"):
            found = prove(proof)
    except (TableError, StorageError) as error:
        hint = "repair the data files first (the check above), then run ordertrail verify again"
        return Check(name, False, error.message, hint)
    if not found.wrong:
        return Check(name, True, found.counted)
    more = f"; and {found.more} more" if found.more else ""
    return Check(name, False, "; ".join(found.wrong) + more, found.hint)


# -- the checks -------------------------------------------------------------------------------------------------


def _files(proof: Proof) -> Finding:
    count, wrong = file_faults(proof.standing)
    spoilt = [f"the checkpoint {path} is damaged" for one in proof.snapshots.values() for path in one.passed_over]
    lost = change_faults(proof.target, proof.config.maintenance.retention_h)
    hint = f"{_files_hint(proof, wrong)}; nobody may delete in there" if wrong else _SPOILT if spoilt else LOST_CHANGES
    return _some_wrong(f"{count} data files", wrong + spoilt + lost, hint)


def _vectors(proof: Proof) -> Finding:
    count, wrong = vector_faults(proof.standing)
    return _some_wrong(f"{count} vectors", wrong, _files_hint(proof, wrong))


def _readers(proof: Proof) -> Finding:
    stage = proof.session.tables.stage.root
    rows, wrong = reader_faults(snapshot for snapshot in proof.standing if snapshot.root != stage)
    counted = f"{rows} rows read by delta-rs, each cell in its declared type"
    spoilt = any(snapshot.passed_over for snapshot in proof.standing)
    return _some_wrong(counted, wrong, _SPOILT if spoilt else _files_hint(proof, wrong))


def _some_wrong(counted: str, wrong: list[str], hint: str) -> Finding:
    return Finding(counted, wrong[:EXAMPLES], hint, max(0, len(wrong) - EXAMPLES))


def _schemas(proof: Proof) -> Finding:
    """Check that the tables carry the contract and data files match their tables: other readers rely on it."""
    looked_at = [snapshot for snapshot in proof.standing if snapshot.root != proof.session.tables.stage.root]
    wrong = list(unfit_columns(looked_at))
    hint, note = _files_hint(proof, wrong), ""
    asked = replace(proof.session, config=proof.asked, tables=tables_of(proof.asked))
    try:
        note = "".join(f"; {one.text} by the next pass" for one in require_agreement(asked).added)
    except (ConfigError, TableError) as error:
        wrong, hint = [error.message, *wrong], error.hint
    if others := others_on(proof.target, proof.config.contract):
        note += f"; columns of others: {', '.join(column.name for column in others)}"
    return _some_wrong(f"{sum(len(s.files) for s in looked_at)} data files{note}", wrong, hint)


def _files_hint(proof: Proof, wrong: Sequence[str]) -> str:
    """What to do about damaged or missing files; each text begins with the name of its table."""
    if _only_target(proof, wrong):
        return "run ordertrail rebuild: it writes the target anew from the history"
    tables = proof.session.tables
    if _tables_in(wrong) <= {table.root.name for table in (tables.target, tables.history, tables.rejects)}:
        return f"restore these files from a backup, or run {FROM_ARCHIVE}"
    return "restore these files from a backup, or the table to a version from before them"


def _only_target(proof: Proof, wrong: Sequence[str]) -> bool:
    return _tables_in(wrong) == {proof.target.root.name}


def _tables_in(wrong: Sequence[str]) -> set[str]:
    return {one.partition(" ")[0].rstrip(":") for one in wrong}


def _batches(proof: Proof) -> Finding:
    tables, ledger = proof.session.tables.all, proof.config.tables.deliveries
    wrong: list[str] = []
    app_id = proof.session.app_id
    standing = [(table.root.name, proof.of(table).last_txn(app_id)) for table in tables]
    stage, target, *records = standing
    # A rebuilt target stands at the done mark, also beside the first records of a batch that the next pass loads again.
    again = target[1] == proof.done < stage[1]
    wrong += [
        f"{table.root.name} belongs to another pipeline, or was replaced"
        for table in tables
        if proof.of(table).metadata.properties.get(APP_ID) != app_id or not app_id
    ]
    for (first, ahead), (second, behind) in pairwise([stage, *records] if again else standing):
        if ahead < behind:
            wrong.append(f"{first} stands at batch {ahead}, but {second}, which is written after it, at batch {behind}")
    staged = stage[1]
    if staged > proof.done + 1:
        wrong.append(f"batch {staged} is staged, but the last one with the done mark is {proof.done}")
    numbers = f"SELECT batch FROM {proof.rows(proof.session.tables.deliveries)}"
    if proof.number(f"SELECT count(DISTINCT batch) FROM ({numbers})") < proof.done:
        nothing = batches_of_nothing(proof.session.tables.deliveries.log.backwards(), app_id)
        numbers += f" UNION ALL SELECT unnest(CAST({nothing} AS BIGINT[]))"
    gaps, more = proof.texts(
        f"SELECT format('{ledger} has no delivery of batch {{}}', n) FROM range(1, {proof.done} + 1) r(n) "
        f"WHERE n NOT IN ({numbers}) UNION ALL SELECT DISTINCT format('{ledger} has a delivery of batch {{}}, "
        f"which has no done mark', batch) FROM ({numbers}) WHERE batch > {proof.done}"
    )
    note = f"; batch {staged} is staged and not finished, the next pass finishes it" if staged > proof.done else ""
    hint = "restore the table that is behind to its newest version, or all five from one backup"
    found = [(role, proof.of(table)) for role, table in zip(ROLES, tables, strict=True)]
    lost = loss(standings_of(found, app_id, [table.root.name for table in tables]))
    if lost is not None:
        hint = error_of(lost).hint
    elif _only_target(proof, [*wrong, *gaps]):
        hint = "run ordertrail rebuild: it writes the target anew from the history, or says what is in its way"
    return Finding(f"{proof.done} batches{note}", [*wrong, *gaps], hint, more)


def _balance(proof: Proof) -> Finding:
    deliveries = proof.rows(proof.session.tables.deliveries)
    outcomes = " + ".join(f"coalesce(rows_{outcome}, 0)" for outcome in Outcome)
    wrong, more = proof.texts(
        f"SELECT format('delivery {{}}: {{}} rows parsed, {{}} rows with an outcome', delivery_id, rows_parsed, n) "
        f"FROM (SELECT *, CAST({outcomes} AS BIGINT) AS n FROM {deliveries}) WHERE rows_parsed IS DISTINCT FROM n"
    )
    total = proof.session.run(f"SELECT count(*), coalesce(sum(rows_parsed), 0) FROM {deliveries}")[0]
    hint = f"restore {proof.config.tables.deliveries} to the version before somebody changed it"
    return Finding(f"{total[0]} deliveries, {total[1]} rows", wrong, hint, more)


def _history(proof: Proof) -> Finding:
    tables, names = proof.session.tables, proof.config.tables
    history = f"SELECT * FROM {proof.rows(tables.history)} WHERE {recorded_sql(proof.done)}"
    wanted = " UNION ALL ".join(
        f"SELECT delivery_id AS id, '{outcome}' AS outcome, CASE WHEN {RECORDED} THEN rows_{outcome} ELSE 0 END "
        f"AS n FROM {proof.rows(tables.deliveries)}"
        for outcome in ACCEPTED_OUTCOMES
    )
    wrong, more = proof.texts(
        f"SELECT format('delivery {{}}: {{}} {{}} rows in {names.history}, {{}} by {names.deliveries}', id, "
        f"coalesce(h.n, 0), outcome, coalesce(w.n, 0)) FROM ({wanted}) w FULL JOIN "
        "(SELECT coalesce(_delivery_id, '?') AS id, coalesce(_outcome, '?') AS outcome, count(*) AS n "
        f"FROM ({history}) GROUP BY ALL) h USING (id, outcome) "
        "WHERE coalesce(w.n, 0) <> coalesce(h.n, 0)"
    )
    hint = _append_only(names.history)
    return Finding(f"{proof.number(f'SELECT count(*) FROM ({history})')} rows", wrong, hint, more)


def _hashes(proof: Proof) -> Finding:
    """Check the rows that we wrote; the fold compares the target's rows with them cell by cell."""
    hashed = row_hash_sql({name: name_sql(name) for name in (*proof.config.contract.names, "_rescued")})
    rows = (
        f"SELECT _delivery_id, _file_row, _row_hash IS DISTINCT FROM {hashed} AS differs "
        f"FROM {proof.rows(proof.session.tables.history)} WHERE _row_hash IS NOT NULL"
    )
    wrong, more = proof.texts(
        "SELECT format('row {} of delivery {} is not as it was written', _file_row, _delivery_id) "
        f"FROM ({rows}) WHERE differs"
    )
    hint = _append_only(proof.config.tables.history)
    return Finding(f"{proof.number(f'SELECT count(*) FROM ({rows})')} rows", wrong, hint, more)


def _append_only(name: str) -> str:
    return f"{name} is append only: restore it to the version before somebody changed it, or run {FROM_ARCHIVE}"


def _rejects(proof: Proof) -> Finding:
    tables, names = proof.session.tables, proof.config.tables
    rejects = f"SELECT * FROM {proof.rows(tables.rejects)} WHERE batch <= {proof.done}"
    wrong, more = proof.texts(
        f"SELECT format('delivery {{}}: {{}} rows in {names.rejects}, {{}} rejected by {names.deliveries}', id, "
        "coalesce(r.n, 0), coalesce(CAST(w.n AS VARCHAR), 'unknown')) FROM "
        f"(SELECT delivery_id AS id, state, rows_rejected AS n FROM {proof.rows(tables.deliveries)}) w "
        f"FULL JOIN (SELECT delivery_id AS id, count(DISTINCT file_row) AS n FROM ({rejects}) GROUP BY ALL) r "
        f"USING (id) WHERE state IS NULL OR ({LOADED} AND coalesce(r.n, 0) <> w.n)"
    )
    hint = _append_only(names.rejects)
    return Finding(f"{proof.number(f'SELECT count(*) FROM ({rejects})')} rejects", wrong, hint, more)


def _keys(proof: Proof) -> Finding:
    key = contract_key_sql(proof.config.contract)
    wrong, more = proof.texts(
        f"SELECT format('key {{}} stands {{}} times', coalesce(k, 'NULL'), n) FROM (SELECT {key} AS k, count(*) AS n "
        f"FROM {proof.target_rows()} GROUP BY ALL) WHERE n > 1 OR k IS NULL"
    )
    hint = f"somebody else wrote to the target: {_cure(proof)}; a newer row of the key also cures it"
    return Finding(f"{proof.number(f'SELECT count(*) FROM {proof.target_rows()}')} rows", wrong, hint, more)


def _fold(proof: Proof) -> Finding:
    session, contract = proof.session, proof.config.contract
    lacking = session.run(lacking_sql(proof.rows(session.tables.deliveries)))
    absent = tuple(name for (name,) in lacking if isinstance(name, str) and name in contract.names)
    history = f"(SELECT * FROM {proof.rows(session.tables.history)} WHERE {recorded_sql(proof.done)})"
    folded = fold(session, place_deliveries(session), [history], absent)
    names = [name_sql(name) for name in (*contract.names, "_rescued")]
    differs = ", ".join(f"CASE WHEN t.{name} IS DISTINCT FROM f.{name} THEN {_says(name)} END" for name in names)
    session.run(
        "CREATE OR REPLACE TEMP TABLE differences AS SELECT * FROM (SELECT coalesce(t._k, f._k, 'NULL') AS k, "
        "CASE WHEN t._here IS NULL THEN 'missing' WHEN f._here IS NULL THEN 'extra' ELSE 'different' END AS kind, "
        f"CASE WHEN t._here AND f._here THEN list_filter([{differs}], lambda x: x IS NOT NULL) END AS columns "
        f"FROM (SELECT *, {contract_key_sql(contract)} AS _k, true AS _here FROM {proof.target_rows()}) t "
        f"FULL JOIN (SELECT *, true AS _here FROM {folded}) f ON t._k = f._k) "
        "WHERE kind <> 'different' OR len(columns) > 0"
    )
    wrong, more = proof.texts(
        "SELECT format('key {}: {}', k, CASE kind WHEN 'missing' THEN 'it is missing from the target' "
        "WHEN 'extra' THEN 'the history does not know it' ELSE array_to_string(columns, ', ') END) FROM differences"
    )
    count = proof.number(f"SELECT count(*) FROM {folded}")
    return Finding(f"{count} keys folded from the history, equal in every column", wrong, _fold_hint(proof), more)


def _says(name: str) -> str:
    """SQL of how a cell differs; `name` is quoted."""
    label = name.strip('"').replace("'", "''")
    shown = [f"coalesce('\"' || CAST({side}.{name} AS VARCHAR) || '\"', 'NULL')" for side in ("t", "f")]
    return f"'{label} is ' || {shown[0]} || ', by the history ' || {shown[1]}"


def _archived(proof: Proof) -> Finding:
    """Check the archive. A missing file is not wrong, because people clear archives; a changed one is."""
    rows = proof.session.run(
        "SELECT file_name, archived_to, size_bytes, sha256 FROM "
        f"{proof.rows(proof.session.tables.deliveries)} WHERE size_bytes IS NOT NULL ORDER BY batch, delivery_id"
    )
    files = [ArchivedFile(str(n), None if a is None else str(a), int(str(s)), str(h)) for n, a, s, h in rows]
    shared = len(marker.owners) > 1 if (marker := read_marker(proof.config.archive)) is not None else False
    found = look_at_archive(
        proof.config.archive, files, expected=lambda name: shared or under_way(name, proof.done), hashed=proof.archive
    )
    hint = (
        "if a writer was late, ordertrail run takes its file back into the source as the next delivery, or cp -p it "
        "there under the vendor's name; else restore these files from a backup: a rebuild from the archive reads them"
    )
    claims = [one.file_name for one in waiting_in(proof.config)[0] if claiming(one.file_name.rpartition("/")[2])]
    left = f"; {len(claims)} in the source under a claim: {', '.join(claims[:EXAMPLES])}, see status" if claims else ""
    return _some_wrong(found.counted + left, found.changed, hint)


def _fold_hint(proof: Proof) -> str:
    vendors = {vendor.name: contract_hashes(proof.config.contract, vendor) for vendor in proof.config.vendors}
    known = proof.session.run(
        f"SELECT DISTINCT vendor, contract_hash FROM {proof.rows(proof.session.tables.deliveries)} "
        f"WHERE {LOADED} ORDER BY ALL"
    )
    changed = sorted({str(name) for name, hashed in known if hashed not in vendors.get(str(name), (hashed,))})
    hint = f"if somebody else wrote to the target: {_cure(proof)}"
    if changed:
        hint += f"; the contract or the profile of {', '.join(changed)} was changed since, which may be why"
    return hint


def _cure(proof: Proof) -> str:
    version = proof.session.tables.target.version_of(proof.session.app_id, proof.done)
    own = "" if version is None else f", or restore it to a version of ordertrail's own, the last is {version}"
    return f"ordertrail rebuild writes it anew from the history{own}"


_READABLE = "the five tables can be read"
_Prove = Callable[[Proof], Finding]
_ARCHIVE: tuple[str, _Prove] = ("the archived files are in their place", _archived)
_CHECKS: tuple[tuple[str, _Prove], ...] = (
    ("every data file is there, with its size", _files),
    ("every deletion vector is there and fits its file", _vectors),
    ("every data file is what its table and the contract say", _schemas),
    ("another reader reads every row", _readers),
    ("the batches follow each other without a gap", _batches),
    ("every parsed row has one outcome", _balance),
    ("the history has every accepted row", _history),
    ("the rows of the history are as they were written", _hashes),
    ("the rejects have every rejected row", _rejects),
)
_UPSERTED: tuple[tuple[str, _Prove], ...] = (
    ("each key stands once in the target", _keys),
    ("the target is the fold of the history", _fold),
)
_APPENDED: tuple[tuple[str, _Prove], ...] = (
    ("each row stands once in the target", rows_once),
    ("the target has every accepted row", rows_whole),
)


def _checks(config: Config) -> tuple[tuple[str, _Prove], ...]:
    """The checks of a pipeline, in their order: those of the target follow from its mode."""
    incidents = ((NAME, prove_incidents),) if has_incidents(config) else ()
    return (*_CHECKS, *(_APPENDED if config.appends else _UPSERTED), _ARCHIVE, *incidents)
