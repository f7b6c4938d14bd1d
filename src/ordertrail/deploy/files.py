"""Writes the files of a deployment, and replaces none that somebody changed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from msgspec import Struct

from ordertrail.errors import StorageError, UsageError

_PLACE = re.compile(r"<<(\w+)>>")


class WrittenFile(Struct, frozen=True):
    """A file of a deployment.

    Attributes:
        path: Below its folder.
        action: `written`, `replaced`, or `unchanged` when it existed with the same content.
    """

    path: str
    action: str


class Deployed(Struct, frozen=True):
    """A deployment that was written.

    Attributes:
        folder: Its folder.
        config: The config that it is made from; None when there was none.
        files: All its files, in the order of their paths.
        notes: What to know or to do by hand, one line each.
    """

    folder: Path
    config: Path | None
    files: tuple[WrittenFile, ...]
    notes: tuple[str, ...]


def filled(name: str, values: Mapping[str, str], package: str = "ordertrail.deploy") -> str:
    """A template with `<<word>>` replaced by the value of that name.

    Args:
        name: Below the folder `templates` of the package, without `.tmpl`.
        values: All words of the template.
        package: Which has the template.
    """
    text = files(package).joinpath("templates", *f"{name}.tmpl".split("/")).read_text(encoding="utf-8")
    return _PLACE.sub(lambda place: values[place[1]], text)


def write_files(folder: Path, content: Mapping[str, bytes], *, force: bool) -> tuple[WrittenFile, ...]:
    """Write files; all or none.

    Args:
        folder: Created when it is missing.
        content: By path below the folder.
        force: Whether to replace existing files with other content.

    Raises:
        UsageError: A file exists with other content. Nothing was written.
        StorageError: A file cannot be read or written.
    """
    try:
        actions = {path: _action(folder / path, data) for path, data in content.items()}
        taken = [path for path, action in actions.items() if action == "replaced"]
        if taken and not force:
            raise UsageError(
                f"{folder} has these files with other content: {', '.join(taken)}",
                hint="replace them with --force, or name another folder; nothing was written",
            )
        for path, action in actions.items():
            if action != "unchanged":
                _write_file(folder / path, content[path])
    except OSError as error:
        place = error.filename or folder
        raise StorageError(
            f"cannot write {place}: {error.strerror}", hint="see that the folder can be written to, then run again"
        ) from error
    return tuple(WrittenFile(path, actions[path]) for path in sorted(actions))


def _action(file: Path, data: bytes) -> str:
    if not os.path.lexists(file):
        return "written"
    return "unchanged" if file.is_file() and file.read_bytes() == data else "replaced"


def _write_file(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(data)
    unfinished.replace(file)
