"""Which files are held because of their keys: how many looks it takes, what the words say, which files are alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec.structs import replace

from ordertrail.model import FileIdentity, Vendor
from ordertrail.rules.planning import Candidate, places_of, wrong_rows, wrong_shares
from ordertrail.rules.shares import LEAST_KEYS, Broken, KeyCounts, Shares, held_files


def test_many_wrong_files_take_two_looks() -> None:
    """A backlog of files of another system: what is wrong with each does not depend on the others."""
    looks: list[int] = []

    def count(without: Collection[int]) -> Iterator[KeyCounts]:
        looks.append(len(without))
        return (KeyCounts(place, 100, 100, 0, 0) for place in range(1000) if place not in without)

    assert len(held_files(dict.fromkeys(range(1000), Shares(new=0.5)), count)) == 1000
    assert looks == [0, 1000]


def test_no_verdict_below_twenty_keys_and_none_without_a_limit() -> None:
    assert Shares(new=0.5).broken(KeyCounts(0, 19, 19, 0, 0)) is None
    assert Shares(new=0.5).broken(KeyCounts(0, 20, 20, 0, 0)) is not None
    assert not Shares(new=0.5).surely_broken(KeyCounts(0, 19, 19, 0, 0))
    assert Shares(new=0.5).surely_broken(KeyCounts(0, 20, 20, 0, 0))
    assert Shares() == Shares(new=1.0, stale=1.0)


def test_what_is_broken_whatever_came_before_is_what_the_file_says_against_the_target() -> None:
    limits = Shares(new=0.5, stale=0.25)
    assert not limits.surely_broken(KeyCounts(0, 100, 50, 100, 25))
    assert limits.surely_broken(KeyCounts(0, 100, 51, 0, 0))
    assert limits.surely_broken(KeyCounts(0, 100, 0, 100, 26))


def test_the_words_say_the_counts_and_the_limit() -> None:
    limits = Shares(new=0.25, stale=0.125)
    assert limits.broken(KeyCounts(0, 1000, 250, 125, 0)) is None
    assert limits.broken(KeyCounts(0, LEAST_KEYS - 1, LEAST_KEYS - 1, 0, 0)) is None
    assert limits.broken(KeyCounts(0, 1000, 251, 126, 0)) == Broken(
        "max_new_share",
        "251 of its 1,000 keys are new to the target, a share of 0.251; max_new_share allows 0.25",
    )
    assert limits.broken(KeyCounts(0, 1000, 0, 500, 0)) == Broken(
        "max_stale_share",
        "500 of its 1,000 keys are older than what the target holds, a share of 0.5; max_stale_share allows 0.125",
    )


def test_equal_files_are_held_alike_and_files_have_their_order() -> None:
    def file(number: int, name: str, day: int, sha256: str) -> Candidate:
        identity = FileIdentity(1, number, 10, 0, 0)
        shares = Shares(new=0.5)
        return Candidate(
            number, f"000002-{number:05d}-aa", Vendor("acme"), name, name, identity, sha256, day, "h", shares=shares
        )

    files = [
        file(0, "b", 2, "x"),
        file(1, "a", 2, "y"),
        file(2, "c", 1, "x"),
        replace(file(3, "d", 0, "z"), shares=None),
    ]
    assert places_of(files) == {3: 0, 2: 1, 1: 2, 0: 3}
    # The later of the equal files is parsed; the fourth one breaks no limit, because it has none.
    counts = [KeyCounts(place, 20, 20, 0, 0) for place in (0, 3)] + [KeyCounts(2, 20, 5, 0, 0)]
    found = wrong_shares(files, lambda without: [one for one in counts if one.place not in without])
    assert sorted(found) == [0, 2]
    assert {found[number].rule for number in found} == {"max_new_share"}
    assert all(f"release {files[number].delivery_id} to load" in found[number].reason for number in found)
    assert wrong_rows(replace(files[0], verdict=found[0]), 20) == found[0]
