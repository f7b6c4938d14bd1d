"""What `ordertrail demo` does: put the demo's files where vendors would, load them day by day, look at what came."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path

from ordertrail.begin.demo_feed import DEMO_SHOWCASE, DemoFile, demo_config_text, demo_files
from ordertrail.config import Config, load_config
from ordertrail.errors import StorageError, UsageError
from ordertrail.look.rows import Rows
from ordertrail.look.status import Reader, Track
from ordertrail.model import RunReport
from ordertrail.pipeline import Pipeline

MARKER = ".ordertrail-demo"
"""A file in the demo's folder: what lies beside it was made by the demo and may be made again."""

_CONFIG = "ordertrail.toml"
_DATA = "data"
_ALL = 10_000


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo did.

    Attributes:
        folder: Where it is.
        config: Of its pipeline.
        reports: One a pass, oldest first.
        deliveries: All files that came.
        rejects: All that was rejected.
        track: The shipment with the richest timeline.
    """

    folder: Path
    config: Config
    reports: tuple[RunReport, ...]
    deliveries: Rows
    rejects: Rows
    track: Track


def run_demo(folder: Path, today: date, *, force: bool, progress: Callable[[str], None]) -> Demo:
    """Make the demo's folder, anew when it is there, and load its files in one pass a day.

    Args:
        folder: Made when it is missing.
        today: The day after the last day of the demo's files.
        force: Also in a folder that holds other things; nothing there is replaced.
        progress: Told what is under way.

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
    """An empty demo folder. Only what an earlier demo made is taken away."""
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
