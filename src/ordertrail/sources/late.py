"""Checks archived files again whose writer may not have finished.

A writer that stalls longer than `settle_s`, on a share or as another user, goes on writing to the file it has open,
whatever its name is by then: to the archived file if it was linked, to the claim if it was copied. So both are checked
again, for `LATE_S`. A file that was written to goes back to the source folder, where it is found as the next delivery;
its first bytes, which were loaded, stay in the archive.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from datetime import datetime
from io import BufferedReader
from pathlib import Path

from ordertrail.model import Probe
from ordertrail.rules.filekey import clean_name
from ordertrail.sources.archive import Move
from ordertrail.sources.base import LateOutcome, LateResult, translating
from ordertrail.sources.names import (
    Entry,
    FileOps,
    claim_name,
    identity_of,
    make_folder,
    open_folder,
    source_names,
    split,
)
from ordertrail.sources.notes import Late
from ordertrail.sources.settling import loose, same_file

LATE_S = 3600.0
"""How long after its archiving each pass checks a file again, in seconds; there is one more check after that."""

_CHUNK_BYTES = 1024 * 1024


def look_again(source: Path, archive_root: Path, late: Late, now: datetime, probe: Probe, ops: FileOps) -> LateResult:
    """See `Source.look_again`.

    Args:
        source: The source folder.
        archive_root: The archive folder.
        late: The file to check.
        now: Aware.
        probe: Called after each effect.
        ops: How files are linked, renamed and written.
    """
    home_folders, name = split(late.manifest.path)
    shelf_folders, shelf_name = split(late.archived_to)
    old = (now - late.since).total_seconds() >= LATE_S
    with ExitStack() as stack, translating("look again at", late.archived_to):
        shelf = open_folder(archive_root, shelf_folders)
        if shelf is None:
            # people may clear archives
            return LateResult("settled", late.archived_to)
        stack.callback(os.close, shelf)
        home = make_folder(source, home_folders, ops)
        stack.callback(os.close, home)
        move = Move(late.manifest, probe, ops, shelf, shelf_name, True)
        again = _Again(late, move, Entry(home, name), old)
        return again.claim() if late.claimed else again.archived()


class _Again:
    """One more check of one delivery."""

    def __init__(self, late: Late, move: Move, entry: Entry, old: bool) -> None:
        self.late = late
        self.move = move
        self.entry = entry
        self.old = old

    def claim(self) -> LateResult:
        """The vendor's own file, whose copy is in the archive."""
        claim = Entry(self.entry.folder, claim_name(self.late.manifest.delivery_id))
        status = self.move.ops.status(claim)
        if status is None:
            return self.result("settled")
        if not same_file(identity_of(status), self.late.identity):
            return LateResult("returned", self.late.archived_to, self.move.give_back(self.entry, claim))
        written = self.move.is_written(claim)
        if written or (written is None and not self.old):
            return self.result("same")
        self.move.ops.unlink(claim)
        self.move.probe("archive.dropped")
        return self.result("settled")

    def archived(self) -> LateResult:
        """The archived file, which is the one that the vendor made."""
        shelved = Entry(self.move.shelf, self.move.archive_name)
        descriptor = self.move.ops.open_regular(shelved)
        if descriptor is None:
            return self.result("settled")
        with os.fdopen(descriptor, "rb") as file:
            identity = loose(identity_of(os.fstat(descriptor)))
            written = self.move.ops.is_written(descriptor)
            if same_file(identity, self.late.identity) or self.move.holds(shelved):
                still: LateOutcome = "settled" if self.old or written is False else "same"
                return LateResult(still, self.late.archived_to, None, identity)
            if written:
                return self.result("written")
            return self._returned(shelved, file)

    def _returned(self, shelved: Entry, file: BufferedReader) -> LateResult:
        """Give the file a name in the source again, and the archive a copy of the bytes that were loaded."""
        kept = self._begins_as_loaded(file)
        if kept:
            copy = self.move.copy_entry()
            self.move.ops.unlink(copy)
            self.move.write_copy(file, copy)
            kept = self.move.holds(copy)
            self.move.probe("late.copied")
        name = self._named(shelved)
        self.move.probe("late.returned")
        if kept:
            self.move.ops.replace(self.move.copy_entry(), shelved)
        else:
            self.move.ops.unlink(self.move.copy_entry())
            self.move.ops.unlink(shelved)
        self.move.ops.sync(self.move.shelf)
        self.move.probe("late.restored")
        return self.result("returned", self._told(name, kept), archived=kept)

    def _begins_as_loaded(self, file: BufferedReader) -> bool:
        """Whether the file still begins with the delivery's bytes."""
        digest, left_bytes = hashlib.sha256(), self.late.manifest.identity.size_bytes
        file.seek(0)
        while chunk := file.read(min(_CHUNK_BYTES, left_bytes)):
            digest.update(chunk)
            left_bytes -= len(chunk)
        return left_bytes == 0 and digest.hexdigest() == self.late.manifest.sha256

    def _named(self, shelved: Entry) -> str:
        """The name that the archived file now has in the source, too; an interrupted call may have given it one."""
        for name in source_names(self.entry.name):
            target = Entry(self.entry.folder, name)
            try:
                self.move.ops.link(shelved, target)
            except FileExistsError:
                if not self.move.one_file(shelved, target):
                    continue
            self.move.ops.sync(self.entry.folder)
            return name
        raise AssertionError("source_names has no end")

    def _told(self, name: str, kept: bool) -> str:
        text = f"it was written to after it was loaded: it is in the source folder again as {clean_name(name)}"
        return text if kept else f"{text}; the bytes that were loaded are no longer in the archive"

    def result(self, outcome: LateOutcome, note: str | None = None, *, archived: bool = True) -> LateResult:
        return LateResult(outcome, self.late.archived_to if archived else None, note)
