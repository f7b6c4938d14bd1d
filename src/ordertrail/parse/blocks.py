"""Whole records of a file on their way to columns: before they are cut, and after."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from ordertrail.model import Reject
from ordertrail.parse.grammar import Quotes
from ordertrail.parse.swallowing import Swallowed


class Block(Struct, frozen=True):
    """Whole records of a file.

    Attributes:
        data: Their bytes; a record begins at the first one.
        quotes: Offsets of its quotes if it is plain, and of those that open and close cells if it is not.
        line: Number of its first line, for messages.
        lines: How many line ends they have, quoted ones too.
        wrong: Offsets of its malformed lines, ascending; None if it is plain.
        kinds: For each its place in `quoting.MISQUOTED`.
    """

    data: bytes
    quotes: Quotes
    line: int
    wrong: NDArray[np.int64] | None = None
    kinds: NDArray[np.int64] | None = None
    lines: int = 0


class Wrong(Struct, frozen=True):
    """Why a record is not a row: the stable name of the rule, and the reason in plain words."""

    rule: str
    reason: str


class Broken(Struct, frozen=True):
    """Records that are not rows, in order.

    Attributes:
        numbers: The number of each among the records, int64.
        raw: The text of each, line end included; long texts are cut.
        lines: The number of the first line of each in the file, int64.
        kinds: The different reasons.
        kind: For each its index into `kinds`, int64.
    """

    numbers: NDArray[np.int64]
    raw: pa.StringArray
    lines: NDArray[np.int64]
    kinds: tuple[Wrong, ...]
    kind: NDArray[np.int64]

    def rejects(self) -> Iterator[Reject]:
        """These records as rejects."""
        columns = self.numbers.tolist(), self.raw.to_pylist(), self.kind.tolist(), self.lines.tolist()
        for number, raw, kind, line in zip(*columns, strict=True):
            wrong = self.kinds[kind]
            yield Reject(number, None, None, wrong.rule, wrong.reason, raw.rstrip("\r\n"), line)


class Cut(Struct, frozen=True):
    """The result of cutting one block.

    Attributes:
        cells: One text column a header cell, NULL for an empty cell.
        index: The number of each row of `cells` among the block's records, 0 = first.
        raw: The text of each row of `cells`, line end included; None unless it was asked for.
        lines: The number of the first line of each row of `cells` in the file, int64; None when `raw` is None.
        broken: The records that are not rows; None when there are none, or `raw` was not asked for.
        records: Number of records, good and broken.
        skipped: Number of those that are no rows and no faults either: headers again, and nothing but delimiters.
        swallowed: Lines of them that look like records of their own; None when none does.
    """

    cells: pa.RecordBatch
    index: NDArray[np.int64]
    raw: pa.StringArray | None
    lines: NDArray[np.int64] | None
    broken: Broken | None
    records: int
    skipped: int = 0
    swallowed: Swallowed | None = None
