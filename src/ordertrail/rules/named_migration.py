"""A migration of tables by name as its batch stages it: all that decides what is written, so that it is written once.

Where only Spark reaches the tables nobody can name files that a later commit takes in. So the stage's commit has no
files, but what the new rows follow from beside the history: the two contracts, and how the vendors' files are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ordertrail.errors import TableError
from ordertrail.model import Contract, Vendor
from ordertrail.rules.contract_hash import contract_hash

_VERSION = 1
BY_NAME = "by_name"
"""Member of the text of a migration of tables by name: its form's version."""


class NamedMigration(Struct, frozen=True):
    """What a migration of tables by name does.

    Attributes:
        before: The contract that the tables carry, as `Terms.text`.
        after: The new one.
        steps: What is done, for people.
        version: The version of the history whose rows it changes.
        absent: By delivery id, the columns that a delivery lacks under the new contract, where they change.
        effect: What it may change in the target, as `Effect.text`.
        readings: How values are read again, as `readings_of` tells.
    """

    before: str
    after: str
    steps: tuple[str, ...]
    version: int
    absent: Mapping[str, tuple[str, ...]]
    effect: str
    readings: str

    @property
    def text(self) -> str:
        """The migration as JSON, as `Manifest.migration` keeps it; deliveries that lack the same stand together."""
        lacking: dict[tuple[str, ...], list[str]] = {}
        for delivery, names in self.absent.items():
            lacking.setdefault(names, []).append(delivery)
        body = {
            BY_NAME: _VERSION,
            "before": self.before,
            "after": self.after,
            "steps": self.steps,
            "history_version": self.version,
            "absent": [[names, sorted(deliveries)] for names, deliveries in sorted(lacking.items())],
            "effect": self.effect,
            "readings": self.readings,
        }
        return json.dumps(body, sort_keys=True)


def named_migration_from(text: str) -> NamedMigration:
    """Read `NamedMigration.text`, of any release.

    Raises:
        TableError: It is damaged, a newer release wrote it, or it is one of tables in folders.
    """
    try:
        body = json.loads(text)
        if BY_NAME not in body:
            raise TableError(
                "a migration is not finished that was begun where the tables' folders can be read",
                hint="run ordertrail run there: it finishes the migration",
            )
        if body[BY_NAME] > _VERSION:
            raise TableError(
                "a newer release of ordertrail began a migration of the tables",
                hint="finish it with that release: install it again, then run ordertrail run",
            )
        return NamedMigration(
            before=str(body["before"]),
            after=str(body["after"]),
            steps=tuple(map(str, body["steps"])),
            version=int(body["history_version"]),
            absent={str(one): tuple(map(str, names)) for names, found in body["absent"] for one in found},
            effect=str(body["effect"]),
            readings=str(body["readings"]),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise TableError(
            f"the stage holds a migration that cannot be read: {type(error).__name__}: {error}",
            hint="restore orders_stage to its last MIGRATE commit",
        ) from error


def readings_of(contract: Contract, vendors: Sequence[Vendor]) -> str:
    """A fingerprint of how a contract and profiles read cells: under another one a migration could give other values.

    Args:
        contract: The new one.
        vendors: The profiles.
    """
    said = json.dumps(sorted([vendor.name, contract_hash(contract, vendor)] for vendor in vendors))
    return hashlib.sha256(said.encode()).hexdigest()
