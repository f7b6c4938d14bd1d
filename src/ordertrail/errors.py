"""Every error a user can meet, as one tree.

```
OrdertrailError            code, message, hint; transient or terminal; the exit code of the command line
├── ConfigError            E_CONFIG       the config file or the environment is wrong
├── UsageError             E_USAGE        a command was called with something that does not fit
├── PassRunningError       E_PASS         another pass holds this pipeline
├── SourceError            E_SOURCE       the source or archive folder cannot be used
├── FileChangedError       E_FILE         a file changed while it was read: it belongs to a later batch
├── QuarantineError        E_QUARANTINE   a whole delivery cannot be loaded (recorded, never shown as a failure)
├── TableError             E_TABLE        a Delta table is missing, damaged or not ours
│   ├── UnsupportedTableError E_FEATURE   the table has a feature that we must not write to
│   └── ForeignChangeError E_FOREIGN      somebody restored, replaced or truncated a table
├── CommitConflictError    E_CONFLICT     the version was taken by another writer: nothing was written
├── CommitUnknownError     E_UNKNOWN      a commit's outcome could not be read back
├── BalanceError           E_BALANCE      the rows of a delivery do not add up (P3); nothing was committed
├── AttentionError         E_ATTENTION    a batch is done, but somebody must look (Databricks only)
├── StorageError           E_STORAGE      the disk is full, read-only or failing
└── QueryError             E_QUERY        SQL of the user's that does not run
```

`transient` says whether the same call may succeed later without anybody doing anything; what is not
known to be transient is terminal.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class OrdertrailError(Exception):
    """Base of all errors: a stable code, what happened, and what to do about it.

    Args:
        message: What happened, naming the file, line, column and value where there are any.
        hint: What to do next, as an instruction.
    """

    code: ClassVar[str] = "E_ORDERTRAIL"
    transient: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(OrdertrailError):
    """The config file or an environment setting is wrong."""

    code = "E_CONFIG"
    exit_code = 2


class UsageError(OrdertrailError):
    """A command or a function was called with something that does not fit."""

    code = "E_USAGE"
    exit_code = 2


class PassRunningError(OrdertrailError):
    """Another pass of this pipeline is running; nothing was done."""

    code = "E_PASS"
    transient = True
    exit_code = 4


class SourceError(OrdertrailError):
    """The source or the archive folder is missing or cannot be read or written."""

    code = "E_SOURCE"
    transient = True


class FileChangedError(OrdertrailError):
    """A file changed or vanished while it was read; it drops out of this batch and is looked at again."""

    code = "E_FILE"
    transient = True


class QuarantineError(OrdertrailError):
    """A delivery cannot be loaded as a whole. The pipeline records it; it never ends a pass.

    Args:
        message: The reason, in plain words.
        rule: The stable name of the rule that was broken, as in `orders_rejects.rule`.
        column: The contract column at fault, or None when it is the whole file.
        hint: What the vendor or the owner of the feed should do.
    """

    code = "E_QUARANTINE"
    exit_code = 3

    def __init__(self, message: str, *, rule: str, column: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rule = rule
        self.column = column


class TableError(OrdertrailError):
    """A Delta table is missing, damaged or not one of this pipeline.

    Args:
        message: As of `OrdertrailError`.
        hint: As of `OrdertrailError`.
        path: The file of the table that is damaged or gone, where it is one file.
    """

    code = "E_TABLE"

    def __init__(self, message: str, *, hint: str = "", path: Path | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class UnsupportedTableError(TableError):
    """The table has a protocol feature or a property that ordertrail must not write to; it was not touched."""

    code = "E_FEATURE"


class ForeignChangeError(TableError):
    """Somebody restored, replaced or truncated a table of the pipeline behind its back."""

    code = "E_FOREIGN"
    exit_code = 3


class CommitConflictError(OrdertrailError):
    """The wanted version was taken by another writer. Nothing was written; compute again and retry."""

    code = "E_CONFLICT"
    transient = True


class CommitUnknownError(OrdertrailError):
    """The reply of a commit was lost and its outcome could not be read back. The next pass settles it."""

    code = "E_UNKNOWN"
    transient = True


class BalanceError(OrdertrailError):
    """The outcomes of a delivery's rows do not add up to the rows parsed (P3); nothing was committed."""

    code = "E_BALANCE"


class AttentionError(OrdertrailError):
    """What is exit code 3 elsewhere: a job on Databricks can tell a person only by failing."""

    code = "E_ATTENTION"
    exit_code = 3


class StorageError(OrdertrailError):
    """The disk is full, read-only or failing. Nothing is lost: the next pass goes on from here."""

    code = "E_STORAGE"
    transient = True


class QueryError(OrdertrailError):
    """SQL given to `ordertrail query`, or to `export --where`, does not run."""

    code = "E_QUERY"
    exit_code = 2
