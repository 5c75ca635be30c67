"""What every engine promises to nodes that would lead."""

import asyncio
from datetime import timedelta

from contract import HOUR, LEASE, NOW, SECOND, Trial


async def test_one_node_leads_until_its_lease_ends(trial: Trial):
    assert await trial.engine.lead(LEASE, "n1", 30 * SECOND, now=NOW)
    assert not await trial.engine.lead(LEASE, "n2", 30 * SECOND, now=NOW + 29 * SECOND)
    assert await trial.engine.lead(LEASE, "n2", 30 * SECOND, now=NOW + 31 * SECOND)
    assert not await trial.engine.lead(LEASE, "n1", 30 * SECOND, now=NOW + 32 * SECOND)


async def test_renewing_extends_the_lease(trial: Trial):
    assert await trial.engine.lead(LEASE, "n1", 30 * SECOND, now=NOW)
    assert await trial.engine.lead(LEASE, "n1", 30 * SECOND, now=NOW + 20 * SECOND)
    assert not await trial.engine.lead(LEASE, "n2", 30 * SECOND, now=NOW + 45 * SECOND)


async def test_who_resigns_hands_over_at_once(trial: Trial):
    await trial.engine.lead(LEASE, "n1", HOUR, now=NOW)
    await trial.engine.resign(LEASE, "n1")
    assert await trial.engine.lead(LEASE, "n2", HOUR, now=NOW)


async def test_nobody_resigns_for_another(trial: Trial):
    await trial.engine.lead(LEASE, "n1", HOUR, now=NOW)
    await trial.engine.resign(LEASE, "n2")
    assert not await trial.engine.lead(LEASE, "n2", HOUR, now=NOW)


async def test_leases_of_different_names_are_independent(trial: Trial):
    assert await trial.engine.lead(LEASE, "n1", HOUR, now=NOW)
    assert await trial.engine.lead(f"{LEASE}2", "n2", HOUR, now=NOW)


async def test_of_many_who_ask_at_once_one_leads(trial: Trial):
    nodes = [f"n{n}" for n in range(8)]
    answers = await asyncio.gather(*(trial.engine.lead(LEASE, node, HOUR) for node in nodes))
    assert sum(answers) == 1
    assert await trial.engine.leader(LEASE) == nodes[answers.index(True)]


async def test_the_leader_is_known_by_name_while_its_lease_lasts(trial: Trial):
    assert await trial.engine.leader(LEASE) is None
    await trial.engine.lead(LEASE, "n1", HOUR)
    assert await trial.engine.leader(LEASE) == "n1"
    await trial.engine.resign(LEASE, "n1")
    assert await trial.engine.leader(LEASE) is None
    await trial.engine.lead(LEASE, "n2", timedelta(0), now=NOW.replace(year=2020))
    assert await trial.engine.leader(LEASE) is None
