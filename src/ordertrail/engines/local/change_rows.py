"""The changes of the target for Python: as Arrow, batch by batch or as one stream."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ordertrail.config import Config
from ordertrail.engines.local.change_ends import flat_sql
from ordertrail.engines.local.changed import OpenChanges
from ordertrail.engines.local.changes import Wanted, open_changes
from ordertrail.engines.local.whole import read_whole
from ordertrail.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 16_384


class Changes:
    """What some batches changed in the target, by batch and key, as the tables were when this object was made.

    One row is one change of a shipment: `_batch`, `_change` (`insert`, `update` or `delete`), the key, each other
    column as `before_<name>` and `after_<name>`, and why: `_delivery_id`, `_file_name`, `_file_row`, `_outcome`.
    Nothing is collected: any number of changes is read in little memory. A later pass changes nothing here.

    Args:
        config: Of the pipeline, with the folders of its tables (`engines.choice.placed`).
        wanted: Which changes.

    Attributes:
        from_batch: The first batch.
        next_batch: The batch after the last one: where to go on the next time.
        columns: The names of the columns.
        notes: Why the target may be something else than what its changes add up to, one line each.

    Raises:
        ForeignChangeError: Batches are wanted that cannot be read; says the oldest one that can be.
        TableError: A table is missing or damaged.
    """

    def __init__(self, config: Config, wanted: Wanted) -> None:
        self._config = config
        self._tables = read_whole(config)
        with open_changes(config, wanted, _spills(), self._tables) as opened:
            self.from_batch = opened.first
            self.next_batch = opened.last + 1
            self.columns = opened.columns
            self.notes = opened.notes
        self._wanted = Wanted(self.from_batch, opened.last, wanted.net)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} from batch {self.from_batch} to {self.next_batch - 1}>"

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The changes in pieces of at most some thousand rows.

        Raises:
            TableError: A data file is damaged or gone.
            StorageError: A data file cannot be read.
        """
        with self._reader() as reader:
            yield from reader

    def batches(self) -> Iterator[tuple[int, pa.Table]]:
        """Each batch that changed something with all its changes, in the memory that these take.

        Raises:
            TableError: As `__iter__`.
            StorageError: As `__iter__`.
        """
        import pyarrow as pa

        pieces: list[pa.RecordBatch] = []
        for piece in self:
            numbers = piece.column("_batch")
            begin = 0
            while begin < piece.num_rows:
                number = numbers[begin].as_py()
                end = begin + _run_length(numbers, begin)
                if pieces and pieces[0].column("_batch")[0].as_py() != number:
                    yield pieces[0].column("_batch")[0].as_py(), pa.Table.from_batches(pieces)
                    pieces = []
                pieces.append(piece.slice(begin, end - begin))
                begin = end
        if pieces:
            yield pieces[0].column("_batch")[0].as_py(), pa.Table.from_batches(pieces)

    def to_arrow(self) -> pa.Table:
        """All changes as an Arrow table.

        Raises:
            TableError: As `__iter__`.
            StorageError: As `__iter__`.
        """
        with self._reader() as reader:
            return reader.read_all()

    @contextmanager
    def _reader(self) -> Iterator[pa.RecordBatchReader]:
        with (
            open_changes(self._config, self._wanted, _spills(), self._tables) as opened,
            opened.errors(),
            closing(_joined(opened)) as reader,
        ):
            yield reader


def _joined(opened: OpenChanges) -> pa.RecordBatchReader:
    """One reader over all statements."""
    import pyarrow as pa

    parts = flat_sql(opened)
    first = opened.con.sql(next(parts)).to_arrow_reader(_ROWS)

    def pieces() -> Iterator[pa.RecordBatch]:
        yield from first
        for sql in parts:
            yield from opened.con.sql(sql).to_arrow_reader(_ROWS)

    return pa.RecordBatchReader.from_batches(first.schema, pieces())


def changes(config: Config, from_batch: int | None, to_batch: int | None, *, net: bool) -> Changes:
    """What some batches changed, see `Pipeline.changes`.

    Args:
        config: Of the pipeline, with the folders of its tables.
        from_batch: The first batch; None means the first of all.
        to_batch: The last batch, inclusive, as far as it is done; None means the newest.
        net: One change a key over all these batches.

    Raises:
        UsageError: A number is negative.
        ForeignChangeError: As of `Changes`.
        TableError: Likewise.
    """
    if min(from_batch or 0, to_batch or 0) < 0:
        raise UsageError("a batch has no negative number", hint="batches are numbered from 1 on")
    return Changes(config, Wanted(from_batch, to_batch, net))


def _run_length(numbers: pa.Array, begin: int) -> int:
    """How many of the ascending numbers from a place on are equal."""
    import numpy as np

    found = numbers.to_numpy()
    return int(np.searchsorted(found, found[begin], side="right")) - begin


def _spills() -> Path:
    return Path(tempfile.gettempdir())
