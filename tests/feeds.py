"""Random small feeds that walk into every trap of the order rules, and random ways for them to arrive.

Keys, times, contents and file dates come from pools of two to four values, so that ties, repeats and late rows
are the rule and not the exception. `feeds()` gives the files, `batchings(files)` a way for them to arrive.
Load them with `FEED_VENDORS`, `FEED_LIMITS` and the default contract.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.model import Vendor

FEED_VENDORS = (
    Vendor("acme", "acme/*.csv"),
    Vendor("blue", "blue/*.csv", absent=("address",), rows="newest_first"),
)
# Half a small file may be bad, so that good rows beside bad ones are met often, and quarantined files as well.
FEED_LIMITS = {"max_reject_share": 0.5, "min_rejects": 2}
MAX_FILES = 6
MAX_ROWS = 6

Cells = tuple[str, ...]
Batches = tuple[tuple["FeedFile", ...], ...]

DAY_ONE = datetime(2026, 11, 20, tzinfo=UTC)
DAYS = (20, 21, 22)
HEADER = (
    "order_num",
    "tracking_num",
    "pck_recieved_date",
    "package_deliver_date",
    "status",
    "address",
    "last_update_timestamp",
)
OTHER_HEADER = ("ORDER NUM", "Tracking_Num", "PckRecievedDate", "Package Deliver Date", "Status", "ADDRESS", HEADER[6])
KEYS = ("007", "B")
TIMES = ("2026-11-20 08:00:00", "2026-11-20T09:00:00Z", "2026-11-20 08:00:00.000001", "2026-11-21 08:00:00")
LATE_TIME = "2026-11-22 12:00:00"  # more than 48 h beyond a file of the 20th: a reject there, a row elsewhere
STATUSES = ("IN_TRANSIT", "DELIVERED", "PICKED_UP", "", "LOST")
ADDRESSES = ("X", "Y", "", 'Main "St", 1\nMünchen')
TIE_TIME = TIMES[0]
BAD_ROWS: tuple[Cells, ...] = (
    ("1", "007", "2026-02-30", "", "IN_TRANSIT", "X", TIMES[0]),  # a day that does not exist
    ("1", "", "", "", "IN_TRANSIT", "X", TIMES[0]),  # no key
    ("1", "  ", "", "", "IN_TRANSIT", "X", TIMES[0]),  # a blank key
    ("1", "1.23E+11", "", "", "IN_TRANSIT", "X", TIMES[0]),  # a key that a spreadsheet damaged
    ("1", "007", "", "", "IN_TRANSIT", "X", ""),  # no event time
    ("1", "007", "", "", "IN_TRANSIT", "X", "yesterday"),  # no usable event time
    ("1", "007", "", "", "IN_TRANSIT", "X", "2027-01-01 00:00:00"),  # in the future
    ("1", "007", "", "", "IN_TRANSIT"),  # too few fields
    ("1", "007", "", "", "IN_TRANSIT", "X", TIMES[0], "more"),  # too many fields
)


class FeedFile(Struct, frozen=True):
    """One file of a feed. Path and modification time belong to the file: they are the same whenever it comes.

    Attributes:
        path: Below the source folder.
        content: All bytes.
        mtime_ns: Modification time, nanoseconds since 1970.
    """

    path: str
    content: bytes
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are written: which header, which order of the columns, which line ends, what beside the rows."""

    header: Cells = HEADER
    order: tuple[int, ...] = tuple(range(len(HEADER)))
    extra: str | None = None
    line_end: str = "\n"
    blank_line: bool = False


PLAIN = Layout()
LAYOUTS = (
    PLAIN,
    Layout(header=OTHER_HEADER, order=(6, 1, 0, 2, 3, 5, 4)),
    Layout(extra="carrier note"),
    Layout(line_end="\r\n", blank_line=True),
)
NO_ADDRESS = Layout(order=(0, 1, 2, 3, 4, 6))


def csv_bytes(rows: Sequence[Cells], layout: Layout = PLAIN) -> bytes:
    """A CSV file in UTF-8. A row that has not one cell a contract column is written as it is: ragged."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=layout.line_end)
    note = () if layout.extra is None else (layout.extra,)
    writer.writerow([*(layout.header[i] for i in layout.order), *note])
    for number, row in enumerate(rows):
        if layout.blank_line and number == 1:
            out.write(" " + layout.line_end)
        if len(row) == len(HEADER):
            writer.writerow([*(row[i] for i in layout.order), *note])
        else:
            writer.writerow(row)
    return out.getvalue().encode()


def cells(key: str, time: str, status: str = "IN_TRANSIT", address: str = "X") -> Cells:
    """The cells of a row in the contract's order."""
    return (f"O{key}", key, "2026-11-19", "", status, address, time)


good_rows: st.SearchStrategy[Cells] = st.builds(
    cells,
    st.sampled_from(KEYS),
    st.sampled_from((*TIMES, LATE_TIME)),
    st.sampled_from(STATUSES),
    st.sampled_from(ADDRESSES),
)
# One row in five or so is bad; it shrinks to a good one.
any_rows: st.SearchStrategy[Cells] = st.integers(0, 4).flatmap(
    lambda n: st.sampled_from(BAD_ROWS) if n == 4 else good_rows
)
vendors: st.SearchStrategy[str] = st.sampled_from(("acme", "blue"))
days: st.SearchStrategy[int] = st.sampled_from(DAYS)
layouts: st.SearchStrategy[Layout] = st.sampled_from(LAYOUTS)
# Hours, and a part of a millisecond that the total order must not see.
mtimes: st.SearchStrategy[int] = st.builds(
    lambda hour, rest_ns: int((DAY_ONE + timedelta(hours=hour)).timestamp()) * 10**9 + rest_ns,
    st.sampled_from((0, 1, 24, 48)),
    st.sampled_from((0, 123_456, 2_000_000)),
)


def dated(day: int, part: str = "") -> str:
    """A file name with a date, as the feed has it."""
    return f"order_tracking_2026_11_{day}{part}.csv"


names: st.SearchStrategy[str] = st.one_of(
    st.builds(dated, days, st.sampled_from(("", "_b"))),
    st.sampled_from(("updates.csv", "latest.csv", "a_2026_02_30.csv", "x-2026-11-21.csv", "20261122.csv")),
)


@st.composite
def one_file(draw: st.DrawFn) -> list[FeedFile]:
    """Any rows under any name."""
    rows = draw(st.lists(any_rows, max_size=MAX_ROWS))
    return [FeedFile(f"{draw(vendors)}/{draw(names)}", csv_bytes(rows, draw(layouts)), draw(mtimes))]


@st.composite
def repeats_in_a_file(draw: st.DrawFn) -> list[FeedFile]:
    """Exact repeats of rows within a file, also with others between them."""
    rows = draw(st.lists(good_rows, min_size=1, max_size=MAX_ROWS // 2))
    again = draw(st.permutations(rows))
    return [FeedFile(f"{draw(vendors)}/{draw(names)}", csv_bytes([*rows, *again]), draw(mtimes))]


@st.composite
def there_and_back(draw: st.DrawFn) -> list[FeedFile]:
    """One key, one time, one vendor: file 1 says X, file 2 says Y, file 3 says X again."""
    key, vendor, mtime_ns = draw(st.sampled_from(KEYS)), draw(vendors), draw(mtimes)
    x, y = draw(
        st.lists(st.tuples(st.sampled_from(STATUSES), st.sampled_from(ADDRESSES)), min_size=2, max_size=2, unique=True)
    )
    rows = [cells(key, TIE_TIME, *content) for content in (x, y, x)]
    # The third file's bytes differ from the first's, or not: then it is also the same file under a later name.
    other = [cells("Z", TIMES[3])] if draw(st.booleans()) else []
    contents = [csv_bytes([rows[0]]), csv_bytes([rows[1]]), csv_bytes([rows[2], *other])]
    return [FeedFile(f"{vendor}/{dated(day)}", c, mtime_ns) for day, c in zip(DAYS, contents, strict=True)]


@st.composite
def correction(draw: st.DrawFn) -> list[FeedFile]:
    """The same key and time again in a later file, with other content; sometimes the path is the same too."""
    key, vendor, mtime_ns = draw(st.sampled_from(KEYS)), draw(vendors), draw(mtimes)
    first, second = (csv_bytes([draw(good_rows.map(lambda row: (row[0], key, *row[2:6], TIE_TIME)))]) for _ in range(2))
    if draw(st.booleans()):
        return [
            FeedFile(f"{vendor}/updates.csv", first, mtime_ns),
            FeedFile(f"{vendor}/updates.csv", second, mtime_ns + 5_000_000),
        ]
    return [FeedFile(f"{vendor}/{dated(day)}", c, mtime_ns) for day, c in ((20, first), (21, second))]


@st.composite
def cumulative(draw: st.DrawFn) -> list[FeedFile]:
    """Daily files that hold everything since the first day."""
    vendor, layout, mtime_ns = draw(vendors), draw(layouts), draw(mtimes)
    news = draw(st.lists(st.lists(good_rows, max_size=2), min_size=2, max_size=3))
    so_far = [[row for rows in news[: n + 1] for row in rows] for n in range(len(news))]
    return [
        FeedFile(f"{vendor}/{dated(day)}", csv_bytes(rows, layout), mtime_ns)
        for day, rows in zip(DAYS, so_far, strict=False)
    ]


@st.composite
def one_name_of_two_vendors(draw: st.DrawFn) -> list[FeedFile]:
    """Two vendors send a file of the same name, with the same bytes or with others."""
    name, mtime_ns = draw(names), draw(mtimes)
    first = csv_bytes(draw(st.lists(good_rows, min_size=1, max_size=2)))
    second = first if draw(st.booleans()) else csv_bytes(draw(st.lists(good_rows, min_size=1, max_size=2)))
    return [FeedFile(f"acme/{name}", first, mtime_ns), FeedFile(f"blue/{name}", second, mtime_ns)]


@st.composite
def status_goes_back(draw: st.DrawFn) -> list[FeedFile]:
    """A later event with a lower status, and the late old one after it; or both at one time, where the rank decides."""
    key, vendor, mtime_ns = draw(st.sampled_from(KEYS)), draw(vendors), draw(mtimes)
    later = draw(st.sampled_from((TIMES[3], TIE_TIME)))
    rows = [cells(key, TIE_TIME, "DELIVERED"), cells(key, later, "PICKED_UP")]
    if draw(st.booleans()):
        return [FeedFile(f"{vendor}/{dated(21)}", csv_bytes(rows), mtime_ns)]
    return [
        FeedFile(f"{vendor}/{dated(day)}", csv_bytes([row]), mtime_ns) for day, row in zip((22, 20), rows, strict=True)
    ]


@st.composite
def without_address(draw: st.DrawFn) -> list[FeedFile]:
    """A file of `blue`, whose profile lists `address` as absent, that does not carry it."""
    rows = draw(st.lists(good_rows, min_size=1, max_size=2))
    return [FeedFile(f"blue/{draw(names)}", csv_bytes(rows, NO_ADDRESS), draw(mtimes))]


@st.composite
def address_kept(draw: st.DrawFn) -> list[FeedFile]:
    """A file of `blue`, then one that lacks `address` and else says the same: together they change nothing."""
    row = draw(good_rows)
    contents, mtime_ns = (csv_bytes([row]), csv_bytes([row], NO_ADDRESS)), draw(mtimes)
    return [FeedFile(f"blue/{dated(day)}", c, mtime_ns) for day, c in zip(DAYS, contents, strict=False)]


@st.composite
def no_rows(draw: st.DrawFn) -> list[FeedFile]:
    """Zero bytes, or only a header."""
    return [FeedFile(f"{draw(vendors)}/{draw(names)}", draw(st.sampled_from((b"", csv_bytes([])))), draw(mtimes))]


@st.composite
def feeds(draw: st.DrawFn, *, absent: bool = False) -> tuple[FeedFile, ...]:
    """One to six small files full of traps, no two of them the same file.

    Args:
        draw: Hypothesis gives it.
        absent: Also files of `blue` that do not carry `address`.

    Returns:
        The files in the order they were thought of; paths may repeat, with other bytes or another time.
    """
    parts: list[Callable[[], st.SearchStrategy[list[FeedFile]]]] = [
        one_file,
        correction,
        there_and_back,
        there_and_back,
        cumulative,
        one_name_of_two_vendors,
        status_goes_back,
        repeats_in_a_file,
        no_rows,
    ]
    if absent:
        parts += [without_address, address_kept, address_kept]
    drawn = draw(st.lists(st.one_of([part() for part in parts]), min_size=1, max_size=4))
    files = [file for part in drawn for file in part]
    if draw(st.booleans()):
        original = draw(st.sampled_from(files))
        files.insert(0, replace(original, path=f"{original.path.partition('/')[0]}/{draw(names)}"))
    return tuple(dict.fromkeys(files))[:MAX_FILES]


@st.composite
def batchings(draw: st.DrawFn, files: Sequence[FeedFile]) -> Batches:
    """A way for the files to arrive: any order, any batches, some of them once more.

    Args:
        draw: Hypothesis gives it.
        files: Of one feed.

    Returns:
        Batches in the order of arrival. No batch is empty, and none holds a path twice: they are written to one
        folder. Shrinks to a single batch in the order given, without repeats.
    """
    again = draw(st.lists(st.sampled_from(list(files)), max_size=2)) if files else []
    order = draw(st.permutations([*files, *again]))
    batches: list[list[FeedFile]] = []
    for file in order:
        apart = draw(st.integers(0, 3)) > 0  # mostly on its own: the worst traps need three batches
        if not batches or apart or any(file.path == other.path for other in batches[-1]):
            batches.append([])
        batches[-1].append(file)
    return tuple(tuple(batch) for batch in batches)


def write_files(source: Path, files: Sequence[FeedFile]) -> None:
    """Lay files into a source folder, with their own modification times."""
    for file in files:
        path = source / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        os.utime(path, ns=(file.mtime_ns, file.mtime_ns))
