"""What the deliveries table says: how many there are by state, and which of them need a person.

Plain Python and Parquet, without DuckDB: `ordertrail status` must answer at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

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
)  # fmt: skip
"""The columns of a delivery that needs a person."""

NEEDED = tuple(dict.fromkeys((*DETAILS, "sha256", "loaded_at")))
"""All columns that `delivered` asks for."""


# Plain texts: a member of an enumeration takes three times as long to compare, 100,000 times.
_LOADED = State.LOADED.value
_SET_ASIDE = frozenset(state.value for state in SET_ASIDE)


@dataclass(frozen=True, slots=True)
class SetAside:
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


@dataclass(frozen=True, slots=True)
class Delivered:
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
    states: Sequence[str], batches: Sequence[int], contents: Callable[[], tuple[Sequence[str], Sequence[str]]]
) -> list[int]:
    """The deliveries that need a person, by their place.

    A delivery that is quarantined or held is open until the same bytes of the same vendor are `loaded` in its own batch
    or a later one. Every other state is closed: a person decided, or nothing has to be done.

    Args:
        states: Of all deliveries.
        batches: Of all deliveries, in the same order.
        contents: Returns vendors and SHA-256s of all deliveries in this order; called only when any is set aside.
    """
    found = [place for place, state in enumerate(states) if state in _SET_ASIDE]
    if not found:
        return []
    vendors, hashes = contents()
    wanted = {hashes[place] for place in found}
    loaded: dict[tuple[str, str], int] = {}
    for place in [place for place, sha256 in enumerate(hashes) if sha256 in wanted]:
        if states[place] == _LOADED:
            content = vendors[place], hashes[place]
            loaded[content] = max(batches[place], loaded.get(content, 0))
    return [place for place in found if loaded.get((vendors[place], hashes[place]), -1) < batches[place]]


def delivered(columns: Columns) -> Delivered:
    """Summarise the deliveries.

    Args:
        columns: Reads the table.
    """
    from ordertrail.arrow import few_texts

    table = columns(("state", "batch"))
    states: list[str] = few_texts(table["state"])  # type: ignore[assignment]
    batches: list[int] = table["batch"].to_pylist()

    def contents() -> tuple[Sequence[str], Sequence[str]]:
        found = columns(("vendor", "sha256"))
        return few_texts(found["vendor"]), found["sha256"].to_pylist()  # type: ignore[return-value]

    places = open_places(states, batches, contents)
    loaded = [place for place, state in enumerate(states) if state == _LOADED]
    last = max(loaded, key=batches.__getitem__, default=None)
    loaded_at = None if last is None else columns(("loaded_at",))["loaded_at"][last].as_py()
    counts = Counter(states)
    return Delivered(
        states={str(state): counts[state] for state in State if state in counts},
        last_loaded_at=None if loaded_at is None else loaded_at.astimezone(UTC),
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


def _set_aside(table: pa.Table, places: Sequence[int]) -> Iterator[SetAside]:
    # Row by row: what takes rows by their places is in `pyarrow.compute`, whose import costs more than some rows.
    found, first, left = [], 0, list(reversed(places))
    for batch in table.to_batches():
        while left and left[-1] < first + batch.num_rows:
            found += batch.slice(left.pop() - first, 1).to_pylist()
        first += batch.num_rows
    for row in sorted(found, key=lambda one: str(one["delivery_id"]), reverse=True):
        since = row.pop("discovered_at")
        yield SetAside(**row, since=None if since is None else since.astimezone(UTC))


def columns_in(snapshot: Snapshot) -> Columns:
    """The columns of the deliveries table in its folder; raises as `delta.columns.columns_in`."""
    return columns_of(snapshot, DELIVERIES)


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
