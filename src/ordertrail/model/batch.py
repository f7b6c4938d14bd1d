"""Batches, deliveries, their rows and the reports about them, as frozen values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from operator import add

from msgspec import Struct, field
from msgspec.structs import astuple


class Outcome(StrEnum):
    """The outcome of one row of a delivery; of a correction, what happened to one key of the target."""

    INSERTED = "inserted"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    STALE = "stale"
    SUPERSEDED = "superseded"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    REMOVED = "removed"


ROW_OUTCOMES = tuple(outcome for outcome in Outcome if outcome is not Outcome.REMOVED)
"""What may become of a parsed row. Only a correction removes: a key that no delivery that counts knows any more."""


class State(StrEnum):
    """The state of one delivery."""

    LOADED = "loaded"
    EMPTY = "empty"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    HELD = "held"
    UNDONE = "undone"
    REPLAYED = "replayed"
    REFUSED = "refused"
    DISMISSED = "dismissed"
    CORRECTION = "correction"
    MIGRATION = "migration"


SET_ASIDE = frozenset({State.QUARANTINED, State.HELD})
"""States of a delivery that was not loaded and that a person must look at; its file is below `quarantine/`."""


class CorrectionKind(StrEnum):
    """What a person decided about deliveries that are there already.

    `undo`: their rows no longer count. `redo`: they count again. `replay`: their archived files are read again, under
    today's contract and profiles, and take their place. `correct`: another file takes the place of one. `release`: a
    held file is loaded. `refuse`: it never will be. `dismiss`: a file that was set aside needs nobody any more.
    """

    UNDO = "undo"
    REDO = "redo"
    REPLAY = "replay"
    CORRECT = "correct"
    RELEASE = "release"
    REFUSE = "refuse"
    DISMISS = "dismiss"


class Correction(Struct, frozen=True):
    """A decision about deliveries; a batch carries it out.

    Attributes:
        kind: What is done with them.
        of: Their ids.
        why: The reason, in the words of the person who decided.
        by: That person.
    """

    kind: CorrectionKind
    of: tuple[str, ...]
    why: str
    by: str


class FileIdentity(Struct, frozen=True):
    """What `stat` says of a file; two equal values mean that nobody wrote to it in between."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


class Claims(Struct, frozen=True):
    """What a sender's manifest says of a file; None where it says nothing. Without any, only that it is complete.

    Attributes:
        rows: Number of data rows, the header not counted.
        size_bytes: Number of bytes.
        sha256: Of the whole file, hexadecimal.
        file_name: The file that the manifest is about, without folders.
    """

    rows: int | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    file_name: str | None = None


class SenderManifest(Struct, frozen=True):
    """The file with which a sender says that another one is complete.

    Attributes:
        path: As of the file that it is about; both are in one folder.
        identity: Its `stat` when it was read.
        sha256: Of its bytes, hexadecimal.
        claims: What it says.
    """

    path: str
    identity: FileIdentity
    sha256: str
    claims: Claims


class FoundFile(Struct, frozen=True):
    """A complete file that a vendor takes, before it was read.

    Attributes:
        path: Below the source folder, `/` between folders; bytes that are not UTF-8 are surrogate escapes.
        vendor: Name of the vendor that takes it.
        identity: Its `stat` when it was listed.
        manifest: Its sender's manifest; None when the vendor sends none.
    """

    path: str
    vendor: str
    identity: FileIdentity
    manifest: SenderManifest | None = None


class Skipped(Struct, frozen=True):
    """A file that this pass left alone, and why (`not settled`, `no vendor takes it`, `changed while read` ...).

    Attributes:
        file_name: Its path below the source, as clean text.
        reason: In plain words.
        since: When it was first seen waiting, aware UTC; None when that is not known.
        needs_person: Whether it waits for something that does not happen by itself.
    """

    file_name: str
    reason: str
    since: datetime | None = None
    needs_person: bool = False


class RowCounts(Struct, frozen=True):
    """Rows of a delivery, or of a whole pass, by outcome; of a correction, the keys that it touched.

    Of its keys `parsed` were touched, `inserted` and `updated` restored, `unchanged` kept and `removed` taken out.
    """

    parsed: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    superseded: int = 0
    duplicate: int = 0
    rejected: int = 0
    removed: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*map(add, astuple(self), astuple(other)))

    @property
    def balanced(self) -> bool:
        """Whether P3 holds: every parsed row has exactly one outcome."""
        return bool(self.parsed == sum(getattr(self, outcome) for outcome in Outcome))


class Manifest(Struct, frozen=True):
    """Everything about one delivery that a crash must not change: decided once, and kept in the stage.

    Attributes:
        delivery_id: Unique in the pipeline; safe in a file name.
        vendor: The vendor's name.
        path: Below the source folder, surrogate escapes for bytes that are not UTF-8.
        file_name: The path's last part as clean text, for tables and people.
        identity: The file's `stat` when it was read.
        sha256: Of the whole file, hexadecimal.
        file_key: Date in the name at midnight UTC, else the modification time; ms since 1970.
        contract_hash: Of the contract and the vendor's profile, hexadecimal.
        state: The delivery's state, already known when it is staged.
        reason: Why it is not `loaded`, in plain words; None when it is.
        archive_path: Below the archive folder.
        absent: Contract columns that the file lacks.
        rows_parsed: Data rows in the file.
        rows_rejected: How many of these the row kernel rejected.
        rows_duplicate: How many of these are not staged because the file was loaded before.
        first_error: The first reject in one line; None when there is none.
        discovered_at: Aware UTC.
        rescued: Names of the file's columns that the contract does not know; at most MAX_NOTED.
        unranked: Statuses of accepted rows that are not ranked; at most MAX_NOTED.
        route: Who parses and weighs the batch, where an engine has the choice (`engines.spark.route`); "" where not.
        correction: What the batch does with other deliveries; only the manifest of the correction itself has it.
        replaces: The delivery whose place this one takes, in a correction; "" where it takes none.
        archived: Whether the file was in the archive, under `archive_path`, before the batch was staged.
        lines_skipped: Lines of the file that are no rows, but neither the header nor blank: title lines, the header
            again, a trailer, lines that go on with the row before, delimiters alone.
        migration: What the batch makes of the tables, as `rules.migration` writes it; "" for all other batches.
        doubts: What speaks against its rows although they meet the contract, in plain words.
        sender: The sender's own manifest, which is archived beside the file; None when there is none.
        newest_first: Whether the newest of its rows is the first one.
        mapped: How contract columns were found that the header does not name themselves, such as
            `tracking_num <- 'Tracking No'`; at most MAX_NOTED.
    """

    delivery_id: str
    vendor: str
    path: str
    file_name: str
    identity: FileIdentity
    sha256: str
    file_key: int
    contract_hash: str
    state: State
    reason: str | None
    archive_path: str
    absent: tuple[str, ...]
    rows_parsed: int
    rows_rejected: int
    rows_duplicate: int
    first_error: str | None
    discovered_at: datetime
    rescued: tuple[str, ...] = ()
    unranked: tuple[str, ...] = ()
    route: str = ""
    correction: Correction | None = None
    replaces: str = ""
    archived: bool = False
    migration: str = ""
    lines_skipped: int = 0
    doubts: tuple[str, ...] = ()
    sender: SenderManifest | None = None
    newest_first: bool = False
    mapped: tuple[str, ...] = ()


class Reject(Struct, frozen=True):
    """One rejected cell, or a rejected row or file when `column` is None.

    Attributes:
        file_row: Record number, 1 = first after the header; None when it is the whole file.
        column: The contract column, or None.
        value: The cell's text as it stands in the file, or None.
        rule: Stable name of the rule, such as `date`, `required`, `ragged`.
        reason: In plain words, with what to do.
        raw: The raw record, without its line ending; None when it is the whole file.
        file_line: The line of the file in which it begins, 1 = first; None when it is the whole file, or unknown.
    """

    file_row: int | None
    column: str | None
    value: str | None
    rule: str
    reason: str
    raw: str | None
    file_line: int | None = None


class Batch(Struct, frozen=True):
    """The deliveries loaded together.

    Attributes:
        number: 1, 2, 3 ...
        run_id: Id of the pass that staged it.
        clock: The time in all audit columns of this batch; aware UTC, whole microseconds.
        manifests: One a delivery, in delivery order.
    """

    number: int
    run_id: str
    clock: datetime
    manifests: tuple[Manifest, ...]

    @property
    def corrects(self) -> Manifest | None:
        """The manifest of the correction that it is; None for an ordinary batch."""
        return next((one for one in self.manifests if one.correction is not None), None)

    @property
    def files(self) -> tuple[Manifest, ...]:
        """The manifests of deliveries with a file: all but that of a correction."""
        return tuple(one for one in self.manifests if one.correction is None)


class DeliveryReport(Struct, frozen=True):
    """One delivery in the report of a pass. `archived_to` is None until then; `closed_at`: the file's last change."""

    delivery_id: str
    vendor: str
    file_name: str
    sha256: str
    size_bytes: int
    state: State
    reason: str | None
    archived_to: str | None
    rows: RowCounts
    closed_at: datetime | None = None
    lines_skipped: int = 0
    doubts: tuple[str, ...] = ()


class CorrectionReport(Struct, frozen=True):
    """What a correction did to the target.

    Attributes:
        correction: The decision.
        touched: Keys that the deliveries concerned know.
        restored: Keys whose row in the target is another one now.
        kept: Keys whose row is as it was.
        removed: Keys that left the target.
        appends: Whether the target keeps all rows; `restored` are then keys of which it got rows, and none left it.
    """

    correction: Correction
    touched: int
    restored: int
    kept: int
    removed: int
    appends: bool = False


class RunReport(Struct, frozen=True):
    """What one pass did; the document of `ordertrail run --json`.

    Attributes:
        pipeline: The pipeline's name.
        engine: `embedded` or `spark`.
        batch: Number of the last batch finished, None when nothing was waiting.
        recovered: Whether a batch that an earlier pass had begun was finished first.
        rows: Sums over the deliveries.
        deliveries: Those of the batches finished by this pass, the recovered one included.
        skipped: Files left alone.
        warnings: What a person should look at, one line each.
        seconds: Wall time by step, and `total`.
        notes: What a person may want to know about a vendor's files although nothing is wrong, one line each.
        correction: What a correction did; None for an ordinary pass.
        added_columns: Columns that the tables got because files brought them.
    """

    pipeline: str
    engine: str
    batch: int | None
    recovered: bool
    rows: RowCounts
    deliveries: tuple[DeliveryReport, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    correction: CorrectionReport | None = None
    added_columns: tuple[str, ...] = ()

    @property
    def needs_person(self) -> bool:
        """Whether a person must look: something was quarantined or held, or vanished. Exit code 3."""
        return bool(self.warnings) or any(d.state in SET_ASIDE for d in self.deliveries)


Probe = Callable[[str], None]
"""Called with a fixed name right after each effect; fault tests kill the process there."""


def no_probe(_: str) -> None:
    """The probe of an ordinary pass; does nothing."""
