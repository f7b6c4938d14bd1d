"""What the bench of the upsert keeps of cases that were measured together."""

from __future__ import annotations

import pytest

from bench.upsert import beside, size_text, sizes

OURS: dict[str, object] = {"whole_s": 1.2, "load_s": 0.4, "pass_s": 0.7, "peak_mb": 314}


def case(rows: int, name: str = "ordertrail") -> dict[str, object]:
    return {"rows": rows, "contenders": {name: {**OURS, "load_s": rows / 1e7, "rounds": []}}}


def test_a_larger_case_has_our_figures_of_the_smallest_beside_it() -> None:
    small, large = beside([case(1_000_000), case(100_000_000)])
    assert small == case(1_000_000)
    assert large == {**case(100_000_000), "beside_1m": {**OURS, "load_s": 0.1}}


def test_a_case_alone_and_one_without_us_have_nothing_beside_them() -> None:
    assert beside([case(1_000_000)]) == [case(1_000_000)]
    peers = [case(1_000_000, "delta_rs_merge"), case(10_000_000, "delta_rs_merge")]
    assert beside(peers) == peers


@pytest.mark.parametrize("text", ["1k", "100k", "1m", "10m", "1500k", "7"])
def test_a_size_is_written_as_it_is_read(text: str) -> None:
    assert size_text(sizes(text)[0]) == text
