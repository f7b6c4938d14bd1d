"""Which columns the files of a batch bring beyond the contract, where it says `unknown_columns = "add"`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ordertrail.config import Config
from ordertrail.engines.base import StageRequest
from ordertrail.errors import FileChangedError, QuarantineError
from ordertrail.model import Contract, Vendor
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.added import NOBODY, Newcomers, newcomers
from ordertrail.rules.filekey import too_far_ahead
from ordertrail.rules.headers import Layout
from ordertrail.rules.planning import Candidate
from ordertrail.rules.schema import DeclaredTable


def brought(request: StageRequest, config: Config, tables: Callable[[], Sequence[DeclaredTable]]) -> Newcomers:
    """Read the headers of the files that are to be parsed, and find the columns that the tables lack.

    Files that would not be loaded for their name or their header bring nothing.

    Args:
        request: The batch.
        config: Its contract has the columns that were added before.
        tables: Says what the tables are; called only when a file has a column that the contract does not know.
    """
    if config.contract.unknown_columns != "add":
        return NOBODY
    ahead_d = (request.limits or config.limits).max_file_ahead_d
    found: dict[tuple[str, tuple[str, ...]], tuple[Vendor, Layout]] = {}
    for one in request.fresh:
        if too_far_ahead(one.path, one.vendor, one.identity.mtime_ns, ahead_d) is None:
            layout = _layout(one, config.contract, request)
            if layout is not None and layout.unknown:
                found.setdefault((one.vendor.name, layout.header), (one.vendor, layout))
    return newcomers(list(found.values()), config.contract, config.vendors, tables()) if found else NOBODY


def _layout(candidate: Candidate, contract: Contract, request: StageRequest) -> Layout | None:
    """The layout of a file; None when it has none, or is gone: then staging it says so."""
    vendor = candidate.vendor
    try:
        with request.open_file(candidate) as stream:
            return DeliveryReader(stream, vendor, contract).layout()
    except (QuarantineError, FileChangedError, OSError):
        return None
