"""What the heartbeat file of the service says to those who look."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config

SILENT_S = 60.0
"""A service that has not written its heartbeat for longer than this is stalled; it writes every 10 s. In seconds."""


class Heard(Struct, frozen=True):
    """The heartbeat of a service, as far as it says whether all is well. Times are aware UTC.

    Attributes:
        path: The file.
        beat_at: When it was last written.
        pid: The service's process; None when the file cannot be understood.
        failures: How many passes failed since the last successful one.
        failing_since: When the first of these failed.
        last_error: Code and message of the last one.
        maintenance_error: Why the last maintenance failed; None when it did not.
    """

    path: Path
    beat_at: datetime
    pid: int | None = None
    failures: int = 0
    failing_since: datetime | None = None
    last_error: str | None = None
    maintenance_error: str | None = None

    def silent(self, now: datetime) -> bool:
        """Whether the service has stalled or died without ending normally."""
        return now - self.beat_at > timedelta(seconds=SILENT_S)


def heartbeat_path(config: Config) -> Path:
    """The heartbeat file of a pipeline's service."""
    return config.warehouse / f".ordertrail-{config.name}.heartbeat"


def heard(config: Config) -> Heard | None:
    """The heartbeat of a pipeline's service; None when there is none: no service began, or it ended normally."""
    path = heartbeat_path(config)
    try:
        text, written_s = path.read_text(encoding="utf-8"), path.stat().st_mtime
    except (OSError, ValueError):
        return None
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(text)
        error, since = found["last_error"], found.get("failing_since")
        return Heard(
            path=path,
            beat_at=datetime.fromisoformat(found["beat_at"]).astimezone(UTC),
            pid=int(found["pid"]),
            failures=int(found.get("failures", 0)),
            failing_since=None if since is None else datetime.fromisoformat(since).astimezone(UTC),
            last_error=None if error is None else f"{error['code']}: {error['message']}",
            maintenance_error=found.get("maintenance_error"),
        )
    return Heard(path, datetime.fromtimestamp(written_s, UTC))
