"""P2 on Spark: what `tests/property/test_order.py` holds of the embedded engine, on a few feeds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.property.test_order import Arrival, arrivals, check_order

pytestmark = [pytest.mark.spark, pytest.mark.property, pytest.mark.slow, pytest.mark.timeout(600)]

# A pass takes seconds: a feed that fails is shown as it is.
_on_spark = settings(
    max_examples=4,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example],
)


@_on_spark
@given(arrival=arrivals())
@pytest.mark.usefixtures("spark")
def test_any_arrival_gives_the_target_that_the_oracle_gives(arrival: Arrival) -> None:
    check_order(*arrival, engine="spark")


@_on_spark
@given(arrival=arrivals(absent=True))
@pytest.mark.usefixtures("spark")
def test_any_arrival_gives_that_target_when_a_vendor_lacks_a_column(arrival: Arrival) -> None:
    check_order(*arrival, engine="spark")
