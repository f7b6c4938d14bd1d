"""Translates errors of Spark and Delta into ours, by their classes and conditions, never by the text of a plan.

The message of an analysis error contains the whole plan, and so the same words that errors of our own `MERGE` and of a
conflict contain. Errors of the JVM carry the chain of their causes; those from Spark Connect begin with the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from ordertrail.errors import (
    CommitConflictError,
    CommitUnknownError,
    OrdertrailError,
    StorageError,
    TableError,
    UnsupportedTableError,
)
from ordertrail.rules.secrets import masked

MOVED = "ordertrail: the target was written meanwhile"
"""The error of a MERGE when the target has changed since the outcomes were computed."""

MAX_MESSAGE = 500
"""How much of a message of Spark is shown, in characters."""

CONFLICTS = frozenset(
    {
        *("ConcurrentAppendException", "ConcurrentDeleteReadException", "ConcurrentDeleteDeleteException"),
        *("ConcurrentTransactionException", "ConcurrentWriteException", "MetadataChangedException"),
        *("ProtocolChangedException", "DeltaConcurrentModificationException", "FileAlreadyExistsException"),
    }
)
"""Delta's error classes for a concurrent write, in every package that they have been in."""

_INVARIANT = "DeltaInvariantViolationException"
_ANALYSIS = frozenset({"AnalysisException", "ExtendedAnalysisException", "DeltaAnalysisException", "ParseException"})
_LOST = "Checkpoint block"
_STORAGE = re.compile(r"No space left|Read-only file system|Permission denied|Input/output error|Too many open files")
_GONE = re.compile(r"Connection (refused|reset)|Answer from Java side is empty|StatusCode.UNAVAILABLE")
# `(org.apache.spark.sql.AnalysisException) [CONDITION] ...`, as Spark Connect has it.
_CONNECT = re.compile(r"\s*\((?:[\w$]+\.)+([\w$]+)\)\s*")
_CONDITION = re.compile(r"\s*\[([A-Z][A-Z0-9_.]+)\]")
_MAX_CAUSES = 20


class RowsLostError(Exception):
    """Internal to the engine: rows that Spark kept were lost with their executor; they can be computed again."""


class Cause(Struct, frozen=True):
    """One link of the chain of an error.

    Attributes:
        name: Its class, without the package.
        condition: Spark's name of the error, such as `TABLE_OR_VIEW_NOT_FOUND`; empty when it has none.
        message: Its message.
    """

    name: str
    condition: str
    message: str


def causes(error: BaseException) -> tuple[Cause, ...]:
    """The chain of an error, the error itself first; includes Python's cause when that knows the class."""
    found = tuple(_java_causes(error)) or (_python_cause(error),)
    # PySpark asks the JVM for the message of a condition that only Delta knows, and fails.
    behind = error.__cause__ or error.__context__
    unknown = found[0].condition == "INTERNAL_ERROR" and "Cannot find main error class" in found[0].message
    return (causes(behind) or found) if unknown and behind is not None else found


def translated(doing: str, error: Exception) -> OrdertrailError | RowsLostError:
    """Translate an error.

    Args:
        doing: The beginning of the message, such as `cannot stage the batch`.
        error: An error of Spark, Delta or the connection to them.
    """
    chain = causes(error)
    names, conditions = {cause.name for cause in chain}, {cause.condition for cause in chain}
    moved = any(cause.condition == "USER_RAISED_EXCEPTION" and MOVED in cause.message for cause in chain)
    if moved or names & CONFLICTS or any(condition.startswith("DELTA_CONCURRENT_") for condition in conditions):
        return CommitConflictError(f"{doing}: somebody else wrote to the table meanwhile", hint="run again")
    said = _told(chain)
    if "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE" in conditions or "DELTA_UNSUPPORTED_FEATURES_FOR_READ" in conditions:
        return UnsupportedTableError(f"{doing}: {said}", hint="the table was not touched")
    if _INVARIANT in names:
        hint = (
            "take the constraint off the table, or have the vendor's rows meet it; nothing was written, then run again"
        )
        return TableError(f"{doing}: the table refuses a row: {said}", hint=hint)
    if not names & _ANALYSIS and (other := _of_the_surroundings(doing, error, chain, said)) is not None:
        return other
    return TableError(f"{doing}: {said}", hint="run again; if the error persists, see Spark's own log")


def first_line(error: BaseException) -> str:
    """The message of an error on one line, without passwords."""
    return _told(causes(error))


def _of_the_surroundings(
    doing: str, error: Exception, chain: Sequence[Cause], said: str
) -> OrdertrailError | RowsLostError | None:
    """Our error for failing executors, network and disks; None for any other."""
    text = "\n".join(f"{cause.name} {cause.message}" for cause in chain)
    if _LOST in text:
        return RowsLostError(f"{doing}: an executor has ended")
    if isinstance(error, ConnectionError) or "Py4JNetworkError" in text or _GONE.search(text):
        return CommitUnknownError(
            f"{doing}: Spark went away: {said}", hint="run again: the next pass looks what was committed"
        )
    if (found := _STORAGE.search(text)) is not None:
        return StorageError(f"{doing}: {found[0]}", hint="check the storage, then run again; nothing is lost")
    return None


def _java_causes(error: BaseException) -> Iterator[Cause]:
    from py4j.protocol import Py4JError

    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    # the JVM may have ended
    with suppress(Py4JError, OSError):
        for _ in range(_MAX_CAUSES):
            if java is None:
                return
            name = str(java.getClass().getName()).replace("$", ".").rpartition(".")[2]
            message = str(java.getMessage() or "")
            yield Cause(name, _condition_in(message), message)
            java = java.getCause()


def _python_cause(error: BaseException) -> Cause:
    message = str(error)
    over_connect = _CONNECT.match(message)
    name = over_connect[1] if over_connect else type(error).__name__
    rest = message[over_connect.end() :] if over_connect else message
    getter = getattr(error, "getCondition", None)
    condition = getter() if callable(getter) else None
    return Cause(name, str(condition or _condition_in(rest)), rest)


def _condition_in(message: str) -> str:
    found = _CONDITION.match(message)
    return found[1] if found else ""


def _told(chain: Sequence[Cause]) -> str:
    """The message of the root cause: the last one with a Spark condition, else the last one with a message."""
    named = [cause for cause in chain if cause.condition and cause.condition != "TASK_WRITE_FAILED"]
    worded = [cause for cause in chain if cause.message.strip()]
    cause = (named or worded or list(chain))[-1]
    lines = [line.strip() for line in cause.message.splitlines() if line.strip()]
    # Delta lists the values of a refused row on separate lines; in other errors a plan follows.
    text = " ".join(lines) if cause.name == _INVARIANT else "".join(lines[:1])
    return masked(text or cause.name)[:MAX_MESSAGE]
