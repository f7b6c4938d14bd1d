"""Writes a drafted profile as the lines of its `[[vendors]]`, with what waits for a decision as comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ordertrail.begin.profile import TODO, Profile
from ordertrail.config import SETTINGS
from ordertrail.config.template import toml_key, toml_value
from ordertrail.model import Contract, Vendor
from ordertrail.model.defaults import defaults_of

_DEFAULTS = defaults_of(Vendor)
_TABLES = ("aliases", "status_map")
_PAIRS = ("formats", "combine", "constants", "zones")


def vendor_lines(profile: Profile, contract: Contract) -> Iterator[str]:
    """The lines of a `[[vendors]]`.

    Args:
        profile: What is said, and the comments.
        contract: Whose statuses the open ones may be.
    """
    vendor = profile.vendor
    yield "[[vendors]]"
    for setting in (one.name for one in SETTINGS if one.section == "vendors" and one.name not in _TABLES):
        yield from _comments(profile, setting)
        value = getattr(vendor, setting, None)
        if value is None or (value == _DEFAULTS.get(setting) and setting != "files"):
            continue
        yield f"{setting} = {toml_value(dict(value) if setting in _PAIRS else value)}"
    if vendor.aliases or profile.beside.get("aliases"):
        yield "[vendors.aliases]"
        yield from (f"{toml_key(name)} = {toml_value(headers)}" for name, headers in vendor.aliases)
        yield from _comments(profile, "aliases")
    if vendor.status_map or profile.open_statuses:
        yield "[vendors.status_map]"
        yield from _status_lines(dict(vendor.status_map), profile, contract)
    yield ""


def _comments(profile: Profile, setting: str) -> Iterator[str]:
    for line in profile.beside.get(setting, ()):
        # A setting that is off has no blank behind its "#".
        yield f"#{line[1:]}" if line.startswith("=") else f"# {line}"


def _status_lines(mapped: Mapping[str, str], profile: Profile, contract: Contract) -> Iterator[str]:
    for status, meaning in mapped.items():
        yield f"{toml_value(status)} = {toml_value(meaning)}"
    if profile.open_statuses:
        yield f"# {TODO} say what these mean, of {', '.join(contract.status_rank)}; else they rank below all others:"
    for status, maybe in profile.open_statuses:
        yield f"#{toml_value(status)} = {toml_value(maybe or '')}"
