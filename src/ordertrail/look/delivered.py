"""What the deliveries table says: how many there are by state, and which of them need a person.

Plain Python and Parquet, without DuckDB: `ordertrail status` must answer at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ordertrail.delta.columns import Columns
from ordertrail.delta.columns import columns_in as columns_of
from ordertrail.delta.snapshot import Snapshot
from ordertrail.model import SET_ASIDE, State
from ordertrail.rules.doubts import doubt_line, doubts_from
from ordertrail.rules.tables import DELIVERIES

if TYPE_CHECKING:
    import pyarrow as pa

DETAILS = (
    "delivery_id", "vendor", "file_name", "batch", "state", "reason", "archived_to", "discovered_at", "rows_parsed",
    "sha256",
)  # fmt: skip
"""The columns of a delivery that needs a person."""

NEEDED = (*DETAILS, "loaded_at")
"""All columns that `delivered` asks for."""


FEW = ("vendor", "state")
"""The columns of a delivery with few distinct texts."""

_LOADED = State.LOADED.value
_SET_ASIDE = frozenset(state.value for state in SET_ASIDE)


class SetAside(Struct, frozen=True):
    """A quarantined or held delivery that needs a person.

    Attributes:
        delivery_id: Its id.
        vendor: Who sent it.
        file_name: The file's name.
        batch: The batch it came in.
        state: `quarantined` or `held`.
        reason: Why it is not loaded.
        archived_to: Where the file is, below the archive folder.
        since: When a pass first read it; aware UTC.
        rows_parsed: Data rows in the file; None when nobody could tell.
        sha256: Of its bytes, in hexadecimal.
    """

    delivery_id: str
    vendor: str
    file_name: str
    batch: int
    state: str
    reason: str | None
    archived_to: str | None
    since: datetime | None
    rows_parsed: int | None = None
    sha256: str = ""


class Delivered(Struct, frozen=True):
    """What the deliveries say.

    Attributes:
        states: How many there are, by state; states without any are left out.
        last_loaded_at: Clock of the last batch that loaded a delivery; aware UTC.
        open: Those that need a person, newest first.
    """

    states: dict[str, int]
    last_loaded_at: datetime | None
    open: tuple[SetAside, ...]


def open_places(
    states: Sequence[str],
    batches: Sequence[int],
    contents: Callable[[Sequence[int]], Mapping[int, tuple[str, str]]],
) -> list[int]:
    """The deliveries that need a person, by their place.

    A delivery that is quarantined or held is open until the same bytes of the same vendor are `loaded` in its own batch
    or a later one. Every other state is closed: a person decided, or nothing has to be done.

    Args:
        states: Of all deliveries.
        batches: Of all deliveries, in the same order.
        contents: Given some places, returns vendor and SHA-256 of the deliveries whose SHA-256 is that of any of these,
            by place; called only when any is set aside.
    """
    found = [place for place, state in enumerate(states) if state in _SET_ASIDE]
    if not found:
        return []
    same = contents(found)
    loaded: dict[tuple[str, str], int] = {}
    for place, content in same.items():
        if states[place] == _LOADED:
            loaded[content] = max(int(batches[place]), loaded.get(content, 0))
    return [place for place in found if loaded.get(same[place], -1) < batches[place]]


def delivered(columns: Columns) -> Delivered:
    """Summarise the deliveries.

    Args:
        columns: Reads the table.
    """
    import numpy as np

    from ordertrail.arrow import NEVER, at_us, coded, integers

    table = columns(("state", "batch"))
    codes, known = coded(table["state"])
    batches = integers(table["batch"], 0)
    # A list of few objects: no row has one of its own.
    states: list[str] = np.array(known, dtype=object)[codes].tolist()

    def contents(places: Sequence[int]) -> dict[int, tuple[str, str]]:
        found = columns(("vendor", "sha256"))
        vendors, names = coded(found["vendor"])
        return {place: (names[vendors[place]], sha256) for place, sha256 in _equal(found["sha256"], places)}

    places = open_places(states, batches, contents)  # type: ignore[arg-type] # an array is as good as a sequence
    loaded = np.flatnonzero(codes == known.index(_LOADED)) if _LOADED in known else ()
    last_us = NEVER
    if len(loaded):
        last = int(loaded[np.argmax(batches[loaded])])
        last_us = integers(columns(("loaded_at",))["loaded_at"].slice(last, 1), NEVER)[0]
    counts = Counter(states)
    return Delivered(
        states={str(state): counts[state] for state in State if state in counts},
        last_loaded_at=at_us(int(last_us)),
        open=tuple(_set_aside(columns(DETAILS), places)) if places else (),
    )


def doubts_in(columns: Columns, most: int) -> tuple[str, ...]:
    """The doubts about the last deliveries that are loaded and have any, newest first, one line each.

    Args:
        columns: Reads the table.
        most: How many deliveries, at most.
    """
    doubts = columns(("doubts",))["doubts"]
    if doubts.null_count == len(doubts):
        return ()
    names = ("delivery_id", "vendor", "file_name", "state", "doubts")
    rows = [row for row in columns(names).to_pylist() if row["doubts"] and row["state"] == _LOADED]
    rows = sorted(rows, key=lambda row: str(row["delivery_id"]), reverse=True)[:most]
    return tuple(
        doubt_line(row["vendor"], row["file_name"], text) for row in rows for text in doubts_from(row["doubts"])
    )


def _equal(texts: pa.ChunkedArray, places: Sequence[int]) -> Iterator[tuple[int, str]]:
    """The texts that are equal to any of those at some places, each with its place."""
    wanted = {texts[place].as_py() for place in places}
    first = 0
    for chunk in texts.chunks:  # a part at a time: all as Python objects would take ten times the memory
        yield from ((place, text) for place, text in enumerate(chunk.to_pylist(), first) if text in wanted)
        first += len(chunk)


def _set_aside(table: pa.Table, places: Sequence[int]) -> Iterator[SetAside]:
    # Row by row: what takes rows by their places is in `pyarrow.compute`, whose import costs more than some rows.
    from ordertrail.arrow import NEVER, at_us, integers

    found: list[dict[str, Any]] = []
    first, left = 0, list(reversed(places))
    for batch in table.to_batches():
        while left and left[-1] < first + batch.num_rows:
            row = batch.slice(left.pop() - first, 1)
            since = at_us(int(integers(row["discovered_at"], NEVER)[0]))
            found.append({"since": since, **row.drop_columns(["discovered_at"]).to_pylist()[0]})
        first += batch.num_rows
    for one in sorted(found, key=lambda one: str(one["delivery_id"]), reverse=True):
        yield SetAside(**one)


def columns_in(snapshot: Snapshot) -> Columns:
    """The columns of the deliveries table in its folder; raises as `delta.columns.columns_in`."""
    return columns_of(snapshot, DELIVERIES, FEW)


def kept_columns(columns: Columns) -> Columns:
    """The same columns, each read once and kept.

    Args:
        columns: Reads them.
    """
    kept: dict[str, pa.ChunkedArray] = {}

    def read(names: Sequence[str]) -> pa.Table:
        import pyarrow as pa

        if missing := [name for name in names if name not in kept]:
            found = columns(missing)
            kept.update(zip(missing, found.columns, strict=True))
        return pa.table({name: kept[name] for name in names})

    return read
