"""`ordertrail migrate`: brings the tables from the contract that they carry to the one in the config.

`rules.migration` says what it takes. Where the tables are, `engines.local.migrating` hides: in folders
(`in_folders`), or in a catalog that only Spark reaches (`engines.spark.migrating`). What is decided here is whether it
may be done, and in which order.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import LogStore
from ordertrail.engines.batch_rows import decision_manifest
from ordertrail.engines.choice import engine_of, migrating_by_name, placed
from ordertrail.engines.local.convert import absent_after
from ordertrail.engines.local.migrating import Migrating
from ordertrail.errors import UsageError
from ordertrail.lock import pipeline_lock
from ordertrail.markers import require_tables
from ordertrail.mend.healing import Heal, heal, heals_of
from ordertrail.mend.in_folders import in_folders
from ordertrail.model import Batch, Probe, State, no_probe
from ordertrail.pipeline import CORRECTION_WAITS_S, Pipeline
from ordertrail.rules.accepted import RECORDED
from ordertrail.rules.bounds import MAX_SHOWN_CHARS, cut
from ordertrail.rules.change_feed import RESERVED
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.headers import told_by_config
from ordertrail.rules.migration import (
    PROFILE,
    Step,
    Tally,
    Unfit,
    carried_contract,
    feed_steps,
    held_as,
    sources,
    steps_between,
)
from ordertrail.rules.schema import Terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ordertrail.engines.spark.session import SparkSession


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
    session: SparkSession | None = None,
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
        session: For tables by name; None uses the active one, or starts one.

    Raises:
        PassRunningError: A pass is still running after a minute; nothing was done.
        UsageError: It cannot be done as it is; nothing was written.
        TableError: The tables are damaged, or somebody changed them; nothing was written.
        StorageError: The disk is full or fails; the tables are as before.
    """
    began = time.perf_counter()
    config = placed(config, session)
    require_tables(config)
    if replay and not config.in_folders:
        raise UsageError(
            "migrate --replay reads tables in folders, and these are reached by Spark alone; nothing was done",
            hint="migrate without --replay; then ordertrail replay --all-quarantined reads what was set aside again",
        )
    place = _Place(config, probe, store, session)
    if not apply:
        with place.opened() as tables:
            report = _Work(tables, progress, replay=replay).report(began)
        return replace(report, heals=_heals(config, progress)) if replay else report
    _finish_staged(place)
    with pipeline_lock(config, wait_s=CORRECTION_WAITS_S):
        with place.opened() as tables:
            tables.finish()
            report = _Work(tables, progress, replay=replay).apply(began)
        if not replay:
            return report
        heals = _heals(config, progress)
        healed = heal(config, heals, by, probe)
    seconds = round(time.perf_counter() - began, 4)
    return replace(report, heals=heals, replay_batch=None if healed is None else healed.batch, seconds=seconds)


def _heals(config: Config, progress: Callable[[str], None]) -> tuple[Heal, ...]:
    progress("reading archived files again")
    return heals_of(config)


class _Place(Struct, frozen=True):
    """Where the tables are, as arguments of `migrate`."""

    config: Config
    probe: Probe
    store: LogStore | None
    session: SparkSession | None

    @contextmanager
    def opened(self) -> Iterator[Migrating]:
        """The five tables, whatever contract they carry."""
        if self.config.in_folders:
            with in_folders(self.config, self.probe, self.store) as tables:
                yield tables
        else:
            with migrating_by_name(self.config, self.session, self.probe) as named:
                yield named


class _Work:
    """One comparison of tables and contract.

    Args:
        tables: The tables.
        progress: Called with a description of each step.
        replay: Whether files are read again as well.
    """

    def __init__(self, tables: Migrating, progress: Callable[[str], None], *, replay: bool) -> None:
        self._tables = tables
        self._config = tables.config
        self._contract = tables.config.contract
        self._replay = replay
        self._progress = progress
        self.terms = tables.terms
        progress("reading the history")
        self._conversion = tables.convert()
        self._tallies = self._conversion.tallies()
        feed = feed_steps(self._config.change_feed, on=tables.feeds_changes)
        steps = (*_counted(self.terms, self._config, self._tallies), *feed)
        self._unfilled = tuple(one for one in steps if one.kind == "fill" and self._config.appends)
        self.steps = tuple(one for one in steps if one not in self._unfilled)
        self.problems = tuple(self._problems())

    def report(self, began: float, batch: int | None = None, *, applied: bool = False) -> MigrationReport:
        """What it takes, or what was done."""
        unfit = self._conversion.unfit() if any(step.unfit for step in self.steps) and not applied else []
        notes = () if applied else tuple(self._notes())
        seconds = round(time.perf_counter() - began, 4)
        return MigrationReport(
            self._config.name, self.steps, tuple(unfit), self.problems, notes, applied, batch, seconds
        )

    def apply(self, began: float) -> MigrationReport:
        """Do it.

        Raises:
            UsageError: It cannot be done as it is; nothing was written.
        """
        tables = self._tables
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
            tables.switch_feed(on=step.after == "on")
        if not batched:
            tables.add_columns()
            return self.report(began, applied=bool(steps or feed))
        batch = self._batch()
        self._progress("writing history and target anew")
        tables.carry_out(batch, steps, absent)
        return self.report(began, batch.number, applied=True)

    # -- may it be done -------------------------------------------------------------------------------------

    def _problems(self) -> Iterator[str]:
        if self._config.appends:
            name = self._config.tables.target
            for step in self.steps:
                if step.kind in _REWRITES:
                    yield f"{step.text}: that rewrites rows, and {name} is append only, so no row of it may be changed"
        limit = self._config.limits.max_reject_share
        if any(step.kind == "feed" and step.after == "on" for step in self.steps):
            for taken in sorted(RESERVED & {one.lower() for one in self._tables.target_columns}):
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
        yield from self._tables.refusals(self.steps)

    def _refuse_foreign_rows(self) -> None:
        """Refuse a target that others wrote rows to: a fold of the history would undo that."""
        if self._config.appends:
            return  # no row of it is written anew
        found = self._tables.foreign_write()
        if found is not None:
            name, (version, operation) = self._config.tables.target, found
            raise UsageError(
                f"somebody else wrote to {name} (version {version}, {operation}), and a migration folds it anew from "
                "the history; nothing was changed",
                hint=_TAKE_BACK if self._config.in_folders else _AGREE,
            )

    # -- parts ----------------------------------------------------------------------------------------------

    def _batch(self) -> Batch:
        number = 1 + self._tables.highest
        clock = datetime.now(UTC)
        words = "; ".join(step.text for step in self.steps if step.kind != "feed")
        batch = Batch(number, uuid.uuid4().hex, clock, ())
        reason = f"the tables got another contract: {words}"
        manifest = decision_manifest(batch, 0, "migration", State.MIGRATION, reason)
        return replace(batch, manifests=(manifest,))

    def _absent(self) -> dict[str, tuple[str, ...]]:
        """The columns that deliveries lack under the new contract, where they change."""
        rows = self._tables.ask(f"SELECT delivery_id, vendor, absent FROM {{deliveries}} WHERE {RECORDED}")
        deliveries = [(str(one), str(vendor or ""), tuple(json.loads(str(said or "[]")))) for one, vendor, said in rows]
        never = {vendor.name: vendor.absent for vendor in self._config.vendors}
        return absent_after(deliveries, sources(self.terms, self._contract), self._conversion.sent(), never)

    def _notes(self) -> Iterator[str]:
        """What the contract and the profiles concern besides the tables."""
        ask = self._tables.ask
        for step in self._unfilled:
            yield (
                f"{step.rows:,} values of {step.column} stay in _rescued: the rows of a target that is append only are "
                "never rewritten"
            )
        known = {one for vendor in self._config.vendors for one in contract_hashes(self._contract, vendor)}
        rows = ask(
            "SELECT state, contract_hash, count(*) FROM {deliveries} WHERE state IN ('loaded', 'quarantined', 'held') "
            "GROUP BY state, contract_hash"
        )
        ((partly,),) = ask("SELECT count(*) FROM {deliveries} WHERE state = 'loaded' AND rows_rejected > 0")
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

_TAKE_BACK = "ordertrail rebuild --dry-run says what differs; ordertrail rebuild takes it back, then migrate"
_AGREE = (
    "write the rows back as they were, or load a file that says what they say now; then migrate: rows that are those "
    "of the history are in nobody's way"
)

_MEND = "mend the contract, or correct the rows: ordertrail correct or replay"


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


def _finish_staged(place: _Place) -> None:
    """Finish a batch that is staged and not done, under the contract that the tables carry."""
    with place.opened() as tables:
        if not tables.under_way:
            return
        before = carried_contract(tables.terms, tables.config.contract)
    engine = partial(engine_of, session=place.session)
    Pipeline(replace(place.config, contract=before), probe=place.probe, engine=engine).load()
