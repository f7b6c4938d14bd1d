"""The consumers of the changes that are known by name, and the batch that each of them reads next.

Each has a file of its own beside the pipeline's lock, which appears as a whole or not at all, so that a kill leaves the
place before or the one after. What a consumer has read it knows best itself: a consumer that keeps the number of the
next batch in the same transaction as the rows needs no place here. One that is known here is waited for by maintenance.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.durable import fsync_folder, move_durably
from ordertrail.errors import PassRunningError, StorageError, UsageError

FOLDER = "consumers"
"""The name of their folder in a backup, and how the name of the folder beside the lock ends."""

_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENDING = ".json"


class Consumer(Struct, frozen=True):
    """A consumer.

    Attributes:
        name: Its name.
        app_id: The application id of the tables that it reads.
        next_batch: The batch that it reads next; all before were given to it whole.
        seen_at: When it last read, or looked for a batch; aware UTC.
    """

    name: str
    app_id: str
    next_batch: int
    seen_at: datetime


def consumers_path(config: Config) -> Path:
    """The folder of a pipeline's consumers: beside its lock or, when tables are found by name, in the archive."""
    folder = config.archive if config.by_name else config.warehouse
    return folder / f".ordertrail-{config.catalog}.{config.schema}.{config.tables.target}.{FOLDER}"


def consumers_of(config: Config) -> tuple[Consumer, ...]:
    """All consumers, by name.

    Raises:
        StorageError: A file cannot be read.
    """
    folder = consumers_path(config)
    names = sorted(path.name for path in folder.glob(f"*{_ENDING}") if not path.name.startswith("."))
    return tuple(one for name in names if (one := _read(folder / name)) is not None)


def consumer_of(config: Config, name: str) -> Consumer | None:
    """A consumer; None when there is none of that name.

    Raises:
        UsageError: That is no name.
        StorageError: Its file cannot be read.
    """
    return _read(consumers_path(config) / file_of(name))


def file_of(name: str) -> str:
    """The name of a consumer's file.

    Raises:
        UsageError: That is no name.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a consumer", hint="give letters, digits, dots, dashes and underscores, at most 64"
        )
    return f"{name}{_ENDING}"


def record(config: Config, consumer: Consumer) -> None:
    """Write where a consumer stands, durably.

    Raises:
        StorageError: The disk is full or fails.
    """
    folder = consumers_path(config)
    path = folder / file_of(consumer.name)
    body = {
        "version": _VERSION,
        "app_id": consumer.app_id,
        "next_batch": consumer.next_batch,
        "seen_at": consumer.seen_at.astimezone(UTC).isoformat(),
    }
    part = folder / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(body) + "\n", "utf-8")
        move_durably(part, path, replace=True)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StorageError(
            f"cannot record in {path} where the consumer stands: {error.strerror}",
            hint="see to the disk; the consumer gets the last batch again",
        ) from error


def drop(config: Config, name: str) -> None:
    """Forget a consumer.

    Raises:
        UsageError: There is none of that name.
        StorageError: Its file cannot be deleted.
    """
    path = consumers_path(config) / file_of(name)
    try:
        path.unlink()
        fsync_folder(path.parent)
    except FileNotFoundError as error:
        known = ", ".join(one.name for one in consumers_of(config)) or "there are none"
        raise UsageError(f"there is no consumer {name!r}", hint=f"the consumers: {known}") from error
    except OSError as error:
        raise StorageError(f"cannot delete {path}: {error.strerror}", hint="see to its folder") from error


class Lag(Struct, frozen=True):
    """A consumer that has not read all batches of these tables.

    Attributes:
        consumer: Which one.
        version: The version of the target before the first batch that it has not read; it may read all later ones.
        since: When that batch was committed, by the log; aware UTC.
    """

    consumer: Consumer
    version: int
    since: datetime


def lags(config: Config, log: DeltaLog, app_id: str) -> tuple[Lag, ...]:
    """The consumers that are behind; reads the log only as far back as the last one of them is.

    Args:
        config: Of the pipeline.
        log: Of the target.
        app_id: The application id of the tables.

    Raises:
        StorageError: A consumer's file cannot be read.
        TableError: The log is damaged.
    """
    waiting = [one for one in consumers_of(config) if one.app_id == app_id]
    found: list[Lag] = []
    unread: int | None = None  # the oldest version of a batch seen so far
    with suppress(FileNotFoundError):  # an old entry was just cleaned up
        for version, actions in log.backwards() if waiting else ():
            txns = [action["txn"] for action in actions if isinstance(action.get("txn"), dict)]
            batches = [int(str(txn["version"])) for txn in txns if isinstance(txn, dict) and txn.get("appId") == app_id]
            if not batches:
                continue
            read = [one for one in waiting if max(batches) < one.next_batch]
            waiting = [one for one in waiting if one not in read]
            found += [] if unread is None else [Lag(one, unread - 1, log.written_at(unread)) for one in read]
            unread = version
            if not waiting:
                return tuple(found)
        # These have not read the oldest version that is still there.
        found += [] if unread is None else [Lag(one, max(unread - 1, 0), log.written_at(unread)) for one in waiting]
    return tuple(found)


@contextmanager
def reading(config: Config, name: str) -> Iterator[None]:
    """Keep other processes of this machine from reading as the same consumer within the block.

    Raises:
        UsageError: That is no name.
        PassRunningError: Another process does.
        StorageError: The folder cannot be written.
    """
    folder = consumers_path(config)
    path = folder / f".{file_of(name)}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", hint="see to its folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise PassRunningError(
            f"another process is reading the changes as {name}", hint="wait for it, or give this one another name"
        ) from error
    finally:
        os.close(descriptor)


def _read(path: Path) -> Consumer | None:
    try:
        body = json.loads(path.read_bytes())
        if body["version"] > _VERSION:
            raise StorageError(f"{path} is of a newer release of ordertrail", hint="run that release, or a newer one")
        seen_at = datetime.fromisoformat(body["seen_at"])
        return Consumer(path.name.removesuffix(_ENDING), str(body["app_id"]), int(body["next_batch"]), seen_at)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="see to its folder and its rights") from error
    except (ValueError, LookupError, TypeError) as error:
        raise StorageError(
            f"{path} is damaged, so that it does not say where the consumer stands",
            hint="delete it, and begin with --from-batch and the number that the consumer itself knows",
        ) from error
