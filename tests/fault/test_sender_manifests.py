"""P1 and P6: killed -9 at every effect, a file and its sender's manifest end side by side in the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.world import PLAIN_CONFIG, Driver, World, file, row
from tests.feeds import FeedFile

pytestmark = pytest.mark.fault

CONFIG = PLAIN_CONFIG + 'manifest = "{name}.done"\n'
FILES = (file("blue/held.csv", row("002", 8)), FeedFile("blue/held.csv.done", b"rows=2", 0))


def test_killed_at_every_effect_of_archiving(driver: Driver, tmp_path: Path) -> None:
    """Until the file itself is linked, the kill tests of files hold: its manifest lies where it lay."""
    world = World.make(tmp_path / "undisturbed", CONFIG)
    world.put(FILES)
    effects = driver.effects(world)
    after = world.archived()
    (place,) = (path for path in after if not path.endswith(".manifest"))
    assert ({*after}, world.waiting()) == ({place, f"{place}.manifest"}, [])
    linked, again = (number for number, name in enumerate(effects) if name == "archive.linked")
    assert [name for name in effects[linked + 1 :] if name.startswith("archive.")] == [
        "archive.dropped", "archive.claimed", "archive.verified", "archive.linked", "archive.dropped"]  # fmt: skip
    for kill_at in range(linked, again + 2):
        other = World.make(tmp_path / str(kill_at), CONFIG)
        other.put(FILES)
        assert driver.run(other, kill_at=kill_at).get("signal") == 9
        assert other.waiting() or kill_at == again + 1
        driver.run(other)
        assert (other.archived(), other.waiting()) == (after, []), f"killed at {effects[kill_at]}"
