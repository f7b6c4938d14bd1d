"""An independent answer to "what must the target hold?": slow, simple, in memory.

It shares no code with the product, only the types of `ordertrail.model` that carry the configuration, and it
uses other tools: Python's `csv`, `datetime`, `zoneinfo` and `decimal`. It knows nothing of batches, of arrival
or of what was loaded before, but that one file may be read again under another profile: the target row of a key
is the maximum, by the total order of design section 6, of all accepted rows of that key, whatever came when. A
column that a vendor's file does not carry has the value of the highest row among those whose file does.

What it does not judge: broken quoting (it raises `csv.Error`), `_rescued`, and the far edges of number syntax.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from ordertrail.model import Column, Contract, Vendor

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
DATE_IN_NAME = re.compile(r"(?<!\d)(\d{4})([_-]?)(\d{2})\2(\d{2})(?!\d)")
DAMAGED = re.compile(r"[+-]?\d+([.,]\d*)?[eE]\+\d+")
BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
TRUTH = {"true": True, "false": False}
SHAPES = {
    "%z": r"(?P<offset>Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)",
    "%Z": r"(?P<name>[A-Za-z][A-Za-z0-9_/:+ -]*)",
    **dict.fromkeys(("%f", "%g", "%n"), r"(?P<fraction>\d{1,9})"),
}

Value = str | int | float | Decimal | date | datetime | None
Row = dict[str, Value]
Key = tuple[Value, ...]
FileOrder = tuple[int, bytes, bytes, int, str, int]
RowOrder = tuple[int, int, int, bytes, bytes, int, str, int, int]


class InputFile(Protocol):
    """What the oracle needs of a file: path below the source folder, bytes, modification time."""

    @property
    def path(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def mtime_ns(self) -> int: ...


class PlainFile(NamedTuple):
    """The simplest `InputFile`."""

    path: str
    content: bytes
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What must become of one file.

    Attributes:
        path: Below the source folder.
        vendor: Who takes it, or None.
        state: `loaded`, `empty`, `quarantined`, or `left` when no vendor takes it. In some order of arrival a
            `loaded` file may be a `duplicate` delivery instead: see `repeatable`.
        reason: Why it is quarantined: `undecodable`, `missing column`, `unknown column`, `double column` or
            `reject share`; else empty.
        parsed: Data rows, blank lines left out; 0 when it cannot be decoded.
        rejected: Rows with at least one reject; all of them when it is quarantined.
        rejects: `(file row, column or None, rule)` of each bad cell or row.
        sha256: Of the content, hexadecimal.
        order: File key (ms since 1970), vendor, path, mtime in ms, sha256, round: a file's place in the total order.
        repeatable: Another file given holds the same bytes of the same vendor in an order not lower.
    """

    path: str
    vendor: str | None
    state: str
    reason: str
    parsed: int
    rejected: int
    rejects: tuple[tuple[int, str | None, str], ...]
    sha256: str
    order: FileOrder
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The final target, and one verdict a file in the order given. Keys are tuples, also of a single column."""

    target: dict[Key, Row]
    files: tuple[FileVerdict, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One accepted row, its place in the total order, and the columns that its file carries."""

    order: RowOrder
    values: Row
    carried: frozenset[str]


@dataclass(slots=True)
class Reading:
    """What came out of one file so far."""

    state: str = "loaded"
    reason: str = ""
    parsed: int = 0
    rejects: list[tuple[int, str | None, str]] = field(default_factory=list)
    rows: list[Accepted] = field(default_factory=list)

    def quarantine(self, reason: str) -> Reading:
        """The same reading, of which nothing lands."""
        self.state, self.reason, self.rows = "quarantined", reason, []
        return self


class BadValue(Exception):
    """A cell that breaks a rule; its only argument is the rule."""


def default_contract() -> Contract:
    """The contract of design section 5 and the status ranks of section 9, written out again on purpose."""
    ranks = "ORDER_PLACED LABEL_CREATED PICKED_UP IN_TRANSIT OUT_FOR_DELIVERY EXCEPTION DELIVERED RETURNED"
    return Contract(
        columns=(
            Column("order_num", "string", identifier=True),
            Column("tracking_num", "string", required=True, identifier=True),
            Column("pck_recieved_date", "date"),
            Column("package_deliver_date", "date"),
            Column("status", "string"),
            Column("address", "string"),
            Column("last_update_timestamp", "timestamp", required=True),
        ),
        key=("tracking_num",),
        order_by="last_update_timestamp",
        status="status",
        status_rank=tuple(ranks.split()),
    )


def judge(
    files: Iterable[InputFile],
    contract: Contract | None = None,
    vendors: Sequence[Vendor] = (Vendor("default"),),
    *,
    max_reject_share: float = 0.2,
    min_rejects: int = 5,
) -> Verdict:
    """Say what the target must be after all these files, and what must become of each.

    Args:
        files: In any order: the target does not depend on it. The same file may come several times.
        contract: The default contract if None.
        vendors: The first whose glob takes a file has it.
        max_reject_share: A file with a higher share of rejected rows is quarantined.
        min_rejects: With fewer rejected rows it is not, unless all are, or the share is 0.

    Returns:
        The target by key, with dates and aware UTC datetimes, and a verdict a file.
    """
    contract = contract or default_contract()
    by_key: dict[Key, list[Accepted]] = {}
    verdicts: list[FileVerdict] = []
    for file in files:
        verdict, rows = judge_file(file, contract, vendors, max_reject_share, min_rejects)
        verdicts.append(verdict)
        for row in rows:
            by_key.setdefault(tuple(row.values[name] for name in contract.key), []).append(row)
    return Verdict({key: fold(contract, rows) for key, rows in by_key.items()}, mark_repeatable(verdicts))


def judge_rounds(
    rounds: Sequence[tuple[Iterable[InputFile], Sequence[Vendor]]], *, max_reject_share: float, min_rejects: int
) -> dict[Key, Row]:
    """The target after files were read under one profile, and then, the same ones too, under another.

    Args:
        rounds: The files that came, and the vendors' profiles at that time; the default contract all along.
        max_reject_share: As of `judge`.
        min_rejects: Likewise.
    """
    contract = default_contract()
    by_key: dict[Key, list[Accepted]] = {}
    for number, (files, vendors) in enumerate(rounds):
        for file in files:
            for row in judge_file(file, contract, vendors, max_reject_share, min_rejects, number)[1]:
                by_key.setdefault(tuple(row.values[name] for name in contract.key), []).append(row)
    return {key: fold(contract, rows) for key, rows in by_key.items()}


def held_by_shares(
    files: Sequence[tuple[Mapping[Key, int], tuple[float, float] | None]], known: Mapping[Key, int], least: int
) -> list[str]:
    """Which of some files are held because of their keys, as if they came one by one: "new", "stale", or "" for none.

    Args:
        files: In their order: the event time of each key's newest row, and which shares may be new and stale, if that
            is judged.
        known: The same of the keys that are there before.
        least: With fewer keys a file is not judged.
    """
    there, found = dict(known), []
    for times, limits in files:
        new = sum(key not in there for key in times)
        stale = sum(key in there and time < there[key] for key, time in times.items())
        why = ""
        if limits is not None and len(times) >= least:
            why = "new" if new > limits[0] * len(times) else "stale" if stale > limits[1] * len(times) else ""
        if not why:
            there |= {key: max(time, there.get(key, time)) for key, time in times.items()}
        found.append(why)
    return found


def keyed(rows: Iterable[Mapping[str, Value]], contract: Contract | None = None) -> dict[Key, Row]:
    """Bring rows read from a table (`to_pylist()`) into the shape of `Verdict.target`.

    Raises:
        AssertionError: A key is there twice.
    """
    contract = contract or default_contract()
    result: dict[Key, Row] = {}
    for row in rows:
        key = tuple(row[name] for name in contract.key)
        assert key not in result, f"the key {key} is there twice"
        result[key] = {name: row[name] for name in contract.names}
    return result


def fold(contract: Contract, rows: Sequence[Accepted]) -> Row:
    """The target row of one key: each column from the highest row whose file carries it, NULL if none does."""
    row: Row = {}
    for name in contract.names:
        carriers = [r for r in rows if name in r.carried]
        row[name] = max(carriers, key=lambda r: r.order).values[name] if carriers else None
    return row


def mark_repeatable(verdicts: Sequence[FileVerdict]) -> tuple[FileVerdict, ...]:
    """Find the loaded files whose bytes some other loaded file of the vendor brings in an order not lower."""

    def covered(i: int, one: FileVerdict) -> bool:
        twins = (v for j, v in enumerate(verdicts) if j != i and (v.vendor, v.sha256) == (one.vendor, one.sha256))
        return any(v.state == "loaded" and v.order >= one.order for v in twins)

    return tuple(
        FileVerdict(
            v.path, v.vendor, v.state, v.reason, v.parsed, v.rejected, v.rejects, v.sha256, v.order, covered(i, v)
        )
        for i, v in enumerate(verdicts)
    )


def judge_file(
    file: InputFile,
    contract: Contract,
    vendors: Sequence[Vendor],
    max_reject_share: float,
    min_rejects: int,
    number: int = 0,
) -> tuple[FileVerdict, list[Accepted]]:
    """One file's verdict (`repeatable` still open) and its accepted rows, in the round of a number."""
    vendor = next((v for v in vendors if glob_regex(v.files).fullmatch(file.path)), None)
    sha256 = hashlib.sha256(file.content).hexdigest()
    name = vendor.name if vendor else ""
    order = (
        file_key(file, vendor.file_date if vendor else None),
        name.encode(),
        file.path.encode("utf-8", "surrogateescape"),
        file.mtime_ns // 1_000_000,
        sha256,
        number,
    )
    if vendor is None:
        return FileVerdict(file.path, None, "left", "", 0, 0, (), sha256, order), []
    reading = read_file(file.content, order, contract, vendor)
    rejected = len({row for row, _, _ in reading.rejects})
    enough = rejected >= min_rejects or rejected == reading.parsed or max_reject_share == 0
    if reading.state == "loaded" and enough and rejected > max_reject_share * reading.parsed:
        reading.quarantine("reject share")
    if reading.state == "quarantined":
        rejected = reading.parsed
    verdict = FileVerdict(
        file.path,
        vendor.name,
        reading.state,
        reading.reason,
        reading.parsed,
        rejected,
        tuple(reading.rejects),
        sha256,
        order,
    )
    return verdict, reading.rows


def read_file(content: bytes, order: FileOrder, contract: Contract, vendor: Vendor) -> Reading:
    """Decode, map the header, then check row by row."""
    reading = Reading()
    try:
        text = decode(content, vendor.encoding)
    except UnicodeDecodeError:
        return reading.quarantine("undecodable")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=vendor.delimiter, quotechar=vendor.quote, strict=True)
    records = [record for record in lines if record and not (len(record) == 1 and not record[0].strip())]
    rows = [
        (file_row, record)
        for file_row, record in enumerate(records[1:], start=1)
        if any(record) and record != records[0]  # neither delimiters alone, nor the header again
    ]
    reading.parsed = len(rows)
    if reading.parsed == 0:
        reading.state = "empty"
        return reading
    columns = [contract_column(name, contract, vendor) for name in records[0]]
    known = [name for name in columns if name is not None]
    if len(set(known)) < len(known):
        return reading.quarantine("double column")
    if set(contract.names) - set(known) - set(vendor.absent):
        return reading.quarantine("missing column")
    if None in columns and contract.unknown_columns == "strict":
        return reading.quarantine("unknown column")
    for file_row, record in rows:
        if len(record) != len(columns):
            reading.rejects.append((file_row, None, "ragged"))
            continue
        cells = {name: cell for name, cell in zip(columns, record, strict=True) if name is not None}
        row = check_row(cells, file_row, order, contract, vendor, reading.rejects)
        if row is not None:
            reading.rows.append(row)
    return reading


def check_row(
    cells: dict[str, str],
    file_row: int,
    order: FileOrder,
    contract: Contract,
    vendor: Vendor,
    rejects: list[tuple[int, str | None, str]],
) -> Accepted | None:
    """The typed row with its order, or None after its rejects were noted."""
    values: Row = {}
    bad: list[tuple[int, str | None, str]] = []
    for column in contract.columns:
        try:
            values[column.name] = cell_value(cells.get(column.name, ""), column, contract, vendor)
            if column.name in cells:
                check_rules(values[column.name], column, contract)
        except BadValue as error:
            bad.append((file_row, column.name, str(error)))
    event = values.get(contract.order_by)
    event_us = 0
    if isinstance(event, datetime):
        event_us = (event - EPOCH) // timedelta(microseconds=1)
        if event_us > order[0] * 1000 + contract.max_future_s * 1_000_000:
            bad.append((file_row, contract.order_by, "future"))
    if bad:
        rejects.extend(bad)
        return None
    rank = status_rank(values[contract.status] if contract.status else None, contract)
    place = -file_row if vendor.rows == "newest_first" else file_row
    return Accepted((event_us, order[0], rank, *order[1:], place), values, frozenset(cells))


def status_rank(status: Value, contract: Contract) -> int:
    """-2 for NULL, -1 for a status that is not listed, else its place."""
    if status is None:
        return -2
    return contract.status_rank.index(str(status)) if status in contract.status_rank else -1


def cell_value(cell: str, column: Column, contract: Contract, vendor: Vendor) -> Value:
    """The typed value of a cell. Only keys are trimmed; an empty cell is NULL."""
    if column.name in contract.key:
        cell = cell.strip()
    if column.name == contract.status:
        cell = dict(vendor.status_map).get(cell, cell)
    if cell == "":
        return None
    formats = dict(vendor.formats).get(column.name, column.formats)
    match column.type.partition("(")[0]:
        case "string":
            if (column.identifier or column.name in contract.key) and DAMAGED.fullmatch(cell):
                raise BadValue("damaged")
            if column.identifier or column.name in contract.key:
                check_visible(cell)
            return cell
        case "date":
            return date_value(cell, formats)
        case "timestamp":
            return timestamp_value(cell, formats, vendor.timezone, vendor.zones)
        case _:
            return number_value(cell, column.type)


def check_visible(cell: str) -> None:
    """An identifier has no control or format character, no end of a line, and no sign for a byte that was lost."""
    if any(unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp") or one == "\ufffd" for one in cell):
        raise BadValue("invisible")


def double_value(cell: str) -> float:
    """A double whose digits are those of the text: 15 always are, 16 and 17 may be."""
    number = Decimal(cell)
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    value = float(cell)
    if not math.isfinite(value):
        raise BadValue("double")
    kept = f"{value:.{max(len(digits), 1) - 1}e}".partition("e")[0].replace(".", "").lstrip("-").rstrip("0")
    if len(digits) > 17 or (len(digits) > 15 and kept != digits) or (digits and abs(value) < sys.float_info.min):
        raise BadValue("rounded")
    return value


def number_value(cell: str, type_: str) -> Value:
    """Whole numbers, doubles, decimals and booleans; nothing is rounded or cut in silence."""
    try:
        if type_ == "boolean":
            return TRUTH[cell.lower()]
        if type_ == "double":
            return double_value(cell)
        number = Decimal(cell)
        if type_ in ("int", "bigint"):
            bits = 31 if type_ == "int" else 63
            if number != int(number) or not -(2**bits) <= number < 2**bits:
                raise BadValue(type_)
            return int(number)
        precision, scale = (int(n) for n in type_[len("decimal(") : -1].split(","))
        exact = number.quantize(Decimal(1).scaleb(-scale))
        if exact != number or abs(number) >= Decimal(10) ** (precision - scale):
            raise BadValue("decimal")
    except (ValueError, KeyError, InvalidOperation, OverflowError) as error:
        raise BadValue(type_) from error
    return exact


def date_value(cell: str, formats: Sequence[str]) -> date:
    """ISO 8601 (`yyyy-mm-dd`), then the formats in turn; the day is the wall clock's."""
    if ISO_DATE.fullmatch(cell):
        try:
            return date.fromisoformat(cell)
        except ValueError as error:
            raise BadValue("date") from error
    for pattern in formats:
        found = wall_and_zone(cell, pattern)
        if found is not None:
            return found[0].date()
    raise BadValue("date")


def timestamp_value(cell: str, formats: Sequence[str], zone: str, zones: Sequence[tuple[str, str]] = ()) -> datetime:
    """ISO 8601, then the formats; without an offset, local time of the zone. Digits beyond microseconds are cut."""
    try:
        found = datetime.fromisoformat(cell)
    except ValueError:
        pass
    else:
        return found.astimezone(UTC) if found.tzinfo else from_local(found, ZoneInfo(zone))
    offsets = {"UTC": "+0000", "GMT": "+0000", "Z": "+0000"} | {name.upper(): offset for name, offset in zones}
    rule = "timestamp"
    for pattern in formats:
        read = wall_and_zone(cell, pattern)
        if read is None:
            continue
        wall, named = read
        if named is None:
            return from_local(wall, ZoneInfo(zone))
        offset = named if named[0] in "+-" else offsets.get(named.upper())
        if offset is not None:
            return wall.replace(tzinfo=UTC) - offset_of(offset)
        rule = "zone"
    raise BadValue(rule)


def wall_and_zone(cell: str, pattern: str) -> tuple[datetime, str | None] | None:
    """What the wall clock shows and the zone beside it, an offset or a name; None where the pattern does not fit."""
    shape, plain = "", ""
    for piece in re.findall(r"%.|[^%]+", pattern):
        shape += SHAPES.get(piece) or (r"\S*" if piece.startswith("%") else re.escape(piece))
        plain += "" if piece in SHAPES else piece
    match = re.fullmatch(shape, cell)
    if match is None:
        return None
    groups = match.groupdict()
    kept = "".join(c for i, c in enumerate(cell) if not any(match.start(g) <= i < match.end(g) for g in groups))
    try:
        wall = datetime.strptime(kept, plain)  # noqa: DTZ007 - its zone is judged apart
    except ValueError:
        return None
    wall += timedelta(microseconds=int(groups.get("fraction", "0")[:6].ljust(6, "0")))
    word = re.search(r"(?<![A-Za-z%])(?:Z|UTC|GMT)$", pattern)
    return wall, groups.get("offset") or groups.get("name") or (word and word.group()) or None


def offset_of(text: str) -> timedelta:
    """An offset such as `-05:00`, `+01` or `+0530`."""
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return timedelta(minutes=-minutes if text[0] == "-" else minutes)


def from_local(local: datetime, zone: ZoneInfo) -> datetime:
    """UTC of a local time: one that the clocks skipped is bad, of two the earlier one (`fold=0`) is meant."""
    instant = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != local:
        raise BadValue("skipped by DST")
    return instant


def check_rules(value: Value, column: Column, contract: Contract) -> None:
    """The column's own rules: required, pattern, allowed, min and max."""
    if value is None:
        if column.required or column.name in (*contract.key, contract.order_by):
            raise BadValue("required")
        return
    if column.pattern is not None and not re.fullmatch(column.pattern, str(value)):
        raise BadValue("pattern")
    if column.allowed and str(value) not in column.allowed:
        raise BadValue("allowed")
    bound = Column(column.name, column.type)
    anywhere = Contract((bound,), (), "", None, ())
    low, high = (cell_value(text or "", bound, anywhere, Vendor("")) for text in (column.min, column.max))
    if (low is not None and value < low) or (high is not None and value > high):  # type: ignore[operator]
        raise BadValue("range")


def contract_column(name: str, contract: Contract, vendor: Vendor) -> str | None:
    """The contract column that a header name means, or None."""
    spellings = {folded(alias): column for column, aliases in vendor.aliases for alias in aliases}
    return (spellings | {folded(column): column for column in contract.names}).get(folded(name))


def folded(name: str) -> str:
    """A header name without case, spaces and underscores."""
    return re.sub(r"[\s_]", "", name).lower()


def decode(content: bytes, encoding: str | None) -> str:
    """As declared; else by the byte order mark; else strict UTF-8."""
    if encoding is None:
        encoding = next((codec for mark, codec in BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding).removeprefix("\ufeff")


def file_key(file: InputFile, pattern: str | None) -> int:
    """Midnight UTC of the date in the name, else the modification time; milliseconds since 1970."""
    day = date_in_name(file.path.rpartition("/")[2], pattern)
    if day is None:
        return file.mtime_ns // 1_000_000
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


def date_in_name(name: str, pattern: str | None) -> date | None:
    """The first possible date in a file name, by the vendor's pattern or in the three usual spellings."""
    if pattern is None:
        candidates = [("".join(m.group(1, 3, 4)), "%Y%m%d") for m in DATE_IN_NAME.finditer(name)]
    else:
        digits = {"%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%b": "[A-Za-z]{3}"}
        regex = re.sub(r"%[A-Za-z]", lambda m: digits[m.group()], re.escape(pattern).replace(r"\%", "%"))
        candidates = [(m.group(), pattern) for m in re.finditer(regex, name)]
    for text, form in candidates:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - only its day counts
        except ValueError:
            continue
    return None


def glob_regex(glob: str) -> re.Pattern[str]:
    """`*` and `?` stop at `/`; `**/` is any number of folders."""
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts), re.DOTALL)
