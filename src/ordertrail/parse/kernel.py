"""The row kernel: turns files of one vendor and one layout into a Parquet file of good rows and one of rejects.

It reads in two passes with the same rules. The first writes the good rows. Only when some rows are missing does a
second one explain them: which cell, which rule, the raw record. So good files, however large, are read once, and no
good row pays for the explanation of a bad one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import duckdb
import numpy as np
import pyarrow as pa
from msgspec import Struct

from ordertrail.arrow import has_plain_ends, is_plain, numbers
from ordertrail.errors import FileChangedError, OrdertrailError, QuarantineError
from ordertrail.model import Contract, Vendor
from ordertrail.parse.blocks import Broken
from ordertrail.parse.doubting import FileDoubts
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.bounds import MAX_RAW_CHARS, cut_sql
from ordertrail.rules.cell_text import name_column, parts_of
from ordertrail.rules.cells import RowSql, reject_json, row_sql
from ordertrail.rules.headers import Layout
from ordertrail.rules.sql import name_sql, quoted

BATCH_ROWS = 1 << 13
"""Small files are combined into Arrow batches of about this many rows before DuckDB sees them. A block of a large file
has more rows: its rules run while the next block is cut."""


PARQUET = "FORMAT parquet, PARQUET_VERSION V2, DICTIONARY_SIZE_LIMIT 2000"
"""How data files are written: with the encodings of Parquet 2 (delta-coded numbers and text lengths), and without a
dictionary for a column with more distinct values in a row group than this, so that the writer gives up early on
building one. Files are written a fifth faster and are a sixth smaller than with DuckDB's defaults."""

SMALL_PARQUET = f"{PARQUET}, ROW_GROUP_SIZE 20480"
"""The same for files of fewer rows than `SMALL_ROWS`: threads divide a file by its row groups, and who looks for one
row unpacks no more than one of them."""

SMALL_ROWS = 400_000
"""A file of more rows has enough row groups for all threads, and with smaller ones its footer would be long to read."""


class KernelFile(Struct, frozen=True):
    """One file of a kernel job.

    Attributes:
        number: Its `d`, unique in the job.
        open: Opens the file at its first byte; called once or twice.
        failed: Filled by the kernel: by number, why a file could not be read to its end; the others go on.
    """

    number: int
    open: Callable[[], BinaryIO]
    failed: dict[int, OrdertrailError]


class KernelCounts(Struct, frozen=True):
    """Rows of one file: parsed = good + rejected; how many of its lines are no rows, headers or blank; its doubts."""

    parsed: int
    good: int
    lines_skipped: int = 0
    doubts: tuple[str, ...] = ()

    @property
    def rejected(self) -> int:
        """Number of rejected rows."""
        return self.parsed - self.good


_RAW = "rtrim(raw, chr(10) || chr(13))"
_KEPT = f"CASE WHEN broken IS NULL THEN {cut_sql(_RAW, MAX_RAW_CHARS)} ELSE {_RAW} END"  # cut already


class Kernel:
    """The row rules of one contract, vendor and layout, ready to run.

    Args:
        con: From `connect`; used by one thread at a time.
        contract: What a row must meet.
        vendor: Who sent the files.
        layout: Where the columns stand in them.
        pool: Cuts records while the rules run; None cuts in the caller's thread.
        parquet: How files are written: `PARQUET` or `SMALL_PARQUET`.
        trailers: See `Limits`.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        contract: Contract,
        vendor: Vendor,
        layout: Layout,
        pool: Executor | None = None,
        parquet: str = PARQUET,
        *,
        trailers: bool = True,
    ) -> None:
        self._con = con
        self._parquet = parquet
        self._contract = contract
        self._trailers = trailers
        self._lines_skipped: dict[int, int] = {}
        self._doubts: dict[int, tuple[str, ...]] = {}
        self._vendor = vendor
        self._layout = layout
        self._names = contract.names
        self._pool = pool
        self._sql: RowSql = row_sql(contract, vendor, layout)
        parts = [name for i, places in layout.parts for name in parts_of(i, len(places))[1:]]
        self._places = [*layout.cells, *(place for _, place in layout.unknown)]
        self._places += [place for _, places in layout.parts for place in places[1:]]
        texts = [f"c{i}" for i in range(len(layout.cells))] + [f"u{i}" for i in range(len(layout.unknown))] + parts
        self._looked_at = [
            (f"c{i}", is_plain if column.identifier or column.name in contract.key else has_plain_ends)
            for i, column in enumerate(contract.columns)
            if column.type == "string" and column.trim
        ]
        self._identifiers = [
            (column.name, place)
            for column, place in zip(contract.columns, layout.cells, strict=True)
            if place is not None and column.type == "string" and (column.identifier or column.name in contract.key)
        ]
        self._cut = pa.schema(
            [("d", pa.int32()), ("r", pa.int64()), ("line", pa.int64())]
            + [("raw", pa.string()), ("broken", pa.string())]
            + [(text, pa.string()) for text in texts]
        )
        flags = [pa.field(f"f{name[1:]}", pa.bool_()) for name, _ in self._looked_at]
        self._schema = pa.schema([*self._cut, *flags])

    def write_rows(
        self, files: Sequence[KernelFile], path: Path, extra: Sequence[tuple[str, str]], header: pa.Table
    ) -> dict[int, KernelCounts]:
        """Write the good rows of some files to a new Parquet file; no file is created when there are none.

        Args:
            files: Read one after the other.
            path: Where the Parquet file goes; must not exist.
            extra: (name, SQL) of further columns, which may read the columns of `header`.
            header: One row a file: `d` INTEGER, `limit_us` BIGINT (later event times are in the future; microseconds
                since 1970), `dated` VARCHAR (the date of the file that this limit is based on, to explain rejects) and
                the columns that `extra` needs.

        Returns:
            For each file number, how many rows the file has and how many of them are good.
        """
        parsed: Counter[int] = Counter()
        columns = ", ".join(
            f"{sql} AS {name_sql(name)}"
            for name, sql in (*self._sql.columns, ("_file_row", "r"), ("_delivery_no", "d"), *extra)
        )
        query = f"SELECT {columns} FROM {self._from(header)} WHERE {self._sql.good}"
        written = self._copy(query, path, files, header, parsed, explain=False)
        good = {files[0].number: written}
        if len(files) > 1 and written:
            ids = f"SELECT _delivery_no, count(*) FROM read_parquet({quoted(str(path))}) GROUP BY ALL"
            good = dict(self._con.execute(ids).fetchall())
        skipped, doubts = self._lines_skipped, self._doubts
        return {
            n: KernelCounts(parsed[n], good.get(n, 0), skipped.get(n, 0), doubts.get(n, ()))
            for n in (file.number for file in files)
        }

    def write_rejects(
        self, files: Sequence[KernelFile], path: Path, header: pa.Table, first: int | None = None
    ) -> Counter[int]:
        """Write the bad rows of some files, with explanations, to a new Parquet file.

        The file has the columns `d`, `_file_row`, `_file_line`, `_raw` and `_errors`, a JSON list of
        `{column, value, rule, reason}`.

        Args:
            files: Read one after the other.
            path: Where the Parquet file goes; must not exist.
            header: As in `write_rows`.
            first: How many of them to write, in the order of their numbers; None writes all.

        Returns:
            The number of rows parsed, by file number.
        """
        parsed: Counter[int] = Counter()
        errors = f"coalesce(broken, {self._sql.errors})"
        query = (
            f"SELECT d, r AS _file_row, line AS _file_line, {_KEPT} AS _raw, {errors} AS _errors "
            f"FROM {self._from(header)} WHERE broken IS NOT NULL OR NOT ({self._sql.good})"
        )
        if first is not None:
            query += f" ORDER BY _file_row LIMIT {first}"
        self._copy(query, path, files, header, parsed, explain=True)
        return parsed

    def compile(self) -> None:
        """Plan both readings on an empty input.

        Raises:
            duckdb.Error: DuckDB does not understand the SQL of the rules.
        """
        columns = ", ".join(f"{sql} AS {name_sql(name)}" for name, sql in self._sql.columns)
        header = pa.table({"d": pa.array([0], pa.int32()), "limit_us": pa.array([0], pa.int64()), "dated": [""]})
        for i, name in enumerate(self._names):
            header = header.append_column(name_column(i), pa.array([""])) if name in self._layout.told else header
        self._con.register("cells", self._schema.empty_table())
        try:
            query = f"SELECT {columns}, {self._sql.errors} FROM {self._from(header)} WHERE {self._sql.good}"
            self._con.execute(f"EXPLAIN {query}").fetchall()
        finally:
            self._con.unregister("cells")

    def _from(self, header: pa.Table) -> str:
        relation = "(SELECT * FROM cells JOIN job_files USING (d))"
        if header.num_rows == 1:
            relation = f"(SELECT *, {_literals_sql(header)} FROM cells)"  # nothing to look up for every row
        for step in self._sql.steps:
            if step:
                names = ", ".join(f"{sql} AS {name}" for name, sql in step)
                relation = f"(SELECT *, {names} FROM {relation})"
        return relation

    def _copy(
        self,
        query: str,
        path: Path,
        files: Sequence[KernelFile],
        header: pa.Table,
        parsed: Counter[int],
        *,
        explain: bool,
    ) -> int:
        source = _Source(self._batches(files, parsed, explain=explain))
        reader = pa.RecordBatchReader.from_batches(self._schema, source.batches())
        self._con.register("cells", reader)
        self._con.register("job_header", header)
        try:
            self._con.execute(f"CREATE OR REPLACE TEMP TABLE job_files AS {_enums_sql(header)}").fetchall()
            # A filter pushed below the typed columns would compute them a second time.
            self._con.execute("SET disabled_optimizers = 'filter_pushdown'").fetchall()
            result = self._con.execute(f"COPY ({query}) TO {quoted(str(path))} ({self._parquet})").fetchall()
        except duckdb.Error:
            if source.error is not None:
                raise source.error from None
            raise
        finally:
            with suppress(duckdb.Error):  # after an error of its own DuckDB may refuse everything
                self._con.execute("RESET disabled_optimizers").fetchall()
                self._con.unregister("cells")
                self._con.unregister("job_header")
        written = int(result[0][0])
        if not written:
            path.unlink(missing_ok=True)
        return written

    def _batches(self, files: Sequence[KernelFile], parsed: Counter[int], *, explain: bool) -> Iterator[pa.RecordBatch]:
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for file in files:
            for batch in self._readable(file, parsed, explain=explain):
                waiting.append(batch)
                rows += batch.num_rows
                if rows >= BATCH_ROWS:
                    yield self._flagged(_joined(waiting))
                    waiting, rows = [], 0
        if waiting:
            yield self._flagged(_joined(waiting))

    def _flagged(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with whether the cells of a text column need a closer look, for all of its rows at once."""
        flags = [pa.repeat(not looks_fine(batch.column(name)), len(batch)) for name, looks_fine in self._looked_at]
        return pa.RecordBatch.from_arrays([*batch.columns, *flags], schema=self._schema)

    def _readable(self, file: KernelFile, parsed: Counter[int], *, explain: bool) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._file_batches(file, parsed, explain=explain)
        except (QuarantineError, FileChangedError) as error:
            file.failed[file.number] = error
        except OSError as error:  # the fault of this file: a bad block, a share that went away
            file.failed[file.number] = FileChangedError(f"the file cannot be read: {error.strerror or error}")

    def _file_batches(self, file: KernelFile, parsed: Counter[int], *, explain: bool) -> Iterator[pa.RecordBatch]:
        with file.open() as stream:
            reader = DeliveryReader(
                stream, self._vendor, self._contract, pool=self._pool, raw=explain, trailers=self._trailers
            )
            if reader.header() != self._layout.header:
                raise FileChangedError("the file changed while it was read")
            doubts = FileDoubts(() if explain else self._identifiers)
            for block in reader.blocks():
                parsed[file.number] += block.parsed
                doubts.see(block)
                if block.cells.num_rows:
                    yield self._batch(file.number, block.rows, block.lines, block.raw, None, block.cells, self._places)
                if explain and block.broken is not None:
                    yield self._broken(file.number, block.broken)
            self._lines_skipped[file.number] = reader.lines_skipped
            if not explain:
                self._doubts[file.number] = doubts.texts()

    def _batch(
        self,
        number: int,
        rows: np.ndarray,
        lines: np.ndarray | None,
        raw: pa.StringArray | None,
        broken: pa.StringArray | None,
        cells: pa.RecordBatch | None,
        places: Sequence[int | None],
    ) -> pa.RecordBatch:
        count = len(rows)
        nothing = pa.nulls(count, pa.string())
        columns = [nothing if p is None or cells is None else cells.column(p) for p in places]
        d = numbers(np.full(count, number, dtype=np.int32))
        return pa.RecordBatch.from_arrays(
            [
                d,
                numbers(rows),
                pa.nulls(count, pa.int64()) if lines is None else numbers(lines),
                nothing if raw is None else raw,
                nothing if broken is None else broken,
                *columns,
            ],
            schema=self._cut,
        )

    def _broken(self, number: int, broken: Broken) -> pa.RecordBatch:
        kinds = pa.array([reject_json(wrong.rule, wrong.reason) for wrong in broken.kinds], pa.string())
        nothing = [None] * (len(self._cut) - 5)
        errors = kinds.take(numbers(broken.kind))
        return self._batch(number, broken.numbers, broken.lines, broken.raw, errors, None, nothing)


class _Source:
    """Rows on their way into DuckDB, which turns an error that they raise into text.

    Attributes:
        error: The original error, also when it is an interrupt.
    """

    def __init__(self, rows: Iterator[pa.RecordBatch]) -> None:
        self._rows = rows
        self.error: BaseException | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows."""
        try:
            yield from self._rows
        except BaseException as error:
            self.error = error
            raise


def _enums_sql(header: pa.Table) -> str:
    """SQL of `job_header` with its texts as enums, which the Parquet writer uses as a dictionary directly."""
    columns = []
    for name in header.column_names:
        column = name_sql(name)
        if pa.types.is_string(header.schema.field(name).type):
            values = ", ".join(quoted(value) for value in dict.fromkeys(header.column(name).to_pylist()))
            column = f"CAST({column} AS ENUM({values})) AS {column}"
        columns.append(column)
    return f"SELECT {', '.join(columns)} FROM job_header"


def _literals_sql(header: pa.Table) -> str:
    """SQL of the only row of `job_files` as constants, without `d`."""
    columns = []
    for name, value in header.to_pylist()[0].items():
        if isinstance(value, str):
            columns.append(f"CAST({quoted(value)} AS ENUM({quoted(value)})) AS {name_sql(name)}")
        elif name != "d":
            columns.append(f"CAST({value} AS BIGINT) AS {name_sql(name)}")
    return ", ".join(columns)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
