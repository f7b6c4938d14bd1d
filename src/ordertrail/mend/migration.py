"""`ordertrail migrate`: brings the tables from the contract that they carry to the one in the config.

`rules.migration` says what it takes, `engines.local.convert` reads old values under the new contract, and
`engines.embedded.migrate` writes and commits. What is decided here is whether it may be done, and in which order.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog, LogStore
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.batch_rows import decision_manifest
from ordertrail.engines.choice import placed
from ordertrail.engines.embedded.migrate import OPERATION as MIGRATED
from ordertrail.engines.embedded.migrate import (
    Preparation,
    commit_migration,
    finish_migration,
    stage_migration,
)
from ordertrail.engines.ledger import adopt_id
from ordertrail.engines.local.convert import Conversion, Tally, absent_after
from ordertrail.engines.local.followed import followed
from ordertrail.engines.local.schema import bring_up_to_date, declared, switch_feed, unfinished_migration
from ordertrail.engines.local.session import Session, app_id_of, tables_of
from ordertrail.engines.local.whole import cured, look, progress_of, read_whole
from ordertrail.errors import UsageError
from ordertrail.keep.refold import OPERATION as REBUILT
from ordertrail.keep.refold import Rebuild
from ordertrail.lock import pipeline_lock
from ordertrail.markers import require_tables
from ordertrail.mend.healing import Heal, heal, heals_of
from ordertrail.model import Batch, Probe, State, no_probe
from ordertrail.parse.database import connected
from ordertrail.pipeline import CORRECTION_WAITS_S, Pipeline
from ordertrail.rules.accepted import RECORDED
from ordertrail.rules.agreement import agree, refuse_taken
from ordertrail.rules.bounds import MAX_SHOWN_CHARS, cut
from ordertrail.rules.change_feed import RESERVED
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.headers import told_by_config
from ordertrail.rules.migration import (
    PROFILE,
    Step,
    Unfit,
    carried_contract,
    effect_of,
    feed_steps,
    held_as,
    sources,
    steps_between,
)
from ordertrail.rules.schema import CONTRACT, Terms, accepted_terms, terms_of
from ordertrail.scratch import SPILL

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = frozenset({REBUILT, MIGRATED})
"""Commits after which the target is the fold of the history, whatever others wrote before."""


class MigrationReport(Struct, frozen=True):
    """What a migration did, or would do.

    Attributes:
        pipeline: The pipeline's name.
        steps: What it takes, in order; none when tables and contract agree.
        unfit: The first values that do not fit.
        problems: Why it cannot be done as it is, one line each.
        notes: What else the new contract concerns, one line each.
        applied: Whether it was done.
        batch: The batch that did it; None when nothing but columns was added, or nothing was done.
        seconds: How long it took.
        heals: Files of which the contract accepts more than was loaded; looked for only on request.
        replay_batch: The batch that read them again; None when none did.
    """

    pipeline: str
    steps: tuple[Step, ...]
    unfit: tuple[Unfit, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    applied: bool
    batch: int | None
    seconds: float
    heals: tuple[Heal, ...] = ()
    replay_batch: int | None = None


def migrate(
    config: Config,
    *,
    apply: bool = False,
    replay: bool = False,
    by: str = "",
    progress: Callable[[str], None] = no_probe,
    probe: Probe = no_probe,
    store: LogStore | None = None,
) -> MigrationReport:
    """Compare the tables with the contract, and bring them up to it on request.

    Idempotent; killed at any instant, the tables carry the old contract or the new one, once the next pass has opened
    them. What is staged and not done is finished first, under the contract that the tables carry.

    Args:
        config: Of the pipeline, with the new contract.
        apply: Whether to do it; otherwise nothing is written.
        replay: Whether to look in the archive for files of which the new contract accepts more than was loaded; with
            `apply` these are read again, in the batch after the migration.
        by: Who decided on that.
        progress: Called with a description of each step.
        probe: Called after every effect with its name; for fault tests.
        store: Where commits are written; for tests of failing commits.

    Raises:
        PassRunningError: A pass is still running after a minute; nothing was done.
        UsageError: It cannot be done as it is; nothing was written.
        TableError: The tables are damaged, or somebody changed them; nothing was written.
        StorageError: The disk is full or fails; the tables are as before.
    """
    began = time.perf_counter()
    config = placed(config)
    require_tables(config)
    if not apply:
        with _opened(config, probe) as session:
            report = _Work(session, progress, replay=replay).report(began)
        return replace(report, heals=_heals(config, progress)) if replay else report
    _finish_staged(config, probe)
    with pipeline_lock(config, wait_s=CORRECTION_WAITS_S):
        with _opened(config, probe, store) as session:
            finish_migration(session)
            report = _Work(session, progress, replay=replay).apply(began)
        if not replay:
            return report
        heals = _heals(config, progress)
        healed = heal(config, heals, by, probe)
    seconds = round(time.perf_counter() - began, 4)
    return replace(report, heals=heals, replay_batch=None if healed is None else healed.batch, seconds=seconds)


def _heals(config: Config, progress: Callable[[str], None]) -> tuple[Heal, ...]:
    progress("reading archived files again")
    return heals_of(config)


class _Work:
    """One comparison of tables and contract.

    Args:
        session: Its config has the new contract.
        progress: Called with a description of each step.
        replay: Whether files are read again as well.
    """

    def __init__(self, session: Session, progress: Callable[[str], None], *, replay: bool) -> None:
        self._session = session
        self._replay = replay
        self._progress = progress
        self._contract = session.config.contract
        self.terms = terms_held(session)
        before = replace(session.config, contract=carried_contract(self.terms, self._contract))
        old = replace(session, config=before, tables=tables_of(before))
        there = [declared(table) for table in old.tables.all]
        agree(there, self.terms.text, before.contract, lambda _: False)
        refuse_taken([declared(table) for table in session.tables.all], self.terms, self._contract)
        progress("reading the history")
        self._done = Rebuild(old).done
        self._conversion = Conversion(session, session.tables.history.newest(), self.terms)
        self._tallies = self._conversion.tallies()
        feed = feed_steps(session.config.change_feed, on=session.tables.target.newest().feeds_changes)
        steps = (*_counted(self.terms, session.config, self._tallies), *feed)
        self._unfilled = tuple(one for one in steps if one.kind == "fill" and session.config.appends)
        self.steps = tuple(one for one in steps if one not in self._unfilled)
        self.problems = tuple(self._problems())

    def report(self, began: float, batch: int | None = None, *, applied: bool = False) -> MigrationReport:
        """What it takes, or what was done."""
        unfit = self._conversion.unfit() if any(step.unfit for step in self.steps) and not applied else []
        notes = () if applied else tuple(self._notes())
        seconds = round(time.perf_counter() - began, 4)
        name = self._session.config.name
        return MigrationReport(name, self.steps, tuple(unfit), self.problems, notes, applied, batch, seconds)

    def apply(self, began: float) -> MigrationReport:
        """Do it.

        Raises:
            UsageError: It cannot be done as it is; nothing was written.
        """
        session = self._session
        if self.problems:
            raise UsageError(
                f"{'; '.join((*self.problems, *map(_shown, self._conversion.unfit())))}; nothing was changed",
                hint=_MEND,
            )
        absent = self._absent()
        steps = [step for step in self.steps if step.kind != "fill" or (step.rows or 0) > step.unfit]
        feed = [step for step in steps if step.kind == "feed"]
        steps = [step for step in steps if step.kind != "feed"]
        batched = bool(absent) or not all(step.by_itself for step in steps)
        if batched:
            self._refuse_foreign_rows()
        for step in feed:
            switch_feed(session, on=step.after == "on")
        if not batched:
            bring_up_to_date(session)
            return self.report(began, applied=bool(steps or feed))
        batch = self._batch()
        work = Preparation(session, self.terms, self._conversion, self._done, effect_of(steps))
        self._progress("writing history and target anew")
        work.write(batch, absent)
        migration = work.migration(self.terms.text, terms_of(self._contract).text, [step.text for step in steps])
        (manifest,) = batch.manifests
        batch = replace(batch, manifests=(replace(manifest, migration=migration.text),))
        self._progress("committing")
        stage_migration(session, batch, self.terms)
        commit_migration(session, batch, migration)
        return self.report(began, batch.number, applied=True)

    # -- may it be done -------------------------------------------------------------------------------------

    def _problems(self) -> Iterator[str]:
        if self._session.config.appends:
            name = self._session.tables.target.root.name
            for step in self.steps:
                if step.kind in _REWRITES:
                    yield f"{step.text}: that rewrites rows, and {name} is append only, so no row of it may be changed"
        limit = self._session.config.limits.max_reject_share
        if any(step.kind == "feed" and step.after == "on" for step in self.steps):
            columns = self._session.tables.target.newest().metadata.columns
            for taken in sorted(RESERVED & {one.lower() for one in columns}):
                yield f"others added the column {taken} to the target, and readers of its changes add one of that name"
        for step in self.steps:
            if step.kind == "type" and step.rows and step.unfit / step.rows > limit:
                yield (
                    f"{step.unfit:,} of {step.rows:,} values of {step.column} do not fit {step.after}, more than "
                    f"max_reject_share ({limit:g}) allows"
                )
        for vendor, name, values in self._conversion.without_zone():
            yield (
                f"times of {name} without a zone: {values:,} from {vendor}, which is no longer in the config, so they "
                f"would be read as UTC; put its [[vendors]] back, with its timezone"
            )
        for column in self._contract.columns:
            there = held_as(column, self.terms, self._contract)
            if len(there) > 1:
                yield f"{column.name} would take the place of {' and '.join(there)}, and one of them would be lost"
            empty = self._tallies[column.name].empty if column.required and column.name in self._tallies else 0
            what = "the key" if column.name in self._contract.key else "required"
            what = "the order" if column.name == self._contract.order_by else what
            if empty:
                yield f"{column.name} is {what} and would be NULL in {empty:,} rows"

    def _refuse_foreign_rows(self) -> None:
        """Refuse a target that others wrote rows to: a fold of the history would undo that."""
        if self._session.config.appends:
            return  # no row of it is written anew
        table, app_id = self._session.tables.target, self._session.app_id
        found = foreign_writes(table.log, app_id)
        if found:
            version, operation = found[0]
            raise UsageError(
                f"somebody else wrote to {table.root.name} (version {version}, {operation}), and a migration folds it "
                "anew from the history; nothing was changed",
                hint="ordertrail rebuild --dry-run says what differs; ordertrail rebuild takes it back, then migrate",
            )

    # -- parts ----------------------------------------------------------------------------------------------

    def _batch(self) -> Batch:
        config = self._session.config
        number = 1 + progress_of(look(config), self._session.app_id).highest
        clock = datetime.now(UTC)
        words = "; ".join(step.text for step in self.steps if step.kind != "feed")
        batch = Batch(number, uuid.uuid4().hex, clock, ())
        reason = f"the tables got another contract: {words}"
        manifest = decision_manifest(batch, 0, "migration", State.MIGRATION, reason)
        return replace(batch, manifests=(manifest,))

    def _absent(self) -> dict[str, tuple[str, ...]]:
        """The columns that deliveries lack under the new contract, where they change."""
        session = self._session
        rows = session.run(f"SELECT delivery_id, vendor, absent FROM {session.deliveries()} WHERE {RECORDED}")
        deliveries = [(str(one), str(vendor or ""), tuple(json.loads(str(said or "[]")))) for one, vendor, said in rows]
        never = {vendor.name: vendor.absent for vendor in session.config.vendors}
        return absent_after(deliveries, sources(self.terms, self._contract), self._conversion.sent(), never)

    def _notes(self) -> Iterator[str]:
        """What the contract and the profiles concern besides the tables."""
        session = self._session
        for step in self._unfilled:
            yield (
                f"{step.rows:,} values of {step.column} stay in _rescued: the rows of a target that is append only are "
                "never rewritten"
            )
        known = {one for vendor in session.config.vendors for one in contract_hashes(self._contract, vendor)}
        rows = session.run(
            "SELECT state, contract_hash, count(*) FROM "
            f"{session.deliveries()} WHERE state IN ('loaded', 'quarantined', 'held') GROUP BY ALL"
        )
        ((partly,),) = session.run(
            f"SELECT count(*) FROM {session.deliveries()} WHERE state = 'loaded' AND rows_rejected > 0"
        )
        other = sum(int(str(n)) for state, said, n in rows if state == State.LOADED and said not in known)
        aside = sum(int(str(n)) for state, _, n in rows if state != State.LOADED)
        if other:
            yield (
                f"deliveries that were loaded under other settings: {other:,}. Where aliases, formats or maps have "
                "changed, ordertrail replay DELIVERY... reads their archived files again"
            )
        if (aside or partly) and not self._replay:
            yield (
                f"deliveries that are set aside: {aside:,}, with rejected rows: {partly:,}; ordertrail migrate "
                "--replay says which of them this contract accepts"
            )


_REWRITES = frozenset({"type", "rename", "drop"})
"""Kinds of steps that rewrite rows of history and target."""

_MEND = "mend the contract, or correct the rows: ordertrail correct or replay"


def terms_held(session: Session) -> Terms:
    """The contract that the tables carry."""
    tables = session.tables
    text = tables.history.newest().metadata.properties.get(CONTRACT)
    there = [declared(table) for table in tables.all]
    return accepted_terms(text, there, session.config.contract)


def foreign_writes(log: DeltaLog, app_id: str) -> list[tuple[int, str]]:
    """Commits of others that changed rows of the target since it was last folded anew, newest first.

    Args:
        log: The target's.
        app_id: The pipeline's application id.

    Returns:
        The version and the operation of each.
    """
    adopted = adopt_id(app_id)
    ours = {app_id, adopted}
    found: list[tuple[int, str]] = []
    for version, actions in log.backwards():
        bodies = [(kind, body) for action in actions for kind, body in action.items() if isinstance(body, dict)]
        said = next((str(body.get("operation")) for kind, body in bodies if kind == "commitInfo"), "")
        own = any(kind == "txn" and body.get("appId") in ours for kind, body in bodies)
        if own and (said in _OURS or ("txn", adopted) in [(kind, body.get("appId")) for kind, body in bodies]):
            break
        if not own and any(kind in ("add", "remove") and body.get("dataChange") for kind, body in bodies):
            found.append((version, said))
    return found


def _shown(one: Unfit) -> str:
    return f"{one.file_name} row {one.file_row}, {one.column} {cut(one.value, MAX_SHOWN_CHARS)!r}: {one.reason}"


def _counted(terms: Terms, config: Config, tallies: Mapping[str, Tally]) -> Iterator[Step]:
    """The steps with the numbers of their values, and the filling of columns."""
    contract = config.contract
    told = {name for one in config.vendors for name in (*dict(one.combine), *told_by_config(one))}
    for step in steps_between(terms, contract):
        tally = tallies.get(step.column)
        if step.kind == "type" and tally is not None:
            yield replace(step, rows=tally.retyped, unfit=tally.unfit_retyped)
        else:
            yield step
    for name, tally in tallies.items():
        if tally.filled:
            yield Step("fill", name, PROFILE if name in told else None, None, tally.filled, tally.unfit_filled)


def _finish_staged(config: Config, probe: Probe) -> None:
    """Finish a batch that is staged and not done, under the contract that the tables carry."""
    with _opened(config, probe) as session:
        tables = session.tables
        staged = tables.stage.newest().last_txn(session.app_id)
        if staged <= tables.deliveries.newest().last_txn(session.app_id) or unfinished_migration(session) is not None:
            return
        before = carried_contract(terms_held(session), config.contract)
    Pipeline(replace(config, contract=before), probe=probe).load()


@contextmanager
def _opened(config: Config, probe: Probe, store: LogStore | None = None) -> Iterator[Session]:
    """A session on the five tables, whatever contract they carry; it knows the columns that they got from files."""
    config = followed(config)
    with (
        connected(config.threads, config.memory_limit_mb, config.warehouse / SPILL) as con,
        ThreadPoolExecutor(max_workers=1) as pool,
        cured(config),
        duckdb_errors("cannot migrate the tables"),
    ):
        read_whole(config)
        session = Session(config, con, pool, tables_of(config, store), "", probe)
        session.app_id = app_id_of(session.tables.deliveries.newest())
        yield session
