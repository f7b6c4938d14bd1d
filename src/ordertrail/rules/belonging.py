"""Which tables, archive and source belong together, judged by the markers in the folders.

The application id is created with the tables. A marker in the root of the archive, and in the root of the source where
that is writable, names the pipelines that use the folder. So a first run can be told from an unmounted disk, a mistyped
folder or a copied config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

VERSION = 1
"""Version of the marker's format."""


class Owner(Struct, frozen=True):
    """A pipeline that uses a folder.

    Attributes:
        app_id: The application id of its tables.
        pipeline: Its name.
        made_at: When it was entered, ISO 8601.
        anew: Whether it was begun again: older tables of a pipeline of this name no longer belong to the folder.
    """

    app_id: str
    pipeline: str
    made_at: str
    anew: bool = False


class Marker(Struct, frozen=True):
    """What the marker of a folder says.

    Attributes:
        owners: The pipelines that use it, oldest first.
        begins: Names of pipelines that somebody allowed to begin here.
    """

    owners: tuple[Owner, ...] = ()
    begins: tuple[str, ...] = ()

    def lists(self, app_id: str) -> bool:
        """Whether tables with this application id use the folder."""
        return any(owner.app_id == app_id for owner in self.owners)

    @property
    def shown(self) -> str:
        """The owners as text for a message: their names, and since when they use the folder."""
        return ", ".join(f"{owner.pipeline} (since {owner.made_at[:10]})" for owner in self.owners)


def marker_of(document: object) -> Marker | None:
    """Read a marker from a JSON document; None when it is not a marker. Unknown members are ignored."""
    if not isinstance(document, dict):
        return None
    owners, begins = document.get("pipelines"), document.get("begins", [])
    if not isinstance(owners, list) or not isinstance(begins, list):
        return None
    found = [one for one in map(_owner, owners) if one is not None]
    return Marker(tuple(found), tuple(map(str, begins))) if len(found) == len(owners) else None


def _owner(document: object) -> Owner | None:
    match document:
        case {"id": str(app_id), "pipeline": str(pipeline), "made_at": str(made_at), **others}:
            return Owner(app_id, pipeline, made_at, others.get("anew") is True)
        case _:
            return None


def document_of(marker: Marker) -> Mapping[str, Any]:
    """The JSON document of a marker."""
    owners = [
        {"id": one.app_id, "pipeline": one.pipeline, "made_at": one.made_at} | ({"anew": True} if one.anew else {})
        for one in marker.owners
    ]
    return {"version": VERSION, "pipelines": owners} | ({"begins": list(marker.begins)} if marker.begins else {})


def entered(marker: Marker | None, owner: Owner) -> Marker:
    """A marker with one more owner. An owner that begins anew replaces the others of its name."""
    before = marker or Marker()
    stay = [one for one in before.owners if one.app_id != owner.app_id]
    if owner.anew:
        stay = [one for one in stay if one.pipeline != owner.pipeline]
    return Marker((*stay, owner), tuple(name for name in before.begins if name != owner.pipeline))


def allowed(marker: Marker | None, pipeline: str) -> Marker:
    """A marker that allows a pipeline of this name to begin, whatever the marker said of that name before."""
    before = marker or Marker()
    stay = tuple(one for one in before.owners if one.pipeline != pipeline)
    return replace(before, owners=stay, begins=(*(name for name in before.begins if name != pipeline), pipeline))


Beginning = Literal["begins", "tables gone", "archive of others", "source of others"]
"""What it means that a pipeline has no tables."""


def beginning(pipeline: str, archive: Marker | None, source: Marker | None, *, archived_files: bool) -> Beginning:
    """Judge a pipeline without tables: is this its first run, or is a disk not mounted?

    Args:
        pipeline: Its name.
        archive: The archive's marker; None when it has none.
        source: The source's marker; None when it has none.
        archived_files: Whether the archive holds files that some pipeline archived.
    """
    if archive is not None and pipeline in archive.begins:
        return "begins"
    owners = archive.owners if archive is not None else ()
    if any(one.pipeline == pipeline for one in owners) or (archive is None and archived_files):
        return "tables gone"
    if owners:
        return "archive of others"
    return "source of others" if source is not None and source.owners else "begins"


Standing = Literal["ours", "to be proved", "of others"]
"""How a folder relates to existing tables."""


def archive_standing(pipeline: str, app_id: str, archive: Marker | None) -> Standing:
    """Judge the archive of existing tables.

    `to be proved`: either the tables are older than markers, or this is not their archive; the files archived last
    decide.
    """
    if archive is not None and (archive.lists(app_id) or pipeline in archive.begins):
        return "ours"
    if archive is not None and any(one.anew and one.pipeline == pipeline for one in archive.owners):
        return "of others"
    return "to be proved"


def source_standing(app_id: str, source: Marker | None, *, known_to_archive: bool) -> Standing:
    """Judge the source of existing tables.

    Two pipelines, each with its own globs, may have shared a source since before there were markers. Such a pipeline is
    not yet in its archive's marker either.
    """
    if source is None or not source.owners or not known_to_archive:
        return "to be proved" if source is None or not source.lists(app_id) else "ours"
    return "ours" if source.lists(app_id) else "of others"
