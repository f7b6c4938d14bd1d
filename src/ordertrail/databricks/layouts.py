"""Where the files of a bundle lie: two Volumes, or the one Volume of the notebooks that came before ordertrail.

Who may write to a Volume may delete in all of it: a Volume of their own keeps senders out of the archive. A Volume's
root is always there, also before the first file, so that a trigger can watch it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

_SENDERS = """\
          grants:
            - principal: ${var.senders}
              privileges:
                - READ_VOLUME
                - WRITE_VOLUME
"""
_TEAM = """\
          grants:
            - principal: ${var.team}
              privileges:
                - READ_VOLUME
"""


class _Volume(Struct, frozen=True):
    name: str
    comment: str
    grants: str


class Layout(Struct, frozen=True):
    """Volumes, and where in them source and archive are.

    Attributes:
        source: Of the source folder, as (Volume, path in it); the path is empty or ends with `/`.
        archive: The same of the archive.
        volumes: All of them.
    """

    source: tuple[str, str]
    archive: tuple[str, str]
    volumes: tuple[_Volume, ...]

    def folders(self, catalog: str, schema: str) -> tuple[str, str]:
        """Source and archive as paths, each with `/` at its end."""
        place = f"/Volumes/{catalog}/{schema}"
        return tuple(f"{place}/{volume}/{path}" for volume, path in (self.source, self.archive))  # type: ignore[return-value]

    def references(self) -> tuple[str, str]:
        """The same in `databricks.yml`, made of what the resources there are named."""
        place = "/Volumes/${var.catalog}/${resources.schemas.orders_schema.name}"
        return tuple(  # type: ignore[return-value]
            f"{place}/${{resources.volumes.{volume}.name}}/{path}" for volume, path in (self.source, self.archive)
        )

    def resources(self) -> str:
        """YAML of `resources.volumes`."""
        return "".join(
            f"    {one.name}:\n"
            "      catalog_name: ${var.catalog}\n"
            "      schema_name: ${resources.schemas.orders_schema.name}\n"
            f"      name: {one.name}\n"
            "      volume_type: MANAGED\n"
            f"      comment: {one.comment}\n"
            for one in self.volumes
        )

    def production(self) -> str:
        """YAML of `resources.volumes` of production: kept when the bundle goes, and who may use them."""
        keep = "          lifecycle:\n            prevent_destroy: true\n"
        return "".join(f"        {one.name}:\n{keep}{one.grants}" for one in self.volumes)


LAYOUTS: Mapping[str, Layout] = {
    "two-volumes": Layout(
        source=("orders_in", ""),
        archive=("orders_archive", ""),
        volumes=(
            _Volume("orders_in", "Files of the vendors, until they are loaded", _SENDERS),
            _Volume("orders_archive", "Files of the vendors after they were loaded; only the job writes here", _TEAM),
        ),
    ),
    "one-volume": Layout(
        source=("orders_data", "source/"),
        archive=("orders_data", "archive/"),
        volumes=(
            _Volume("orders_data", "Files of the vendors, source/ before and archive/ after they are loaded", _SENDERS),
        ),
    ),
}
"""By the word of `--layout`; the first is the one without it."""
