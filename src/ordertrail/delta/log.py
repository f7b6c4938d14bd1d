"""A Delta log in a local folder: listing, reading, and commits that either take their version or do not.

A commit is a complete, fsynced temporary file that gets its name `_delta_log/<version>.json` by a hard link:
put-if-absent, and never a half-written entry. For object stores a conditional put behind `LogStore` will do the same.
"""

from __future__ import annotations

import errno
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ordertrail.delta.actions import Json
from ordertrail.delta.said import ACTIONS, counted, number, said_by
from ordertrail.durable import put_if_absent
from ordertrail.errors import CommitConflictError, CommitUnknownError, StorageError, TableError

_COMMIT = re.compile(r"(\d{20})\.json")
_CLASSIC = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_V2 = re.compile(rf"(\d{{20}})\.checkpoint\.{_UUID}\.(?:json|parquet)")

_ANY_V2 = 0  # the number of parts in the name of a classic checkpoint


class LogStore(Protocol):
    """Where log entries are written."""

    def put_if_absent(self, path: Path, data: bytes) -> None:
        """Write `data` to a new file `path`, atomically and durably, unless the name is taken.

        Atomic. Not idempotent: a second call with the same path raises.

        Raises:
            FileExistsError: The name is taken.
            OSError: The outcome is unknown; read back.
        """
        ...


class LocalLogStore:
    """Log entries as files of a local file system that has hard links."""

    def put_if_absent(self, path: Path, data: bytes) -> None:
        """Write, fsync and link."""
        put_if_absent(path, data)


class DeltaLog:
    """The log of one table.

    Args:
        root: The table's folder.
        store: Where commits are written.
    """

    def __init__(self, root: Path, store: LogStore | None = None) -> None:
        self.root = root
        self.folder = root / "_delta_log"
        self._store = store or LocalLogStore()

    def entries(self) -> tuple[list[int], dict[int, list[Path]]]:
        """Versions of the commits, ascending, and the files of a complete checkpoint by version.

        When a version has several checkpoints, any of them will do: this returns the one with the fewest files.

        Raises:
            TableError: There is no table.
        """
        commits: list[int] = []
        found: dict[int, dict[int, list[Path]]] = {}
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError as error:
            raise StorageError(
                f"cannot read {self.folder}: {error.strerror}", hint="check that the folder can be read, then run again"
            ) from error
        for name in names:
            if match := _COMMIT.fullmatch(name):
                commits.append(int(match[1]))
            elif match := _CLASSIC.fullmatch(name):
                found.setdefault(int(match[1]), {}).setdefault(int(match[3] or 1), []).append(self.folder / name)
            elif match := _V2.fullmatch(name):
                # One of several V2 checkpoints, but only if there is no classic one.
                found.setdefault(int(match[1]), {}).setdefault(_ANY_V2, [self.folder / name])
        whole = {version: _whole(by_parts) for version, by_parts in found.items()}
        return commits, {version: files for version, files in whole.items() if files}

    def exists(self) -> bool:
        """Whether the folder holds a Delta table."""
        with suppress(OSError), os.scandir(self.folder) as entries:
            if any(_COMMIT.fullmatch(entry.name) for entry in entries):
                return True  # usually the first name
        commits, checkpoints = self.entries()
        return bool(commits or checkpoints)

    def has(self, version: int) -> bool:
        """Whether the log has a commit of this version."""
        try:
            self._path(version).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def written_s(self, version: int) -> float:
        """When a commit was written, in seconds since 1970; 0 when there is none."""
        try:
            return self._path(version).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def written_at(self, version: int) -> datetime:
        """When a commit was written; aware UTC.

        Raises:
            FileNotFoundError: The log does not have it any more.
        """
        return datetime.fromtimestamp(self._path(version).stat().st_mtime, UTC)

    def read(self, version: int) -> list[dict[str, Json]]:
        """The actions of one commit.

        Raises:
            FileNotFoundError: There is no such commit, not yet or no longer.
            TableError: The entry is damaged.
        """
        path = self._path(version)
        try:
            actions = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
        except ValueError as error:  # no JSON, or not even UTF-8
            raise _damaged(path, str(error)) from None
        if not actions:
            raise _damaged(path, "it has no actions")
        whole = number(said_by(actions), ACTIONS)
        if whole is not None and len(actions) != whole:
            raise _damaged(path, f"it has {len(actions)} of {whole} actions")
        return actions

    def backwards(self) -> Iterator[tuple[int, list[dict[str, Json]]]]:
        """The commits, newest first, each with its version."""
        for version in reversed(self.entries()[0]):
            yield version, self.read(version)

    def commit(self, version: int, actions: list[dict[str, Json]]) -> None:
        """Write a commit as exactly this version.

        It has three outcomes: it returns (done), it raises `CommitConflictError` or `StorageError` (not done), or it
        raises `CommitUnknownError`. A lost reply is settled by reading back, never by guessing.

        Args:
            version: The version to take.
            actions: `commitInfo` first; it must contain something unique, such as a new `txnId`. Its note (`said`) gets
                the number of actions.
        """
        path = self._path(version)
        data = b"".join(json.dumps(action, separators=(",", ":")).encode() + b"\n" for action in counted(actions))
        try:
            self._store.put_if_absent(path, data)
        except OSError as error:
            if self._is_ours(path, data, error):
                return
            if isinstance(error, FileExistsError):
                raise CommitConflictError(
                    f"somebody else has written version {version} of {self.root.name} meanwhile",
                    hint="nothing was written; run again",
                ) from None
            raise storage_error(error, path) from error

    def _is_ours(self, path: Path, data: bytes, error: OSError) -> bool:
        try:
            return path.read_bytes() == data
        except FileNotFoundError:
            return False
        except OSError:
            raise CommitUnknownError(
                f"the commit {path} may or may not have been written: {error}",
                hint="run again: the next pass reads the table and goes on from there",
            ) from error

    def name(self, version: int) -> str:
        """The path of the entry of a version, whether it is there or not."""
        return f"{self.folder}/{version:020d}.json"

    def _path(self, version: int) -> Path:
        return self.folder / f"{version:020d}.json"


def _damaged(path: Path, why: str) -> TableError:
    return TableError(f"the log entry {path} is damaged: {why}", hint="restore the file from a backup")


def _whole(checkpoints: dict[int, list[Path]]) -> list[Path]:
    """The first complete checkpoint of a version; empty when there is none."""
    ordered = sorted(checkpoints.items(), key=lambda item: (item[0] == _ANY_V2, item[0]))
    return next((files for parts, files in ordered if parts in (len(files), _ANY_V2)), [])


def is_v2_name(path: Path) -> bool:
    """Whether the name of a checkpoint shows that it is of the V2 specification."""
    return _V2.fullmatch(path.name) is not None


def path_inside(root: Path, uri: str) -> Path | None:
    """Turn an absolute path or URI of a log into a path below the table's folder; None when it is elsewhere.

    Args:
        root: The table's folder.
        uri: URL-encoded, as all paths in a log.
    """
    try:
        parts = urllib.parse.urlsplit(uri)
        path = Path(urllib.parse.unquote(parts.path))
        if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost") or not path.is_absolute():
            return None
        # Both may be reached through links; their real location counts.
        path, home = path.resolve(), root.resolve()
    except ValueError:  # not a URI, or a path with a zero byte
        return None
    return root / path.relative_to(home) if path.is_relative_to(home) else None


def storage_error(error: OSError, path: Path) -> StorageError:
    """Our error for a failing file system."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space and run again" if full else "check that the folder can be written to, then run again"
    return StorageError(f"cannot write {path}: {error.strerror or error}", hint=f"{hint}; nothing is lost")


def remove_files(paths: Iterable[Path], first: Callable[[], object]) -> int:
    """Delete files; one that is gone already does not count.

    Args:
        paths: In the order in which they go.
        first: Called when the first one is gone.

    Returns:
        How many are gone.

    Raises:
        StorageError: The disk fails; the files after that one are still there.
    """
    gone = 0
    for path in paths:
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error
        gone += 1
        if gone == 1:
            first()
    return gone
