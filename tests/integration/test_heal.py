"""`ordertrail migrate --replay`: rows and files that only the new contract accepts are named, and read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from ordertrail.cli import cli
from ordertrail.errors import PassRunningError
from ordertrail.lock import pipeline_lock
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Contract, Correction, CorrectionKind, State, Vendor
from ordertrail.rules import shares
from tests.harness import House, check_readers, open_house, without_fsync
from tests.oracle import Row

BEFORE = Contract(
    columns=(
        Column("tracking_num", "string", required=True, identifier=True),
        Column("status", "string"),
        Column("ts", "timestamp", required=True),
        Column("qty", "int"),
    ),
    key=("tracking_num",),
    order_by="ts",
    status="status",
    status_rank=("NEW", "DONE"),
)
AFTER = replace(
    BEFORE,
    columns=(
        *BEFORE.columns[:1],
        Column("state", "string", was=("status",)),
        BEFORE.columns[2],
        Column("qty", "string"),
    ),
    status="state",
)
VENDORS = (Vendor("acme", "*.csv"),)
HEAD = "tracking_num,status,ts,qty\n"
PARTLY = f"{HEAD}K1,NEW,2026-11-20 08:00:00,1\nK2,NEW,2026-11-20 08:00:00,2 pcs\nK3,NEW,2026-11-20 08:00:00,3\n"
MOSTLY = f"{HEAD}K1,DONE,2026-11-21 08:00:00,x\nK4,NEW,2026-11-21 08:00:00,y\n"
RENAMED = "tracking_num,state,ts,qty\nK5,NEW,2026-11-22 08:00:00,9\nK3,DONE,2026-11-22 08:00:00,10\n"
HOPELESS = "tracking_num,qty\nK6,1\n"
FILES = (PARTLY, MOSTLY, RENAMED, HOPELESS)


def fill(folder: Path, contract: Contract, files: tuple[str, ...] = FILES) -> House:
    house = open_house(folder, contract=contract, vendors=VENDORS, max_reject_share=0.5)
    for day, text in enumerate(files, 20):
        house.drop(f"a_202611{day}.csv", text)
        house.run()
    return house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with without_fsync():
        made = fill(tmp_path / "old", BEFORE)
        made.turn(contract=AFTER)
        yield made
        proof = verify(made.config)
        assert proof.ok, [check for check in proof.checks if not check.ok]
        check_readers(made)


def cells(house: House) -> list[tuple[object, ...]]:
    """What the target says, and which row of which file said it."""
    names = ("tracking_num", "state", "ts", "qty", "_file_name", "_file_row", "_rescued")
    return sorted(tuple(str(row[name]) for name in names) for row in house.rows("target"))


def test_nothing_is_excepted_any_more(house: House, tmp_path: Path) -> None:
    """The target is that of a pipeline which loaded all files under the new contract; so are rows that count."""
    named = migrate(house.config, replay=True)
    told = [(one.file_name, one.state, one.rows, one.left) for one in named.heals]
    assert told == [
        ("a_20261120.csv", "loaded", 1, ""),
        ("a_20261121.csv", "quarantined", 2, ""),
        ("a_20261122.csv", "quarantined", 2, ""),
    ]
    assert (named.applied, named.replay_batch, house.version("stage")) == (False, None, 4)
    done = migrate(house.config, apply=True, replay=True, by="ops")
    assert (done.batch, done.replay_batch, done.heals) == (5, 6, named.heals)
    fresh = fill(tmp_path / "new", AFTER)
    assert cells(house) == cells(fresh)

    def counted(one: House) -> list[tuple[object, ...]]:
        ids = {row["delivery_id"] for row in one.rows("deliveries") if row["state"] == State.LOADED}
        rows = [row for row in one.rows("history") if row["_delivery_id"] in ids]
        return sorted((str(row["_file_name"]), row["_file_row"], str(row["qty"])) for row in rows)

    assert counted(house) == counted(fresh)
    (first, *_) = (row for row in house.rows("deliveries") if row["state"] == State.REPLAYED)
    assert (first["changed_by"], str(first["changed_why"]).partition(":")[0]) == ("ops", "the contract was changed")
    again = migrate(house.config, apply=True, replay=True)
    assert (again.batch, again.replay_batch, again.heals) == (None, None, ())


def test_a_file_that_would_lose_rows_is_named_and_left(tmp_path: Path) -> None:
    """`migrate` keeps a row that only the old contract accepts; to read its file again would reject it."""
    with without_fsync():
        house = fill(tmp_path, replace(BEFORE, columns=(*BEFORE.columns, Column("depot", "string"))), files=(
            "tracking_num,status,ts,qty,depot\nK1,NEW,2026-11-20 08:00:00,1 pc,N\nK2,NEW,2026-11-20 08:00:00,2,south\n",
        ))  # fmt: skip
        house.turn(contract=replace(AFTER, columns=(*AFTER.columns, Column("depot", "string", pattern="[NS]"))))
        (heal,) = migrate(house.config, apply=True, replay=True).heals
        assert (heal.rows, heal.left) == (1, "rows that are loaded and would be rejected: 1")
        assert [row["tracking_num"] for row in house.rows("target")] == ["K2"]
        of = (heal.delivery_id,)
        correct(house.pipeline(), Wanted(Correction(CorrectionKind.REPLAY, of, "a test", "me")))
        assert [row["tracking_num"] for row in house.rows("target")] == ["K1"]


def test_what_a_person_decided_and_what_cannot_be_read_stays(house: House) -> None:
    """A file that was taken back or dismissed, one that is gone from the archive, one of a vendor that is gone."""
    house.turn(contract=BEFORE)
    ids = {str(row["file_name"]): str(row["delivery_id"]) for row in house.rows("deliveries")}
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, (ids["a_20261120.csv"],), "a test", "me")))
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.DISMISS, (ids["a_20261121.csv"],), "a test", "me")))
    house.turn(contract=AFTER)
    place: Row = house.delivery("a_20261122.csv")
    archived = house.config.archive / str(place["archived_to"])
    content = archived.read_bytes()
    archived.unlink()
    assert migrate(house.config, replay=True).heals == ()
    archived.write_bytes(content)
    assert len(migrate(house.config, replay=True).heals) == 1
    house.turn(vendors=(replace(VENDORS[0], name="blue"),))
    assert migrate(house.config, replay=True).heals == ()
    house.turn(vendors=VENDORS)
    assert migrate(house.config, apply=True, replay=True).replay_batch == 8
    assert {row["tracking_num"] for row in house.rows("target")} == {"K3", "K5"}


def test_files_that_were_set_aside_are_judged_by_their_keys(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the target once it carries the contract; before that their keys may have other names there."""
    monkeypatch.setattr(shares, "LEAST_KEYS", 2)
    house.turn(shares=(("acme", shares.Shares(new=0.4)),))  # half of their keys are new
    assert len(migrate(house.config, replay=True).heals) == 3
    done = migrate(house.config, apply=True, replay=True, by="ops")
    assert [one.file_name for one in done.heals] == ["a_20261120.csv"]
    assert {row["tracking_num"] for row in house.rows("target")} == {"K1", "K2", "K3"}


def test_the_lock_is_held_from_the_migration_to_the_end(house: House) -> None:
    tried: list[str] = []

    def probe(effect: str) -> None:
        if effect in ("migrate.deliveries.committed", "plan.decided", "done.committed", "stage.committed"):
            with pytest.raises(PassRunningError), pipeline_lock(house.config):
                pass
            tried.append(effect)

    migrate(house.config, apply=True, replay=True, probe=probe)
    assert tried[:3] == ["migrate.deliveries.committed", "plan.decided", "stage.committed"]
    with pipeline_lock(house.config):
        pass


def test_the_command(house: House) -> None:
    file = house.config.source.parent / "ordertrail.toml"
    columns = "".join(
        f'[[contract.columns]]\nname = "{one.name}"\ntype = "{one.type}"\nwas = {json.dumps(list(one.was))}\n'
        for one in AFTER.columns
    )
    file.write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n'
        'max_reject_share = 0.5\n[contract]\nkey = "tracking_num"\norder_by = "ts"\nstatus = "state"\n'
        f'status_rank = ["NEW", "DONE"]\n{columns}[[vendors]]\nname = "acme"\nfiles = "*.csv"\n'
    )

    def call(*words: str) -> str:
        result = CliRunner().invoke(cli, ["migrate", *words, "--config", str(file)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "set aside: 3, with rejected rows: 1; ordertrail migrate --replay says which" in call()
    text = call("--replay")
    assert "Rows and files that only this contract accepts" in text
    assert "ordertrail migrate --apply --replay" in text
    said = json.loads(call("--apply", "--replay", "--json"))
    assert (said["batch"], said["replay_batch"], [one["rows"] for one in said["heals"]]) == (5, 6, [1, 2, 2])
    assert "Read again" not in call("--apply", "--replay")
