"""The seam between the pipeline and the place where its tables live.

The pipeline decides what happens in which order; an engine makes each step happen, at most once. Every write carries
the batch number as a `txn` of the pipeline's application id, so a step that is asked for again after a crash finds
its own mark and does nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from ordertrail.model import Batch, RowCounts
from ordertrail.rules.planning import Candidate, LoadedFile


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the tables say before a pass.

    Attributes:
        staged: Number of the last batch staged, 0 for none.
        done: Number of the last batch with the done mark, 0 for none.
        archived: Number of the last batch whose files are archived, or wait for it one by one; 0 for none.
        highest: The highest batch number in any table's `txn`; the next batch is one more.
        warnings: What somebody else did to the tables and a person should know.
        app_id: The application id of the tables.
    """

    staged: int
    done: int
    archived: int
    highest: int
    warnings: tuple[str, ...] = ()
    app_id: str = ""


Admit = Callable[[str | None], str]
"""Asked before an engine makes anything: gets the application id of the tables that are there, None when there is none;
gives it back, or the id of the tables to be made. Raises what forbids it."""


def anyone(found: str | None) -> str:
    """The `Admit` of who asks nobody."""
    return found or str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class StageRequest:
    """What to stage.

    Attributes:
        batch: Number, run id and clock; its manifests are still empty.
        candidates: The files.
        open_file: Opens one at its first byte; raises FileChangedError when it is gone.
        unchanged: Whether one still is the file that was fingerprinted.
        duplicates: For a candidate's number, the delivery that makes it a duplicate.
    """

    batch: Batch
    candidates: Sequence[Candidate]
    open_file: Callable[[Candidate], BinaryIO]
    unchanged: Callable[[Candidate], bool]
    duplicates: Mapping[int, LoadedFile]


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged batch, and the candidates that dropped out because they changed while they were read."""

    batch: Batch
    changed: tuple[Candidate, ...] = ()


class Engine(Protocol):
    """The five tables. Used by one thread; `close` is the last call.

    All methods raise `StorageError` when the disk fails, `CommitConflictError` when another writer was faster (nothing
    was written), `CommitUnknownError` when a commit's reply was lost and reading back failed, `TableError` and its
    kind when a table is not what it should be.
    """

    def open(self, admit: Admit = anyone) -> Ledger:
        """Make the missing tables and read where the last pass stopped. Idempotent.

        Args:
            admit: Asked before anything is made.
        """
        ...

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """The `loaded` deliveries of one of these sizes: those that a file can be a duplicate of. Reads only."""
        ...

    def stage(self, request: StageRequest) -> Staged:
        """Parse the files and overwrite the stage in ONE commit with `txn n`.

        Atomic: on any error the stage is as before. When every file changed meanwhile nothing is committed and
        the batch comes back without manifests.
        """
        ...

    def staged(self) -> Batch:
        """The batch that the stage holds. Reads only."""
        ...

    def load(self, batch: Batch) -> Mapping[str, RowCounts]:
        """Give every staged row its outcome and bring the target up to date in ONE commit with `txn n`.

        Idempotent: with `txn n` already there nothing is written and the outcomes are worked out again from the
        stage and the target at that version.

        Returns:
            Rows by outcome, by delivery id.

        Raises:
            BalanceError: P3 does not hold; nothing was committed.
        """
        ...

    def record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        """Write history, rejects and, last, deliveries: the done mark. Each has `txn n`; idempotent. After `load`."""
        ...

    def archived(self, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
        """Note that a batch's files are archived, in one commit; idempotent. After `record` and the last move.

        Args:
            batch: As it was recorded; where its files are noted already, only `elsewhere` is written.
            elsewhere: By delivery id, `archived_to` of the files that are not where the table says, also of batches
                before; None where they are not in the archive.
        """
        ...

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...
