"""Files of which too many keys are new or stale: planned, held, decided about, and rebuilt, in both modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.errors import UsageError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.plan import plan_files
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Column, Contract, Correction, CorrectionKind
from ordertrail.rules.shares import Shares
from tests.feeds import csv_bytes, dated
from tests.harness import House, bag, check_books, open_house, without_fsync
from tests.key_shares import EVENING, MORNING, NOON, TOML, rows


def decide(house: House, kind: CorrectionKind, name: str) -> None:
    ids = (str(house.delivery(name)["delivery_id"]),)
    correct(house.pipeline(), Wanted(Correction(kind, ids, "a test", "ops")))


@pytest.mark.parametrize("mode", ["upsert", "append"])
def test_from_source_to_rebuild(tmp_path: Path, mode: str) -> None:
    with without_fsync():
        house = open_house(tmp_path, f'mode = "{mode}"\n{TOML}')
        house.drop(f"acme/{dated(19)}", csv_bytes(rows("A", range(40), MORNING)))
        house.drop(f"acme/{dated(20)}", csv_bytes(rows("B", range(40), NOON)))
        assert {str(one.state) for one in house.run().deliveries} == {"loaded"}  # the vendor begins

        # Rows that a person took back stay in a target that keeps all rows, and do not count.
        house.drop("blue/gone.csv", csv_bytes(rows("Z", range(40), NOON)))
        house.run()
        decide(house, CorrectionKind.UNDO, "gone.csv")
        wrong = csv_bytes([*rows("Z", range(30), NOON), *rows("A", range(10), NOON)])
        house.drop(f"acme/wrong_{dated(21)}", wrong)
        house.drop(f"acme/old_{dated(22)}", csv_bytes(rows("A", range(40), "2026-11-19 08:00:00")))
        house.drop(f"acme/good_{dated(22)}", csv_bytes([*rows("A", range(30), EVENING), *rows("N", range(10), NOON)]))
        plan = plan_files(house.config, sorted(house.config.source.rglob("*.csv")))
        report = house.run()
        wanted = {f"wrong_{dated(21)}": "held", f"old_{dated(22)}": "held", f"good_{dated(22)}": "loaded"}
        assert {one.file_name: str(one.state) for one in report.deliveries} == wanted
        reasons = {one.file_name: one.reason for one in report.deliveries}
        assert {Path(one.path).name: one.reason for one in plan.files} == reasons
        assert str(reasons[f"wrong_{dated(21)}"]).startswith(
            "30 of its 40 keys are new to the target, a share of 0.75; max_new_share allows 0.5; ask the vendor"
        )
        assert "40 of its 40 keys are older than what the target holds" in str(reasons[f"old_{dated(22)}"])
        found = {one["file_name"]: one["rule"] for one in house.rows("rejects")}
        assert found == {f"wrong_{dated(21)}": "max_new_share", f"old_{dated(22)}": "max_stale_share"}

        with pytest.raises(UsageError, match="30 of its 40 keys are new to the target"):
            decide(house, CorrectionKind.REPLAY, f"wrong_{dated(21)}")
        decide(house, CorrectionKind.RELEASE, f"wrong_{dated(21)}")
        decide(house, CorrectionKind.REFUSE, f"old_{dated(22)}")
        assert ("Z0",) in house.target()
        assert [check for check in verify(house.config).checks if not check.ok] == []
        before = {table: bag(house.rows(table)) for table in ("target", "history", "rejects", "deliveries")}
        assert rebuild(house.config, from_archive=True) is not None
        assert {table: bag(house.rows(table)) for table in before} == before
        check_books(house)


def test_the_contract_may_have_our_own_names(tmp_path: Path) -> None:
    names = ("k", "place", "dn", "key")
    columns = (*(Column(name, "string") for name in names), Column("ev", "timestamp", required=True))
    contract = Contract(columns, ("k", "place"), "ev", None, ())
    head = ",".join((*names, "ev"))
    with without_fsync():
        house = open_house(tmp_path, contract=contract, shares=(("default", Shares(new=0.5)),))
        for day, kind in ((20, "A"), (21, "B")):
            lines = (f"{kind}{number},x,y,z,{NOON}" for number in range(20))
            house.drop(dated(day), "\n".join((head, *lines, "")))
            house.run()
        assert (house.delivery(dated(20))["state"], house.delivery(dated(21))["state"]) == ("loaded", "held")
