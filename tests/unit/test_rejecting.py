"""A vendor's newest file with many more rejected rows than its files usually have is told, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ordertrail.config import parse_config, template
from ordertrail.look.open_items import Facts, open_items
from ordertrail.look.rejecting import NEEDED, Rejecting, rejecting
from ordertrail.rules.rejecting import unusual_share

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CLEAN = [(0, 1000)] * 20
NOISY = [(50, 1000)] * 18 + [(90, 1000)] * 2


@pytest.mark.parametrize(
    ("rejected", "parsed", "earlier", "usual"),
    [
        (20, 1000, CLEAN, 0.0),
        (19, 1000, CLEAN, None),  # too few rows to wake anybody
        (20, 2000, CLEAN, None),  # 1 % and no more
        (160, 1000, NOISY, 0.05),
        (150, 1000, NOISY, None),
        (500, 1000, CLEAN[:9], None),
        (500, 1000, [*CLEAN[:9], (0, 0)], None),
        (500, 1000, CLEAN[:10], 0.0),
        (0, 0, CLEAN, None),
    ],
)
def test_a_share_is_unusual(rejected: int, parsed: int, earlier: list[tuple[int, int]], usual: float | None) -> None:
    assert unusual_share(rejected, parsed, earlier) == usual


def rows(vendor: str, counts: Sequence[tuple[int, int]], state: str = "loaded") -> list[dict[str, object]]:
    return [
        {
            "vendor": vendor, "state": state, "batch": batch, "rows_parsed": parsed, "rows_rejected": rejected,
            "loaded_at": NOON + timedelta(hours=batch), "file_name": f"{vendor}-{batch}.csv",
        }
        for batch, (rejected, parsed) in enumerate(counts, 1)
    ]  # fmt: skip


def judged(*found: list[dict[str, object]]) -> tuple[Rejecting, ...]:
    table = pa.Table.from_pylist([row for one in found for row in one], schema=SCHEMA)
    return rejecting(lambda names: table.select(list(names)))


TYPES = {
    "batch": pa.int64(),
    "rows_parsed": pa.int64(),
    "rows_rejected": pa.int64(),
    "loaded_at": pa.timestamp("us", "UTC"),
}
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in NEEDED])


def test_the_newest_file_of_each_vendor_is_judged_whatever_the_order_of_the_rows() -> None:
    bad = rows("bad", [*CLEAN, (300, 1000)])
    healed = rows("healed", [*CLEAN, (300, 1000), (0, 1000)])
    undone = [*rows("undone", CLEAN), {**bad[-1], "vendor": "undone", "state": "undone"}]
    found = judged(bad[::-1], healed, rows("new", [(300, 1000)]), undone)
    assert found == (Rejecting("bad", "bad-21.csv", 300, 1000, 0.0, NOON + timedelta(hours=21)),)
    assert judged([]) == ()


def test_it_is_an_open_item_for_a_week() -> None:
    config = parse_config(template(), base=Path("/srv/orders"), environ={})
    (one,) = judged(rows("a b", [*CLEAN, (300, 1000)]))
    (item,) = open_items(config, Facts(rejecting=(one,)), NOON + timedelta(days=7))
    assert (item.kind, item.key, item.severity, item.rows) == ("rejects", "rejects:a b", "warning", 300)
    assert item.text == (
        "300 of 1,000 rows of a b-21.csv of a b are rejected (30.0%), usually none; the other rows are loaded"
    )
    assert item.next == "ordertrail rejects --vendor 'a b'"
    assert open_items(config, Facts(rejecting=(one,)), NOON + timedelta(days=8)) == ()
