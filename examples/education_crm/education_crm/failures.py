"""The one line of an error that a person can read."""

import re
from typing import Final

from staffa import Job

RAISED: Final = re.compile(r"^[A-Za-z_][\w.]*: .*", re.MULTILINE)


def last_error(job: Job) -> str:
    """The whole text of a job's latest error."""
    return str(job.errors[-1]["error"]).strip() if job.errors else ""


def in_one_line(error: str) -> str:
    """The line of a traceback that names the exception, or the last line of any other text."""
    raised = RAISED.findall(error)
    return raised[-1] if raised else error.rpartition("\n")[2]
