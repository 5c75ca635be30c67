"""What was measured, in the units in which it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figures:
    """Rates per second, latencies in milliseconds."""

    insert_per_s: int
    drain_per_s: int
    p50: float
    p99: float

    @classmethod
    def of(cls, insert_per_s: float, drain_per_s: float, seconds: Sequence[float]) -> Figures:
        ordered = sorted(each * 1000 for each in seconds)
        return cls(
            round(insert_per_s), round(drain_per_s), _percentile(ordered, 50), _percentile(ordered, 99)
        )

    def as_object(self) -> dict[str, Any]:
        return {
            "insert_per_s": self.insert_per_s,
            "drain_per_s": self.drain_per_s,
            "latency_ms": {"p50": self.p50, "p99": self.p99},
        }


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """Take the smallest value that so many percent do not exceed."""
    return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 3)
