"""Alerts and incidents as text for people, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from ordertrail.alerts.after import Checked
from ordertrail.cli.screen import Column, Screen, Style
from ordertrail.config import Alert
from ordertrail.look import document
from ordertrail.look.rows import Json, json_value
from ordertrail.rules.incidents import Incident
from ordertrail.rules.outbox import Post

_STYLES: Mapping[str, Style] = {"critical": "red", "warning": "yellow", "failed": "red", "sent": "green"}


class Listed(Struct, frozen=True):
    """What `alerts list` shows.

    Attributes:
        pipeline: The pipeline's name.
        alerts: The channels.
        incidents: Those that are shown.
        ping: Whether there is a dead man's switch.
    """

    pipeline: str
    alerts: Sequence[Alert]
    incidents: Sequence[Incident]
    ping: bool = False


class Tried(Struct, frozen=True):
    """A test of a channel.

    Attributes:
        channel: Its name.
        error: Why the message could not be sent; "" when it was.
    """

    channel: str
    error: str = ""


def incident(one: Incident) -> Json:
    """An incident and whom it was told to, wherever it is listed."""
    return {**document.incident(one), "posts": [_post(post) for post in one.posts]}


def _post(post: Post) -> Json:
    return {
        "channel": post.channel,
        "told": post.told,
        "told_at": json_value(post.told_at),
        "waiting": post.waiting,
        "next_at": json_value(post.next_at),
        "attempts": post.attempts,
        "error": post.error or None,
    }


def listed_document(found: Listed) -> Json:
    """`alerts list`."""
    return {
        "channels": [_channel(one) for one in found.alerts],
        "ping": found.ping,
        "incidents": [incident(one) for one in found.incidents],
    }


def _channel(one: Alert) -> Json:
    channel = one.channel
    quiet = None if channel.quiet is None else "-".join(f"{at // 60:02}:{at % 60:02}" for at in channel.quiet)
    return {
        "name": channel.name,
        "address": _address(one),
        "min_severity": channel.min_severity,
        "vendors": list(channel.vendors),
        "quiet_hours": quiet,
        "timezone": channel.timezone,
        "problem": one.address.problem or None,
    }


def _address(one: Alert) -> str | None:
    return None if one.address.url is None else one.address.url.shown


def checked_document(found: Checked) -> Json:
    """`alerts check`."""
    return {
        "open": [incident(one) for one in found.incidents if one.open],
        "sent": [
            {"channel": one.channel, "title": one.title, "incidents": one.incidents, "error": one.error or None}
            for one in found.sent
        ],
        "problems": list(found.problems),
    }


def tried_document(found: Sequence[Tried]) -> Json:
    """`alerts test`."""
    return {"channels": [{"name": one.channel, "sent": not one.error, "error": one.error or None} for one in found]}


def listed(screen: Screen, found: Listed) -> None:
    """`alerts list`: the channels, then the incidents."""
    if found.alerts:
        rows = []
        for one in found.alerts:
            quiet = (
                "" if one.channel.quiet is None else "-".join(f"{at // 60:02}:{at % 60:02}" for at in one.channel.quiet)
            )
            where = _address(one) or one.address.problem
            rows.append((one.name, one.channel.min_severity, ", ".join(one.channel.vendors) or "all", quiet, where))
        columns = (
            Column("channel"),
            Column("from"),
            Column("vendors"),
            Column("quiet"),
            Column("address", detail=True),
        )
        screen.table(columns, rows, {})
    else:
        screen.line(f"{found.pipeline}: there are no [[alerts]] in the config, so nobody is told", "yellow")
    screen.line("")
    if not found.incidents:
        screen.line("no incidents are open", "green")
        return
    incidents(screen, found.incidents)


def incidents(screen: Screen, found: Sequence[Incident]) -> None:
    """Incidents, one a row."""
    columns = (
        Column("key", detail=True),
        Column("severity"),
        Column("opened (UTC)"),
        Column("state"),
        Column("what", detail=True),
        Column("next", detail=True),
    )
    rows = [
        (one.key, one.severity, f"{one.opened_at:%Y-%m-%d %H:%M}", _state(one), one.text, one.next) for one in found
    ]
    screen.table(columns, rows, _STYLES)


def _state(one: Incident) -> str:
    if one.closed_at is not None:
        return f"closed {one.closed_at:%Y-%m-%d %H:%M}"
    return "open" if one.acknowledged_by is None else f"known to {one.acknowledged_by}"


def checked(screen: Screen, found: Checked) -> None:
    """`alerts check`: what was sent, and what is open."""
    for one in found.sent:
        screen.line(
            f"{one.channel}: {'sent' if not one.error else 'not sent'}: {one.title}", "red" if one.error else "green"
        )
    for problem in found.problems:
        screen.line(problem, "red")
    opened = [one for one in found.incidents if one.open]
    if opened:
        incidents(screen, opened)
    else:
        screen.line("no incidents are open", "green")


def acknowledged(screen: Screen, one: Incident) -> None:
    """`alerts ack`."""
    screen.line(f"{one.key} is known to {one.acknowledged_by}: {one.acknowledged_why}", "green")
    screen.line("there are no more reminders; that it is over will be told")


def tried(screen: Screen, found: Sequence[Tried]) -> None:
    """`alerts test`: a line for each channel."""
    for one in found:
        screen.line(f"{one.channel}: {one.error or 'sent'}", "red" if one.error else "green")
