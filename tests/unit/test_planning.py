"""What a pass decides before it reads: ids, contract hashes, duplicate files, states."""

from __future__ import annotations

import re
from concurrent.futures import Future
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from ordertrail.model import FileIdentity, Limits, State, Vendor
from ordertrail.rules.filekey import MAX_NAME_BYTES, archive_path
from ordertrail.rules.planning import (
    Candidate,
    LoadedFile,
    delivery_id,
    delivery_number,
    loaded_before,
    rounds,
    state_of,
)

ACME = Vendor("acme")
CANDIDATE = Candidate(
    0, "000001-00000-aa", ACME, "a/b.csv", "a/b.csv", FileIdentity(1, 2, 3, 5_999_999, 5), "aa", 100, "h"
)
LOADED = LoadedFile("000000-00000-aa", "acme", "aa", "h", 100, "a/b.csv", 5, 7, 3)


def test_ids() -> None:
    identity = FileIdentity(1, 2, 3, 5_999_999, 5)
    one = delivery_id(12, 3, "a/b.csv", identity)
    assert re.fullmatch("000012-00003-[0-9a-f]{8}", one)
    assert one == delivery_id(12, 3, "a/b.csv", replace(identity, inode=7, ctime_ns=9))
    others = [
        ("a/c.csv", identity),
        ("a/b.csv", replace(identity, size_bytes=4)),
        ("a/b.csv", replace(identity, mtime_ns=6)),
    ]
    assert len({one, *(delivery_id(12, 3, path, other) for path, other in others)}) == 4
    assert delivery_number("000012-00003-01234567") == 3
    assert delivery_number(delivery_id(10**7, 123_456, "a", identity)) == 123_456
    path = archive_path(
        delivery_id(10**7, 10**6, "a", identity), "n" * 250 + ".csv", datetime(2026, 1, 1, tzinfo=UTC), State.LOADED
    )
    assert len(path.rpartition("/")[2].encode()) <= MAX_NAME_BYTES


@pytest.mark.parametrize(
    ("loaded", "duplicate"),
    [
        (LOADED, True),
        (replace(LOADED, file_key=101), True),
        (replace(LOADED, file_key=99), False),
        (replace(LOADED, clean_path="a/c.csv"), True),
        (replace(LOADED, clean_path="a/a.csv"), False),
        (replace(LOADED, mtime_ms=6), True),
        (replace(LOADED, mtime_ms=4), False),
        (replace(LOADED, file_key=101, clean_path="a", mtime_ms=0), True),
        (replace(LOADED, sha256="bb"), False),
        (replace(LOADED, vendor="blue"), False),
        (replace(LOADED, contract_hash="other"), False),
    ],
)
def test_a_file_is_a_duplicate_only_of_the_same_bytes_loaded_with_an_order_not_lower(
    loaded: LoadedFile, duplicate: bool
) -> None:
    assert loaded_before(CANDIDATE, [loaded]) == (loaded if duplicate else None)


def test_a_file_is_placed_by_the_millisecond_in_which_it_was_written() -> None:
    """As the deliveries say it: a file that was loaded stands where it stood before it was."""
    for mtime_ms in (0, 5, 1_795_824_000_123):
        identity = replace(CANDIDATE.identity, mtime_ns=mtime_ms * 1_000_000 + 999_999)
        assert replace(CANDIDATE, identity=identity).order == replace(LOADED, mtime_ms=mtime_ms).order


def test_a_file_that_an_older_release_loaded_is_known_by_the_name_it_gave_the_contract() -> None:
    candidate = replace(CANDIDATE, contract_hash="new", older_hashes=("h",))
    assert loaded_before(candidate, [LOADED]) == LOADED
    assert loaded_before(replace(candidate, older_hashes=()), [LOADED]) is None


def test_of_several_the_highest_is_named() -> None:
    low, high = LOADED, replace(LOADED, file_key=500)
    assert loaded_before(CANDIDATE, [low, high, replace(LOADED, file_key=1)]) == high
    assert loaded_before(CANDIDATE, []) is None


def test_a_file_sent_again_after_a_profile_was_changed_and_changed_back_is_loaded_again() -> None:
    """What it says by the first profile is not what its last delivery said."""
    by_another = replace(LOADED, delivery_id="000001-00000-aa", contract_hash="other")
    again = replace(by_another, delivery_id="1000000-00000-aa", contract_hash="h")
    assert loaded_before(CANDIDATE, [by_another, LOADED]) is None
    assert loaded_before(CANDIDATE, [again, by_another, LOADED]) == again
    elsewhere = replace(by_another, mtime_ms=6)
    assert loaded_before(CANDIDATE, [elsewhere, LOADED]) == LOADED


def test_a_file_of_a_size_of_its_own_is_not_waited_for() -> None:
    """Its hash is still being made; only a file of the same size, or a delivery loaded before, asks for it."""
    promise: Future[str] = Future()
    alone = replace(CANDIDATE, number=1, digest=promise, identity=replace(CANDIDATE.identity, size_bytes=99))
    assert [[c.number for c in group] for group in rounds([CANDIDATE, alone])] == [[0], [1]]
    assert loaded_before(alone, [LOADED]) is None
    assert not promise.done()
    promise.set_result("cc")
    assert alone.sha256 == "cc"


def test_rounds_put_the_highest_of_equal_files_first() -> None:
    second = replace(CANDIDATE, number=1, file_key=200)
    third = replace(CANDIDATE, number=2, clean_path="z.csv")
    other = replace(CANDIDATE, number=3, digest="bb")
    vendor = replace(CANDIDATE, number=4, vendor=Vendor("blue"))
    found = rounds([CANDIDATE, second, third, other, vendor])
    assert [[c.number for c in group] for group in found] == [[1, 2, 0], [3], [4]]


@pytest.mark.parametrize(
    ("parsed", "rejected", "share", "floor", "state"),
    [
        (0, 0, 0.2, 1, State.EMPTY),
        (10, 0, 0.0, 1, State.LOADED),
        (10, 1, 0.0, 1, State.QUARANTINED),
        (10, 2, 0.2, 1, State.LOADED),
        (10, 3, 0.2, 1, State.QUARANTINED),
        (10, 10, 1.0, 1, State.LOADED),
        (10, 10, 0.99, 1, State.QUARANTINED),
        (5, 1, 0.2, 1, State.LOADED),
        # One typo in a file of four rows is one reject, from five on the share counts.
        (4, 1, 0.2, 5, State.LOADED),
        (10, 4, 0.2, 5, State.LOADED),
        (10, 5, 0.2, 5, State.QUARANTINED),
        (25, 5, 0.2, 5, State.LOADED),
        # Without a good row, or where none may be bad, there is no floor.
        (1, 1, 0.2, 5, State.QUARANTINED),
        (4, 4, 0.2, 5, State.QUARANTINED),
        (4, 4, 1.0, 5, State.LOADED),
        (100, 1, 0.0, 5, State.QUARANTINED),
    ],
)
def test_states(parsed: int, rejected: int, share: float, floor: int, state: State) -> None:
    found, reason = state_of(parsed, rejected, Limits(share, floor))
    assert found is state
    assert (reason is None) == (state is State.LOADED)
    if state is State.QUARANTINED:
        assert f"{rejected} of {parsed} rows" in str(reason)
