"""Archives the files of a finished batch: now, in a later pass, or with another check afterwards.

A file that cannot be archived holds up nothing but itself: it waits, is reported, and every pass tries it again.
`pipeline` decides when; the attributes tell afterwards what happened.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from ordertrail.errors import SourceError, StorageError
from ordertrail.model import Batch, Manifest, Probe, Skipped
from ordertrail.rules.filekey import clean_name
from ordertrail.rules.sender_manifest import SUFFIX, archived_place
from ordertrail.sources.base import ArchiveResult, Source
from ordertrail.sources.late import LATE_S
from ordertrail.sources.notes import Late, Notes

WAITS = "loaded; it is still open for writing, and archived once it is closed"
"""Why a file keeps its name after its rows were loaded."""

DISK_FAILURES = 3
"""After this many failures of a disk a pass tries no further files: each try may read a whole file."""

FAILURES = 100
"""After this many failures of any kind the rest is left to the next pass."""

LATE_FILES = 500
"""How many late files are checked again, the newest ones; older ones are given up."""

NAMED = 10
"""How many waiting files are named; further ones are only counted."""


class Archiving:
    """The archiving of one pass.

    Args:
        source: Where the files are.
        notes: What waits and what is checked again, from pass to pass.
        probe: Called with `notes.saved` after the notes were written, and by the source.

    Attributes:
        skipped: Files that were left where they are, with the reason.
    """

    def __init__(self, source: Source, notes: Notes, probe: Probe) -> None:
        self._source = source
        self._notes = notes
        self._probe = probe
        self._tried: set[str] = set()
        self._before: tuple[dict[str, Manifest], dict[str, Late]] = {}, {}
        self._warnings: list[str] = []
        self._failures = self._disk_failures = 0
        self.skipped: list[Skipped] = []

    @property
    def warnings(self) -> list[str]:
        """What a person should know, one line each; the same from pass to pass while nothing changes."""
        trouble, waiting = self._notes.trouble, self._notes.waiting
        named = sorted(trouble.keys() & waiting.keys())
        known = [f"{waiting[one].file_name} is loaded and waits to be archived: {trouble[one]}" for one in named]
        untried = waiting.keys() - trouble.keys() - self._tried
        more = max(0, len(known) - NAMED) + len(untried)
        told = [f"{more} more files are loaded and wait to be archived"] if more else []
        return [*self._warnings, *known[:NAMED], *told]

    def batch(self, batch: Batch) -> dict[str, str | None]:
        """Archive the files of a batch; returns by delivery id where each one is, None when it is not archived."""
        archived = {
            one.delivery_id: (one.archive_path or None) if one.archived else self._archive(one)
            for one in batch.manifests
        }
        self._save()
        return archived

    def again(self, now: datetime) -> dict[str, str | None]:
        """Try the waiting files again, and check late ones again.

        Returns:
            By delivery id, the new places of files that the tables locate elsewhere.
        """
        moved: dict[str, str | None] = {}
        self._before = dict(self._notes.waiting), dict(self._notes.late)
        for delivery_id, manifest in list(self._notes.waiting.items()):
            if delivery_id in self._tried:
                continue
            if (archived_to := self._archive(manifest)) is not None:
                moved[delivery_id] = archived_to
        excess = len(self._notes.late) - LATE_FILES
        for number, (delivery_id, late) in enumerate(list(self._notes.late.items())):
            if delivery_id not in self._tried:
                when = now if number >= excess else max(now, late.since + timedelta(seconds=LATE_S))
                self._look_again(late, when, moved)
        return moved

    def undone(self) -> None:
        """Forget the result of `again`, which the tables do not have: the next pass repeats it with the same result."""
        waiting, late = self._before
        self._notes.waiting.update(waiting)
        self._notes.late.update(late)

    def settled(self) -> None:
        """Keep the result of `again`: the tables have it."""
        self._save()

    def _look_again(self, late: Late, now: datetime, moved: dict[str, str | None]) -> None:
        delivery_id, name = late.manifest.delivery_id, late.manifest.file_name
        try:
            result = self._source.look_again(late, now, self._probe)
        except (SourceError, StorageError) as error:
            self._warnings.append(f"{name}: {error}")
            return
        if result.note:
            self._warnings.append(f"{name} (delivery {delivery_id}): {result.note}")
        match result.outcome:
            case "same":
                if result.identity is not None:
                    self._notes.late[delivery_id] = replace(late, identity=result.identity)
            case "written":
                self.skipped.append(Skipped(name, "archived, and somebody writes to it; it is looked at again"))
            case "settled" | "returned":
                del self._notes.late[delivery_id]
        if result.archived_to is None and not delivery_id.endswith(SUFFIX):
            moved[delivery_id] = None

    def _archive(self, manifest: Manifest) -> str | None:
        one = manifest.delivery_id
        if self._failures >= FAILURES or self._disk_failures >= DISK_FAILURES:
            self._notes.waiting.setdefault(one, manifest)
            return None
        self._tried.add(one)
        try:
            result = self._source.archive(manifest, self._probe)
            beside = self._archive_sender(manifest, result)
        except (SourceError, StorageError) as error:
            self._failures += 1
            self._disk_failures += isinstance(error, StorageError)
            # Moved to the end, so that each has its turn.
            self._notes.waiting.pop(one, None)
            self._notes.waiting[one] = manifest
            self._notes.trouble[one] = str(error)
            return None
        self._notes.trouble.pop(one, None)
        if "written" in (result.outcome, beside):
            self._notes.waiting[one] = manifest
            self.skipped.append(Skipped(manifest.file_name, WAITS))
        else:
            self._notes.waiting.pop(one, None)
        if result.outcome == "changed":
            self.skipped.append(Skipped(manifest.file_name, "changed after it was read; it is the next delivery"))
        if result.late is not None:
            self._notes.late[one] = result.late
        if result.note:
            self._warnings.append(f"{manifest.file_name}: {result.note}")
        return result.archived_to

    def _archive_sender(self, manifest: Manifest, result: ArchiveResult) -> str | None:
        """Archive a sender's manifest beside its file, which was archived before; returns the outcome, if it has one.

        A file that stays in the source, or has its name back, keeps its manifest there.
        """
        if manifest.sender is None or result.outcome in ("changed", "written"):
            return None
        sender = manifest.sender
        own = replace(
            manifest,
            delivery_id=manifest.delivery_id + SUFFIX,
            path=sender.path,
            file_name=clean_name(sender.path.rpartition("/")[2]),
            identity=sender.identity,
            sha256=sender.sha256,
            archive_path=archived_place(result.archived_to or manifest.archive_path),
            sender=None,
        )
        found = self._source.archive(own, self._probe)
        if found.late is not None:
            self._notes.late[own.delivery_id] = found.late
        if found.note:
            self._warnings.append(f"{own.file_name}: {found.note}")
        return found.outcome

    def _save(self) -> None:
        if self._notes.save():
            self._probe("notes.saved")
