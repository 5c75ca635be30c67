"""Who calls whom: leads dealt out to telecallers in turn."""

from collections.abc import Iterator, Sequence
from itertools import cycle


def deal(leads: int, telecaller_ids: Sequence[str]) -> Iterator[str]:
    """Name the telecaller of each lead: lead i goes to telecaller i modulo n, in the order given.

    The shares differ by one at most, and the first telecallers take what is left over.
    """
    if not telecaller_ids:
        raise ValueError("no telecallers to deal leads to")

    turn = cycle(telecaller_ids)
    return (next(turn) for _ in range(leads))


def shares(leads: int, telecaller_ids: Sequence[str]) -> list[tuple[str, int]]:
    """How many leads each telecaller gets from ``deal``, in the same order."""
    each, left_over = divmod(leads, len(telecaller_ids))
    return [(one, each + (place < left_over)) for place, one in enumerate(telecaller_ids)]
