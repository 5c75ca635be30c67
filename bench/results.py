"""What was measured, as values that a file can keep: figures, and how they compare with what is wanted."""

from __future__ import annotations

from statistics import median
from typing import Literal

import msgspec

STEPS = 200


class Figure(msgspec.Struct, frozen=True):
    """One thing measured once a round."""

    name: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        return median(self.values)


class Check(msgspec.Struct, frozen=True):
    """One thing wanted: `values`, one a round, compared with a bound."""

    what: str
    bound: Literal["at least", "at most"]
    wanted: float
    values: list[float]
    unit: str = ""

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool:
        return self.median >= self.wanted if self.bound == "at least" else self.median <= self.wanted


class Pace(msgspec.Struct, frozen=True):
    """How fast the machine was at a moment: turns of a bare loop of Python a second, seconds to sync a page."""

    turns: float
    sync: float


class RowResult(msgspec.Struct, frozen=True):
    """A row of the table: what was found, and how fast the machine was before and after."""

    key: str
    what: str
    checks: list[Check]
    figures: list[Figure]
    notes: list[str] = []
    series: dict[str, list[float]] = {}
    paces: list[Pace] = []

    @property
    def met(self) -> bool:
        return bool(self.checks) and all(check.met for check in self.checks)


class Results(msgspec.Struct, frozen=True):
    """A whole run."""

    scale: str
    date: str
    took_minutes: float
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    rows: list[RowResult]
    chosen: dict[str, str] = {}
    missing: dict[str, str] = {}


def at_least(wanted: float, what: str, values: list[float], unit: str = "") -> Check:
    return Check(what, "at least", wanted, values, unit)


def at_most(wanted: float, what: str, values: list[float], unit: str = "") -> Check:
    return Check(what, "at most", wanted, values, unit)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Compare round by round, since neighbours in time met the same machine."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def percentile(values: list[float], percent: int) -> float:
    """Take the smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def quantiles(values: list[float]) -> list[float]:
    """Give 201 values from the least to the most, at equal steps."""
    ordered = sorted(values)
    return [ordered[round(step * (len(ordered) - 1) / STEPS)] for step in range(STEPS + 1)]
