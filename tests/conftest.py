"""What all tests share: Hypothesis draws the same examples every time, and no example has a time limit of its own."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "bulkhead",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("bulkhead")
