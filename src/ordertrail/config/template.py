"""Builds the commented `ordertrail.toml` that `ordertrail init` writes, from the table of settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from ordertrail.config.settings import DEFAULT_CONTRACT, SETTINGS, Setting
from ordertrail.model import Column, Contract
from ordertrail.model.defaults import defaults_of

_HOUR_S = 3600

_INTRODUCTION = """\
# ordertrail.toml: one pipeline. Folders are relative to the folder of this file.
# Lines that begin with "#" and no blank are settings that are off; take the "#" away to use them.
# An environment variable ORDERTRAIL_PIPELINE_<KEY> overrides a setting of [pipeline].
"""


def template(contract: Contract = DEFAULT_CONTRACT, beside: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """The commented `ordertrail.toml` that `ordertrail init` writes, with every setting in it.

    Args:
        contract: The contract that the file's `[contract]` describes.
        beside: Comments on its columns, by their names.

    Returns:
        TOML that `parse_config` reads back as this contract, with the default of every other setting.
    """
    return "\n".join(
        [
            _INTRODUCTION,
            *_plain_lines("pipeline"),
            *_plain_lines("maintenance"),
            *_plain_lines("spark"),
            *_contract_lines(contract),
            *_column_lines(contract, beside),
            *_list_lines("vendors", _VENDORS),
            *_list_lines("alerts", _ALERTS),
        ]
    )


def _of(section: str) -> tuple[Setting, ...]:
    return tuple(setting for setting in SETTINGS if setting.section == section)


def _plain_lines(section: str) -> Iterator[str]:
    yield f"[{section}]"
    for setting in _of(section):
        yield f"# {setting.help}"
        yield f"{setting.name} = {toml_value(setting.example if setting.required else setting.default)}"
    yield ""


def _contract_lines(contract: Contract) -> Iterator[str]:
    values: dict[str, object] = {
        "key": contract.key[0] if len(contract.key) == 1 else contract.key,
        "order_by": contract.order_by,
        "status": contract.status or "",
        "status_rank": contract.status_rank,
        "unknown_columns": contract.unknown_columns,
        "max_added_columns": contract.max_added_columns,
        "max_future_h": contract.max_future_s / _HOUR_S,
    }
    yield "[contract]"
    for setting in _of("contract"):
        yield f"# {setting.help}"
        yield f"{setting.name} = {toml_value(values[setting.name])}"
    yield ""


def _column_lines(contract: Contract, beside: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield "# The columns, in table order. What a column may say:"
    for setting in _of("contract.columns"):
        example = True if setting.example is None else setting.example
        yield f"#   {setting.name} = {toml_value(example)}  # {setting.help}"
    yield ""
    for column in contract.columns:
        yield from (f"# {line}" for line in beside.get(column.name, ()))
        yield "[[contract.columns]]"
        for setting in _of("contract.columns"):
            value = getattr(column, setting.name)
            if setting.name in ("name", "type") or value != _UNSAID.get(setting.name):
                yield f"{setting.name} = {toml_value(value)}"
        yield ""


_UNSAID = defaults_of(Column)


_VENDORS = '# Who sends files. Without any, one vendor "default" takes every *.csv in the source folder itself.'
_ALERTS = "# Channels on which somebody is told that they are needed; pip install 'ordertrail[alerts]' sends on them."


_IN_PLACE_OF = frozenset({"url_file"})
"""Settings that stand in the place of another one, so that the two cannot be taken up together."""


def _list_lines(section: str, about: str) -> Iterator[str]:
    yield about
    yield f"#[[{section}]]"
    for setting in _of(section):
        yield f"# {setting.help}"
        off = "# " if setting.name in _IN_PLACE_OF else "#"
        yield f"{off}{setting.name} = {toml_value(setting.example)}"
    yield ""


def toml_value(value: object) -> str:
    """A value as it stands in TOML: text, numbers, dates, lists, inline tables."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # A TOML basic string is a JSON string but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case Mapping():
            return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
        case Sequence():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case _:
            return str(value)


def toml_key(key: str) -> str:
    """A key as it stands in TOML, in quotes where it has to be."""
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else toml_value(key)
