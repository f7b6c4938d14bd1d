"""`[[vendors]]`, checked against the contract and made into the values of `ordertrail.model`.

Nothing here reads a file.
"""

from __future__ import annotations

import codecs
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ordertrail.config.cells import check_cells, with_cells
from ordertrail.config.contract import TIMES, Fail, check_format, known_column, nearest, one_of
from ordertrail.config.rows import with_rows
from ordertrail.config.vendor_section import VendorSection
from ordertrail.errors import QuarantineError
from ordertrail.model import Compression, Contract, Vendor
from ordertrail.rules.dialects import MARKS
from ordertrail.rules.headers import folded, map_header
from ordertrail.rules.sender_manifest import naming
from ordertrail.rules.times import OFFSET

_LONGEST_DELIMITER = 8
_COMPRESSIONS: tuple[Compression, ...] = ("auto", "none")
_UNPACKS = 'use "auto", which unpacks gzip and zip by their first bytes, or "none"'


def build_vendors(sections: Sequence[VendorSection], contract: Contract, fail: Fail) -> tuple[Vendor, ...]:
    """Check `[[vendors]]` and make vendors of them; without any, one `default` that takes `*.csv`.

    Args:
        sections: As parsed, in the order of the file.
        contract: What their names refer to.
        fail: Called with the first mistake.

    Returns:
        At least one vendor, in the order given.
    """
    names: set[str] = set()
    for section in sections:
        if not section.name.strip() or not section.name.isprintable():
            fail("vendors.name", section.name, "is not usable as a name", 'name the vendor, such as name = "acme"')
        if section.name in names:
            fail(f"vendors[{section.name}].name", section.name, "is there twice", "give every vendor its own name")
        names.add(section.name)
    return tuple(_vendor(section, contract, fail) for section in sections) or (Vendor("default"),)


def _vendor(section: VendorSection, contract: Contract, fail: Fail) -> Vendor:
    where = f"vendors[{section.name}]"
    _check_glob(f"{where}.files", section.files, fail)
    _check_characters(where, section, fail)
    _check_absent(f"{where}.absent", section.absent, contract, fail)
    _check_formats(f"{where}.formats", section.formats, contract, fail)
    _check_aliases(f"{where}.aliases", section.aliases, contract, fail)
    if section.status_map and contract.status is None:
        problem = "the contract has no status column"
        fail(f"{where}.status_map", section.status_map, problem, "name it with status in [contract]")
    if section.trailer is not None:
        _check_trailer(f"{where}.trailer", section.trailer, fail)
    if section.manifest is not None:
        _check_manifest(f"{where}.manifest", section, fail)
    if section.max_unpacked_mb < 1:
        fail(f"{where}.max_unpacked_mb", section.max_unpacked_mb, "is no size", "write a number of MB, 1 at least")
    if section.file_date is not None:
        _check_file_date(f"{where}.file_date", section.file_date, fail)
    check_cells(where, section, contract, fail)
    _check_columns(where, section, fail)
    vendor = Vendor(
        name=section.name,
        files=section.files,
        delimiter=section.delimiter,
        quote=section.quote,
        escape=section.escape,
        trailer=section.trailer,
        manifest=section.manifest,
        encoding=_encoding(f"{where}.encoding", section.encoding, fail),
        timezone=known_zone(f"{where}.timezone", section.timezone, fail),
        zones=_zones(f"{where}.zones", section.zones, fail),
        aliases=tuple((column, tuple(names)) for column, names in section.aliases.items()),
        status_map=tuple(section.status_map.items()),
        absent=tuple(section.absent),
        formats=tuple((column, tuple(patterns)) for column, patterns in section.formats.items()),
        file_date=section.file_date,
        skip_lines=section.skip_lines,
        header=section.header,
        columns=tuple(name.strip() for name in section.columns),
        compression=one_of(f"{where}.compression", section.compression, _COMPRESSIONS, _UNPACKS, fail),
        max_unpacked_mb=section.max_unpacked_mb,
    )
    vendor = with_rows(with_cells(vendor, where, section, fail), where, section, fail)
    if not vendor.header:
        _check_mapping(f"{where}.columns", vendor, contract, fail)
    return vendor


def _check_mapping(key: str, vendor: Vendor, contract: Contract, fail: Fail) -> None:
    """Check that `columns`, which stand in for a header, name what the contract needs."""
    try:
        map_header(vendor.columns, contract, vendor)
    except QuarantineError as error:
        problem = error.message.replace("the file has", "has").replace("; its header is", "; it is")
        fail(key, list(vendor.columns), problem, error.hint.partition(", then run")[0])


def _check_characters(where: str, section: VendorSection, fail: Fail) -> None:
    delimiter, quote, escape = section.delimiter, section.quote, section.escape
    unusable = MARKS.union("\r\n\0")
    if not 1 <= len(delimiter) <= _LONGEST_DELIMITER or (unusable.intersection(delimiter) and delimiter not in MARKS):
        problem = f"must be 1 to {_LONGEST_DELIMITER} characters of one line"
        fail(f"{where}.delimiter", delimiter, problem, "write it such as , or ; or \\t or ||")
    for name, value in (("quote", quote), ("escape", escape)):
        if len(value) > 1 or not value.isascii() or unusable.intersection(value):
            fail(f"{where}.{name}", value, "must be one ASCII character, or none", f'write {name} = "" for none')
    if quote and quote in delimiter:
        fail(f"{where}.quote", quote, "is the delimiter too", "use two different characters")
    if escape and (escape == quote or escape in delimiter or escape.isalnum()):
        hint = "take it out: doubled quotes need no escape" if escape == quote else "write the one that the vendor uses"
        fail(f"{where}.escape", escape, "is the quote, in the delimiter, or a letter", hint)
    if escape and delimiter in MARKS:
        fail(f"{where}.escape", escape, "cannot be used with this delimiter", "take it out")


def _check_trailer(key: str, pattern: str, fail: Fail) -> None:
    try:
        found = re.compile(pattern)
    except re.error as error:
        fail(key, pattern, f"is no regular expression: {error}", r'write it such as trailer = "^TRL\\|(?P<rows>\\d+)"')
    if found.search("") is not None:
        fail(key, pattern, "fits every line", "begin it with ^ and what the line begins with")


def _check_manifest(key: str, section: VendorSection, fail: Fail) -> None:
    assert section.manifest is not None
    try:
        naming(section.manifest, section.files)
    except ValueError as error:
        problem, _, hint = str(error).partition(": ")
        fail(key, section.manifest, problem, hint or 'write such as manifest = "{name}.manifest.json"')


def _check_columns(where: str, section: VendorSection, fail: Fail) -> None:
    if section.skip_lines is not None and section.skip_lines < 0:
        fail(f"{where}.skip_lines", section.skip_lines, "must not be negative", "write how many lines to skip")
    if section.header and section.columns:
        problem = "are for files without a header line"
        fail(f"{where}.columns", section.columns, problem, "write header = false, or take them out")
    if not section.header and not section.columns:
        problem = "leaves open what the files hold"
        hint = 'name each column, such as columns = ["tracking_num", "status"]'
        fail(f"{where}.header", section.header, problem, hint)


def _check_glob(key: str, glob: str, fail: Fail) -> None:
    parts = glob.split("/")
    if not glob.strip() or "\0" in glob:
        fail(key, glob, "takes no file", 'write a glob such as files = "*.csv"')
    if glob.startswith("/") or ".." in parts or "." in parts:
        fail(key, glob, "leaves the source folder", 'write it from the source folder on, such as files = "acme/*.csv"')


def _encoding(key: str, name: str | None, fail: Fail) -> str | None:
    if name is None:
        return None
    try:
        # `encode` refuses what is not about text, such as base64; `lookup` alone does not.
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        hint = nearest(name.lower(), ("utf-8", "cp1252", "latin-1", "utf-16", "cp437"), otherwise="use such as cp1252")
        fail(key, name, "there is no such text encoding", hint)


def known_zone(key: str, name: str, fail: Fail) -> str:
    """The name of an IANA time zone; anything else is a mistake.

    Args:
        key: Of the setting.
        name: Its value.
        fail: Called with the mistake.
    """
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        if re.fullmatch("[A-Z]{2,5}", name):
            problem = "is an abbreviation, and those mean other times in other places and seasons"
            fail(key, name, problem, "name an IANA zone, such as America/Chicago, Europe/London or Asia/Kolkata")
        hint = nearest(name, zoneinfo.available_timezones(), otherwise="use an IANA name such as America/Chicago")
        fail(key, name, "there is no such time zone", hint)
    return name


def _zones(key: str, zones: Mapping[str, str], fail: Fail) -> tuple[tuple[str, str], ...]:
    taken: dict[str, str] = {}
    for name, offset in zones.items():
        if not name.strip() or not name.isprintable():
            fail(
                key,
                name,
                "is not the name of a zone",
                'write it as the vendor does, such as zones = { EST = "-05:00" }',
            )
        if not OFFSET.fullmatch(offset):
            hint = f'write an offset from UTC of at most 15:59, such as {name} = "-05:00"'
            fail(f"{key}.{name}", offset, "is not an offset", hint)
        other = taken.setdefault(name.upper(), name)
        if other != name:
            fail(f"{key}.{name}", offset, f"is the same as {other}: case does not count", "give every zone once")
    return tuple(zones.items())


def _check_absent(key: str, absent: Sequence[str], contract: Contract, fail: Fail) -> None:
    needed = {column.name for column in contract.columns if column.required}
    for name in absent:
        known_column(key, name, contract.names, fail)
        if name in contract.key or name == contract.order_by:
            fail(key, name, "no row can do without its key and its time", "take it out, or give it an alias")
        if name in needed:
            fail(key, name, "is a required column", "take it out, or do not require the column")


def _check_formats(key: str, formats: Mapping[str, Sequence[str]], contract: Contract, fail: Fail) -> None:
    types = {column.name: column.type for column in contract.columns}
    for name, patterns in formats.items():
        known_column(key, name, contract.names, fail)
        if types[name] not in TIMES:
            fail(key, name, f"is a {types[name]} column", "give formats to date and timestamp columns only")
        for pattern in patterns:
            check_format(f"{key}.{name}", pattern, fail)


def _check_aliases(key: str, aliases: Mapping[str, Sequence[str]], contract: Contract, fail: Fail) -> None:
    owners = {folded(name): one.name for one in contract.columns for name in (one.name, *one.was)}
    for column, names in aliases.items():
        known_column(key, column, contract.names, fail)
        for name in names:
            if not folded(name):
                fail(f"{key}.{column}", name, "is not a header", "write the header as the vendor does")
            owner = owners.setdefault(folded(name), column)
            if owner != column:
                problem = f"stands for {owner} already: case, spaces and underscores do not count"
                fail(f"{key}.{column}", name, problem, "give every header to one column")


def _check_file_date(key: str, pattern: str, fail: Fail) -> None:
    day = datetime(2026, 11, 23, tzinfo=UTC)
    try:
        same = datetime.strptime(day.strftime(pattern), pattern).date() == day.date()  # noqa: DTZ007
    except (ValueError, re.error):
        same = False
    if not same:
        fail(key, pattern, "does not hold a whole date", "use a strptime pattern such as %Y%m%d or %d-%b-%y")
