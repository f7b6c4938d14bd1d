"""Reports in our own words what pydantic finds wrong with a document: unknown names and wrong types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ordertrail.config.contract import Fail, nearest
from ordertrail.config.settings import SECTIONS, SETTINGS
from ordertrail.config.template import toml_value
from ordertrail.rules.secrets import MASK, masked_value

_MAX_SHOWN = 60
_TAKE_OUT = "take it out; what there is: "
_LISTS = ("vendors", "contract.columns")


@dataclass(frozen=True, slots=True)
class _Place:
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


def refuse(error: ValidationError, data: Mapping[str, object], fail: Fail) -> NoReturn:
    """Report the first mistake in our own words; an unknown key comes first, as it often explains a missing one."""
    mistakes = error.errors(include_url=False)
    mistake = min(mistakes, key=lambda one: one["type"] != "extra_forbidden")
    place = _locate(mistake["loc"], data)
    setting = next((one for one in SETTINGS if one.key == place.dotted), None)
    if mistake["type"] == "extra_forbidden":
        hint = _unknown_hint(place)
        value = _Shown(place.name, mistake["input"], like_none=hint.startswith(_TAKE_OUT))
        fail(place.key, value, "there is no such setting", hint)
    if setting is None:
        _report_section(place, mistake, fail)
    shown = toml_value(True if setting.example is None else setting.example)
    if mistake["type"] == "missing":
        fail(place.key, None, f"is missing: {setting.help}", f"add a line such as {setting.name} = {shown}")
    problem = "must be a finite number" if mistake["type"] == "finite_number" else f"must be {setting.type}"
    fail(place.key, mistake["input"], problem, f"write it such as {setting.name} = {shown}")


class _Shown:
    """The value of an unknown setting as a message shows it: cut, with secrets masked.

    Args:
        name: The setting's name.
        value: The setting's value.
        like_none: Whether no known setting has a similar name: then a text may be a secret under any name.
    """

    def __init__(self, name: str, value: object, *, like_none: bool) -> None:
        hidden = like_none and not isinstance(value, bool | int | float)
        self._text = MASK if hidden else masked_value(name, repr(value))

    def __repr__(self) -> str:
        return self._text if len(self._text) <= _MAX_SHOWN else f"{self._text[:_MAX_SHOWN]}…"


def _report_section(place: _Place, mistake: ErrorDetails, fail: Fail) -> NoReturn:
    header = f"[[{place.dotted}]]" if place.dotted in _LISTS else f"[{place.dotted}]"
    hint = f"write {header} on a line of its own, its settings below"
    if mistake["type"] == "missing":
        fail(place.key, None, f"the section {header} is missing", hint)
    fail(place.key, mistake["input"], f"must be a section {header}", hint)


def _locate(loc: tuple[int | str, ...], data: Mapping[str, object]) -> _Place:
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
    names = [one.name for one in SETTINGS if one.section == place.section] or [
        "pipeline",
        "maintenance",
        "spark",
        "contract",
        "vendors",
    ]
    others = [one.section for one in SETTINGS if one.name == place.name and one.section != place.section]
    if place.section and others and place.name not in names:
        header = f"[[{others[0]}]]" if others[0] in _LISTS else f"[{others[0]}]"
        return f"it belongs below {header}"
    return nearest(place.name, names, otherwise=_TAKE_OUT + ", ".join(names))
