import os
from datetime import timedelta

import pytest
from sqlalchemy import select

from education_crm import uploads
from education_crm.clock import utc_now
from education_crm.schema import upload_chunks, upload_sessions
from education_crm.sweep import Swept, sweep
from education_crm.uploads import UploadRefused
from education_crm.workers import CsvImportWorker, RecordingProcessorWorker

HOUR = timedelta(hours=1)


def begin(office, *, age):
    call, then = office.call(), utc_now() - age

    with office.crm.database.write() as connection:
        upload_id = uploads.open_session(connection, office.crm.settings, call, "call.aac", then)

    chunk = uploads.store_chunk(office.crm.settings, upload_id, 0, b"sound")

    with office.crm.database.write() as connection:
        uploads.record_chunk(connection, upload_id, chunk)

    return call, upload_id


def aged(path, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x") if not path.is_dir() else None
    then = (utc_now() - age).timestamp()
    os.utime(path, (then, then))
    return path


def test_d15_an_upload_open_for_25_hours_is_cancelled_and_takes_no_more(queue, office):
    call, upload_id = begin(office, age=25 * HOUR)
    assert sweep(office.crm, queue.staffa, utc_now()) == Swept(1, 0, 0)
    assert office.rows(select(upload_sessions.c.status))[0][0] == "cancelled"
    assert office.rows(upload_chunks.select()) == []
    assert not uploads.folder_of(office.crm.settings, upload_id).exists()

    with pytest.raises(UploadRefused, match="no such upload"), office.crm.database.write() as connection:
        uploads.record_chunk(connection, upload_id, uploads.Chunk(1, 1, "x" * 64))

    args = {"upload_id": upload_id, "expected_chunks": 1, "call_log_id": call}
    job = queue.finish(RecordingProcessorWorker, args)
    assert job.state == "cancelled"
    assert job.errors[-1]["error"].startswith("upload_not_found: ")


def test_an_upload_open_for_23_hours_stays(queue, office):
    _, upload_id = begin(office, age=23 * HOUR)
    assert sweep(office.crm, queue.staffa, utc_now()) == Swept(0, 0, 0)
    assert uploads.folder_of(office.crm.settings, upload_id).exists()


def test_an_old_upload_that_a_job_will_ask_for_stays(queue, office):
    call, upload_id = begin(office, age=25 * HOUR)
    queue.insert(
        RecordingProcessorWorker, {"upload_id": upload_id, "expected_chunks": 1, "call_log_id": call}
    )
    assert sweep(office.crm, queue.staffa, utc_now()) == Swept(0, 0, 0)


def test_old_temporary_files_go_unless_a_live_job_names_them(queue, office):
    settings = office.crm.settings
    old = aged(settings.imports / "old.csv", 25 * HOUR)
    recording = aged(settings.simple_uploads / "old.aac", 25 * HOUR)
    fresh = aged(settings.imports / "fresh.csv", 23 * HOUR)
    wanted = aged(settings.imports / "wanted.csv", 25 * HOUR)
    elsewhere = aged(settings.temp_root / "not-ours.csv", 25 * HOUR)
    queue.insert(CsvImportWorker, office.args(wanted))

    assert sweep(office.crm, queue.staffa, utc_now()) == Swept(0, 2, 0)
    assert not old.exists()
    assert not recording.exists()
    assert fresh.exists()
    assert wanted.exists()
    assert elsewhere.exists()


def test_folders_of_chunks_that_no_upload_names_go(queue, office):
    orphan = office.crm.settings.chunked_uploads / ("o" * 22)
    orphan.mkdir()
    aged(orphan, 25 * HOUR)
    sweep(office.crm, queue.staffa, utc_now())
    assert not orphan.exists()


def test_old_recordings_that_no_call_names_go_and_the_others_stay(queue, office):
    call, upload_id = begin(office, age=HOUR)
    args = {"upload_id": upload_id, "expected_chunks": 1, "call_log_id": call}
    assert queue.finish(RecordingProcessorWorker, args).state == "completed"
    root = office.crm.settings.recordings_root
    attached = root / office.recording_of(call)
    os.utime(attached, (0, 0))
    half = aged(root / "half.aac.part", 25 * HOUR)
    fresh = aged(root / "fresh.aac", HOUR)

    assert sweep(office.crm, queue.staffa, utc_now()) == Swept(0, 0, 1)
    assert attached.exists()
    assert fresh.exists()
    assert not half.exists()


def test_the_sweep_is_a_job_of_every_night(queue, office):
    old = aged(office.crm.settings.imports / "old.csv", 25 * HOUR)
    [nightly] = queue.staffa.crontab
    first, second = nightly.next_runs(2, utc_now())
    assert (first.hour, first.minute, second - first) == (3, 30, 24 * HOUR)

    assert queue.run_once(queue.staffa.insert(nightly.job_now())).state == "completed"
    assert not old.exists()
