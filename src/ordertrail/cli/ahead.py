"""Loads DuckDB and Arrow in a thread of its own, while the modules of a command and the config are read.

Their libraries take 25 ms to load, and a database takes 17 ms to begin. Neither needs the interpreter meanwhile, so on
a second core both cost nothing. Nothing depends on it: what is not there in time is loaded where it is needed.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from ordertrail import startup


def libraries() -> None:
    """Begin to load DuckDB and Arrow, for a command that reads the tables. Returns at once."""
    startup.ahead(_libraries)


def database() -> None:
    """The same, and begin a database, for a command that makes a pass. Returns at once."""
    startup.ahead(_database)


def _libraries() -> None:
    with suppress(ImportError, OSError, AttributeError):  # whoever needs it says what is missing
        _load()
        import duckdb  # noqa: F401 - who imports it next has it


def _database() -> None:
    with suppress(ImportError, OSError, AttributeError):
        _load()
        import duckdb

        with suppress(duckdb.Error):
            begun = duckdb.connect()
            from ordertrail.parse.database import keep

            keep(begun)


def _load() -> None:
    """Load the shared libraries of both, as the import of their modules would."""
    import ctypes
    from importlib.machinery import EXTENSION_SUFFIXES
    from importlib.util import find_spec
    from pathlib import Path

    # The system's own function: the interpreter goes on while ctypes calls one, but not while `ctypes.CDLL` loads.
    load = ctypes.CDLL(None).dlopen
    arrow, database = find_spec("pyarrow"), find_spec("_duckdb")
    if arrow is not None and arrow.origin is not None:
        folder = Path(arrow.origin).parent
        libraries = [path for suffix in EXTENSION_SUFFIXES if (path := folder / f"lib{suffix}").exists()]
        if libraries:
            load(bytes(libraries[0]), sys.getdlopenflags())
    if database is not None and database.origin is not None:
        load(database.origin.encode(), sys.getdlopenflags())
