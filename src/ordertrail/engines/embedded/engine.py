"""The embedded engine: DuckDB computes, and plain Delta tables in local folders store; no server.

Each step of a batch has its module: `stage`, `load`, `record`; the tables themselves are in `books`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ordertrail.config import Config
from ordertrail.delta.log import LogStore
from ordertrail.engines.base import Admit, Ledger, Staged, StageRequest, anyone
from ordertrail.engines.embedded.books import FolderBooks
from ordertrail.engines.embedded.load import load_of
from ordertrail.engines.embedded.stage import stage_batch
from ordertrail.engines.load import Load, loaded
from ordertrail.model import Batch, Probe, RowCounts, no_probe
from ordertrail.rules.added import Newcomers
from ordertrail.rules.corrections import Known
from ordertrail.rules.planning import LoadedFile


class EmbeddedEngine:
    """`Engine` on DuckDB and local Delta tables.

    Args:
        config: Names, folders, contract and limits.
        probe: Called after each effect.
        store: Where commits are written; for tests of failing commits.
    """

    def __init__(self, config: Config, probe: Probe = no_probe, store: LogStore | None = None) -> None:
        self._books = FolderBooks(config, probe, store)
        self._load: Load | None = None

    def open(self, admit: Admit = anyone) -> Ledger:
        """See `Books.open`."""
        return self._books.open(admit)

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """See `Books.loaded_files`."""
        return self._books.loaded_files(sizes_bytes)

    def recent_rows(self, vendors: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """See `Books.recent_rows`."""
        return self._books.recent_rows(vendors)

    def past(self) -> tuple[Known, ...]:
        """See `Books.past`."""
        return self._books.past()

    def widen(self, request: StageRequest) -> Newcomers:
        """See `Books.widen`."""
        return self._books.widen(request)

    def staged(self) -> Batch:
        """See `Books.staged`."""
        return self._books.staged()

    def archived(self, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
        """See `Books.archived`."""
        self._books.archived(batch, elsewhere)

    def close(self) -> None:
        """See `Books.close`."""
        self._books.close()

    def stage(self, request: StageRequest) -> Staged:
        """See `Engine.stage`."""
        with self._books.errors("cannot stage the batch"):
            return stage_batch(self._books.session, request)

    def load(self, batch: Batch) -> Mapping[str, RowCounts]:
        """See `Engine.load`."""
        with self._books.errors(f"cannot load batch {batch.number}"):
            self._load = load_of(self._books.session, batch)
            return self._load.run()

    def record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        """See `Engine.record`."""
        with self._books.errors(f"cannot record batch {batch.number}"):
            loaded(self._load, batch).record(counts)
