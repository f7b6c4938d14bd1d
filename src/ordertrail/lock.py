"""The two locks of a pipeline: one lets one pass at a time at the tables, the other one maintenance at a time.

The system frees them when their process dies. They reach as far as the machine; beyond it the log's put-if-absent
decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ordertrail.config import Config
from ordertrail.errors import PassRunningError, StorageError

PASS_WAITS_S = 5.0
"""How long a pass waits for maintenance, which holds the pipeline's lock for moments only, in seconds."""


@contextmanager
def pipeline_lock(config: Config, *, wait_s: float = 0.0) -> Iterator[None]:
    """Keep other passes of this pipeline on this machine away.

    Args:
        config: Of the pipeline.
        wait_s: How long to wait for a pass that runs. Maintenance that runs is waited for `PASS_WAITS_S` at least.

    Raises:
        PassRunningError: Another pass is still running.
        StorageError: The warehouse cannot be written to.
    """
    path = _path(config, "")
    try:
        lock = _acquired(path, config, wait_s)
    except Timeout:
        try:
            if wait_s >= PASS_WAITS_S or not _maintenance_runs(config):
                raise
            lock = _acquired(path, config, PASS_WAITS_S - wait_s)
        except Timeout:
            raise PassRunningError(
                f"another pass of pipeline {config.name} is running", hint="wait for it to end, then run again"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def maintenance_lock(config: Config) -> Iterator[None]:
    """Keep other maintenance of this pipeline on this machine away; passes are not held up by it.

    Raises:
        PassRunningError: Maintenance is running already.
        StorageError: The warehouse cannot be written to.
    """
    try:
        # A pass that looks whether we run holds the lock for an instant.
        lock = _acquired(_path(config, ".maintain"), config, 0.2)
    except Timeout:
        raise PassRunningError(
            f"maintenance of pipeline {config.name} is running already", hint="wait for it to end, then run again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _maintenance_runs(config: Config) -> bool:
    try:
        _acquired(_path(config, ".maintain"), config, 0.0).release()
    except Timeout:
        return True
    return False


def _path(config: Config, suffix: str) -> Path:
    return config.warehouse / f".ordertrail-{config.catalog}.{config.schema}.{config.tables.stage}{suffix}.lock"


def make_warehouse(config: Config) -> None:
    """Make the folder of the tables and the locks, for a pipeline that begins.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        config.warehouse.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(config, error) from error


def _unwritable(config: Config, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write to the warehouse {config.warehouse}: {error.strerror or error}",
        hint="see that its disk is mounted, and give the user that runs ordertrail the right to write there",
    )


def _acquired(path: Path, config: Config, wait_s: float) -> FileLock:
    if config.by_name:
        make_warehouse(config)  # the tables are elsewhere: this folder is for the locks alone
    try:
        lock = FileLock(path, timeout=wait_s)
        lock.acquire(poll_interval=0.02)
    except Timeout:
        raise
    except OSError as error:
        raise _unwritable(config, error) from error
    return lock
