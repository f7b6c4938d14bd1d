"""Linux events of files in the source folder: closed after writing, moved in, opened and not closed yet.

Built on watchdog's inotify. Only `ordertrail.watch.service` imports this module, and only when it starts to watch, so
that no other command pays for it. Events are not needed to find a file: the service looks by itself every `--interval`.
Files without an event (written to a network share by another machine, events dropped because the kernel's queue was
full, a folder that could not be watched) are found then, under the settle rule.
"""

from __future__ import annotations

import os
import stat
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter
from watchdog.observers.inotify_c import InotifyConstants

from ordertrail.sources.names import is_hidden, is_temporary

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import Mask


NEW_FOLDER_S = 5.0
"""For this long after a folder appeared, in seconds, a file in it may have been closed before we watched it."""

Post = Callable[[Literal["closed", "opened", "touched"], str], None]
"""Called with what happened to which path below the folder, spelled as `FoundFile.path`.

`closed`: the file is complete. `opened`: it was created and is being written; `closed` or `touched` follows. `touched`:
there is something to look at, and the settle rule decides when it is complete.
"""


class FolderEvents:
    """Reports what happens below one folder; a `Listener`.

    Args:
        folder: The source folder; it may be a symbolic link, and need not exist yet.
        post: Called from another thread with each event.
    """

    def __init__(self, folder: Path, post: Post) -> None:
        self._folder = folder
        self._post = post
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None

    def ensure(self) -> None:
        """Listen to the folder that has the name now; does nothing if it already listens to it.

        Raises:
            OSError: It cannot be watched: it is missing, or the system's limit of watches is reached.
        """
        status = self._folder.stat()
        place = status.st_dev, status.st_ino
        if self._observer is not None and place == self._watched and all(e.is_alive() for e in self._observer.emitters):
            return
        self.close()
        # A link is resolved here because watchdog would watch the link itself.
        root = str(self._folder.resolve())
        observer = BaseObserver(_Emitter)
        observer.schedule(_Handler(root, self._post), root, recursive=True)
        # A folder renamed inside the source is added anew while it is still watched under its old name.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        try:
            observer.start()
        except OSError:
            observer.stop()
            raise
        self._observer, self._watched = observer, place

    def close(self) -> None:
        """Stop listening. Idempotent."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()


class _Emitter(InotifyFullEmitter):
    """Asks the kernel only for the events that we use.

    Above all not for IN_MOVED_FROM: after such an event watchdog delays everything for half a second in case its other
    half follows, and archiving renames every file.
    """

    def get_event_mask_from_filter(self) -> Mask:
        mask = InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_MOVED_TO
        return cast("Mask", mask | InotifyConstants.IN_CREATE | InotifyConstants.IN_DELETE_SELF)


class _Handler(FileSystemEventHandler):
    """Turns watchdog's events into ours."""

    def __init__(self, root: str, post: Post) -> None:
        self._below = root.rstrip("/") + "/"
        self._post = post
        self._new_folders: dict[str, float] = {}

    def on_any_event(self, event: FileSystemEvent) -> None:
        absolute = os.fsdecode(event.dest_path or event.src_path)
        if not absolute.startswith(self._below):
            return
        path = absolute.removeprefix(self._below)
        *folders, name = path.split("/")
        if any(part.startswith(".") for part in folders) or is_hidden(name) or is_temporary(name):
            return
        if isinstance(event, DirCreatedEvent | DirMovedEvent):
            now_s = time.monotonic()
            self._new_folders = {p: t for p, t in self._new_folders.items() if now_s - t < NEW_FOLDER_S}
            self._new_folders[path] = now_s
            self._post("touched", path)
        elif isinstance(event, FileClosedEvent | FileMovedEvent):
            complete = not event.is_synthetic and _has_bytes(absolute)
            self._post("closed" if complete else "touched", path)
        elif isinstance(event, FileCreatedEvent):
            being_written = not event.is_synthetic and not self._in_new_folder(path) and _one_name(absolute)
            self._post("opened" if being_written else "touched", path)

    def _in_new_folder(self, path: str) -> bool:
        born_s = self._new_folders.get(path.rpartition("/")[0])
        return born_s is not None and time.monotonic() - born_s < NEW_FOLDER_S


def _has_bytes(path: str) -> bool:
    """Whether a closed file is empty: many writers create an empty file first and open it again to fill it."""
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0


def _one_name(path: str) -> bool:
    """Whether a new name belongs to a new file: a link(2) to a file has another name, and nobody will close it."""
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
