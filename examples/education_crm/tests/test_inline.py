"""Jobs that run where they are enqueued, as an application's own tests run them."""

import threading

import pytest
from staffa import Staffa

from education_crm import uploads
from education_crm.clock import utc_now
from education_crm.schema import import_logs
from education_crm.workers import CsvImportWorker, RecordingProcessorWorker

FOUR = "name,phone\nAsha,9876543210\nRavi,+91 98765 43211\nUma,09876543212\nZoya,98765-43213\n"


@pytest.fixture
def inline():
    staffa = Staffa(testing="inline")

    with staffa.as_default():
        yield staffa

    staffa.close()


def test_an_import_is_done_when_enqueue_comes_back(inline, office):
    job = CsvImportWorker.enqueue(**office.args(office.csv(FOUR)))
    assert job.state == "completed"
    assert len(office.leads()) == 4
    assert office.rows(import_logs.select())[0].successful_rows == 4


async def test_a_coroutine_awaits_it(inline, office):
    job = await CsvImportWorker.aenqueue(**office.args(office.csv(FOUR)))
    assert job.state == "completed"


def test_a_job_runs_in_the_thread_of_the_test(inline, office, monkeypatch):
    seen = []
    perform = CsvImportWorker.perform

    def watched(self, job):
        seen.append(threading.get_ident())
        return perform(self, job)

    monkeypatch.setattr(CsvImportWorker, "perform", watched)
    CsvImportWorker.enqueue(**office.args(office.csv(FOUR)))
    assert seen == [threading.get_ident()]


def test_a_cancelled_import_tells_its_reason(inline, office):
    job = CsvImportWorker.enqueue(**office.args(office.csv("x,y\n1,2\n")))
    assert job.state == "cancelled"
    assert office.rows(import_logs.select())[0].error_code == "missing_name_column"


def test_recordings_are_stored_when_enqueue_comes_back(inline, office):
    call = office.call()
    temp = office.crm.settings.simple_uploads / "x.aac"
    temp.write_bytes(b"sound")
    job = RecordingProcessorWorker.enqueue_simple(temp_file_path=temp, call_log_id=call, filename="x.aac")
    assert job.state == "completed"
    assert (office.crm.settings.recordings_root / office.recording_of(call)).read_bytes() == b"sound"

    with office.crm.database.write() as connection:
        upload_id = uploads.open_session(connection, office.crm.settings, call, "x.aac", utc_now())

    chunk = uploads.store_chunk(office.crm.settings, upload_id, 0, b"again")

    with office.crm.database.write() as connection:
        uploads.record_chunk(connection, upload_id, chunk)

    RecordingProcessorWorker.enqueue_chunked(upload_id=upload_id, expected_chunks=1, call_log_id=call)
    assert (office.crm.settings.recordings_root / office.recording_of(call)).read_bytes() == b"again"
    assert len(office.stored()) == 1
