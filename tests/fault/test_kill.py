"""P1 and P4: killed -9 at every effect, during recovery too, and at any time; the next run ends as if undisturbed."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from ordertrail.markers import MARKER
from tests.depth import drawn, share
from tests.fault.world import (
    ABSENT_CONFIG,
    APPEND_CONFIG,
    BATCHES,
    PLAIN_CONFIG,
    Driver,
    State,
    World,
    distinct,
    file,
    row,
)
from tests.feeds import FeedFile, csv_bytes

pytestmark = pytest.mark.fault

FLAVOURS: dict[str, tuple[str, dict[str, object]]] = {
    "plain": (PLAIN_CONFIG, {}),
    # Files that lack a column: the target row is a fold of several.
    "absent": (ABSENT_CONFIG, {}),
    # Nothing is ever rewritten: recovery tells its own rows by the batch that they carry.
    "append": (APPEND_CONFIG, {}),
    # The stage's own files become files of target and history; and each commit is followed by a checkpoint.
    "shared": (PLAIN_CONFIG, {"share_rows": 1, "checkpoint_every": 1}),
}
UNIQUE = (
    file("acme/order_tracking_2026_11_20.csv", row("001", 8), row("002", 8)),
    file("acme/order_tracking_2026_11_21.csv", row("003", 8), row("004", 8), ("short",)),
)


def batches_of(flavour: str) -> tuple[tuple[FeedFile, ...], ...]:
    """The batches; such that those of `shared` share, and that some of `absent` lack the column."""
    first, second, third = BATCHES
    if flavour == "shared":
        return UNIQUE, second, third
    if flavour == "absent":
        lacking = b"\n".join(b",".join(line.split(b",")[i] for i in (0, 1, 2, 3, 4, 6)) for line in lines_of_blue())
        second = (*second[:2], FeedFile(second[2].path, lacking + b"\n", second[2].mtime_ns))
    return first, second, third


def lines_of_blue() -> list[bytes]:
    """As in the second batch, but later: its rows update, and take the address from the row before."""
    return csv_bytes([row("004", 11, address="Z"), row("006", 8)]).splitlines()


@dataclass(slots=True)
class Story:
    """Three batches of a flavour: the worlds before each, the undisturbed end of each, and its effects."""

    driver: Driver
    batches: tuple[tuple[FeedFile, ...], ...]
    before: list[World]
    after: list[State]
    effects: list[list[str]]
    scratch: Path
    made: int = 0

    def world(self, batch: int) -> World:
        """A new world, just before a batch (from 0), with the batch's files waiting."""
        self.made += 1
        shutil.rmtree(self.scratch, ignore_errors=True)
        world = self.before[batch].copy(self.scratch / str(self.made))
        world.put(self.batches[batch])
        return world

    def ends_right(self, world: World, batch: int, place: object) -> None:
        """One plain run must give what the undisturbed run gave after a batch; one more changes nothing."""
        self.driver.effects(world)
        assert world.state() == self.after[batch], f"killed at {place}"
        world.check([file for files in self.batches[: batch + 1] for file in files])
        world.check_versions(self.batches[: batch + 1])


@pytest.fixture(scope="module")
def stories(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Story]:
    """Tells the story of a flavour, once."""

    @cache
    def story(flavour: str) -> Story:
        return tell(driver, flavour, tmp_path_factory.mktemp(f"story-{flavour}"))

    return story


def tell(driver: Driver, flavour: str, folder: Path) -> Story:
    """Run the three batches undisturbed."""
    text, settings = FLAVOURS[flavour]
    world = World.make(folder / "undisturbed", text, **settings)
    story = Story(driver, batches_of(flavour), [], [], [], folder / "scratch")
    for number, files in enumerate(story.batches):
        story.before.append(world.copy(folder / f"before-{number}"))
        world.put(files)
        story.effects.append(driver.effects(world))
        story.after.append(world.state())
        world.check([file for files in story.batches[: number + 1] for file in files])
    world.check_versions(story.batches)
    from_stage = list(world.table("orders_target").glob("*-rows-*.parquet"))
    assert bool(from_stage) == (flavour == "shared")
    return story


def killed(story: Story, world: World, place: int) -> bool:
    """Run a pass that is killed at an effect; False when it had fewer effects."""
    ended = story.driver.run(world, kill_at=place)
    assert ended.get("signal") == 9 or "batch" in ended, ended
    return "signal" in ended


Stories = Callable[[str], Story]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "batch"), [("plain", 0), ("plain", 1), ("absent", 1), ("shared", 0), ("append", 1)]
)
def test_killed_at_every_effect(stories: Stories, flavour: str, batch: int) -> None:
    """Files move alike in every flavour: `plain` is killed while they do, the others until then and thereafter."""
    story = stories(flavour)
    names = story.effects[batch]
    for place in drawn(distinct(names), (flavour, batch)):
        if flavour != "plain" and names[place].startswith("archive."):
            continue
        world = story.world(batch)
        assert killed(story, world, place)
        story.ends_right(world, batch, f"{place} {names[place]}")


def test_killed_at_some_effects(stories: Stories) -> None:
    """The quick form of the same: after each commit, and while files move."""
    batch, story = 1, stories("plain")
    names = story.effects[batch]
    for name in ("stage.committed", "load.committed", "history.committed", "deliveries.committed", "archive.linked"):
        world = story.world(batch)
        assert killed(story, world, names.index(name))
        story.ends_right(world, batch, name)


def test_the_effects_are_there(stories: Stories) -> None:
    """The kill points are those that really happen; this fails when a step loses its probe."""
    steps = ("stage", "load", "history", "rejects", "deliveries")
    moves = {f"archive.{what}" for what in ("claimed", "verified", "linked", "dropped")}
    for effects in stories("plain").effects:
        assert {"plan.decided", *moves} <= {*effects}
        assert {f"{step}.{what}" for step in steps for what in ("files", "committed")} <= {*effects}
        assert sum(name.startswith("before put") for name in effects) >= len(steps)
        done = effects.index("deliveries.committed")
        assert all(not name.startswith("archive.") for name in effects[:done]), "archived before the done mark"


@pytest.mark.slow
def test_killed_while_it_recovers_and_goes_on(stories: Stories) -> None:
    """A pass finishes a batch that was killed after staging and goes on with the next one: killed at every effect.

    While the next one's files move nothing tells it any more from a pass that had nothing to finish.
    """
    story = stories("plain")
    names = recovering_effects(story)
    recovered = names.index("archived.committed")
    for place in drawn(distinct(names), "recovers"):
        if place > recovered and names[place].startswith("archive."):
            continue
        world = begun(story)
        assert killed(story, world, place)
        story.ends_right(world, 2, f"{place} {names[place]} of the recovering pass")


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["plain", "absent", "append"])
def test_killed_again_and_again(stories: Stories, flavour: str) -> None:
    """Each of the passes that recover is killed at another effect; a sample of the sequences."""
    story = stories(flavour)
    names = recovering_effects(story)
    for number in drawn(range(6), flavour):
        world = begun(story)
        chance = random.Random(number)
        places = [chance.randrange(len(names)) for _ in range(3)]
        for place in places:
            killed(story, world, place)
        story.ends_right(world, 2, places)


def begun(story: Story) -> World:
    """The second batch is staged, the pass is dead, and the third batch's files are there too."""
    world = story.world(1)
    assert killed(story, world, story.effects[1].index("stage.committed"))
    world.put(story.batches[2])
    return world


def recovering_effects(story: Story) -> list[str]:
    names = story.driver.effects(begun(story))
    assert names.count("deliveries.committed") == 2
    return names


@pytest.mark.slow
def test_killed_at_random_times(driver: Driver, tmp_path: Path) -> None:
    """One warehouse that grows while its passes are killed by the clock, at no boundary in particular."""
    chance = random.Random(11)
    world = World.make(tmp_path / "world", ABSENT_CONFIG, checkpoint_every=3)
    sent: list[FeedFile] = []
    kills = 0
    pass_s = 0.0
    rounds = 12 + share(24)
    for number, files in enumerate(growing_feed(chance, rounds)):
        world.put(files)
        sent += files
        if number == 0:
            began = time.monotonic()
            driver.effects(world)
            pass_s = time.monotonic() - began
        else:
            kills += "signal" in driver.run(world, kill_after_s=chance.uniform(0.0, pass_s))
    assert kills >= rounds // 7, "hardly any pass was killed"
    driver.effects(world)
    world.check(sent)


def growing_feed(chance: random.Random, rounds: int) -> Iterator[list[FeedFile]]:
    for number in range(rounds):
        rows = [row(f"{chance.randrange(1, 20):03d}", chance.randrange(24), address=f"A{number}") for _ in range(8)]
        files = [file(f"acme/part_{number:03d}_2026_11_{chance.randrange(20, 24)}.csv", *rows, hour=number)]
        if number % 3 == 0:
            text = b"order_num,tracking_num,pck_recieved_date,package_deliver_date,status,last_update_timestamp\n"
            text += b"O1,%03d,,,DELIVERED,2026-11-20 %02d:30:00\n" % (chance.randrange(1, 20), chance.randrange(24))
            files.append(FeedFile(f"blue/part_{number:03d}_2026_11_20.csv", text, files[0].mtime_ns))
        yield files


def test_killed_between_the_tables_and_their_markers(driver: Driver, tmp_path: Path) -> None:
    files = UNIQUE
    seen = driver.effects(World.make(tmp_path / "undisturbed"))
    until = seen.index("marker.source") + 1
    made = seen.index("after put orders_deliveries 0")
    assert seen[made + 1 : until] == ["marker.archive", "marker.source"]
    for place in range(made, until):
        world = World.make(tmp_path / str(place))
        assert driver.run(world, kill_at=place).get("signal") == 9
        world.put(files)
        driver.effects(world)
        world.check(files)
        markers = [(folder / MARKER).read_text() for folder in (world.archive, world.source)]
        assert markers[0] == markers[1] or seen[place] == "marker.archive"  # then they were written at two times
