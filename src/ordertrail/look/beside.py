"""Two readings at the same time: most of each is unpacking Parquet, which no interpreter lock holds up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_First = TypeVar("_First")
_Second = TypeVar("_Second")


def beside(first: Callable[[], _First], second: Callable[[], _Second]) -> tuple[_First, _Second]:
    """What two calls return; the second one runs in a thread of its own.

    Args:
        first: Runs in this thread.
        second: Must be safe to run beside the first.

    Raises:
        Exception: What either raised, once both have ended; that of the first one when both did.
    """
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(second)
        return first(), waiting.result()
