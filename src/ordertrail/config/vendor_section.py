"""`[[vendors]]` of `ordertrail.toml`: every setting of a vendor, with type, default and help."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from ordertrail.config.section import Section, said


class VendorSection(Section, frozen=True, kw_only=True):
    """`[[vendors]]`: who sends files, and how they look."""

    name: Annotated[str, said("The vendor's name, unique.", "acme")]
    files: Annotated[str, said("Glob below the source folder; ** also goes into folders.")] = "*.csv"
    delimiter: Annotated[str, said('Between cells; one character or several, such as "||" or "¦".')] = ","
    quote: Annotated[
        str,
        said('Around cells that hold delimiters or line ends; one ASCII character, or "" for files without quoting.'),
    ] = '"'
    escape: Annotated[
        str,
        said(
            'In front of a quote, a delimiter or itself inside a cell; one ASCII character, or "" where quotes are '
            "doubled instead.",
            "\\",
        ),
    ] = ""
    newlines_in_cells: Annotated[
        bool,
        said(
            "Whether quoted cells may hold line ends. With false, a quote that its own line does not close is a "
            "reject, and the lines below it are read.",
            False,
        ),
    ] = True
    widths: Annotated[
        list[int],
        said(
            "For files of fixed width: how many characters each column has, such as [12, 20, 19]; they have no "
            "delimiter and no quotes then."
        ),
    ] = []
    rows: Annotated[
        str,
        said(
            '"newest_first" where the newest row of a file stands first: of rows with one key and one time, such as '
            'those of a day, the upper one wins then; "oldest_first": the lower one.',
            "newest_first",
        ),
    ] = "oldest_first"
    short_rows: Annotated[
        str,
        said(
            'A row with fewer cells than the header: "reject", or "fill" where empty cells at the end are left away.',
            "fill",
        ),
    ] = "reject"
    continuation_lines: Annotated[
        bool,
        said(
            "Whether a row in which the cells of key and order_by are empty goes on with the row before, as shops "
            "export further items of an order: it is no row, and counted.",
            True,
        ),
    ] = False
    encoding: Annotated[str | None, said("Of files without a byte order mark. Without it: strict UTF-8.", "cp1252")] = (
        None
    )
    skip_lines: Annotated[
        int | None,
        said(
            "How many lines are above the header, or above the first row. Without it the header is the one of the "
            "first 50 lines that names the key and order_by.",
            2,
        ),
    ] = None
    header: Annotated[bool, said("Whether files have a header line; without one, columns says what they hold.")] = True
    columns: Annotated[
        list[str],
        said("For files without a header line: the name of each column, in their order; header = false goes with it."),
    ] = []
    trailer: Annotated[
        str | None,
        said(
            "A regular expression of the last lines that are no rows. Its group rows tells how many rows there are; a "
            "file with another number, or without a trailer, is held.",
            r"^TRL\|(?P<rows>\d+)",
        ),
    ] = None
    final_newline: Annotated[
        bool,
        said(
            "Whether the last line of every file has a line end; a file whose last line has none was cut off, and is "
            "held."
        ),
    ] = False
    manifest: Annotated[
        str | None,
        said(
            "Name of the file with which the vendor says that a file is complete, with {name} of that file, or {stem}, "
            "the name without .csv: JSON, key=value or sha256sum text with rows, bytes, sha256, file; or empty. A file "
            "waits for it, and is held when it says something else.",
            "{name}.manifest.json",
        ),
    ] = None
    compression: Annotated[
        str,
        said('"auto" unpacks gzip files and zip archives, by their first bytes; "none" quarantines them.'),
    ] = "auto"
    max_unpacked_mb: Annotated[
        int, said("An archive that unpacks to more is quarantined, in MB. The ratio to its size is bounded, too.")
    ] = 4096
    nulls: Annotated[
        list[str],
        said(
            "Texts that mean no value, in every column; without any, only the empty cell.", ["N/A", "NULL", "-", "\\N"]
        ),
    ] = []
    key_case: Annotated[str, said('"upper" stores text keys in upper case, "keep" as they came.')] = "keep"
    key_strip: Annotated[str, said("Characters that are taken out of text keys, such as blanks inside.", " -")] = ""
    decimal: Annotated[str, said('What stands before the decimals of numbers: "." or ",".', ",")] = "."
    thousands: Annotated[str, said("What stands between the thousands of numbers: . , ' a blank, or nothing.", ".")] = (
        ""
    )
    true_words: Annotated[
        list[str], said("What boolean columns have for true, in any case; without any: true t yes y 1.", ["ja", "x"])
    ] = []
    false_words: Annotated[
        list[str], said("What boolean columns have for false, in any case; without any: false f no n 0.", ["nein"])
    ] = []
    combine: Annotated[
        dict[str, list[str]],
        said(
            "For a contract column, the headers whose cells make it, with a blank between them.",
            {"last_update_timestamp": ["Scan Date", "Scan Time"]},
        ),
    ] = {}
    constants: Annotated[
        dict[str, str], said("For a contract column that the files do not carry, its value.", {"status": "IN_TRANSIT"})
    ] = {}
    from_name: Annotated[
        str | None,
        said(
            "Regular expression for the file's name; its named groups are contract columns.",
            r"_(?P<order_num>[A-Z]{3}\d+)_",
        ),
    ] = None
    timezone: Annotated[str, said("IANA time zone of timestamps without an offset.", "America/Chicago")] = "UTC"
    zones: Annotated[
        dict[str, str],
        said(
            "For the name of a zone that %Z in a pattern reads, its offset; only UTC, GMT and Z need none.",
            {"EST": "-05:00", "EDT": "-04:00"},
        ),
    ] = {}
    aliases: Annotated[
        dict[str, list[str]],
        said(
            "For a contract column, other header names this vendor uses.", {"tracking_num": ["TrackingNo", "waybill"]}
        ),
    ] = {}
    status_map: Annotated[
        dict[str, str], said("For a status as sent, the status to store.", {"Delivered - Front Door": "DELIVERED"})
    ] = {}
    absent: Annotated[
        list[str], said("Contract columns this vendor never sends: the target keeps its values.", ["address"])
    ] = []
    formats: Annotated[
        dict[str, list[str]],
        said(
            "For a date or timestamp column, strptime patterns in place of the contract's.",
            {"pck_recieved_date": ["%d/%m/%Y"]},
        ),
    ] = {}
    file_date: Annotated[
        str | None,
        said(
            "strptime pattern of the date inside the file's name; without it yyyy_mm_dd, yyyy-mm-dd, yyyymmdd.",
            "%d%m%Y",
        ),
    ] = None
    expect_rows: Annotated[
        list[int] | str,
        said(
            'The fewest and the most rows of a file, or "learn": what the last 20 loaded files teach, once there are '
            "10. A file with another number of rows is held.",
            [100, 100000],
        ),
    ] = []
    max_new_share: Annotated[
        float,
        said(
            "The share of a file's keys that the target may lack; a file with more new ones is held. Not judged are "
            "the files of the pass in which the vendor begins, and files with fewer than 20 keys.",
            0.5,
        ),
    ] = 1.0
    max_stale_share: Annotated[
        float,
        said(
            "The share of a file's keys whose newest row may be older than what the target holds; a file with more of "
            "them is held. Not judged are the same files as of max_new_share.",
            0.2,
        ),
    ] = 1.0
    expect_by: Annotated[
        str | list[str],
        said('By which time of the day a file came, or a list of times; "" expects none by a time.', "07:30"),
    ] = ""
    expect_every: Annotated[
        str, said('How far apart files come at most: "15m", "4h", "1d", "1w"; "" expects none so often.')
    ] = ""
    expect: Annotated[
        str, said('"learn" expects files as those of the last 8 weeks came, once there are 10; "" learns nothing.')
    ] = ""
    expect_days: Annotated[
        list[str],
        said(
            "Days of the week on which files are expected; without any, all seven.",
            ["mon", "tue", "wed", "thu", "fri"],
        ),
    ] = []
    expect_holidays: Annotated[list[date], said("Days on which no file is expected.", [date(2026, 12, 25)])] = []
    expect_timezone: Annotated[
        str | None, said("IANA time zone of these times and days; without it, timezone.", "America/Chicago")
    ] = None
    expect_grace: Annotated[
        str,
        said(
            'How long after its time a missing file is late, such as "10m"; "" is 10m after expect_by, a quarter of '
            "expect_every, or 1h on top of what was learned."
        ),
    ] = ""
