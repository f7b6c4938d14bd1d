"""The open items of the service without a thread or a clock: when they are listed, and that nothing ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ordertrail.errors import TableError
from ordertrail.look.open_items import OpenItem
from ordertrail.watch.open_list import EVERY_S, OpenList

ITEM = OpenItem("debt", "tables:debt", None, "warning", "maintenance is due", "ordertrail maintain")


@dataclass(slots=True)
class Scene:
    """A list whose thread, clock and items are the test's."""

    now_s: float = 1000.0
    items: Sequence[OpenItem] = (ITEM,)
    error: Exception | None = None
    told: list[Sequence[OpenItem]] = field(default_factory=list)
    work: list[Callable[[], None]] = field(default_factory=list)

    def made(self) -> OpenList:
        return OpenList(self.find, self.told.append, clock=lambda: self.now_s, start=self.work.append)

    def find(self) -> Sequence[OpenItem]:
        if self.error is not None:
            raise self.error
        return self.items

    def end(self) -> None:
        self.work.pop()()


def test_the_first_pass_lists_them_and_later_ones_with_news() -> None:
    scene = Scene()
    listed = scene.made()
    listed.refresh(news=False)
    assert listed.running
    scene.end()
    assert (scene.told, listed.running) == ([(ITEM,)], False)
    listed.refresh(news=False)
    assert scene.work == []
    scene.items = ()
    listed.refresh(news=True)
    scene.end()
    assert scene.told == [(ITEM,), ()]


def test_without_news_they_are_listed_again_after_a_while() -> None:
    scene = Scene()
    listed = scene.made()
    for waited_s, begins in ((0.0, True), (EVERY_S - 1, False), (1.0, True)):
        scene.now_s += waited_s
        listed.refresh(news=False)
        assert bool(scene.work) is begins
        if begins:
            scene.end()


def test_news_that_come_while_they_are_listed_are_not_lost() -> None:
    scene = Scene()
    listed = scene.made()
    listed.refresh(news=True)
    listed.refresh(news=False)
    listed.refresh(news=True)
    listed.refresh(news=True)
    assert len(scene.work) == 1
    scene.end()
    assert (len(scene.told), listed.running) == (2, False)


def test_tables_that_cannot_be_read_leave_the_last_list() -> None:
    scene = Scene()
    listed = scene.made()
    listed.refresh(news=True)
    scene.end()
    scene.error = TableError("damaged")
    listed.refresh(news=True)
    scene.end()
    assert (scene.told, listed.running) == ([(ITEM,)], False)
    scene.error = None
    listed.refresh(news=True)
    scene.end()
    assert len(scene.told) == 2
