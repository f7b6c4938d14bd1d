"""Read a delivery as numbered records: the one file that came, or all texts that are packed in it, one after the other.

Every reader of vendor files goes through here: passes, plans, corrections and rebuilds see the same records.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import BinaryIO

from ordertrail.errors import QuarantineError
from ordertrail.model import Contract, Vendor
from ordertrail.parse.records import RecordBlock, RecordReader, Written
from ordertrail.parse.trailer import Trailer
from ordertrail.parse.unpacking import Member, members
from ordertrail.rules.header_lines import explained, header_rule
from ordertrail.rules.headers import Layout, listed, map_header, max_columns, needed_places


class DeliveryReader:
    """The records of one delivery, in blocks, in order.

    Record numbers and lines count on from one member of an archive to the next; each member begins a new line.

    Args:
        stream: Positioned at the file's first byte; read once, to its end.
        vendor: Who sent it: how it is packed and written.
        contract: What it is read for; bounds the width of its header.
        pool: Cuts blocks in parallel; None cuts in the caller's thread.
        raw: Whether to return the text of every record, and the broken records.
        trailers: Whether a trailer that is missing, or tells another number of rows, or a last line without a line end
            that should have one, is an error.
    """

    def __init__(
        self,
        stream: BinaryIO,
        vendor: Vendor,
        contract: Contract,
        *,
        pool: Executor | None = None,
        raw: bool = False,
        trailers: bool = True,
    ) -> None:
        self._vendor = vendor
        self._contract = contract
        self._pool = pool
        self._raw = raw
        self._trailers = trailers
        self._lines_skipped = 0
        self._rule = header_rule(contract, vendor)
        self._members = members(stream, vendor)
        self._name = ""
        self._header: tuple[str, ...] | None = None
        self._reader: RecordReader | None = None

    @property
    def found(self) -> tuple[str, ...]:
        """The header, once it was read; empty before."""
        return self._header or ()

    def header(self) -> tuple[str, ...] | None:
        """Read the header, once, before `blocks`.

        Returns:
            Its cells, stripped of white space, or None when there is no record at all.

        Raises:
            QuarantineError: The file is no text, or its header cannot be read or has too many cells.
        """
        line = 1
        for member in self._members:
            reader = self._records(member, line)
            header = reader.header()
            if header is not None:
                self._name, self._header, self._reader = member.name, header, reader
                return header
            line = reader.next_line
            self._lines_skipped += reader.lines_skipped
        return None

    @property
    def lines_skipped(self) -> int:
        """How many lines are no rows, but neither a header nor blank, once all was read."""
        return self._lines_skipped + (0 if self._reader is None else self._reader.lines_skipped)

    def layout(self) -> Layout | None:
        """Read the header, once, before `blocks`, and map it to the contract.

        Returns:
            Where the contract's columns stand; None when there is no record at all.

        Raises:
            QuarantineError: As of `header`; or the header does not fit the contract: the error names the cause and the
                setting to write, where the file's first lines tell.
        """
        header = self.header()
        if header is None or self._reader is None:
            return None
        try:
            return map_header(header, self._contract, self._vendor)
        except QuarantineError as error:
            raise explained(error, self._reader.head, self._contract, self._vendor) from None

    def blocks(self) -> Iterator[RecordBlock]:
        """All records after the header, of all members.

        Raises:
            QuarantineError: A text cannot be unpacked or decoded, a record is too long, or a member has another header
                than the first one.
        """
        base = 0
        if self._reader is None:
            return
        needed = needed_places(self.found, self._contract, self._vendor) if self._vendor.continuation_lines else ()
        for block in self._reader.blocks(needed=needed):
            base += block.records
            self._lines_skipped += block.skipped
            yield block
        for member in self._members:
            self._lines_skipped += self._reader.lines_skipped
            self._reader = self._records(member, self._reader.next_line)
            header = self._reader.header()
            if header is None:
                continue
            if header != self._header:
                raise QuarantineError(
                    f"the member {member.name!r} has another header than {self._name!r}: {listed(header)}",
                    rule="header",
                    hint="members of one archive are parts of one table: ask the vendor to pack others apart",
                )
            for block in self._reader.blocks(base, needed):
                base += block.records
                self._lines_skipped += block.skipped
                yield block

    def _records(self, member: Member, line: int) -> RecordReader:
        vendor = self._vendor
        written = Written(
            delimiter=vendor.delimiter,
            quote=vendor.quote,
            escape=vendor.escape,
            encoding=vendor.encoding,
            max_columns=max_columns(self._contract),
            rule=self._rule,
            trailer=None if vendor.trailer is None else Trailer(vendor.trailer, judged=self._trailers),
            newlines=vendor.newlines_in_cells,
            fill=vendor.short_rows == "fill",
            widths=vendor.widths,
            final_newline=vendor.final_newline and self._trailers,
        )
        return RecordReader(member.stream, written, pool=self._pool, raw=self._raw, line=line)
