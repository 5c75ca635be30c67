"""A process that stores jobs as fast as it can, until it is killed: `python -m bench.producer URL`."""

from __future__ import annotations

import sys

from bench.jobs import Noop
from staffa import Staffa

AT_ONCE = 500


def produce(url: str) -> None:
    staffa = Staffa(url, run_queues=False)
    while True:
        staffa.insert_all([Noop.new(number=number) for number in range(AT_ONCE)])


if __name__ == "__main__":
    produce(sys.argv[1])
