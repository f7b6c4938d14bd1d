"""Calls that Ctrl-C and a time limit end at once, whatever they do: each runs in a thread of its own.

Otherwise a long call into a C++ library delays a signal until it returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

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


def any_stuck() -> bool:
    """Whether an abandoned call is still running in this process, which must then end by `os._exit`."""
    return any(thread.name == _THREAD for thread in threading.enumerate())
