"""A contract may name its columns as the engine names those of its own relations."""

from __future__ import annotations

from pathlib import Path

from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Column, Contract, Correction, CorrectionKind, Vendor
from tests.harness import open_house

NAMES = (
    "k",
    "dn",
    "fr",
    "ch",
    "hpos",
    "key",
    "pos",
    "ev",
    "rk",
    "tb",
    "fk",
    "outcome",
    "ins",
    "rv",
    "kc0",
    "w",
    "h",
    "s",
    "d",
)


def test_corrections_of_columns_with_names_of_ours(tmp_path: Path) -> None:
    columns = (Column("k", "string", required=True), Column("ts", "timestamp", required=True))
    columns += tuple(Column(name, "string") for name in NAMES[1:])
    contract = Contract(columns, ("k",), "ts", None, ())
    house = open_house(tmp_path, contract=contract, vendors=(Vendor("acme", "*.csv"),))
    header = ",".join(column.name for column in columns)
    for day, value in ((20, "a"), (21, "b")):
        cells = ",".join([value] * (len(columns) - 2))
        house.drop(f"f_202611{day}.csv", f"{header}\nK,2026-11-{day} 08:00:00,{cells}\n")
        house.run()
    of = (str(house.delivery("f_20261121.csv")["delivery_id"]),)
    for kind, value in ((CorrectionKind.UNDO, "a"), (CorrectionKind.REDO, "b"), (CorrectionKind.REPLAY, "b")):
        correct(house.pipeline(), Wanted(Correction(kind, of, "a test", "me")))
        (row,) = house.rows("target")
        assert {row[name] for name in NAMES[1:]} == {value}
    assert verify(house.config).ok
