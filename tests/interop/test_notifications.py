"""What Elixir says is understood in each of its spellings, and nothing that is said deafens anybody."""

import asyncio
import base64
import gzip
import json
import logging
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes import eventually, quick
from staffa import Worker

HEARD = re.compile(r'Asynchronous notification "public\.oban_(\w+)" with payload "(.*)" received')
SAMPLE = Path(__file__).parent / "samples" / "notifications-2.23.1.txt"
CHANNELS = ("insert", "signal", "leader", "sonar", "gossip")
LONGEST = 7_900  # bytes; PostgreSQL takes no more than 8,000
runs: Counter[int] = Counter()


class Hears(Worker, name="interop.Hears", queue="ears"):
    async def perform(self, job):
        runs[job.id] += 1


def packed(text):
    return base64.b64encode(gzip.compress(text.encode())).decode()


FORMS = {"JSON": str, "compressed": lambda text: "Z:" + packed(text), "as before 2.21": packed}


@pytest.fixture
async def node(postgres_url, elixir, caplog):
    """A node that looks by itself only once in an hour, and has begun to listen."""
    caplog.set_level(logging.INFO, "staffa")
    runs.clear()
    async with quick(postgres_url, queues={"ears": 5}, poll=timedelta(hours=1)) as node:
        await hears(elixir)
        yield node
    node.close()
    assert not [record for record in caplog.records if "fell and is started again" in record.message]


async def hears(elixir):
    """Wait until a job runs of which only a proper notification told."""
    ids = []

    async def woken():
        ids.append(await asyncio.to_thread(elixir.insert, "interop.Hears", "ears"))
        return any(runs[job] for job in ids)

    await eventually(woken)
    await eventually(lambda: all(runs[job] for job in ids))


async def hears_at_once(elixir):
    """One job, one notification."""
    job = await asyncio.to_thread(elixir.insert, "interop.Hears", "ears")
    await eventually(lambda: runs[job] == 1)


@pytest.mark.parametrize("form", FORMS)
async def test_a_notification_in_each_of_obans_spellings_wakes_us(elixir, node, form):
    [[job]] = elixir.run("insert into JOBS (worker, queue) values ('interop.Hears', 'ears') returning id")
    elixir.tell("insert", FORMS[form]('{"queue":"ears"}'))
    await eventually(lambda: runs[job] == 1)


@pytest.mark.parametrize("form", FORMS)
async def test_all_that_a_node_of_oban_said_is_taken_without_harm(elixir, node, form):
    said = HEARD.findall(SAMPLE.read_text("utf-8"))
    assert {channel for channel, _ in said} == {"insert", "signal", "leader", "sonar"}
    for channel, payload in said:
        json.loads(payload)
        await asyncio.to_thread(elixir.tell, channel, FORMS[form](payload))
    await hears_at_once(elixir)


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
odd_signal = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(["pause", "resume", "scale", "stop", "pkill", "dance"]) | anything,
        "queue": st.sampled_from(["nobody", "", None, 7]) | st.lists(text, max_size=2),
        "ident": st.sampled_from(["any", "Oban.other", "", None, 5]) | anything,
        "limit": anything,
        "job_id": anything,
        "node": anything,
        "paused": anything,
        "down": anything,
        "ping": anything,
    },
)
payloads = st.one_of(
    text,
    anything.map(json.dumps),
    odd_signal.map(json.dumps),
    odd_signal.map(json.dumps).map(packed),
    odd_signal.map(json.dumps).map(lambda inner: "Z:" + packed(inner)),
    text.map(lambda inner: "Z:" + inner),
    text.map(packed),
    st.binary(max_size=60).map(lambda raw: "H4sI" + base64.b64encode(raw).decode()),
    st.binary(max_size=60).map(lambda raw: "Z:" + base64.b64encode(raw).decode()),
    st.integers(1, 7_000).map(lambda depth: "[" * depth),
    st.integers(1, 1_300).map(lambda depth: '{"a":' * depth),
    st.integers(1, 7_000).map(lambda digits: '{"job_id":' + "9" * digits + "}"),
)


@pytest.fixture(scope="module")
def odd():
    """What hypothesis thinks of; said afterwards, as it bears no other use of `random` beside it."""
    thought_of = []

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(CHANNELS), st.lists(payloads, min_size=1, max_size=4))
    def think(channel, said):
        thought_of.append((channel, [each for each in said if len(each.encode()) < LONGEST]))

    think()
    return thought_of


async def test_odd_payloads_of_any_kind_deafen_nobody(odd, elixir, node):
    assert sum(len(said) for _, said in odd) > 200
    for channel, said in odd:
        await asyncio.to_thread(elixir.tell, channel, *said)
    await hears_at_once(elixir)
