"""What a file must meet: the contract of its rows, the profile of its vendor, the limits of a delivery."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

UnknownColumns = Literal["strict", "rescue", "add"]
"""What happens to columns of a file that the contract does not know."""

Compression = Literal["auto", "none"]
"""Whether packed files are unpacked, by their first bytes."""


RowOrder = Literal["oldest_first", "newest_first"]
"""How the rows of a file follow each other in time."""

ShortRows = Literal["reject", "fill"]
"""What a row is that has fewer cells than the header."""

KeyCase = Literal["keep", "upper"]
"""How the letters of a key are stored."""


class Column(Struct, frozen=True):
    """One column of the contract.

    Attributes:
        name: The column's name in the tables.
        type: `string`, `bigint`, `int`, `double`, `decimal(p,s)`, `boolean`, `date` or `timestamp`.
        required: A row whose cell is empty is rejected.
        formats: strptime patterns tried in turn after ISO 8601; dates and timestamps only.
        identifier: Whether text is a number of something: what nobody sees is taken off, and text damaged by a
            spreadsheet (`1.23E+11`) is rejected; always on for the key.
        pattern: A regular expression (RE2) that the whole text must match; strings only.
        min: Smallest value allowed, inclusive, written as it would be in a file.
        max: Largest value allowed, inclusive, written as it would be in a file.
        allowed: The values allowed; empty allows all.
        was: Earlier names of the column; headers may still use them.
        added: The header that first brought it, of a column that the tables got from files; "" for one of the config.
        trim: Whether blanks around a text are taken off; identifiers are always trimmed.
        nulls: Texts that mean no value, whoever sends them.
    """

    name: str
    type: str
    required: bool = False
    formats: tuple[str, ...] = ()
    identifier: bool = False
    pattern: str | None = None
    min: str | None = None
    max: str | None = None
    allowed: tuple[str, ...] = ()
    was: tuple[str, ...] = ()
    added: str = ""
    trim: bool = True
    nulls: tuple[str, ...] = ()


class Contract(Struct, frozen=True):
    """The columns, types, key and ordering that a row must meet.

    Attributes:
        columns: In table order; names are unique without regard to case, spaces and underscores.
        key: Names of the key columns, at least one.
        order_by: Name of the timestamp column that orders the rows of a key.
        status: Name of the status column, or None.
        status_rank: Statuses from first to last; a status not listed ranks -1, NULL -2.
        unknown_columns: All others: `strict` quarantines the file, `rescue` keeps them in `_rescued`, `add` adds them.
        max_future_s: A row whose event time is more than this after the file key is rejected, in seconds.
        max_added_columns: How many columns `add` may add in all.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order_by: str
    status: str | None
    status_rank: tuple[str, ...]
    unknown_columns: UnknownColumns = "rescue"
    max_future_s: int = 48 * 3600
    max_added_columns: int = 100

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in table order."""
        return tuple(column.name for column in self.columns)


class Vendor(Struct, frozen=True):
    """Who sends files, and how they look.

    Attributes:
        name: The vendor's name.
        files: A glob below the source folder; `*` stops at `/`, `**` does not.
        delimiter: One character or several.
        quote: One ASCII character; "" for files without quoting.
        escape: One ASCII character that takes from a quote, a delimiter or itself what it means; "" for none.
        encoding: Python codec of files without a byte order mark; None means strict UTF-8.
        timezone: IANA zone of timestamps without an offset.
        zones: For the name of a zone that `%Z` in a pattern reads, in any case, its offset such as `-05:00`.
        aliases: For a contract column, other header names the vendor uses.
        status_map: For a status as sent, the status to store.
        absent: Contract columns that this vendor never sends.
        formats: For a contract column, strptime patterns in place of the contract's.
        file_date: strptime pattern of the date in a file's name; None takes `yyyy_mm_dd`, `yyyy-mm-dd`, `yyyymmdd`.
        skip_lines: How many lines are above the header, or above the first row; None looks for the header.
        header: Whether files have one.
        columns: What stands in for the header of files without one.
        trailer: What the last lines look like that are no rows, a regular expression; its group `rows` tells how many
            rows there are. None for files without a trailer.
        compression: `auto` unpacks gzip files and zip archives, `none` quarantines them.
        max_unpacked_mb: What an archive may unpack to, in MB.
        nulls: Texts that mean no value, in every column.
        key_case: Whether text keys are stored in upper case.
        key_strip: Characters that are taken out of text keys.
        decimal: What stands before the decimals of numbers, `.` or `,`.
        thousands: What stands between the thousands of numbers; "" for nothing.
        true_words: What a boolean column has for true, in any case; empty for `true`, `yes`, `1` and their like.
        false_words: The same for false.
        combine: For a contract column, the headers whose cells make it, with a blank between them.
        constants: For a contract column that no file of the vendor carries, its value.
        from_name: Regular expression whose named groups are contract columns that the file's name tells.
        newlines_in_cells: Whether quoted cells may hold line ends; if not, a quote that its line does not close is a
            reject, and the next line a record of its own.
        short_rows: What a row is that has fewer cells than the header: `reject`, or `fill`: the missing ones are empty.
        widths: Of the columns of files of fixed width, in characters; empty for files with a delimiter.
        rows: Whether the newest row of a file is its last one or its first one; decides between rows of one time.
        continuation_lines: Whether a row without key and event time goes on with the row before, and is none itself.
        manifest: How the file is named with which the vendor says that another one is complete, with `{name}` or
            `{stem}` of that one; None when it sends none. See `rules.sender_manifest`.
        final_newline: Whether a file whose last line has no line end was cut off.
    """

    name: str
    files: str = "*.csv"
    delimiter: str = ","
    quote: str = '"'
    encoding: str | None = None
    timezone: str = "UTC"
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    status_map: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    formats: tuple[tuple[str, tuple[str, ...]], ...] = ()
    file_date: str | None = None
    zones: tuple[tuple[str, str], ...] = ()
    skip_lines: int | None = None
    header: bool = True
    columns: tuple[str, ...] = ()
    escape: str = ""
    trailer: str | None = None
    compression: Compression = "auto"
    max_unpacked_mb: int = 4096
    nulls: tuple[str, ...] = ()
    key_case: KeyCase = "keep"
    key_strip: str = ""
    decimal: str = "."
    thousands: str = ""
    true_words: tuple[str, ...] = ()
    false_words: tuple[str, ...] = ()
    combine: tuple[tuple[str, tuple[str, ...]], ...] = ()
    constants: tuple[tuple[str, str], ...] = ()
    from_name: str | None = None
    newlines_in_cells: bool = True
    short_rows: ShortRows = "reject"
    continuation_lines: bool = False
    manifest: str | None = None
    rows: RowOrder = "oldest_first"
    widths: tuple[int, ...] = ()
    final_newline: bool = False


class Limits(Struct, frozen=True):
    """The limits within which a file is still loaded.

    Attributes:
        max_reject_share: Above this share of rejected rows, 0 to 1, a delivery is quarantined.
        min_rejects: With fewer rejected rows it is not quarantined, unless all rows are rejected or the share is 0.
        max_file_ahead_d: A file whose name says a day more than this after its modification time is held, in days.
        trailers: Whether a file is held whose trailer is missing, or tells another number of rows, or whose last line
            has no line end and should have one.
    """

    max_reject_share: float = 0.2
    min_rejects: int = 5
    max_file_ahead_d: float = 366.0
    trailers: bool = True
