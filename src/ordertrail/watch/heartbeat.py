"""The sign of life of the service."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.errors import OrdertrailError
from ordertrail.log import Log
from ordertrail.look.document import open_item
from ordertrail.look.open_items import OpenItem

BEAT_S = 10.0
"""Longest time between two writes of the heartbeat file, in seconds."""

MOST_ITEMS = 50
"""How many open items the file names; it counts all."""

State = Literal["idle", "running", "backing_off", "stopping"]
"""What the service is doing."""

_log = Log()


class Beat(Struct, frozen=True):
    """The content of the heartbeat file. Times are aware UTC.

    A successful pass clears `last_error` and `failures`, the number of failed passes since the last successful one;
    `attention` (how often, when last, what) stays while the service runs: it counts files and warnings that need a
    person. `open_items` are those of `ordertrail health` when they were last listed, at `open_at`.
    """

    started_at: datetime
    last_pass_at: datetime | None = None
    last_batch: int | None = None
    state: State = "idle"
    last_error: tuple[str, str] | None = None
    attention: tuple[int, datetime, str] | None = None
    failures: int = 0
    failing_since: datetime | None = None
    maintenance_error: str | None = None
    open_items: tuple[OpenItem, ...] = ()
    open_at: datetime | None = None

    def document(self, pid: int, now: datetime) -> dict[str, object]:
        """The file's content as a JSON document."""
        return {
            "pid": pid,
            "started_at": self.started_at.isoformat(),
            "beat_at": now.isoformat(),
            "last_pass_at": self.last_pass_at.isoformat() if self.last_pass_at else None,
            "last_batch": self.last_batch,
            "state": self.state,
            "last_error": dict(zip(("code", "message"), self.last_error, strict=True)) if self.last_error else None,
            "attention": self._attention(),
            "failures": self.failures,
            "failing_since": self.failing_since.isoformat() if self.failing_since else None,
            "maintenance_error": self.maintenance_error,
            "open_items": self._open_items(),
        }

    def _attention(self) -> dict[str, object] | None:
        if self.attention is None:
            return None
        count, at, last = self.attention
        return {"count": count, "at": at.isoformat(), "last": last}

    def _open_items(self) -> dict[str, object] | None:
        if self.open_at is None:
            return None
        items = [open_item(one) for one in self.open_items[:MOST_ITEMS]]
        return {"count": len(self.open_items), "at": self.open_at.isoformat(), "items": items}


class Heartbeat:
    """A small JSON file that is updated while the service lives: a supervisor raises an alarm when `beat_at` is old.

    A separate thread writes it, so that a long pass does not look like a dead service. The file is replaced by
    renaming, so nobody reads half of it. A disk that cannot be written to does not stop the service.

    Args:
        path: The file. Its folder is the warehouse, which a pass creates: until then there is no file.
        now: The wall clock, aware UTC.
        alone: Whether this service may write the file; may also raise `PassRunningError`.
    """

    def __init__(self, path: Path, now: Callable[[], datetime], alone: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._now = now
        self._alone = alone
        self._beat = Beat(now())
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = False

    def start(self) -> None:
        """Write the file now and then every `BEAT_S`."""
        self._write()
        self._thread = threading.Thread(target=self._run, name="ordertrail-heartbeat", daemon=True)
        self._thread.start()

    def state(self, state: State) -> None:
        """Record what the service is doing."""
        self._write(lambda beat: replace(beat, state=state))

    def passed(self, batch: int | None) -> None:
        """Record a successful pass; `batch` is None when nothing was waiting."""
        now = self._now()
        self._write(
            lambda beat: replace(
                beat,
                last_pass_at=now,
                last_batch=beat.last_batch if batch is None else batch,
                last_error=None,
                failures=0,
                failing_since=None,
            )
        )

    def failed(self, code: str, message: str) -> None:
        """Record a failed pass."""
        now = self._now()
        self._write(
            lambda beat: replace(
                beat,
                last_pass_at=now,
                last_error=(code, message),
                failures=beat.failures + 1,
                failing_since=beat.failing_since or now,
            )
        )

    def attention(self, what: str) -> None:
        """Record that something needs a person."""
        now = self._now()
        self._write(lambda beat: replace(beat, attention=((beat.attention or (0,))[0] + 1, now, what)))

    def maintenance(self, error: str | None) -> None:
        """Record why maintenance failed; None when it succeeded."""
        if error != self._beat.maintenance_error:
            self._write(lambda beat: replace(beat, maintenance_error=error))

    def open_items(self, items: Sequence[OpenItem]) -> None:
        """Record what needs a person."""
        now = self._now()
        self._write(lambda beat: replace(beat, open_items=tuple(items), open_at=now))

    def stop(self) -> None:
        """Remove the file: the service ended normally."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=0.5)
        with self._lock, suppress(OSError):
            if self._ours():
                self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._ended.wait(BEAT_S):
            self._write()
            _log.debug("heartbeat", state=self._beat.state, last_batch=self._beat.last_batch)

    def _write(self, change: Callable[[Beat], Beat] = lambda beat: beat) -> None:
        with self._lock:
            self._beat = change(self._beat)
            if self._ended.is_set():
                return
            if not self._ours():
                return
            text = json.dumps(self._beat.document(os.getpid(), self._now()), ensure_ascii=True)
            temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
            try:
                temporary.write_text(text + "\n", encoding="utf-8")
                temporary.replace(self._path)
            except OSError as error:
                self._fail(error.strerror or str(error))
            else:
                self._failed = False

    def _ours(self) -> bool:
        try:
            return self._path.parent.is_dir() and self._alone()
        except OrdertrailError as error:
            self._fail(error.message)
            return False

    def _fail(self, reason: str) -> None:
        if not self._failed:
            _log.warning("cannot write the heartbeat", reason=reason)
        self._failed = True
