"""The driver, one for the whole run, and the worlds that the kills begin from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fault.world import Driver


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    """A process that runs passes in children of its own."""
    started = Driver()
    yield started
    started.close()
