"""docs/benchmarks.md, written from a file of results."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.environments import ROOT
from bench.results import Results

RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = "benchmarks.md"


def read(path: Path) -> Results:
    return msgspec.json.decode(path.read_bytes(), type=Results)


def keep(results: Results, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))


def write(results: Results, folder: Path) -> None:
    raise NotImplementedError
