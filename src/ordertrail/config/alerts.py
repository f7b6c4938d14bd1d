"""`[[alerts]]` and `ping_url`, made into the values of `ordertrail.config.values`.

An address is a secret. What is wrong in the file is an error at once; an environment variable that is not set, or a
file that cannot be read, is kept as the address's problem, because commands that send nothing need no address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from msgspec import Struct

from ordertrail.config.alert_section import AlertSection
from ordertrail.config.contract import Fail, nearest
from ordertrail.config.values import Address, Alert
from ordertrail.config.vendors import known_zone
from ordertrail.rules.outbox import Channel, Severity
from ordertrail.rules.secrets import SecretUrl

SECRET_URLS = frozenset({"url", "ping_url"})
"""Settings whose values are shown in no message."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S")
_QUIET = re.compile(r"\s*([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)\s*")


class Place(Struct, frozen=True):
    """Where the parts of an address come from.

    Attributes:
        base: Folder that relative paths start from.
        environ: The environment.
    """

    base: Path
    environ: Mapping[str, str]


def build_alerts(
    sections: Sequence[AlertSection], vendors: Sequence[str], place: Place, fail: Fail
) -> tuple[Alert, ...]:
    """Check `[[alerts]]` and make channels of them.

    Args:
        sections: As parsed, in the order of the file.
        vendors: The names of all vendors.
        place: Where the parts of addresses come from.
        fail: Called with the first mistake.
    """
    names: set[str] = set()
    for section in sections:
        if not _NAME.fullmatch(section.name):
            hint = "use letters, digits, dots, dashes and underscores, at most 64"
            fail("alerts.name", section.name, "is not usable as a name", hint)
        if section.name in names:
            fail(f"alerts[{section.name}].name", section.name, "is there twice", "give every channel its own name")
        names.add(section.name)
    return tuple(_alert(section, vendors, place, fail) for section in sections)


def build_ping(url: str, place: Place, fail: Fail) -> Address | None:
    """Check `ping_url`; None for none.

    Args:
        url: As it stands in the file.
        place: Where its parts come from.
        fail: Called with a mistake.
    """
    if not url.strip():
        return None
    _check_variables("pipeline.ping_url", url, fail)
    address = _expanded(url, "ping_url", place)
    if address.url is not None and not re.match(r"https?://[^/\s]", address.url.text):
        hint = 'use an address such as ping_url = "https://hc-ping.com/${PING_ID}"'
        fail("pipeline.ping_url", url, "is no address that begins with http:// or https://", hint)
    return address


def _alert(section: AlertSection, vendors: Sequence[str], place: Place, fail: Fail) -> Alert:
    where = f"alerts[{section.name}]"
    severity: Severity | None = next((one for one in get_args(Severity) if one == section.min_severity), None)
    if severity is None:
        hint = 'use min_severity = "warning" or min_severity = "critical"'
        fail(f"{where}.min_severity", section.min_severity, "there is no such severity", hint)
    for vendor in section.vendors:
        if vendor not in vendors:
            hint = nearest(vendor, vendors, otherwise=f"the vendors are: {', '.join(vendors)}")
            fail(f"{where}.vendors", vendor, "there is no such vendor", hint)
    zone = known_zone(f"{where}.timezone", section.timezone, fail)
    channel = Channel(
        name=section.name,
        min_severity=severity,
        vendors=tuple(section.vendors),
        quiet=_quiet(f"{where}.quiet_hours", section.quiet_hours, fail),
        timezone=zone,
        quiet_critical=section.quiet_critical,
    )
    return Alert(channel, _address(where, section, place, fail))


def _quiet(key: str, text: str, fail: Fail) -> tuple[int, int] | None:
    if not text.strip():
        return None
    hint = 'write two times of day, such as quiet_hours = "22:00-06:00"'
    found = _QUIET.fullmatch(text)
    if found is None:
        fail(key, text, "is no span of time", hint)
    begin_h, begin_min, end_h, end_min = map(int, found.groups())
    begin, end = begin_h * 60 + begin_min, end_h * 60 + end_min
    if begin == end:
        fail(key, text, "ends when it begins", f"{hint}; without it nothing is quiet")
    return begin, end


def _address(where: str, section: AlertSection, place: Place, fail: Fail) -> Address:
    if (section.url is None) == (section.url_file is None):
        what = "is missing: where the messages go" if section.url is None else "is there, and so is url_file"
        fail(f"{where}.url", None, what, 'give either url = "..." or url_file = "PATH"')
    if section.url_file is not None:
        return _from_file(f"{where}.url_file", section.url_file, place, fail)
    url = section.url or ""
    _check_variables(f"{where}.url", url, fail)
    address = _expanded(url, f"{where}.url", place)
    if not (_SCHEME.match(url) or url.startswith("${")) or not _looks_right(address):
        fail(f"{where}.url", url, "is no address", _EXAMPLE)
    return address


_EXAMPLE = 'write it as apprise takes it, such as url = "slack://${SLACK_TOKEN}"; see docs/how-to/alerts.md'


def _looks_right(address: Address) -> bool:
    return address.url is None or _SCHEME.match(address.url.text) is not None


def _check_variables(key: str, url: str, fail: Fail) -> None:
    if "${" in _VARIABLE.sub("", url):
        fail(key, url, "has ${ without the name of an environment variable and }", "write ${NAME}")


def _expanded(url: str, key: str, place: Place) -> Address:
    missing = [name for name in dict.fromkeys(_VARIABLE.findall(url)) if not place.environ.get(name)]
    if missing:
        names = ", ".join(missing)
        return Address(None, f"{key} needs the environment variable {names}, which is not set")
    return Address(SecretUrl(_VARIABLE.sub(lambda found: place.environ[found[1]], url.strip())))


def _from_file(key: str, name: str, place: Place, fail: Fail) -> Address:
    if not name.strip() or "\0" in name:
        fail(key, name, "is no file", 'name one such as url_file = "secrets/desk-url"')
    path = place.base / Path(name).expanduser()
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        return Address(None, f"{key} = {name!r} cannot be read: {reason}")
    if not lines or not _SCHEME.match(lines[0]):
        return Address(None, f"the first line of {key} = {name!r} is no address")
    return Address(SecretUrl(lines[0]))
