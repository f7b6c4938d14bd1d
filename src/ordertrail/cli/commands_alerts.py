"""Commands about alerts and incidents."""

from __future__ import annotations

import click

from ordertrail.cli.frame import Frame, command, user


@command(click.Argument(["name"], required=False, metavar="[NAME]"))
def test(frame: Frame, name: str | None) -> int:
    """Send a test message on every channel, or on the one called NAME.

    Exits with 1 when a channel did not take it, and says why.
    """
    from ordertrail.alerts.trial import try_channels
    from ordertrail.cli import alerts_view

    config = frame.config()
    with frame.busy("sending"):
        found = try_channels(config, name)
    tried = [alerts_view.Tried(channel, error) for channel, error in found]
    frame.show(tried, alerts_view.tried_document, alerts_view.tried)
    return 1 if any(one.error for one in tried) else 0


@command(
    click.Option(["--all", "closed"], is_flag=True, help="Closed incidents, too."),
    click.Option(
        ["--limit"], type=click.IntRange(min=1), metavar="N", default=100, show_default=True, help="At most so many."
    ),
    name="list",
)
def list_(frame: Frame, closed: bool, limit: int) -> int:
    """List the channels, their addresses masked, and the open incidents."""
    from ordertrail.cli import alerts_view
    from ordertrail.look.incidents import incidents_of

    config = frame.config(log=None)
    found = [one for one in incidents_of(config) if closed or one.open][:limit]
    listed = alerts_view.Listed(config.name, config.alerts, found, config.ping is not None)
    return frame.show(listed, alerts_view.listed_document, alerts_view.listed)


@command(
    click.Argument(["key"], metavar="KEY"),
    click.Option(["--why"], metavar="TEXT", required=True, help="What is being done; kept with the incident."),
    click.Option(["--by"], metavar="NAME", help="Who you are; without it the user of the system."),
)
def ack(frame: Frame, key: str, why: str, by: str | None) -> int:
    """Say that somebody knows of an open incident: no reminder is sent any more.

    KEY is as `alerts list` shows it, such as delivery:000012-00001-51c7a1e0. That the incident is over is told
    nevertheless.
    """
    from ordertrail.alerts.acknowledge import acknowledge
    from ordertrail.cli import alerts_view

    done = acknowledge(frame.config(), key, why, by or user())
    return frame.show(done, alerts_view.incident, alerts_view.acknowledged)


@command(
    click.Option(["--service"], is_flag=True, help="`ordertrail watch` should be running: it is an incident if not.")
)
def check(frame: Frame, service: bool) -> int:
    """Look for what needs a person and send what is to be told; runs no pass.

    For cron or a systemd timer, also beside `ordertrail watch`: nothing is sent twice. Exits with 3 when a message
    could not be sent, or incidents cannot be kept.
    """
    from ordertrail.alerts.after import check as look
    from ordertrail.alerts.channels import require_apprise
    from ordertrail.cli import alerts_view

    config = frame.config()
    if config.alerts:
        require_apprise()
    found = look(config, service_expected=service)
    return frame.show(found, alerts_view.checked_document, alerts_view.checked, attention=bool(found.problems))


alerts = click.Group(
    "alerts",
    commands={"test": test, "list": list_, "ack": ack, "check": check},
    help="Who is told what, and which incidents are open.",
    short_help="Who is told what, and which incidents are open.",
)
"""The group of commands about alerts."""
