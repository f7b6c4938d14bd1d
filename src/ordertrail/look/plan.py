"""The dry run behind `ordertrail plan FILE...`: what a pass would do with some files; writes nothing.

The files may be anywhere. They go through the same kernel and the same order rules as in a real pass, against the
tables as they are now; the stage is in a temporary folder of the system, which is deleted afterwards.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.engines.base import StageRequest
from ordertrail.engines.choice import placed
from ordertrail.errors import FileChangedError, QuarantineError, UsageError
from ordertrail.look.dry_run import DryRun, Weighed, open_dry_run
from ordertrail.look.rows import Row
from ordertrail.markers import refuse_lost_tables
from ordertrail.model import (
    Batch,
    FileIdentity,
    FoundFile,
    Manifest,
    Reject,
    RowCounts,
    SenderManifest,
    State,
    Vendor,
)
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.bounds import cut
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.doubts import doubted
from ordertrail.rules.filekey import clean_name, take
from ordertrail.rules.noticed import noticed
from ordertrail.rules.planning import Candidate, bounded, candidate_of, repeats
from ordertrail.rules.sender_manifest import manifest_owner, manifest_path
from ordertrail.sources.names import identity_of, is_hidden, is_temporary
from ordertrail.sources.pairing import read_manifest

MAX_REJECTS = 20
"""How many rejects of a file the plan shows."""

MAX_SAMPLES = 3
"""How many rows of a file the plan shows beside their raw text."""

MAX_SAMPLE_CHARS = 300
"""How much of its raw text."""

_NO_ROWS = RowCounts()
_WILD = frozenset("*?[")


class SampleRow(Struct, frozen=True):
    """A good row of a file, as text and as it would be loaded.

    Attributes:
        file_row: Its record number.
        raw: The record, without its line end.
        row: The contract columns.
    """

    file_row: int
    raw: str
    row: Row


class PlannedFile(Struct, frozen=True):
    """What would happen to one file.

    Attributes:
        path: As given, as clean text.
        vendor: Its vendor; None when no vendor takes it.
        state: The state that would be recorded; None when a pass would leave the file alone.
        reason: Why it would not be `loaded`, in plain words; None when it would.
        rows: Its rows by outcome.
        rejects: The first `MAX_REJECTS` rejects, in file order.
        mapped: How contract columns were found that the header does not name themselves.
        samples: The first `MAX_SAMPLES` good rows.
    """

    path: str
    vendor: str | None
    state: State | None
    reason: str | None
    rows: RowCounts = _NO_ROWS
    rejects: tuple[Reject, ...] = ()
    mapped: tuple[str, ...] = ()
    samples: tuple[SampleRow, ...] = ()


class PlanReport(Struct, frozen=True):
    """What a pass would do with some files if it loaded them now, as one batch.

    Attributes:
        batch: The number that the batch would have.
        files: In the order in which they were given.
        rows: Sums over the files.
        notes: What a person should know, one line each.
        added_columns: The columns that the tables would get because the files bring them.
    """

    batch: int
    files: tuple[PlannedFile, ...]
    rows: RowCounts
    notes: tuple[str, ...] = ()
    added_columns: tuple[str, ...] = ()


class _Given(Struct, frozen=True):
    """A file to plan: where it is, and the path below the source that it has or would have."""

    path: Path
    below_source: str
    identity: FileIdentity
    vendor: Vendor | None
    left_alone: str | None
    manifest: SenderManifest | None = None
    note: str | None = None


def plan_files(config: Config, files: Sequence[Path], *, vendor: str | None = None) -> PlanReport:
    """Determine what a pass would do with files; writes nothing below source, archive and warehouse.

    For a file below the source folder, the globs decide the vendor. Any other file is treated as if it had been dropped
    there: its vendor is the one whose glob matches the end of its path or, failing that, its name. The system's
    temporary folder needs space for the rows of the files.

    Args:
        config: The pipeline's config; the pipeline need not have run yet.
        files: The files, anywhere; a file given twice is planned once.
        vendor: Name of the vendor of all these files.

    Raises:
        UsageError: A file is not there or not readable, its vendor is not clear, or there is no such vendor.
        TableError: A table is damaged or not ours.
        StorageError: No table is there and some should be: their disk is not mounted.
        SourceError: Archive or source are another pipeline's.
    """
    config = placed(config)
    refuse_lost_tables(config)
    chosen = _named_vendor(config, vendor)
    given = [_look_at(config, path, chosen) for path in dict.fromkeys(map(Path, files))]
    with tempfile.TemporaryDirectory(prefix="ordertrail-plan-") as folder:
        scratch = Path(folder)
        (scratch / "spill").mkdir()
        with open_dry_run(config, scratch) as dry_run:
            return _plan(config, given, dry_run)


def _plan(config: Config, given: Sequence[_Given], dry_run: DryRun) -> PlanReport:
    ledger = dry_run.ledger
    batch = Batch(ledger.highest + 1, uuid.uuid4().hex, datetime.now(UTC), ())
    taken = [(file, file.vendor) for file in given if file.vendor is not None and file.left_alone is None]
    candidates = [_candidate(config, file, by, batch, number) for number, (file, by) in enumerate(taken)]
    candidates = bounded(candidates, config.volumes, config.shares, dry_run.recent_rows)
    places = {candidate.number: file.path for candidate, (file, _) in zip(candidates, taken, strict=True)}
    known = dry_run.loaded_files([candidate.identity.size_bytes for candidate in candidates])
    duplicates, held = repeats(candidates, known)

    def open_file(candidate: Candidate) -> BinaryIO:
        try:
            return places[candidate.number].open("rb")
        except OSError as error:
            raise FileChangedError(f"{candidate.clean_path} vanished while it was read") from error

    def unchanged(candidate: Candidate) -> bool:
        try:
            return identity_of(places[candidate.number].stat()) == candidate.identity
        except OSError:
            return False

    request = StageRequest(batch, candidates, open_file, unchanged, duplicates, held=held)
    brought = dry_run.widen(request)
    weighed = dry_run.weigh(request, MAX_REJECTS) if candidates else None
    numbers = {file.path: candidate.delivery_id for candidate, (file, _) in zip(candidates, taken, strict=True)}
    first = dry_run.first_rows(MAX_SAMPLES) if weighed is not None and weighed.staged.batch.manifests else {}
    samples = {one: _samples(config, file, first[one]) for file in given if (one := numbers.get(file.path)) in first}
    planned = tuple(_planned(file, numbers.get(file.path), weighed, samples) for file in given)
    notes = (*(file.note for file in given if file.note), *brought.notes, *ledger.notes)
    if weighed is not None:
        manifests = weighed.staged.batch.manifests
        notes = (*doubted(manifests), *noticed(manifests, config.vendors, undated=True), *notes)
    if ledger.staged > ledger.done:
        notes = (f"batch {ledger.staged} is staged and not finished; the plan does not count on it", *notes)
    return PlanReport(batch.number, planned, sum((file.rows for file in planned), RowCounts()), notes, brought.names)


def _planned(
    file: _Given, delivery: str | None, weighed: Weighed | None, samples: Mapping[str, tuple[SampleRow, ...]]
) -> PlannedFile:
    path, vendor = clean_name(str(file.path)), None if file.vendor is None else file.vendor.name
    if delivery is None or weighed is None:
        return PlannedFile(path, vendor, None, file.left_alone)
    manifests: Mapping[str, Manifest] = {m.delivery_id: m for m in weighed.staged.batch.manifests}
    manifest = manifests.get(delivery)
    if manifest is None:
        return PlannedFile(path, vendor, None, "changed while it was read")
    rejects = weighed.rejects.get(delivery, ())
    shown = samples.get(delivery, ()) if manifest.state is State.LOADED else ()
    counts = weighed.counts[delivery]
    return PlannedFile(path, vendor, manifest.state, manifest.reason, counts, rejects, manifest.mapped, shown)


def _samples(config: Config, file: _Given, first: Sequence[tuple[int, Row]]) -> tuple[SampleRow, ...]:
    """The first good rows beside their records, as far as these are in the first block of the file."""
    if file.vendor is None:
        return ()
    try:
        with file.path.open("rb") as stream:
            reader = DeliveryReader(stream, file.vendor, config.contract, raw=True)
            block = None if reader.header() is None else next(reader.blocks(), None)
    except (OSError, QuarantineError):
        return ()
    if block is None or block.raw is None:
        return ()
    places = {number: place for place, number in enumerate(block.rows[: first[-1][0]].tolist())}
    return tuple(
        SampleRow(number, cut(str(block.raw[places[number]]).rstrip("\r\n"), MAX_SAMPLE_CHARS), row)
        for number, row in first
        if number in places
    )


def _candidate(config: Config, file: _Given, vendor: Vendor, batch: Batch, number: int) -> Candidate:
    try:
        with file.path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file.path, error) from error
    found = FoundFile(file.below_source, vendor.name, file.identity, file.manifest)
    return candidate_of(found, vendor, (batch.number, number), sha256, contract_hashes(config.contract, vendor))


# -- whose a file is --------------------------------------------------------------------------------------------


def _named_vendor(config: Config, name: str | None) -> Vendor | None:
    if name is None:
        return None
    found = next((vendor for vendor in config.vendors if vendor.name == name), None)
    if found is None:
        known = ", ".join(vendor.name for vendor in config.vendors)
        raise UsageError(f"there is no vendor {name!r}", hint=f"the vendors are: {known}")
    return found


def _look_at(config: Config, path: Path, chosen: Vendor | None) -> _Given:
    below = _below_source(config, path)
    inside = below is not None
    try:
        status = path.stat() if below is None else path.lstat()
    except OSError as error:
        raise _unreadable(path, error) from error
    left_alone: str | None = None
    if stat.S_ISLNK(status.st_mode):
        left_alone = "a symbolic link"
    elif not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{clean_name(str(path))} is not a regular file", hint="name the files themselves")
    elif is_temporary(path.name) or is_hidden(path.name):
        left_alone = "a hidden or temporary name: its writer has not finished"
    vendor = chosen or (_by_name(config, path) if below is None else take(below, config.vendors))
    if vendor is None and left_alone is None:
        left_alone = "no vendor takes it"
    if below is None:
        below = path.name if vendor is None else _dropped(vendor, path.name)
    return _with_manifest(_Given(path, below, identity_of(status), vendor, left_alone), config, inside=inside)


def _with_manifest(file: _Given, config: Config, *, inside: bool) -> _Given:
    """The file with its sender's manifest, which lies beside it; in the source folder it waits for one."""
    if file.left_alone is not None or file.vendor is None:
        return file
    if (owner := manifest_owner(file.below_source, config.vendors)) is not None:
        return replace(file, left_alone=f"it is the manifest of {clean_name(owner[1].rpartition('/')[2])}")
    below = manifest_path(file.below_source, file.vendor)
    if below is None:
        return file
    name = below.rpartition("/")[2]
    beside = file.path.with_name(name)
    try:
        found = FoundFile(below, file.vendor.name, identity_of(beside.stat()))
        about = FoundFile(file.below_source, file.vendor.name, file.identity)
        return replace(file, manifest=read_manifest(about, found, _Beside(beside)))
    except FileNotFoundError:
        missing = f"its manifest {clean_name(name)} has not come"
        if inside:
            return replace(file, left_alone=missing)
        return replace(file, note=f"{clean_name(str(file.path))}: {missing}; a pass waits for it")
    except OSError as error:
        raise _unreadable(beside, error) from error
    except ValueError as error:
        return replace(file, left_alone=f"its manifest {clean_name(name)} cannot be read: {error}")


class _Beside(Struct, frozen=True):
    """Opens the one manifest that lies at a path."""

    path: Path

    def open(self, _: str) -> BinaryIO:
        return self.path.open("rb")


def _below_source(config: Config, path: Path) -> str | None:
    """The path below the source folder; None when the file is elsewhere. A link in the last part is not resolved."""
    real = path.parent.resolve() / path.name
    source = config.source.resolve()
    return real.relative_to(source).as_posix() if source in real.parents else None


def _by_name(config: Config, path: Path) -> Vendor | None:
    """The vendor whose glob matches the end of the path, else the one whose glob's last part matches the name."""
    parts = path.absolute().parts[1:]
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    fits = [vendor for vendor in config.vendors if any(take(end, [vendor]) for end in ends[:-1])]
    if not fits:
        fits = [v for v in config.vendors if take(path.name, [Vendor(v.name, v.files.rpartition("/")[2])])]
    if len(fits) > 1 and _looks_alike(fits):
        return fits[0]
    if len(fits) > 1:
        names = ", ".join(vendor.name for vendor in fits)
        raise UsageError(
            f"{clean_name(str(path))} may be from any of these vendors: {names}",
            hint="name the vendor, or put the file below the source folder",
        )
    return fits[0] if fits else None


def _looks_alike(vendors: Sequence[Vendor]) -> bool:
    """Whether the order of the globs decides, as it does in the source: they are of the same folder."""
    return len({vendor.files.rpartition("/")[0] for vendor in vendors}) == 1


def _dropped(vendor: Vendor, name: str) -> str:
    """Where a vendor would drop a file of this name: in the folder of its glob, if that is a plain one."""
    folder = vendor.files.rpartition("/")[0]
    if not folder or _WILD.intersection(folder):
        return name
    return str(PurePosixPath(folder) / name)


def _unreadable(path: Path, error: OSError) -> UsageError:
    problem = error.strerror or os.strerror(error.errno or 0)
    return UsageError(f"cannot read {clean_name(str(path))}: {problem}", hint="name files that are there and readable")
