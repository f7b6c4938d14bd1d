"""Lines to stderr and stdout that are lost when they cannot be written, and hold nothing up.

A service outlives its terminal, the reader of its pipe, and the room on the disk that its log is on. It writes through
a thread of its own: what waits for a reader that sleeps is that thread, and no more than `ROOM` lines.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Literal

ROOM = 1000
"""So many lines wait to be written; later ones are lost."""

DRAIN_S = 0.4
"""How long the end of a process waits for the lines that are still to be written, in seconds."""

Stream = Literal["stdout", "stderr"]


def write_line(stream: Stream, line: str) -> bool:
    """Write a line; False when that cannot be done.

    It goes past Python's buffers, whose locks would outlive a write that hangs, unless something else has taken the
    stream's place, such as a progress display.
    """
    now, real = getattr(sys, stream), getattr(sys, f"__{stream}__")
    try:
        if now is not real:
            now.write(line + "\n")
            now.flush()
            return True
        left = memoryview((line + "\n").encode(now.encoding or "utf-8", "backslashreplace"))
        while left:
            left = left[os.write(now.fileno(), left) :]
    except (OSError, ValueError, AttributeError):  # closed, or nothing at all
        return False
    return True


class LogLines:
    """Takes lines from any thread, writes them in a thread of its own, and never raises."""

    def __init__(self, stream: Stream = "stderr") -> None:
        self._stream: Stream = stream
        self._lines: queue.Queue[str] = queue.Queue(ROOM)
        self._lost = 0
        self._thread: threading.Thread | None = None

    def put(self, line: str) -> None:
        """Have a line written, if that can be done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="ordertrail-log", daemon=True)
            self._thread.start()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def drain(self, wait_s: float = DRAIN_S) -> None:
        """Wait until all lines are written, `wait_s` seconds at most."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, wait_s)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if self._lost:
                lost, self._lost = self._lost, 0
                line = f"{line}\n({lost} lines were lost: nobody read them)"
            write_line(self._stream, line)
            self._lines.task_done()
