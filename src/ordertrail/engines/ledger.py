"""What every engine checks when it opens the tables: whose they are, and what others did to the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ordertrail.delta.actions import Json
from ordertrail.delta.said import said_by
from ordertrail.errors import ForeignChangeError
from ordertrail.rules.tables import APP_ID

RESETS = "resets"
"""Member of the note of a target's commit: foreign commits that removed rows wholesale since the last rebuild."""

_RESETS = frozenset({"RESTORE", "REPLACE TABLE", "CREATE OR REPLACE TABLE", "CREATE OR REPLACE TABLE AS SELECT"})


def agreed_app_id(found: Iterable[str], place: str) -> str | None:
    """The application id that the existing tables agree on; None when there is none yet.

    Args:
        found: The id of each.
        place: Where they are, for the message.

    Raises:
        ForeignChangeError: They do not agree.
    """
    ids = set(found)
    if len(ids) > 1:
        raise ForeignChangeError(
            f"the tables in {place} belong to different pipelines",
            hint="give each pipeline tables of its own: see the table names in the config",
        )
    return ids.pop() if ids else None


def app_id_in(properties: Mapping[str, str], name: str) -> str:
    """The application id among the properties of one of our tables.

    Args:
        properties: The table's properties.
        name: The table's name, for the message.

    Raises:
        ForeignChangeError: It has none.
    """
    if APP_ID not in properties:
        raise ForeignChangeError(
            f"ordertrail did not create the table {name}, or somebody replaced it",
            hint="choose another table name, or restore the table to a version of ordertrail's; "
            "a target that was there before ordertrail is taken over with ordertrail adopt",
        )
    return properties[APP_ID]


ADOPTED = 1
"""The version of the `txn`s of `adopt`; there is only one."""


def adopt_id(app_id: str) -> str:
    """The application id of the commits by which `adopt` took a target over."""
    return f"{app_id}.adopt"


def archive_id(app_id: str) -> str:
    """The application id, in the deliveries table, of the mark that a batch's files are archived."""
    return f"{app_id}.archive"


def resets_in(said: Mapping[str, Json]) -> tuple[str, ...]:
    """The warnings in the note of a target's commit, which each commit passes on."""
    found = said.get(RESETS)
    return tuple(str(text) for text in found) if isinstance(found, list) else ()


def reset_warnings(name: str, commits: Iterable[tuple[int, str, str]]) -> tuple[str, ...]:
    """Warnings about commits of others that removed rows of the target wholesale.

    Args:
        name: The target's name.
        commits: (version, operation, mode) of the commits after the last one of ours, newest first.
    """
    warnings = []
    for version, operation, mode in commits:
        overwritten = operation in ("WRITE", "TRUNCATE") and mode.lower() == "overwrite"
        if operation in _RESETS or operation == "TRUNCATE" or overwritten:
            warnings.append(
                f"version {version} of {name} is a foreign {operation}: the target may no longer be the fold of the "
                "history; ordertrail rebuild restores that"
            )
    return tuple(warnings)


def batches_of_nothing(commits: Iterable[tuple[int, Sequence[Mapping[str, Json]]]], app_id: str) -> list[int]:
    """The batches that were recorded without a delivery: every file changed while executors read it.

    Args:
        commits: Commits of the deliveries table, as far as its log has them, each with its version.
        app_id: The pipeline's application id.
    """
    said = [said_by(actions) for _, actions in commits]
    return [int(str(one["batch"])) for one in said if one.get("app") == app_id and one.get("deliveries") == 0]
