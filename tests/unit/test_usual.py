"""What a vendor's files usually bring, by the last ones that were loaded."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from ordertrail.look.usual import LOOKED_AT, NEEDED, Asked, Usual, usual_of


def row(vendor: str, batch: int, state: str = "loaded", **rows: int) -> dict[str, object]:
    return (
        dict.fromkeys(NEEDED, 0)
        | {"vendor": vendor, "batch": batch, "state": state}
        | {f"rows_{name}": count for name, count in rows.items()}
    )


LEDGER = [
    row("acme", 1, parsed=100, inserted=100),
    row("blue", 1, parsed=7, unchanged=7),
    row("acme", 3, parsed=100, rejected=20, updated=30, stale=10, superseded=30, duplicate=10),
    row("acme", 4, "quarantined", parsed=1000),
    row("acme", 5, "undone", parsed=50, inserted=50),
    row("acme", 6, parsed=300, rejected=300),
    row("acme", 2, parsed=100, inserted=10, updated=50, superseded=40),
]


def asked(ledger: Sequence[dict[str, object]], *wanted: Asked) -> dict[Asked, Usual]:
    table = pa.Table.from_pylist(list(ledger))
    return usual_of(lambda names: table.select(list(names)), wanted)


def test_shipments_are_counted_of_loaded_files_that_have_any() -> None:
    found = asked(LEDGER, ("acme", None), ("acme", 3), ("blue", None), ("blue", 1), ("new", None))
    assert found == {
        ("acme", None): Usual(100, 60, 200 / 280),
        ("acme", 3): Usual(100, 80, 160 / 200),
        ("blue", None): Usual(7, 7, 1.0),
    }


def test_the_last_files_count_whatever_their_order_in_the_table() -> None:
    old = [row("acme", batch, parsed=9, inserted=9) for batch in range(50)]
    new = [row("acme", 100 + batch, parsed=4, inserted=1, superseded=3) for batch in range(LOOKED_AT)]
    assert asked([*new, *old], ("acme", None)) == {("acme", None): Usual(4, 1, 0.25)}


@pytest.mark.parametrize(("rows", "shipments"), [(1, 1), (2, 1), (100, 25), (101, 25)])
def test_some_rows_are_of_about_so_many_shipments(rows: int, shipments: int) -> None:
    assert Usual(4, 1, 0.25).shipments_in(rows) == shipments


def test_nothing_is_read_where_nothing_is_asked() -> None:
    def columns(names: Sequence[str]) -> pa.Table:
        raise AssertionError(names)

    assert usual_of(columns, ()) == {}
