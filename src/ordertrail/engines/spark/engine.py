"""The Spark engine: for tables that only Spark reads, and for large batches; on a laptop, a cluster, Databricks.

Each step of a batch has its module: `stage`, `load`, `record`; `route` decides who does it. The rules are those of the
embedded engine: rows go through the row kernel (`workers`), sets through the SQL of `rules.outcomes`; only the change
set is applied by Delta's own `MERGE`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.base import Admit, Books, Ledger, Staged, StageRequest, anyone
from ordertrail.engines.embedded.books import FolderBooks
from ordertrail.engines.embedded.stage import stage_batch as stage_in_folders
from ordertrail.engines.load import Load, loaded
from ordertrail.engines.spark.books import CatalogBooks
from ordertrail.engines.spark.causes import RowsLostError
from ordertrail.engines.spark.current import keep_view
from ordertrail.engines.spark.load import load_in_folders, load_through_spark
from ordertrail.engines.spark.route import DRIVER, route_of, route_of_batch
from ordertrail.engines.spark.session import lost_for_good, session_of, spark_errors
from ordertrail.engines.spark.stage import stage_batch
from ordertrail.engines.spark.tables import tables_of
from ordertrail.engines.spark.work import SparkPass
from ordertrail.model import Batch, Probe, RowCounts, no_probe
from ordertrail.rules.added import Newcomers
from ordertrail.rules.corrections import Known
from ordertrail.rules.planning import LoadedFile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ATTEMPTS = 4
"""How often a step is tried when its rows are lost with an executor."""


class SparkEngine:
    """`Engine` on Spark and Delta Lake.

    Tables in folders are shared with the embedded engine: there a small batch is staged, weighed and recorded as in
    that engine, and Spark only applies it to the target.

    Args:
        config: Names, folders, contract and limits.
        probe: Called after each effect.
        session: Used as it is, and left open; None uses the active one, or starts one.

    Raises:
        UsageError: Spark is not installed, or cannot start.
    """

    def __init__(self, config: Config, probe: Probe = no_probe, session: SparkSession | None = None) -> None:
        spark = session or session_of(config)
        self._run = SparkPass(config, spark, tables_of(spark, config), probe)
        self._catalog = CatalogBooks(self._run)
        self._folders = FolderBooks(config, probe) if config.in_folders else None
        self._books: Books = self._folders or self._catalog
        self._open_in_spark = self._folders is None
        self._load: Load | None = None

    def open(self, admit: Admit = anyone) -> Ledger:
        """See `Books.open`."""
        ledger = self._books.open(admit)
        if self._folders is not None:
            self._run.app_id, self._run.resets = ledger.app_id, self._folders.resets
            self._run.follow(self._folders.session.config.contract)
        if self._run.config.appends and self._run.config.by_name:
            with spark_errors("cannot make the view of the latest state"):
                keep_view(self._run)
        return ledger

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """See `Books.loaded_files`."""
        return self._books.loaded_files(sizes_bytes)

    def recent_rows(self, vendors: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """See `Books.recent_rows`."""
        return self._books.recent_rows(vendors)

    def widen(self, request: StageRequest) -> Newcomers:
        """See `Books.widen`."""
        found = self._books.widen(request)
        if self._folders is not None and found.columns:
            self._run.follow(self._folders.session.config.contract)
            self._open_in_spark = False
        return found

    def stage(self, request: StageRequest) -> Staged:
        """See `Engine.stage`."""
        config = self._run.config
        sizes = [c.identity.size_bytes for c in request.fresh]
        # The rows of a correction are weighed here: executors know only batches whose rows are all staged.
        request = replace(request, route=DRIVER if request.correction else route_of(config, sizes))
        with self._errors("cannot stage the batch"):
            if self._folders is not None and request.route == DRIVER:
                return stage_in_folders(self._folders.session, request)
            self._open_catalog()
            with lost_for_good():
                return stage_batch(self._run, request)

    def past(self) -> tuple[Known, ...]:
        """See `Books.past`."""
        return self._books.past()

    def staged(self) -> Batch:
        """See `Books.staged`."""
        return self._books.staged()

    def load(self, batch: Batch) -> Mapping[str, RowCounts]:
        """See `Engine.load`."""
        for _ in range(ATTEMPTS - 1):
            with suppress(RowsLostError):
                return self._loaded(batch)
        with lost_for_good():
            return self._loaded(batch)

    def record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        """See `Engine.record`."""
        for _ in range(ATTEMPTS - 1):
            with suppress(RowsLostError):
                self._record(batch, counts)
                return
            with suppress(RowsLostError):
                self._loaded(batch)
        with lost_for_good():
            self._record(batch, counts)

    def archived(self, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
        """See `Books.archived`."""
        self._books.archived(batch, elsewhere)

    def close(self) -> None:
        """See `Books.close`."""
        with ExitStack() as last:
            if self._folders is not None:
                last.callback(self._folders.close)
            last.callback(self._catalog.close)
            with spark_errors("cannot release Spark"):
                self._release()

    # -- parts ----------------------------------------------------------------------------------------------

    def _loaded(self, batch: Batch) -> Mapping[str, RowCounts]:
        with self._errors(f"cannot load batch {batch.number}"):
            self._release()
            route = route_of_batch(self._run.config, batch)
            if self._folders is not None and route == DRIVER:
                self._load = load_in_folders(self._run, self._folders.session, batch)
            else:
                self._open_catalog()
                self._load = load_through_spark(self._run, batch, route)
            return self._load.run()

    def _record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        with self._errors(f"cannot record batch {batch.number}"):
            loaded(self._load, batch).record(counts)

    def _release(self) -> None:
        if self._load is not None:
            self._load.close()
            self._load = None

    def _open_catalog(self) -> None:
        """Open tables in folders through Spark as well, once a pass."""
        if not self._open_in_spark:
            self._catalog.open()
            self._open_in_spark = True

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        with ExitStack() as outer:
            outer.enter_context(duckdb_errors(doing) if self._folders is None else self._folders.errors(doing))
            with spark_errors(doing):
                yield
