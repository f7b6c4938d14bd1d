"""A migration of tables in folders, which this process reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog, LogStore
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.embedded.migrate import OPERATION as MIGRATED
from ordertrail.engines.embedded.migrate import (
    Preparation,
    commit_migration,
    finish_migration,
    stage_migration,
)
from ordertrail.engines.ledger import adopt_id
from ordertrail.engines.local.convert import Conversion
from ordertrail.engines.local.followed import followed
from ordertrail.engines.local.migrating import Converted
from ordertrail.engines.local.schema import bring_up_to_date, declared, switch_feed, unfinished_migration
from ordertrail.engines.local.session import Session, app_id_of, tables_of
from ordertrail.engines.local.whole import cured, look, progress_of, read_whole
from ordertrail.keep.refold import OPERATION as REBUILT
from ordertrail.keep.refold import Rebuild
from ordertrail.model import Batch, Probe
from ordertrail.parse.database import connected
from ordertrail.rules.agreement import agree, refuse_taken
from ordertrail.rules.migration import Step, carried_contract, effect_of
from ordertrail.rules.schema import CONTRACT, Terms, accepted_terms, terms_of
from ordertrail.scratch import SPILL

_OURS = frozenset({REBUILT, MIGRATED})
"""Commits after which the target is the fold of the history, whatever others wrote before."""


class FolderMigration:
    """`Migrating` on tables in folders.

    Args:
        session: Its config has the new contract.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._done = 0
        self._conversion: Conversion | None = None

    @property
    def config(self) -> Config:
        """See `Migrating.config`."""
        return self._session.config

    @property
    def terms(self) -> Terms:
        """See `Migrating.terms`."""
        tables = self._session.tables
        text = tables.history.newest().metadata.properties.get(CONTRACT)
        return accepted_terms(text, [declared(table) for table in tables.all], self.config.contract)

    @property
    def highest(self) -> int:
        """See `Migrating.highest`."""
        return progress_of(look(self.config), self._session.app_id).highest

    @property
    def under_way(self) -> bool:
        """See `Migrating.under_way`."""
        session = self._session
        staged = session.tables.stage.newest().last_txn(session.app_id)
        done = session.tables.deliveries.newest().last_txn(session.app_id)
        return staged > done and unfinished_migration(session) is None

    @property
    def target_columns(self) -> tuple[str, ...]:
        """See `Migrating.target_columns`."""
        return tuple(self._session.tables.target.newest().metadata.columns)

    @property
    def feeds_changes(self) -> bool:
        """See `Migrating.feeds_changes`."""
        return self._session.tables.target.newest().feeds_changes

    def finish(self) -> None:
        """See `Migrating.finish`."""
        finish_migration(self._session)

    def convert(self) -> Converted:
        """See `Migrating.convert`."""
        session, terms = self._session, self.terms
        before = replace(session.config, contract=carried_contract(terms, session.config.contract))
        old = replace(session, config=before, tables=tables_of(before))
        agree([declared(table) for table in old.tables.all], terms.text, before.contract, lambda _: False)
        refuse_taken([declared(table) for table in session.tables.all], terms, session.config.contract)
        self._done = Rebuild(old).done
        self._conversion = Conversion(session, session.tables.history.newest(), terms)
        return self._conversion

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """See `Migrating.ask`."""
        return self._session.run(sql.format(deliveries=self._session.deliveries()))

    def refusals(self, steps: Sequence[Step]) -> Iterator[str]:  # noqa: ARG002 - nothing does
        """See `Migrating.refusals`: a table with a feature that could stand in the way is refused as a whole."""
        yield from ()

    def foreign_write(self) -> tuple[int, str] | None:
        """See `Migrating.foreign_write`."""
        return next(iter(foreign_writes(self._session.tables.target.log, self._session.app_id)), None)

    def add_columns(self) -> None:
        """See `Migrating.add_columns`."""
        bring_up_to_date(self._session)

    def switch_feed(self, *, on: bool) -> None:
        """See `Migrating.switch_feed`."""
        switch_feed(self._session, on=on)

    def carry_out(self, batch: Batch, steps: Sequence[Step], absent: Mapping[str, tuple[str, ...]]) -> None:
        """See `Migrating.carry_out`. All new data files are written before the stage's commit."""
        session, terms = self._session, self.terms
        assert self._conversion is not None  # the steps come from it
        work = Preparation(session, terms, self._conversion, self._done, effect_of(steps))
        work.write(batch, absent)
        after = terms_of(session.config.contract).text
        migration = work.migration(terms.text, after, [step.text for step in steps])
        (manifest,) = batch.manifests
        batch = replace(batch, manifests=(replace(manifest, migration=migration.text),))
        stage_migration(session, batch, terms)
        commit_migration(session, batch, migration)


@contextmanager
def in_folders(config: Config, probe: Probe, store: LogStore | None = None) -> Iterator[FolderMigration]:
    """The five tables, whatever contract they carry.

    Args:
        config: Of the pipeline, with the new contract.
        probe: Called after every effect with its name.
        store: Where commits are written; for tests of failing commits.
    """
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
        yield FolderMigration(session)


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
