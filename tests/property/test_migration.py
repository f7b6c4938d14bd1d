"""The law of migrations: afterwards the tables are those of a pipeline that loaded all files under the new contract."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Contract, Correction, CorrectionKind, Vendor
from tests.feeds import FeedFile, dated
from tests.harness import NOON_NS, House, check_books, open_house, without_fsync

pytestmark = [pytest.mark.property, pytest.mark.slow]

BEFORE = Contract(
    columns=(
        Column("tracking_num", "string", required=True, identifier=True),
        Column("status", "string"),
        Column("ts", "timestamp", required=True),
        Column("qty", "int"),
        Column("eta", "string"),
    ),
    key=("tracking_num",),
    order_by="ts",
    status="status",
    status_rank=("NEW", "SENT", "DONE"),
)
VENDORS = (
    Vendor("acme", "acme/*.csv", absent=("seen",), status_map=(("neu", "NEW"),), nulls=("-",)),
    Vendor(
        "blue",
        "blue/*.csv",
        timezone="America/New_York",
        aliases=(("weight", ("Wt", "gross weight")),),
        formats=(("seen", ("%d.%m.%Y %H:%M",)), ("eta", ("%d.%m.%Y %H:%M",))),
    ),
)
LIMITS = {"max_reject_share": 1.0, "min_rejects": 1_000_000}
TIMES = ("2026-11-01 00:30:00", "2026-11-01 01:30:00", "2026-11-01 01:30:00-04:00", "2026-11-02 08:00:00")
DAYS = (2, 3, 4)


def with_column(contract: Contract, *columns: Column) -> Contract:
    """The contract with more columns, or others of the same name."""
    named = {column.name: column for column in columns}
    kept = tuple(named.pop(column.name, column) for column in contract.columns)
    return replace(contract, columns=(*kept, *named.values()))


def vendors_for(contract: Contract) -> tuple[Vendor, ...]:
    """The vendors, with what their profiles say about columns of the contract: a config may say no more."""

    def known(said: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return tuple((name, words) for name, words in said if name in contract.names)

    return tuple(
        replace(
            one,
            aliases=known(one.aliases),
            formats=known(one.formats),
            absent=tuple(name for name in one.absent if name in contract.names),
        )
        for one in VENDORS
    )


def without(contract: Contract, *names: str) -> Contract:
    return replace(contract, columns=tuple(one for one in contract.columns if one.name not in names))


def renamed(contract: Contract) -> Contract:
    columns = tuple(
        replace(one, name="state", was=("status",)) if one.name == "status" else one for one in contract.columns
    )
    return replace(contract, columns=columns, status="state")


CHANGES: dict[str, Callable[[Contract], Contract]] = {
    "add weight": lambda c: with_column(c, Column("weight", "decimal(8,2)")),
    "add weight as text": lambda c: with_column(c, Column("weight", "string")),
    "add seen": lambda c: with_column(c, Column("seen", "timestamp")),
    "qty to decimal": lambda c: with_column(c, Column("qty", "decimal(10,2)")),
    "qty to text": lambda c: with_column(c, Column("qty", "string")),
    "eta to time": lambda c: with_column(c, Column("eta", "timestamp")),
    "status renamed": renamed,
    "eta dropped": lambda c: without(c, "eta"),
    "ranks turned": lambda c: replace(c, status_rank=c.status_rank[::-1]),
    "key of two": lambda c: replace(with_column(c, Column("prio", "int", required=True)), key=("tracking_num", "prio")),
    "ordered by sent": lambda c: replace(with_column(c, Column("sent", "timestamp", required=True)), order_by="sent"),
}


def feed(chance: random.Random, files: int, keys: int) -> list[FeedFile]:
    """Files with all columns that any contract wants, and one that none does, under the vendors' names for them."""
    found = []
    for number in range(files):
        sender = chance.choice(("acme", "blue"))
        names = ["tracking_num", "status", "ts", "qty", "eta", "Weight", "prio", "sent", "note"]
        if sender == "blue":
            names[5] = chance.choice(("Wt", "gross weight"))
            names.append("Seen")
        elif chance.random() < 0.3:
            names.append("seen")
        rows = [names, *(line(chance, sender, len(names) == 10) for _ in range(keys))]
        content = "\n".join(",".join(cells) for cells in rows) + "\n"
        found.append(FeedFile(f"{sender}/{number}_{dated(chance.choice(DAYS))}", content.encode(), NOON_NS))
    return found


def line(chance: random.Random, sender: str, seen: bool) -> list[str]:
    nothing = "-" if sender == "acme" else ""
    eta = chance.choice(
        (nothing, "2026-11-05 10:00:00", "05.11.2026 10:00" if sender == "blue" else "2026-11-05T10:00:00Z")
    )
    cells = [
        f"K{chance.randrange(40)}",
        chance.choice(("NEW", "SENT", "DONE", "neu", nothing)),
        chance.choice(TIMES),
        chance.choice(("", nothing, "1", "20", "-3")),
        eta,
        chance.choice(("", nothing, "1.5", "12", "0.25", " 7 ")),
        chance.choice(("0", "1")),
        chance.choice(TIMES),
        chance.choice(("", "x", "y")),
    ]
    return [*cells, chance.choice(("", *TIMES, "01.11.2026 01:30" if sender == "blue" else ""))] if seen else cells


def load(house: House, files: Sequence[FeedFile], batches: Sequence[int]) -> None:
    """Load the files, so many a batch."""
    rest = list(files)
    for size in batches:
        house.drop_all(rest[:size])
        del rest[:size]
        house.run()


def content(
    house: House, table: str, but: Sequence[str], counted: Container[object] | None = None
) -> Counter[tuple[object, ...]]:
    """The contract's cells and `_rescued` of all rows, with where they come from.

    Args:
        house: Whose tables.
        table: `target` or `history`.
        but: Columns that left the contract: what later files say in them lies in `_rescued`, older values do not.
        counted: Only rows of these deliveries; None takes all.
    """
    found: Counter[tuple[object, ...]] = Counter()
    for row in house.rows(table):
        if counted is not None and row["_delivery_id"] not in counted:
            continue
        rescued = {k: v for k, v in json.loads(str(row["_rescued"] or "{}")).items() if k not in but}
        cells = [(name, row[name]) for name in sorted(house.config.contract.names)]
        found[(str(row["_file_name"]), row["_file_row"], *cells, json.dumps(rescued, sort_keys=True))] += 1
    return found


def undo_first(house: House, name: str) -> None:
    """Take back the delivery of a file."""
    of = (str(house.delivery(name)["delivery_id"]),)
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, of, "a test", "me")))


@pytest.mark.series
@pytest.mark.parametrize("seed", range(10))
def test_a_migration_is_a_load_under_the_new_contract(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    files = feed(chance, 6, 25)
    picked = chance.sample(sorted(CHANGES), chance.choice((1, 2, 3, 4)))
    after = BEFORE
    for name in [one for one in CHANGES if one in picked]:
        after = CHANGES[name](after)
    but = [name for name in ("eta",) if name not in after.names]
    old, new = (
        open_house(tmp_path / name, contract=contract, vendors=vendors_for(contract), **LIMITS)
        for name, contract in (("old", BEFORE), ("new", after))
    )
    undone = files[1].path.rpartition("/")[2] if chance.random() < 0.4 else None
    with without_fsync():
        for house in (old, new):
            load(house, files[:4], (2, 1, 1))
            if undone is not None:
                undo_first(house, undone)
        old.turn(contract=after, vendors=vendors_for(after))
        report = migrate(old.config, apply=True)
        assert report.applied, picked
        assert not report.problems
        compare(old, new, but, picked)
        for house in (old, new):
            load(house, files[4:], (1, 1))
        compare(old, new, but, picked)
    again = migrate(old.config)
    assert all(step.kind == "fill" and step.rows == step.unfit for step in again.steps), again.steps


def compare(old: House, new: House, but: Sequence[str], picked: Sequence[str]) -> None:
    """The migrated pipeline's tables are those of the fresh one, and agree with each other."""
    assert not new.rows("rejects"), "the feed must suit both contracts"
    for table in ("history", "target"):
        ours, theirs = content(old, table, but), content(new, table, but)
        print(*sorted((ours - theirs).items(), key=str)[:2], *sorted((theirs - ours).items(), key=str)[:2], sep="\n")
        assert ours == theirs, (
            table,
            picked,
            sorted((ours - theirs).items(), key=str)[:3],
            sorted((theirs - ours).items(), key=str)[:3],
        )
    for house in (old, new):
        proof = verify(house.config)
        assert proof.ok, [check for check in proof.checks if not check.ok]
    assert rebuild(old.config, dry_run=True).differences.total == 0  # type: ignore[union-attr]
    check_books(new)


WIDER = ("add weight as text", "qty to text", "status renamed", "eta dropped", "ranks turned", "ordered by sent")
"""Changes after which every row that the old contract accepts is accepted."""


def spoilt(chance: random.Random, file: FeedFile) -> FeedFile:
    """A file that suits only the new contract: some numbers are text, or a header has the new name of its column."""
    head, *rows = file.content.decode().splitlines()
    if chance.random() < 0.4:
        head = head.replace("status", "state")
    rows = [
        ",".join(("2 pcs" if i == 3 and chance.random() < 0.3 else cell) for i, cell in enumerate(row.split(",")))
        for row in rows
    ]
    return replace(file, content="\n".join((head, *rows, "")).encode())


@pytest.mark.series
@pytest.mark.parametrize("seed", range(4))
def test_with_replay_nothing_is_excepted(tmp_path: Path, seed: int) -> None:
    """Rejected rows and quarantined files of the old contract are there, as after a load under the new one."""
    chance = random.Random(100 + seed)
    files = [spoilt(chance, file) if chance.random() < 0.7 else file for file in feed(chance, 5, 20)]
    after = BEFORE
    picked = {"qty to text", "status renamed", *chance.sample(WIDER, 2)}
    for name in [one for one in CHANGES if one in picked]:
        after = CHANGES[name](after)
    but = [name for name in ("eta",) if name not in after.names]
    old, new = (
        open_house(tmp_path / name, contract=contract, vendors=vendors_for(contract), max_reject_share=0.2)
        for name, contract in (("old", BEFORE), ("new", after))
    )
    with without_fsync():
        for house in (old, new):
            load(house, files, (2, 2, 1))
        assert old.rows("rejects")
        old.turn(contract=after, vendors=vendors_for(after))
        report = migrate(old.config, apply=True, replay=True)
        assert report.replay_batch == 5, picked
    counted = {row["delivery_id"] for row in old.rows("deliveries") if row["state"] == "loaded"}
    assert len(counted) == len(files)
    assert content(old, "target", but) == content(new, "target", but), picked
    assert content(old, "history", but, counted) == content(new, "history", but), picked
    assert verify(old.config).ok
    assert rebuild(old.config, dry_run=True).differences.total == 0  # type: ignore[union-attr]
