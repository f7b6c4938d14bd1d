"""Which tables, archive and source belong together: what the markers in the folders say, weighed.

The application id is made with the tables. A marker in the archive's root, and one in the source's where that can be
written, names the pipelines that use the folder. So a disk that is not mounted, a mistyped folder and a copied config
are told from a first run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

VERSION = 1
"""Of a marker's form."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A pipeline that uses a folder.

    Attributes:
        app_id: The application id of its tables.
        pipeline: Its name.
        made_at: When it was entered, ISO 8601.
        anew: It was begun again: older tables of a pipeline of this name are not the folder's any more.
    """

    app_id: str
    pipeline: str
    made_at: str
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Marker:
    """What a folder says of itself.

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
        """The owners for a message: names, and since when."""
        return ", ".join(f"{owner.pipeline} (since {owner.made_at[:10]})" for owner in self.owners)


def marker_of(document: object) -> Marker | None:
    """The marker that a JSON document is; None when it is none. Members that nobody knows are passed over."""
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
    """A marker with one owner more. One that begins anew takes the place of the others of its name."""
    before = marker or Marker()
    stay = [one for one in before.owners if one.app_id != owner.app_id]
    if owner.anew:
        stay = [one for one in stay if one.pipeline != owner.pipeline]
    return Marker((*stay, owner), tuple(name for name in before.begins if name != owner.pipeline))


def allowed(marker: Marker | None, pipeline: str) -> Marker:
    """A marker by which a pipeline of this name may begin, whatever stood there of that name."""
    before = marker or Marker()
    stay = tuple(one for one in before.owners if one.pipeline != pipeline)
    return replace(before, owners=stay, begins=(*(name for name in before.begins if name != pipeline), pipeline))


Beginning = Literal["begins", "tables gone", "archive of others", "source of others"]
"""What it means that a pipeline has no tables."""


def beginning(pipeline: str, archive: Marker | None, source: Marker | None, *, archived_files: bool) -> Beginning:
    """Judge a pipeline without tables: its first run, or a disk that is not mounted?

    Args:
        pipeline: Its name.
        archive: What the archive says, None when it has no marker.
        source: What the source says, likewise.
        archived_files: The archive holds files that some pipeline archived.
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
"""How a folder stands to tables that are there."""


def archive_standing(pipeline: str, app_id: str, archive: Marker | None) -> Standing:
    """Judge the archive of tables that are there.

    `to be proved`: the tables are older than markers, or the archive is not theirs; the files archived last tell.
    """
    if archive is not None and (archive.lists(app_id) or pipeline in archive.begins):
        return "ours"
    if archive is not None and any(one.anew and one.pipeline == pipeline for one in archive.owners):
        return "of others"
    return "to be proved"


def source_standing(app_id: str, source: Marker | None, *, known_to_archive: bool) -> Standing:
    """Judge the source of tables that are there.

    Two pipelines may share a source, each with globs of its own, from before there were markers. Such a one is not yet
    known to its archive either.
    """
    if source is None or not source.owners or not known_to_archive:
        return "to be proved" if source is None or not source.lists(app_id) else "ours"
    return "ours" if source.lists(app_id) else "of others"
