"""When a file is complete: nobody writes to it, and it is at rest. Pure: times and answers arrive as arguments.

A rest is measured by two looks and our own monotonic clock: a file server's times are never compared with our clock. On
a local disk the times of a file come from this machine's clock, so one look is enough: a ctime older than `settle_s` is
a rest. Nobody can set ctime, and every write and every change of the other times updates it. A clock that is set
forward in that second can make a rest look longer; whether somebody has the file open is known without a clock.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.model import FileIdentity

CLOCK_SKEW_S = 600.0
"""A ctime further ahead of the clock than this, in seconds, is not waited for: the clock was set back."""

HOLD_S = 60.0
"""A file that was seen to be opened counts as complete only when unchanged for this long, where the system cannot say
whether it still is open: the word of its closing can be lost. In seconds."""

NOT_SETTLED = "not settled"
"""Why a file waits that is not at rest yet."""

STILL_OPEN = "still open for writing"
"""Why a file waits that somebody has open."""


class Look(Struct, frozen=True):
    """The results of the looks at a file so far.

    Attributes:
        first_seen: When it was first seen to wait; aware UTC.
        identity: Its identity at the last look; None when no vendor takes it.
        since_s: Since when it is unchanged, by the monotonic clock, in seconds.
        restless: Whether at the last look only inode or ctime had changed: some mounts make them up each time.
        sha256: Hash of a restless file at the last look.
        hashes: How many looks in a row have found this hash.
    """

    first_seen: datetime
    identity: FileIdentity | None = None
    since_s: float = 0.0
    restless: bool = False
    sha256: str | None = None
    hashes: int = 0


class Sight(Struct, frozen=True):
    """What one look shows of a file, besides its `stat`.

    Attributes:
        local: Whether it is on a disk of this machine.
        written: Whether somebody has it open for writing; None when the system cannot tell.
        opened: Whether an event reported its creation, and none that it was closed.
        closed: Whether an event reported that it was closed.
    """

    local: bool
    written: bool | None
    opened: bool = False
    closed: bool = False


class Verdict(Struct, frozen=True):
    """Whether a file is taken.

    Attributes:
        reason: Why it waits; None when it is complete.
        rest_s: In how many seconds another look could find it at rest; None when that is unknown.
    """

    reason: str | None = None
    rest_s: float | None = None


def looked(before: Look | None, identity: FileIdentity, at_s: float, now: datetime, *, local: bool) -> Look:
    """The look at a file that follows the look `before`.

    Args:
        before: None at the first look.
        identity: Its `stat` now.
        at_s: The monotonic clock, in seconds.
        now: Aware UTC.
        local: It is on a disk of this machine, where inode and ctime can be trusted.
    """
    if before is None:
        return Look(now, identity, at_s)
    if before.identity == identity and not before.restless:
        return before
    same = before.identity is not None and loose(before.identity) == loose(identity)
    if same and not local and before.identity != identity:
        return replace(before, identity=identity, restless=True)
    return Look(before.first_seen, identity, at_s)


def hashed(look: Look, before: Look | None, sha256: str, at_s: float) -> Look:
    """A restless file's look with its hash: it has been at rest since the first look with this hash."""
    if before is not None and before.sha256 == sha256:
        return replace(look, hashes=before.hashes + 1)
    return replace(look, sha256=sha256, hashes=1, since_s=at_s)


def judge(sight: Sight, look: Look, at_s: float, now_ns: int, settle_s: float) -> Verdict:
    """Whether a file is complete.

    Args:
        sight: What the system says.
        look: The looks so far, this one included.
        at_s: The monotonic clock, in seconds.
        now_ns: The wall clock, nanoseconds since 1970 UTC; compared with times of local files only.
        settle_s: How long a file must rest, in seconds; 0 takes what nobody has open.
    """
    if sight.written:
        return Verdict(STILL_OPEN)
    assert look.identity is not None
    rested_s = at_s - look.since_s
    if look.restless:
        return (
            Verdict()
            if look.hashes > 1 and rested_s >= settle_s
            else Verdict(NOT_SETTLED, max(0.0, settle_s - rested_s))
        )
    if sight.closed:
        return Verdict()
    if sight.opened and sight.written is None and rested_s < HOLD_S:
        return Verdict(STILL_OPEN)
    if settle_s <= 0 or rested_s >= settle_s:
        return Verdict()
    if not sight.local:
        return Verdict(NOT_SETTLED, settle_s - rested_s)
    return Verdict() if settled(look.identity, now_ns, settle_s) else Verdict(NOT_SETTLED)


def settled(identity: FileIdentity, now_ns: int, settle_s: float) -> bool:
    """Whether a local file has been unchanged for `settle_s`, as far as the clock tells.

    A ctime further ahead of the clock than `CLOCK_SKEW_S` was made before the clock was set back, and must not block
    for ever. mtime counts too, for file systems that keep no ctime, unless it lies in the future: there it can only
    have been set by hand.

    Args:
        identity: Of the file.
        now_ns: Nanoseconds since 1970 UTC.
        settle_s: Seconds; 0 takes every file.
    """
    settle_ns = round(settle_s * 1e9)
    if settle_ns <= 0:
        return True
    skew_ns = round(CLOCK_SKEW_S * 1e9)
    changed = -skew_ns < now_ns - identity.ctime_ns < settle_ns
    written = 0 <= now_ns - identity.mtime_ns < settle_ns
    return not (changed or written)


def loose(identity: FileIdentity) -> FileIdentity:
    """The identity of a file on a mount that makes up inodes and ctimes: only size and mtime."""
    return FileIdentity(0, 0, identity.size_bytes, identity.mtime_ns, 0)


def is_loose(identity: FileIdentity) -> bool:
    """Whether an identity is one of `loose`."""
    return identity.inode == 0 and identity.device == 0


def same_file(one: FileIdentity, other: FileIdentity) -> bool:
    """Equal in all but ctime, which a rename or a link moves; loose ones in size and mtime."""
    if is_loose(one) or is_loose(other):
        one, other = loose(one), loose(other)
    return (one.device, one.inode, one.size_bytes, one.mtime_ns) == (
        other.device,
        other.inode,
        other.size_bytes,
        other.mtime_ns,
    )
