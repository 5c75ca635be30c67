"""On what it was measured, and with which versions."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from bench import disk
from bench.contenders import CONTENDERS
from bench.results import Pace

TURNS, LOOPS = 1_000_000, 5
PACKAGES = ("staffa", "psycopg", "msgspec")


def described() -> dict[str, str]:
    """Describe this machine."""
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def pace(folder: Path) -> Pace:
    """Measure how fast the machine is right now; pages are written where the databases are."""
    return Pace(TURNS / median(_loop() for _ in range(LOOPS)), disk.usual(folder))


def versions() -> dict[str, str]:
    """Give the versions of what is measured."""
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    found |= {name: version(name) for name in PACKAGES}
    pinned = [package.partition("==") for peer in CONTENDERS.values() for package in peer.requires]
    return found | {name: number for name, _, number in pinned}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _loop() -> float:
    """Give the seconds that so many turns of a bare loop take."""
    began = time.perf_counter()
    for _ in range(TURNS):
        pass
    return time.perf_counter() - began
