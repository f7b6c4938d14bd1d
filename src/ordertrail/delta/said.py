"""The note that our commits carry about themselves, in the `userMetadata` of their `commitInfo`.

`actions` is the number of actions, so an entry that was cut off at the end of a line can be told from a complete one.
`rows` and `files` are the live rows and the data files of the table after the commit. They are computed from the note
of the commit before, not from the table as found: a loss stays visible in the counts, commit after commit, until the
table is written anew.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence

from ordertrail.delta.actions import AddFile, Json

ACTIONS, ROWS, FILES = "actions", "rows", "files"

_OURS = "ordertrail"
_ENGINE_INFO = "ordertrail"


def said_by(actions: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """The note of a commit; empty when it is not one of ours.

    Args:
        actions: The commit's actions.
    """
    for action in actions[:1]:
        info = action.get("commitInfo")
        text = info.get("userMetadata") if isinstance(info, dict) else None
        if not isinstance(text, str) or _OURS not in text:
            continue
        try:
            found = json.loads(text)
        except ValueError:  # somebody else's words
            continue
        ours = found.get(_OURS) if isinstance(found, dict) else None
        if isinstance(ours, dict):
            return ours
    return {}


def user_metadata(said: Mapping[str, Json]) -> str:
    """The note as the text of `userMetadata`."""
    return json.dumps({_OURS: dict(said)})


def commit_info(
    now_ms: int,
    operation: str,
    parameters: Mapping[str, Json],
    read_version: int,
    *,
    blind: bool,
    said: Mapping[str, Json],
) -> dict[str, Json]:
    """The `commitInfo` of a commit of ours on top of another.

    Args:
        now_ms: Milliseconds since 1970.
        operation: As in `DESCRIBE HISTORY`.
        parameters: Of the operation.
        read_version: The version below it.
        blind: Whether it is a blind append, which does not depend on the table's content.
        said: Its note about the table after it.
    """
    return {
        "timestamp": now_ms,
        "operation": operation,
        "operationParameters": dict(parameters),
        "readVersion": read_version,
        "isBlindAppend": blind,
        "engineInfo": _ENGINE_INFO,
        "txnId": str(uuid.uuid4()),
        "userMetadata": user_metadata(said),
    }


def counted(actions: Sequence[dict[str, Json]]) -> list[dict[str, Json]]:
    """The actions of a commit, with their number in its note; unchanged when there is no note."""
    said = said_by(actions)
    info = actions[0].get("commitInfo") if actions else None
    if not said or not isinstance(info, dict):
        return list(actions)
    text = user_metadata({**said, ACTIONS: len(actions)})
    return [{"commitInfo": {**info, "userMetadata": text}}, *actions[1:]]


def number(said: Mapping[str, Json], name: str) -> int | None:
    """A number in a note; None when it is missing."""
    value = said.get(name)
    return value if isinstance(value, int) else None


def live_rows(files: Iterable[AddFile]) -> int | None:
    """The number of live rows in some data files; None when the log does not say."""
    total = 0
    for file in files:
        rows = file.rows
        if rows is None:
            return None
        total += rows
        if file.deletion_vector is not None:
            total -= int(json.loads(file.deletion_vector)["cardinality"])
    return total


def after_foreign(said: Mapping[str, Json], actions: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What remains valid of our last note after a commit of somebody else: not the files, nor the rows if data changed.

    Args:
        said: The note of our last commit.
        actions: The actions of the other commit.
    """
    changes = [body for action in actions for name in ("add", "remove") if isinstance(body := action.get(name), dict)]
    gone = {FILES} if changes else set()
    if any(body.get("dataChange", True) for body in changes):
        gone.add(ROWS)
    return {name: value for name, value in said.items() if name not in gone}
