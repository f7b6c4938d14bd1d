"""What `ordertrail demo` does: drops the demo's files as vendors would, loads them day by day, shows the result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path

from msgspec import Struct

from ordertrail.begin.demo_feed import DEMO_SHOWCASE, DemoFile, demo_config_text, demo_files
from ordertrail.config import Config, load_config
from ordertrail.errors import StorageError, UsageError
from ordertrail.look.rows import Rows
from ordertrail.look.status import Reader
from ordertrail.look.track import Track
from ordertrail.model import RunReport
from ordertrail.pipeline import Pipeline

MARKER = ".ordertrail-demo"
"""A file in the demo's folder: it marks the files next to it as the demo's, which may be replaced."""

_CONFIG = "ordertrail.toml"
_DATA = "data"
_ALL = 10_000


class Demo(Struct, frozen=True):
    """What the demo did.

    Attributes:
        folder: Its folder.
        config: The pipeline's config.
        reports: The report of each pass, oldest first.
        deliveries: All deliveries.
        rejects: All rejects.
        track: The shipment with the richest timeline.
    """

    folder: Path
    config: Config
    reports: tuple[RunReport, ...]
    deliveries: Rows
    rejects: Rows
    track: Track


def run_demo(folder: Path, today: date, *, force: bool, progress: Callable[[str], None]) -> Demo:
    """Create the demo's folder, anew if it exists, and load its files in one pass a day.

    Args:
        folder: Created when it is missing.
        today: The day after the last day of the demo's files.
        force: Whether to use even a folder that holds other things; nothing there is replaced.
        progress: Called with a description of each step.

    Raises:
        UsageError: The folder is not the demo's.
        StorageError: It cannot be written to.
    """
    with _storage(folder):
        _prepare(folder, force=force)
    config = load_config(folder / _CONFIG, environ={})
    reports = []
    for day, files in groupby(demo_files(today), key=_day):
        progress(f"loading the files of {day}")
        with _storage(folder):
            _drop(config, list(files))
        reports.append(Pipeline(config).run())
    progress("looking at what came")
    with Reader(config) as reader:
        deliveries, rejects = reader.deliveries(limit=_ALL), reader.rejects(limit=_ALL)
        return Demo(folder, config, tuple(reports), deliveries, rejects, reader.track(DEMO_SHOWCASE))


def _prepare(folder: Path, *, force: bool) -> None:
    """Prepare an empty demo folder. Only files of an earlier demo are deleted."""
    ours = [folder / _CONFIG, folder / _DATA]
    if folder.is_dir() and not (folder / MARKER).is_file() and any(folder.iterdir()):
        if not force:
            raise UsageError(f"{folder} holds things that the demo did not make", hint="choose a folder with --dir")
        if taken := [path.name for path in ours if path.exists() or path.is_symlink()]:
            raise UsageError(
                f"{folder} already has {' and '.join(taken)}, and the demo replaces nothing of yours",
                hint="choose another folder with --dir",
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("Made by `ordertrail demo`, which makes this folder anew when it is run again.\n")
    if ours[1].exists():
        shutil.rmtree(ours[1])
    ours[0].write_text(demo_config_text(), encoding="utf-8")


def _drop(config: Config, files: Sequence[DemoFile]) -> None:
    for file in files:
        path = config.source / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        os.utime(path, ns=(file.mtime_ns, file.mtime_ns))


def _day(file: DemoFile) -> date:
    return datetime.fromtimestamp(file.mtime_ns // 10**9, UTC).date()


@contextmanager
def _storage(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write the demo to {folder}: {error.strerror}", hint="choose another folder with --dir"
        ) from error
