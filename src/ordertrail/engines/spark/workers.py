"""What runs in Spark's Python workers: the row kernel and the SQL of rows, in DuckDB, the same as embedded.

These are functions for `mapInArrow`. The worker finds them by name, so ordertrail must be installed there; nothing here
imports Spark.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from ordertrail.arrow import conformed
from ordertrail.engines.batch_rows import STAGED_COLUMNS, header_rows, manifest_of, reject_headers, reject_rows_sql
from ordertrail.engines.spark.route import EXECUTORS
from ordertrail.model import Batch, Contract, Limits
from ordertrail.parse.database import Database, connect, connected, release
from ordertrail.parse.job import ParsedBatch, ParseJob
from ordertrail.rules.planning import Candidate
from ordertrail.rules.sql import name_sql, quoted

RELATION = "spark_rows"
"""The relation that SQL passed to `run_sql` reads."""

MEMORY_MB = 512
"""Memory of DuckDB in one worker for `run_sql`, in MB."""

_OUT_ROWS = 1 << 16
_OUT_BYTES = 32 << 20


def run_sql(sql: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Run DuckDB SQL over the rows of one partition.

    Args:
        sql: Reads `RELATION`, row by row: how rows fall into partitions must not matter.
        batches: The partition.
    """
    with tempfile.TemporaryDirectory() as scratch, connected(1, MEMORY_MB, Path(scratch)) as con:
        for batch in batches:
            con.register(RELATION, pa.Table.from_batches([batch]))
            yield from con.sql(sql).to_arrow_table().to_batches()
            con.unregister(RELATION)


class ParseTask(Struct, frozen=True):
    """Files that the executors parse.

    Attributes:
        batch: Number, run id and clock.
        contract: What a row must meet.
        limits: What a file may be like and still be loaded.
        memory_limit_mb: Of DuckDB in one worker.
        groups: By `plain_path` of the first one, candidates with the same bytes, vendor and contract.
        schema: Of the stage.
    """

    batch: Batch
    contract: Contract
    limits: Limits
    memory_limit_mb: int
    groups: Mapping[str, tuple[Candidate, ...]]
    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn rows of `path` and `content` into rows of the stage. A file that has changed yields none."""
        for batch in batches:
            for path, content in zip(batch.column("path"), batch.column("content"), strict=True):
                data = content.as_buffer()
                candidates = self.groups[plain_path(path.as_py())]
                if hashlib.sha256(data).hexdigest() == candidates[0].sha256:
                    yield from self._parse(candidates, data)

    def _parse(self, candidates: tuple[Candidate, ...], data: pa.Buffer) -> Iterator[pa.RecordBatch]:
        with Scratch(1, self.memory_limit_mb) as scratch:
            # all of them have these bytes
            parsed = scratch.parse(
                candidates,
                self.contract,
                limits=self.limits,
                open_file=lambda _: io.BytesIO(data),
                unchanged=lambda _: True,
            )
            manifests = tuple(manifest_of(file, self.batch, EXECUTORS) for file in parsed.files)
            whole = Batch(self.batch.number, self.batch.run_id, self.batch.clock, manifests)
            yield from scratch.stage_rows(whole, parsed, self.schema)


def plain_path(path: str) -> str:
    """A path as Spark returns it, without scheme and host: `file:/data/a.csv` becomes `/data/a.csv`."""
    scheme, colon, rest = path.partition(":/")
    return f"/{rest.lstrip('/')}" if colon and "/" not in scheme else path


class Scratch:
    """The row kernel with a local temporary folder for its files; use it in a `with` statement.

    Args:
        threads: Threads of DuckDB; 0 means all cores.
        memory_limit_mb: Memory limit of DuckDB, in MB.
    """

    def __init__(self, threads: int, memory_limit_mb: int) -> None:
        self._held = ExitStack()
        self._folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="ordertrail-")))
        self._settings = (threads, memory_limit_mb, self._folder / "spill")
        self._con = connect(*self._settings)
        self._held.callback(lambda: release(self._con))
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def parse(
        self,
        candidates: Sequence[Candidate],
        contract: Contract,
        *,
        limits: Limits,
        open_file: Callable[[Candidate], BinaryIO],
        unchanged: Callable[[Candidate], bool],
    ) -> ParsedBatch:
        """See `ParseJob`."""
        job = ParseJob(
            Database(self._con, self._renew),
            contract,
            limits=limits,
            open_file=open_file,
            unchanged=unchanged,
            extra=STAGED_COLUMNS,
            new_path=self._new_path,
            pool=None,
        )
        return job.run(candidates)

    def _renew(self) -> duckdb.DuckDBPyConnection:
        release(self._con)
        self._con = connect(*self._settings)
        return self._con

    def _new_path(self, kind: str) -> Path:
        self._made += 1
        return self._folder / f"{kind}-{self._made}.parquet"

    def good_rows(self, parsed: ParsedBatch, names: Sequence[str]) -> pa.Table:
        """The different values of some columns in the good rows of parsed files, of which there are some."""
        listed, paths = ", ".join(map(name_sql, names)), ", ".join(quoted(str(path)) for path, _ in parsed.rows)
        return self._con.sql(f"SELECT DISTINCT {listed} FROM read_parquet([{paths}])").to_arrow_table()

    def stage_rows(self, batch: Batch, parsed: ParsedBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """All rows of the stage for some parsed files.

        Args:
            batch: With the manifests of the files, in their order.
            parsed: Files, rows and rejects.
            schema: Of the stage.
        """
        yield from (conformed(rows, schema) for rows in header_rows(batch, parsed.files).to_batches())
        for path, _ in parsed.rows:
            with pq.ParquetFile(path) as file:
                for rows in file.iter_batches(_rows_at_once(file.metadata)):
                    yield conformed(rows, schema)
        if parsed.rejects:
            self._con.register("reject_headers", reject_headers(batch))
            rejects = self._con.sql(reject_rows_sql(parsed.rejects)).to_arrow_reader(_OUT_ROWS)
            yield from (conformed(rows, schema) for rows in rejects)


def _rows_at_once(file: pq.FileMetaData) -> int:
    """How many rows of a Parquet file to pass on together, so that long rows do not make a batch too large."""
    size_bytes = sum(file.row_group(group).total_byte_size for group in range(file.num_row_groups))
    return max(1, min(_OUT_ROWS, _OUT_BYTES * int(file.num_rows) // max(int(size_bytes), 1)))
