"""Calls that several threads make, whose results come in the order of the calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Result = TypeVar("Result")


def in_turn(workers: Executor, calls: Iterable[Callable[[], Result]], ahead: int) -> Iterator[Result]:
    """What calls return, in their order.

    Args:
        workers: Make the calls.
        calls: Each is taken when there is room for it, in the thread that takes the results.
        ahead: So many are made ahead of the one whose result is taken next.

    Raises:
        Exception: What a call raised, where its result would come.
    """
    waiting: deque[Future[Result]] = deque()
    for call in calls:
        waiting.append(workers.submit(call))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
