"""What becomes of the files of a batch that is done: archived now, by a later pass, or looked at again.

A file that cannot be archived holds up nothing but itself: it waits, is told, and every pass tries it again. `pipeline`
says when; what happened is read from the attributes afterwards.
"""

from __future__ import annotations

from datetime import datetime

from ordertrail.errors import SourceError, StorageError
from ordertrail.model import Batch, Manifest, Probe, Skipped
from ordertrail.sources.base import ArchiveResult, Source
from ordertrail.sources.notes import Notes

WAITS = "loaded; it is still open for writing, and archived once it is closed"


class Archiving:
    """The archiving of one pass.

    Args:
        source: Where the files are.
        notes: What waits and what is looked at again, from pass to pass.
        probe: Called with `notes.saved` after they were written down, and by the source.

    Attributes:
        skipped: Files that were left where they are, with the reason.
        warnings: What a person should know, one line each.
    """

    def __init__(self, source: Source, notes: Notes, probe: Probe) -> None:
        self._source = source
        self._notes = notes
        self._probe = probe
        self._tried: set[str] = set()
        self.skipped: list[Skipped] = []
        self.warnings: list[str] = []

    def batch(self, batch: Batch) -> dict[str, str | None]:
        """Archive the files of a batch; where each is, by delivery id, None where it is not archived."""
        archived = {manifest.delivery_id: self._archive(manifest) for manifest in batch.manifests}
        self._save()
        return archived

    def again(self, now: datetime) -> dict[str, str | None]:
        """Try those again that wait, and look again at late ones.

        Returns:
            By delivery id, where the files are that the tables know to be elsewhere.
        """
        moved: dict[str, str | None] = {}
        for delivery_id, manifest in list(self._notes.waiting.items()):
            if delivery_id not in self._tried and (archived_to := self._archive(manifest)) is not None:
                moved[delivery_id] = archived_to
        for delivery_id, late in list(self._notes.late.items()):
            if delivery_id in self._tried:
                continue
            name = late.manifest.file_name
            try:
                result = self._source.look_again(late, now, self._probe)
            except (SourceError, StorageError) as error:
                self.warnings.append(f"{name}: {error}")
                continue
            if result.note:
                self.warnings.append(f"{name} (delivery {delivery_id}): {result.note}")
            match result.outcome:
                case "same":
                    continue
                case "written":
                    self.skipped.append(Skipped(name, "archived, and somebody writes to it; it is looked at again"))
                case "settled" | "returned":
                    del self._notes.late[delivery_id]
            if result.archived_to is None:
                moved[delivery_id] = None
        return moved

    def settled(self) -> None:
        """The tables know what `again` gave."""
        self._save()

    def _archive(self, manifest: Manifest) -> str | None:
        self._tried.add(manifest.delivery_id)
        try:
            result = self._source.archive(manifest, self._probe)
        except (SourceError, StorageError) as error:
            self._notes.waiting[manifest.delivery_id] = manifest
            self.warnings.append(f"{manifest.file_name} is loaded and waits to be archived: {error}")
            return None
        self._take(manifest, result)
        return result.archived_to

    def _take(self, manifest: Manifest, result: ArchiveResult) -> None:
        if result.outcome == "written":
            self._notes.waiting[manifest.delivery_id] = manifest
            self.skipped.append(Skipped(manifest.file_name, WAITS))
        else:
            self._notes.waiting.pop(manifest.delivery_id, None)
        if result.outcome == "changed":
            self.skipped.append(Skipped(manifest.file_name, "changed after it was read; it is the next delivery"))
        if result.late is not None:
            self._notes.late[manifest.delivery_id] = result.late
        if result.note:
            self.warnings.append(f"{manifest.file_name}: {result.note}")

    def _save(self) -> None:
        if self._notes.save():
            self._probe("notes.saved")
