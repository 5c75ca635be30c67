"""Commands typed in a shell: in which environment, and what they said."""

import json
import os
from dataclasses import dataclass
from typing import Any


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
