"""Work of seconds for one page: in a process of its own, for so long and no longer, one at a time."""

from __future__ import annotations

import operator
import os
import threading
import time

import pytest

from ordertrail.errors import PassRunningError
from ordertrail.web import apart as module
from ordertrail.web.apart import apart

pytestmark = pytest.mark.browserless


def test_it_is_another_process_and_what_it_returns_or_raises_comes_back() -> None:
    assert apart(os.getpid, (), 60.0) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        apart(operator.truediv, (1, 0), 60.0)


def test_what_takes_longer_is_stopped_and_so_is_what_dies() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        apart(time.sleep, (600.0,), 0.2)
    with pytest.raises(TimeoutError):
        apart(os._exit, (3,), 60.0)
    assert time.monotonic() - began < 60


def test_a_second_one_is_refused_while_one_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with module._one:
            held.set()
            free.wait(60)

    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(60)
    with pytest.raises(PassRunningError, match="another reader"):
        apart(os.getpid, (), 60.0)
    free.set()
