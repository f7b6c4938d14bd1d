"""A contract may call its columns what it likes: also as columns of our queries, of DuckDB's scans, or words of SQL.

The same story is told twice, by a contract with such names and by one with plain names. The tables must not differ.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.engines.local.changes import Wanted as WantedChanges
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.changes import write_file
from ordertrail.look.status import Reader
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Contract, Correction, CorrectionKind, Vendor
from ordertrail.rules.headers import folded
from tests.harness import House, open_house, without_fsync

OURS = """
    k n ch pos id bn c r d fr fk ord key hpos h dn rv new name here file ev b old ins e a was tb seen s run row rk m
    last at x two text term sg sent raw p own one o nr line life kind keys kept kc fp fill f0 f c0 both bad added
    again batch changed clock columns content copies counts dated delivery_id differs earlier ends_batch event_us
    files filled first first_at first_revision fresh grain h0 new0 inserted_us ka lacks_ limit_us lives loaded lower
    outcome place rescued repeat revision since stale state stays surely_stale unknown upper value v0 vendor j0 t0
    n0 y0 q0 w0_0 l0 o0 s0 m0 p0 k0 c0_1 mtime_ms absent newest_first named0 reason rejects rows_parsed stage target
    history deliveries
"""
DUCKDB = ["filename", "rowid", "rank", "hash", "struct", "list", "map", "json"]
SQL = ["select", "order", "group", "end", "null", "table", "Case", "From", "ALL", "user", "ä", "été"]
NAMES = [*{folded(name): name for name in (*OURS.split(), *DUCKDB, *SQL)}.values()]
PLAIN = {name: f"plain_{i}" for i, name in enumerate(NAMES)}


def contract_of(key: tuple[str, ...], order_by: str, status: str, number: str, *, now: bool) -> Contract:
    """All names as text but for the roles; `now` with a number that was text, and a column that files had before."""
    kinds = {order_by: "timestamp", number: "int" if now else "string"}
    columns = [Column(name, kinds.get(name, "string"), required=name in key) for name in NAMES]
    if not now:
        columns.pop()
    return Contract(tuple(columns), key, order_by, status, ("NEW", "DONE"))


def plain(contract: Contract) -> Contract:
    """The same contract with plain names."""
    return Contract(
        tuple(replace(column, name=PLAIN[column.name]) for column in contract.columns),
        tuple(PLAIN[name] for name in contract.key),
        PLAIN[contract.order_by],
        PLAIN[str(contract.status)],
        contract.status_rank,
    )


def file_of(contract: Contract, rows: list[dict[str, str]], lacks: tuple[str, ...] = ()) -> str:
    """A file with a cell for every name."""
    names = [name for name in (*contract.names, NAMES[-1], PLAIN[NAMES[-1]]) if name not in lacks]
    names = [name for name in dict.fromkeys(names) if (name in PLAIN) == (contract.names[0] in PLAIN)]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    return "\n".join(
        [",".join(quoted), *(",".join(row.get(name, f"{i}") for i, name in enumerate(names)) for row in rows), ""]
    )


def story(root: Path, before: Contract, now: Contract, number: str, lacked: str) -> tuple[House, dict[str, object]]:
    """A pipeline's life: ties, late rows, a vendor that lacks a column, corrections, a migration; and looks at it."""
    vendors = (Vendor("acme", "acme_*.csv"), Vendor("blue", "blue_*.csv", absent=(lacked,)))
    house = open_house(root, contract=before, vendors=vendors)

    def row(key: str, day: int, status: str = "NEW", **more: str) -> dict[str, str]:
        cells = dict.fromkeys(before.key, key) | {
            before.order_by: f"2026-11-{day:02} 08:00:00",
            str(before.status): status,
        }
        return cells | {number: str(day)} | more

    def undo(name: str, kind: CorrectionKind) -> None:
        of = (str(house.delivery(name)["delivery_id"]),)
        correct(house.pipeline(), Wanted(Correction(kind, of, "a test", "me")))

    house.drop("acme_1.csv", file_of(before, [row("K1", 1), row("K2", 1), row("K3", 5)]))
    house.run()
    house.drop(
        "blue_2.csv", file_of(before, [row("K1", 2), row("K2", 1, "DONE"), row("K3", 4), row("K4", 1)], (lacked,))
    )
    house.drop("acme_3.csv", file_of(before, [row("K1", 2, "DONE"), row("K4", 1), row("K4", 1), row("K5", 3)]))
    house.run()
    assert [row["reason"] for row in house.rows("deliveries")] == [None] * 3
    undo("blue_2.csv", CorrectionKind.UNDO)
    undo("acme_1.csv", CorrectionKind.UNDO)
    undo("blue_2.csv", CorrectionKind.REDO)
    undo("acme_1.csv", CorrectionKind.REPLAY)
    house.turn(contract=now)
    assert migrate(house.config, apply=True).applied
    house.drop("acme_4.csv", file_of(before, [row("K5", 4), row("K6", 1)]))
    house.run()
    assert rebuild(house.config, dry_run=True).differences.total == 0  # type: ignore[union-attr]
    proof = verify(house.config, archive=True)
    assert proof.ok, [check for check in proof.checks if not check.ok]
    out = root / "out"
    out.mkdir()
    seen = {form: changed(house, out / f"changes.{form}") for form in ("jsonl", "csv")}
    whole = house.pipeline().changes().to_arrow()
    seen["arrow"] = [list(row.values()) for row in whole.drop_columns(["_delivery_id"]).to_pylist()]
    with Reader(house.config) as reader:
        track = reader.track("/".join("K1" for _ in before.key))
        assert track.current is not None
        seen["track"] = [[track.current[name] for name in now.names], len(track.history)]
        seen["open"] = len(reader.open_rejects().rows)
        seen["drift"] = len(reader.drift().columns)
        seen["query"] = reader.query("SELECT count(*), max(_file_row) FROM orders_target").rows
    return house, seen


def changed(house: House, path: Path) -> list[object]:
    """What `changes` writes, without the names of columns and what differs between two pipelines."""
    write_file(house.config, WantedChanges(), path, path.suffix[1:])
    lines = re.sub(r"0000\d\d-\d{5}-[0-9a-f]{8}", "ID", path.read_text(encoding="utf-8")).splitlines()
    return [nameless(json.loads(line)) for line in lines] if path.suffix == ".jsonl" else list(csv.reader(lines[1:]))


def nameless(value: object) -> object:
    return [nameless(one) for one in value.values()] if isinstance(value, dict) else value


ROLES = [
    (("k",), "ev", "ch", "dn", "fr"),
    (("pos", "hpos"), "at", "outcome", "rv", "delivery_id"),
    (("select", "rowid"), "order", "place", "hash", "filename"),
]


@pytest.mark.slow
@pytest.mark.series
@pytest.mark.parametrize(("key", "order_by", "status", "number", "lacked"), ROLES)
def test_names_change_nothing(
    tmp_path: Path, key: tuple[str, ...], order_by: str, status: str, number: str, lacked: str
) -> None:
    before, now = (contract_of(key, order_by, status, number, now=later) for later in (False, True))
    with without_fsync():
        house, seen = story(tmp_path / "odd", before, now, number, lacked)
        other, same = story(tmp_path / "plain", plain(before), plain(now), PLAIN[number], PLAIN[lacked])
    assert seen == same
    for table in ("target", "history"):
        found = sorted(
            str([row[name] for name in (*now.names, "_rescued", "_file_row", "_file_name")])
            for row in house.rows(table)
        )
        wanted = sorted(
            str(
                [row[PLAIN[name]] for name in now.names]
                + [row[name] for name in ("_rescued", "_file_row", "_file_name")]
            )
            for row in other.rows(table)
        )
        assert found == wanted, table
