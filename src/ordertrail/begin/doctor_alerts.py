"""Whether somebody would be told: the channels of alerts as far as that can be seen without sending."""

from __future__ import annotations

from collections.abc import Iterator

from ordertrail.alerts.channels import installed, problem_of
from ordertrail.config import Config

Found = tuple[str, bool, str, str]
"""Subject, whether all is well, what was found, and what to do."""


def channel_findings(config: Config) -> Iterator[Found]:
    """What is known of each channel, and of the dead man's switch; shows no address.

    Args:
        config: Of the pipeline.
    """
    if config.alerts and not installed():
        yield "alerts", False, "apprise is not installed: nobody is told", "pip install 'ordertrail[alerts]'"
        return
    for one in config.alerts:
        if problem := problem_of(one):
            yield f"alerts {one.name}", False, problem, "mend its address in [[alerts]], then: ordertrail alerts test"
        elif one.address.url is not None:
            detail = f"{one.address.url.shown}, from {one.channel.min_severity} on"
            yield f"alerts {one.name}", True, detail, ""
    if config.ping is not None and config.ping.problem:
        yield "ping_url", False, config.ping.problem, "set it where ordertrail runs, or take ping_url out"
