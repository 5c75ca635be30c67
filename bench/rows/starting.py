"""How long it takes until there is something to call."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from bench.environments import ROOT
from bench.lab import Lab
from bench.results import Figure, RowResult, at_most


def imports(lab: Lab, key: str, what: str) -> RowResult:
    """Take the wall time of a whole process, Python's own start included; the best of several counts."""
    commands = {
        "import staffa": [sys.executable, "-c", "import staffa"],
        "staffa --help": [sys.executable, "-m", "staffa", "--help"],
        "python alone": [sys.executable, "-c", "pass"],
    }
    lab.say("starting")
    found: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(dir=lab.folder, prefix="bytecode-") as bytecode:
        environment = _keeping_bytecode(bytecode)
        for command in commands.values():  # as an installation or a first start leaves it to the next
            _seconds(command, environment)
        for _ in range(lab.scale.repeats):
            best = dict.fromkeys(commands, float("inf"))
            for _ in range(lab.scale.starts):
                for name, command in commands.items():
                    best[name] = min(best[name], _seconds(command, environment))
            for name, seconds in best.items():
                found[name].append(seconds)
    checks = [
        at_most(0.25, "import staffa", found["import staffa"], "s"),
        at_most(0.4, "staffa --help", found["staffa --help"], "s"),
    ]
    return RowResult(key, what, checks, [Figure(name, "s", values) for name, values in found.items()])


def _keeping_bytecode(folder: str) -> dict[str, str]:
    """Give an environment in which Python keeps what it compiled in a folder, and nowhere else."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder}


def _seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
    return time.perf_counter() - began
