"""Calls made by several threads, with their results in the order of the calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from ordertrail.engines.local.in_turn import in_turn


def slow(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_results_come_in_the_order_of_the_calls(ahead: int) -> None:
    with ThreadPoolExecutor(3) as workers:
        assert list(in_turn(workers, (partial(slow, one) for one in range(12)), ahead)) == list(range(12))


def test_a_call_is_taken_when_there_is_room_for_it() -> None:
    taken = 0

    def calls() -> Iterator[Callable[[], int]]:
        nonlocal taken
        for one in range(10):
            taken += 1
            yield partial(slow, one)

    with ThreadPoolExecutor(1) as workers:
        results = in_turn(workers, calls(), 2)
        for number in range(8):
            assert next(results) == number
            assert taken == number + 3
        assert list(results) == [8, 9]


def test_an_error_comes_where_the_result_would() -> None:
    with ThreadPoolExecutor(2) as workers:
        results = in_turn(workers, [partial(slow, 1), partial(divmod, 1, 0), partial(slow, 3)], 2)
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
