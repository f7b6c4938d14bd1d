"""A manifest as JSON text and back; file names that are not UTF-8 survive as surrogate escapes."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime

from ordertrail.model import FileIdentity, Manifest, State


def to_json(manifest: Manifest, run_id: str, clock: datetime) -> str:
    """The text of `orders_stage._manifest`: the manifest, and the batch's run id and clock."""
    body = asdict(manifest)
    body["discovered_at"] = manifest.discovered_at.isoformat()
    body["absent"] = list(manifest.absent)
    return json.dumps({**body, "run_id": run_id, "clock": clock.isoformat()}, ensure_ascii=True, sort_keys=True)


def from_json(text: str) -> tuple[Manifest, str, datetime]:
    """The manifest, the run id and the clock."""
    body = json.loads(text)
    run_id, clock = body.pop("run_id"), datetime.fromisoformat(body.pop("clock"))
    body["identity"] = FileIdentity(**body["identity"])
    body["state"] = State(body["state"])
    body["absent"] = tuple(body["absent"])
    body["discovered_at"] = datetime.fromisoformat(body["discovered_at"])
    return Manifest(**body), run_id, clock
