"""Reads the sorted terms of one run of the search cache: one row group for a search, without a query.

DuckDB plans a query and looks at the statistics of every row group, 6 ms for a run of 10 million terms. Here the first
term of each row group is kept, and the group that a term must be in is unpacked by Arrow in 2 ms, half of which is for
the footer: it is not kept, for as objects it is 3 MB of each such run.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ordertrail.errors import StorageError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

COLUMNS = ("term", "file", "row")
"""The columns of a run: the term, the number of the data file in the run's note, the row in that file, 0 = first."""

_AT_ONCE = 256


class SortedTerms:
    """The terms in a file. Threads may share it.

    Args:
        path: A Parquet file with `COLUMNS`, in ascending order of the terms, byte by byte.
        footer: Of the file.
    """

    def __init__(self, path: Path, footer: pq.FileMetaData) -> None:
        self._path = path
        self._least = _least(footer)

    def between(self, span: tuple[str, str]) -> Iterator[tuple[str, int, int]]:
        """The terms of a span with file and row, in order. Only what is asked for is read.

        Args:
            span: The first text, and the first one behind it.

        Raises:
            StorageError: The file is gone or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        first, end = span
        try:
            with pq.ParquetFile(self._path) as file:
                group = max(bisect_left(self._least, first) - 1, 0)
                terms, rest = _group(file, group)
                # What the statistics call the least may only be less than it: then the span begins further up.
                while group and terms[0].as_py() >= first:
                    group -= 1
                    terms, rest = _group(file, group)
                while True:
                    start, stop = _place(terms, first), _place(terms, end)
                    for at in range(start, stop, _AT_ONCE):
                        most = min(_AT_ONCE, stop - at)
                        yield from zip(*(column.slice(at, most).to_pylist() for column in (terms, *rest)), strict=True)
                    group += 1
                    if stop < len(terms) or group == len(self._least):
                        return
                    terms, rest = _group(file, group)
        except (OSError, pa.ArrowException, LookupError) as error:
            raise StorageError(f"{self._path} cannot be read: {error}", hint="it may be deleted") from error


def _least(footer: pq.FileMetaData) -> list[str]:
    """For each row group a text that is not greater than its first term; ascending."""
    found, last = list[str](), ""
    for group in range(footer.num_row_groups):
        statistics = footer.row_group(group).column(0).statistics
        with suppress(UnicodeDecodeError):  # cut in the middle of a character
            last = statistics.min if statistics is not None and statistics.has_min_max else last
        found.append(last)
    return found


def _group(file: pq.ParquetFile, group: int) -> tuple[Any, Sequence[Any]]:
    table = file.read_row_group(group, columns=list(COLUMNS), use_threads=False)
    terms, *rest = (table[name].combine_chunks() for name in COLUMNS)
    if not len(terms):
        raise LookupError("a row group is empty")
    return terms, rest


def _place(terms: Any, text: str) -> int:  # noqa: ANN401 - pyarrow has no types
    """The place of the first term that is not less than a text."""
    low, high = 0, len(terms)
    while low < high:
        middle = (low + high) // 2
        if terms[middle].as_py() < text:
            low = middle + 1
        else:
            high = middle
    return low
