"""What every engine looks at when it opens the tables: whose they are, and what others did to the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ordertrail.delta.actions import Json
from ordertrail.delta.said import said_by
from ordertrail.errors import ForeignChangeError
from ordertrail.rules.tables import APP_ID

RESETS = "resets"
"""What a commit of the target says: which foreign commits took rows away wholesale, since it was last rebuilt."""

_RESETS = frozenset({"RESTORE", "REPLACE TABLE", "CREATE OR REPLACE TABLE", "CREATE OR REPLACE TABLE AS SELECT"})


def agreed_app_id(found: Iterable[str], place: str) -> str | None:
    """The application id that the tables which are there agree on; None when there is none yet.

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
    """The application id that a table of ours has among its properties.

    Args:
        properties: Of the table.
        name: Of the table, for the message.

    Raises:
        ForeignChangeError: It has none.
    """
    if APP_ID not in properties:
        raise ForeignChangeError(
            f"the table {name} was not made by ordertrail, or was replaced",
            hint="choose another table name, or restore the table to a version of ordertrail's; "
            "a target that was there before ordertrail is taken over with ordertrail adopt",
        )
    return properties[APP_ID]


def resets_in(said: Mapping[str, Json]) -> tuple[str, ...]:
    """The warnings that a commit of the target hands on, from what it says."""
    found = said.get(RESETS)
    return tuple(str(text) for text in found) if isinstance(found, list) else ()


def reset_warnings(name: str, commits: Iterable[tuple[int, str, str]]) -> tuple[str, ...]:
    """Warnings about commits of others that took rows of the target away wholesale.

    Args:
        name: Of the target.
        commits: (version, operation, mode) of the commits after the last one of ours, newest first.
    """
    warnings = []
    for version, operation, mode in commits:
        overwritten = operation in ("WRITE", "TRUNCATE") and mode.lower() == "overwrite"
        if operation in _RESETS or operation == "TRUNCATE" or overwritten:
            warnings.append(
                f"version {version} of {name} is a foreign {operation}: the target may no longer be the fold of the "
                "history; ordertrail rebuild makes it that again"
            )
    return tuple(warnings)


def batches_of_nothing(commits: Iterable[tuple[int, Sequence[Mapping[str, Json]]]], app_id: str) -> list[int]:
    """The batches that were recorded without a delivery: every file changed while executors read it.

    Args:
        commits: Of the deliveries table, as far as its log has them, each with its version.
        app_id: Of the pipeline.
    """
    said = [said_by(actions) for _, actions in commits]
    return [int(str(one["batch"])) for one in said if one.get("app") == app_id and one.get("deliveries") == 0]
