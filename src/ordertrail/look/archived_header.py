"""The header of an archived file, which tells where the cells of its records belong."""

from __future__ import annotations

from ordertrail.config import Config
from ordertrail.model import Vendor
from ordertrail.parse.reader import DeliveryReader


def archived_header(config: Config, vendor: Vendor, archived_to: str) -> tuple[str, ...]:
    """Read the header of a delivery's archived file, as a pass reads it.

    Args:
        config: Of the pipeline.
        vendor: Who sent it.
        archived_to: Where it is, below the archive folder.

    Returns:
        Its cells; empty when the file has no record.

    Raises:
        OSError: The file is not there, or cannot be read.
        QuarantineError: It is no text, or has no header that can be read.
    """
    with (config.archive / archived_to).open("rb") as stream:
        return DeliveryReader(stream, vendor, config.contract).header() or ()
