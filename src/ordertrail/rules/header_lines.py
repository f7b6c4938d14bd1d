"""Which line of a file is its header; and when none is, why, and which setting to write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from ordertrail.errors import QuarantineError
from ordertrail.model import Contract, Vendor
from ordertrail.rules.bounds import MAX_SHOWN_CHARS, cut
from ordertrail.rules.dialects import dialect_of
from ordertrail.rules.headers import folded, owners, told_by_config

SEARCHED_LINES = 50
"""The header is looked for among this many of a file's first lines."""


class HeaderRule(Struct, frozen=True):
    """How the header of a vendor's files is told from other lines.

    Attributes:
        columns: What stands in for the header of files without one; empty for files with one.
        skip_lines: How many lines are above it; None when it has to be looked for.
        owner: The contract column that a name means, by `folded` names.
        needed: The columns of the key, and the one that orders, as far as files carry them.
        times: The names, folded, of the column that orders; of one that is combined, those of its first part.
        parts: For each column that is combined, the names, folded, of its parts.
    """

    columns: tuple[str, ...]
    skip_lines: int | None
    owner: Mapping[str, str]
    needed: frozenset[str]
    times: tuple[str, ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def fits(self, cells: Sequence[str]) -> bool:
        """Whether a line names the key and the column that orders, or all parts of such a column."""
        return len(cells) >= len(self.needed) and self.needed <= self.meant(cells)

    def meant(self, cells: Sequence[str]) -> set[str]:
        """The contract columns that a line names, combined ones by all of their parts."""
        names = {folded(cell) for cell in cells}
        found = {name for cell in names if (name := self.owner.get(cell))}
        return found | {column for column, parts in self.parts if names.issuperset(parts)}

    def may_fit(self, text: str) -> bool:
        """Whether some lines of a text may fit; quick, and true more often than not needed."""
        plain = folded.__wrapped__(text)  # whole texts would fill the cache
        return any(name in plain for name in self.times)


def header_rule(contract: Contract, vendor: Vendor) -> HeaderRule:
    """How the header of a vendor's files is told from other lines.

    Args:
        contract: What a row must meet.
        vendor: Whose aliases and columns apply.
    """
    parts = tuple((column, tuple(map(folded, headers))) for column, headers in vendor.combine)
    made = dict(parts)
    # A name of a column that comes from elsewhere tells no header: a file that carries it as well is refused.
    owner = {name: column for name, column in owners(contract, vendor).items() if column not in made}
    times = [name for name, column in owner.items() if column == contract.order_by]
    return HeaderRule(
        () if vendor.header else vendor.columns,
        vendor.skip_lines,
        owner,
        frozenset({*contract.key, contract.order_by} - {*vendor.absent} - {*told_by_config(vendor)}),
        tuple(made[contract.order_by][:1]) if contract.order_by in made else tuple(times),
        parts,
    )


# --- why no line is the header ---------------------------------------------------------------------------------------

_REPLAY = "then run ordertrail replay --all-quarantined"
DELIMITERS = ("~|~", "|~|", "||", "::", ";;", ",", ";", "\t", "|", "~", "^", "¦", "\x1f")
"""What separates cells, in one vendor's files or another's."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_QUOTES = ('"', "'")
_VALUE = re.compile(r"\d{4}-\d\d-\d\d.*|\d\d?[./-]\d\d?[./-]\d{2,4}.*|[A-Z]*\d{4,}", re.ASCII)
_MARKUP = (
    (re.compile(r"\s*<(!doctype html|html)\b", re.IGNORECASE), "an HTML page"),
    (re.compile(r"\s*<(\?xml|[a-z][\w:.-]*[\s>/])", re.IGNORECASE), "an XML document"),
    (re.compile(r'\s*(\{\s*"|\[\s*[{\[])'), "a JSON document"),
)


def explained(error: QuarantineError, text: str, contract: Contract, vendor: Vendor) -> QuarantineError:
    """The error of `map_header`, with what the file's first lines tell about its cause.

    Args:
        error: That the header lacks columns of the contract.
        text: The first lines.
        contract: What a row must meet.
        vendor: Who sent the file.

    Returns:
        The same error, or one that names the cause and the setting to write.
    """
    if kind := markup(text):
        hint = "ask the vendor for CSV"
        if kind == "an HTML page":
            hint += "; a page instead of a file is often what a server shows when a login has expired"
        return QuarantineError(f"the file is no table: it is {kind}", rule="header", hint=hint)
    if error.rule != "missing_column" or not vendor.header:
        return error
    if vendor.widths:
        hint = f"see whether widths fits the header; if it does, {error.hint}"
        return QuarantineError(error.message, rule=error.rule, column=error.column, hint=hint)
    found = next(_causes(text, contract, vendor), None)
    if found is None:
        return error
    cause, hint = found
    return QuarantineError(f"{cause}: {error.message}", rule=error.rule, column=error.column, hint=hint)


def markup(text: str) -> str:
    """What a text is that is no table, in words; "" for any other text."""
    return next((kind for pattern, kind in _MARKUP if pattern.match(text)), "")


def lines_of(text: str) -> list[str]:
    """The physical lines of a text, without what ends them."""
    return _LINE_END.split(text)


def is_value(cell: str) -> bool:
    """Whether a cell looks like a value, a date or a number, and not like a name of a column."""
    return _VALUE.fullmatch(cell) is not None


def _causes(text: str, contract: Contract, vendor: Vendor) -> Iterator[tuple[str, str]]:
    """(cause, what to do), the likeliest first."""
    rule = header_rule(contract, vendor)
    lines = lines_of(text)
    for place, line in enumerate(lines):
        if rule.fits(_cells(line, vendor.delimiter, vendor.quote)):
            above = "line" if place == 1 else "lines"
            yield (
                f"line {place + 1} looks like the header",
                f"write skip_lines = {place} for the vendor, as it has {place} {above} above it, {_REPLAY}",
            )
    for delimiter in DELIMITERS:
        for quote in dict.fromkeys((vendor.quote, *_QUOTES)):
            if delimiter == quote or (delimiter, quote) == (vendor.delimiter, vendor.quote):
                continue
            found = next((n for n, line in enumerate(lines) if _fits(rule, line, delimiter, quote, vendor)), None)
            if found is None or vendor.skip_lines not in (None, found):
                continue
            settings = []
            if delimiter != vendor.delimiter:
                settings.append(f"delimiter = {_toml(delimiter)}")
            if quote != vendor.quote:
                settings.append(f"quote = {_toml(quote)}")
            what = f"separated by {delimiter!r}" if delimiter != vendor.delimiter else f"quoted by {quote!r}"
            yield f"the header is {what}", f"write {' and '.join(settings)} for the vendor, {_REPLAY}"
    first = next((line for line in lines if line.strip()), "")
    cells = _cells(first, vendor.delimiter, vendor.quote)
    values = sum(map(is_value, cells))
    if values and len(cells) > 1 and not rule.meant(cells):
        names = f"columns = [...] with a name for each of the {len(cells)} cells"
        cause = f"there is no header line: the first line holds values, such as {_shown(cells)}"
        yield cause, f"write header = false for the vendor, and {names}, {_REPLAY}"


def _fits(rule: HeaderRule, line: str, delimiter: str, quote: str, vendor: Vendor) -> bool:
    """Whether a line fits when it is read with other characters than the vendor's; a quote has to be there."""
    return (quote == vendor.quote or quote in line) and rule.fits(_cells(line, delimiter, quote))


def _cells(line: str, delimiter: str, quote: str) -> list[str]:
    return [cell.strip() for cell in dialect_of(delimiter, quote).cells(line)]


def _shown(cells: Sequence[str]) -> str:
    return repr(cut(next(cell for cell in cells if is_value(cell)), MAX_SHOWN_CHARS))


def _toml(char: str) -> str:
    return {"\t": '"\\t"', '"': "'\"'", "\x1f": '"\\u001f"'}.get(char, f'"{char}"')
