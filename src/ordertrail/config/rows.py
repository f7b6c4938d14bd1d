"""What `[[vendors]]` says of rows, checked: where they end, what they may lack, and which of them is the newest."""

from __future__ import annotations

from msgspec.structs import replace

from ordertrail.config.contract import Fail, one_of
from ordertrail.config.vendor_section import VendorSection
from ordertrail.model import RowOrder, ShortRows, Vendor

_WIDEST = 10_000
_ROW_ORDERS: tuple[RowOrder, ...] = ("oldest_first", "newest_first")
_SHORT_ROWS: tuple[ShortRows, ...] = ("reject", "fill")


def with_rows(vendor: Vendor, where: str, section: VendorSection, fail: Fail) -> Vendor:
    """The vendor with what its profile says of rows.

    Args:
        vendor: Without it.
        where: Key of the vendor, such as `vendors[acme]`.
        section: As parsed.
        fail: Called with the first mistake.
    """
    if section.widths:
        _check_widths(where, section, fail)
    if not section.newlines_in_cells and not section.quote:
        hint = "take it out: without quotes no cell holds a line end"
        fail(f"{where}.newlines_in_cells", False, "says nothing of files without quoting", hint)
    return replace(
        vendor,
        newlines_in_cells=section.newlines_in_cells,
        short_rows=one_of(f"{where}.short_rows", section.short_rows, _SHORT_ROWS, 'use "fill" or "reject"', fail),
        continuation_lines=section.continuation_lines,
        rows=one_of(f"{where}.rows", section.rows, _ROW_ORDERS, 'use "newest_first" or "oldest_first"', fail),
        widths=tuple(section.widths),
    )


def _check_widths(where: str, section: VendorSection, fail: Fail) -> None:
    """Check the widths of columns, and that nothing else divides the rows."""
    for width in section.widths:
        if not 1 <= width <= _WIDEST:
            hint = "count the characters of each column, blanks included"
            fail(f"{where}.widths", width, f"is no width: a column has 1 to {_WIDEST:,} characters", hint)
    divided = {"delimiter": (section.delimiter, ","), "quote": (section.quote, '"'), "escape": (section.escape, "")}
    for name, (given, default) in divided.items():
        if given != default:
            fail(f"{where}.{name}", given, "divides rows, and widths does already", "take one of them out")
    if not section.newlines_in_cells:
        fail(f"{where}.newlines_in_cells", False, "says nothing of files of fixed width", "take it out")
    if not section.header and section.columns and len(section.columns) != len(section.widths):
        problem = f"names {len(section.columns)} columns, and there are {len(section.widths)} widths"
        fail(f"{where}.columns", section.columns, problem, "give every column a name and a width")
