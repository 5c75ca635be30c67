"""Tools for tests of applications: run jobs where the test wants them, and see what was enqueued."""

from staffa.testing._draining import Drained, DrainOptions, adrain, drain
from staffa.testing._enqueued import (
    Wanted,
    aall_enqueued,
    aassert_enqueued,
    all_enqueued,
    arefute_enqueued,
    assert_enqueued,
    refute_enqueued,
)
from staffa.testing._modes import mode
from staffa.testing._performing import PerformOptions, aperform_job, perform_job

__all__ = [
    "DrainOptions",
    "Drained",
    "PerformOptions",
    "Wanted",
    "aall_enqueued",
    "aassert_enqueued",
    "adrain",
    "all_enqueued",
    "aperform_job",
    "arefute_enqueued",
    "assert_enqueued",
    "drain",
    "mode",
    "perform_job",
    "refute_enqueued",
]
