"""`ordertrail alerts test`: a message on a channel at once, without any incident."""

from __future__ import annotations

from ordertrail.alerts.channels import Sender, require_apprise, send
from ordertrail.alerts.evaluate import now_utc
from ordertrail.config import Config
from ordertrail.config.contract import nearest
from ordertrail.errors import UsageError
from ordertrail.rules.alert_text import trial


def try_channels(config: Config, name: str | None = None, *, sender: Sender = send) -> list[tuple[str, str]]:
    """Send a test message.

    Args:
        config: Of the pipeline.
        name: The channel; None for all.
        sender: Sends one message.

    Returns:
        Each channel with why it did not take the message, "" when it did.

    Raises:
        UsageError: There is no such channel, or none at all, or apprise is not installed.
    """
    known = [one.name for one in config.alerts]
    if not known:
        raise UsageError(
            "there are no [[alerts]] in the config", hint="add one as docs/how-to/alerts.md shows, then try again"
        )
    if name is not None and name not in known:
        hint = nearest(name, known, otherwise=f"the channels are: {', '.join(known)}")
        raise UsageError(f"there is no channel {name!r}", hint=hint)
    require_apprise()
    wanted = [one for one in config.alerts if name in (None, one.name)]
    return [(one.name, sender(one, trial(config.name, one.name, now_utc()))) for one in wanted]
