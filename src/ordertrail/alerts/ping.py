"""The dead man's switch: an address that expects to be asked after every pass, and raises an alarm when it is not.

A failed pass asks the address with `/fail` at the end of its path, as healthchecks.io has it; where nobody knows that,
it does no harm.
"""

from __future__ import annotations

import urllib.parse

from ordertrail import __version__
from ordertrail.config.values import Address

TIMEOUT_S = 5.0
"""How long the address has to answer, in seconds."""


def ping(address: Address, *, failed: bool) -> str:
    """Ask the address.

    Args:
        address: From the config.
        failed: Whether the pass failed.

    Returns:
        Why it could not be asked, without the secret; "" when it answered.
    """
    import urllib.request  # which few pipelines need after a pass, and which takes 10 ms

    if address.url is None:
        return address.problem
    url = failed_url(address.url.text) if failed else address.url.text
    request = urllib.request.Request(url, headers={"User-Agent": f"ordertrail/{__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read(1)
        return ""
    except (OSError, ValueError) as error:
        return address.url.hidden_in(str(error) or type(error).__name__)


def failed_url(url: str) -> str:
    """The address for a failed pass: its path, and `/fail`."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))
