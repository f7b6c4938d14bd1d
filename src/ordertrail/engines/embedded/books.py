"""The books of tables in folders: opens them, tells where the last pass stopped and what is staged or archived."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from msgspec.structs import astuple, replace

from ordertrail.config import Config
from ordertrail.delta.log import LogStore
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.base import Admit, Ledger, StageRequest, anyone
from ordertrail.engines.embedded.damage import damage, resets
from ordertrail.engines.embedded.feed import feed_notes
from ordertrail.engines.embedded.record import mark_archived
from ordertrail.engines.embedded.stage import read_staged
from ordertrail.engines.embedded.widen import widen
from ordertrail.engines.ledger import agreed_app_id
from ordertrail.engines.local.find import is_indexed, open_index
from ordertrail.engines.local.followed import followed
from ordertrail.engines.local.schema import bring_up_to_date, unfinished_migration
from ordertrail.engines.local.session import Session, app_id_of, loaded_files, past, recent_rows, tables_of
from ordertrail.engines.local.whole import cured, log_errors, progress_of, standings_of, whole_again
from ordertrail.model import Batch, Contract, Probe, no_probe
from ordertrail.parse.compiled import refuse_unreadable
from ordertrail.parse.database import connect, release
from ordertrail.rules.added import Newcomers
from ordertrail.rules.corrections import Known
from ordertrail.rules.losses import ROLES, Standing
from ordertrail.rules.planning import LoadedFile
from ordertrail.rules.tables import owned_by
from ordertrail.scratch import SPILL


class FolderBooks:
    """`Books` of Delta tables in folders.

    Attributes:
        session: The pass, for the steps of a batch.
        resets: Warnings about commits of others on the target; known once the tables are open.

    Args:
        config: Names, folders, contract and limits.
        probe: Called after each effect.
        store: Where commits are written; for tests of failing commits.
    """

    def __init__(self, config: Config, probe: Probe = no_probe, store: LogStore | None = None) -> None:
        spill = config.warehouse / SPILL
        con = connect(config.threads, config.memory_limit_mb, spill)
        pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="ordertrail-cut")
        self._store = store
        self.session = Session(config, con, pool, tables_of(config, store), "", probe)
        self.resets: tuple[str, ...] = ()

    def open(self, admit: Admit = anyone) -> Ledger:
        """See `Books.open`."""
        refuse_unreadable(self.session.config, self.session.con)
        session = self.session
        found = self._app_id()
        session.app_id = found or ""
        whole_again(self._standings)
        session.app_id = admit(found)
        self._follow(followed(session.config).contract)
        tables = session.tables
        with self.errors("cannot read the stage"):
            if unfinished_migration(session) is not None:
                from ordertrail.engines.embedded.migrate import finish_migration

                finish_migration(session)
        bring_up_to_date(session)
        self._make()
        snapshots = [table.snapshot() for table in tables.all]
        for snapshot in snapshots:
            snapshot.require_writable()
        if is_indexed(session.config, snapshots[1]):
            session.index = open_index(session.config, snapshots[1])
        here = dict(zip(ROLES, snapshots, strict=True))
        stands = progress_of(here, session.app_id)
        self.resets = resets(tables.target, session.app_id, stands.loaded)
        warnings = self.resets + damage(here, session.app_id)
        said = feed_notes(session.config, snapshots[1])
        return Ledger(stands.staged, stands.done, stands.archived, stands.highest, warnings, session.app_id, said)

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """See `Books.loaded_files`."""
        with self.errors("cannot read the deliveries"):
            return loaded_files(self.session, sizes_bytes)

    def recent_rows(self, vendors: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """See `Books.recent_rows`."""
        with self.errors("cannot read the deliveries"):
            return recent_rows(self.session, vendors)

    def past(self) -> tuple[Known, ...]:
        """See `Books.past`."""
        with self.errors("cannot read the deliveries"):
            return past(self.session)

    def widen(self, request: StageRequest) -> Newcomers:
        """See `Books.widen`."""
        with self.errors("cannot add columns"):
            return widen(self.session, request, self._follow)

    def staged(self) -> Batch:
        """See `Books.staged`."""
        with self.errors("cannot read the stage"):
            return read_staged(self.session)

    def archived(self, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
        """See `Books.archived`."""
        with self.errors("cannot note what is archived"):
            mark_archived(self.session, batch, elsewhere)
        if self.session.index is not None:
            # The batch is done and readable: small runs of the index are merged now, so that the next batch is quick.
            with suppress(OSError):
                self.session.index.tidy(self.session.tables.target.snapshot().files.keys())

    def close(self) -> None:
        """See `Books.close`."""
        self.session.pool.shutdown(wait=True, cancel_futures=True)
        if self.session.index is not None:
            self.session.index.close()
        release(self.session.con)

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Translate errors of DuckDB, of the disk and of damaged files within the block into ours, with what to do.

        Args:
            doing: The beginning of the message, such as `cannot read the stage`.
        """
        with cured(self.session.config), duckdb_errors(doing):
            yield

    def _follow(self, contract: Contract) -> None:
        """Work under another contract from here on: the one that the tables carry or are about to get."""
        session = self.session
        if contract != session.config.contract:
            session.config = replace(session.config, contract=contract)
            session.tables = tables_of(session.config, self._store)

    def _app_id(self) -> str | None:
        """The application id that the existing tables agree on; None when there is none yet."""
        tables = self.session.tables.all
        found = (app_id_of(snapshot) for _, snapshot in self._present() if snapshot is not None)
        return agreed_app_id(found, str(tables[0].root.parent))

    def _present(self) -> list[tuple[str, Snapshot | None]]:
        """Each role with its table; None when there is none."""
        found: list[tuple[str, Snapshot | None]] = []
        for role, table in zip(ROLES, self.session.tables.all, strict=True):
            with log_errors(role, table.root):
                found.append((role, table.newest() if table.log.exists() else None))
        return found

    def _standings(self) -> list[Standing]:
        return standings_of(self._present(), self.session.app_id, astuple(self.session.config.tables))

    def _make(self) -> None:
        """Create the tables that were never created."""
        session, tables = self.session, self.session.tables
        config = session.config
        if not tables.stage.log.exists():
            tables.stage.create(owned_by(session.app_id, config.name))
            # Where no lock reaches, another pass may just have created the stage.
            session.app_id = self._app_id() or session.app_id
        properties = owned_by(session.app_id, config.name)
        for table in tables.all:
            is_target = table is tables.target
            feed = is_target and config.change_feed != "off"
            table.create(properties, vectors=is_target and config.vectors, feed=feed)
