"""P1 and P6 when files move under the pass: a file that changes, grows, shrinks or vanishes at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ordertrail.sources import writers
from tests.depth import drawn
from tests.fault.world import Driver, World, file, row
from tests.feeds import FeedFile, csv_bytes
from tests.oracle import judge, keyed

pytestmark = pytest.mark.fault

VICTIM = "acme/victim_2026_11_20.csv"
OLD = csv_bytes([row("001", 8, address="X"), row("002", 8)])
SAME_SIZE = csv_bytes([row("001", 9, address="Y"), row("002", 8)])
MORE = csv_bytes([row("001", 8, address="X"), row("002", 8), row("003", 8)])
LESS = csv_bytes([row("001", 8, address="X")])
BYSTANDER = file("acme/bystander_2026_11_20.csv", row("100", 8), row("001", 7))
STEPS = (
    "plan.decided",
    "stage.files",
    "stage.committed",
    "load.files",
    "load.committed",
    "deliveries.committed",
    "archive.claimed",
    "archive.verified",
    "archive.linked",
    "archive.dropped",
)
QUICK = {"plan.decided", "stage.files", "archive.claimed"}


def overwritten(path: Path, content: bytes) -> None:
    """As `cp` and most uploads do: truncate, then write in place. Makes the file when the name is free."""
    path.write_bytes(content)


def replaced(path: Path, content: bytes) -> None:
    """As careful writers do: another inode takes the name."""
    fresh = path.with_name(".fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


def vanished(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)


Change = Callable[[Path, bytes], None]
CHANGES: dict[str, tuple[Change, bytes]] = {
    "rewritten, same size": (overwritten, SAME_SIZE),
    "grown": (overwritten, MORE),
    "truncated": (overwritten, LESS),
    "emptied": (overwritten, b""),
    "replaced": (replaced, SAME_SIZE),
    "vanished": (vanished, b""),
}


@dataclass(slots=True)
class AtStep:
    """A probe that does something the first time a step is passed."""

    step: str
    act: Callable[[], None]
    names: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if name == self.step and self.names.count(name) == 1:
            self.act()


def victim(content: bytes) -> FeedFile:
    return FeedFile(VICTIM, content, BYSTANDER.mtime_ns)


@pytest.mark.series
@pytest.mark.parametrize("step", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in STEPS])
@pytest.mark.parametrize("how", list(CHANGES))
def test_a_file_that_moves_under_the_pass(tmp_path: Path, step: str, how: str) -> None:
    """Bytes that were staged are loaded, bytes that came later are the next delivery, nothing waits for ever."""
    change, content = CHANGES[how]
    world = World.make(tmp_path / "world")
    # By its name the victim is the last: what the archive does first it does to the bystander, but for one file.
    world.put([victim(OLD), BYSTANDER])
    probe = AtStep(step, lambda: change(world.source / VICTIM, content))
    reports = [world.run(probe), world.run(), world.run()]
    assert step in probe.names

    staged = step != "plan.decided"
    came = [victim(OLD)] * staged + [victim(content)] * (change is not vanished) + [BYSTANDER]
    verdict = judge(came, None, world.vendors)
    assert keyed(world.rows("orders_target")) == verdict.target
    deliveries = world.rows("orders_deliveries")
    assert sorted(d["sha256"] for d in deliveries) == sorted(v.sha256 for v in verdict.files)
    world.check_books(deliveries)
    assert world.waiting() == []
    assert world.shelf() == {d["archived_to"]: d["sha256"] for d in deliveries if d["archived_to"] is not None}
    told = [*reports[0].skipped, *reports[0].warnings]
    if not staged or len(world.shelf()) < len(deliveries):
        assert any("victim" in str(line) for line in told), told
    assert (reports[2].batch, reports[2].skipped, reports[2].warnings) == (None, (), ()), "not at rest"


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell who has a file open: it is another user's."""
    monkeypatch.setattr(writers, "is_written", lambda _: None)


@pytest.mark.usefixtures("untold")
def test_a_writer_that_never_closed(tmp_path: Path) -> None:
    """A write through a descriptor that was open all the time, while the file has its claim: noticed, read again."""
    world = World.make(tmp_path / "world")
    world.put([victim(OLD)])
    with (world.source / VICTIM).open("ab") as writer:

        def write() -> None:
            writer.write(csv_bytes([row("003", 8)]).splitlines(keepends=True)[1])
            writer.flush()

        report = world.run(AtStep("archive.claimed", write))
    assert [s.file_name for s in report.skipped] == ["victim_2026_11_20.csv"]
    world.run()
    assert keyed(world.rows("orders_target")) == judge([victim(MORE)], None, world.vendors).target
    assert world.waiting() == []


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("step", ["archive.verified", "archive.linked", "archive.dropped"])
def test_bytes_of_a_late_writer_are_kept(tmp_path: Path, step: str) -> None:
    """After the file was verified nobody can tell any more; but what was written is in the archive, not gone."""
    world = World.make(tmp_path / "world")
    world.put([victim(OLD)])
    with (world.source / VICTIM).open("ab") as writer:

        def write() -> None:
            writer.write(b"late\n")
            writer.flush()

        world.run(AtStep(step, write))
    kept = [path.read_bytes() for folder in (world.source, world.archive) for path in folder.rglob("*.csv")]
    assert kept == [OLD + b"late\n"]


class Squatter:
    """Somebody puts a file of the same name into the archive just before ours gets there."""

    def __init__(self, world: World, content: bytes) -> None:
        self.world = world
        self.content = content

    def __call__(self, name: str) -> None:
        if name == "archive.claimed":
            for delivery in self.world.rows("orders_deliveries"):
                path = self.world.archive / delivery["archived_to"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.content)


def test_an_archive_name_that_is_taken(tmp_path: Path) -> None:
    """The other file stays as it is, ours gets a name beside it, and the deliveries say which."""
    world = World.make(tmp_path / "world")
    world.put([victim(OLD)])
    report = world.run(Squatter(world, b"somebody else's"))
    [delivery] = world.rows("orders_deliveries")
    assert (world.archive / delivery["archived_to"]).read_bytes() == OLD
    assert sorted(path.read_bytes() for path in world.archive.rglob("*.csv*")) == sorted([OLD, b"somebody else's"])
    assert report.warnings
    assert world.waiting() == []


def test_an_archive_name_that_holds_the_very_file(tmp_path: Path) -> None:
    """A copy by hand of the same bytes is as good as ours: the file is there once."""
    world = World.make(tmp_path / "world")
    world.put([victim(OLD)])
    world.run(Squatter(world, OLD))
    assert [path.read_bytes() for path in world.archive.rglob("*.csv*")] == [OLD]
    assert world.waiting() == []


def take_the_name(world: World) -> None:
    Squatter(world, b"somebody else's")("archive.claimed")


def take_the_file(world: World) -> None:
    (world.source / VICTIM).unlink()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [take_the_name, take_the_file])
def test_killed_while_the_archive_is_not_as_planned(
    driver: Driver, tmp_path: Path, spoil: Callable[[World], None]
) -> None:
    """The deliveries must end up saying where the files really are, although the plan was another."""
    probe = World.make(tmp_path / "probe")
    probe.put([victim(OLD), BYSTANDER])
    names = driver.effects(probe)
    done = names.index("deliveries.committed")
    wrong = []
    for place in drawn(range(done + 1, len(names) + 3), spoil.__name__):
        world = World.make(tmp_path / str(place))
        world.put([victim(OLD), BYSTANDER])
        started = driver.start(world, stop_at=done, kill_at=place)
        spoil(world)
        driver.resume(started)
        driver.effects(world)
        shelf = {path: sha for path, sha in world.shelf().items() if (world.archive / path).read_bytes()[:4] != b"some"}
        said = {d["archived_to"]: d["sha256"] for d in world.rows("orders_deliveries") if d["archived_to"] is not None}
        if said != shelf or world.waiting():
            wrong.append(f"killed at {place}: said {said}, there {shelf}, waiting {world.waiting()}")
    assert not wrong, "\n".join(wrong)
