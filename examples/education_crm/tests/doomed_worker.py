"""A worker process that stands still at a given moment, to be killed there.

``doomed_worker.py SETTINGS MOMENT`` runs the CRM's queues as any other process does. At the moment it
prints ``here`` and goes no further.
"""

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import event
from staffa import Lifeline, Staffa
from staffa.config import load

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME))

from education_crm import crm as process
from education_crm.crm import Crm
from education_crm.settings import Settings
from education_crm.workers import csv_import_worker, recording_processor_worker

BEAT = timedelta(milliseconds=200)
SILENCE = timedelta(seconds=1)
ENOUGH = 5


def queues(url, node):
    """The CRM's queues with a pulse quick enough for tests."""
    lifeline = Lifeline(interval=BEAT, silence=SILENCE)
    config = load(HOME / "staffa.toml", flags={"database": url})
    return Staffa.from_config(config, node=node, heartbeat=BEAT, plugins=[lifeline])


def stand_still(*_):
    print("here", flush=True)
    time.sleep(3600)


def prepare(crm, moment):
    times = {"seen": 0}

    def when_enough(*_):
        times["seen"] += 1

        if times["seen"] == ENOUGH:
            stand_still()

    def in_transaction(_connection, _cursor, statement, *_):
        if statement.startswith("INSERT INTO leads"):
            when_enough()

    match moment:
        case "parsing":
            parse = csv_import_worker.parse
            csv_import_worker.parse = lambda content, **options: parse(
                content, **{**options, "report": when_enough}
            )
        case "in the transaction":
            event.listen(crm.database.engine, "before_cursor_execute", in_transaction)
        case "between commit and ack":
            save = csv_import_worker._save
            csv_import_worker._save = lambda *args: (save(*args), stand_still())
        case "joining":
            copy = recording_processor_worker.copy_into
            recording_processor_worker.copy_into = lambda *args, **options: (
                copy(*args, **options),
                when_enough(),
            )
        case "between attach and ack":
            attach = recording_processor_worker._attach
            recording_processor_worker._attach = lambda *args, **options: (
                attach(*args, **options),
                stand_still(),
            )


async def run(crm, moment):
    async with queues(crm.settings.database_url, "doomed"):
        prepare(crm, moment)
        await asyncio.Event().wait()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    places = {"temp_root": Path(told["temp"]), "recordings_root": Path(told["recordings"])}
    crm = Crm.open(Settings(database_url=told["url"], **places))
    process.install(crm)
    asyncio.run(run(crm, sys.argv[2]))
