"""Whose fault it is when the engine fails while files are parsed: that of the files, or of the surroundings.

A file that makes the engine fail even when it is parsed alone is held, with its reason; all others load. A disk that
fails, or somebody who interrupts, is no file's fault: that ends the pass, and the next one tries again.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from ordertrail.errors import QuarantineError

ENGINE_FAILURES = (duckdb.Error, pa.ArrowException, MemoryError)
"""What DuckDB and Arrow raise."""

_SURROUNDINGS = (duckdb.IOException, duckdb.InterruptException, pa.ArrowCancelled)
# Ctrl-C while a function of ours runs for DuckDB comes out as DuckDB's own error, of a kind that others have too.
_INTERRUPTED = "executing the UDF: KeyboardInterrupt"
_BROKEN = (duckdb.FatalException, duckdb.InternalException)
_DISK_FULL = "max_temp_directory_size"
_LONGEST = 500


def is_of_files(error: Exception) -> bool:
    """Whether the failure may be the fault of one of the files that were parsed."""
    text = str(error)
    return not isinstance(error, _SURROUNDINGS) and _DISK_FULL not in text and _INTERRUPTED not in text


def is_lasting(error: Exception) -> bool:
    """Whether a DuckDB refuses everything after the failure: it must be begun anew."""
    return isinstance(error, _BROKEN)


def why_held(error: Exception) -> QuarantineError:
    """Why a file is held that makes the engine fail alone."""
    line = (str(error).strip().partition("\n")[0] or type(error).__name__)[:_LONGEST]
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return QuarantineError(
            f"the memory does not suffice for this file, even alone: {line}",
            rule="engine",
            hint="see what its longest rows hold, or raise pipeline.memory_limit_mb; then copy it back with cp -p",
        )
    return failing(line)


def failing(line: str) -> QuarantineError:
    """Why a file is held on which an engine fails alone.

    Args:
        line: What the engine says.
    """
    return QuarantineError(
        f"the engine fails on this file, even alone: {line[:_LONGEST]}",
        rule="engine",
        hint="see whether the vendor's formats and the contract's rules can be meant, then copy it back with cp -p; "
        "please report it if they can",
    )
