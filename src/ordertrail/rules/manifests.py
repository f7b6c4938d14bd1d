"""A manifest as JSON text and back; file names that are not UTF-8 survive as surrogate escapes.

The text lies in `orders_stage` between passes, and another release may read it than the one that wrote it. So it is
read member by member: members that this release does not know are ignored, and a missing member, which the release that
wrote the text did not have yet, gets the default of its field.

To add a member, add a field with a default at the end of `Manifest`; the default says what held before the member
existed. A type that JSON lacks (an enum, one of our own values) gets a line in `_READ`; texts, numbers, booleans, None
and tuples of them need none. `VERSION` stays as it is: older releases ignore the member. A change that an older release
would misread raises `VERSION`, and `from_json` still reads the older versions. `tests/integration/test_stages.py`
finishes the stages of every release, which lie in `tests/golden/stages`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict

from ordertrail.errors import TableError
from ordertrail.model import Claims, Correction, CorrectionKind, FileIdentity, Manifest, SenderManifest, State
from ordertrail.model.defaults import defaults_of
from ordertrail.rules.bounds import MAX_REASON_CHARS, cut

VERSION = 1
"""Version of the text. A text without a version, as the first release wrote it, has version 1."""


def to_json(manifest: Manifest, run_id: str, clock: datetime) -> str:
    """The text of `orders_stage._manifest`: the manifest with the batch's run id and clock."""
    body = {**asdict(manifest), "run_id": run_id, "clock": clock, "version": VERSION}
    return json.dumps(body, ensure_ascii=True, sort_keys=True, default=_written)


def from_json(text: str) -> tuple[Manifest, str, datetime]:
    """The manifest, the run id and the clock.

    Args:
        text: As any release wrote it.

    Raises:
        TableError: It is damaged, or a newer release wrote it in a version that this one cannot read.
    """
    try:
        body = json.loads(text)
        version = body.get("version", 1)
        if version > VERSION:
            raise TableError(
                f"a newer release of ordertrail staged the batch: its manifests are of version {version}, this release "
                f"reads up to {VERSION}",
                hint="finish the batch with that release: install it again, then run ordertrail run",
            )
        members = _members(Manifest, body)
        manifest = Manifest(**{name: _READ.get(name, _plain)(value) for name, value in members.items()})  # type: ignore[arg-type]
        return manifest, str(body["run_id"]), datetime.fromisoformat(body["clock"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TableError(
            f"the stage holds a manifest that cannot be read: {type(error).__name__}: {error}",
            hint="finish the batch with the release that staged it, or restore orders_stage to its last STAGE commit",
        ) from error


_Value = Manifest | FileIdentity | Correction | SenderManifest | Claims


def _members(value: type[_Value], body: Mapping[str, object]) -> dict[str, object]:
    """The members of a JSON object that are fields of one of our values; those with a default may be missing."""
    defaults = defaults_of(value)
    return {name: body[name] for name in value.__struct_fields__ if name in body or name not in defaults}


def _identity(body: object) -> FileIdentity:
    if not isinstance(body, dict):
        raise TypeError(f"the file's identity is {body!r}")
    return FileIdentity(**_members(FileIdentity, body))  # type: ignore[arg-type]


def _correction(body: object) -> Correction | None:
    if body is None:
        return None
    if not isinstance(body, dict):
        raise TypeError(f"the correction is {body!r}")
    members = _members(Correction, body)
    return Correction(CorrectionKind(str(members["kind"])), *(_plain(members[one]) for one in ("of", "why", "by")))  # type: ignore[arg-type]


def _sender(body: object) -> SenderManifest | None:
    if body is None:
        return None
    if not isinstance(body, dict):
        raise TypeError(f"the sender's manifest is {body!r}")
    members = _members(SenderManifest, body)
    claims = Claims(**_members(Claims, body["claims"]))  # type: ignore[arg-type]
    return SenderManifest(str(members["path"]), _identity(members["identity"]), str(members["sha256"]), claims)


def _time(text: object) -> datetime:
    return datetime.fromisoformat(str(text))


def _bounded(text: object) -> str | None:
    """A text for people, cut to its bound; the first release had no bound."""
    return None if text is None else cut(str(text), MAX_REASON_CHARS)


def _plain(value: object) -> object:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _written(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Struct):
        return asdict(value)
    raise TypeError(f"{value!r} has no form in JSON: give it one in rules/manifests.py")


_READ: Mapping[str, Callable[[object], object]] = {
    "identity": _identity,
    "state": lambda text: State(str(text)),
    "discovered_at": _time,
    "reason": _bounded,
    "first_error": _bounded,
    "correction": _correction,
    "sender": _sender,
}
"""How to read members that are not a text, number, boolean, None or a list of these."""
