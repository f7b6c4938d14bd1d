"""Brings a stage of an older release, which had no limits on texts, within today's bounds.

Such a stage may hold a reason or a rejected cell of hundreds of megabytes, and DuckDB then runs out of memory wherever
it reads it: the batch could be neither finished nor skipped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.delta.actions import Txn
from ordertrail.delta.table import Change
from ordertrail.engines.local.session import Session
from ordertrail.rules.bounds import MAX_RAW_CHARS, MAX_REASON_CHARS, MAX_VALUE_CHARS, cut

_TEXTS = {"reason": MAX_REASON_CHARS, "first_error": MAX_REASON_CHARS, "value": MAX_VALUE_CHARS}
_BATCH_ROWS = 256


def shorten_stage(session: Session) -> None:
    """Rewrite the stage's rejects and deliveries with their texts cut, with the usual mark, in one commit.

    Rows are not touched. Idempotent; killed at any instant, the stage is as before or shortened.
    """
    table = session.tables.stage
    base = table.snapshot()
    add, remove = [], []
    for file in base.files.values():
        path = base.path_of(file)
        if pq.read_metadata(path).schema.to_arrow_schema().names.count("_errors") == 0:
            continue
        new = table.new_path(f"b{base.txns[session.app_id]:06d}-shortened")
        add.append(table.added(new, _shortened(path, new)))
        remove.append(file)
    session.probe("shorten.files")
    txn = Txn(session.app_id, base.txns[session.app_id], time.time_ns() // 1_000_000)
    table.commit(base, Change(txn, "SHORTEN", add, remove))
    session.probe("shorten.committed")


def _shortened(path: Path, new: Path) -> int:
    rows = 0
    with pq.ParquetFile(path) as file, pq.ParquetWriter(new, file.schema_arrow) as writer:
        for batch in file.iter_batches(_BATCH_ROWS):
            writer.write_batch(_bounded(batch))
            rows += batch.num_rows
    return rows


def _bounded(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        pa.array(list(_cut_texts(name, column.to_pylist())), column.type)
        if name in ("_raw", "_errors", "_manifest")
        else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _cut_texts(name: str, texts: list[str | None]) -> Iterator[str | None]:
    for text in texts:
        if text is None or name == "_raw":
            yield text and cut(text, MAX_RAW_CHARS)
        else:
            yield json.dumps(_cut_members(json.loads(text)), ensure_ascii=name == "_manifest", sort_keys=True)


def _cut_members(value: object) -> object:
    """A JSON value in which the texts that are kept for people are cut."""
    if isinstance(value, list):
        return [_cut_members(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: cut(member, _TEXTS[name]) if name in _TEXTS and isinstance(member, str) else _cut_members(member)
        for name, member in value.items()
    }
