"""Carries out corrections: judges them, and says what their batch stages.

`rules.corrections` says what is allowed, `pipeline` does the batch, and the engine weighs it. What is decided here is
which files are read again, and under whose name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.engines.base import StageRequest
from ordertrail.errors import UsageError
from ordertrail.mend.archived import Bytes, Shelf, archived_files, read_bytes, shelve
from ordertrail.model import (
    SET_ASIDE,
    Batch,
    Correction,
    CorrectionKind,
    Limits,
    Probe,
    RunReport,
    State,
    Vendor,
    no_probe,
)
from ordertrail.parse.job import ParsedFile
from ordertrail.pipeline import Pipeline
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.corrections import LOADS_ANEW, Known, refusal
from ordertrail.rules.filekey import archive_path, clean_name, file_key
from ordertrail.rules.planning import Candidate, LoadedFile, bounded, delivery_id, loaded_before, wrong_file
from ordertrail.sources.pairing import archived_manifest

_TAKEN = frozenset({State.LOADED, State.DUPLICATE})
"""The states of a new delivery that may take the place of another one."""


Recent = Callable[[Collection[str]], Mapping[str, tuple[int, ...]]]
"""See `Books.recent_rows`."""


class Deliveries(Protocol):
    """What a correction asks of the tables: an engine, or a dry run."""

    def past(self) -> tuple[Known, ...]:
        """See `Books.past`."""
        ...

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """See `Books.loaded_files`."""
        ...

    def recent_rows(self, vendors: Collection[str]) -> Mapping[str, tuple[int, ...]]:
        """See `Books.recent_rows`."""
        ...


class Wanted(Struct, frozen=True):
    """A correction as a person asked for it.

    Attributes:
        correction: What to do; its ids may repeat.
        file: For `correct`, the file that takes the place.
        all_quarantined: For `replay`, all deliveries that are quarantined or held and whose bytes were not loaded.
        vendor: With `all_quarantined`, only those of this vendor.
    """

    correction: Correction
    file: Path | None = None
    all_quarantined: bool = False
    vendor: str | None = None


def correct(pipeline: Pipeline, wanted: Wanted, *, locked: bool = False) -> RunReport:
    """Carry out a correction, in one batch.

    Args:
        pipeline: Which one.
        wanted: What to do.
        locked: Whether the caller holds the pipeline's lock.

    Returns:
        The report of the pass, with `correction`. Files that were to be read again and still cannot be loaded are among
        its `skipped`; they stay as they were.

    Raises:
        UsageError: It is not possible, and nothing was done.
        OrdertrailError: As `Pipeline.run`.
    """
    asking = Asking(pipeline.config, wanted, probe=pipeline.probe)
    report = pipeline.correct(asking, locked=locked)
    return replace(report, warnings=(*report.warnings, *asking.left))


class Asking(Struct):
    """`pipeline.Ask` for a correction.

    Attributes:
        config: The pipeline's.
        wanted: What to do.
        dry: Whether nothing may be written, not even into the archive.
        probe: Called after each effect.
        left: Files that still cannot be loaded, each with the reason; known once the batch is staged.
    """

    config: Config
    wanted: Wanted
    dry: bool = False
    probe: Probe = no_probe
    left: list[str] = field(default_factory=list)

    def __call__(self, batch: Batch, deliveries: Deliveries) -> StageRequest:
        """Say what to stage.

        Args:
            batch: Number, run id and clock.
            deliveries: Those that are there.

        Raises:
            UsageError: The correction is not possible.
        """
        past = deliveries.past()
        known = {one.delivery_id: one for one in past}
        correction = self._chosen(past)
        if (refused := refusal(correction, known)) is not None:
            raise UsageError(f"{refused.message}; nothing was done", hint=refused.hint)
        shelf = Shelf()
        of = {one: known[one] for one in correction.of}
        loads = correction.kind in LOADS_ANEW
        candidates = self._candidates(correction.kind, of, batch, shelf, deliveries.recent_rows) if loads else []
        files = deliveries.loaded_files([one.identity.size_bytes for one in candidates]) if candidates else ()
        others = [file for file in files if file.delivery_id not in of]
        held = {c.number: why for c in candidates if (why := wrong_file(c)) is not None}
        duplicates = {
            c.number: found
            for c in candidates
            if c.number not in held and (found := loaded_before(c, others)) is not None
        }
        return StageRequest(
            batch,
            candidates,
            shelf.open,
            shelf.unchanged,
            duplicates,
            held=held,
            correction=correction,
            accept=lambda parsed: self._accepted(correction.kind, of, parsed),
            limits=self._limits(correction.kind),
        )

    # -- which deliveries -----------------------------------------------------------------------------------

    def _chosen(self, past: Sequence[Known]) -> Correction:
        """The correction, with the ids of the deliveries that it is about, each once."""
        correction, wanted = self.wanted.correction, self.wanted
        if not wanted.all_quarantined:
            return replace(correction, of=tuple(dict.fromkeys(correction.of)))
        if wanted.vendor is not None and wanted.vendor not in {vendor.name for vendor in self.config.vendors}:
            names = ", ".join(vendor.name for vendor in self.config.vendors)
            raise UsageError(f"there is no vendor {wanted.vendor!r}", hint=f"the config has {names}")
        loaded = {(one.vendor, one.sha256) for one in past if one.state is State.LOADED}
        of = tuple(
            one.delivery_id
            for one in past
            if one.state in (State.QUARANTINED, State.HELD)
            and (one.vendor, one.sha256) not in loaded
            and wanted.vendor in (None, one.vendor)
        )
        if not of:
            whose = f" of {wanted.vendor}" if wanted.vendor else ""
            raise UsageError(f"no delivery{whose} is quarantined or held; nothing was done")
        return replace(correction, of=of)

    # -- which files ----------------------------------------------------------------------------------------

    def _candidates(
        self, kind: CorrectionKind, of: Mapping[str, Known], batch: Batch, shelf: Shelf, recent: Recent
    ) -> list[Candidate]:
        """The files to read, each with the place in the order of the delivery that it replaces."""
        vendors = {one.delivery_id: self._vendor(one) for one in of.values()}
        if kind is CorrectionKind.CORRECT:
            (one,) = of.values()
            file = self._replacement(one)
            return [self._candidate(one, vendors[one.delivery_id], file, batch, 0, shelf, taken=file.path)]
        files = archived_files(self.config.archive, of)
        found = [
            self._candidate(one, vendors[one.delivery_id], files[one.delivery_id], batch, number, shelf)
            for number, one in enumerate(of.values())
        ]
        if kind is CorrectionKind.REPLAY:  # who releases a file, or has one loaded that was, has judged its manifest
            judged = zip(found, of.values(), strict=True)
            return [self._judged(new, one, recent) if one.state in SET_ASIDE else new for new, one in judged]
        return found

    def _judged(self, candidate: Candidate, one: Known, recent: Recent) -> Candidate:
        """A file that was set aside, with what it is held against again."""
        (candidate,) = bounded([candidate], self.config.volumes, self.config.shares, recent)
        return self._with_manifest(candidate, one)

    def _with_manifest(self, candidate: Candidate, one: Known) -> Candidate:
        """A file with its sender's manifest, if that was archived beside it."""
        assert one.archived_to is not None  # its file was read
        try:
            sender = archived_manifest(self.config.archive, one.archived_to, one.path, candidate.vendor)
        except OSError as error:
            raise UsageError(
                f"cannot read the manifest of {one.file_name}: {error.strerror or error}; nothing was done"
            ) from error
        except ValueError as error:
            raise UsageError(
                f"the archived manifest of {one.file_name} cannot be read: {error}; nothing was done",
                hint=f"to load the file without it: ordertrail release {one.delivery_id}",
            ) from error
        return replace(candidate, sender=sender)

    def _candidate(
        self,
        one: Known,
        vendor: Vendor,
        file: Bytes,
        batch: Batch,
        number: int,
        shelf: Shelf,
        taken: Path | None = None,
    ) -> Candidate:
        """A file in the place of a delivery; `taken` is where a file comes from that is not in the archive yet."""
        identity = replace(file.identity, size_bytes=file.identity.size_bytes, mtime_ns=one.mtime_us * 1000)
        new = delivery_id(batch.number, number, one.path, identity)
        place = one.archived_to
        if taken is not None:
            place = archive_path(new, taken.name, batch.clock, State.LOADED)
            if not self.dry:
                file = shelve(file, self.config.archive, place)
                self.probe("correct.shelved")
        shelf.add(number, file)
        hashes = contract_hashes(self.config.contract, vendor)
        return Candidate(
            number=number,
            delivery_id=new,
            vendor=vendor,
            path=one.path,
            clean_path=one.path,
            identity=identity,
            digest=file.sha256,
            file_key=file_key(one.path.rpartition("/")[2], vendor, identity.mtime_ns),
            contract_hash=hashes[0],
            older_hashes=tuple(hashes[1:]),
            replaces=one.delivery_id,
            archived_to=place,
        )

    def _vendor(self, one: Known) -> Vendor:
        for vendor in self.config.vendors:
            if vendor.name == one.vendor:
                return vendor
        names = ", ".join(vendor.name for vendor in self.config.vendors)
        raise UsageError(
            f"delivery {one.delivery_id} is of the vendor {one.vendor!r}, which is not in the config; nothing was done",
            hint=f"give the vendor its profile back; the config has {names}",
        )

    def _replacement(self, one: Known) -> Bytes:
        """The file that takes the place of a delivery."""
        path = self.wanted.file
        assert path is not None  # the command demands it
        name = clean_name(str(path))
        if path.resolve().is_relative_to(self.config.source.resolve()):
            raise UsageError(
                f"{name} lies in the source folder, where the next pass would load it as a delivery of its own; "
                "nothing was done",
                hint="move it elsewhere and name it there",
            )
        try:
            file = read_bytes(path)
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror or error}; nothing was done") from error
        if file is None:
            raise UsageError(f"{name} is no regular file, or somebody writes to it; nothing was done")
        if file.sha256 == one.sha256:
            raise UsageError(
                f"{name} has the bytes of delivery {one.delivery_id}; nothing was done",
                hint=f"to read these again under today's config: ordertrail replay {one.delivery_id}",
            )
        return file

    def _limits(self, kind: CorrectionKind) -> Limits | None:
        """The limits of the files: a person who releases one has judged its name and its trailer."""
        if kind is not CorrectionKind.RELEASE:
            return None
        return replace(self.config.limits, max_file_ahead_d=float("inf"), trailers=False)

    # -- what came of reading them --------------------------------------------------------------------------

    def _accepted(
        self, kind: CorrectionKind, of: Mapping[str, Known], parsed: Sequence[ParsedFile]
    ) -> list[ParsedFile]:
        """The files that take a place. Those that are no better than before leave it, when nothing counted there."""
        if kind not in LOADS_ANEW:
            return []
        good = [file for file in parsed if file.state in _TAKEN]
        bad = [file for file in parsed if file.state not in _TAKEN]
        for file in bad:
            one = of[file.candidate.replaces]
            if kind is not CorrectionKind.REPLAY or one.state is State.LOADED:
                raise UsageError(
                    f"{one.file_name}, in the place of {one.delivery_id}, would be {file.state}: {_why(file)}; "
                    "nothing was done",
                    hint="mend the config or the file; ordertrail plan FILE shows what a file would do",
                )
        self.left = [
            f"{of[file.candidate.replaces].file_name} ({file.candidate.replaces}) is still {file.state}: {_why(file)}"
            for file in bad
        ]
        if not good:
            raise UsageError(
                f"none of {len(bad)} deliveries can be loaded; nothing was done: {'; '.join(self.left[:10])}",
                hint="mend the config first; ordertrail rejects --delivery ID shows the rows of one",
            )
        return good


def _why(file: ParsedFile) -> str:
    return file.reason or file.first_error or "it has no rows"
