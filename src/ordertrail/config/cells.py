"""What `[[vendors]]` says of cells, checked against the contract: numbers, words, keys, and columns made of others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from ordertrail.config.contract import Fail, check_nulls, known_column, one_of, value_of
from ordertrail.config.vendor_section import VendorSection
from ordertrail.model import Contract, KeyCase, Vendor
from ordertrail.rules.headers import folded

_KEY_CASES: tuple[KeyCase, ...] = ("keep", "upper")
_THOUSANDS = ("", ".", ",", " ", "'")


def check_cells(where: str, section: VendorSection, contract: Contract, fail: Fail) -> None:
    """Check what a vendor's profile says of cells.

    Args:
        where: Key of the vendor, such as `vendors[acme]`.
        section: As parsed.
        contract: What its names refer to.
        fail: Called with the first mistake.
    """
    check_nulls(f"{where}.nulls", section.nulls, fail)
    if any(char.isalnum() for char in section.key_strip):
        fail(f"{where}.key_strip", section.key_strip, "has a letter or a digit", "name signs only, such as ' -'")
    if section.decimal not in (".", ","):
        fail(f"{where}.decimal", section.decimal, "is no sign of decimals", 'use "." or ","')
    if section.thousands not in _THOUSANDS:
        fail(f"{where}.thousands", section.thousands, "is no sign of thousands", 'use one of . , \' a blank, or ""')
    if section.thousands == section.decimal:
        fail(f"{where}.thousands", section.thousands, "is the sign of decimals, too", "use two different ones")
    _check_words(where, section, fail)
    _check_sources(where, section, contract, fail)


def with_cells(vendor: Vendor, where: str, section: VendorSection, fail: Fail) -> Vendor:
    """The vendor with what its profile says of cells.

    Args:
        vendor: With all else that it says.
        where: Key of the vendor, such as `vendors[acme]`.
        section: As parsed, and checked.
        fail: Called with the first mistake.
    """
    return replace(
        vendor,
        nulls=tuple(section.nulls),
        key_case=one_of(f"{where}.key_case", section.key_case, _KEY_CASES, 'use "keep" or "upper"', fail),
        key_strip=section.key_strip,
        decimal=section.decimal,
        thousands=section.thousands,
        true_words=tuple(section.true_words),
        false_words=tuple(section.false_words),
        combine=tuple((column, tuple(headers)) for column, headers in section.combine.items()),
        constants=tuple(section.constants.items()),
        from_name=section.from_name,
        final_newline=section.final_newline,
    )


def _check_words(where: str, section: VendorSection, fail: Fail) -> None:
    if bool(section.true_words) != bool(section.false_words):
        missing = "false_words" if section.true_words else "true_words"
        fail(f"{where}.{missing}", [], "is missing", f'say both, such as {missing} = ["-"]')
    true = {word.strip().lower() for word in section.true_words}
    for word in section.false_words:
        if word.strip().lower() in true:
            fail(f"{where}.false_words", word, "means true as well: case does not count", "give every word one meaning")


def _check_sources(where: str, section: VendorSection, contract: Contract, fail: Fail) -> None:
    """Each column has one source, and a row its own key and time."""
    taken: dict[str, str] = {}
    types = {column.name: column.type for column in contract.columns}
    for name, setting in _sources(where, section, fail):
        key = f"{where}.{setting}"
        known_column(key, name, contract.names, fail)
        for other in (taken.get(name), "aliases" if name in section.aliases else None):
            if other is not None:
                fail(key, name, f"comes from {other} already", "take it out of one of them")
        taken[name] = setting
        if setting == "combine":
            _check_parts(f"{key}.{name}", section.combine[name], fail)
        elif name in section.absent:
            fail(key, name, "is absent, too", "take it out of absent")
        elif name == contract.order_by:
            fail(key, name, "every row needs a time of its own", "use combine or an alias")
    whole = [name for name in contract.key if taken.get(name) in ("constants", "from_name")]
    if len(whole) == len(contract.key):
        fail(
            f"{where}.{taken[whole[0]]}", whole[0], "all rows would be of one key", "use an alias of the file's column"
        )
    for name, value in section.constants.items():
        value_of(f"{where}.constants.{name}", value, types[name], fail)


def _sources(where: str, section: VendorSection, fail: Fail) -> Iterator[tuple[str, str]]:
    for name in section.combine:
        yield name, "combine"
    for name in section.constants:
        yield name, "constants"
    if section.from_name is not None:
        try:
            groups = re.compile(section.from_name).groupindex
        except re.error as error:
            fail(f"{where}.from_name", section.from_name, f"is not a regular expression: {error}", "correct it")
        if not groups:
            hint = "name a group as the column, such as _(?P<depot>[A-Z]{3})_"
            fail(f"{where}.from_name", section.from_name, "has no named group", hint)
        for name in groups:
            yield name, "from_name"


def _check_parts(key: str, headers: Sequence[str], fail: Fail) -> None:
    if len(headers) < 2 or not all(map(folded, headers)):
        hint = 'name two headers or more, such as ["Scan Date", "Scan Time"]; for a single one use aliases'
        fail(key, headers, "is not made of several columns", hint)
