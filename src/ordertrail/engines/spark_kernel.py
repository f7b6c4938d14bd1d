"""What runs in Spark's Python workers: the row kernel and the SQL of rows, in DuckDB, the same text as embedded.

Functions for `mapInArrow`. They are found by name in the worker, so ordertrail must be installed there; nothing here
imports Spark.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.engines.batch_rows import header_rows, manifest_of, reject_headers, reject_rows_sql
from ordertrail.errors import FileChangedError
from ordertrail.model import Batch, Contract
from ordertrail.parse.job import ParsedBatch, ParseJob
from ordertrail.parse.kernel import connect
from ordertrail.rules.planning import Candidate

RELATION = "spark_rows"
"""What SQL given to `run_sql` reads."""

STAGED_COLUMNS = (
    ("_kind", "CAST('row' AS ENUM('row'))"),
    ("_vendor", "vendor"),
    ("_delivery_id", "delivery_id"),
    ("_file_name", "file_name"),
)
"""(name, SQL) of the columns of a staged row beside the kernel's."""

MEMORY_MB = 512
"""Of DuckDB in one worker, for `run_sql`."""

_OUT_ROWS = 1 << 16


def run_sql(sql: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Run DuckDB SQL over the rows of one partition.

    Args:
        sql: Reads `RELATION`, row by row: how rows fall into partitions must not matter.
        batches: The partition.
    """
    with tempfile.TemporaryDirectory() as scratch:
        con = connect(1, MEMORY_MB, Path(scratch))
        try:
            for batch in batches:
                con.register(RELATION, pa.Table.from_batches([batch]))
                yield from con.sql(sql).to_arrow_table().to_batches()
                con.unregister(RELATION)
        finally:
            con.close()


@dataclass(frozen=True, slots=True)
class ParseTask:
    """Files that the executors parse.

    Attributes:
        batch: Number, run id and clock.
        contract: What a row must meet.
        max_reject_share: Above it a delivery is quarantined.
        memory_limit_mb: Of DuckDB in one worker.
        groups: By `plain_path` of the first one, candidates with the same bytes, vendor and contract.
        schema: Of the stage.
    """

    batch: Batch
    contract: Contract
    max_reject_share: float
    memory_limit_mb: int
    groups: Mapping[str, tuple[Candidate, ...]]
    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `path` and `content` in, rows of the stage out. A file that is not what it was gives none."""
        for batch in batches:
            for path, content in zip(batch.column("path"), batch.column("content"), strict=True):
                data = content.as_buffer()
                candidates = self.groups[plain_path(path.as_py())]
                if hashlib.sha256(data).hexdigest() == candidates[0].sha256:
                    yield from self._parse(candidates, data)

    def _parse(self, candidates: tuple[Candidate, ...], data: pa.Buffer) -> Iterator[pa.RecordBatch]:
        def open_file(candidate: Candidate) -> BinaryIO:
            if candidate not in candidates:
                raise FileChangedError(f"{candidate.clean_path} is not here")
            return io.BytesIO(data)

        with tempfile.TemporaryDirectory(prefix="ordertrail-") as folder:
            scratch = Scratch(Path(folder))
            con = connect(1, self.memory_limit_mb, Path(folder) / "spill")
            try:
                job = ParseJob(
                    con,
                    self.contract,
                    max_reject_share=self.max_reject_share,
                    open_file=open_file,
                    unchanged=lambda _: True,
                    extra=STAGED_COLUMNS,
                    new_path=scratch.new_path,
                    pool=None,
                )
                parsed = job.run(candidates)
                manifests = tuple(manifest_of(file, self.batch) for file in parsed.files)
                whole = Batch(self.batch.number, self.batch.run_id, self.batch.clock, manifests)
                yield from scratch.stage_rows(con, whole, parsed, self.schema)
            finally:
                con.close()


def plain_path(path: str) -> str:
    """A path as Spark tells it, without scheme and host: `file:/data/a.csv` is `/data/a.csv`."""
    scheme, colon, rest = path.partition(":/")
    return f"/{rest.lstrip('/')}" if colon and "/" not in scheme else path


class Scratch:
    """A folder of a machine's own for what the kernel writes, on its way to the stage.

    Args:
        folder: Empty; the caller throws it away.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def new_path(self, kind: str) -> Path:
        """A file name that nobody has."""
        self._made += 1
        return self._folder / f"{kind}-{self._made}.parquet"

    def stage_rows(self, con: object, batch: Batch, parsed: ParsedBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """All rows of the stage for some parsed files.

        Args:
            con: DuckDB, from `kernel.connect`.
            batch: With the manifests of the files, in their order.
            parsed: Files, rows and rejects.
            schema: Of the stage.
        """
        yield from conformed(header_rows(batch, parsed.files), schema)
        for path, _ in parsed.rows:
            with pq.ParquetFile(path) as file:
                for rows in file.iter_batches(_OUT_ROWS):
                    yield from conformed(pa.Table.from_batches([rows]), schema)
        if parsed.rejects:
            con.register("reject_headers", reject_headers(batch))  # type: ignore[attr-defined]
            rejects = con.sql(reject_rows_sql(parsed.rejects)).to_arrow_table()  # type: ignore[attr-defined]
            yield from conformed(rejects, schema)


def conformed(rows: pa.Table, schema: pa.Schema) -> list[pa.RecordBatch]:
    """Rows with exactly a schema's columns; what they lack is NULL."""
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema).combine_chunks().to_batches()  # type: ignore[no-any-return]
