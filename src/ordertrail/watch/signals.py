"""SIGTERM and Ctrl-C for a service: they tell it to stop, and its process ends in time whatever blocks.

Python runs a signal's handler between two steps of the main thread, and that thread may hang in a system call: writing
to a pipe that nobody reads, waiting for a disk. Waiting for another thread is no better: a signal that comes just
before the wait begins, or that the system gives to another thread, does not end it, and no handler runs. So a separate
thread waits at the descriptor to which the interpreter writes each signal at once.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LIMIT_S = 4.6
"""The process ends at most this long after the first signal, in seconds; 5 are promised."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping_by_signal(stop: Callable[[], None], limit_s: float = LIMIT_S) -> Iterator[None]:
    """Within the block the first SIGTERM or SIGINT calls `stop`; a second one, or `limit_s`, ends the process.

    Only the main thread can handle signals; in any other thread this does nothing and leaves them to the caller.

    Args:
        stop: Called once, in a thread of its own; it must not block.
        limit_s: In seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    listening = threading.Thread(target=_listen, args=(reader, stop, limit_s), name="ordertrail-signals", daemon=True)
    handlers = {number: signal.signal(number, _noted) for number in _SIGNALS}
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    listening.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writer)
        listening.join()
        os.close(reader)


@contextmanager
def stopping_by_event(stop: Callable[[], None], event: threading.Event) -> Iterator[None]:
    """Within the block `stop` is called once, in a thread of its own, when the caller's event is set."""

    def wait() -> None:
        event.wait()
        stop()

    threading.Thread(target=wait, name="ordertrail-stop", daemon=True).start()
    yield


def _noted(_: int, __: object) -> None:
    """Do nothing: the interpreter writes a signal to the descriptor only if it has a handler."""


def _listen(reader: int, stop: Callable[[], None], limit_s: float) -> None:
    if not _signalled(reader):
        return
    stop()
    deadline_s = time.monotonic() + limit_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        if not select.select([reader], [], [], left_s)[0]:
            break
        data = os.read(reader, 64)
        if not data:
            return
        if any(number in _SIGNALS for number in data):
            break
    os._exit(0)


def _signalled(reader: int) -> bool:
    """Wait for one of our signals; False when they are no longer wanted."""
    with suppress(OSError):
        while data := os.read(reader, 64):
            if any(number in _SIGNALS for number in data):
                return True
    return False
