"""The note of a restore that is under way: while it is there, the tables may be half moved, and nobody may write."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from ordertrail.config.values import Config
from ordertrail.errors import StorageError


def restore_note(config: Config) -> Path:
    """The file of the note: next to the pipeline's lock."""
    return config.warehouse / f".ordertrail-{config.catalog}.{config.schema}.{config.tables.target}.restore"


def refuse_cut_restore(config: Config) -> None:
    """Refuse tables that a restore has moved only in part.

    Raises:
        StorageError: A restore was cut short, or is running.
    """
    note = restore_note(config)
    if not note.exists():
        return
    folder = "DIR"
    with suppress(OSError, ValueError, LookupError, TypeError):
        folder = str(json.loads(note.read_bytes())["backup"])
    raise StorageError(
        f"a restore of pipeline {config.name} was cut short: its tables may not all be there",
        hint=f"run ordertrail restore {folder} again: it goes on where it ended",
    )
