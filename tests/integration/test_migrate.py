"""`ordertrail migrate`: what it finds, what it refuses, and what others make of the tables afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, QueryBuilder
from deltalake.schema import Field, PrimitiveType
from msgspec.structs import replace

from ordertrail.cli import cli
from ordertrail.cli.render_migration import report as render
from ordertrail.cli.screen import Screen
from ordertrail.errors import ConfigError, UsageError
from ordertrail.keep.rebuild import rebuild
from ordertrail.lock import pipeline_lock
from ordertrail.look.status import Reader
from ordertrail.look.verify import verify
from ordertrail.mend import migration as module
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Contract, Correction, CorrectionKind, Vendor
from tests.harness import House, check_books, check_readers, open_house

BASE = Contract(
    columns=(
        Column("tracking_num", "string", required=True, identifier=True),
        Column("status", "string"),
        Column("ts", "timestamp", required=True),
        Column("qty", "string"),
    ),
    key=("tracking_num",),
    order_by="ts",
    status="status",
    status_rank=("NEW", "DONE"),
)
ACME = Vendor("acme", "*.csv")
FIRST = """tracking_num,status,ts,qty,Weight
K1,NEW,2026-11-20 08:00:00,1,1.5
K2,NEW,2026-11-20 08:00:00,2,heavy
K3,NEW,2026-11-20 08:00:00,3,
"""
SECOND = """tracking_num,status,ts,qty,Weight
K1,DONE,2026-11-21 08:00:00,10,2.5
K4,NEW,2026-11-21 08:00:00,12 pcs,4
"""

FILES = ("add", "remove")


def column(contract: Contract, which: str, **changes: object) -> Contract:
    """The contract with one column changed."""
    changed = (replace(one, **changes) if one.name == which else one for one in contract.columns)  # type: ignore[arg-type]
    return replace(contract, columns=tuple(changed))


def more(contract: Contract, *columns: Column) -> Contract:
    return replace(contract, columns=(*contract.columns, *columns))


WEIGHT = more(BASE, Column("weight", "decimal(8,2)"))
QTY = column(BASE, "qty", type="int")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Two batches under `BASE`; afterwards the tables agree, for every reader."""
    made = open_house(tmp_path, contract=BASE, vendors=(ACME,), max_reject_share=0.5)
    for name, text in (("a_20261120.csv", FIRST), ("a_20261121.csv", SECOND)):
        made.drop(name, text)
        made.run()
    yield made
    proof = verify(made.config)
    assert proof.ok, [check for check in proof.checks if not check.ok]
    check_readers(made)


def by_key(house: House, name: str) -> dict[str, object]:
    return {str(row["tracking_num"]): row[name] for row in house.rows("target")}


def rescued(house: House) -> dict[str, object]:
    return {str(row["tracking_num"]): json.loads(str(row["_rescued"] or "{}")) for row in house.rows("target")}


# -- steps ----------------------------------------------------------------------------------------------------------


def test_nothing_to_do(house: House) -> None:
    report = migrate(house.config, apply=True)
    assert (report.steps, report.applied, report.batch) == ((), False, None)


def test_a_column_is_filled_and_what_does_not_fit_stays(house: House) -> None:
    house.turn(contract=WEIGHT)
    planned = migrate(house.config)
    assert [(one.kind, one.column, one.rows, one.unfit) for one in planned.steps] == [
        ("add", "weight", None, 0),
        ("fill", "weight", 4, 1),
    ]
    (unfit,) = planned.unfit
    assert (unfit.file_name, unfit.file_row, unfit.column, unfit.value) == ("a_20261120.csv", 2, "weight", "heavy")
    assert house.version("history") == 2
    done = migrate(house.config, apply=True)
    assert done.batch == 3
    assert {key: str(value) for key, value in by_key(house, "weight").items()} == {
        "K1": "2.50",
        "K2": "None",
        "K3": "None",
        "K4": "4.00",
    }
    assert rescued(house) == {"K1": {}, "K2": {"Weight": "heavy"}, "K3": {}, "K4": {}}
    left = migrate(house.config)
    assert [(one.kind, one.rows, one.unfit) for one in left.steps] == [("fill", 1, 1)]
    assert not migrate(house.config, apply=True).applied
    check_books(house)


def test_a_column_that_a_pass_added_is_filled_later(house: House) -> None:
    """`run` adds the column by itself, and reads it in new files; `migrate` fills the old rows."""
    house.turn(contract=WEIGHT)
    house.drop("a_20261122.csv", "tracking_num,status,ts,qty,Weight\nK5,NEW,2026-11-22 08:00:00,1,9\n")
    house.run()
    assert {str(value) for value in by_key(house, "weight").values()} == {"None", "9.00"}
    assert [step.kind for step in migrate(house.config, apply=True).steps] == ["fill"]
    assert str(by_key(house, "weight")["K1"]) == "2.50"


def test_only_a_column_is_added_without_a_batch(house: House) -> None:
    house.turn(contract=more(BASE, Column("depot", "string")))
    report = migrate(house.config, apply=True)
    assert (report.applied, report.batch) == (True, None)
    assert set(by_key(house, "depot").values()) == {None}


def test_a_type_changes_and_footers_say_so(house: House) -> None:
    house.turn(contract=QTY)
    with pytest.raises(ConfigError) as caught:
        house.run()
    assert caught.value.hint.startswith("ordertrail migrate ")
    report = migrate(house.config, apply=True)
    assert [(one.kind, one.before, one.after, one.rows, one.unfit) for one in report.steps] == [
        ("type", "string", "int", 5, 1)
    ]
    assert by_key(house, "qty") == {"K1": 10, "K2": 2, "K3": 3, "K4": None}
    assert rescued(house)["K4"] == {"Weight": "4", "qty": "12 pcs"}
    for table in ("target", "history"):
        for path in DeltaTable(house.table_path(table)).file_uris():
            assert pq.read_schema(path).field("qty").type == pa.int32()
    house.drop("a_20261122.csv", "tracking_num,status,ts,qty,Weight\nK4,DONE,2026-11-22 08:00:00,13,\n")
    assert house.run().rows.updated == 1
    assert by_key(house, "qty")["K4"] == 13


def test_a_column_is_renamed_and_sent_under_either_name(house: House) -> None:
    house.turn(contract=replace(column(BASE, "status", name="state", was=("status",)), status="state"))
    assert [(one.kind, one.before, one.after) for one in migrate(house.config, apply=True).steps] == [
        ("rename", "status", "state")
    ]
    assert by_key(house, "state") == {"K1": "DONE", "K2": "NEW", "K3": "NEW", "K4": "NEW"}
    house.drop("a_20261122.csv", SECOND.replace("2026-11-21", "2026-11-22"))
    house.drop("b_20261122.csv", SECOND.replace("status", "state").replace("2026-11-21", "2026-11-23"))
    assert [one.state for one in house.run().deliveries] == ["loaded", "loaded"]
    house.drop("c_20261122.csv", "tracking_num,status,state,ts,qty\nK9,NEW,NEW,2026-11-22 08:00:00,1\n")
    (both,) = house.run().deliveries
    assert both.state == "quarantined"
    assert "two columns of the file are state" in str(both.reason)


@pytest.mark.parametrize(
    ("contract", "changes"),
    [
        (replace(column(BASE, "status", name="state", was=("status",)), status="state"), False),
        (replace(BASE, columns=BASE.columns[:3]), False),
        (QTY, True),
        (WEIGHT, True),
    ],
)
def test_only_a_migration_of_values_is_a_change_to_readers(house: House, contract: Contract, changes: bool) -> None:
    house.turn(contract=contract)
    migrate(house.config, apply=True)
    bodies = [body for one in house.actions("target", house.version()) for kind, body in one.items() if kind in FILES]
    assert {body["dataChange"] for body in bodies} == {changes}


def test_a_dropped_column_stays_in_the_history(house: House) -> None:
    house.turn(contract=replace(BASE, columns=BASE.columns[:-1]))
    assert [(one.kind, one.column, one.before) for one in migrate(house.config, apply=True).steps] == [
        ("drop", "qty", "string")
    ]
    assert "qty" not in house.rows("target")[0]
    history = QueryBuilder().register("t", DeltaTable(house.table_path("history"))).execute("SELECT qty FROM t")
    assert sorted(str(row["qty"]) for row in pa.table(history).to_pylist()) == ["1", "10", "12 pcs", "2", "3"]
    house.drop("a_20261122.csv", SECOND.replace("2026-11-21", "2026-11-22"))
    house.run()
    assert rescued(house)["K1"] == {"Weight": "2.5", "qty": "10"}
    assert rebuild(house.config, dry_run=True).differences.total == 0  # type: ignore[union-attr]


def test_a_dropped_column_that_a_vendor_never_sent(tmp_path: Path) -> None:
    """Its files lacked it; what they say of a key is folded without it from then on."""
    contract = more(BASE, Column("depot", "string"))
    house = open_house(tmp_path, contract=contract, vendors=(replace(ACME, absent=("depot",)),))
    house.drop("a_20261120.csv", "tracking_num,status,ts,qty\nK1,NEW,2026-11-20 08:00:00,1\n")
    house.run()
    house.turn(contract=BASE, vendors=(ACME,))
    migrate(house.config, apply=True)
    assert [row["absent"] for row in house.rows("deliveries")] == ["[]", "[]"]
    house.drop("a_20261121.csv", "tracking_num,status,ts,qty\nK1,DONE,2026-11-21 08:00:00,2\n")
    assert house.run().rows.updated == 1
    check_readers(house)


def test_a_new_key_folds_the_target_anew(house: House) -> None:
    house.turn(contract=replace(column(BASE, "status", required=True), key=("tracking_num", "status")))
    report = migrate(house.config, apply=True)
    assert "key" in [step.kind for step in report.steps]
    keys = sorted((str(row["tracking_num"]), str(row["status"])) for row in house.rows("target"))
    assert keys == [("K1", "DONE"), ("K1", "NEW"), ("K2", "NEW"), ("K3", "NEW"), ("K4", "NEW")]
    house.drop("a_20261122.csv", "tracking_num,status,ts,qty\nK1,NEW,2026-11-22 08:00:00,7\n")
    assert house.run().rows.updated == 1


def test_other_ranks_fold_ties_anew(house: House) -> None:
    rows = "T,NEW,2026-11-23 08:00:00,1\nT,DONE,2026-11-23 08:00:00,2\n"
    house.drop("t_20261123.csv", f"tracking_num,status,ts,qty\n{rows}")
    house.run()
    assert by_key(house, "status")["T"] == "DONE"
    house.turn(contract=replace(BASE, status_rank=("DONE", "NEW")))
    house.run()  # ranks of later rows may change at any time
    assert [step.kind for step in migrate(house.config, apply=True).steps] == ["order"]
    assert by_key(house, "status")["T"] == "NEW"
    assert migrate(house.config).steps == ()


# -- what is refused ------------------------------------------------------------------------------------------------


def test_too_many_values_do_not_fit(house: House) -> None:
    house.turn(contract=column(BASE, "qty", type="boolean"), max_reject_share=0.2)
    versions = {name: house.version(name) for name in ("stage", "target", "history", "deliveries")}
    report = migrate(house.config)
    assert [one.value for one in report.unfit] == ["2", "3", "10", "12 pcs"]
    assert report.problems == ("4 of 5 values of qty do not fit boolean, more than max_reject_share (0.2) allows",)
    with pytest.raises(
        UsageError, match=r"4 of 5 values of qty .*a_20261120.csv row 2, qty '2': neither true .*nothing"
    ):
        migrate(house.config, apply=True)
    assert {name: house.version(name) for name in versions} == versions
    house.turn(contract=BASE)


def test_two_columns_cannot_become_one(house: House) -> None:
    """Each has values of its own: those of one would be lost."""
    columns = (
        *(one for one in BASE.columns if one.name not in ("qty", "status")),
        Column("n", "string", was=("qty", "status")),
    )
    house.turn(contract=replace(BASE, columns=columns, status=None, status_rank=()))
    with pytest.raises(UsageError, match="n would take the place of qty and status, and one of them would be lost"):
        migrate(house.config, apply=True)
    house.turn(contract=BASE)


@pytest.mark.series
@pytest.mark.parametrize(
    ("before", "after", "sent", "there"),
    [
        ("decimal(10,2)", "int", "7", "7"),
        ("double", "bigint", "7", "7"),
        ("boolean", "int", "yes", "1"),
        ("boolean", "string", "yes", "true"),
        ("bigint", "string", "007", "7"),
        ("timestamp", "date", "2026-11-20 23:30:00", "2026-11-20"),
        ("timestamp", "string", "2026-11-01 01:30:00", "2026-11-01T05:30:00Z"),
        ("date", "timestamp", "2026-11-20", "2026-11-20 05:00:00+00:00"),
    ],
)
def test_a_value_of_another_type(tmp_path: Path, before: str, after: str, sent: str, there: str) -> None:
    """By the clock of the vendor; a mark that a time was ambiguous goes with the time."""
    contract = more(BASE, Column("x", before))
    house = open_house(tmp_path, contract=contract, vendors=(replace(ACME, timezone="America/New_York"),))
    house.drop("a_20261120.csv", f"tracking_num,status,ts,qty,x\nK,NEW,2026-11-20 08:00:00,1,{sent}\n")
    house.run()
    house.turn(contract=column(contract, "x", type=after))
    assert [(one.kind, one.unfit) for one in migrate(house.config, apply=True).steps] == [("type", 0)]
    (row,) = house.rows("target")
    assert (str(row["x"]), row["_rescued"]) == (there, None)
    assert verify(house.config).ok


def test_times_of_a_vendor_that_the_config_no_longer_has(tmp_path: Path) -> None:
    """Nobody knows by which clock they are: not read as UTC in silence. Times with a zone need no clock."""
    york = replace(ACME, timezone="America/New_York")
    before = more(BASE, Column("eta", "string"), Column("picked", "timestamp"))
    house = open_house(tmp_path, contract=before, vendors=(york,), max_reject_share=0.5)
    house.drop(
        "a_20261120.csv",
        """tracking_num,status,ts,qty,eta,picked,seen
K1,NEW,2026-11-20 01:30:00,1,2026-11-20 01:00:00,2026-11-20 23:30:00,2026-11-20 03:00:00
K2,NEW,2026-11-20 01:30:00,1,2026-11-20 01:00:00Z,,2026-11-20T03:00:00-05:00
K3,NEW,2026-11-20 01:30:00,1,2026-11-20 01:00-0500,,
K4,NEW,2026-11-20 01:30:00,1,2026-11-20,,
K5,NEW,2026-11-20 01:30:00,1,soon,,
""",
    )
    house.run()
    after = column(column(more(before, Column("seen", "timestamp")), "eta", type="timestamp"), "picked", type="date")
    house.turn(contract=after, vendors=(replace(ACME, name="blue"),))
    said = (
        "times of {} without a zone: {} from acme, which is no longer in the config, so they would be read as UTC; put "
    )
    problems = migrate(house.config).problems
    assert [problem.partition("its [[vendors]]")[0] for problem in problems] == [
        said.format(*one) for one in (("eta", 2), ("picked", 1), ("seen", 1))
    ]
    with pytest.raises(UsageError, match="put its \\[\\[vendors\\]\\] back, with its timezone"):
        migrate(house.config, apply=True)
    house.turn(vendors=(replace(ACME, name="blue", files="b*.csv"), york))
    migrate(house.config, apply=True)
    assert {key: str(value)[:16] for key, value in by_key(house, "eta").items()} == {
        "K1": "2026-11-20 06:00",
        "K2": "2026-11-20 01:00",
        "K3": "2026-11-20 06:00",
        "K4": "2026-11-20 05:00",
        "K5": "None",
    }
    assert str(by_key(house, "picked")["K1"]) == "2026-11-20"
    assert verify(house.config).ok


def test_a_column_whose_header_is_our_mark(tmp_path: Path) -> None:
    """`_rescued` has it under another name, since ours marks times that the clock showed twice."""
    house = open_house(tmp_path, contract=BASE, vendors=(replace(ACME, timezone="America/New_York"),))
    head = "tracking_num,status,ts,qty,_ambiguous_time\n"
    house.drop("a_20261120.csv", f"{head}K1,NEW,2026-11-01 01:30:00,1,yes\nK2,NEW,2026-11-20 08:00:00,1,maybe\n")
    house.run()
    house.turn(
        contract=more(BASE, Column("doubtful", "boolean")),
        vendors=(replace(house.config.vendors[0], aliases=(("doubtful", ("_ambiguous_time",)),)),),
    )
    assert [(one.kind, one.rows, one.unfit) for one in migrate(house.config, apply=True).steps][1:] == [("fill", 2, 1)]
    assert by_key(house, "doubtful") == {"K1": True, "K2": None}
    assert rescued(house) == {"K1": {"_ambiguous_time": ["ts"]}, "K2": {"_ambiguous_time (2)": "maybe"}}
    house.drop("a_20261121.csv", f"{head}K1,NEW,2026-11-21 08:00:00,1,no\n")
    house.run()
    assert by_key(house, "doubtful") == {"K1": False, "K2": None}
    assert verify(house.config).ok


def test_a_new_key_that_is_null_in_old_rows(house: House) -> None:
    wanted = more(BASE, Column("depot", "string", required=True, identifier=True))
    house.turn(contract=replace(wanted, key=("tracking_num", "depot")))
    with pytest.raises(UsageError, match="depot is the key and would be NULL in 5 rows; nothing was changed"):
        migrate(house.config, apply=True)
    house.turn(contract=BASE)


def test_a_table_that_somebody_changed(house: House) -> None:
    table = DeltaTable(house.table_path("target"))
    table.alter.add_columns([Field("weight", PrimitiveType("string"), nullable=True)])
    house.turn(contract=WEIGHT)
    with pytest.raises(ConfigError, match="somebody else added one of that name"):
        migrate(house.config, apply=True)
    house.turn(contract=BASE)


def test_three_hundred_columns(house: House) -> None:
    """Added in one commit a table; they are told in one line."""
    house.turn(contract=more(WEIGHT, *(Column(f"x{i}", "string") for i in range(300))))
    planned = migrate(house.config)
    screen = Screen(terminal=False)
    render(screen, planned)
    assert "301 columns are added: weight, x0, " in screen.text
    assert "and 291 more" in screen.text
    assert migrate(house.config, apply=True).applied
    assert house.rows("target")[0]["x299"] is None


def test_it_waits_for_a_pass(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.turn(contract=WEIGHT)
    monkeypatch.setattr(module, "CORRECTION_WAITS_S", 0.05)
    with pipeline_lock(house.config), pytest.raises(Exception, match="running"):
        migrate(house.config, apply=True)
    assert migrate(house.config, apply=True).applied


# -- what others make of the tables afterwards ----------------------------------------------------------------------


def test_columns_of_others_are_kept(house: House) -> None:
    target = DeltaTable(house.table_path("target"))
    target.alter.add_columns([Field("note", PrimitiveType("string"), nullable=True)])
    target.update(updates={"note": "'ours'"}, predicate="tracking_num = 'K2'")
    house.turn(contract=WEIGHT)
    with pytest.raises(UsageError, match="somebody else wrote"):
        migrate(house.config, apply=True)
    house.turn(contract=BASE)
    rebuild(house.config)
    house.turn(contract=WEIGHT)
    migrate(house.config, apply=True)
    table = DeltaTable(house.table_path("target"))
    found = QueryBuilder().register("t", table).execute("SELECT tracking_num, note FROM t")
    notes = {row["tracking_num"]: row["note"] for row in pa.table(found).to_pylist()}
    assert notes == {"K1": None, "K2": "ours", "K3": None, "K4": None}


def test_corrections_go_on(house: House) -> None:
    """A file from before the migration is taken back, and read again under the new contract."""
    house.turn(contract=more(QTY, Column("weight", "decimal(8,2)")))
    migrate(house.config, apply=True)
    second = str(house.delivery("a_20261121.csv")["delivery_id"])
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, (second,), "a test", "me")))
    assert by_key(house, "qty") == {"K1": 1, "K2": 2, "K3": 3}
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.REPLAY, (second,), "a test", "me")))
    assert by_key(house, "qty") == {"K1": 10, "K2": 2, "K3": 3}  # the row with `12 pcs` is a reject now
    assert str(by_key(house, "weight")["K1"]) == "2.50"


def test_readers_read_every_version(house: House) -> None:
    house.turn(contract=more(QTY, Column("weight", "decimal(8,2)")))
    migrate(house.config, apply=True)
    house.drop("a_20261122.csv", SECOND.replace("2026-11-21", "2026-11-22"))
    house.run()
    for name in ("target", "history"):
        for version in range(house.version(name) + 1):
            table = DeltaTable(house.table_path(name), version=version)
            assert table.protocol().reader_features in (None, ["deletionVectors"])
            keys = "SELECT count(*) AS n, count(DISTINCT tracking_num) AS keys FROM t"
            (ours,) = pa.table(QueryBuilder().register("t", table).execute(keys)).to_pylist()
            frame = pl.scan_delta(str(house.table_path(name)), version=version).select("tracking_num").collect()
            assert (ours["n"], ours["keys"]) == (frame.height, frame["tracking_num"].n_unique())
    assert Reader(house.config).query("SELECT sum(qty) FROM orders_target").rows


def test_the_command(house: House) -> None:
    file = house.config.source.parent / "ordertrail.toml"
    columns = "".join(f'[[contract.columns]]\nname = "{one.name}"\ntype = "{one.type}"\n' for one in WEIGHT.columns)
    file.write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n[contract]\n'
        f'key = "tracking_num"\norder_by = "ts"\nstatus_rank = ["NEW", "DONE"]\n{columns}'
        '[[vendors]]\nname = "acme"\nfiles = "*.csv"\n'
    )

    def call(*words: str) -> str:
        result = CliRunner().invoke(cli, ["migrate", *words, "--config", str(file)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "weight is filled from _rescued: 4 values; not fitting, and kept in _rescued: 1" in call()
    said = json.loads(call("--json"))
    assert (said["applied"], said["batch"]) == (False, None)
    assert [one["step"] for one in said["steps"]] == ["add", "fill"]
    assert "batch 3: the tables carry the contract now" in call("--apply")
    assert "the tables carry the contract of the config" in call()
    house.turn(contract=WEIGHT)


def test_what_the_profile_tells_is_filled(tmp_path: Path) -> None:
    """`combine`, `constants` and `from_name` reach the rows of earlier files, as a replay would give them."""
    sparse = replace(ACME, absent=("qty",))
    house = open_house(tmp_path, contract=BASE, vendors=(sparse,))
    head = "tracking_num,status,ts,Scan Date,Scan Time\n"
    house.drop("a_CHI_20261120.csv", f"{head}K1,NEW,2026-11-20 08:00:00,2026-11-19 , 07:30\n")
    house.drop("a_20261121.csv", f"{head}K2,NEW,2026-11-21 08:00:00,2026-11-20,\nK5,NEW,2026-11-21 08:00:00,-,\n")
    house.drop(
        "a_NYC_20261122.csv", "tracking_num,status,ts,qty\nK3,NEW,2026-11-22 08:00:00,5\nK4,NEW,2026-11-22 08:00:00,\n"
    )
    house.run()
    told = replace(
        sparse,
        absent=(),
        combine=(("scanned", ("Scan Date", "SCAN_TIME")),),
        constants=(("carrier", "UPS"), ("qty", "1"), ("rate", "1.234"), ("insured", "true")),
        decimal=",",
        thousands=".",
        true_words=("ja",),
        false_words=("nein",),
        from_name="_(?P<depot>[A-Z]{3})_",
        nulls=("UPS", "NYC", "-"),  # what a constant says is a value all the same
    )
    added = ("scanned", "timestamp"), ("carrier", "string"), ("depot", "string"), ("rate", "double")
    contract = more(BASE, *(Column(*one) for one in added), Column("insured", "boolean"))
    house.turn(contract=contract, vendors=(told,))
    fills = [one for one in migrate(house.config).steps if one.kind == "fill"]
    assert all(one.text == f"{one.column} is filled from what the vendors' profiles say" for one in fills)
    filled = {one.column: one.rows for one in fills}
    assert filled == {"scanned": 2, "carrier": 5, "depot": 3, "qty": 3, "rate": 5, "insured": 5}
    with Reader(house.config) as reader:
        notes = {one.column: (one.like, one.note) for one in reader.drift().columns}
    assert all("migrate fills it" in note for _, note in notes.values()), notes
    assert migrate(house.config, apply=True).applied
    keys = ["K1", "K2", "K3", "K4", "K5"]
    assert by_key(house, "carrier") == dict.fromkeys(keys, "UPS")
    assert by_key(house, "rate") == dict.fromkeys(keys, 1.234), "as the config says it"
    assert by_key(house, "insured") == dict.fromkeys(keys, True)
    assert by_key(house, "depot") == {"K1": "CHI", "K2": None, "K3": None, "K4": None, "K5": None}
    assert by_key(house, "qty") == {
        "K1": "1",
        "K2": "1",
        "K3": "5",
        "K4": None,
        "K5": "1",
    }  # the file of K4 has the column
    scanned = {key: str(value)[:19] for key, value in by_key(house, "scanned").items()}
    assert scanned == {"K1": "2026-11-19 07:30:00", "K2": "None", "K3": "None", "K4": "None", "K5": "None"}
    assert rescued(house) == {"K1": {}, "K2": {"Scan Date": "2026-11-20"}, "K3": {}, "K4": {}, "K5": {}}
    assert migrate(house.config).steps == ()
    proof = verify(house.config)
    assert proof.ok, [check for check in proof.checks if not check.ok]
    check_books(house)
