"""P1: a file that is held because of its keys is held once, whatever the target has when a killed pass is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.depth import drawn
from tests.fault.world import PLAIN_CONFIG, Driver, World, distinct, file, row
from tests.feeds import FeedFile

pytestmark = pytest.mark.fault

CONFIG = PLAIN_CONFIG.replace('files = "acme/*.csv"', 'files = "acme/*.csv"\nmax_new_share = 0.5')
FIRST = file("acme/a_2026_11_20.csv", row("001", 8))


def many(path: str) -> FeedFile:
    return file(path, *(row(f"9{number:02d}", 8) for number in range(20)))


def test_killed_from_the_stage_to_the_target(driver: Driver, tmp_path: Path) -> None:
    """Once the target has the batch, it knows the keys of the file that is held: another file brought them."""
    begun = World.make(tmp_path / "begun", CONFIG)
    begun.put([FIRST])
    driver.run(begun)
    files = [many("acme/wrong_2026_11_21.csv"), many("blue/right_2026_11_22.csv")]

    def world(name: str) -> World:
        made = begun.copy(tmp_path / name)
        made.put(files)
        return made

    undisturbed = world("undisturbed")
    effects = driver.effects(undisturbed)
    states = {one["file_name"]: one["state"] for one in undisturbed.rows("orders_deliveries")}
    assert states == {"a_2026_11_20.csv": "loaded", "wrong_2026_11_21.csv": "held", "right_2026_11_22.csv": "loaded"}
    first, last = effects.index("stage.files"), effects.index("load.committed")
    for kill_at in drawn([place for place in distinct(effects) if first <= place <= last], "shares"):
        other = world(str(kill_at))
        assert driver.run(other, kill_at=kill_at).get("signal") == 9
        driver.run(other)
        assert other.state() == undisturbed.state(), f"killed at {effects[kill_at]}"
