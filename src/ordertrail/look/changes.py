"""`ordertrail changes`: writes what batches changed in the target, as lines of JSON or CSV, or as a Parquet file.

A line belongs to one batch, and the lines of a batch follow each other, so that a consumer can take a batch as one
transaction of its own and remember in it which batch comes next. That number is all that it needs to see every change
exactly once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from ordertrail.engines.local.change_escapes import csv_quoted, json_escaped
from ordertrail.engines.local.change_lines import WORKERS, ByKind, Cell, Line, Lines, Part, in_order
from ordertrail.engines.local.change_texts import texts
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


_CHANGE = ByKind(("update", "update", "insert", "delete"))


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
    with (
        ThreadPoolExecutor(WORKERS, thread_name_prefix="ordertrail-lines") as workers,
        closing(Ahead(texts(opened, partial(line, opened)), opened.con.interrupt)) as parts,
    ):
        while True:
            with opened.errors():
                part = parts.take()
            if part is None:
                return
            yield from in_order(*part, workers)
            del part  # while the next one is awaited


def _json_line(opened: OpenChanges, said: Mapping[str, str]) -> Line:
    """A change as a line of JSON."""
    types = _types(opened)
    row, key = (
        _object({name: _json_cell(types[name], f"h.{name_sql(name)}") for name in names})
        for names in (opened.content, opened.contract.key)
    )
    why = {name: Cell(said[name], '"', escape=json_escaped) for name in WHY}
    why["_file_row"] = Cell(said["_file_row"])
    tail = [part for name, cell in why.items() for part in (f',"{name.removeprefix("_")}":', cell)]
    return Line(
        head=('{"batch":', Cell(said["_batch"]), ',"change":"', _CHANGE, '","key":', *key, ',"before":'),
        row=row,
        nothing="null",
        between=',"after":',
        tail=(*tail, "}\n"),
        null="null",
    )


def _object(members: Mapping[str, Cell]) -> list[Part]:
    """The texts that together are a JSON object, from those of its members."""
    parts: list[Part] = []
    for number, (name, cell) in enumerate(members.items()):
        parts += [f'{"," if number else "{"}"{name}":', cell]
    return [*parts, "}"]


def _json_cell(column: TableColumn, sql: str) -> Cell:
    """A cell as it stands in JSON, see `rows.json_value`."""
    match column.type:
        case "string":
            return Cell(sql, '"', escape=json_escaped)
        case "date" | "timestamp":
            return Cell(sql, '"', text=_text(column, "v"))
        case "bigint":
            return Cell(sql)
        case "double":
            number = f"CASE WHEN isfinite({sql}) THEN CAST(to_json({sql}) AS VARCHAR) ELSE '\"' || {sql} || '\"' END"
            return Cell(number)
        case other if decimal_of(other):
            return Cell(f"CAST({sql} AS VARCHAR)", '"')
        case _:
            return Cell(f"CAST({sql} AS VARCHAR)")


def _csv_line(opened: OpenChanges, said: Mapping[str, str]) -> Line:
    """A change as a line of CSV."""
    types, key = _types(opened), opened.contract.key

    def cell(name: str) -> Cell:
        column, sql = types[name], f"h.{name_sql(name)}"
        match column.type:
            case "string":
                return Cell(sql, escape=csv_quoted)
            case "date" | "timestamp":
                return Cell(sql, text=_text(column, "v"))
            case _:
                return Cell(_text(column, sql))

    why = [Cell(said[name], escape=csv_quoted) for name in ("_delivery_id", "_file_name")]

    def separated(cells: Sequence[Part]) -> list[Part]:
        return [part for one in cells for part in (one, ",")]

    head = separated([Cell(said["_batch"]), _CHANGE, *map(cell, key)])
    row = separated([cell(name) for name in opened.content if name not in key])
    tail = separated([*why, Cell(said["_file_row"]), Cell(said["_outcome"])])
    return Line(head, row, nothing="," * (len(row) // 2), between="", tail=(*tail[:-1], "\n"), null="")


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
