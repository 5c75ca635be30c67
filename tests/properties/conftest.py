"""How far hypothesis searches: the same examples each time, or new ones for as long as one likes."""

import os

from hypothesis import HealthCheck, Phase, settings

quick = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    stateful_step_count=70,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
settings.register_profile("quick", quick)
settings.register_profile("unshrunk", quick, phases=[Phase.generate])
settings.register_profile("thorough", quick, derandomize=False, max_examples=5_000, stateful_step_count=80)
settings.load_profile(os.environ.get("STAFFA_HYPOTHESIS_PROFILE", "quick"))
