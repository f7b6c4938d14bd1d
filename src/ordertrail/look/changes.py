"""`ordertrail changes`: writes what batches changed in the target, as lines of JSON or CSV, or as a Parquet file.

A line belongs to one batch, and the lines of a batch follow each other, so that a consumer can take a batch as one
transaction of its own and remember in it which batch comes next. That number is all that it needs to see every change
exactly once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ordertrail.config import Config
from ordertrail.delta.log import storage_error
from ordertrail.engines.local.changed import WHY, OpenChanges
from ordertrail.engines.local.changes import Wanted, open_changes
from ordertrail.errors import StorageError
from ordertrail.look.export import complete_file, require_free
from ordertrail.look.stoppable import Stoppable
from ordertrail.model import Probe, no_probe
from ordertrail.rules.column_types import decimal_of
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn, history_columns

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("jsonl", "csv", "parquet")
"""What changes are written as; a file's name ends with one of them."""

_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        from_batch: The first batch.
        next_batch: The batch after the last one: where to go on.
        changes: How many changes.
        notes: Why the target may be something else than what its changes add up to, one line each.
        path: The file; None for a stream.
        size_bytes: Of the file or the stream.
    """

    from_batch: int
    next_batch: int
    changes: int
    notes: tuple[str, ...] = ()
    path: Path | None = None
    size_bytes: int = 0


def write_changes(
    config: Config,
    wanted: Wanted,
    out: BinaryIO,
    form: str = "jsonl",
    *,
    batch_done: Callable[[int], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    head: bool = True,
) -> Written:
    """Write changes to a stream, whole batches only, and flush it after each.

    Args:
        config: Of the pipeline, as its tables are (`engines.choice.placed`).
        wanted: Which changes.
        out: The stream.
        form: `jsonl` or `csv`.
        batch_done: Called with the number of the next batch when all changes before it are written and flushed; it may
            write to the stream itself.
        stopped: Whether to end after the batch that is being written.
        head: Whether a CSV begins with the names of its columns.

    Raises:
        ForeignChangeError: As of `open_changes`.
        TableError: Likewise.
        StorageError: Likewise, or the stream cannot be written.
    """
    with open_changes(config, wanted, Path(tempfile.gettempdir())) as opened:
        if form == "csv" and head:
            _put(out, (",".join(opened.columns) + "\n").encode())
        next_batch, count, size_bytes = opened.first, 0, 0
        for batch, lines, changes in _pieces(opened, form):
            if batch != next_batch and not opened.net:
                # All batches before this one are written, those without a change too.
                if batch > next_batch:
                    _flush(out)
                    batch_done(batch)
                next_batch = batch
                if stopped():
                    return Written(opened.first, batch, count, opened.notes, None, size_bytes)
            _put(out, lines)
            count, size_bytes = count + changes, size_bytes + len(lines)
        _flush(out)
        batch_done(opened.last + 1)
        return Written(opened.first, opened.last + 1, count, opened.notes, None, size_bytes)


def write_file(
    config: Config,
    wanted: Wanted,
    path: Path,
    form: str,
    *,
    force: bool = False,
    probe: Probe = no_probe,
) -> Written:
    """Write changes to a new file, which appears when it is complete.

    Args:
        config: Of the pipeline, as its tables are.
        wanted: Which changes.
        path: The file.
        form: One of `FORMATS`.
        force: Whether to replace a file that is there.
        probe: Called after each effect; for fault tests.

    Raises:
        UsageError: The file is there, or its folder is not or is one of the pipeline's.
        ForeignChangeError: As of `open_changes`.
        TableError: Likewise.
        StorageError: Likewise, or the file cannot be written.
    """
    require_free(config, path, [f".{one}" for one in FORMATS], force=force)
    with complete_file(path, "changes", probe, force=force) as part:
        written = _parquet(config, wanted, part) if form == "parquet" else _lines(config, wanted, part, form)
    return replace(written, path=path, size_bytes=path.stat().st_size)


def _lines(config: Config, wanted: Wanted, part: Path, form: str) -> Written:
    try:
        with part.open("wb") as out:
            written = write_changes(config, wanted, out, form)
            if form == "jsonl":
                out.write(next_line(written.next_batch))
            return written
    except OSError as error:
        raise storage_error(error, part) from error


def _parquet(config: Config, wanted: Wanted, part: Path) -> Written:
    with open_changes(config, wanted, Path(tempfile.gettempdir())) as opened:
        sql = f"COPY ({next(opened.flat_sql(whole=True))}) TO {quoted(str(part))} (FORMAT parquet)"
        with opened.errors():
            ((rows,),) = Stoppable(opened.con.interrupt).run(lambda: opened.con.execute(sql).fetchall())
        return Written(opened.first, opened.last + 1, int(rows), opened.notes)


def next_line(batch: int) -> bytes:
    """The line of JSON that says where to go on."""
    return b'{"next_batch": %d}\n' % batch


# -- lines ------------------------------------------------------------------------------------------------------------


def _pieces(opened: OpenChanges, form: str) -> Iterator[tuple[int, memoryview, int]]:
    """Whole lines in order, in pieces of one batch each: its number, the lines, how many they are."""
    calls = Stoppable(opened.con.interrupt)
    make = {"jsonl": _json_sql, "csv": _csv_sql}[form]
    parts = make(opened)
    while True:
        with opened.errors():
            reader = calls.run(lambda: _next_part(opened, parts))
        if reader is None:
            return
        with closing(reader):
            while True:
                try:
                    with opened.errors():
                        found = calls.run(reader.read_next_batch)
                except StopIteration:
                    break
                yield from _split(found)


def _next_part(opened: OpenChanges, parts: Iterator[str]) -> pa.RecordBatchReader | None:
    sql = next(parts, None)
    return None if sql is None else opened.con.sql(sql).to_arrow_reader(_ROWS)


def _split(found: pa.RecordBatch) -> Iterator[tuple[int, memoryview, int]]:
    import numpy as np

    numbers, lines = found.column("b").to_numpy(), found.column("line")
    ends = np.flatnonzero(np.diff(numbers)) + 1
    for begin, end in zip([0, *ends], [*ends, len(numbers)], strict=True):
        if begin == end:
            continue
        part = lines.slice(begin, end - begin)
        # The bytes of all these texts follow each other.
        places = np.frombuffer(part.buffers()[1], dtype=np.int32)[part.offset : part.offset + len(part) + 1]
        data = part.buffers()[2]
        text = memoryview(b"" if data is None else data)[int(places[0]) : int(places[-1])]
        yield int(numbers[begin]), text, int(end - begin)


def _json_sql(opened: OpenChanges) -> Iterator[str]:
    """SQL of the changes as lines of JSON: `b` and `line`; in statements as `OpenChanges.rows_sql`."""
    types = _types(opened)
    row, key = (
        _object_sql({name: _json_cell(types[name], f"h.{name_sql(name)}") for name in names})
        for names in (opened.content, opened.contract.key)
    )

    def once(said: Mapping[str, str]) -> dict[str, str]:
        # All that can be is made before the rows are sorted: what comes after is done by one thread.
        why = {name: _json_text(said[name]) for name in WHY}
        why["_file_row"] = f"coalesce(CAST({said['_file_row']} AS VARCHAR), 'null')"
        batch, change = f"CAST({said['_batch']} AS VARCHAR)", said["_change"]
        tail = "".join(f", ',\"{name.removeprefix('_')}\":', {sql}" for name, sql in why.items())
        return {
            "head": f'concat(\'{{"batch":\', {batch}, \',"change":"\', {change}, \'","key":\', {key}, \',"before":\')',
            "tail": f"concat(''{tail}, '}}', chr(10))",
        }

    line = "concat(head, coalesce(before_row, 'null'), ',\"after\":', coalesce(after_row, 'null'), tail)"
    for rows in opened.rows_sql({"row": row}, once):
        yield f"SELECT b, {line} AS line FROM ({rows})"


def _object_sql(members: Mapping[str, str]) -> str:
    """SQL of the text of a JSON object, from SQL of the texts of its members."""
    parts = []
    for number, (name, sql) in enumerate(members.items()):
        parts += [quoted(f'{"," if number else "{"}"{name}":'), sql]
    return f"concat({', '.join(parts)}, '}}')"


def _json_text(sql: str) -> str:
    return f"coalesce(CAST(to_json({sql}) AS VARCHAR), 'null')"


def _json_cell(column: TableColumn, sql: str) -> str:
    """SQL of a cell as it stands in JSON, see `rows.json_value`."""
    match column.type:
        case "string":
            return _json_text(sql)
        case "timestamp" | "date":
            return f"coalesce('\"' || {_text(column, sql)} || '\"', 'null')"
        case "double":
            number = f"CASE WHEN isfinite({sql}) THEN CAST(to_json({sql}) AS VARCHAR) ELSE '\"' || {sql} || '\"' END"
            return f"coalesce({number}, 'null')"
        case other if decimal_of(other):
            return f"coalesce('\"' || CAST({sql} AS VARCHAR) || '\"', 'null')"
        case _:
            return f"coalesce(CAST({sql} AS VARCHAR), 'null')"


def _csv_sql(opened: OpenChanges) -> Iterator[str]:
    """SQL of the changes as lines of CSV: `b` and `line`; in statements as `OpenChanges.rows_sql`."""
    cells = []
    for name in opened.columns:
        sql = name_sql(name)
        plain = f"CAST({sql} AS VARCHAR)"
        special = f"regexp_matches({plain}, '[\",\\r\\n]') OR {plain} = ''"
        inside = f"'\"' || replace({plain}, '\"', '\"\"') || '\"'"
        cells.append(f"CASE WHEN {sql} IS NULL THEN '' WHEN {special} THEN {inside} ELSE {plain} END")
    line = ", ',', ".join(cells)
    for rows in opened.flat_sql(_text):
        yield f"SELECT _batch AS b, concat({line}, chr(10)) AS line FROM ({rows})"


def _text(column: TableColumn, sql: str) -> str:
    """SQL of a cell as text: times as ISO 8601 in UTC, such as `2026-11-23T08:00:00Z`."""
    if column.type == "timestamp":
        return f"replace(CAST({sql} AT TIME ZONE 'UTC' AS VARCHAR), ' ', 'T') || 'Z'"
    return f"CAST({sql} AS VARCHAR)"


def _types(opened: OpenChanges) -> dict[str, TableColumn]:
    return {column.name: column for column in history_columns(opened.contract)}


def _put(out: BinaryIO, data: bytes | memoryview) -> None:
    try:
        out.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def _flush(out: BinaryIO) -> None:
    try:
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> StorageError:
    return StorageError(f"cannot write the changes: {error.strerror}", hint="check where they go, and its disk")
