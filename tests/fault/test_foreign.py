"""P1 and P4 beside others: foreign commits to the target while a pass runs, and rubbish where we write."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ordertrail.errors import CommitConflictError
from tests.fault.test_files import AtStep
from tests.fault.world import BATCHES, TABLES, World

pytestmark = pytest.mark.fault

FOREIGN_KEY = "F01"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One batch is loaded, the files of the next one wait."""
    world = World.make(tmp_path / "world")
    world.put(BATCHES[0])
    world.run()
    world.put(BATCHES[1])
    return world


def append(world: World) -> None:
    """Another writer adds a shipment of its own."""
    when = datetime(2026, 11, 20, 7, tzinfo=UTC)
    rows = pa.table(
        {
            "tracking_num": [FOREIGN_KEY],
            "order_num": ["OF01"],
            "last_update_timestamp": pa.array([when], pa.timestamp("us", "UTC")),
        }
    )
    write_deltalake(world.table("orders_target"), rows, mode="append", schema_mode="merge")


def delete(world: World) -> None:
    """Another writer deletes a shipment that this batch does not touch."""
    DeltaTable(world.table("orders_target")).delete("tracking_num = '010'")


def undisturbed(folder: Path) -> dict[object, object]:
    world = World.make(folder)
    for files in BATCHES[:2]:
        world.put(files)
        world.run()
    return by_key(world)


def by_key(world: World) -> dict[object, object]:
    rows = world.rows("orders_target")
    clocks = ("_inserted_at", "_updated_at")
    found: dict[object, object] = {r["tracking_num"]: {k: v for k, v in r.items() if k not in clocks} for r in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.series
@pytest.mark.parametrize("step", ["stage.committed", "load.files", "load.committed"])
@pytest.mark.parametrize("act", [append, delete])
def test_a_foreign_commit_while_we_load(world: World, tmp_path: Path, act: Callable[[World], None], step: str) -> None:
    """Computed again on top of it: both effects are there, and the batch has one commit."""
    probe = AtStep(step, lambda: act(world))
    world.run(probe)
    expected = undisturbed(tmp_path / "undisturbed")
    found = by_key(world)
    if act is append:
        assert found.pop(FOREIGN_KEY)
    else:
        assert expected.pop("010")
    assert found == expected
    assert [batches for batches in world.txns("orders_target") if batches] == [[1], [2]]
    assert len(world.txns("orders_target")) == 3
    assert probe.names.count("load.files") == (2 if step == "load.files" else 1)
    assert probe.names.count("load.committed") == 1
    world.check_books(world.rows("orders_deliveries"))
    assert world.waiting() == []


def test_a_writer_that_is_always_faster(world: World, tmp_path: Path) -> None:
    """We give up with an error that says so, nothing of the batch is in the target, and the next run loads it."""

    def probe(name: str) -> None:
        if name == "load.files":
            append(world)

    with pytest.raises(CommitConflictError) as caught:
        world.run(probe)
    assert caught.value.hint
    assert [batches for batches in world.txns("orders_target") if batches] == [[1]]
    DeltaTable(world.table("orders_target")).delete(f"tracking_num = '{FOREIGN_KEY}'")
    world.run()
    assert by_key(world) == undisturbed(tmp_path / "undisturbed")
    assert world.waiting() == []


def test_rubbish_disturbs_nobody(world: World, tmp_path: Path) -> None:
    """Half-written files of passes that died, in every place where we write."""
    stale = world.source / "acme" / ".ordertrail-000001-00009-deadbeef.claim"
    stale.write_bytes(b"a claim of another pipeline")
    copy = next(world.archive.rglob("*.csv")).with_name(".ordertrail-000002-00001-deadbeef.copy")
    copy.write_bytes(b"half a co")
    rubbish = [stale, copy]
    for name in TABLES:
        table = world.table(name)
        for path in (
            table / "b000002-00000000000000000000000000000000.parquet",
            table / "_delta_log" / ".00000000000000000002.json.deadbeef.tmp",
            table / "_delta_log" / "00000000000000000002.json.tmp",
            table / "_delta_log" / "_last_checkpoint.tmp",
        ):
            path.write_bytes(b"PAR1 half")
            rubbish.append(path)
    world.run()
    assert world.waiting() == [str(stale.relative_to(world.source))]
    assert copy.exists()
    assert by_key(world) == undisturbed(tmp_path / "undisturbed")
    for path in rubbish:
        path.unlink(missing_ok=True)
    world.check([file for files in BATCHES[:2] for file in files])


def test_a_pointer_to_a_checkpoint_that_is_not_there(world: World, tmp_path: Path) -> None:
    """`_last_checkpoint` is a hint: a pass that died between a checkpoint and it, or a clean-up, leaves it wrong."""
    for name in TABLES:
        pointer = world.table(name) / "_delta_log" / "_last_checkpoint"
        pointer.write_text(json.dumps({"version": 1, "size": 3}))
    world.run()
    for name in TABLES:
        (world.table(name) / "_delta_log" / "_last_checkpoint").unlink(missing_ok=True)
    assert by_key(world) == undisturbed(tmp_path / "undisturbed")
    world.check([file for files in BATCHES[:2] for file in files])
