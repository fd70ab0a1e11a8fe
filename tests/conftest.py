"""What all tests share: how hard Hypothesis works, chosen by HYPOTHESIS_PROFILE (default, fuzz)."""

import os

from hypothesis import HealthCheck, settings

# A shared CI machine stalls now and then; a slow example is no fault of the code. There the examples are the same in
# each run, so that what fails is the change: many of them find nothing new. `make fuzz` searches.
_IN_CI = "CI" in os.environ
settings.register_profile(
    "default",
    max_examples=20 if _IN_CI else 100,
    deadline=None,
    derandomize=_IN_CI,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("fuzz", settings.get_profile("default"), max_examples=20_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
