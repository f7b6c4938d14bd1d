"""P1 and P6 where a file cannot be archived at once, or its writer comes late: killed at each effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ordertrail.sources.notes import notes_path
from tests.depth import drawn
from tests.fault.world import PLAIN_CONFIG, Driver, World, file, row
from tests.feeds import FeedFile, csv_bytes
from tests.oracle import judge, keyed

pytestmark = pytest.mark.fault

VICTIM = "acme/victim_2026_11_20.csv"
OLD = csv_bytes([row("001", 8), row("002", 8)])
MORE = csv_bytes([row("001", 8), row("002", 8), row("003", 8)])
OTHER = file("blue/other_2026_11_20.csv", row("100", 8))
CONFIG = PLAIN_CONFIG.replace("settle_s = 0", "settle_s = 0.000001")


def victim(content: bytes) -> FeedFile:
    return FeedFile(VICTIM, content, OTHER.mtime_ns)


def killed_somewhere(
    driver: Driver, folder: Path, prepare: Callable[[World], object], effects: tuple[str, str], **spec: object
) -> Sequence[tuple[str, World]]:
    """Worlds whose pass was killed at each effect from one to another; the name of the effect, and the world."""
    probe = World.make(folder / "probe", CONFIG)
    kept = [prepare(probe)]
    names = driver.effects(probe, **spec)
    worlds = []
    first, last = (names.index(effect) for effect in effects)
    for place in drawn(range(first, last + 1), effects):
        world = World.make(folder / str(place), CONFIG)
        kept.append(prepare(world))
        assert driver.run(world, kill_at=place, **spec)["signal"] == 9
        worlds.append((names[place], world))
    return worlds


def at_rest(driver: Driver, world: World, **spec: object) -> list[str]:
    """Passes until nothing moves; all that they warned of."""
    told: list[str] = []
    for _ in range(5):
        ended = driver.run(world, **spec)
        told += ended["warnings"]
        if ended["batch"] is None and not ended["warnings"]:
            return told
    raise AssertionError(f"it does not come to rest: {told}")


def check(world: World, came: Sequence[FeedFile]) -> None:
    verdict = judge(came, None, world.vendors)
    assert keyed(world.rows("orders_target")) == verdict.target
    deliveries = world.rows("orders_deliveries")
    assert sorted(d["sha256"] for d in deliveries) == sorted(v.sha256 for v in verdict.files)
    world.check_books(deliveries)
    assert world.shelf() == {d["archived_to"]: d["sha256"] for d in deliveries}


@pytest.mark.slow
@pytest.mark.parametrize("two_disks", [False, True])
def test_killed_while_a_late_file_goes_back(driver: Driver, tmp_path: Path, two_disks: bool) -> None:
    """The rest of it is loaded once, and the archive has the bytes of both deliveries."""

    def late(world: World) -> None:
        world.put([victim(OLD), OTHER])
        with (world.source / VICTIM).open("ab") as writer:
            driver.effects(world, untold=True, two_disks=two_disks)
            writer.write(MORE.removeprefix(OLD))

    effects = ("archive.linked", "plan.decided") if two_disks else ("late.copied", "plan.decided")
    for name, world in killed_somewhere(driver, tmp_path, late, effects, untold=True, two_disks=two_disks):
        at_rest(driver, world, untold=True, two_disks=two_disks)
        # Once the system can tell that nobody writes any more, the last claims go.
        at_rest(driver, world, two_disks=two_disks)
        assert world.waiting() == [], name
        check(world, [victim(OLD), OTHER, victim(MORE)])


@pytest.mark.slow
def test_killed_while_a_file_cannot_be_archived(driver: Driver, tmp_path: Path) -> None:
    """Its folder lets nothing be renamed: it waits, is told, is not staged again, and all others go their way."""

    def put(world: World) -> None:
        world.put([victim(OLD), OTHER])

    effects = ("deliveries.committed", "archived.committed")
    for name, world in killed_somewhere(driver, tmp_path, put, effects, locked=["acme"]):
        for _ in range(2):
            again = driver.run(world, locked=["acme"])
            assert again["batch"] is None, name
            assert any("waits to be archived" in warning for warning in again["warnings"]), name
        assert world.waiting() == [VICTIM], name
        at_rest(driver, world)
        assert world.waiting() == [], name
        check(world, [victim(OLD), OTHER])


def test_without_the_notes_a_file_that_waits_is_a_duplicate_of_itself(driver: Driver, tmp_path: Path) -> None:
    world = World.make(tmp_path / "world", CONFIG)
    world.put([victim(OLD)])
    driver.run(world, locked=["acme"])
    notes_path(world.config).unlink()
    driver.run(world)
    deliveries = sorted(world.rows("orders_deliveries"), key=lambda d: str(d["delivery_id"]))
    assert [(d["state"], d["archived_to"] is None) for d in deliveries] == [("loaded", True), ("duplicate", False)]
    assert keyed(world.rows("orders_target")) == judge([victim(OLD)], None, world.vendors).target
    assert world.waiting() == []
