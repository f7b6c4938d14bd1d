"""The change data feed of a target as readers give it, and its replay: from empty to the table, version by version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from tests.harness import House

COMES = ("insert", "update_postimage")
OURS = ("_change_type", "_commit_version", "_commit_timestamp")

Rows = Counter[tuple[tuple[str, str], ...]]
Change = tuple[str, tuple[tuple[str, str], ...]]
ReadChanges = Callable[[Path, int], list[dict[str, Any]]]


def by_delta_rs(root: Path, version: int) -> list[dict[str, Any]]:
    """The changes of one version, with delta-rs."""
    found = DeltaTable(root, version=version).load_cdf(starting_version=version, ending_version=version)
    return list(pa.table(found).to_pylist())


def by_polars(root: Path, version: int) -> list[dict[str, Any]]:
    """The changes of one version, with the plugin of Polars, where it is installed."""
    plugin = pytest.importorskip("polars_deltalake", reason="the plugin polars-deltalake is not installed")
    return list(plugin.read_cdf(str(root), start_version=version, end_version=version).to_dicts())


def as_tuple(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """A row's values that are not NULL, comparable whatever the reader."""
    return tuple(sorted((k, str(v)) for k, v in row.items() if v is not None and k not in OURS and k != "_row_hash"))


def rows_at(root: Path, version: int) -> Rows:
    """The rows of a version."""
    found = pa.table(QueryBuilder().register("t", DeltaTable(root, version=version)).execute("SELECT * FROM t"))
    return Counter(as_tuple(row) for row in found.to_pylist())


def changes_at(root: Path, version: int, read: ReadChanges = by_delta_rs) -> list[Change]:
    """The changes of one version: each its kind and its row, sorted."""
    return sorted((str(row["_change_type"]), as_tuple(row)) for row in read(root, version))


def replayed(state: Rows, changes: Iterable[Change], *, ours: bool = True) -> Rows:
    """The rows after the changes of a version.

    Fails when a row goes that is not there, or when in a version of ours a row goes and comes back as it was.
    """
    gone = Counter(row for kind, row in changes if kind not in COMES)
    come = Counter(row for kind, row in changes if kind in COMES)
    assert not gone - state, f"a row goes that is not there: {gone - state}"
    assert not ours or not gone & come, "a row goes and comes as it was: that is no change"
    return state - gone + come


def check_feed(house: House, read: ReadChanges = by_delta_rs, *, since: int = 0) -> dict[int, list[Change]]:
    """Replay the whole feed of a target and compare it with every version.

    Args:
        house: Its target has had its feed on since the version `since`.
        read: The reader.
        since: The first version whose changes are read; the replay begins with the one before it.

    Returns:
        The changes by version.
    """
    root = house.table_path("target")
    state = rows_at(root, since - 1) if since else Counter()
    found: dict[int, list[Change]] = {}
    for version in range(since, house.version() + 1):
        found[version] = changes_at(root, version, read)
        (info,) = (one["commitInfo"] for one in house.actions("target", version) if "commitInfo" in one)
        try:
            state = replayed(state, found[version], ours=info.get("engineInfo") == "ordertrail")
        except AssertionError as error:
            raise AssertionError(f"version {version} ({info.get('operation')}): {error}") from error
        assert state == rows_at(root, version), f"version {version} of the target is not what its changes give"
    return found
