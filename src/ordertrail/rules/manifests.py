"""A manifest as JSON text and back; file names that are not UTF-8 survive as surrogate escapes.

The text lies in `orders_stage` from one pass to the next, and the release that reads it may not be the one that wrote
it. So it is read member by member: members that this release does not know are ignored, and one that is missing was not
there yet in the release that wrote it: it gets the default of the field.

To add a member: a field with a default at the end of `Manifest`, where the default says what was so before there was
the member. What JSON has no word for (an enum, a value of our own) gets a line in `_READ`; texts, numbers, truth
values, None and tuples of them need none. That leaves `VERSION` as it is: older releases ignore the member. A change
that an older release would misread raises `VERSION` instead, and `from_json` goes on reading the versions before.
`tests/integration/test_stages.py` finishes the stages of every release, which lie in `tests/golden/stages`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields
from datetime import datetime

from ordertrail.errors import TableError
from ordertrail.model import FileIdentity, Manifest, State
from ordertrail.rules.bounds import MAX_REASON_CHARS, cut

VERSION = 1
"""Of the text. A text without a version, as the first release wrote it, is of version 1."""


def to_json(manifest: Manifest, run_id: str, clock: datetime) -> str:
    """The text of `orders_stage._manifest`: the manifest, and the batch's run id and clock."""
    body = {**asdict(manifest), "run_id": run_id, "clock": clock, "version": VERSION}
    return json.dumps(body, ensure_ascii=True, sort_keys=True, default=_written)


def from_json(text: str) -> tuple[Manifest, str, datetime]:
    """The manifest, the run id and the clock.

    Args:
        text: As any release wrote it.

    Raises:
        TableError: It is damaged, or of a release whose texts this one cannot read.
    """
    try:
        body = json.loads(text)
        version = body.get("version", 1)
        if version > VERSION:
            raise TableError(
                f"a newer release of ordertrail staged the batch: its manifests are of version {version}, this release "
                f"reads up to {VERSION}",
                hint="finish the batch with that release: install it again, then ordertrail run",
            )
        members = _members(Manifest, body)
        manifest = Manifest(**{name: _READ.get(name, _plain)(value) for name, value in members.items()})  # type: ignore[arg-type]
        return manifest, str(body["run_id"]), datetime.fromisoformat(body["clock"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TableError(
            f"the stage holds a manifest that cannot be read: {type(error).__name__}: {error}",
            hint="finish the batch with the release that staged it, or restore orders_stage to its last STAGE commit",
        ) from error


def _members(value: type[Manifest | FileIdentity], body: Mapping[str, object]) -> dict[str, object]:
    """The members of a JSON object that a value of ours has; those with a default may be missing."""
    return {
        field.name: body[field.name]
        for field in fields(value)
        if field.name in body or (field.default is MISSING and field.default_factory is MISSING)
    }


def _identity(body: object) -> FileIdentity:
    if not isinstance(body, dict):
        raise TypeError(f"the file's identity is {body!r}")
    return FileIdentity(**_members(FileIdentity, body))  # type: ignore[arg-type]


def _time(text: object) -> datetime:
    return datetime.fromisoformat(str(text))


def _bounded(text: object) -> str | None:
    """A text for people; the first release put no bound to it."""
    return None if text is None else cut(str(text), MAX_REASON_CHARS)


def _plain(value: object) -> object:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _written(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} has no form in JSON: give it one in rules/manifests.py")


_READ: Mapping[str, Callable[[object], object]] = {
    "identity": _identity,
    "state": lambda text: State(str(text)),
    "discovered_at": _time,
    "reason": _bounded,
    "first_error": _bounded,
}
"""How members are read that are not text, a number, a truth value, None or a list of such."""
