"""Reads a parsed `ordertrail.toml` into `settings.Document`, and reports what is wrong in our own words.

Names and types are checked here; `contract`, `vendors` and `load` check what a type alone cannot express.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from math import isfinite
from typing import NoReturn

from msgspec import Struct, ValidationError, convert
from msgspec.structs import fields

from ordertrail.config.contract import Fail, nearest
from ordertrail.config.settings import BOUNDS, SECTIONS, SETTINGS, Bound, Document, Setting
from ordertrail.config.template import toml_value
from ordertrail.rules.secrets import MASK, masked_value

_MAX_SHOWN = 60
_TAKE_OUT = "take it out; what there is: "
_LISTS = ("vendors", "contract.columns", "alerts")
_TOP = tuple(field.encode_name for field in fields(Document))
# What msgspec says: "Expected `int`, got `str` - at `$.vendors[0].delimiter`".
_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_PART = re.compile(r"\.(?P<name>\w+)|\[(?P<item>\d+)\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")

Loc = tuple[int | str, ...]
"""A place in the document: keys, and numbers in lists."""


class _Place(Struct, frozen=True):
    """The place of a mistake in the document: `shown` is the section with its item, as in `vendors[acme]`."""

    section: str
    shown: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.shown}.{self.name}" if self.shown and self.name else self.shown or self.name

    @property
    def dotted(self) -> str:
        return f"{self.section}.{self.name}" if self.section and self.name else self.section or self.name


def read_document(data: Mapping[str, object], fail: Fail) -> Document:
    """Read a document; an unknown key is reported first, as it often explains a missing one.

    Args:
        data: As `tomllib` parses it.
        fail: Called with the first mistake.
    """
    for loc in _sections(data):
        _refuse_unknown(loc, data, fail)
    _refuse_unknown((), data, fail)
    try:
        document = convert(data, Document)
    except ValidationError as error:
        _refuse(str(error), data, fail)
    for loc in _sections(data):
        _refuse_values(loc, data, fail)
    return document


def given_in(data: Mapping[str, object], section: str) -> Collection[str]:
    """The settings that a document has in a section; the others have their defaults."""
    found = data.get(section, {})
    return found.keys() if isinstance(found, Mapping) else ()


def _sections(data: Mapping[str, object]) -> Iterator[Loc]:
    """The places of all sections that look as they should, in the order of `SECTIONS`."""
    for dotted in SECTIONS:
        locs: list[Loc] = [()]
        for name in dotted.split("."):
            locs = [(*loc, name) for loc in locs if name in _table(_at(data, loc))]
            locs = [one for loc in locs for one in _items(loc, _at(data, loc))]
        yield from (loc for loc in locs if isinstance(_at(data, loc), Mapping))


def _items(loc: Loc, value: object) -> list[Loc]:
    return [(*loc, number) for number in range(len(value))] if isinstance(value, list) else [loc]


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _at(data: object, loc: Loc) -> object:
    """The value at a place."""
    for part in loc:
        data = data[part]  # type: ignore[index]
    return data


def _known(loc: Loc) -> dict[str, str]:
    """The names of a section's settings, or of the sections, each with its type in words."""
    dotted = ".".join(part for part in loc if isinstance(part, str))
    below = {name.removeprefix(f"{dotted}.") for name in SECTIONS if name.startswith(f"{dotted}.")}
    known = {one.name: one.type for one in SETTINGS if one.section == dotted} | dict.fromkeys(below, "")
    return known if dotted else dict.fromkeys(_TOP, "")


def _refuse_unknown(loc: Loc, data: Mapping[str, object], fail: Fail) -> None:
    """Report the first unknown key of a section."""
    known = _known(loc)
    for name, value in _table(_at(data, loc)).items():
        if name not in known:
            place = _locate((*loc, name), data)
            hint = _unknown_hint(place)
            shown = _Shown(place.name, value, like_none=hint.startswith(_TAKE_OUT))
            fail(place.key, shown, "there is no such setting", hint)


def _refuse(message: str, data: Mapping[str, object], fail: Fail) -> NoReturn:
    """Report what msgspec found: a missing key or another type."""
    found = _AT.search(message)
    path = "" if found is None else found["path"].partition("[...]")[0]  # a key of a table of texts is not named
    loc: Loc = tuple(part["name"] or int(part["item"]) for part in _PART.finditer(path))
    missing = _MISSING.match(message)
    place = _locate((*loc, missing["name"]) if missing else loc, data)
    setting = next((one for one in SETTINGS if one.key == place.dotted), None)
    if setting is None:
        header = f"[[{place.dotted}]]" if place.dotted in _LISTS else f"[{place.dotted}]"
        hint = f"write {header} on a line of its own, its settings below"
        if missing:
            fail(place.key, None, f"the section {header} is missing", hint)
        fail(place.key, _at(data, loc), f"must be a section {header}", hint)
    if missing:
        hint = f"add a line such as {setting.name} = {_example(setting)}"
        fail(place.key, None, f"is missing: {setting.help}", hint)
    _refuse_value(loc, _at(data, loc), f"must be {setting.type}", data, fail)


def _refuse_values(loc: Loc, data: Mapping[str, object], fail: Fail) -> None:
    """Report numbers of a section that are not finite, and what cannot be a bound."""
    known = _known(loc)
    for name, value in _table(_at(data, loc)).items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float) and not isfinite(one):
                _refuse_value((*loc, name), one, "must be a finite number", data, fail)
            if known[name] in BOUNDS and (isinstance(one, bool) or not isinstance(one, Bound)):
                _refuse_value((*loc, name), one, f"must be {known[name]}", data, fail)


def _refuse_value(loc: Loc, value: object, problem: str, data: Mapping[str, object], fail: Fail) -> NoReturn:
    place = _locate(loc, data)
    setting = next(one for one in SETTINGS if one.key == place.dotted)
    fail(place.key, value, problem, f"write it such as {setting.name} = {_example(setting)}")


def _example(setting: Setting) -> str:
    return toml_value(True if setting.example is None else setting.example)


class _Shown:
    """The value of an unknown setting as a message shows it: cut, with secrets masked.

    Args:
        name: The setting's name.
        value: The setting's value.
        like_none: Whether no known setting has a similar name: then a text may be a secret under any name.
    """

    def __init__(self, name: str, value: object, *, like_none: bool) -> None:
        hidden = (like_none and not isinstance(value, bool | int | float)) or "://" in repr(value)
        self._text = MASK if hidden else masked_value(name, repr(value))

    def __repr__(self) -> str:
        return self._text if len(self._text) <= _MAX_SHOWN else f"{self._text[:_MAX_SHOWN]}…"


def _locate(loc: Loc, data: Mapping[str, object]) -> _Place:
    node: object = data
    section, shown = "", ""
    for index, part in enumerate(loc):
        if isinstance(part, int) and isinstance(node, list):
            node = node[part]
            name = node.get("name") if isinstance(node, dict) else None
            shown += f"[{name if isinstance(name, str) else f'#{part + 1}'}]"
            continue
        dotted = f"{section}.{part}" if section else str(part)
        if dotted not in SECTIONS or index + 1 == len(loc):
            return _Place(section, shown, str(part))
        node = node.get(str(part)) if isinstance(node, dict) else None
        section, shown = dotted, f"{shown}.{part}" if shown else str(part)
    return _Place(section, shown, "")


def _unknown_hint(place: _Place) -> str:
    names = [one.name for one in SETTINGS if one.section == place.section] or list(_TOP)
    others = [one.section for one in SETTINGS if one.name == place.name and one.section != place.section]
    if place.section and others and place.name not in names:
        header = f"[[{others[0]}]]" if others[0] in _LISTS else f"[{others[0]}]"
        return f"it belongs below {header}"
    return nearest(place.name, names, otherwise=_TAKE_OUT + ", ".join(names))
