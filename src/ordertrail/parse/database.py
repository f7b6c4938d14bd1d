"""DuckDB databases in memory, with the settings and functions of the row kernel.

To begin a database takes 25 ms, which is a tenth of a small pass. So a process keeps one that was released for whoever
connects next: of the passes of `watch` only the first one begins a database. A database is lent to one at a time, and
what was made in it is gone when it is lent again: it is cleared when it is released, or, in a process that ends soon,
not before it is lent again.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType
from msgspec import Struct

from ordertrail import startup
from ordertrail.parse.zones import zone
from ordertrail.rules.advice import advice
from ordertrail.rules.sql import DELETED, quoted

_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET enable_progress_bar = false",  # it would print to stdout, into the output of --json
    "SET preserve_insertion_order = false",
)
_CLEARED = (
    f"DROP SCHEMA IF EXISTS {DELETED} CASCADE",
    "RESET disabled_optimizers",
    "SET memory_limit = '8MB'",  # what its allocator held for later goes back to the system
)
_CLOSED = "SET temp_directory = ''"
"""Refused once a query has spilled: its files are deleted when the database is closed."""

_lock = threading.Lock()
_idle: list[duckdb.DuckDBPyConnection] = []
_uncleared: list[duckdb.DuckDBPyConnection] = []  # of those in _idle
_lent: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, duckdb.DuckDBPyConnection] = weakref.WeakKeyDictionary()
_inherited: list[duckdb.DuckDBPyConnection] = []


class Database(Struct, frozen=True):
    """A DuckDB database from `connect`, which can be replaced.

    Attributes:
        con: The current connection.
        renewed: Opens a new database in place of one that refuses everything after an error of its own.
    """

    con: duckdb.DuckDBPyConnection
    renewed: Callable[[], duckdb.DuckDBPyConnection]


def connect(threads: int, memory_limit_mb: int, spill: Path) -> duckdb.DuckDBPyConnection:
    """A connection to a database that nobody else uses, with the kernel's settings and functions.

    Args:
        threads: 0 takes DuckDB's default, all cores.
        memory_limit_mb: Limit of DuckDB's buffers, in MB; above it operators spill.
        spill: Folder for temporary files; created when needed.
    """
    settings = (
        *_SETTINGS,
        f"SET memory_limit = '{memory_limit_mb}MB'",
        f"SET temp_directory = {quoted(str(spill))}",
        f"SET threads = {threads}" if threads else "RESET threads",
    )
    database = _taken() or _prepared(duckdb.connect())
    con = database.cursor()
    for setting in settings:
        con.execute(setting).fetchall()
    with _lock:
        _lent[con] = database
    return con


def release(con: duckdb.DuckDBPyConnection) -> None:
    """Close a connection from `connect`; its database may serve the next one.

    Args:
        con: Need not work any more; may be closed already.
    """
    with _lock:
        database = _lent.pop(con, None)
    con.close()
    if database is None:
        return
    later = startup.ends_soon()
    if not _ran(database, (_CLOSED,) if later else (*_CLEARED, _CLOSED)):
        database.close()  # it has spilled, or refuses everything after an error of its own
        return
    _keep(database, cleared=not later)


def keep(database: duckdb.DuckDBPyConnection) -> None:
    """Have a new database of `duckdb.connect` serve the next `connect`; for who begins one ahead of time."""
    _keep(_prepared(database), cleared=True)


def _keep(database: duckdb.DuckDBPyConnection, *, cleared: bool) -> None:
    with _lock:
        if not _idle:
            _idle.append(database)
            if not cleared:
                _uncleared.append(database)
            return
    database.close()


def _taken() -> duckdb.DuckDBPyConnection | None:
    """The idle database, cleared; None when there is none."""
    startup.wait_for_ahead()
    with _lock:
        database = _idle.pop() if _idle else None
        left = database is not None and database in _uncleared
        _uncleared.clear()
    if database is not None and left and not _ran(database, _CLEARED):
        database.close()
        return None
    return database


def _ran(database: duckdb.DuckDBPyConnection, statements: tuple[str, ...]) -> bool:
    """Whether statements could be run."""
    try:
        for statement in statements:
            database.execute(statement).fetchall()
    except duckdb.Error:
        return False
    return True


@contextmanager
def connected(threads: int, memory_limit_mb: int, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """`connect` for a block."""
    con = connect(threads, memory_limit_mb, spill)
    try:
        yield con
    finally:
        release(con)


def _prepared(database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A new database with the kernel's functions."""
    for name, function, argument, result in _FUNCTIONS:
        database.create_function(
            name,
            function,
            ["VARCHAR", argument],
            result,
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )
    return database


def _close_idle() -> None:
    """Close what is idle before Python itself goes: DuckDB would complain about functions that nobody released."""
    while _idle:
        _idle.pop().close()


def _leave_to_parent() -> None:
    """In a forked child: a database has threads, which the child lacks; even to close it there would wait for them."""
    _inherited.extend(_idle)
    _idle.clear()


atexit.register(_close_idle)
os.register_at_fork(after_in_child=_leave_to_parent)


def _to_utc_us(names: pa.ChunkedArray, local_us: pa.ChunkedArray) -> pa.Array:
    utc, exists, _, missing = _translated(names, local_us)
    return pa.array(utc, mask=missing | ~exists)


def _is_ambiguous(names: pa.ChunkedArray, local_us: pa.ChunkedArray) -> pa.Array:
    _, exists, twice, missing = _translated(names, local_us)
    return pa.array(twice & exists & ~missing)


def _translated(
    names: pa.ChunkedArray, local_us: pa.ChunkedArray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    missing = np.asarray(local_us.is_null())
    local = np.asarray(local_us.fill_null(0), dtype=np.int64)
    utc, exists, twice = zone(names[0].as_py()).to_utc(local)
    return utc, exists, twice, missing


def _advice(wanted: pa.ChunkedArray, texts: pa.ChunkedArray) -> pa.Array:
    return pa.array([advice(wanted[0].as_py(), text or "") for text in texts.to_pylist()], pa.string())


_FUNCTIONS = (
    ("to_utc_us", _to_utc_us, "BIGINT", "BIGINT"),
    ("is_ambiguous", _is_ambiguous, "BIGINT", "BOOLEAN"),
    ("cell_advice", _advice, "VARCHAR", "VARCHAR"),
)
"""(name, what computes it, type of its second argument, type of its result); the first argument is a constant text."""
