"""P1 and P6: killed -9 at every effect, a file and its sender's manifest end side by side in the archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ordertrail.sources import writers
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


class AfterTheFile:
    """Calls something at a step of archiving the manifest, which follows its file."""

    def __init__(self, step: str, call: Callable[[], object]) -> None:
        self.step, self.call = step, call
        self.steps: list[str] = []

    def __call__(self, name: str) -> None:
        self.steps.append(name)
        if name == self.step and self.steps.count(name) == 1 + (self.step != "archive.linked"):
            self.call()


@pytest.mark.parametrize("step", ["archive.linked", "archive.verified", "archive.dropped"])
def test_a_manifest_that_is_rewritten_after_it_was_taken(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file was judged by what it said then; what is written to it is kept, and waits for a file if it still can."""
    monkeypatch.setattr(writers, "is_written", lambda _: None)
    world = World.make(tmp_path / "world", CONFIG)
    world.put(FILES)
    with (world.source / FILES[1].path).open("ab") as writer:

        def write() -> None:
            writer.write(b"0")
            writer.flush()

        world.run(AfterTheFile(step, write))
    told = world.run()
    kept = [path for folder in (world.source, world.archive) for path in folder.rglob("held.csv.done")]
    kept += world.archive.rglob("*.manifest")
    assert [path.read_bytes() for path in kept] == [b"rows=20"]
    waits = [(FILES[1].path, "it is the manifest of held.csv, which has not come")] if step == "archive.linked" else []
    assert [(one.file_name, one.reason) for one in told.skipped] == waits
    assert [one["state"] for one in world.rows("orders_deliveries")] == ["held"]
