"""What `ordertrail init` does: writes a commented config and creates the folders it names."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from ordertrail.begin.draft import draft_config
from ordertrail.config import Config, parse_config, template
from ordertrail.errors import StorageError, UsageError
from ordertrail.markers import begin_anew


class Started(Struct, frozen=True):
    """A pipeline that was just set up.

    Attributes:
        config: As written.
        file: The config file.
        sample: What the contract was drafted from, or None.
        notes: What was guessed in it, one line each.
    """

    config: Config
    file: Path
    sample: Path | None
    notes: tuple[str, ...]


def begin_again(config: Config, *, others: bool) -> Config:
    """Allow a pipeline to begin again with tables, an archive or a source other than those that it had.

    Args:
        config: The pipeline's config.
        others: Whether options for writing a config were given as well.

    Raises:
        UsageError: Such options were given.
        SourceError: The archive's marker cannot be read.
        StorageError: The archive cannot be written to.
    """
    if others:
        raise UsageError("--anew writes no config", hint="give --anew alone, or with --config FILE")
    begin_anew(config)
    return config


def start_pipeline(file: Path, *, sample: Path | None, encoding: str | None, force: bool) -> Started:
    """Write a config and create its folders.

    Args:
        file: The config file to write.
        sample: A vendor's file to draft the contract from; None takes the order feed's contract.
        encoding: Of the sample.
        force: Whether to replace an existing file.

    Raises:
        UsageError: The file exists, or the sample cannot be used.
        StorageError: The file or a folder cannot be written.
    """
    if not force and os.path.lexists(file):
        raise UsageError(f"{file} is there already", hint="replace it with --force, or name another with --config FILE")
    draft = draft_config(sample, encoding=encoding) if sample else None
    text = draft.config_text if draft else template()
    config = parse_config(text, base=file.absolute().parent, environ={}, file=file.absolute())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
        for folder in (config.source, config.archive, config.warehouse):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        place = error.filename or file
        raise StorageError(
            f"cannot write {place}: {error.strerror}", hint="see that the folder can be written to, then run again"
        ) from error
    return Started(config, config.file or file, sample, draft.notes if draft else ())
