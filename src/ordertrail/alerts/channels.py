"""Sends messages, with apprise (https://github.com/caronc/apprise), which knows some hundred services.

apprise is imported only when something is sent: a pass that has nothing to tell does not notice it.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Protocol

from ordertrail.config import Alert
from ordertrail.errors import OrdertrailError, UsageError
from ordertrail.rules.alert_text import Message
from ordertrail.rules.secrets import SecretUrl

SEND_S = 45.0
"""Longest time for one message on one channel, in seconds; shorter than the lease of a claim (`rules.outbox.LEASE`)."""

_PHONE = 320
"""A service that takes no title and no more characters than this sends text messages: it gets the first line alone."""


class Sender(Protocol):
    """Sends a message on a channel."""

    def __call__(self, alert: Alert, message: Message) -> str:
        """Send it; returns why that failed, "" when it did not. Never raises, and shows no secret."""
        ...


def installed() -> bool:
    """Whether apprise is there; does not import it."""
    return importlib.util.find_spec("apprise") is not None


def require_apprise() -> None:
    """Refuse to send without apprise.

    Raises:
        UsageError: It is not installed.
    """
    if not installed():
        raise UsageError(
            "alerts need apprise, which is not installed", hint="install it with pip install 'ordertrail[alerts]'"
        )


def send(alert: Alert, message: Message) -> str:
    """See `Sender`."""
    url = alert.address.url
    if url is None:
        return alert.address.problem
    try:
        require_apprise()
        return _sent(url, message)
    except OrdertrailError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - what a service's plugin raises is not known; the message is tried again
        return url.hidden_in(f"{type(error).__name__}: {error}")


def problem_of(alert: Alert) -> str:
    """Why nothing can be sent on a channel, as far as that can be told without sending; "" when nothing is known."""
    if alert.address.url is None:
        return alert.address.problem
    require_apprise()
    _quiet()
    import apprise

    known = apprise.Apprise.instantiate(alert.address.url.text) is not None
    return "" if known else f"apprise does not understand the address {alert.address.url.shown}"


def _sent(url: SecretUrl, message: Message) -> str:
    _quiet()
    import apprise

    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="ordertrail", allow_templates=False))
    if not service.add(url.text):
        return f"apprise does not understand the address {url.shown}"
    kind = apprise.NotifyType.SUCCESS
    if not message.over:
        kind = apprise.NotifyType.FAILURE if message.severity == "critical" else apprise.NotifyType.WARNING
    (plugin,) = service
    short = plugin.title_maxlen <= 0 and plugin.body_maxlen <= _PHONE
    result = service.notify(
        title="" if short else message.title,
        body=message.title if short else message.body or message.title,
        notify_type=kind,
        body_format=apprise.NotifyFormat.TEXT,
        timeout=SEND_S,
    )
    if result:
        return ""
    lines = [str(entry.message) for entry in result.logs() if entry.message]
    return url.hidden_in("; ".join(lines) or f"the service refused it ({result.status.value})")[:500]


def _quiet() -> None:
    """Keep apprise's own log lines, which may name what they should not, from stderr."""
    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
