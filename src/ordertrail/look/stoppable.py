"""Calls that Ctrl-C and a time limit end at once, whatever they do: they run in threads of their own.

Otherwise a long call into a C++ library delays a signal until it returns.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

GRACE_S = 1.0
"""How long to wait for a call that was asked to end, in seconds."""

_ASK_EVERY_S = 0.02
_THREAD = "ordertrail-stoppable"

Result = TypeVar("Result")


class Stoppable:
    """Runs calls, one at a time.

    Args:
        stop: Asks the running call to end. It is called from another thread than the call's.

    Attributes:
        stuck: Whether a call did not end when asked: its objects must not be used any more, not even closed.
    """

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self.stuck = False

    def run(self, call: Callable[[], Result], limit_s: float | None = None) -> Result:
        """Run a call to its end.

        Args:
            call: Its result is returned, and its exception is raised.
            limit_s: In seconds; None waits for ever.

        Raises:
            TimeoutError: It took longer.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        results: list[Result] = []
        errors: list[BaseException] = []
        # Not Thread.join: after a KeyboardInterrupt in it Python 3.11 believes that the thread has ended.
        ended = threading.Event()

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                errors.append(error)
            finally:
                ended.set()

        try:
            # Ctrl-C may come while the thread is being started too.
            threading.Thread(target=work, name=_THREAD, daemon=True).start()
            if not ended.wait(limit_s):
                raise TimeoutError(f"not done within {limit_s:g} s")
        finally:
            if not ended.is_set():
                self.stuck = True  # also when Ctrl-C comes a second time
                self.stuck = not self._stopped(ended)
        if errors:
            raise errors[0]
        return results[0]

    def _stopped(self, ended: threading.Event) -> bool:
        # Asked repeatedly: a request just before the library begins is lost.
        for _ in range(int(GRACE_S / _ASK_EVERY_S)):
            self._stop()
            if ended.wait(_ASK_EVERY_S):
                return True
        return False


class Ahead(Generic[Result]):
    """Makes items in a thread of its own, each while who takes them works on the one before it. To be closed.

    One thread makes them all: each thread has memory that the allocator keeps for it.

    Args:
        items: Is used in no other thread.
        stop: Asks the item that is being made to end. It is called from another thread.
    """

    def __init__(self, items: Iterator[Result], stop: Callable[[], object]) -> None:
        self._items = items
        self._stop = stop
        self._made: queue.Queue[tuple[Result] | BaseException | None] = queue.Queue()
        self._wanted = threading.Semaphore()
        self._ended = threading.Event()
        self._closing = False
        threading.Thread(target=self._make, name=_THREAD, daemon=True).start()

    def take(self) -> Result | None:
        """The next item; None after the last one.

        Raises:
            BaseException: What the making of it raised.
        """
        made = self._made.get()
        self._wanted.release()
        if isinstance(made, BaseException):
            raise made
        return None if made is None else made[0]

    def close(self) -> None:
        """End the making, whatever is being made."""
        self._closing = True
        self._wanted.release()
        for _ in range(int(GRACE_S / _ASK_EVERY_S)):
            if self._ended.wait(0):
                return
            self._stop()
            self._ended.wait(_ASK_EVERY_S)

    def _make(self) -> None:
        last: BaseException | None = None
        try:
            while (
                self._wanted.acquire() and not self._closing and (made := [(item,) for item in islice(self._items, 1)])
            ):
                self._made.put(made.pop())
        except BaseException as error:  # noqa: BLE001 - raised again where the item is taken
            last = error
        finally:
            self._made.put(last)
            self._ended.set()


def any_stuck() -> bool:
    """Whether an abandoned call is still running in this process, which must then end by `os._exit`."""
    return any(thread.name == _THREAD for thread in threading.enumerate())
