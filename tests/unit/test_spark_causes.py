"""What errors of Spark's and Delta's mean; fakes of the JVM's exceptions, as they were seen with Delta 4.4."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ordertrail.engines.spark.causes import MOVED, RowsLostError, causes, first_line, translated
from ordertrail.errors import (
    CommitConflictError,
    CommitUnknownError,
    OrdertrailError,
    StorageError,
    TableError,
    UnsupportedTableError,
)

pytest.importorskip("py4j")

PLAN = f"""[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column `s`.`x` cannot be resolved. SQLSTATE: 42703; line 1 pos 7;
'MergeIntoTable raise_error('{MOVED}'), ConcurrentAppendException, FileAlreadyExists, DELTA_CONCURRENT_APPEND
+- 'Project [Permission denied, Connection refused, Checkpoint block]"""
CHECKED = """[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES] CHECK constraint positive (a > 0) violated by row with values:
 - a : -1"""


@dataclass
class Class:
    """`java.lang.Class`."""

    name: str

    def getName(self) -> str:
        return self.name


class Java:
    """`java.lang.Throwable`."""

    def __init__(self, name: str, message: str | None, cause: Java | None = None) -> None:
        self._name, self._message, self._cause = name, message, cause

    def getClass(self) -> Class:
        return Class(self._name)

    def getMessage(self) -> str | None:
        return self._message

    def getCause(self) -> Java | None:
        return self._cause


class JavaError(Exception):
    """As `py4j.protocol.Py4JJavaError`: its text says nothing of use."""

    def __init__(self, java_exception: Java) -> None:
        super().__init__("An error occurred while calling o63.sql.\n: " + str(java_exception.getMessage()))
        self.java_exception = java_exception


class AnalysisException(Exception):
    """As PySpark's own, with its condition."""

    def getCondition(self) -> str:
        return "UNRESOLVED_COLUMN.WITH_SUGGESTION"


def write_failed(cause: Java) -> JavaError:
    return JavaError(Java("org.apache.spark.SparkException", "[TASK_WRITE_FAILED] Task failed", cause))


MEANINGS: dict[str, tuple[Exception, type[Exception], str]] = {
    "a plan that holds our words is no conflict": (AnalysisException(PLAN), TableError, "cannot be resolved"),
    "nor is one of the JVM's": (
        JavaError(Java("org.apache.spark.sql.catalyst.ExtendedAnalysisException", PLAN)),
        TableError,
        "cannot be resolved",
    ),
    "nor is one that came over Spark Connect": (
        Exception(f"(org.apache.spark.sql.AnalysisException) {PLAN}"),
        TableError,
        "cannot be resolved",
    ),
    "a row of the target that moved": (
        write_failed(
            Java("org.apache.spark.SparkRuntimeException", f"[USER_RAISED_EXCEPTION] {MOVED} SQLSTATE: P0001")
        ),
        CommitConflictError,
        "somebody else wrote to the table",
    ),
    "a concurrent append": (
        JavaError(Java("io.delta.exceptions.ConcurrentAppendException", "[DELTA_CONCURRENT_APPEND] Files were added")),
        CommitConflictError,
        "somebody else wrote to the table",
    ),
    "a concurrent delete on Databricks": (
        JavaError(Java("com.databricks.sql.transaction.tahoe.ConcurrentDeleteReadException", "gone")),
        CommitConflictError,
        "somebody else wrote to the table",
    ),
    "a schema that changed meanwhile": (
        JavaError(Java("io.delta.exceptions.MetadataChangedException", "[DELTA_METADATA_CHANGED] changed")),
        CommitConflictError,
        "somebody else wrote to the table",
    ),
    "a concurrent write over Spark Connect": (
        Exception("(io.delta.exceptions.ConcurrentAppendException) [DELTA_CONCURRENT_APPEND] Files were added"),
        CommitConflictError,
        "somebody else wrote to the table",
    ),
    "a concurrent write of a class that we do not know": (
        JavaError(Java("x.Newer", "[DELTA_CONCURRENT_APPEND.WITHOUT_HINT] Files were added")),
        CommitConflictError,
        "somebody else wrote to the table",
    ),
    "a constraint": (
        JavaError(Java("org.apache.spark.sql.delta.schema.DeltaInvariantViolationException", CHECKED)),
        TableError,
        (
            "refuses a row: [DELTA_VIOLATE_CONSTRAINT_WITH_VALUES] CHECK constraint positive (a > 0) violated by "
            "row with values: - a : -1"
        ),
    ),
    "a feature": (
        JavaError(Java("x.DeltaUnsupportedTableFeatureException", "[DELTA_UNSUPPORTED_FEATURES_FOR_WRITE] no")),
        UnsupportedTableError,
        "no",
    ),
    "an executor that ended": (
        JavaError(Java("org.apache.spark.SparkException", "Job aborted: Checkpoint block rdd_1_0 not found!")),
        RowsLostError,
        "an executor has ended",
    ),
    "a full disk": (
        write_failed(Java("java.io.IOException", "No space left on device")),
        StorageError,
        "No space left",
    ),
    "a JVM that ended": (
        ConnectionRefusedError("[Errno 111] Connection refused"),
        CommitUnknownError,
        "Spark went away",
    ),
    "a cause without words": (
        JavaError(Java("java.lang.NullPointerException", None)),
        TableError,
        "NullPointerException",
    ),
}


@pytest.mark.parametrize("case", MEANINGS)
def test_what_an_error_means(case: str) -> None:
    error, kind, said = MEANINGS[case]
    found = translated("cannot load batch 7", error)
    assert type(found) is kind
    assert str(found).startswith("cannot load batch 7: ")
    assert said in (found.message if isinstance(found, OrdertrailError) else str(found))
    assert "o63.sql" not in str(found)


def test_a_condition_that_only_delta_knows_is_told_by_what_lies_behind() -> None:
    """PySpark fails at asking the JVM for its message; the first error says what it was."""
    first = JavaError(
        Java("org.apache.spark.sql.delta.DeltaAnalysisException", "[DELTA_MERGE_UNRESOLVED_EXPRESSION] s.x")
    )
    message = "[INTERNAL_ERROR] Cannot find main error class 'DELTA_MERGE_UNRESOLVED_EXPRESSION'"
    second = JavaError(Java("org.apache.spark.SparkException", message))
    second.__context__ = first
    assert causes(second)[0].condition == "DELTA_MERGE_UNRESOLVED_EXPRESSION"
    assert "s.x" in str(translated("cannot load", second))


def test_no_password_is_told() -> None:
    assert first_line(ConnectionError("no way to sc://server:15002/;token=s3cret")) == (
        "no way to sc://server:15002/;token=***"
    )
