"""Decides what becomes of incidents: each is the life of one cause, from when it is first seen until it is gone.

The causes are the open items. An incident is opened when its cause is first seen, closed when the cause is gone, and
goes on as the same one when the cause comes back within an hour. What merely goes on changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.rules.outbox import Channel, Event, Post, Severity, claimed, failed, queued, sent, too_many

REMIND_AFTER = (timedelta(hours=1), timedelta(hours=4), timedelta(days=1))
"""Time from one message of an incident that goes on to the next; the last one holds from then on."""

SAME = timedelta(hours=1)
"""A cause that comes back within this time after its incident was closed goes on as the same incident."""

KEEP = timedelta(days=400)
"""How long closed incidents are kept, so that a year can be compared with the one before."""

MOST_CLOSED = 20_000
"""How many closed incidents are kept at most; the newest ones."""

BLOCKING = frozenset({"failing", "stalled", "contract"})
"""Kinds of causes while which no file is loaded."""

SYMPTOMS = frozenset({"late", "waiting"})
"""Kinds of causes that say nothing of their own while a blocking one lasts."""

CHANNEL = "channel"
"""The kind of the incident that a channel of alerts does not take messages; its key is `channel:NAME`."""


class Cause(Struct, frozen=True):
    """Something that needs a person, as an open item says it.

    Attributes:
        kind: Of the open item.
        key: Of the open item.
        severity: `warning` or `critical`.
        text: What is wrong, on one line.
        next: The command to type next.
        since: Since when; aware UTC, None when nothing tells.
        vendor: The vendor concerned; None when it is none, or all.
        rows: Rows that are not in the target because of it; None when that is not known, or does not apply.
        shipments: About how many shipments these rows are of, by the vendor's earlier files; None when nobody can say.
    """

    kind: str
    key: str
    severity: Severity
    text: str
    next: str
    since: datetime | None = None
    vendor: str | None = None
    rows: int | None = None
    shipments: int | None = None


class Incident(Struct, frozen=True):
    """The life of one cause; a row of `orders_incidents`. Times are aware UTC.

    Attributes:
        incident_id: Unique in the pipeline.
        key: Of the cause; at most one incident with this key is open.
        kind: Of the cause.
        severity: `warning` or `critical`; the worst so far.
        vendor: The vendor concerned; None when it is none, or all.
        text: What was wrong when this row was written last, on one line.
        next: The command to type next.
        rows: Rows that are not in the target because of it; None when that is not known, or does not apply.
        shipments: About how many shipments these rows are of, by the vendor's earlier files; None when nobody can say.
        since: Since when the cause is there, if anything tells.
        opened_at: When it was first seen.
        seen_at: When it was last seen, as of the last change of the table.
        count: How often it came: once, and once more each time it came back within an hour.
        closed_at: When it was seen to be gone; None while it is open.
        acknowledged_at: When somebody said that they know of it; None when nobody did. There are no reminders then.
        acknowledged_by: Who.
        acknowledged_why: What they said.
        reminded: How many reminders there were since it came last.
        remind_at: When the next reminder is due; None when there is none.
        posts: What each channel was told of it and is to be told.
    """

    incident_id: str
    key: str
    kind: str
    severity: Severity
    vendor: str | None
    text: str
    next: str
    rows: int | None
    since: datetime | None
    opened_at: datetime
    seen_at: datetime
    count: int = 1
    closed_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_why: str | None = None
    reminded: int = 0
    remind_at: datetime | None = None
    posts: tuple[Post, ...] = ()
    shipments: int | None = None

    @property
    def open(self) -> bool:
        """Whether its cause was there when it was last looked for."""
        return self.closed_at is None


class Seen(Struct, frozen=True):
    """What one look found.

    Attributes:
        causes: All that need a person.
        whole: Whether the list is all there is; where it could not be made no incident is closed but by `passed`.
        passed: Whether a pass has just succeeded, or a service whose passes succeed is alive: only then does the
            absence of failing passes mean anything.
    """

    causes: Sequence[Cause]
    whole: bool = True
    passed: bool = True


def judge(
    known: Sequence[Incident],
    seen: Seen,
    channels: Sequence[Channel],
    now: datetime,
    new_id: Callable[[], str],
) -> tuple[Incident, ...] | None:
    """What the incidents are after a look.

    Args:
        known: All incidents.
        seen: What needs a person now.
        channels: Where messages go.
        now: Aware UTC.
        new_id: Makes the id of a new incident.

    Returns:
        All incidents, with what is to be sent; None when nothing changed, so that nothing need be written.
    """
    work = _Judging(seen, channels, now, new_id, list(failing_channels(known, channels, now)))
    return work.after(known)


def failing_channels(known: Iterable[Incident], channels: Sequence[Channel], now: datetime) -> Iterator[Cause]:
    """The channels that have refused messages again and again."""
    names = {one.name for one in channels}
    found: dict[str, Post] = {}
    for incident in known:
        for post in incident.posts:
            if post.failing and post.channel in names:
                before = found.get(post.channel)
                found[post.channel] = post if before is None or post.attempts > before.attempts else before
    for name, post in sorted(found.items()):
        text = f"the channel {name} takes no messages, after {post.attempts} attempts: {post.error}"
        yield Cause(CHANNEL, channel_key(name), "critical", text, f"ordertrail alerts test {name}", now)


def channel_key(name: str) -> str:
    """The key of the incident that a channel takes no messages."""
    return f"{CHANNEL}:{name}"


class _Judging:
    """One judgement."""

    def __init__(
        self,
        seen: Seen,
        channels: Sequence[Channel],
        now: datetime,
        new_id: Callable[[], str],
        failing: Sequence[Cause],
    ) -> None:
        self._seen = seen
        self._channels = {one.name: one for one in channels}
        self._now = now
        self._new_id = new_id
        self._blocked = any(one.kind in BLOCKING for one in seen.causes)
        self._causes = {one.key: one for one in (*seen.causes, *failing)}

    def after(self, known: Sequence[Incident]) -> tuple[Incident, ...] | None:
        found, changed = [], False
        current = _current(known)
        for incident in known:
            after = self._weigh(incident) if current.get(incident.key) is incident else incident
            after = self._without_lost_channels(after)
            changed = changed or after is not incident
            found.append(after)
        for key, cause in self._causes.items():
            if not self._silenced(cause.kind) and self._is_new(current.get(key)):
                found.append(self._opened(cause))
                changed = True
        return self._kept(self._refreshed(found)) if changed else None

    def _weigh(self, one: Incident) -> Incident:
        """An incident after this look; itself when nothing changed."""
        if self._silenced(one.kind):
            return one
        cause = self._causes.get(one.key)
        if cause is None:
            return self._closed(one) if one.open and self._is_gone(one) else one
        if not one.open:
            return one if self._is_new(one) else self._back(one, cause)
        if (cause.severity, one.severity) == ("critical", "warning"):
            return self._told(_as_seen(one, cause, self._now), "open")
        if one.acknowledged_at is not None:
            return one
        if one.remind_at is not None and one.remind_at <= self._now:
            return self._reminded(_as_seen(one, cause, self._now))
        told = {post.channel for post in one.posts}
        new = {name for name, channel in self._channels.items() if name not in told and self._takes(channel, one)}
        return self._told(_as_seen(one, cause, self._now), "open", new) if new else one

    def _silenced(self, kind: str) -> bool:
        return self._blocked and kind in SYMPTOMS

    def _is_new(self, before: Incident | None) -> bool:
        """Whether a cause is not the one that the last incident of its key is about."""
        return before is None or (before.closed_at is not None and self._now - before.closed_at > SAME)

    def _is_gone(self, one: Incident) -> bool:
        if one.kind == CHANNEL:
            return True
        if one.key == FAILING:
            return self._seen.passed
        return self._seen.whole

    def _opened(self, cause: Cause) -> Incident:
        one = Incident(
            self._new_id(), cause.key, cause.kind, cause.severity, cause.vendor, cause.text, cause.next, cause.rows,
            cause.since, self._now, self._now, shipments=cause.shipments,
        )  # fmt: skip
        return self._told(one, "open")

    def _back(self, one: Incident, cause: Cause) -> Incident:
        came = replace(
            _as_seen(one, cause, self._now),
            count=one.count + 1,
            closed_at=None,
            acknowledged_at=None,
            acknowledged_by=None,
            acknowledged_why=None,
        )
        return self._told(came, "open")

    def _closed(self, one: Incident) -> Incident:
        return self._told(replace(one, closed_at=self._now), "close")

    def _reminded(self, one: Incident) -> Incident:
        wait = REMIND_AFTER[min(one.reminded + 1, len(REMIND_AFTER) - 1)]
        told = self._told(one, "remind")
        return replace(told, reminded=one.reminded + 1, remind_at=self._now + wait)

    def _told(self, one: Incident, event: Event, names: Collection[str] | None = None) -> Incident:
        """The incident with an event that its channels, or only some of them, are to tell."""
        posts = {post.channel: post for post in one.posts}
        told = False
        for name, channel in self._channels.items():
            if not self._takes(channel, one) or (names is not None and name not in names):
                continue
            told = True
            before = posts.get(name, Post(name))
            if event != "remind" or before.waiting is None:
                posts[name] = queued(before, event, channel, one.severity, one.count, self._now)
        remind_at = self._now + REMIND_AFTER[0] if told and event == "open" else None
        return replace(one, posts=tuple(posts.values()), reminded=0, remind_at=remind_at)

    def _takes(self, channel: Channel, one: Incident) -> bool:
        """Whether a channel tells an incident; none tells that it does not work itself."""
        return one.key != channel_key(channel.name) and channel.takes(one.severity, one.vendor)

    def _without_lost_channels(self, one: Incident) -> Incident:
        """Nothing waits for a channel that the config does not name any more."""
        if all(post.waiting is None or post.channel in self._channels for post in one.posts):
            return one
        posts = tuple(
            post if post.channel in self._channels else replace(post, waiting=None, next_at=None, claimed=False)
            for post in one.posts
        )
        return replace(one, posts=posts)

    def _refreshed(self, found: Iterable[Incident]) -> list[Incident]:
        """The incidents with what was seen of their causes: the table is written in any case."""
        return [
            _as_seen(one, self._causes[one.key], self._now) if one.open and one.key in self._causes else one
            for one in found
        ]

    def _kept(self, found: Sequence[Incident]) -> tuple[Incident, ...]:
        """The incidents without those that were closed long ago."""
        closed = sorted((one.closed_at for one in found if one.closed_at is not None), reverse=True)
        oldest = self._now - KEEP
        if len(closed) > MOST_CLOSED:
            oldest = max(oldest, closed[MOST_CLOSED])
        return tuple(one for one in found if one.closed_at is None or one.closed_at > oldest)


FAILING = "pipeline:failing"
"""The key of the cause that passes fail; only a pass, or a service that is alive, can tell that it is gone."""


def _current(known: Iterable[Incident]) -> Mapping[str, Incident]:
    """The incident of each key that is open or, when none is, was opened last."""
    found: dict[str, Incident] = {}
    for one in known:
        before = found.get(one.key)
        if before is None or (one.open, one.opened_at) > (before.open, before.opened_at):
            found[one.key] = one
    return found


def _as_seen(one: Incident, cause: Cause, now: datetime) -> Incident:
    worst: Severity = "critical" if "critical" in (one.severity, cause.severity) else "warning"
    return replace(
        one,
        severity=worst,
        vendor=cause.vendor,
        text=cause.text,
        next=cause.next,
        rows=cause.rows,
        shipments=cause.shipments,
        since=cause.since or one.since,
        seen_at=now,
    )


def acknowledged(
    known: Sequence[Incident], key: str, who: str, why: str, now: datetime
) -> tuple[tuple[Incident, ...], Incident | None]:
    """The incidents after somebody acknowledged the open one with a key.

    Args:
        known: All incidents.
        key: Of the incident.
        who: Who acknowledges it.
        why: What they say.
        now: Aware UTC.

    Returns:
        All incidents, and the one that was acknowledged; None when none with this key is open.
    """
    hit = next((one for one in known if one.open and one.key == key), None)
    if hit is None:
        return tuple(known), None
    after = replace(hit, acknowledged_at=now, acknowledged_by=who, acknowledged_why=why, remind_at=None)
    after = replace(after, posts=tuple(_unreminded(post) for post in after.posts))
    return tuple(after if one is hit else one for one in known), after


def _unreminded(post: Post) -> Post:
    """A post without a reminder that waits; what was already tried is told."""
    waits = post.waiting == "remind" and not post.attempts
    return replace(post, waiting=None, next_at=None) if waits else post


def listed(found: Iterable[Incident]) -> tuple[Incident, ...]:
    """Incidents in the order in which people read them: open ones first, newest first."""
    return tuple(sorted(found, key=lambda one: (one.open, one.opened_at, one.incident_id), reverse=True))


def claim(
    known: Sequence[Incident], channel: Channel, now: datetime
) -> tuple[tuple[Incident, ...], tuple[tuple[Incident, Event], ...]] | None:
    """Claim what a channel is to tell now, all of it in one message.

    Args:
        known: All incidents.
        channel: The channel.
        now: Aware UTC.

    Returns:
        All incidents with the posts claimed, and what to tell; None when there is nothing to send now.
    """
    due = {id(one): post for one in known for post in one.posts if post.channel == channel.name and post.due(now)}
    if not due:
        return None
    told = tuple((one, due[id(one)].waiting) for one in known if id(one) in due)
    worst: Severity = "critical" if any(one.severity == "critical" for one, _ in told) else "warning"
    sent_at = (post.told_at for one in known for post in one.posts if post.channel == channel.name)
    if too_many((at for at in sent_at if at is not None), worst, now):
        return None
    after = tuple(_with_post(one, claimed(due[id(one)], now)) if id(one) in due else one for one in known)
    return after, tuple((one, event) for one, event in told if event is not None)


def after_sending(
    known: Sequence[Incident], channel: str, told: Sequence[tuple[Incident, Event]], error: str, now: datetime
) -> tuple[Incident, ...]:
    """The incidents after an attempt to send what was claimed.

    Args:
        known: All incidents, as they are now.
        channel: The channel's name.
        told: What was claimed.
        error: Why it could not be sent; "" when it was.
        now: Aware UTC.
    """
    events = {one.incident_id: event for one, event in told}
    return tuple(_after_sending(one, channel, events.get(one.incident_id), error, now) for one in known)


def _after_sending(one: Incident, channel: str, event: Event | None, error: str, now: datetime) -> Incident:
    post = next((post for post in one.posts if post.channel == channel), None)
    if post is None or event is None:
        return one
    return _with_post(one, failed(post, error, one.closed_at, now) if error else sent(post, event, now))


def _with_post(one: Incident, post: Post) -> Incident:
    return replace(one, posts=tuple(post if before.channel == post.channel else before for before in one.posts))
