"""Worker processes that are killed without warning: nothing is left behind, another one finishes, once."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from doomed_worker import queues
from education_crm import uploads
from education_crm.clock import utc_now
from education_crm.schema import import_logs
from education_crm.workers import CsvImportWorker, RecordingProcessorWorker

HERE = Path(__file__).parent
ROWS = 10_000
PATIENCE = 30
TEN_THOUSAND = "name,phone\n" + "".join(f"Student,{6 * 10**9 + number}\n" for number in range(ROWS))


@pytest.fixture
def staffa(crm):
    staffa = queues(crm.settings.database_url, "survivor")
    staffa.migrate()

    with staffa.as_default():
        yield staffa

    staffa.close()


@contextmanager
def killed_at(crm, moment):
    """A worker process that is killed with SIGKILL when it reaches a moment."""
    settings = crm.settings
    told = {
        "url": settings.database_url,
        "temp": str(settings.temp_root),
        "recordings": str(settings.recordings_root),
    }
    command = [sys.executable, HERE / "doomed_worker.py", json.dumps(told), moment]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield
            assert process.stdout.readline() == "here\n"
        finally:
            process.send_signal(signal.SIGKILL)

    assert process.returncode == -signal.SIGKILL


async def finished(staffa, job):
    """Let another worker run until the job is done."""
    began = time.perf_counter()

    async with staffa, asyncio.timeout(PATIENCE):
        while (now := await staffa.aget(job.id)).state != "completed":
            await asyncio.sleep(0.05)

    return now, time.perf_counter() - began


@pytest.mark.parametrize("moment", ["parsing", "in the transaction", "between commit and ack"])
async def test_an_import_whose_worker_is_killed_is_finished_by_another_with_every_lead_once(
    staffa, office, moment, capsys
):
    path = office.csv(TEN_THOUSAND)

    with killed_at(office.crm, moment):
        job = await CsvImportWorker.aenqueue(**office.args(path))

    done = moment == "between commit and ack"
    assert len(office.leads()) == (ROWS if done else 0)
    assert len(office.rows(import_logs.select())) == done
    assert (await staffa.aget(job.id)).state == "executing"
    assert path.exists()

    job, seconds = await finished(staffa, job)
    made = office.leads()
    assert len(made) == len({lead.phone_e164 for lead in made}) == ROWS
    (log,) = office.rows(import_logs.select())
    assert (log.status, log.successful_rows, log.job_id) == ("completed", ROWS, job.id)
    assert job.meta["rescued"] == 1
    assert not path.exists()

    with capsys.disabled():
        print(f"\n  killed {moment}: finished by another after {seconds:.1f} s")


@pytest.mark.parametrize("moment", ["joining", "between attach and ack"])
async def test_a_recording_whose_worker_is_killed_is_stored_by_another(staffa, office, moment):
    call = office.call()
    parts = [bytes([65 + index]) * 100_000 for index in range(8)]

    with office.crm.database.write() as connection:
        upload_id = uploads.open_session(connection, office.crm.settings, call, "call.aac", utc_now())

    for index, content in enumerate(parts):
        chunk = uploads.store_chunk(office.crm.settings, upload_id, index, content)

        with office.crm.database.write() as connection:
            uploads.record_chunk(connection, upload_id, chunk)

    with killed_at(office.crm, moment):
        job = await RecordingProcessorWorker.aenqueue_chunked(
            upload_id=upload_id, expected_chunks=8, call_log_id=call
        )

    assert (office.recording_of(call) is not None) == (moment == "between attach and ack")
    await finished(staffa, job)
    assert (office.crm.settings.recordings_root / office.recording_of(call)).read_bytes() == b"".join(parts)
    assert [name for name in office.stored() if not name.endswith(".part")] == [f"{call}_{upload_id}.aac"]
    assert not uploads.folder_of(office.crm.settings, upload_id).exists()
