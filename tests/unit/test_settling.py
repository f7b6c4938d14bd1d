"""When a file is complete, by what the system says of it and by the looks so far."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from ordertrail.model import FileIdentity, Skipped
from ordertrail.rules.waiting import NAMED, waiting_warnings
from ordertrail.sources.settling import (
    HOLD_S,
    NOT_SETTLED,
    STILL_OPEN,
    Look,
    Sight,
    Verdict,
    hashed,
    judge,
    looked,
    same_file,
)

S = 10**9
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * S
OLD = FileIdentity(1, 2, 3, NOW_NS - 9 * S, NOW_NS - 9 * S)
FRESH = replace(OLD, ctime_ns=NOW_NS)
LOCAL, MINE, OTHERS, SHARE = Sight(True, False), Sight(True, False), Sight(True, None), Sight(False, None)


@pytest.mark.parametrize(
    ("sight", "identity", "rested_s", "settle_s", "verdict"),
    [
        # Somebody has it open: nothing else counts.
        (Sight(True, True), OLD, 99, 2, Verdict(STILL_OPEN)),
        (Sight(True, True, closed=True), OLD, 99, 0, Verdict(STILL_OPEN)),
        # A local file: its own ctime is a rest, and so are two looks, whatever the clock was set to.
        (MINE, OLD, 0, 2, Verdict()),
        (OTHERS, OLD, 0, 2, Verdict()),
        (MINE, FRESH, 0, 2, Verdict(NOT_SETTLED)),
        (MINE, FRESH, 2, 2, Verdict()),
        (MINE, FRESH, 0, 0, Verdict()),
        # A share: only two looks count, however old the file says it is.
        (SHARE, OLD, 0, 2, Verdict(NOT_SETTLED, 2)),
        (SHARE, OLD, 1.5, 2, Verdict(NOT_SETTLED, 0.5)),
        (SHARE, OLD, 2, 2, Verdict()),
        (SHARE, FRESH, 0, 0, Verdict()),
        # What events told of.
        (replace(SHARE, closed=True), FRESH, 0, 2, Verdict()),
        (replace(OTHERS, opened=True), OLD, HOLD_S - 1, 2, Verdict(STILL_OPEN)),
        (replace(OTHERS, opened=True), OLD, HOLD_S, 2, Verdict()),
        (replace(MINE, opened=True), OLD, 0, 2, Verdict()),
    ],
)
def test_a_file_is_complete(
    sight: Sight, identity: FileIdentity, rested_s: float, settle_s: float, verdict: Verdict
) -> None:
    look = Look(NOW, identity, 100.0)
    assert judge(sight, look, 100.0 + rested_s, NOW_NS, settle_s) == verdict


def test_every_change_begins_the_rest_anew() -> None:
    first = looked(None, OLD, 100.0, NOW, local=False)
    assert looked(first, OLD, 105.0, NOW, local=False) == first
    for changed in (replace(OLD, size_bytes=4), replace(OLD, mtime_ns=OLD.mtime_ns + 1)):
        again = looked(first, changed, 105.0, NOW + timedelta(hours=1), local=False)
        assert (again.since_s, again.first_seen, again.restless) == (105.0, NOW, False)


def test_another_inode_alone_makes_a_file_restless_but_not_on_a_local_disk() -> None:
    first = looked(None, OLD, 100.0, NOW, local=False)
    for changed in (replace(OLD, inode=9), replace(OLD, ctime_ns=OLD.ctime_ns + 1)):
        assert looked(first, changed, 105.0, NOW, local=False).restless
        assert looked(first, changed, 105.0, NOW, local=True) == Look(NOW, changed, 105.0)


def test_a_restless_file_rests_from_the_first_of_two_equal_hashes() -> None:
    first = looked(None, OLD, 100.0, NOW, local=False)
    second = hashed(looked(first, replace(OLD, inode=8), 101.0, NOW, local=False), first, "a", 101.0)
    assert judge(SHARE, second, 101.0, NOW_NS, 0.0).reason == NOT_SETTLED
    third = hashed(looked(second, replace(OLD, inode=9), 102.0, NOW, local=False), second, "a", 102.0)
    assert (third.since_s, judge(SHARE, third, 102.0, NOW_NS, 2.0)) == (101.0, Verdict(NOT_SETTLED, 1.0))
    assert judge(SHARE, third, 103.0, NOW_NS, 2.0) == Verdict()
    other = hashed(looked(third, replace(OLD, inode=7), 104.0, NOW, local=False), third, "b", 104.0)
    assert (other.since_s, judge(SHARE, other, 104.0, NOW_NS, 0.0).reason) == (104.0, NOT_SETTLED)
    still = looked(other, replace(OLD, inode=7), 105.0, NOW, local=False)
    assert (still.restless, still.since_s) == (False, 105.0)


def test_a_file_is_the_same_by_all_but_ctime_and_a_loose_one_by_size_and_mtime() -> None:
    loose_one = FileIdentity(0, 0, OLD.size_bytes, OLD.mtime_ns, 0)
    assert same_file(OLD, FRESH)
    assert not same_file(OLD, replace(OLD, inode=9))
    assert same_file(loose_one, replace(OLD, inode=9))
    assert not same_file(loose_one, replace(OLD, size_bytes=9))


def test_what_waits_for_long_or_for_a_person_is_said() -> None:
    since = NOW - timedelta(hours=2)
    waiting = [
        Skipped("old.csv", "not settled", since),
        Skipped("new.csv", "not settled", since + timedelta(seconds=1)),
        Skipped("locked.csv", "it cannot be read", NOW, needs_person=True),
        Skipped("unknown.csv", "changed while it was read"),
    ]
    told = "old.csv has been waiting since 2026-11-23 10:00 UTC: not settled"
    assert waiting_warnings(waiting, NOW, 2.0) == ["locked.csv: it cannot be read", told]
    assert waiting_warnings(waiting, NOW, 0.0) == ["locked.csv: it cannot be read"]
    many = [Skipped(f"{n}.csv", "x", since) for n in range(NAMED + 3)]
    assert waiting_warnings(many, NOW, 2.0)[NAMED:] == ["3 more files wait: ordertrail status lists them"]
