"""Find the header below title lines: the one line that names the key and the column that orders."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from ordertrail.errors import QuarantineError
from ordertrail.parse.encoding import count_lines
from ordertrail.parse.grammar import Grammar
from ordertrail.rules.header_lines import SEARCHED_LINES, HeaderRule
from ordertrail.rules.headers import folded, listed


class _Line(Struct, frozen=True):
    """A record that may be the header: its cells, the offsets of its first byte and of the next one's, its line."""

    cells: tuple[str, ...]
    start: int
    end: int
    number: int


def header_at(grammar: Grammar, head: bytes, rule: HeaderRule, *, ended: bool, line: int, top: int) -> int:
    """The offset of the header: of the one line that fits the rule, or else of the first line.

    When none fits, but one names more of the contract than the first line does, it is that one: messages then say what
    it lacks.

    Args:
        grammar: The text's grammar.
        head: The first bytes of the text.
        rule: Says which line fits.
        ended: Whether `head` is the whole text.
        line: Number of its first line.
        top: Number of the first line of the text that it is the rest of.

    Raises:
        QuarantineError: Rule `header`: two different lines fit.
    """
    found = _lines(grammar, head, ended=ended, line=line)
    first = next(found, None)
    if first is None:
        return 0
    if rule.fits(first.cells) and not rule.may_fit(_first_lines(head[first.end :])):
        return first.start
    lines = [first, *found]
    fits = {tuple(map(folded, one.cells)): one for one in reversed(lines) if rule.fits(one.cells)}
    if len(fits) > 1:
        one, other = sorted(fits.values(), key=lambda each: each.start)[:2]
        raise QuarantineError(
            f"two lines could be the header: line {one.number}, {listed(one.cells)}, and line {other.number}, "
            f"{listed(other.cells)}",
            rule="header",
            hint=f"write skip_lines = {one.number - top} for the vendor to take the first, or skip_lines = "
            f"{other.number - top} for the second, then run ordertrail replay --all-quarantined",
        )
    if fits:
        return next(iter(fits.values())).start
    best = max(lines, key=lambda one: len(rule.meant(one.cells)))  # of equals the first
    return best.start if len(rule.meant(best.cells)) > 1 else first.start


def _first_lines(head: bytes) -> str:
    end = 0
    for _ in range(SEARCHED_LINES):
        end = head.find(b"\n", end) + 1
        if not end:
            return str(head, "utf-8", "replace")
    return str(head[:end], "utf-8", "replace")


def _lines(grammar: Grammar, head: bytes, *, ended: bool, line: int) -> Iterator[_Line]:
    """The records among the first lines that are well-formed; a line that is not is passed over, unless it is first."""
    at, number = 0, line
    while number < line + SEARCHED_LINES and at < len(head):
        rest = head[at:]
        record = grammar.first(rest, ended=ended, most=len(rest), line=number)
        if record is None:
            return
        end = record.end
        if record.wrong is not None:
            stop = grammar.end_of_first_line(rest[record.start :], ended=ended)
            end = len(rest) if stop is None else record.start + stop
            record.cells = []
        if not record.blank if record.cells else at == 0:
            cells = tuple(str(cell or b"", "utf-8", "replace").strip() for cell in record.cells)
            yield _Line(cells, at + record.start, at + end, number + count_lines(rest[: record.start]))
        number += count_lines(rest[:end])
        at += end
