"""Columns that files bring are those that a config had from the start, before and after it takes them over."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Contract, Vendor
from tests.feeds import FeedFile, dated
from tests.harness import NOON_NS, House, check_books, open_house, without_fsync
from tests.property.test_migration import LIMITS, content, load, undo_first

pytestmark = [pytest.mark.property, pytest.mark.slow]

BASE = Contract(
    (
        Column("tracking_num", "string", required=True),
        Column("status", "string"),
        Column("ts", "timestamp", required=True),
    ),
    ("tracking_num",),
    "ts",
    "status",
    ("NEW", "SENT", "DONE"),
    "add",
)
NAMES = ("tracking_num", "status", "ts")
SPELLINGS = {
    "weight_kg": ("Weight (kg)", "WEIGHT KG", "weight_kg", "weight/kg"),
    "seen": ("Seen", "seen", "SEEN!"),
    "c_2nd": ("2nd", "2ND."),
}
"""For each column the headers that bring it."""

KEPT = ("_note", "状態")
"""Headers that never become columns."""

VALUES = {
    "weight_kg": ("", "1.5", "12", " 7 "),
    "seen": ("", "2026-11-01 08:00:00", "2026-11-02 09:30:00"),
    "c_2nd": ("", "x", "y"),
    "_note": ("", "n"),
    "状態": ("", "s"),
}
TYPES = {"weight_kg": "decimal(8,2)", "seen": "timestamp", "c_2nd": "string"}
SENDERS = ("acme", "blue")


def feed(chance: random.Random, files: int) -> list[FeedFile]:
    """Files that have some of the columns, under any of their spellings, in any place."""
    found = []
    for number in range(files):
        sender = chance.choice(SENDERS)
        brought = [name for name in SPELLINGS if chance.random() < 0.5]
        headers = {name: name for name in NAMES} | {name: chance.choice(SPELLINGS[name]) for name in brought}
        headers |= {name: name for name in KEPT if chance.random() < 0.3}
        order = chance.sample(list(headers), len(headers))
        rows = [[headers[name] for name in order]]
        for _ in range(chance.randrange(1, 12)):
            cells = {name: chance.choice(values) for name, values in VALUES.items()} | {
                "tracking_num": f"K{chance.randrange(12)}",
                "status": chance.choice(("NEW", "SENT", "DONE", "")),
                "ts": f"2026-11-0{chance.randrange(1, 4)} {chance.randrange(10, 14)}:00:00",
            }
            rows.append([cells[name] for name in order])
        text = "\n".join(",".join(row) for row in rows) + "\n"
        found.append(FeedFile(f"{sender}/{number}_{dated(chance.choice((2, 3, 4)))}", text.encode(), NOON_NS))
    return found


def vendors(contract: Contract) -> tuple[Vendor, ...]:
    """Profiles for a contract that declares the columns: nobody always sends them, and each has many headers."""
    declared = [column.name for column in contract.columns if column.name in SPELLINGS]
    aliases = tuple((name, tuple(dict.fromkeys(one for one in SPELLINGS[name] if one != name))) for name in declared)
    return tuple(Vendor(one, f"{one}/*.csv", absent=tuple(declared), aliases=aliases) for one in SENDERS)


def declaring(names: list[str], types: dict[str, str]) -> Contract:
    return replace(BASE, columns=(*BASE.columns, *(Column(name, types[name]) for name in names)))


def agree(ours: House, theirs: House, contract: Contract) -> None:
    """The same cells under a contract, by the same rows, and tables that agree with each other."""
    for table in ("history", "target"):
        left, right = (content(House(replace(one.config, contract=contract)), table, ()) for one in (ours, theirs))
        assert left == right, (
            table,
            sorted((left - right).items(), key=str)[:3],
            sorted((right - left).items(), key=str)[:3],
        )
    proof = verify(ours.config)
    assert proof.ok, [check for check in proof.checks if not check.ok]
    assert rebuild(ours.config, dry_run=True).differences.total == 0  # type: ignore[union-attr]
    check_books(House(replace(ours.config, contract=contract)))


@pytest.mark.series
@pytest.mark.parametrize("seed", range(2, 6))
def test_added_columns_are_columns_from_the_start(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    files = feed(chance, 7)
    text = b"".join(file.content for file in files[:6])
    names = [name for name, spelt in SPELLINGS.items() if any(one.encode() in text for one in spelt)]
    whole = declaring(names, dict.fromkeys(SPELLINGS, "string"))
    added = open_house(tmp_path / "added", contract=BASE, vendors=vendors(BASE), **LIMITS)
    rescuing = replace(whole, unknown_columns="rescue")
    start = open_house(tmp_path / "start", contract=rescuing, vendors=vendors(whole), **LIMITS)
    undone = files[0].path.rpartition("/")[2] if chance.random() < 0.5 else None
    with without_fsync():
        for house in (added, start):
            load(house, files[:6], (1, 2, 1, 2))
            if undone is not None:
                undo_first(house, undone)
        agree(added, start, whole)
        typed = declaring(names, TYPES)
        end = open_house(
            tmp_path / "end", contract=replace(typed, unknown_columns="rescue"), vendors=vendors(typed), **LIMITS
        )
        load(end, files[:6], (1, 2, 1, 2))
        if undone is not None:
            undo_first(end, undone)
        added.turn(contract=replace(typed, unknown_columns="rescue"), vendors=vendors(typed))
        assert not migrate(added.config, apply=True).problems
        agree(added, end, typed)
        for house in (added, end):
            load(house, files[6:], (1,))
        agree(added, end, typed)
