"""P1 and P4 of corrections: killed -9 at every effect, in their recovery too, raced, and beside passes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from ordertrail.delta.log import LocalLogStore
from ordertrail.engines.embedded.engine import EmbeddedEngine
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import correct
from ordertrail.pipeline import Pipeline
from tests.depth import drawn
from tests.fault.driver import wanted
from tests.fault.test_storage import FailingStore
from tests.fault.world import ABSENT_CONFIG, BATCHES, Driver, Json, State, World, distinct, file, row

pytestmark = pytest.mark.fault

FIXED = file("acme/fixed.csv", row("002", 9, "RETURNED"), row("004", 8), row("008", 7), ("short",))
NEXT = (file("acme/order_tracking_2026_11_24.csv", row("001", 12), row("009", 8)),)
KINDS = ("undo", "redo", "replay", "correct", "dismiss")


@dataclass(slots=True)
class Story:
    """Three batches, and a correction of one of their deliveries.

    Attributes:
        driver: Runs passes.
        before: The world before the correction.
        job: What the driver gets for it.
        after: What the undisturbed correction left.
        effects: Those of the correction.
        batch: Its number.
        folder: For the worlds of the test.
    """

    driver: Driver
    before: World
    job: Json
    after: State
    effects: list[str]
    batch: int
    folder: Path
    made: int = 0

    def world(self) -> World:
        """A new world, just before the correction."""
        self.made += 1
        return self.before.copy(self.folder / f"world-{self.made}")

    def ends_right(self, world: World, place: object) -> None:
        """A plain pass finishes it once it is staged; otherwise nothing has happened and it is asked for again."""
        staged = max(max(txn, default=0) for txn in world.txns("orders_stage"))
        if staged < self.batch:
            assert world.state().target == self.before.state().target, f"killed at {place}"
            self.driver.effects(world, correct=self.job)
        else:
            self.driver.effects(world)
        assert world.state() == self.after, f"killed at {place}"
        check(world)


def check(world: World) -> None:
    """The tables agree with each other, and the archive has every file that a delivery names."""
    proof = verify(world.config)
    assert proof.ok, [one for one in proof.checks if not one.ok]


def id_of(world: World, name: str) -> str:
    return str(next(d["delivery_id"] for d in world.rows("orders_deliveries") if d["file_name"] == name))


def job_of(world: World, kind: str, fixed: Path) -> Json:
    """The correction of a kind; every one of them touches shipments that other files know too."""
    match kind:
        case "dismiss":
            return {"kind": kind, "of": [id_of(world, "broken_2026_11_20.csv")]}
        case "correct":
            return {"kind": kind, "of": [id_of(world, "order_tracking_2026_11_21.csv")], "file": str(fixed)}
        case _:
            ids = [id_of(world, f"order_tracking_2026_11_{day}.csv") for day in (20, 22)]
            return {"kind": kind, "of": ids}


Stories = Callable[[str], Story]


@pytest.fixture(scope="module")
def stories(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Stories:
    """Tells the story of a kind of correction, once."""

    @cache
    def story(kind: str) -> Story:
        return tell(driver, kind, tmp_path_factory.mktemp(f"corrections-{kind}"))

    return story


def tell(driver: Driver, kind: str, folder: Path) -> Story:
    """Three batches, and the undisturbed correction."""
    world = World.make(folder / "undisturbed", ABSENT_CONFIG, checkpoint_every=2)
    for files in BATCHES:
        world.put(files)
        driver.effects(world)
    fixed = folder / "fixed.csv"
    fixed.write_bytes(FIXED.content)
    job = job_of(world, kind, fixed)
    if kind == "redo":
        driver.effects(world, correct={**job, "kind": "undo"})
    before = world.copy(folder / "before")
    ended = driver.run(world, correct=job)
    assert "batch" in ended, ended
    check(world)
    story = Story(driver, before, job, world.state(), list(ended["effects"]), int(ended["batch"]), folder)
    changes = story.after.target != before.state().target
    assert changes == (kind not in ("dismiss", "replay")), "the correction proves nothing"
    return story


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_effect(stories: Stories, kind: str) -> None:
    """Those that only change states, or read files that are in the archive, take the same steps: after each commit."""
    story = stories(kind)
    whole = kind in ("undo", "correct")
    places = [at for at in distinct(story.effects) if whole or story.effects[at].startswith("after put")]
    for place in drawn(places, kind):
        world = story.world()
        ended = story.driver.run(world, correct=story.job, kill_at=place)
        assert ended.get("signal") == 9, ended
        story.ends_right(world, f"{place} {story.effects[place]}")


@pytest.mark.slow
def test_the_pass_that_recovers_is_killed_as_well(stories: Stories) -> None:
    story = stories("correct")
    names = story.driver.effects(begun(story))
    for place in drawn(distinct(names), "recovers"):
        world = begun(story)
        assert story.driver.run(world, kill_at=place).get("signal") == 9
        story.ends_right(world, f"{place} {names[place]} of the recovering pass")


def begun(story: Story) -> World:
    """The correction is staged, and its pass is dead."""
    world = story.world()
    at = story.effects.index("stage.committed")
    assert story.driver.run(world, correct=story.job, kill_at=at).get("signal") == 9
    return world


@pytest.mark.series
@pytest.mark.parametrize("kind", ["undo", "correct"])
def test_killed_at_some_effects(stories: Stories, kind: str) -> None:
    """The quick form: before and after each commit that tells."""
    story = stories(kind)
    for name in ("plan.decided", "stage.committed", "load.committed", "deliveries.files", "deliveries.committed"):
        world = story.world()
        assert story.driver.run(world, correct=story.job, kill_at=story.effects.index(name)).get("signal") == 9
        story.ends_right(world, name)


def test_the_effects_are_there(stories: Stories) -> None:
    """This fails when a step loses its probe."""
    steps = ("stage", "load", "history", "rejects", "deliveries")
    for kind in ("undo", "correct"):
        effects = stories(kind).effects
        assert {f"{step}.{what}" for step in steps for what in ("files", "committed")} <= {*effects, "rejects.files"}
        assert not [name for name in effects if name.startswith("archive.")], "a correction moved a file"
    assert "correct.shelved" in stories("correct").effects


@pytest.mark.parametrize("kind", [pytest.param("undo", marks=pytest.mark.slow), "correct"])
def test_a_reply_that_is_lost(stories: Stories, kind: str) -> None:
    """The entry was written, but the store says otherwise: read back, go on as done."""
    story = stories(kind)

    def lose(path: Path, data: bytes) -> None:
        LocalLogStore().put_if_absent(path, data)
        raise OSError(errno.EIO, "the reply is lost")

    puts = sum(name.startswith("before put") for name in story.effects)
    for at in drawn(range(puts), kind):
        world = story.world()
        store = FailingStore(at, lose)
        pipeline = Pipeline(
            world.config, engine=lambda config, probe, store=store: EmbeddedEngine(config, probe, store)
        )
        correct(pipeline, wanted(story.job))
        assert store.puts == puts
        assert world.state() == story.after, store.failed


def test_two_corrections_at_once(stories: Stories) -> None:
    """One of them is made; the other one finds another pass, or that there is nothing left to do."""
    story = stories("undo")
    world = story.world()
    ended = story.driver.together(world, 2, correct=story.job)
    assert sorted("batch" in one for one in ended) == [False, True], ended
    (lost,) = [one["error"] for one in ended if "error" in one]
    assert lost in ("E_PASS", "E_USAGE")
    assert world.state() == story.after


def test_two_machines_that_no_lock_keeps_apart(stories: Stories) -> None:
    """Put-if-absent lets one batch through; whoever lost says so and has written nothing, or the other's result."""
    story = stories("undo")
    for _ in range(3):
        world = story.world()
        ended = story.driver.together(world, 2, correct=story.job, lock=False)
        assert any("batch" in one for one in ended), ended
        story.driver.effects(world)
        assert world.state() == story.after
        check(world)


@pytest.mark.series
@pytest.mark.parametrize("stop_at", ["stage.committed", "load.files", "deliveries.files"])
def test_a_pass_beside_a_correction_waits_or_finishes_it(stories: Stories, stop_at: str) -> None:
    """While the correction stands still a pass goes away; when it is killed there, the pass finishes it and goes on."""
    story = stories("undo")
    world = story.world()
    stopped = story.driver.start(world, correct=story.job, stop_at=story.effects.index(stop_at))
    assert stopped.get("stopped")
    world.put(NEXT)
    assert story.driver.run(world)["error"] == "E_PASS"
    assert "batch" in story.driver.resume(stopped)
    story.driver.effects(world)
    both = world.state()
    again = begun(story)
    again.put(NEXT)
    story.driver.effects(again)
    assert again.state() == both
    check(again)
