"""What all tests share: where they write, long ones first, how deep they look, hypothesis profiles, one Spark for all.

`HYPOTHESIS_PROFILE=ci` repeats the same examples every time. `PYTEST_DEBUG_TEMPROOT`, `TMPDIR` or `--basetemp` says
where tests write; without them that is the memory, where the machine has a file system there: every pass waits some
thirty times for a disk, and what it would wait for is no test's question.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings

from ordertrail.engines.spark import locations
from ordertrail.log import _waiting
from tests import depth
from tests.spark.session import Spark, problem, start

# No deadline: the machine may be busy, and time is not what these tests are about.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile(  # a mutant is dead or not: how it dies at its smallest is nothing to wait for
    "mutation", settings.get_profile("ci"), max_examples=25, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))

MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 << 30
"""So much must be free there; a whole run holds a few hundred MB at a time."""


def pytest_configure(config: pytest.Config) -> None:
    """Let tests write to memory, and draw from the series; workers get both from the environment."""
    depth.draw()
    if config.option.basetemp or {"PYTEST_DEBUG_TEMPROOT", "TMPDIR"} & os.environ.keys():
        return
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def pytest_report_header() -> str | None:
    """Which cases of a series are looked at."""
    return f"series: one case of {depth.DEPTH}, DRAW={depth.draw()}" if depth.DEPTH > 1 else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not drawn. Long tests go first, so that no worker begins one when the others are done."""
    if left_out := {item.nodeid: item for item in depth.undrawn(items)}:
        config.hook.pytest_deselected(items=[*left_out.values()])
        items[:] = [item for item in items if item.nodeid not in left_out]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None and item.get_closest_marker("fault") is None)


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
def spark(spark_runs: None, tmp_path_factory: pytest.TempPathFactory) -> Spark:
    """Spark with Delta Lake, one session for all tests of a worker, and one JVM for all workers."""
    place = tmp_path_factory.getbasetemp()
    run = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    return Spark(start(tmp_path_factory.mktemp("spark"), shared=run / "jvm"))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables with names are where this machine reads no files, as in an object store: all goes through Spark."""
    monkeypatch.setattr(locations, "folder_at", lambda location: None)
