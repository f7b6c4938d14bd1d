"""The last lines of a text that are no rows, and the number of rows that one of them tells."""

from __future__ import annotations

import re

from ordertrail.errors import QuarantineError
from ordertrail.rules.bounds import MAX_SHOWN_CHARS, cut
from ordertrail.rules.dialects import Dialect

TAIL_BYTES = 1 << 16
"""The trailer, and the blank lines after it, lie within this many of a text's last bytes."""

_BLANK = b" \t\r\n"


class Trailer:
    """The trailer of one text.

    Args:
        pattern: A regular expression that is searched in a line; its group `rows`, if it has one, tells their number.
        judged: Whether a missing trailer, or a wrong number, is an error.
    """

    def __init__(self, pattern: str, *, judged: bool) -> None:
        self._pattern = re.compile(pattern)
        self._judged = judged
        self._found = False
        self._told: tuple[str, str] | None = None

    def begins_at(self, data: bytes, dialect: Dialect, *, ended: bool) -> int:
        """Where the trailer begins; before the end of the text is known, where it may begin at the earliest.

        Args:
            data: The last bytes that were read.
            dialect: Whose marks are in them.
            ended: Whether the text ends with them.
        """
        if not ended:
            return max(len(data) - TAIL_BYTES, 0)
        end = len(data)
        while end > len(data) - TAIL_BYTES:
            bare, first = end, max(end - TAIL_BYTES, 0)
            while bare > first and data[bare - 1] in _BLANK:
                bare -= 1
            text = data[max(data.rfind(b"\n", first, bare) + 1, data.rfind(b"\r", first, bare) + 1, first) : bare]
            match = self._pattern.search(dialect.written(text.decode("utf-8", "replace"))) if text else None
            if match is None:
                break
            self._found = True
            if self._told is None and match.groupdict().get("rows") is not None:
                self._told = match["rows"], match.string
            end = bare - len(text)
        return end

    def judge(self, rows: int) -> None:
        """Compare the trailer with the number of rows.

        Raises:
            QuarantineError: Rule `trailer`: it is missing, or tells another number.
        """
        if not self._judged:
            return
        if not self._found:
            raise QuarantineError(
                "the last line is no trailer: the file may have been cut off",
                rule="trailer",
                hint="ask the vendor for the whole file; if this is all, ordertrail release loads it",
            )
        if self._told is not None and _number(self._told[0]) != rows:
            raise QuarantineError(
                f"the trailer {cut(self._told[1], MAX_SHOWN_CHARS)!r} tells {self._told[0]} rows, the file has {rows}",
                rule="trailer",
                hint="ask the vendor for the whole file; if the rows are right, ordertrail release loads them",
            )


def _number(text: str) -> int:
    digits = text.replace(",", "").strip()
    return int(digits) if digits.isdecimal() else -1
