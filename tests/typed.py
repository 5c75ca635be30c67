"""Commands typed in a shell: in which environment, and what they said."""

import json
import os
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from staffa.cli.app import app


@dataclass
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def clean_environment() -> dict[str, str]:
    """Give the environment without settings of Staffa."""
    return {key: value for key, value in os.environ.items() if not key.startswith("STAFFA_")}


def typed_here(*arguments: str) -> Said:
    """Type `staffa …` in this process, which takes a tenth of the time; what is a defect is raised."""
    result = CliRunner().invoke(app, [*arguments], prog_name="staffa")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)
