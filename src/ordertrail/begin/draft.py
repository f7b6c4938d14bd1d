"""Drafts a contract from a sample file, for `ordertrail init --from`. Types are chosen so that no value changes.

Doubtful columns stay text: numbers with a leading zero, names that sound like an identifier, dates that can be read in
two ways. Headers that mean a column of the order feed get that column, with an alias for their spelling.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ordertrail.config import DEFAULT_CONTRACT, parse_config, template
from ordertrail.config.template import toml_value
from ordertrail.errors import QuarantineError, UsageError
from ordertrail.model import Column, Contract, Vendor
from ordertrail.parse.encoding import utf8_chunks, utf8_text
from ordertrail.parse.unpacking import members
from ordertrail.rules.bounds import MAX_COLUMNS
from ordertrail.rules.guessing import ID_WORDS, column_name, meant, type_of
from ordertrail.rules.headers import folded

SAMPLE_ROWS = 10_000
"""How many rows are examined."""

SAMPLE_BYTES = 8_000_000
"""How many bytes are examined, after decoding to UTF-8."""

_DELIMITERS = (",", ";", "\t", "|")
_KEY_WORDS = ("tracking", "waybill", "parcel", "shipment", "consignment", "sendung", "barcode")
_TIME_WORDS = ("update", "modif", "chang", "event", "scan", "status", "time", "stamp")


@dataclass(frozen=True, slots=True)
class Draft:
    """A config drafted from a sample.

    Attributes:
        contract: The columns in the order of the sample, key, ordering and status.
        vendor: How the sample looks: delimiter, encoding, aliases, formats.
        notes: What was guessed and should be looked at, one line each.
        rows: Number of rows examined.
    """

    contract: Contract
    vendor: Vendor
    notes: tuple[str, ...]
    rows: int

    @property
    def config_text(self) -> str:
        """The draft as a commented `ordertrail.toml`."""
        return template(self.contract) + "\n" + "\n".join(_vendor_lines(self.vendor))


def draft_config(sample: Path, *, encoding: str | None = None) -> Draft:
    """Draft a contract and a vendor from a file with a header.

    Args:
        sample: A file as the vendor sends it.
        encoding: As the vendor's `encoding` in the config; None means that of the byte order mark, else UTF-8.

    Raises:
        UsageError: It cannot be read as a table, or has no column that can be the key or the time of updates.
    """
    text, cut = _read(sample, encoding)
    delimiter = max(_DELIMITERS, key=lambda one: _outside_quotes(text, one))
    header, rows = _cells(text, delimiter, sample, cut=cut)
    columns = _columns(header, rows, sample)
    order_by = _order_by(columns, sample)
    columns = [replace(c, column=replace(c.column, type="timestamp")) if c is order_by else c for c in columns]
    order_by = next(c for c in columns if c.name == order_by.name)
    key = _key([c for c in columns if c is not order_by], sample)
    status = next((c for c in columns if c.name == "status" and c.column.type == "string"), None)
    known = set(DEFAULT_CONTRACT.status_rank)
    rank = DEFAULT_CONTRACT.status_rank if status and (not status.values or known & set(status.values)) else ()
    contract = Contract(
        columns=tuple(_settled(c, {key.name, order_by.name}) for c in columns),
        key=(key.name,),
        order_by=order_by.name,
        status=status.name if status else None,
        status_rank=rank,
    )
    suffix = sample.suffix if re.fullmatch(r"\.\w+", sample.suffix) else ".csv"
    vendor = Vendor(
        "default",
        files=f"*{suffix}",
        delimiter=delimiter,
        encoding=encoding,
        aliases=tuple((c.name, (c.header,)) for c in columns if folded(c.header) != folded(c.name)),
    )
    draft = Draft(contract, vendor, tuple(_notes(columns, key, order_by, contract)), len(rows))
    # The written config must be read back as exactly this contract.
    parse_config(draft.config_text, base=sample.absolute().parent, environ={})
    return draft


# --- reading -----------------------------------------------------------------------------------------------------


def _read(sample: Path, encoding: str | None) -> tuple[str, bool]:
    """The text of the file's beginning, and whether there is more."""
    try:
        if encoding:
            codecs.lookup(encoding)
        data = b""
        with sample.open("rb") as file:
            first = next(members(file, Vendor("sample")), None)
            for chunk in utf8_chunks(io.BytesIO() if first is None else first.stream, encoding, 1 << 20):
                data += chunk
                if len(data) > SAMPLE_BYTES:
                    return utf8_text(data[: data.rindex(b"\n") + 1], 1), True
        return utf8_text(data, 1), False
    except LookupError:
        raise UsageError(f"there is no encoding {encoding!r}", hint="use such as utf-8 or cp1252") from None
    except OSError as error:
        raise UsageError(f"{sample}: cannot be read: {error.strerror}", hint="name a readable file") from error
    except QuarantineError as error:
        encoded = error.rule == "encoding"
        hint = "say what it is with --encoding, for example --encoding cp1252" if encoded else error.hint
        raise UsageError(f"{sample}: {error.message}", hint=hint) from error
    except ValueError:
        raise UsageError(f"{sample}: a line is longer than a sample may be", hint="is it a CSV file?") from None


def _outside_quotes(text: str, delimiter: str) -> int:
    return re.sub(r'"[^"]*"', "", text.partition("\n")[0]).count(delimiter)


def _cells(text: str, delimiter: str, sample: Path, *, cut: bool) -> tuple[list[str], list[list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        records = [row for row in islice(reader, SAMPLE_ROWS + 1) if row]
    except csv.Error as error:
        raise UsageError(f"{sample}: line {reader.line_num}: {error}", hint="is it a CSV file?") from None
    if not records:
        raise UsageError(f"{sample} is empty", hint="use a file with a header and some rows")
    header = [cell.strip() for cell in records[0]]
    # A sample that was cut may end inside a quoted cell.
    rows = records[1:-1] if cut and len(records) <= SAMPLE_ROWS else records[1:]
    return header, [row for row in rows if len(row) == len(header)]


# --- columns -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Guess:
    """A column of the sample: its header, the contract column, its values that are not blank."""

    header: str
    column: Column
    values: Sequence[str]
    full: bool
    doubt: str = ""

    @property
    def name(self) -> str:
        return self.column.name


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]], sample: Path) -> list[_Guess]:
    found: list[_Guess] = []
    taken: dict[str, str] = {}
    if len(header) > MAX_COLUMNS:
        raise UsageError(
            f"{sample} has {len(header)} columns, more than the {MAX_COLUMNS} that a contract may have",
            hint="take a sample with the columns that somebody reads; a pass keeps the others in _rescued",
        )
    for place, cell in enumerate(header):
        if not cell:
            continue  # a pass keeps it in _rescued
        cells = [row[place].strip() for row in rows]
        values = [value for value in cells if value]
        owner = meant(cell)
        owned = owner is not None and owner not in taken and folded(owner) not in map(folded, header[:place])
        base = next((c for c in DEFAULT_CONTRACT.columns if owned and c.name == owner), None)
        guess = _fitted(base, cell, values) if base else _guessed(cell, values)
        if guess.name in taken:
            raise UsageError(
                f"{sample}: two columns are {guess.name}: {taken[guess.name]!r} and {cell!r}",
                hint="give them different headers in the sample",
            )
        taken[guess.name] = cell
        found.append(replace(guess, full=bool(rows) and len(values) == len(rows)))
    return found


def _fitted(base: Column, header: str, values: Sequence[str]) -> _Guess:
    """A column of the order feed, with another type when the sample's values do not fit its own."""
    if base.type == "string":
        return _Guess(header, base, values, full=False)
    kind, formats, doubt = type_of(values) if values else (base.type, (), "")
    fits = kind == base.type or (kind == "date" and base.type == "timestamp")
    return _Guess(header, replace(base, type=base.type if fits else kind, formats=formats), values, False, doubt)


def _guessed(header: str, values: Sequence[str]) -> _Guess:
    name = column_name(header)
    if ID_WORDS & set(name.split("_")) or not values:
        return _Guess(header, Column(name, "string", identifier=bool(values)), values, full=False)
    kind, formats, doubt = type_of(values)
    return _Guess(header, Column(name, kind, formats=formats), values, False, doubt)


def _order_by(columns: Sequence[_Guess], sample: Path) -> _Guess:
    for kind in ("timestamp", "date"):
        times = [c for c in columns if c.column.type == kind]
        named = [c for c in times if c.name == DEFAULT_CONTRACT.order_by]
        named += [c for word in _TIME_WORDS for c in times if word in c.name]
        if kind == "timestamp" and times:
            return (named or times)[0]
        if named:
            return named[0]
    raise UsageError(
        f"{sample}: no column says when a row was last updated",
        hint="a pipeline needs one to tell which row is newer; write the contract by hand with `ordertrail init`",
    )


def _key(columns: Sequence[_Guess], sample: Path) -> _Guess:
    whole = [c for c in columns if c.column.type in ("string", "bigint") and (c.full or not c.values)]
    named = [c for c in whole if c.name == DEFAULT_CONTRACT.key[0]]
    named += [c for word in _KEY_WORDS for c in whole if word in c.name]
    named += [c for c in whole if ID_WORDS & set(c.name.split("_"))]
    if named:
        return named[0]
    if not whole:
        raise UsageError(
            f"{sample}: no column has a value in every row, so none can be the key",
            hint="write the contract by hand with `ordertrail init`",
        )
    return max(whole, key=lambda c: len(set(c.values)))


def _settled(guess: _Guess, needed: set[str]) -> Column:
    column = guess.column
    if guess.name not in needed:
        return column
    if column.type == "timestamp":
        return replace(column, required=True)
    return replace(column, type="string", required=True, identifier=True)


# --- writing -----------------------------------------------------------------------------------------------------


def _notes(columns: Sequence[_Guess], key: _Guess, order_by: _Guess, contract: Contract) -> Iterable[str]:
    yield f"key: {key.name}, one row of the target for each"
    yield f"order_by: {order_by.name}, the row with the latest one wins"
    for guess in columns:
        if folded(guess.header) != folded(guess.name):
            yield f"{guess.header!r} is {guess.name}, by an alias"
        if guess.doubt:
            yield f"{guess.name} stays text: it {guess.doubt}; give it a type and formats"
        if guess.column.formats:
            yield f"{guess.name}: dates are read as {guess.column.formats[0]}"
    missing = [name for name in DEFAULT_CONTRACT.names if name not in contract.names]
    if missing and key.name in DEFAULT_CONTRACT.key:
        yield f"of the order feed, the sample lacks {', '.join(missing)}"
    if contract.status and not contract.status_rank:
        yield "status_rank is empty: list the statuses from first to last"


def _vendor_lines(vendor: Vendor) -> Iterable[str]:
    yield "[[vendors]]"
    yield f"name = {toml_value(vendor.name)}"
    yield f"files = {toml_value(vendor.files)}"
    if vendor.delimiter != ",":
        yield f"delimiter = {toml_value(vendor.delimiter)}"
    if vendor.encoding:
        yield f"encoding = {toml_value(vendor.encoding)}"
    if vendor.aliases:
        yield f"aliases = {toml_value(dict(vendor.aliases))}"
    yield ""
