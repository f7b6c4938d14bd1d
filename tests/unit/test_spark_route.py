"""Which way a batch takes on Spark: decided when it is staged, and kept in its manifests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.config import Config, SparkSettings, parse_config
from ordertrail.engines.spark.route import DRIVER, EXECUTORS, route_of, route_of_batch
from ordertrail.model import Batch, FileIdentity, Manifest, State
from ordertrail.rules.manifests import from_json, to_json

CLOCK = datetime(2026, 11, 28, tzinfo=UTC)
LIMIT = 1000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    text = '[pipeline]\nsource = "s"\narchive = "a"\nwarehouse = "w"\nengine = "spark"\n'
    return replace(parse_config(text, base=tmp_path, environ={}), spark=SparkSettings(driver_max_bytes=LIMIT))


def manifest(size_bytes: int, state: State = State.LOADED, route: str = "") -> Manifest:
    return Manifest(
        delivery_id="000001-00000-x",
        vendor="default",
        path="a.csv",
        file_name="a.csv",
        identity=FileIdentity(device=0, inode=0, size_bytes=size_bytes, mtime_ns=0, ctime_ns=0),
        sha256="",
        file_key=0,
        contract_hash="",
        state=state,
        reason=None,
        archive_path="",
        absent=(),
        rows_parsed=0,
        rows_rejected=0,
        rows_duplicate=0,
        first_error=None,
        discovered_at=CLOCK,
        route=route,
    )


def batch(*manifests: Manifest) -> Batch:
    return Batch(1, "run", CLOCK, manifests)


def test_the_limit_itself_is_the_drivers(config: Config) -> None:
    assert route_of(config, [LIMIT // 2, LIMIT // 2]) == DRIVER
    assert route_of(config, [LIMIT, 1]) == EXECUTORS
    assert route_of(config, []) == DRIVER


@pytest.mark.parametrize("route", [DRIVER, EXECUTORS])
def test_what_the_manifests_say_goes_before_sizes(config: Config, route: str) -> None:
    size_bytes = 2 * LIMIT if route == DRIVER else 1
    staged = batch(manifest(size_bytes, route=route))
    assert route_of_batch(config, staged) == route
    text = to_json(staged.manifests[0], "run", CLOCK)
    assert route_of_batch(config, batch(from_json(text)[0])) == route


def test_repeats_do_not_send_a_small_batch_to_the_executors(config: Config) -> None:
    """Where nothing is noted the files that were parsed count, as they did when the batch was staged."""
    assert route_of_batch(config, batch(manifest(10), manifest(100 * LIMIT, State.DUPLICATE))) == DRIVER
    assert route_of_batch(config, batch(manifest(10), manifest(LIMIT))) == EXECUTORS
