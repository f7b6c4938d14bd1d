r"""Times in a vendor's own notation: what the wall clock shows, and the offset from UTC in the text.

Every `formats` pattern is turned into DuckDB's SQL here and nowhere else. A pattern is split into what DuckDB's
`strptime` reads (the wall clock) and what it reads wrongly, or not as we mean it:

- `%z` is an offset of at most 15:59 or `Z`; DuckDB takes `+99:99` as well, and no `Z`;
- `%Z` is the name of a zone, which means what the vendor's `zones` says (DuckDB takes BST for Bangladesh); next to a
  `%z` it is ignored;
- `Z`, `UTC` or `GMT` as the last word of a pattern means UTC, not local time;
- `%f`, `%g` and `%n` are a fraction of a second; digits beyond microseconds are cut off, never rounded.

DuckDB alone reads patterns without any of these. `24:00` and `24:00:00` are the next day's midnight, which DuckDB does
not know. Three words stand for times that are numbers, see `WORDS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from ordertrail.rules.sql import quoted

DIRECTIVE = re.compile(r"%(-[dmyHIMSj]|.|$)", re.DOTALL)
"""A strptime directive, its letter as group 1; empty for a lone `%` at the end."""

UTC_NAMES = ("UTC", "GMT", "Z")
"""Names of zones that need no mapping: they mean the same everywhere."""

OFFSET = re.compile(r"[+-](?:0\d|1[0-5]):?[0-5]\d", re.ASCII)
"""An offset from UTC as `zones` gives it."""

FRACTIONS = frozenset("fgn")
"""Directives of a fraction of a second."""

WORDS = ("epoch_s", "epoch_ms", "excel")
"""Formats that are no patterns: seconds and milliseconds since 1970 UTC, and the serial days of a spreadsheet, of which
1 is 1900-01-01 and 25569 is 1970-01-01. A number that would be a time before 1973, or a day before 1927, is none."""

_MARK = "\x01"  # takes the place of what was cut out, so that the text before and after it never runs together
_EXPANDED = {"%c": "%Y-%m-%d %H:%M:%S", "%x": "%Y-%m-%d", "%X": "%H:%M:%S"}
_WORD, _TWO, _FOUR = "[A-Za-z]+", r"\d{1,2}", r"\d{1,4}"
# The widest text that `strptime` reads for a directive; it checks the value itself.
_SHAPES = {
    **dict.fromkeys("aAbB", _WORD),
    **dict.fromkeys("YG", _FOUR),
    **dict.fromkeys([*"dmyHIMSUVW", "-d", "-m", "-y", "-H", "-I", "-M", "-S"], _TWO),
    **dict.fromkeys(["j", "-j"], r"\d{1,3}"),
    **dict.fromkeys("uw", r"\d"),
    "p": "[AaPp][Mm]",
    "%": "%",
}
_OFFSET_SHAPE = r"Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?"
_NAME_SHAPE = r"[A-Za-z][A-Za-z0-9_/:+-]*"
_MINUTE_US = 60_000_000
_SERIAL_1970 = 25_569
_DAY_MS = 86_400_000
# Not behind another number: in `08:24:00` the hour is 8.
_MIDNIGHT = r"(^|[^:\d])24:00(?::00([.,]0+)?)?"


class TimePattern(Struct, frozen=True):
    """One pattern of a column's `formats`, as SQL.

    Attributes:
        text: The pattern as the config has it.
        named: Whether its zone is a name that must be mapped.
    """

    text: str
    named: bool
    _plain: str | None
    _shape: str
    _kept: str
    _wall: str
    _zone: int
    _offset: str | None
    _number: str = ""

    @property
    def zoned(self) -> bool:
        """Whether its texts have their own offset."""
        return self._offset is not None

    def wall(self, text: str) -> str:
        """SQL of the wall clock's TIMESTAMP; NULL when the text does not follow the pattern.

        Args:
            text: SQL of the text, trimmed.
        """
        if self._number:
            return self._number.replace(_MARK, text)
        found = self._wall_of(text)
        if "%H:%M" not in self.text:
            return found
        midnight = self._wall_of(f"regexp_replace({text}, {quoted(_MIDNIGHT)}, {quoted(self._midnight)})")
        ends = f"contains({text}, '24:00') AND regexp_matches({text}, {quoted(_MIDNIGHT)})"
        return f"coalesce({found}, CASE WHEN {ends} THEN {midnight} + INTERVAL 1 DAY END)"

    @property
    def _midnight(self) -> str:
        fraction = "\\2" if any(f"%{letter}" in self.text for letter in FRACTIONS) else ""
        return "\\1" + ("00:00:00" if "%H:%M:%S" in self.text else "00:00") + fraction

    def _wall_of(self, text: str) -> str:
        plain = None if self._plain is None else f"try_strptime({text}, {quoted(self._plain)})"
        if not self._shape:
            return plain or "CAST(NULL AS TIMESTAMP)"
        kept = f"regexp_replace({text}, {quoted(self._shape)}, {quoted(self._kept)})"
        cut = f"try_strptime({kept}, {quoted(self._wall)})"
        return cut if plain is None else f"coalesce({plain}, {cut})"

    def offset_us(self, text: str) -> str:
        """SQL of the offset in microseconds where `wall` is not NULL; NULL for a zone name that is not mapped.

        Args:
            text: SQL of the text, trimmed.
        """
        if self._offset is None:
            return "CAST(NULL AS BIGINT)"
        zone = f"regexp_extract({text}, {quoted(self._shape)}, {self._zone})"
        return self._offset.replace(_MARK, zone)


def time_pattern(pattern: str, zones: Sequence[tuple[str, str]]) -> TimePattern:
    """Read one pattern.

    Args:
        pattern: For `strptime`, from `formats`.
        zones: Names of zones and their offsets, as `Vendor.zones`.
    """
    if pattern in WORDS:
        return _number(pattern)
    pieces = [_EXPANDED.get(piece, piece) for piece in _pieces(pattern)]
    pieces = list(_pieces("".join(pieces)))
    offsets = dict.fromkeys(UTC_NAMES, "+00:00") | {name.upper(): offset for name, offset in zones}
    has_offset, has_name = "%z" in pieces, "%Z" in pieces
    if not has_offset and not has_name and not any(piece[1:] in FRACTIONS for piece in pieces if piece[0] == "%"):
        return TimePattern(pattern, False, pattern, "", "", "", 0, _literal_offset(pattern))
    shape, kept, wall, zone = _split(pieces, [name for name, _ in zones])
    plain = None
    offset = _literal_offset(pattern)
    if has_offset:
        offset = _numeric_offset()
    elif has_name:
        offset = _named_offset(offsets)
    else:
        plain = "".join("%f" if piece in ("%g", "%n") else piece for piece in pieces)
    return TimePattern(pattern, has_name and not has_offset, plain, shape, kept, wall, zone, offset)


def _number(word: str) -> TimePattern:
    """One of `WORDS`. Serial days are rounded to the millisecond, which a spreadsheet's 15 digits hold."""
    if word == "excel":
        days = f"CAST(replace({_MARK}, ',', '.') AS DOUBLE)"
        ms = f"CAST(round(({days} - {_SERIAL_1970}) * {_DAY_MS}) AS BIGINT)"
        time = f"CASE WHEN regexp_full_match({_MARK}, '\\d{{5}}([.,]\\d+)?') THEN make_timestamp({ms} * 1000) END"
        return TimePattern(word, False, None, "", "", "", 0, None, time)
    digits, zeros = ("{9,10}", 6) if word == "epoch_s" else ("{12,13}", 3)
    exact = f"CAST(regexp_replace({_MARK}, '(\\.\\d{{{zeros}}})\\d+$', '\\1') AS DECIMAL(24,6))"
    number = f"CAST({exact} * {10**zeros} AS BIGINT)"
    time = f"CASE WHEN regexp_full_match({_MARK}, '\\d{digits}(\\.\\d{{1,20}})?') THEN make_timestamp({number}) END"
    return TimePattern(word, False, None, "", "", "", 0, "CAST(0 AS BIGINT)", time)


def _pieces(pattern: str) -> Iterator[str]:
    """The directives of a pattern, the blanks and the words between them."""
    yield from re.findall(r"%-?.|%|\s+|[^%\s]+", pattern, re.DOTALL)


def _split(pieces: Sequence[str], names: Sequence[str]) -> tuple[str, str, str, int]:
    """(regular expression of the whole text, what to keep of it, strptime pattern of that, group of the zone)."""
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    name_shape = "|".join([*(f"(?i:{name})" for name in longest_first), _NAME_SHAPE])
    zone_piece = "%z" if "%z" in pieces else "%Z"
    shape, kept, wall, run, groups, zone = r"^(?s:\s*", "", "", "", 0, 0
    for piece in [*pieces, ""]:
        cut = piece in ("%z", "%Z", "")
        if piece.startswith("%") and not cut:
            fraction = piece[1:] in FRACTIONS
            run += r"\d{1,6}" if fraction else _SHAPES.get(piece[1:], ".*?")
            wall += "%f" if fraction else piece
            cut = fraction
        elif not cut:
            run += r"\s+" if piece.isspace() else re.escape(piece)
            wall += piece
        if cut and run:
            groups += 1
            shape, kept, run = f"{shape}({run})", f"{kept}\\{groups}", ""
        if cut and piece:
            kept, wall = kept + _MARK, wall + _MARK
            if piece == zone_piece:
                groups, zone = groups + 1, groups + 1
            opened = "(" if piece == zone_piece else "(?:"
            shape += {"%z": f"{opened}{_OFFSET_SHAPE})", "%Z": f"{opened}{name_shape})"}.get(piece, r"\d{0,3}")
    return shape + r"\s*)$", kept, wall, zone


def _literal_offset(pattern: str) -> str | None:
    """SQL of the offset that the last word of the pattern itself gives."""
    word = re.search(r"(?<![A-Za-z%])([A-Za-z]+)$", DIRECTIVE.sub("%", pattern).replace("%", "0").rstrip())
    return "CAST(0 AS BIGINT)" if word and word[1].upper() in UTC_NAMES else None


def _numeric_offset() -> str:
    hours, minutes = f"CAST(substr({_MARK}, 2, 2) AS BIGINT)", f"CAST(right({_MARK}, 2) AS BIGINT)"
    minutes = f"CASE WHEN strlen({_MARK}) > 3 THEN {minutes} ELSE 0 END"
    sign = f"CASE WHEN {_MARK} LIKE '-%' THEN -{_MINUTE_US} ELSE {_MINUTE_US} END"
    # Without a match the zone is empty, and there is no number to convert.
    return f"CASE WHEN strlen({_MARK}) < 3 THEN 0 ELSE ({hours} * 60 + {minutes}) * ({sign}) END"


def _named_offset(offsets: Mapping[str, str]) -> str:
    arms = " ".join(f"WHEN {quoted(name)} THEN {_microseconds(offset)}" for name, offset in offsets.items())
    return f"CASE upper({_MARK}) {arms} END"


def _microseconds(offset: str) -> int:
    digits = offset[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return minutes * (-_MINUTE_US if offset[0] == "-" else _MINUTE_US)
