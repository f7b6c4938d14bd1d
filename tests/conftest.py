"""What all tests share: the hypothesis profiles, and one Spark for those that want it.

`HYPOTHESIS_PROFILE=ci` repeats the same examples every time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from ordertrail.engines.spark import locations
from ordertrail.log import _waiting
from tests.spark.session import Spark, problem, start

# No deadline: the machine may be busy, and time is not what these tests are about.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


@pytest.fixture(autouse=True)
def log_settings_of_its_own() -> Iterator[None]:
    """The command line sets up structlog for its process; here many tests share one, in any order."""
    structlog.reset_defaults()
    _waiting.clear()
    yield
    structlog.reset_defaults()
    _waiting.clear()


@pytest.fixture(scope="session")
def spark_runs() -> None:
    """Spark can run here. Where it cannot the tests are skipped, but with CI=true that is a failure."""
    if (why := problem()) is not None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI must run the tests with Spark. {why}", pytrace=False)
        pytest.skip(why)


@pytest.fixture(scope="session")
def spark(spark_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """Spark with Delta Lake, one session for all."""
    session = start(tmp_path_factory.mktemp("spark"))
    yield Spark(session)
    session.stop()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables with names are where this machine reads no files, as in an object store: all goes through Spark."""
    monkeypatch.setattr(locations, "folder_at", lambda location: None)
