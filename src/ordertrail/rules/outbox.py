"""What is to be told of an incident, on which channel and when; the outbox that is kept with the incident.

For each channel an incident has one post: what the channel was told last, and what it is to be told next. A newer event
takes the place of one that still waits, so that a channel that was down tells how things stand, not all that happened.
A post is claimed, in a commit, before it is sent, and marked afterwards: killed between the two it is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

Severity = Literal["warning", "critical"]
"""As of an open item."""

Event = Literal["open", "remind", "close"]
"""What may be told of an incident: that it began or got worse, that it goes on, that it is over."""

LEASE = timedelta(minutes=2)
"""How long nobody else sends a post that a process has claimed; longer than sending may take."""

FIRST_RETRY, LAST_RETRY = timedelta(seconds=30), timedelta(hours=1)
"""Time to the next attempt after the first failed one; it doubles, up to the last."""

GIVE_UP = timedelta(days=3)
"""What could not be sent is dropped this long after its incident was closed."""

FAILED_SENDS = 3
"""After this many failed attempts in a row a channel is itself an incident, which the others tell."""

CALM_COUNT, CALM = 3, timedelta(hours=1)
"""An incident that came this often is told at most once in this time on a channel."""

MOST_AN_HOUR = 20
"""Messages on a channel within an hour; more wait and come as one. Critical ones may be twice as many."""

_VERSION = 1
_DAY_MIN = 24 * 60


class Channel(Struct, frozen=True):
    """Where messages go, as far as it matters for what is sent when.

    Attributes:
        name: Its name in the config.
        min_severity: Incidents of less severity are not told.
        vendors: Only incidents of these vendors are told; empty tells all.
        quiet: Minutes of the day from which, inclusive, to which, exclusive, nothing is sent; None for no such time.
        timezone: IANA zone of these.
        quiet_critical: Whether critical incidents wait for their end, too.
    """

    name: str
    min_severity: Severity = "warning"
    vendors: tuple[str, ...] = ()
    quiet: tuple[int, int] | None = None
    timezone: str = "UTC"
    quiet_critical: bool = False

    def takes(self, severity: Severity, vendor: str | None) -> bool:
        """Whether incidents of this severity and vendor, None for those of no vendor, are told here."""
        severe = severity == "critical" or self.min_severity == "warning"
        return severe and (not self.vendors or vendor in self.vendors)

    def earliest(self, severity: Severity, at: datetime) -> datetime:
        """The first moment from `at` on at which something of this severity may be sent; aware UTC."""
        if self.quiet is None or (severity == "critical" and not self.quiet_critical):
            return at
        begin, end = self.quiet
        local = at.astimezone(ZoneInfo(self.timezone))
        minute = local.hour * 60 + local.minute
        if (minute - begin) % _DAY_MIN >= (end - begin) % _DAY_MIN:
            return at
        day = local + timedelta(days=1 if minute >= end else 0)
        return day.replace(hour=end // 60, minute=end % 60, second=0, microsecond=0).astimezone(UTC)


class Post(Struct, frozen=True):
    """What one channel was told of one incident, and is to be told.

    Attributes:
        channel: The channel's name.
        told: The event that was told last; None when none was.
        told_at: When; aware UTC.
        waiting: The event to be told; None when there is none.
        next_at: When it is tried next; aware UTC.
        attempts: How often it was tried.
        claimed: Whether a process is sending it, until `next_at`.
        error: Why the last attempt failed; "" when it did not.
    """

    channel: str
    told: Event | None = None
    told_at: datetime | None = None
    waiting: Event | None = None
    next_at: datetime | None = None
    attempts: int = 0
    claimed: bool = False
    error: str = ""

    def due(self, now: datetime) -> bool:
        """Whether it should be sent now."""
        return self.waiting is not None and (self.next_at is None or self.next_at <= now)

    @property
    def failing(self) -> bool:
        """Whether so many attempts failed that somebody should be told."""
        return self.waiting is not None and self.attempts >= FAILED_SENDS and bool(self.error)


def queued(post: Post, event: Event, channel: Channel, severity: Severity, count: int, now: datetime) -> Post:
    """A post that is to tell an event.

    Args:
        post: As it is; an event that it still waits to tell is replaced.
        event: What happened.
        channel: The post's channel.
        severity: Of the incident.
        count: How often the incident came.
        now: Aware UTC.
    """
    if not post.claimed and _believed(post, event):
        return replace(post, waiting=None, next_at=None, attempts=0, error="")
    at = now
    if count >= CALM_COUNT and post.told_at is not None:
        at = max(at, post.told_at + CALM)
    at = channel.earliest(severity, at)
    if post.waiting is not None and post.next_at is not None and (post.claimed or post.error):
        at = max(at, post.next_at)  # the channel is busy, or down: what is new makes no attempt come sooner
    return replace(post, waiting=event, next_at=at)


def _believed(post: Post, event: Event) -> bool:
    """Whether the channel believes already what the event would tell it."""
    if event == "close":
        return post.told == "close" or (post.told is None and post.waiting is None)
    return event == "open" and post.told in ("open", "remind") and post.waiting == "close"


def claimed(post: Post, now: datetime) -> Post:
    """A post that this process is about to send."""
    return replace(post, next_at=now + LEASE, attempts=post.attempts + 1, claimed=True)


def sent(post: Post, event: Event, now: datetime) -> Post:
    """A post whose event was sent; a newer one that came meanwhile goes on waiting."""
    rest = None if post.waiting == event else post.waiting
    return Post(post.channel, event, now, rest, post.next_at if rest else None)


def failed(post: Post, error: str, closed_at: datetime | None, now: datetime) -> Post:
    """A post that could not be sent: it is tried again, ever more rarely.

    Args:
        post: As it was claimed.
        error: Why.
        closed_at: When its incident was closed; None when it is open.
        now: Aware UTC.
    """
    if closed_at is not None and now - closed_at > GIVE_UP:
        return replace(post, waiting=None, next_at=None, attempts=0, claimed=False, error=error)
    wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(max(post.attempts - 1, 0), 10))
    return replace(post, next_at=now + wait, claimed=False, error=error)


def too_many(told_at: Iterable[datetime], severity: Severity, now: datetime) -> bool:
    """Whether a channel has had its messages of an hour.

    Args:
        told_at: When it was told something; messages that told of several incidents count once.
        severity: Of what is to be told.
        now: Aware UTC.
    """
    recent = {one for one in told_at if now - one < timedelta(hours=1)}
    return len(recent) >= MOST_AN_HOUR * (2 if severity == "critical" else 1)


# --- as text -----------------------------------------------------------------------------------------------------


def outbox_text(posts: Sequence[Post]) -> str:
    """The column `outbox`: JSON of the posts."""
    return json.dumps({"version": _VERSION, "posts": [_document(one) for one in posts]}, ensure_ascii=False)


def outbox_of(text: str | None) -> tuple[Post, ...]:
    """The posts of the column `outbox`; those that this release does not understand are left out."""
    try:
        found = json.loads(text or "{}")
        return tuple(one for each in found.get("posts", ()) if (one := _post(each)) is not None)
    except (ValueError, LookupError, AttributeError, TypeError):
        return ()


def _document(post: Post) -> dict[str, object]:
    return {
        "channel": post.channel,
        "told": post.told,
        "told_at": _text(post.told_at),
        "waiting": post.waiting,
        "next_at": _text(post.next_at),
        "attempts": post.attempts,
        "claimed": post.claimed,
        "error": post.error,
    }


def _post(found: Mapping[str, object]) -> Post | None:
    return Post(
        channel=str(found["channel"]),
        told=_event(found.get("told")),
        told_at=_time(found.get("told_at")),
        waiting=_event(found.get("waiting")),
        next_at=_time(found.get("next_at")),
        attempts=int(str(found.get("attempts") or 0)),
        claimed=bool(found.get("claimed")),
        error=str(found.get("error") or ""),
    )


def _event(found: object) -> Event | None:
    return next((one for one in get_args(Event) if one == found), None)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _time(found: object) -> datetime | None:
    return None if found is None else datetime.fromisoformat(str(found)).astimezone(UTC)
