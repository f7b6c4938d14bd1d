"""What passes remember about the vendors' files: the last looks, what waits to be archived, and late writers.

It is one small file below the warehouse, because a `run` started by cron knows nothing of the one before. The tables
remain the only ledger: when the file is lost or damaged, the looks begin anew, and a loaded file that was not archived
yet turns out to be a duplicate of itself. Only the pass that holds the pipeline's lock writes it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import asdict

from ordertrail.config import Config
from ordertrail.errors import TableError
from ordertrail.model import FileIdentity, Manifest
from ordertrail.rules.manifests import from_json, to_json
from ordertrail.sources.settling import Look

_VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Late(Struct, frozen=True):
    """An archived file whose writer may not have finished.

    Attributes:
        manifest: The delivery's manifest.
        archived_to: Its path below the archive folder.
        identity: Size and time of the vendor's own file when it was archived: the archived file itself, or the claim.
        claimed: Whether it was copied, and the vendor's own file still has its claim name.
        since: When it was archived; aware UTC.
    """

    manifest: Manifest
    archived_to: str
    identity: FileIdentity
    claimed: bool
    since: datetime


def notes_path(config: Config) -> Path:
    """The file of a pipeline's notes: next to its lock or, when tables are found by name, in the archive.

    In the latter case the warehouse is a folder of the driver, which may be gone in the next pass.
    """
    folder = config.archive if config.by_name else config.warehouse
    return folder / f".ordertrail-{config.catalog}.{config.schema}.{config.tables.target}.notes"


def _boot_id() -> str:
    """An id of the machine's boot: monotonic clocks of different boots cannot be compared."""
    with suppress(OSError):
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    return f"process {os.getpid()}"


class Notes(Struct):
    """The notes of one pipeline.

    Attributes:
        path: The file; None keeps them in memory only.
        clock: Monotonic, in seconds.
        looks: The last look at each file that was there, by its path below the source.
        waiting: By delivery id, deliveries that are done but could not be archived yet.
        late: By delivery id, archived files whose writer may not have finished.
        trouble: By delivery id, why a waiting file could not be archived; not written to the file.
    """

    path: Path | None = None
    clock: Callable[[], float] = time.monotonic
    looks: dict[str, Look] = field(default_factory=dict)
    waiting: dict[str, Manifest] = field(default_factory=dict)
    late: dict[str, Late] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)
    _text: str = ""
    _saved: tuple[object, ...] = ()

    def load(self) -> None:
        """Read the file. When it is missing or damaged, keep what is known."""
        text = ""
        if self.path is not None:
            with suppress(OSError, ValueError):
                text = self.path.read_text(encoding="utf-8")
        if not text or text == self._text:
            return
        # Whatever the file contains, a pass must not fail because of it: without notes it looks again.
        with suppress(ValueError, TypeError, KeyError, AttributeError, TableError):
            self._take(json.loads(text))
            self._text, self._saved = text, ()

    def forget(self, paths: Iterable[str]) -> None:
        """Forget the files with these paths: they no longer wait."""
        for path in paths:
            self.looks.pop(path, None)

    def save(self) -> bool:
        """Rewrite the file if it lacks something to remember.

        Returns:
            Whether it was written. If not, only this process knows the notes.
        """
        known = dict(self.looks), list(self.waiting.values()), dict(self.late)
        if self.path is None or known == self._saved or not (self._text or any(known)):
            return False
        text = json.dumps(self._body(), ensure_ascii=True, sort_keys=True)
        fresh = self.path.with_name(f"{self.path.name}.new")
        with suppress(OSError):
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if self.waiting or self.late:
                    os.fsync(file.fileno())
            fresh.replace(self.path)
            self._text, self._saved = text, known
            return True
        return False

    def _body(self) -> dict[str, object]:
        return {
            "version": _VERSION,
            "boot": _boot_id(),
            "looks": {path: _written(look) for path, look in self.looks.items()},
            "waiting": [to_json(one, "", one.discovered_at) for one in self.waiting.values()],
            "late": [
                {**_written(late), "manifest": to_json(late.manifest, "", late.manifest.discovered_at)}
                for late in self.late.values()
            ],
        }

    def _take(self, body: Mapping[str, object]) -> None:
        if body["version"] != _VERSION:
            return
        same_boot = body["boot"] == _boot_id()
        now_s = self.clock()
        looks = {path: _look(found, now_s, same_boot) for path, found in _members(body["looks"]).items()}
        waiting = [from_json(str(text))[0] for text in _list(body["waiting"])]
        late = [_late(_members(found)) for found in _list(body["late"])]
        self.looks = looks
        self.waiting = {manifest.delivery_id: manifest for manifest in waiting}
        self.late = {one.manifest.delivery_id: one for one in late}


def _written(value: Look | Late) -> dict[str, object]:
    return {name: _plain(member) for name, member in asdict(value).items()}


def _plain(member: object) -> object:
    """A member in a form that JSON has."""
    if isinstance(member, datetime):
        return member.isoformat()
    return asdict(member) if isinstance(member, Struct) else member


def _look(found: object, now_s: float, same_clock: bool) -> Look:
    """A look read from JSON. If it was made by a clock other than that of `now_s`, its rest begins now."""
    body = _members(found)
    first_seen = datetime.fromisoformat(str(body["first_seen"])).astimezone(UTC)
    if body["identity"] is None:
        return Look(first_seen)
    since_s = min(float(str(body["since_s"])), now_s) if same_clock else now_s
    sha256 = None if body["sha256"] is None else str(body["sha256"])
    hashes = int(str(body["hashes"]))
    return Look(first_seen, _identity(body["identity"]), since_s, bool(body["restless"]), sha256, hashes)


def _late(body: Mapping[str, object]) -> Late:
    return Late(
        manifest=from_json(str(body["manifest"]))[0],
        archived_to=str(body["archived_to"]),
        identity=_identity(body["identity"]),
        claimed=bool(body["claimed"]),
        since=datetime.fromisoformat(str(body["since"])).astimezone(UTC),
    )


def _identity(found: object) -> FileIdentity:
    return FileIdentity(**{name: int(str(number)) for name, number in _members(found).items()})


def _members(found: object) -> Mapping[str, object]:
    if not isinstance(found, dict):
        raise TypeError(f"{found!r} is no object")
    return found


def _list(found: object) -> list[object]:
    if not isinstance(found, list):
        raise TypeError(f"{found!r} is no list")
    return found
