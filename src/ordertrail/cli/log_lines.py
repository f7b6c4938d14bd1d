"""Writes lines to stderr and stdout without ever blocking; lines that cannot be written are lost.

A service outlives its terminal, the reader of its pipe, and the space on the disk of its log. It writes through a
separate thread: only that thread waits for a reader that sleeps, with at most `ROOM` lines.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Literal

from ordertrail.cli.log_events import Event, text_line

ROOM = 1000
"""How many lines may wait to be written; later ones are lost."""

DRAIN_S = 0.4
"""How long the process waits at its end for lines that are not written yet, in seconds."""

Stream = Literal["stdout", "stderr"]

LineOf = Callable[[Event], str]
"""Makes a line of an event."""


def write_line(stream: Stream, line: str) -> bool:
    """Write a line; False when that fails.

    It bypasses Python's buffers, whose locks would outlive a write that hangs, unless something else, such as a
    progress display, has replaced the stream.
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
    """Takes lines from any thread, writes them in a separate thread, and never raises.

    Args:
        stream: Where to.
        line_of: Makes the line that tells of those that were lost.
    """

    def __init__(self, stream: Stream = "stderr", line_of: LineOf = text_line) -> None:
        self._stream: Stream = stream
        self._line_of = line_of
        self._lines: queue.Queue[str] = queue.Queue(ROOM)
        self._lost = 0
        self._thread: threading.Thread | None = None

    def put(self, line: str) -> None:
        """Queue a line to be written if possible."""
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
                told = self._line_of({"level": "warning", "event": "lines were lost: nobody read them", "lines": lost})
                line = f"{line}\n{told}"
            write_line(self._stream, line)
            self._lines.task_done()
