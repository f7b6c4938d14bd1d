"""What `ordertrail doctor` says about vendors: globs that share files, dates that fit no name, times nobody keeps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from ordertrail.config import Config
from ordertrail.errors import OrdertrailError
from ordertrail.model import Manifest
from ordertrail.rules.cadence_notes import JUDGED_DAYS, cadence_notes
from ordertrail.rules.filekey import take
from ordertrail.rules.manifests import from_json
from ordertrail.rules.noticed import misdated, noticed, shared_globs
from ordertrail.rules.sender_manifest import manifest_owner, unpaired
from ordertrail.rules.sql import name_sql

MAX_FILES = 10_000
"""How many files of the source, and how many deliveries, are examined."""


def vendor_notes(config: Config) -> tuple[str, ...]:
    """What a person should know about the vendors' settings, one line each; empty when they fit the files that came.

    Args:
        config: The pipeline's config. Its tables are read if they are in folders and complete; nothing is written.
    """
    paths = list(islice(_waiting(config), MAX_FILES))
    came, last = _came(config)
    names: dict[str, list[str]] = {vendor.name: [] for vendor in config.vendors}
    for path in paths:
        vendor = take(path, config.vendors)
        if vendor is not None and manifest_owner(path, config.vendors) is None:
            names[vendor.name].append(path.rpartition("/")[2])
    for name, file_name in came:
        names.setdefault(name, []).append(file_name)
    asked = [vendor for vendor in config.vendors if vendor.file_date and names[vendor.name]]
    dated = [line for vendor in asked for line in misdated(vendor, names[vendor.name])]
    told = [line for line in noticed(last, config.vendors) if line not in dated]
    waits = unpaired(config.vendors, paths)
    return (*shared_globs(config.vendors, paths), *dated, *waits, *told, *_cadences(config))


def _cadences(config: Config) -> tuple[str, ...]:
    """What is expected of vendors and cannot hold, as the last weeks show."""
    from ordertrail.look.status import Reader

    if config.by_name or not config.expectations:
        return ()
    try:
        with Reader(config) as reader:
            found = reader.arrivals(days=JUDGED_DAYS)
    except OrdertrailError:
        return ()
    expectations = dict(config.expectations)
    return tuple(
        line
        for one in found
        if (expectation := expectations.get(one.vendor)) is not None
        for line in cadence_notes(
            one.vendor, expectation, one.days, files=one.files, says=one.next_expected is not None
        )
    )


def _waiting(config: Config) -> Iterator[str]:
    """Paths of the source's files, below it, in no order."""
    for folder, folders, files in os.walk(config.source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(folder, config.source)
        for name in files:
            if not name.startswith("."):
                yield name if below == "." else f"{below}/{name}".replace(os.sep, "/")


def _came(config: Config) -> tuple[list[tuple[str, str]], list[Manifest]]:
    """(vendor, file name) of the newest deliveries, and the manifests of the last batch; none without whole tables."""
    from ordertrail.look.status import Reader  # `doctor` must work without DuckDB, too

    if config.by_name:
        return [], []
    stage = name_sql(config.tables.stage)
    try:
        with Reader(config) as reader:
            found = reader.deliveries(limit=MAX_FILES).dicts()
            texts = reader.query(f"SELECT _manifest FROM {stage} WHERE _kind = 'delivery'", max_rows=MAX_FILES).rows
        manifests = [from_json(str(text))[0] for (text,) in texts]
    except OrdertrailError:
        return [], []
    return [(str(row["vendor"]), str(row["file_name"])) for row in found], manifests
