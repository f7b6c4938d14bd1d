"""The SQL of one cell: what the text of a contract column means, and each way in which it can be wrong.

`rules.cells` combines the cells of a row and documents which columns the SQL reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from ordertrail.model import Column, Contract, Vendor
from ordertrail.rules.cell_text import cell_text
from ordertrail.rules.identifiers import shape_sql, shapes
from ordertrail.rules.numbers import ending_minus_sql, usual_number_sql
from ordertrail.rules.others import carried_type
from ordertrail.rules.sql import quoted
from ordertrail.rules.texts import BLANKS, trimmed_sql
from ordertrail.rules.times import time_pattern

# ISO 8601 in its extended form, with seconds, fraction and offset as they come.
_ISO_TIMESTAMP = (
    r"\d{4}-\d\d-\d\d([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?(Z|[+-](0\d|1[0-5])(:?[0-5]\d)?)?)?"
)
_HAS_OFFSET = r":\d\d([.,]\d+)?(Z|[+-]\d\d(:?\d\d)?)$"
# ISO 8601 lets a day end at 24:00, and a spreadsheet writes the midnight of a date.
_ENDS_DAY = r"(\d{4}-\d\d-\d\d[T ])24:00(:00([.,]0{1,9})?)?(Z|[+-](0\d|1[0-5])(:?[0-5]\d)?)?"
_MIDNIGHT = r"\d{4}-\d\d-\d\d[T ]00:00(:00([.,]0{1,9})?)?"
_DAY_US = 86_400_000_000
_WHOLE = r"[+-]?\d+"
_DOUBLE = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_NUMBERS = ("int", "bigint", "double", "decimal")
_LEAST_NORMAL = "2.2250738585072014e-308"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


class CellCheck(Struct, frozen=True):
    """One way in which a cell can be wrong.

    Attributes:
        column: The contract column.
        rule: Stable name, as in `orders_rejects.rule`.
        wrong: SQL that is true for a bad row; never NULL.
        reason: In plain words, with what to do.
        value: SQL of the cell's text.
        more: SQL of a text to append to the reason, which may depend on the file; empty for none.
        any_of: SQL that is true when any of several checks that exclude each other is; empty for one that stands alone.
    """

    column: str
    rule: str
    wrong: str
    reason: str
    value: str
    more: str = ""
    any_of: str = ""

    @property
    def reason_sql(self) -> str:
        """SQL of the whole reason."""
        return f"{quoted(self.reason)} || {self.more}" if self.more else quoted(self.reason)


def sql_type(type_name: str) -> str:
    """DuckDB's name of a contract type, or of the type of a column that others added."""
    return carried_type(type_name) or type_name.upper()


class Cell:
    """The SQL of one contract column."""

    def __init__(self, index: int, column: Column, contract: Contract, vendor: Vendor) -> None:
        self.index = index
        self.column = column
        self.kind = column.type.partition("(")[0]
        self.said = cell_text(index, column, contract, vendor)
        self.cell, self.value, self.shape = self.said.text, f"v{index}", f"k{index}"
        self.part, self.local, self.offset = f"p{index}", f"l{index}", f"o{index}"
        self.quick, self.slow = f"q{index}", f"s{index}"
        self.is_key = column.name in contract.key
        self.is_event = column.name == contract.order_by
        self.is_status = column.name == contract.status
        self.is_identifier = self.kind == "string" and (column.identifier or self.is_key)
        self.shapes = shapes(self.text, key=self.is_key, alone=len(contract.key) == 1) if self.is_identifier else ()
        self.max_future_h = contract.max_future_s / 3600
        self.zone = vendor.timezone
        self.is_local = self.kind == "timestamp" and self.zone != "UTC"
        self.vendor = vendor.name
        formats = dict(vendor.formats).get(column.name, column.formats)
        self.formats = tuple(time_pattern(pattern, vendor.zones) for pattern in formats)
        self.number = self.text
        by_config = column.name in dict(vendor.constants)  # and so in the config's notation, not the vendor's
        self.notation = (".", "") if by_config else (vendor.decimal, vendor.thousands)
        self.plain_numbers = self.notation == (".", "")
        if self.kind in _NUMBERS and not self.plain_numbers:
            self.number = f"m{index}"
        said = ((), ()) if by_config else (vendor.true_words, vendor.false_words)
        self.words = (said[0] or _TRUE, said[1] or _FALSE)
        self.no_time = "" if vendor.continuation_lines else _goes_on(contract)
        self.status_map = vendor.status_map if self.is_status else ()

    @property
    def utc(self) -> str:
        """UTC microseconds of the wall-clock time, NULL when it does not exist."""
        return f"to_utc_us({quoted(self.zone)}, {self.local})"

    @property
    def ambiguous(self) -> str:
        """Whether the wall clock showed this time twice."""
        return f"({self.offset} IS NULL AND is_ambiguous({quoted(self.zone)}, {self.local}))"

    @property
    def gap(self) -> str:
        """Whether the wall clock never showed this time."""
        return f"({self.offset} IS NULL AND {self.local} IS NOT NULL AND {self.utc} IS NULL)"

    @property
    def nameless(self) -> str:
        """Whether only the name of the zone makes the time unreadable: the vendor's `zones` does not map it."""
        names = [
            f"({self._wall(number)} IS NOT NULL AND {pattern.offset_us(self.slow)} IS NULL)"
            for number, pattern in enumerate(self.formats)
            if pattern.named
        ]
        return f"({' OR '.join(names)})"

    @property
    def text(self) -> str:
        """The text of the cell: trimmed, NULL when nothing is left; of dates and times, what no quick way reads."""
        return self.cell if self.kind == "string" else self.slow

    @property
    def has_text(self) -> str:
        """Whether the cell has a text."""
        if self.kind in ("date", "timestamp"):
            return f"({self.slow} IS NOT NULL OR {self.quick} IS NOT NULL)"
        return f"{self.text} IS NOT NULL"

    def rounds(self) -> Iterator[tuple[int, str, str]]:
        """(round, name, SQL) of what is needed more than once: DuckDB shares nothing between the arms of a CASE.

        For an identifier this is the shape that it must not have. For a number it is the trimmed text, and the number
        in the usual notation. For a date or a time it is, round by round: the time as DuckDB reads it, the date or time
        in the usual notation, the text of all others, and the wall clock by each pattern that has a zone.
        """
        if self.is_identifier:
            yield 0, self.shape, shape_sql(self.text, self.said.looked_at, self.shapes)
        elif self.kind in ("date", "timestamp"):
            if self.kind == "timestamp":
                yield 0, self.part, f"try_cast({self.cell} AS TIMESTAMP)"
            yield 1, self.quick, self._quick_date() if self.kind == "date" else self._quick_time()
            text = trimmed_sql(self.cell)
            yield 2, self.slow, f"CASE WHEN {self.quick} IS NULL AND {self.cell} IS NOT NULL THEN {text} END"
            for number, pattern in enumerate(self.formats):
                if pattern.zoned and self.kind == "timestamp":
                    yield 3, self._wall(number), f"epoch_us({pattern.wall(self.slow)})"
        elif self.kind != "string":
            yield 0, self.slow, trimmed_sql(self.cell)
            if self.kind in _NUMBERS and not self.plain_numbers:
                yield 1, self.number, usual_number_sql(self.text, *self.notation)

    def first(self) -> Iterator[tuple[str, str]]:
        """(name, SQL) of dates and times before their range is checked; local times also by an offset of their own."""
        if self.kind == "date":
            yield self.local, self._date()
        elif self.kind == "timestamp":
            if self.is_local:
                yield self.local, _plausible(self._local(), self._local())
                yield self.offset, _plausible(self._with_offset(), self._with_offset())
            else:
                yield self.local, self._local()

    def typed(self) -> str:
        """SQL of the typed value; NULL when the text is not a value of the type."""
        match self.kind:
            case "string":
                return self._mapped()
            case "timestamp":
                if self.is_local:
                    return f"make_timestamptz(coalesce({self.offset}, {self.utc}))"
                return _plausible(self.local, f"make_timestamptz({self.local})")
            case "date":
                # A two-digit year read as a year of the first century is damage, not a date.
                plausible = f"{self.local} BETWEEN DATE '1900-01-01' AND DATE '9999-12-31'"
                return f"CASE WHEN {plausible} THEN {self.local} END"
            case "int" | "bigint" | "double" | "decimal":
                return f"coalesce({self._number(self.number)}, {self._number(ending_minus_sql(self.number))})"
            case "boolean":
                true, false = (", ".join(quoted(word.strip(BLANKS).lower()) for word in words) for words in self.words)
                text = f"lower({self.text})"
                return f"CASE WHEN {text} IN ({true}) THEN true WHEN {text} IN ({false}) THEN false END"
        raise ValueError(self.column.type)

    def checks(self) -> Iterator[CellCheck]:
        """All ways in which the cell can be wrong: no value, not of the type, or not allowed by the column's rules."""
        column, value, partly = self.column, self.value, ""
        if self.said.parts:
            given = " + ".join(f"CAST({part} IS NOT NULL AS INTEGER)" for part in self.said.parts)
            reason = f"some of the cells that make {column.name} are empty: have all of them sent, or none"
            partly = f"({given} BETWEEN 1 AND {len(self.said.parts) - 1})"
            yield self._check("combine", partly, reason)
        if column.required or self.is_key or self.is_event:
            what = "the key" if self.is_key else "the event time" if self.is_event else "a required column"
            reason = f"{column.name} is {what} and has no value"
            wrong = f"CASE WHEN {value} IS NULL THEN NOT {self.has_text} END"
            yield self._check("required", wrong, reason, self.no_time if self.is_key else "")
        if self.kind != "string":
            unreadable = self.has_text + (f" AND NOT {partly}" if partly else "")
            if self.is_local:
                unreadable += f" AND NOT {self.gap}"
                reason = f"this local time does not exist in {self.zone}: the clock jumped over it"
                yield self._check("dst_gap", f"CASE WHEN {value} IS NULL THEN {self.gap} END", reason)
            if self.kind == "timestamp" and any(pattern.named for pattern in self.formats):
                unreadable += f" AND NOT {self.nameless}"
                yield self._check("zone", f"CASE WHEN {value} IS NULL THEN {self.nameless} END", self._no_zone())
            wrong = f"CASE WHEN {value} IS NULL THEN {unreadable} END"
            yield self._check(self.kind, wrong, self._expected(), self._advice())
        yield from self._value_checks()

    def _value_checks(self) -> Iterator[CellCheck]:
        value, column = self.value, self.column
        kind = sql_type(column.type)
        for place, one in enumerate(self.shapes):
            wrong = f"coalesce({self.shape} = {place}, false)"
            more = self._advice() if one.rule == "invisible" else ""
            yield CellCheck(column.name, one.rule, wrong, one.reason, self.said.raw, more, f"{self.shape} IS NOT NULL")
        if self.kind == "double":
            reason = (
                f"a double keeps only 15 digits reliably and would change this number: give {column.name} the type "
                "decimal(p,s), bigint or string"
            )
            yield self._check("rounded", self._rounded(), reason)
        if column.pattern is not None:
            wrong = f"NOT regexp_full_match({value}, {quoted(column.pattern)})"
            yield self._check("pattern", wrong, f"{column.name} does not match the pattern {column.pattern}")
        if column.min is not None:
            wrong = f"{value} < CAST({quoted(column.min)} AS {kind})"
            yield self._check("min", wrong, f"{column.name} is less than the smallest value allowed, {column.min}")
        if column.max is not None:
            wrong = f"{value} > CAST({quoted(column.max)} AS {kind})"
            yield self._check("max", wrong, f"{column.name} is more than the largest value allowed, {column.max}")
        if column.allowed:
            listed = ", ".join(f"CAST({quoted(self._said(a))} AS {kind})" for a in column.allowed)
            reason = f"{column.name} must be one of {', '.join(column.allowed)}"
            yield self._check("allowed", f"{value} NOT IN ({listed})", reason)
        if self.is_event:
            reason = f"the event time is in the future: more than {self.max_future_h:g} h after the file's date"
            yield self._check("future", f"epoch_us({value}) > limit_us", reason, "', ' || CAST(dated AS VARCHAR)")

    def _check(self, rule: str, wrong: str, reason: str, more: str = "") -> CellCheck:
        return CellCheck(self.column.name, rule, f"coalesce({wrong}, false)", reason, self.said.raw, more)

    def _rounded(self) -> str:
        """Whether the double differs from the number in a digit that the text has; 15 digits always survive."""
        digits = f"trim(replace(regexp_extract({self.number}, '[0-9.]+'), '.', ''), '0')"
        said = [
            f"rtrim(replace(regexp_extract(format('{{:.{n - 1}e}}', {self.value}), '[0-9.]+'), '.', ''), '0')"
            for n in (16, 17)
        ]
        other = f"CASE strlen({digits}) WHEN 16 THEN {digits} != {said[0]} WHEN 17 THEN {digits} != {said[1]}"
        other += f" ELSE strlen({digits}) > 17 END"
        tiny = f"strlen({self.number}) > 5 AND abs({self.value}) < {_LEAST_NORMAL}"
        return f"CASE WHEN {tiny} THEN {digits} != '' WHEN strlen({self.number}) > 15 THEN {other} END"

    def _number(self, text: str) -> str:
        """SQL of the number that a text in the usual notation is; NULL when it is none of the type."""
        cast = f"try_cast({text} AS {sql_type(self.column.type)})"
        shape = self._decimal_shape() if self.kind == "decimal" else _DOUBLE if self.kind == "double" else _WHOLE
        finite = f" AND isfinite({cast})" if self.kind == "double" else ""
        return f"CASE WHEN regexp_full_match({text}, {quoted(shape)}){finite} THEN {cast} END"

    def _mapped(self) -> str:
        arms = " ".join(f"WHEN {quoted(self._said(sent))} THEN {quoted(stored)}" for sent, stored in self.status_map)
        return f"CASE {self.text} {arms} ELSE {self.text} END" if arms else self.text

    def _said(self, text: str) -> str:
        """A text of the config as a cell has it."""
        return text.strip(BLANKS) if self.column.trim else text

    def _quick_date(self) -> str:
        """SQL that reads the usual notation by no regular expression; NULL for all other texts."""
        # DuckDB also reads `2026-11-2` followed by a blank.
        shape = f"{self.cell} LIKE '____-__-__' AND ascii(right({self.cell}, 1)) >= {ord('0')}"
        return f"CASE WHEN {shape} THEN try_cast({self.cell} AS DATE) END"

    def _date(self) -> str:
        ways = [f"CASE WHEN {self.slow} LIKE '____-__-__' THEN try_cast({self.slow} AS DATE) END"]
        midnight = f"regexp_full_match({self.slow}, {quoted(_MIDNIGHT)})"
        ways += [f"CASE WHEN {midnight} THEN try_cast(left({self.slow}, 10) AS DATE) END"]
        # The day is that of the wall clock, whatever zone the text names.
        ways += [f"CAST({pattern.wall(self.slow)} AS DATE)" for pattern in self.formats]
        return f"coalesce({self.quick}, CASE WHEN {self.slow} IS NOT NULL THEN {_first_of(ways)} END)"

    def _quick_time(self) -> str:
        """SQL that reads the usual notation, without an offset, by no regular expression; NULL for all other texts."""
        # DuckDB also reads `24:00:00`, `08:00: 1` and the like: this quick way accepts only what DuckDB would write
        # itself.
        shape = f"strlen({self.cell}) >= {len('2026-11-23 14:05:00')} AND CAST({self.part} AS VARCHAR) = {self.cell}"
        return f"CASE WHEN {shape} THEN epoch_us({self.part}) END"

    def _local(self) -> str:
        iso_type = "TIMESTAMP" if self.is_local else "TIMESTAMPTZ"  # without an offset the two read alike in UTC
        ways = [*_iso(self.slow, iso_type)]
        ways += [way for way, zoned in self._by_formats() if not (zoned and self.is_local)]
        return f"coalesce({self.quick}, CASE WHEN {self.slow} IS NOT NULL THEN {_first_of(ways)} END)"

    def _with_offset(self) -> str:
        has_offset = f"regexp_matches({self.slow}, {quoted(_HAS_OFFSET)})"
        ways = [f"CASE WHEN {has_offset} THEN {way} END" for way in _iso(self.slow, "TIMESTAMPTZ")]
        ways += [way for way, zoned in self._by_formats() if zoned]
        return f"CASE WHEN {self.slow} IS NOT NULL THEN {_first_of(ways)} END"

    def _by_formats(self) -> Iterator[tuple[str, bool]]:
        """SQL of the time in microseconds by each pattern, and whether it is UTC because the text has an offset."""
        for number, pattern in enumerate(self.formats):
            if pattern.zoned:
                wall = self._wall(number)
                offset = f"CASE WHEN {wall} IS NOT NULL THEN {pattern.offset_us(self.slow)} END"
                yield f"({wall} - {offset})", True
            else:
                yield f"epoch_us({pattern.wall(self.slow)})", False

    def _wall(self, number: int) -> str:
        return f"w{self.index}_{number}"

    def _no_zone(self) -> str:
        example = 'zones = { EST = "-05:00" }'
        return (
            f"no setting says what the name of its time zone means: add it to zones of {self.vendor}, as in {example}"
        )

    def _decimal_shape(self) -> str:
        scale = int(self.column.type.rstrip(")").rpartition(",")[2])
        return rf"[+-]?(\d+(\.\d{{0,{scale}}}0*)?|\.\d{{1,{max(scale, 1)}}}0*)"

    def _advice(self) -> str:
        """SQL of what to write so that the cell is read, to be appended to the reason."""
        wanted = "text"
        if self.kind in _NUMBERS and self.plain_numbers:
            wanted = f"number {self.vendor}"
        elif self.kind in ("date", "timestamp"):
            given = "".join(f'"{pattern.text}", ' for pattern in self.formats)
            wanted = f"time formats = {{ {self.column.name} = [{given}"
        return f"cell_advice({quoted(wanted)}, {self.said.raw})"

    def _expected(self) -> str:
        formats = "".join(f" or {pattern.text}" for pattern in self.formats)
        return {
            "date": f"not a date: expected ISO 8601 such as 2026-11-23{formats}, from the year 1900 on",
            "timestamp": f"not a time: expected ISO 8601 such as 2026-11-23 14:05:00{formats}, from the year 1900 on",
            "int": "not a whole number between -2147483648 and 2147483647",
            "bigint": "not a whole number of at most 64 bits",
            "double": "not a finite number such as -12.5 or 1.2e3",
            "decimal": f"not a number that fits {self.column.type} without rounding",
            "boolean": f"neither true ({', '.join(self.words[0])}) nor false ({', '.join(self.words[1])})",
        }[self.kind]


def _iso(text: str, sql_type: str) -> tuple[str, str]:
    """SQL of microseconds: ISO 8601, and the end of a day in it."""
    iso = f"regexp_full_match({text}, {quoted(_ISO_TIMESTAMP)})"
    ends = f"contains({text}, '24:00') AND regexp_full_match({text}, {quoted(_ENDS_DAY)})"
    begins = f"regexp_replace({text}, {quoted(_ENDS_DAY)}, '\\100:00\\4')"
    return (
        f"epoch_us(CASE WHEN {iso} THEN try_cast(replace({text}, ',', '.') AS {sql_type}) END)",
        f"(epoch_us(CASE WHEN {ends} THEN try_cast({begins} AS {sql_type}) END) + {_DAY_US})",
    )


def _first_of(ways: list[str]) -> str:
    return f"coalesce({', '.join(ways)})" if len(ways) > 1 else ways[0]


def _plausible(micros: str, value: str) -> str:
    low, high = -2_208_988_800_000_000, 253_402_300_800_000_000  # 1900-01-01 and 10000-01-01, UTC
    return f"CASE WHEN ({micros}) >= {low} AND ({micros}) < {high} THEN {value} END"


def _goes_on(contract: Contract) -> str:
    """SQL of what to do about a row without a key, if it has no event time either; "" where none is read."""
    if contract.order_by not in contract.names:
        return ""  # a migration reads some columns again, and not the others
    hint = "; if such rows go on with the row before, write continuation_lines = true for the vendor"
    return f"CASE WHEN c{contract.names.index(contract.order_by)} IS NULL THEN {quoted(hint)} ELSE '' END"
