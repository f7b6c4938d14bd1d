"""What all tests share: the hypothesis profiles. `HYPOTHESIS_PROFILE=ci` repeats the same examples every time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from ordertrail.log import _waiting

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
