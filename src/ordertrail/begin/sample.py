"""Reads a sample as the row kernel would, once it has found out how it is written: for drafts alone.

What is found is said in the config that is drafted, where a person sees it; a pass itself guesses nothing.
"""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from math import log2
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.begin.fixed_width import widths_of
from ordertrail.begin.trailers import trailer_of
from ordertrail.errors import QuarantineError, UsageError
from ordertrail.model import Vendor
from ordertrail.parse.encoding import codec_of, utf8_chunks, wide_codec, without_nul
from ordertrail.parse.records import RecordReader, Written
from ordertrail.parse.trailer import Trailer
from ordertrail.parse.unpacking import members
from ordertrail.rules.dialects import MARKS, dialect_of
from ordertrail.rules.guessing import meant
from ordertrail.rules.header_lines import DELIMITERS, HeaderRule, is_value, lines_of, markup
from ordertrail.rules.headers import folded
from ordertrail.rules.likeness import knows

SAMPLE_ROWS = 10_000
"""How many rows are examined."""

SAMPLE_BYTES = 8_000_000
"""How many bytes are examined, after they are unpacked."""

LOOKED_LINES = 200
"""How many lines are looked at to find the delimiter and the header."""

_LATIN = ("cp1252", "cp1250", "cp850", "mac_roman")
_OTHER = ("cp1251", "cp932", "gb18030")
_AGAIN = "use a file with a header and some rows"
_SEPARATOR = re.compile(r'"?sep=([!-~\t])"?[\t ,;]*', re.IGNORECASE)
_WIDE_NAME_CHARS = 60


class Sample(Struct, frozen=True):
    """A vendor's file, as far as it was read.

    Attributes:
        header: The cells of its header line; empty when it has none.
        columns: The cells of the rows, column by column; "" for an empty one.
        vendor: How it is written: delimiter, quote, escape, encoding, trailer; `skip_lines` and `header = False` for a
            file without a header line.
        lines_above: How many lines are above the header or the first row.
        text: What was read of the file.
        notes: What was found out by looking and should be looked at, one line each.
        broken: How many of the first rows are none, with the number of the first one's line.
        short: How many of these have too few cells.
    """

    header: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    vendor: Vendor
    lines_above: int
    text: str
    notes: tuple[str, ...]
    broken: tuple[int, int]
    short: int = 0

    @property
    def rows(self) -> int:
        """How many rows were read."""
        return len(self.columns[0]) if self.columns else 0


def read_sample(path: Path, encoding: str | None, knows_columns: frozenset[str] = frozenset()) -> Sample:
    """Read a sample.

    Args:
        path: The file.
        encoding: As the vendor's `encoding` in the config; None finds it.
        knows_columns: Names of columns, folded, that a header is likely to have.

    Raises:
        UsageError: It cannot be read, or is no table.
    """
    data, cut, notes = _unpacked(path)
    found, codec, said = _decoded(data, encoding, path, cut=cut)
    notes += said
    if kind := markup(found):
        raise UsageError(f"{path} is no table: it is {kind}", hint="ask the vendor for CSV")
    lines = [line for line in lines_of(found) if line.strip()]
    if not lines:
        raise UsageError(f"{path} is empty", hint=_AGAIN)
    vendor = replace(Vendor("default"), encoding=codec)
    if fixed := widths_of(lines_of(found)[:LOOKED_LINES]):
        above, header, vendor = fixed[0], True, replace(vendor, widths=fixed[1])
        notes.append("widths were read off the header and the rows: see that no later value is longer than its column")
    else:
        separator = _SEPARATOR.fullmatch(lines[0].lstrip("\ufeff"))
        delimiter, quote = _characters(found, knows_columns, separator and separator[1])
        above, header = _header_line(found, delimiter, quote, knows_columns)
        vendor = replace(vendor, delimiter=delimiter, quote=quote)
    if not header:
        vendor = replace(vendor, header=False, skip_lines=above or None)
    read = _best_read(found, vendor, above, path)
    if not cut and (trailer := trailer_of(found, read.vendor, read.rows + read.broken[0])):
        read = _read(found, replace(read.vendor, trailer=trailer.pattern), above, path)
        are = "line is no row" if trailer.lines == 1 else f"{trailer.lines} lines are no rows"
        notes.append(f"trailer: the last {are}; a file without it will be held")
    return replace(read, notes=tuple(notes))


# --- bytes -----------------------------------------------------------------------------------------------------------


def _unpacked(path: Path) -> tuple[bytes, bool, list[str]]:
    """(the first bytes of the file's first text, whether there are more, notes)."""
    notes: list[str] = []
    data = b""
    try:
        with path.open("rb") as file:
            texts = members(file, Vendor("sample"))
            first = next(texts, None)
            if first is None:
                return b"", False, notes
            while len(data) < SAMPLE_BYTES and (chunk := first.stream.read(1 << 20)):
                data += chunk
            cut = len(data) >= SAMPLE_BYTES
            if not cut and next(texts, None) is not None:
                notes.append(f"only {first.name} of the archive was looked at")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint="name a readable file") from error
    except QuarantineError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from error
    return data, cut, notes


def _decoded(data: bytes, encoding: str | None, path: Path, *, cut: bool) -> tuple[str, str | None, list[str]]:
    """(text, encoding to declare, notes)."""
    notes: list[str] = []
    if encoding:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise UsageError(f"there is no encoding {encoding!r}", hint="use such as utf-8 or cp1252") from None
    codec, mark_bytes = codec_of(data[:4], encoding)
    if not mark_bytes and not encoding:
        found = wide_codec(data[:4096]) or ("utf-8" if _decodes(data, "utf-8", cut=cut) else _codec_by_letters(data))
        encoding = codec = found
        if found == "utf-8":
            encoding = None
        else:
            notes.append(f"encoding = {found!r} was found by looking: see that names with accents are right")
    try:
        chunks = utf8_chunks(io.BytesIO(data), codec, 1 << 20)
        text = without_nul(b"".join(chunks), (), 1).decode("utf-8", "ignore" if cut else "strict")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not {codec}", hint=_say_encoding(encoding)) from None
    except QuarantineError as error:
        raise UsageError(f"{path}: {error.message}", hint=_say_encoding(encoding)) from error
    return (text[: text.rindex("\n") + 1] if cut and "\n" in text else text), encoding, notes


def _say_encoding(encoding: str | None) -> str:
    return "say what it is with --encoding, for example --encoding cp1252" if encoding else "is it a CSV file?"


def _decodes(data: bytes, codec: str, *, cut: bool) -> bool:
    try:
        codecs.getincrementaldecoder(codec)("strict").decode(data, final=not cut)
    except UnicodeDecodeError:
        return False
    return True


def _codec_by_letters(data: bytes) -> str:
    """The codec in which the bytes beyond ASCII are most often small letters beside letters, as in names.

    Words all of such bytes are of another script than the Latin one.
    """
    parts = re.findall(rb"[A-Za-z]*[\x80-\xff][\x80-\xffA-Za-z]*", data[:SAMPLE_BYTES])[:1000]
    scores = {codec: _letters(parts, codec) for codec in (*_LATIN, *_OTHER) if _decodes(data, codec, cut=True)}
    return max(scores, key=lambda codec: scores[codec], default="latin-1")


def _letters(parts: Sequence[bytes], codec: str) -> float:
    score = 0.0
    for part in parts:
        text = part.decode(codec, "ignore")
        if (codec in _LATIN) == (len(part) > 2 and not re.search(rb"[A-Za-z]", part)):
            score -= len(part)
            continue
        for before, char in zip(f" {text}", text, strict=False):
            if not char.isascii():
                fits = char.isalpha() and (char.islower() or not before.islower())
                score += (1.0 if len(text) > 1 else 0.2) if fits else -1.0
    return score / max(sum(map(len, parts)), 1)


# --- delimiter, quote, header ----------------------------------------------------------------------------------------


def _characters(text: str, known: frozenset[str], said: str | None) -> tuple[str, str]:
    """Delimiter and quote: those with which a line reads most like a header, and the other lines most alike."""
    lines = [line for line in lines_of(text)[:LOOKED_LINES] if line.strip() and not MARKS.intersection(line)]
    present = [one for one in DELIMITERS if any(one in line for line in lines)] if said is None else [said]
    scores = {
        (delimiter, quote): _score(lines, delimiter, quote, known)
        for delimiter in present or [","]
        for quote in ("'", '"')
        if quote == '"' or _wrapped(lines, delimiter, quote)
    }
    # Of equals the longest: a part of `~|~` separates as well as the whole.
    return max(scores, key=lambda one: (scores[one], len(one[0]), one[1] == "'"))


def _wrapped(lines: Sequence[str], delimiter: str, quote: str) -> bool:
    """Whether whole lines have their cells inside a quote."""
    cells = [line.split(delimiter) for line in lines]
    return any(
        len(one) > 1 and all(len(cell) > 1 and cell[0] == cell[-1] == quote for cell in map(str.strip, one))
        for one in cells
    )


def _score(lines: Sequence[str], delimiter: str, quote: str, known: frozenset[str]) -> float:
    records = [dialect_of(delimiter, quote).cells(line) for line in lines]
    widths = Counter(map(len, records))
    width, alike = max(widths.items(), key=lambda item: (item[1] * log2(item[0] + 1), item[0]), default=(1, 0))
    best = max((_like_header(cells, known) for cells in records[:LOOKED_LINES]), default=0.0)
    return round(best + alike / max(len(records), 1) * log2(max(width, 1)), 6)


def _like_header(cells: Sequence[str], known: frozenset[str]) -> float:
    """How much a record reads like a header: names of columns count, values and empty cells count against it."""
    score = 0.0
    for cell in map(str.strip, cells):
        if not any(map(str.isalnum, cell)):
            score -= 0.5
        elif folded(cell) in known or meant(cell):
            score += 1.0
        elif is_value(cell):
            score -= 1.0
        elif len(cell) <= _WIDE_NAME_CHARS and knows(cell):
            score += 0.6
    return score


def _header_line(text: str, delimiter: str, quote: str, known: frozenset[str]) -> tuple[int, bool]:
    """(how many lines are above the header or the first row, whether there is a header)."""
    lines = lines_of(text)[:LOOKED_LINES]
    records = [dialect_of(delimiter, quote).cells(line) if line.strip() else [] for line in lines]
    widths = Counter(len(cells) for cells in records if cells)
    # The rows' width; of equally many the widest.
    width = max(widths, key=lambda one: (widths[one] * (one > 1), one), default=1)
    places = [place for place, cells in enumerate(records) if len(cells) in (width, width - 1, width + 1)]
    best = max(places, key=lambda place: (round(_like_header(records[place], known), 3), -place), default=0)
    first = next((place for place in places if len(records[place]) == width), 0)
    if _like_header(records[best], known) > 0 and _names(records[best]):
        return best, True
    return first, _names(records[first])


def _names(cells: Sequence[str]) -> bool:
    """Whether the cells of a record can be names of columns: no values, and no two alike."""
    names = [cell.strip() for cell in cells if cell.strip()]
    return bool(names) and not any(map(is_value, names)) and 2 * len(set(names)) > len(names)


# --- rows ------------------------------------------------------------------------------------------------------------


def _best_read(text: str, vendor: Vendor, above: int, path: Path) -> Sample:
    """Read with the quote or escape that leaves the fewest rows broken; of equals the plainest."""
    reads = list(_reads(text, vendor, above, path))
    return min(reads, key=lambda one: one.broken[0])


def _reads(text: str, vendor: Vendor, above: int, path: Path) -> Iterator[Sample]:
    first = _read(text, vendor, above, path)
    yield first
    if not first.broken[0] or vendor.widths:
        return
    others = [(vendor.quote, "\\"), ("", ""), ("", "\\")]
    for quote, escape in others:
        if (escape and "\\" in text) or (not escape and '"' in text):
            yield _read(text, replace(vendor, quote=quote, escape=escape), above, path)


def _read(text: str, vendor: Vendor, above: int, path: Path) -> Sample:
    names: tuple[str, ...] = ()
    if not vendor.header:
        line = next(line for line in lines_of(text)[above:] if line.strip())
        cells = dialect_of(vendor.delimiter, vendor.quote, vendor.escape).cells(line)
        names = tuple(f"column {place}" for place in range(1, len(cells) + 1))
    written = Written(
        delimiter=vendor.delimiter,
        quote=vendor.quote,
        escape=vendor.escape,
        widths=vendor.widths,
        fill=bool(vendor.widths),
        rule=HeaderRule(names, above, {}, frozenset(), ()),
        trailer=None if vendor.trailer is None else Trailer(vendor.trailer, judged=False),
    )
    reader = RecordReader(io.BytesIO(text.encode()), written, raw=True)
    cells_of: list[list[str]] = []
    broken, line_of_first, rows, short = 0, 0, 0, 0
    try:
        header = reader.header() or ()
        cells_of = [[] for _ in header]
        for block in reader.blocks():
            for column, more in zip(cells_of, block.cells.columns, strict=False):
                column += [cell or "" for cell in more.to_pylist()]
            rejects = list(islice(block.rejects(), SAMPLE_ROWS))
            line_of_first = line_of_first or (rejects[0].file_line or 0 if rejects else 0)
            broken += len(rejects)
            short += sum("short_rows" in one.reason for one in rejects)
            rows += block.cells.num_rows
            if rows >= SAMPLE_ROWS:
                break
    except QuarantineError as error:
        raise UsageError(f"{path}: {error.message}", hint=f"{error.hint}; is it a CSV file?") from error
    columns = tuple(tuple(column[:SAMPLE_ROWS]) for column in cells_of)
    kept = () if names else header
    return Sample(kept, columns, vendor, above, text, (), (broken, line_of_first), short)
