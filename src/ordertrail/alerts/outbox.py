"""Sends what waits in the table of incidents: claimed by a commit, sent, and marked by another commit.

Of two processes one commit comes first, so both never send the same. Killed between the commits, a message is sent
again once its claim has ended: at least once, never not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec import Struct

from ordertrail.alerts.channels import Sender, send
from ordertrail.alerts.evaluate import changed, now_utc
from ordertrail.config import Alert
from ordertrail.engines.base import IncidentTable
from ordertrail.log import Log
from ordertrail.model import Probe, no_probe
from ordertrail.rules.alert_text import message
from ordertrail.rules.incidents import Incident, after_sending, claim
from ordertrail.rules.outbox import Event

_log = Log()


class Sent(Struct, frozen=True):
    """A message that was sent, or could not be.

    Attributes:
        channel: The channel's name.
        title: Its first line.
        incidents: How many incidents it tells of.
        error: Why it could not be sent; "" when it was.
    """

    channel: str
    title: str
    incidents: int
    error: str = ""


class Outbox(Struct, frozen=True):
    """Sends what waits.

    Attributes:
        pipeline: The pipeline's name.
        table: The table of incidents.
        alerts: The channels.
        sender: Sends one message.
        now: The clock, aware UTC.
        probe: Called after each effect.
        option: What commands in messages need to find the config.
    """

    pipeline: str
    table: IncidentTable
    alerts: Sequence[Alert]
    sender: Sender = send
    now: Callable[[], datetime] = now_utc
    probe: Probe = no_probe
    option: str = ""

    def send(self, go_on: Callable[[], bool] = lambda: True) -> tuple[Sent, ...]:
        """Send what is due, one message a channel.

        Args:
            go_on: Asked before each channel: whether there is still time.

        Raises:
            OrdertrailError: The table cannot be read or written; what was claimed is sent again later.
        """
        found = (self._on(alert) for alert in self.alerts if go_on())
        return tuple(one for one in found if one is not None)

    def _on(self, alert: Alert) -> Sent | None:
        told: list[tuple[Incident, Event]] = []

        def take(known: Sequence[Incident]) -> Sequence[Incident] | None:
            found = claim(known, alert.channel, self.now())
            told[:] = () if found is None else found[1]
            return None if found is None else found[0]

        changed(self.table, take)
        if not told:
            return None
        self.probe("alerts.claimed")
        one = message(self.pipeline, told, self.now(), self.option)
        error = self.sender(alert, one)
        self.probe("alerts.sent")
        changed(self.table, lambda known: after_sending(known, alert.name, told, error, self.now()))
        self.probe("alerts.marked")
        if error:
            _log.warning("a message could not be sent; it is tried again", channel=alert.name, reason=error)
        else:
            _log.info("told", channel=alert.name, what=one.title)
        return Sent(alert.name, one.title, len(told), error)
