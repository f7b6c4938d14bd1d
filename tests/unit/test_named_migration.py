"""What a migration of tables by name stages: it is read back as it was written, and by nobody who must not go on."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from ordertrail.config import DEFAULT_CONTRACT
from ordertrail.errors import TableError
from ordertrail.model import Vendor
from ordertrail.rules.migration import Migration, migration_from
from ordertrail.rules.named_migration import NamedMigration, named_migration_from, readings_of

STAGED = NamedMigration(
    before='{"a": 1}',
    after='{"a": 2}',
    steps=("qty becomes string, from int",),
    version=7,
    absent={"000001-00000-a": ("weight",), "000001-00001-b": ("weight",), "000002-00000-c": ()},
    effect="{}",
    readings="f00",
)
IN_FOLDERS = Migration("{}", "{}", (), (1, 2, 3), (), (), ())


def test_it_is_read_back_and_says_equal_lists_once() -> None:
    assert named_migration_from(STAGED.text) == STAGED
    assert STAGED.text.count("weight") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (IN_FOLDERS.text, "begun where the tables' folders can be read"),
        (STAGED.text.replace('"by_name": 1', '"by_name": 2'), "a newer release of ordertrail began a migration"),
        (json.dumps({"by_name": 1}), "holds a migration that cannot be read: KeyError"),
        ("[]", "begun where the tables' folders can be read"),
        ("no JSON", "holds a migration that cannot be read: JSONDecodeError"),
    ],
)
def test_what_cannot_be_gone_on_with_is_told(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        named_migration_from(text)


def test_who_reads_folders_does_not_go_on_with_it() -> None:
    with pytest.raises(TableError, match="begun where only Spark reaches the tables"):
        migration_from(STAGED.text)


def test_readings_are_those_of_contract_and_profiles() -> None:
    acme, blue = Vendor("acme"), Vendor("blue")
    same = readings_of(DEFAULT_CONTRACT, (acme, blue))
    assert readings_of(DEFAULT_CONTRACT, (blue, acme)) == same
    others = [
        readings_of(DEFAULT_CONTRACT, (acme, replace(blue, timezone="America/Chicago"))),
        readings_of(DEFAULT_CONTRACT, (acme,)),
        readings_of(replace(DEFAULT_CONTRACT, max_future_s=1.0), (acme, blue)),
    ]
    assert same not in others
    assert len(set(others)) == 3
