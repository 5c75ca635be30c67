"""The queues run as many jobs at once as the configuration says, and no more."""

import asyncio
import threading

import pytest

from education_crm.queues import open_queues
from education_crm.workers import CsvImportWorker, RecordingProcessorWorker

PATIENCE = 30


class Gate:
    """Holds everybody who comes until it is opened, and counts them."""

    def __init__(self):
        self.inside = self.most = 0
        self._count, self._open = threading.Lock(), threading.Event()

    def __call__(self, *_):
        with self._count:
            self.inside += 1
            self.most = max(self.most, self.inside)

        assert self._open.wait(PATIENCE)

        with self._count:
            self.inside -= 1

    def open(self):
        self._open.set()


@pytest.mark.parametrize(("worker", "limit"), [(CsvImportWorker, 5), (RecordingProcessorWorker, 3)])
async def test_c21_d16_no_more_jobs_than_the_limit_run_at_once(crm, monkeypatch, worker, limit):
    gate = Gate()
    monkeypatch.setattr(worker, "perform", gate)
    staffa = open_queues(crm.settings.database_url)
    await staffa.amigrate()
    await staffa.ainsert_all([worker.new(number=number) for number in range(2 * limit)])
    queue = worker.options.queue

    async def counted(**states):
        async with asyncio.timeout(PATIENCE):
            while (await staffa.acounts()).get(queue) != states:
                await asyncio.sleep(0.02)

    async with staffa:
        await counted(executing=limit, available=limit)

        async with asyncio.timeout(PATIENCE):
            while gate.inside < limit:
                await asyncio.sleep(0.02)

        gate.open()
        await counted(completed=2 * limit)

    staffa.close()
    assert gate.most == limit


async def test_c21_six_imports_at_once_are_all_done(crm, office):
    staffa = open_queues(crm.settings.database_url)
    await staffa.amigrate()
    names = [f"name,phone\nAsha,98765432{first}0\nUma,98765432{first}1\n" for first in range(6)]
    await staffa.ainsert_all([CsvImportWorker.new(**office.args(office.csv(content))) for content in names])

    async with staffa, asyncio.timeout(PATIENCE):
        while (await staffa.acounts())["csv_import"] != {"completed": 6}:
            await asyncio.sleep(0.02)

    staffa.close()
    assert len(office.leads()) == 12
