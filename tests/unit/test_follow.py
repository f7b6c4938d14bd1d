"""The read model that follows the tables: who asks never waits long, and nothing that is in use is closed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertrail.delta.log import DeltaLog
from ordertrail.errors import OrdertrailError
from ordertrail.look import follow
from ordertrail.look.beside import beside
from ordertrail.look.follow import Followed, Moment
from tests.harness import House, open_house, without_fsync

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"


def load(house: House, n: int) -> None:
    house.drop(f"{n}.csv", f"{HEADER}0001,1Z{n},2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n")
    with without_fsync():
        house.run()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python collects no cycles: what a test sees go, goes without them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Kept:
    """Something that is kept with a state of the tables."""


@pytest.mark.usefixtures("uncollected")
def test_what_was_kept_of_an_old_state_goes_whoever_still_holds_that_state(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    followed = Followed(house.config, patience_s=60)
    held: list[Moment] = []  # as garbage does: a template that was rendered holds what it showed
    left: list[weakref.ref[object]] = []
    for n in range(4):
        load(house, n)
        with followed.now() as moment:
            held.append(moment)
            left.append(weakref.ref(moment.kept("something", Kept)))
            with moment.reading() as reader:
                left.append(weakref.ref(reader))
            with moment.querying() as reader:
                left.append(weakref.ref(reader))
    assert len({*held}) == 4
    assert None not in [one() for one in left[-3:]]
    assert [one() for one in left[:-3]] == [None] * 9
    followed.close()


def test_the_same_state_is_read_once(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    load(house, 1)
    made: list[Moment] = []
    followed = Followed(house.config, prepare=made.append, patience_s=60)
    with followed.now() as one, followed.now() as two:
        assert one is two
    load(house, 2)
    with followed.now() as three:
        assert three is not one
        assert three.versions["target"] > one.versions["target"]
    assert made == [one, three]
    followed.close()


def test_what_the_deliveries_say_is_read_again_only_when_they_change(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    load(house, 1)
    made: list[int] = []

    def of_deliveries(moment: Moment) -> object:
        return moment.kept("summed", lambda: made.append(len(moment.deliveries(["batch"]))), of_deliveries=True)

    followed = Followed(house.config, prepare=of_deliveries, patience_s=60)
    with followed.now() as one:
        names = [str(file) for file in one.snapshots["deliveries"].paths]
    log = DeltaLog(house.table_path("rejects"))
    version = one.versions["rejects"]
    log.commit(version + 1, [{"commitInfo": {"operation": "a note"}}])
    hidden = [Path(name).rename(f"{name}.hidden") for name in names]  # whoever read them again would fail
    with followed.now() as two:
        assert two is not one
        assert two.versions["rejects"] == version + 1
        assert sum(two.status(age_s=0).deliveries.values()) == len(two.deliveries(["batch"])) == 1
    assert made == [1]
    for path in hidden:
        path.rename(path.with_suffix(""))
    load(house, 2)
    with followed.now() as three:
        assert sum(three.status(age_s=0).deliveries.values()) == len(three.deliveries(["batch"])) == 2
    assert made == [1, 2]
    followed.close()


def test_nobody_waits_in_vain_where_the_last_state_took_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house, let, now_s = open_house(tmp_path), threading.Event(), [0.0]
    load(house, 1)
    monkeypatch.setattr(follow.time, "monotonic", lambda: now_s[0])
    let.set()

    def slow(_: Moment) -> None:
        now_s[0] += 7200
        assert let.wait(60)

    followed = Followed(house.config, prepare=slow, patience_s=3600)
    with followed.now() as one:
        load(house, 2)
    with followed.now() as two:  # waited for, as nobody knows yet how long it takes
        assert two is not one
        let.clear()
        load(house, 3)
        with followed.now() as still:  # at once
            assert still is two
    let.set()
    followed.close()


def test_while_a_state_is_made_the_one_before_is_given(tmp_path: Path) -> None:
    house, let, begun = open_house(tmp_path), threading.Event(), threading.Event()
    load(house, 1)
    let.set()

    def slow(_: Moment) -> None:
        begun.set()
        assert let.wait(30)

    followed = Followed(house.config, prepare=slow, patience_s=0.01)
    with followed.now() as one:
        pass
    let.clear()
    load(house, 2)
    begun.clear()
    with followed.now() as still:
        assert still is one
        assert begun.wait(30)
        let.set()
        while True:
            with followed.now() as now:
                if now is not one:
                    break
        with still.reading() as reader:  # it is in use, so it was not closed
            assert len(reader.deliveries()) == 1
        with now.reading() as reader:
            assert len(reader.deliveries()) == 2
    followed.close()


def test_what_fails_is_told_each_time_and_passes(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    load(house, 1)
    entry = sorted((house.table_path("history") / "_delta_log").glob("*.json"))[-1]
    good = entry.read_text()
    entry.write_text("damaged")
    followed = Followed(house.config, patience_s=60)
    for _ in range(2):
        with pytest.raises(OrdertrailError, match="damaged"), followed.now():
            pass
    entry.write_text(good)
    with followed.now() as moment:
        assert moment.begun
    followed.close()


def test_a_query_has_a_reader_of_its_own(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    load(house, 1)
    followed = Followed(house.config)
    with followed.now() as moment, moment.querying() as slow, moment.reading() as quick:
        assert slow is not quick
        with pytest.raises(OrdertrailError, match="others"), moment.querying(wait_s=0.01):
            pass
    followed.close()


def test_two_readings_at_the_same_time_return_both_or_raise() -> None:
    meet = threading.Barrier(2, timeout=10)  # passes only when both are at work
    assert beside(lambda: meet.wait() >= 0, lambda: meet.wait() * 0) == (True, 0)
    with pytest.raises(ZeroDivisionError):
        beside(lambda: 1, lambda: 1 // 0)
    with pytest.raises(KeyError):
        beside(lambda: dict[str, int]()["first"], lambda: 1 // 0)
