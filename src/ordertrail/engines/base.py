"""The seam between the pipeline and the place where its tables are.

The pipeline decides what happens in which order; an engine performs each step, at most once. Every write carries the
batch number as a `txn` of the pipeline's application id, so a step that is repeated after a crash finds its own mark
and does nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import BinaryIO, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.model import Batch, Correction, Limits, Reject, RowCounts
from ordertrail.parse.job import ParsedFile
from ordertrail.rules.added import Newcomers
from ordertrail.rules.corrections import Known
from ordertrail.rules.incidents import Incident
from ordertrail.rules.planning import Candidate, LoadedFile


class Ledger(Struct, frozen=True):
    """What the tables say at the beginning of a pass.

    Attributes:
        staged: Number of the last batch staged, 0 for none.
        done: Number of the last batch with the done mark, 0 for none.
        archived: Number of the last batch whose files are archived, or wait for it one by one; 0 for none.
        highest: The highest batch number in any table's `txn`; the next batch is one higher.
        warnings: What a person should know about changes that somebody else made to the tables.
        app_id: The application id of the tables.
        notes: What a person may want to know about the tables although nothing is wrong.
    """

    staged: int
    done: int
    archived: int
    highest: int
    warnings: tuple[str, ...] = ()
    app_id: str = ""
    notes: tuple[str, ...] = ()


Admit = Callable[[str | None], str]
"""Called before an engine creates anything, with the application id of the existing tables, None when there are none;
returns it, or the id for new tables. Raises an error to forbid it."""


def anyone(found: str | None) -> str:
    """An `Admit` that forbids nothing."""
    return found or str(uuid.uuid4())


class StageRequest(Struct, frozen=True):
    """What to stage.

    Attributes:
        batch: Number, run id and clock; its manifests are still empty.
        candidates: The files.
        open_file: Opens one at its first byte; raises FileChangedError when it is gone.
        unchanged: Whether one is still the file that was fingerprinted.
        duplicates: For a candidate's number, the delivery that makes it a duplicate.
        route: Who parses and weighs the batch, for its manifests; the engine decides it.
        held: For a candidate's number, why it must not be loaded until a person has decided.
        correction: What the batch does with other deliveries; None for an ordinary batch.
        accept: Called with the files as they were parsed, before anything is committed; returns those to stage, all
            `loaded` ones among them, or raises to stage nothing.
        limits: How bad a file may be; None means what the config says.
    """

    batch: Batch
    candidates: Sequence[Candidate]
    open_file: Callable[[Candidate], BinaryIO]
    unchanged: Callable[[Candidate], bool]
    duplicates: Mapping[int, LoadedFile]
    route: str = ""
    held: Mapping[int, str] = field(default_factory=dict)
    correction: Correction | None = None
    accept: Callable[[Sequence[ParsedFile]], Sequence[ParsedFile]] = list
    limits: Limits | None = None

    @property
    def fresh(self) -> list[Candidate]:
        """The candidates that must be parsed: neither duplicates nor held."""
        return [c for c in self.candidates if c.number not in self.duplicates and c.number not in self.held]

    @property
    def judges_shares(self) -> bool:
        """Whether the keys of some file must be compared with the target before anything is committed."""
        return any(candidate.shares is not None for candidate in self.fresh)

    def judged(self, verdicts: Mapping[int, Reject]) -> StageRequest:
        """The request once the shares of its files were judged: they are not judged again.

        Args:
            verdicts: By number, why files are held.
        """
        candidates = [replace(c, shares=None, verdict=verdicts.get(c.number)) for c in self.candidates]
        return replace(self, candidates=candidates)


class Staged(Struct, frozen=True):
    """A staged batch, and the candidates that dropped out because they changed while they were read."""

    batch: Batch
    changed: tuple[Candidate, ...] = ()


class Books(Protocol):
    """What the five tables say about batches; opened and closed by a pass. Used by one thread; `close` comes last.

    All methods raise `StorageError` when the disk fails, `CommitConflictError` when another writer was faster (nothing
    was written), `CommitUnknownError` when a commit's reply was lost and reading back failed, `TableError` and its
    kind when a table is not what it should be.
    """

    def open(self, admit: Admit = anyone) -> Ledger:
        """Create the missing tables and read where the last pass stopped. Idempotent.

        Args:
            admit: Called before anything is created.
        """
        ...

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """The `loaded` deliveries with one of these sizes: a file can be a duplicate only of these. Reads only."""
        ...

    def recent_rows(self, vendors: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """By vendor, how many rows its last `rules.volume.RECENT` loaded deliveries have. Reads only."""
        ...

    def past(self) -> tuple[Known, ...]:
        """All deliveries, for a correction, in the order of their ids. Reads only."""
        ...

    def widen(self, request: StageRequest) -> Newcomers:
        """Add the columns that the files of a batch bring to the tables, where the contract says so. Idempotent.

        Args:
            request: The batch; it is staged afterwards, by `Engine.stage`.

        Returns:
            What was added, and what stays in `_rescued`.
        """
        ...

    def staged(self) -> Batch:
        """The batch that the stage holds. Reads only."""
        ...

    def archived(self, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
        """Note that a batch's files are archived, in one commit; idempotent. After `record` and the last move.

        Args:
            batch: As it was recorded; when its files are already noted, only `elsewhere` is written.
            elsewhere: By delivery id, `archived_to` of files that are not where the table says, also of earlier
                batches; None when they are not in the archive.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent."""
        ...


class Engine(Books, Protocol):
    """The five tables and the steps of a batch. An engine is composed of the parts below, once for each pass."""

    def stage(self, request: StageRequest) -> Staged:
        """Parse the files and overwrite the stage in ONE commit with `txn n`.

        Atomic: on any error the stage is as before. When every file changed meanwhile nothing is committed and
        the batch comes back without manifests.
        """
        ...

    def load(self, batch: Batch) -> Mapping[str, RowCounts]:
        """Give every staged row its outcome and bring the target up to date in ONE commit with `txn n`.

        Idempotent: if `txn n` is already there, nothing is written, and the outcomes are computed again from the stage
            and the target at that version.

        Returns:
            Rows by outcome, by delivery id.

        Raises:
            BalanceError: P3 does not hold; nothing was committed.
        """
        ...

    def record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        """Write history, rejects and, last, deliveries: the done mark. Each has `txn n`; idempotent. After `load`."""
        ...


class Weighing(Protocol):
    """Determines the outcome of every row of one staged batch. All methods only read."""

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """Give every row its outcome against a target without this batch.

        Args:
            target_version: The version of the target to weigh against.

        Returns:
            Rows by outcome, by delivery id.
        """
        ...

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """Like `weigh`, against a target that already has the batch: returns the outcomes of the pass that applied it.

        Args:
            target_version: The version that the batch's commit created.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent."""
        ...


class Applier(Protocol):
    """Brings the target up to date with one batch, in one commit that carries the batch's `txn`.

    Atomic. Not idempotent: `Load` first asks the recorder whether the batch is there.
    """

    def share(self, target_version: int) -> Mapping[str, RowCounts] | None:
        """Commit the stage's own data files when every row of the batch is inserted, without weighing it.

        Args:
            target_version: The version of the target to commit on.

        Returns:
            Rows by outcome, by delivery id; None when nothing was committed and the batch must be weighed.
        """
        ...

    def apply(self, target_version: int) -> None:
        """Commit the result of the weighing.

        Args:
            target_version: The version that the batch was weighed against.

        Raises:
            CommitConflictError: The target has another version now; nothing was committed.
        """
        ...


class Recorder(Protocol):
    """Reads what the tables say about one batch, and writes the tables other than stage and target."""

    @property
    def target_name(self) -> str:
        """The name of the target, for messages."""
        ...

    def target(self) -> tuple[int, int]:
        """The newest version of the target, and the last batch that it has; 0 for none."""
        ...

    def committed(self) -> int | None:
        """The version of the target that the batch's commit created; None when the log no longer has it."""
        ...

    def recorded(self) -> Mapping[str, RowCounts] | None:
        """Rows by outcome, by delivery id, of this batch in the history; None when the history lacks the batch."""
        ...

    def history(self) -> None:
        """Append the batch's accepted rows with their outcomes, in one commit. Idempotent."""
        ...

    def rejects(self) -> None:
        """Append the batch's rejects, in one commit. Idempotent."""
        ...

    def deliveries(self, counts: Mapping[str, RowCounts]) -> None:
        """Append the batch's deliveries, the done mark, in one commit. Idempotent.

        Args:
            counts: Rows by outcome, by delivery id.
        """
        ...


class KeptIncidents(Struct, frozen=True):
    """The incidents as the table has them.

    Attributes:
        version: Of the table; None when there is none yet.
        incidents: All of them.
    """

    version: int | None
    incidents: tuple[Incident, ...] = ()


class IncidentTable(Protocol):
    """The table of incidents, which is no part of any batch. Used by one thread.

    The methods raise `StorageError` when the disk fails, and `TableError` and its kind when the table is not what it
    should be.
    """

    def possible(self) -> bool:
        """Whether the pipeline has tables, beside which incidents can be kept. Reads only."""
        ...

    def read(self) -> KeptIncidents:
        """The incidents; none, and no version, before the first one opened. Reads only."""
        ...

    def write(self, before: KeptIncidents, incidents: Sequence[Incident]) -> KeptIncidents:
        """Replace all incidents, in one commit; the first call makes the table. Atomic.

        Args:
            before: As they were read. Nothing is written unless the table is still so.
            incidents: As they are now.

        Raises:
            CommitConflictError: Somebody else has written the table meanwhile; nothing was written.
            CommitUnknownError: A commit's reply was lost, and reading back failed.
        """
        ...
