"""`ordertrail changes`: writes what batches changed in the target, as lines of JSON or CSV, or as a Parquet file.

A line belongs to one batch, and the lines of a batch follow each other, so that a consumer can take a batch as one
transaction of its own and remember in it which batch comes next. That number is all that it needs to see every change
exactly once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import storage_error
from ordertrail.engines.local.change_ends import flat_sql
from ordertrail.engines.local.change_texts import Line, Lines, in_order, texts
from ordertrail.engines.local.changed import WHY, OpenChanges
from ordertrail.engines.local.changes import Wanted, open_changes
from ordertrail.errors import StorageError
from ordertrail.look.export import complete_file, require_free
from ordertrail.look.stoppable import Ahead, Stoppable
from ordertrail.model import Probe, no_probe
from ordertrail.rules.column_types import decimal_of
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn, history_columns

FORMATS = ("jsonl", "csv", "parquet")
"""What changes are written as; a file's name ends with one of them."""

_YEAR_1_US, _YEAR_9999_US = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 for year in (1, 9999))
"""The begin of the first and of the last year of which each time is written alike in every way."""


class Written(Struct, frozen=True):
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
        for lines in _pieces(opened, form):
            batch = lines.batch
            if batch != next_batch and not opened.net:
                # All batches before this one are written, those without a change too.
                if batch > next_batch:
                    _flush(out)
                    batch_done(batch)
                next_batch = batch
                if stopped():
                    return Written(opened.first, batch, count, opened.notes, None, size_bytes)
            _put(out, lines.text)
            count, size_bytes = count + lines.changes, size_bytes + len(lines.text)
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
        sql = f"COPY ({next(flat_sql(opened, whole=True))}) TO {quoted(str(part))} (FORMAT parquet)"
        with opened.errors():
            ((rows,),) = Stoppable(opened.con.interrupt).run(lambda: opened.con.execute(sql).fetchall())
        return Written(opened.first, opened.last + 1, int(rows), opened.notes)


def next_line(batch: int) -> bytes:
    """The line of JSON that says where to go on."""
    return b'{"next_batch": %d}\n' % batch


# -- lines ------------------------------------------------------------------------------------------------------------


def _pieces(opened: OpenChanges, form: str) -> Iterator[Lines]:
    """The lines, in pieces of one batch each."""
    line = {"jsonl": _json_line, "csv": _csv_line}[form]
    with closing(Ahead(texts(opened, partial(line, opened)), opened.con.interrupt)) as parts:
        while True:
            with opened.errors():
                part = parts.take()
            if part is None:
                return
            yield from in_order(part)
            del part  # while the next one is awaited


def _json_line(opened: OpenChanges, said: Mapping[str, str]) -> Line:
    """A change as a line of JSON."""
    types = _types(opened)
    row, key = (
        _object_sql({name: _json_cell(types[name], f"h.{name_sql(name)}") for name in names})
        for names in (opened.content, opened.contract.key)
    )
    why = {name: _json_text(said[name]) for name in WHY}
    why["_file_row"] = f"coalesce(CAST({said['_file_row']} AS VARCHAR), 'null')"
    tail = [part for name, sql in why.items() for part in (quoted(f',"{name.removeprefix("_")}":'), sql)]
    return Line(
        head=(
            quoted('{"batch":'),
            f"CAST({said['_batch']} AS VARCHAR)",
            quoted(',"change":"'),
            said["_change"],
            quoted('","key":'),
            *key,
            quoted(',"before":'),
        ),
        row=row,
        nothing="null",
        between=',"after":',
        tail=(*tail, "'}'", "chr(10)"),
    )


def _object_sql(members: Mapping[str, str]) -> list[str]:
    """SQL of texts that together are a JSON object, from SQL of the texts of its members."""
    parts = []
    for number, (name, sql) in enumerate(members.items()):
        parts += [quoted(f'{"," if number else "{"}"{name}":'), sql]
    return [*parts, "'}'"]


def _json_text(sql: str) -> str:
    return f"coalesce(CAST(to_json({sql}) AS VARCHAR), 'null')"


def _json_cell(column: TableColumn, sql: str) -> str:
    """SQL of a cell as it stands in JSON, see `rows.json_value`."""
    match column.type:
        case "string" | "date":
            return _json_text(sql)
        case "timestamp":
            return f"coalesce('\"' || {_text(column, sql)} || '\"', 'null')"
        case "double":
            number = f"CASE WHEN isfinite({sql}) THEN CAST(to_json({sql}) AS VARCHAR) ELSE '\"' || {sql} || '\"' END"
            return f"coalesce({number}, 'null')"
        case other if decimal_of(other):
            return f"coalesce('\"' || CAST({sql} AS VARCHAR) || '\"', 'null')"
        case _:
            return f"coalesce(CAST({sql} AS VARCHAR), 'null')"


def _csv_line(opened: OpenChanges, said: Mapping[str, str]) -> Line:
    """A change as a line of CSV."""
    types, key = _types(opened), opened.contract.key

    def cell(name: str) -> str:
        text = _text(types[name], f"h.{name_sql(name)}")
        return _csv_text(text) if types[name].type == "string" else f"coalesce({text}, '')"

    told = [f"coalesce(CAST({said[name]} AS VARCHAR), '')" for name in ("_batch", "_change", "_file_row", "_outcome")]
    head, row, tail = (
        [part for sql in cells for part in (sql, "','")]
        for cells in (
            [*told[:2], *map(cell, key)],
            [cell(name) for name in opened.content if name not in key],
            [_csv_text(said["_delivery_id"]), _csv_text(said["_file_name"]), *told[2:]],
        )
    )
    return Line(head, row, nothing="," * (len(row) // 2), between="", tail=(*tail[:-1], "chr(10)"))


def _csv_text(sql: str) -> str:
    """SQL of a text as it stands in CSV; an empty one is not NULL."""
    special = " OR ".join(f"contains({sql}, {one})" for one in ("'\"'", "','", "chr(10)", "chr(13)"))
    inside = f"concat('\"', replace({sql}, '\"', '\"\"'), '\"')"
    return f"CASE WHEN {sql} IS NULL THEN '' WHEN {special} OR {sql} = '' THEN {inside} ELSE {sql} END"


def _text(column: TableColumn, sql: str) -> str:
    """SQL of a cell as text: times as ISO 8601 in UTC, such as `2026-11-23T08:00:00Z`."""
    if column.type == "timestamp":
        # As a time without zone, for which no zone is looked up: three times as quick. Nearly all are whole seconds.
        local, us = f"make_timestamp(epoch_us({sql}))", f"epoch_us({sql})"
        whole = f"{us} % 1000000 = 0 AND {us} BETWEEN {_YEAR_1_US} AND {_YEAR_9999_US}"
        plain, other = f"strftime({local}, '%Y-%m-%dT%H:%M:%SZ')", f"replace(CAST({local} AS VARCHAR), ' ', 'T') || 'Z'"
        return f"CASE WHEN {whole} THEN {plain} ELSE {other} END"
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
