"""Read a delivery as numbered records: the one file that came, or all texts that are packed in it, one after the other.

Every reader of vendor files goes through here: passes, plans, corrections and rebuilds see the same records.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import BinaryIO

from ordertrail.errors import QuarantineError
from ordertrail.model import Contract, Vendor
from ordertrail.parse.records import RecordBlock, RecordReader
from ordertrail.parse.unpacking import Member, members
from ordertrail.rules.header_lines import explained, header_rule
from ordertrail.rules.headers import Layout, listed, map_header, max_columns


class DeliveryReader:
    """The records of one delivery, in blocks, in order.

    Record numbers and lines count on from one member of an archive to the next; each member begins a new line.

    Args:
        stream: Positioned at the file's first byte; read once, to its end.
        vendor: Who sent it: how it is packed and written.
        contract: What it is read for; bounds the width of its header.
        pool: Cuts blocks in parallel; None cuts in the caller's thread.
        raw: Whether to return the text of every record, and the broken records.
    """

    def __init__(
        self, stream: BinaryIO, vendor: Vendor, contract: Contract, *, pool: Executor | None = None, raw: bool = False
    ) -> None:
        self._vendor = vendor
        self._contract = contract
        self._pool = pool
        self._raw = raw
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
        return None

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

    def blocks(self, width: int) -> Iterator[RecordBlock]:
        """All records after the header, of all members.

        Args:
            width: Number of header cells.

        Raises:
            QuarantineError: A text cannot be unpacked or decoded, a record is too long, or a member has another header
                than the first one.
        """
        reader, base = self._reader, 0
        if reader is None:
            return
        for block in reader.blocks(width):
            base += block.records
            yield block
        for member in self._members:
            reader = self._records(member, reader.next_line)
            header = reader.header()
            if header is None:
                continue
            if header != self._header:
                raise QuarantineError(
                    f"the member {member.name!r} has another header than {self._name!r}: {listed(header)}",
                    rule="header",
                    hint="members of one archive are parts of one table: ask the vendor to pack others apart",
                )
            for block in reader.blocks(width, base):
                base += block.records
                yield block

    def _records(self, member: Member, line: int) -> RecordReader:
        vendor = self._vendor
        return RecordReader(
            member.stream,
            delimiter=vendor.delimiter,
            quote=vendor.quote,
            encoding=vendor.encoding,
            pool=self._pool,
            raw=self._raw,
            max_columns=max_columns(self._contract),
            line=line,
            rule=self._rule,
        )
