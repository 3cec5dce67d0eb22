"""What every tier shares."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The machines are noisy: how long an example took says nothing about the code.
settings.register_profile("headwater", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headwater")
