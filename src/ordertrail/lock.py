"""The locks of a pipeline: one allows one pass at a time, another one run of maintenance, a third one service.

Whoever holds one of the first two writes files with the config's `umask`.

The system releases them when their process dies. They work within one machine; between machines the put-if-absent
commit of the Delta log decides.

A pipeline is identified by its target: two configs that write to the same target exclude each other, whatever else
differs between them. Older releases identified it by its stage, so a pass holds the lock of that name too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from ordertrail.config import Config
from ordertrail.config.rights import umask_of
from ordertrail.config.unfinished import refuse_cut_restore
from ordertrail.errors import PassRunningError, StorageError

PASS_WAITS_S = 5.0
"""How long a pass waits for maintenance, in seconds; maintenance holds the pipeline's lock only for moments."""

_NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})


@contextmanager
def pipeline_lock(config: Config, *, wait_s: float = 0.0, restoring: bool = False) -> Iterator[None]:
    """Keep other passes of this pipeline on this machine away.

    Args:
        config: The pipeline's config.
        wait_s: How long to wait for a running pass, in seconds. Running maintenance is waited for at least
            `PASS_WAITS_S`.
        restoring: The caller finishes a restore that was cut short. Nobody else may hold the lock until then.

    Raises:
        PassRunningError: Another pass is still running.
        StorageError: The warehouse cannot be written to, or its file system does not support locks; or a restore was
            cut short.
    """
    with ExitStack() as held:
        try:
            _hold(held, config, wait_s)
        except Timeout:
            try:
                if wait_s >= PASS_WAITS_S or not _maintenance_runs(config):
                    raise
                _hold(held, config, PASS_WAITS_S - wait_s)
            except Timeout:
                raise PassRunningError(
                    f"another pass of pipeline {config.name} is running", hint="wait for it to end, then run again"
                ) from None
        if not restoring:
            refuse_cut_restore(config)
        held.enter_context(umask_of(config))
        yield


@contextmanager
def maintenance_lock(config: Config) -> Iterator[None]:
    """Allow one run of maintenance at a time on this machine; passes are not held up by it.

    Raises:
        PassRunningError: Maintenance is already running.
        StorageError: The warehouse cannot be written to, or its file system does not support locks.
    """
    with ExitStack() as held:
        try:
            # A pass that checks whether maintenance is running holds this lock for an instant.
            for path in _paths(config, ".maintain"):
                _acquired(held, path, config, 0.2)
        except Timeout:
            raise PassRunningError(
                f"maintenance of pipeline {config.name} is already running", hint="wait for it to end, then run again"
            ) from None
        held.enter_context(umask_of(config))
        yield


@contextmanager
def service_lock(config: Config) -> Iterator[Callable[[], bool]]:
    """Allow one service at a time for a pipeline of this name in a warehouse: two would share one heartbeat.

    Yields a function that takes the lock. Any thread may call it, any number of times: it returns True once the lock is
    held and False while the warehouse does not exist. It raises `PassRunningError` when another service holds the lock,
    and `StorageError`.
    """
    path = config.warehouse / f".ordertrail-{config.name}.watch.lock"
    held: list[FileLock] = []
    taking = Lock()

    def take() -> bool:
        with taking:
            if held:
                return True
            if not config.warehouse.is_dir():
                return False
            try:
                held.append(_lock(path, config, 0.0))
            except Timeout:
                raise PassRunningError(
                    f"another `ordertrail watch` of a pipeline {config.name} runs in {config.warehouse}",
                    hint="end that one first; two pipelines of one warehouse need two names",
                ) from None
            return True

    try:
        yield take
    finally:
        for lock in held:
            lock.release()


def make_warehouse(config: Config) -> None:
    """Create the folder of the tables and locks for a new pipeline.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        with umask_of(config):
            config.warehouse.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(config, error) from error


def _hold(held: ExitStack, config: Config, wait_s: float) -> None:
    """Take all locks of a pass, or none."""
    with ExitStack() as taken:
        for path in _paths(config, ""):
            _acquired(taken, path, config, wait_s)
        held.push(taken.pop_all())


def _maintenance_runs(config: Config) -> bool:
    with ExitStack() as held:
        try:
            for path in _paths(config, ".maintain"):
                _acquired(held, path, config, 0.0)
        except Timeout:
            return True
    return False


def _paths(config: Config, suffix: str) -> tuple[Path, ...]:
    names = dict.fromkeys((config.tables.stage, config.tables.target))
    return tuple(config.warehouse / f".ordertrail-{config.catalog}.{config.schema}.{n}{suffix}.lock" for n in names)


def _acquired(held: ExitStack, path: Path, config: Config, wait_s: float) -> None:
    """Take one lock, to be released with the others."""
    held.callback(_lock(path, config, wait_s).release)


def _lock(path: Path, config: Config, wait_s: float) -> FileLock:
    if config.by_name:
        make_warehouse(config)  # the tables are elsewhere: this folder holds only locks
    try:
        # Without flock, filelock would use the file's existence as the lock, and a killed process would leave it locked
        # for ever.
        lock = FileLock(path, timeout=wait_s, mode=_mode(config), fallback_to_soft=False, thread_local=False)
        lock.acquire(poll_interval=0.02)
    except Timeout:
        raise
    except OSError as error:
        if error.errno in _NO_FLOCK:
            raise StorageError(
                f"the file system of the warehouse {config.warehouse} does not support locks (flock): {error.strerror}",
                hint="put the warehouse on a local disk such as ext4 or xfs, or mount the share with locks",
            ) from error
        raise _unwritable(config, error) from error
    with suppress(OSError):  # it may belong to another user; an older release gave other users rights on it
        if path.stat().st_mode & 0o077 & ~_mode(config):
            path.chmod(_mode(config))
    return lock


def _mode(config: Config) -> int:
    """The permissions of a lock file. Whoever can open it can hold it: only those who may write to the tables."""
    return 0o660 if config.warehouse.stat().st_mode & 0o020 else 0o600


def _unwritable(config: Config, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write to the warehouse {config.warehouse}: {error.strerror or error}",
        hint="check that its disk is mounted, and give the user that runs ordertrail the right to write there",
    )
