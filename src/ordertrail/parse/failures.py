"""Who is at fault when the engine fails while it parses files: the files, or the environment.

A file that makes the engine fail even when it is parsed alone is held, with the reason; all others load. A failing disk
or an interrupt is not the fault of a file: it ends the pass, and the next one tries again.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from ordertrail.errors import QuarantineError

ENGINE_FAILURES = (duckdb.Error, pa.ArrowException, MemoryError)
"""What DuckDB and Arrow raise."""

_SURROUNDINGS = (duckdb.IOException, duckdb.InterruptException, pa.ArrowCancelled)
# Ctrl-C during a function of ours that DuckDB calls surfaces as an error of DuckDB, of a type that others have too.
_INTERRUPTED = "executing the UDF: KeyboardInterrupt"
_BROKEN = (duckdb.FatalException, duckdb.InternalException)
_DISK_FULL = "max_temp_directory_size"
_LONGEST = 500


def is_of_files(error: Exception) -> bool:
    """Whether one of the parsed files may be at fault."""
    text = str(error)
    return not isinstance(error, _SURROUNDINGS) and _DISK_FULL not in text and _INTERRUPTED not in text


def is_lasting(error: Exception) -> bool:
    """Whether DuckDB refuses everything after the failure, so that a new database is needed."""
    return isinstance(error, _BROKEN)


def why_held(error: Exception) -> QuarantineError:
    """The reason to hold a file that alone makes the engine fail."""
    line = (str(error).strip().partition("\n")[0] or type(error).__name__)[:_LONGEST]
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return QuarantineError(
            f"there is not enough memory for this file, even alone: {line}",
            rule="engine",
            hint="look at its longest rows, or raise pipeline.memory_limit_mb; "
            "then run ordertrail replay --all-quarantined",
        )
    return failing(line)


def failing(line: str) -> QuarantineError:
    """The reason to hold a file that alone makes the engine fail, from the engine's message.

    Args:
        line: The engine's message.
    """
    return QuarantineError(
        f"the engine fails on this file, even alone: {line[:_LONGEST]}",
        rule="engine",
        hint="check the vendor's formats and the contract's rules, then run ordertrail replay --all-quarantined; "
        "if they are as intended, please report it",
    )
