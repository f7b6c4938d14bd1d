"""Collect, block by block, what speaks against the rows of a file although they meet the contract."""

from __future__ import annotations

from ordertrail.parse.records import RecordBlock
from ordertrail.parse.swallowing import Swallowed
from ordertrail.rules.doubts import swallowed_text


class FileDoubts:
    """The doubts about one file."""

    def __init__(self) -> None:
        self._swallowed: Swallowed | None = None

    def see(self, block: RecordBlock) -> None:
        """Look at the next block of the file."""
        if (found := block.swallowed) is not None:
            before = self._swallowed
            self._swallowed = Swallowed(before.line, before.lines + found.lines) if before else found

    def texts(self) -> tuple[str, ...]:
        """What was found, in plain words."""
        found = self._swallowed
        return () if found is None else (swallowed_text(found.line, found.lines),)
