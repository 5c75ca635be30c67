"""Workers in processes of their own, as `staffa run` starts them in the application's folder."""

import os
import subprocess
import sys
from pathlib import Path

from education_crm.schema import import_logs
from education_crm.workers import CsvImportWorker, RecordingProcessorWorker

HOME = Path(__file__).parents[1]


def test_staffa_run_finds_the_workers_and_does_what_waits(queue, office):
    settings = office.crm.settings
    call = office.call()
    sound = settings.simple_uploads / "x.aac"
    sound.write_bytes(b"sound")
    imported = queue.insert(CsvImportWorker, office.args(office.csv("name,phone\nAsha,9876543210\n")))
    recorded = queue.insert(
        RecordingProcessorWorker, {"temp_file_path": str(sound), "call_log_id": call, "filename": "x.aac"}
    )
    environment = {
        **os.environ,
        "STAFFA_DATABASE": settings.database_url,
        "CRM_TEMP_ROOT": str(settings.temp_root),
        "CRM_RECORDINGS": str(settings.recordings_root),
    }
    command = [sys.executable, "-m", "staffa", "run", "--until-idle"]
    subprocess.run(command, cwd=HOME, env=environment, check=True, timeout=60)

    states = [queue.staffa.get(job.id).state for job in (imported, recorded)]
    assert states == ["completed", "completed"]
    assert office.rows(import_logs.select())[0].successful_rows == 1
    assert office.stored() == [f"{call}_job-{recorded.id}.aac"]
