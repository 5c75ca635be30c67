"""Whoever stops a run is left with nothing of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from bench.environments import ROOT


def of_a_run(folder):
    """Find what a run left running: commands of processes that name its folder somewhere.

    A process that ends while it is looked at, or has ended, is none of them.
    """
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            known = [*command, *process.environ().values()]
        except psutil.Error:
            continue
        if any(folder in each for each in known):
            found.append(command)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_servers_and_workers_are_gone_when_a_run_is_stopped(number):
    with TemporaryDirectory(prefix="staffa-stopped-") as folder:
        environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
        run = subprocess.Popen(
            [sys.executable, "-m", "bench", "--scale", "quick", "--only", "idle"],
            cwd=ROOT,
            env={**environment, "TMPDIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not any("staffa" in command for command in of_a_run(folder)):
            assert time.monotonic() < deadline
            time.sleep(0.05)

        run.send_signal(number)
        run.wait(60)

        assert of_a_run(folder) == []
        assert list(Path(folder).glob("staffa-bench-*")) == []
