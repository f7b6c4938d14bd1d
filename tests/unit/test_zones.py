"""Local time to UTC, compared with the standard library hour by hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from ordertrail.parse.zones import Zone, zone

ZONES = [
    "America/Chicago", "Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe", "UTC", "Africa/Casablanca",
    "Asia/Kolkata", "Antarctica/Troll", "America/Sao_Paulo", "Pacific/Apia", "Asia/Tehran", "Etc/GMT+12",
]  # fmt: skip
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock times are naive
US = timedelta(microseconds=1)
MINUTE_US = 60_000_000


def expected(name: str, local_us: int) -> tuple[int | None, bool]:
    """UTC microseconds of the earlier instant, None when there is none; and whether there are two."""
    info = ZoneInfo(name)
    local = EPOCH + local_us * US
    instants = set()
    for fold in (0, 1):
        instant = local.replace(tzinfo=info, fold=fold).astimezone(UTC)
        if instant.astimezone(info).replace(tzinfo=None) == local:
            instants.add((instant.replace(tzinfo=None) - EPOCH) // US)
    return (min(instants) if instants else None), len(instants) > 1


def times_to_try(name: str) -> NDArray[np.int64]:
    """Random times of 1970 to 2030, and every ten minutes around each change of the offset."""
    random = np.random.default_rng(1).integers(0, 60 * 365 * 86_400, 500) * 1_000_000
    info = ZoneInfo(name)
    days = [datetime(1970, 1, 2, tzinfo=UTC) + timedelta(days=n) for n in range(60 * 365)]
    offsets = [day.astimezone(info).utcoffset() for day in days]
    changes = [day for day, before, after in zip(days[1:], offsets, offsets[1:], strict=False) if before != after]
    near = []
    for change in changes[-8:] + changes[:4]:
        start = (change.replace(tzinfo=None) - timedelta(hours=44) - EPOCH) // US
        near += [start + n * 10 * MINUTE_US for n in range(6 * 64)]
    return np.concatenate([random, np.array(near, dtype=np.int64)])


@pytest.mark.parametrize("name", ZONES)
def test_agrees_with_zoneinfo(name: str) -> None:
    local = times_to_try(name)
    utc, exists, twice = zone(name).to_utc(local)
    for at, got_utc, got_exists, got_twice in zip(
        local.tolist(), utc.tolist(), exists.tolist(), twice.tolist(), strict=True
    ):
        want, want_twice = expected(name, at)
        assert got_exists == (want is not None), EPOCH + at * US
        assert got_twice == want_twice, EPOCH + at * US
        if want is not None:
            assert got_utc == want, EPOCH + at * US


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // US


@pytest.mark.parametrize(
    ("local", "utc", "twice"),
    [
        ("2026-03-08 01:59:59.999999", "2026-03-08 07:59:59.999999", False),
        ("2026-03-08 02:00:00", None, False),
        ("2026-03-08 02:59:59.999999", None, False),
        ("2026-03-08 03:00:00", "2026-03-08 08:00:00", False),
        ("2026-11-01 00:59:59.999999", "2026-11-01 05:59:59.999999", False),
        ("2026-11-01 01:00:00", "2026-11-01 06:00:00", True),
        ("2026-11-01 01:59:59.999999", "2026-11-01 06:59:59.999999", True),
        ("2026-11-01 02:00:00", "2026-11-01 08:00:00", False),
        ("1900-01-02 00:00:00", "1900-01-02 06:00:00", False),
        ("2199-07-01 00:00:00", "2199-07-01 05:00:00", False),
    ],
)
def test_the_doubtful_hours_of_chicago(local: str, utc: str | None, twice: bool) -> None:
    [got], [exists], [both] = zone("America/Chicago").to_utc(np.array([us(local)], dtype=np.int64))
    assert bool(exists) == (utc is not None)
    assert bool(both) == twice
    if utc is not None:
        assert int(got) == us(utc)


def test_a_zone_is_built_once_and_takes_nothing() -> None:
    assert zone("Europe/Berlin") is zone("Europe/Berlin")
    utc, exists, twice = Zone("Europe/Berlin").to_utc(np.empty(0, dtype=np.int64))
    assert len(utc) == len(exists) == len(twice) == 0
