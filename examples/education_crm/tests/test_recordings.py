"""What recordings promise, each on both databases."""

import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from sqlalchemy import delete, event, select
from sqlalchemy.exc import OperationalError

from education_crm import uploads
from education_crm.clock import utc_now
from education_crm.schema import call_logs, upload_chunks, upload_sessions
from education_crm.uploads import UploadRefused
from education_crm.workers import RecordingProcessorWorker

PARTS = [bytes([65 + index]) * 1000 for index in range(5)]
WHOLE = b"".join(PARTS)


@pytest.fixture
def upload(office):
    """Begin an upload for a call and send the chunks with these indexes."""

    def upload(call, indexes=range(5), filename="call.aac"):
        crm = office.crm

        with crm.database.write() as connection:
            upload_id = uploads.open_session(connection, crm.settings, call, filename, utc_now())

        for index in indexes:
            send(office, upload_id, index, PARTS[index] if index < len(PARTS) else b"extra")

        return upload_id

    return upload


def send(office, upload_id, index, content):
    chunk = uploads.store_chunk(office.crm.settings, upload_id, index, content)

    with office.crm.database.write() as connection:
        return uploads.record_chunk(connection, upload_id, chunk)


def args(upload_id, call, expected=5):
    return {"upload_id": upload_id, "expected_chunks": expected, "call_log_id": call}


def content_of(office, call):
    return (office.crm.settings.recordings_root / office.recording_of(call)).read_bytes()


def status_of(office, upload_id):
    return office.rows(select(upload_sessions.c.status).where(upload_sessions.c.id == upload_id))[0][0]


def assert_nothing_left(office, upload_id):
    """No chunk, no folder, no file, not even half a one."""
    assert office.rows(upload_chunks.select()) == []
    assert not uploads.folder_of(office.crm.settings, upload_id).exists()
    assert office.stored() == []


def assert_cancelled(job, code):
    assert (job.state, job.attempt) == ("cancelled", 1)
    assert job.errors[-1]["error"].startswith(f"{code}: ")


def test_d1_five_chunks_become_one_recording_of_the_call(queue, office, upload):
    call = office.call()
    upload_id = upload(call)
    job = queue.finish(RecordingProcessorWorker, args(upload_id, call))
    assert job.state == "completed"
    assert hashlib.sha256(content_of(office, call)).digest() == hashlib.sha256(WHOLE).digest()
    assert office.stored() == [f"{call}_{upload_id}.aac"]
    assert status_of(office, upload_id) == "done"
    assert office.rows(upload_chunks.select()) == []
    assert not uploads.folder_of(office.crm.settings, upload_id).exists()


def test_d2_the_order_in_which_chunks_arrive_makes_no_difference(queue, office, upload):
    call = office.call()
    queue.finish(RecordingProcessorWorker, args(upload(call, [3, 0, 4, 1, 2]), call))
    assert content_of(office, call) == WHOLE


def test_d3_a_chunk_sent_twice_counts_once(queue, office, upload):
    call = office.call()
    upload_id = upload(call, [0, 1, 2, 2, 3, 4])
    assert send(office, upload_id, 2, PARTS[2]) == uploads.Received(5, len(WHOLE))
    queue.finish(RecordingProcessorWorker, args(upload_id, call))
    assert content_of(office, call) == WHOLE


def test_d3_a_repeated_chunk_does_not_hide_a_missing_one(queue, office, upload):
    call = office.call()
    upload_id = upload(call, [0, 0, 1, 2, 3])
    job = queue.finish(RecordingProcessorWorker, args(upload_id, call))
    assert_cancelled(job, "incomplete_upload")
    assert_nothing_left(office, upload_id)
    assert office.recording_of(call) is None


def test_d3_a_chunk_with_other_bytes_is_refused_and_the_first_kept(queue, office, upload):
    call = office.call()
    upload_id = upload(call)

    with pytest.raises(UploadRefused, match="chunk 2 was sent before"):
        send(office, upload_id, 2, b"other")

    queue.finish(RecordingProcessorWorker, args(upload_id, call))
    assert content_of(office, call) == WHOLE


def test_d4_a_missing_chunk_cancels_the_job_and_the_upload(queue, office, upload):
    call = office.call()
    upload_id = upload(call, [0, 1, 3, 4])
    job = queue.finish(RecordingProcessorWorker, args(upload_id, call))
    assert_cancelled(job, "incomplete_upload")
    assert "1 of 5 chunks are missing: 2" in job.errors[-1]["error"]
    assert status_of(office, upload_id) == "cancelled"
    assert_nothing_left(office, upload_id)
    assert office.recording_of(call) is None


def test_d4_a_chunk_too_many_cancels_the_job(queue, office, upload):
    call = office.call()
    upload_id = upload(call, range(6))
    assert_cancelled(queue.finish(RecordingProcessorWorker, args(upload_id, call)), "chunk_set_mismatch")
    assert_nothing_left(office, upload_id)


def test_an_upload_without_bytes_is_cancelled(queue, office, upload):
    call = office.call()
    upload_id = upload(call, [])
    send(office, upload_id, 0, b"")
    assert_cancelled(queue.finish(RecordingProcessorWorker, args(upload_id, call, 1)), "empty_upload")
    assert_nothing_left(office, upload_id)


@pytest.mark.parametrize("gone", ["never was", "deleted meanwhile"])
def test_d6_a_missing_call_log_cancels_the_job_and_leaves_no_file(queue, office, upload, gone):
    call = "no-such-call" if gone == "never was" else office.call()
    upload_id = upload(call)
    job = queue.insert(RecordingProcessorWorker, args(upload_id, call))

    with office.crm.database.write() as connection:
        connection.execute(delete(call_logs).where(call_logs.c.id == call))

    assert_cancelled(queue.run_once(job), "call_log_not_found")
    assert status_of(office, upload_id) == "cancelled"
    assert_nothing_left(office, upload_id)


def test_d6_a_call_log_deleted_while_chunks_are_joined_leaves_no_file(queue, office, upload, monkeypatch):
    call = office.call()
    upload_id = upload(call)
    joined = uploads.check_complete

    def delete_then_check(chunks, expected):
        with office.crm.database.write() as connection:
            connection.execute(delete(call_logs).where(call_logs.c.id == call))

        joined(chunks, expected)

    monkeypatch.setattr(uploads, "check_complete", delete_then_check)
    assert_cancelled(queue.finish(RecordingProcessorWorker, args(upload_id, call)), "call_log_not_found")
    assert_nothing_left(office, upload_id)


def test_another_calls_upload_cannot_be_taken(queue, office, upload):
    call, other = office.call(), office.call()
    upload_id = upload(call)
    assert_cancelled(queue.finish(RecordingProcessorWorker, args(upload_id, other)), "call_log_mismatch")
    assert status_of(office, upload_id) == "open"
    assert queue.finish(RecordingProcessorWorker, args(upload_id, call)).state == "completed"


def test_d7_enqueued_twice_there_is_still_one_recording(queue, office, upload):
    call = office.call()
    upload_id = upload(call)
    jobs = [queue.insert(RecordingProcessorWorker, args(upload_id, call)) for _ in range(2)]
    assert [queue.run_once(job).state for job in jobs] == ["completed", "completed"]
    assert office.stored() == [f"{call}_{upload_id}.aac"]
    assert content_of(office, call) == WHOLE


def test_d7_workers_that_race_end_with_one_recording(queue, office, upload):
    call = office.call()
    upload_id = upload(call)
    job = RecordingProcessorWorker.new(**args(upload_id, call))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: RecordingProcessorWorker().perform(job), range(8)))

    assert answers == [None] * 8
    assert office.stored() == [f"{call}_{upload_id}.aac"]
    assert content_of(office, call) == WHOLE


def test_d9_a_simple_recording_is_stored_and_its_temporary_file_goes(queue, office):
    call = office.call()
    temp = office.crm.settings.simple_uploads / "x.aac"
    temp.write_bytes(WHOLE)
    job = queue.finish(RecordingProcessorWorker, simple(temp, call))
    assert job.state == "completed"
    assert content_of(office, call) == WHOLE
    assert not temp.exists()


def simple(temp, call, filename="x.aac"):
    return {"temp_file_path": str(temp), "call_log_id": call, "filename": filename}


def test_d9_a_missing_temporary_file_cancels_the_job(queue, office):
    temp = office.crm.settings.simple_uploads / "never.aac"
    job = queue.finish(RecordingProcessorWorker, simple(temp, office.call()))
    assert_cancelled(job, "temp_file_not_found")


@pytest.mark.parametrize("kind", ["simple", "chunked"])
def test_d9_a_database_error_is_retried_with_everything_kept_until_it_works(queue, office, upload, kind):
    call = office.call()
    temp = office.crm.settings.simple_uploads / "x.aac"
    temp.write_bytes(WHOLE)
    asked = simple(temp, call) if kind == "simple" else args(upload(call), call)
    left = {"times": 2}

    def fail(_connection, _cursor, statement, *_):
        if statement.startswith("UPDATE call_logs") and left["times"]:
            left["times"] -= 1
            raise OperationalError(statement, {}, Exception("deadlock detected"))

    event.listen(office.crm.database.engine, "before_cursor_execute", fail)
    job = queue.insert(RecordingProcessorWorker, asked)

    for attempt in (1, 2):
        job = queue.run_once(job)
        assert (job.state, job.attempt) == ("retryable", attempt)
        assert temp.exists()
        assert office.recording_of(call) is None

    job = queue.run_once(job)
    assert (job.state, job.attempt) == ("completed", 3)
    assert content_of(office, call) == WHOLE
    assert len(office.stored()) == 1
    assert temp.exists() == (kind == "chunked")


def test_d10_a_new_recording_replaces_the_old_one_whose_file_goes(queue, office, upload):
    call = office.call()
    first, second = upload(call), upload(call)
    queue.finish(RecordingProcessorWorker, args(first, call))
    assert office.stored() == [f"{call}_{first}.aac"]
    queue.finish(RecordingProcessorWorker, args(second, call))
    assert office.stored() == [f"{call}_{second}.aac"]
    assert office.recording_of(call) == f"{call}_{second}.aac"


def test_d10_the_old_file_stays_when_the_new_one_cannot_be_attached(queue, office, upload):
    call = office.call()
    first, second = upload(call), upload(call, [0, 1])
    queue.finish(RecordingProcessorWorker, args(first, call))
    assert_cancelled(queue.finish(RecordingProcessorWorker, args(second, call)), "incomplete_upload")
    assert content_of(office, call) == WHOLE


def test_d11_extensions_count_in_any_case_and_folders_in_names_do_not(queue, office, upload):
    call = office.call()
    upload_id = upload(call, filename="../../etc/CALL.AAC")
    queue.finish(RecordingProcessorWorker, args(upload_id, call))
    assert office.stored() == [f"{call}_{upload_id}.aac"]


def test_d11_what_is_no_recording_is_refused(queue, office, upload):
    with pytest.raises(UploadRefused, match=r"ends in \.aac"):
        upload(office.call(), filename="virus.exe")

    temp = office.crm.settings.simple_uploads / "x"
    temp.write_bytes(b"x")
    job = queue.finish(RecordingProcessorWorker, simple(temp, office.call(), "virus.exe"))
    assert_cancelled(job, "unsupported_type")
    assert not temp.exists()


def test_a_file_outside_the_temporary_folder_is_left_alone(queue, office, tmp_path):
    outside = tmp_path / "outside.aac"
    outside.write_bytes(b"x")
    assert_cancelled(
        queue.finish(RecordingProcessorWorker, simple(outside, office.call())), "outside_temp_root"
    )
    assert outside.exists()


@pytest.mark.parametrize(
    "asked",
    [
        {"call_log_id": "c"},
        {"upload_id": "x" * 22, "call_log_id": "c"},
        {"upload_id": "x" * 22, "expected_chunks": 0, "call_log_id": "c"},
        {"temp_file_path": "/tmp/x.aac"},
    ],
)
def test_arguments_that_say_too_little_cancel_the_job(queue, office, asked):
    assert_cancelled(queue.finish(RecordingProcessorWorker, asked), "bad_args")


@pytest.mark.parametrize("upload_id", ["../../../../../../etc/pw", "x" * 22])
def test_an_unknown_upload_cancels_the_job(queue, office, upload_id):
    job = queue.finish(RecordingProcessorWorker, args(upload_id, office.call()))
    assert_cancelled(job, "upload_not_found")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_d16_a_thousand_chunks_are_joined_in_constant_memory(queue, office, upload, report_time):
    call, noise = office.call(), random.Random(16)
    upload_id = upload(call, [])
    folder = uploads.folder_of(office.crm.settings, upload_id)
    parts = [noise.randbytes(1024 * 1024) for _ in range(10)]
    chunks = [
        uploads.Chunk(index, len(parts[index % 10]), hashlib.sha256(parts[index % 10]).hexdigest())
        for index in range(1000)
    ]

    for index, content in enumerate(parts):
        send(office, upload_id, index, content)

    for chunk in chunks[10:]:
        os.link(chunks[chunk.index % 10].file(folder), chunk.file(folder))

    with office.crm.database.write() as connection:
        for chunk in chunks[10:]:
            uploads.record_chunk(connection, upload_id, chunk)

    digest = hashlib.sha256()

    for index in range(1000):
        digest.update(parts[index % 10])

    del parts
    memory = psutil.Process(os.getpid()).memory_info
    before = memory().rss

    with report_time("1,000 chunks of 1 MiB"):
        job = queue.finish(RecordingProcessorWorker, args(upload_id, call, 1000))

    assert job.state == "completed"
    assert memory().rss - before < 100 * 1024 * 1024
    stored = office.crm.settings.recordings_root / office.recording_of(call)

    with stored.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == digest.digest()

    stored.unlink()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: RecordingProcessorWorker.enqueue_chunked(
                upload_id="x", expected_chunks=1, call_log_id="c"
            ),
            ValueError,
            "22 signs",
        ),
        (
            lambda: RecordingProcessorWorker.enqueue_chunked(
                upload_id="x" * 22, expected_chunks=0, call_log_id="c"
            ),
            ValueError,
            "1 or more",
        ),
        (
            lambda: RecordingProcessorWorker.enqueue_chunked(
                upload_id="x" * 22, expected_chunks="5", call_log_id="c"
            ),
            TypeError,
            "whole number",
        ),
        (
            lambda: RecordingProcessorWorker.enqueue_chunked(
                upload_id="x" * 22, expected_chunks=True, call_log_id="c"
            ),
            TypeError,
            "whole number",
        ),
        (
            lambda: RecordingProcessorWorker.enqueue_chunked(
                upload_id="x" * 22, expected_chunks=1, call_log_id=""
            ),
            ValueError,
            "call_log_id",
        ),
        (
            lambda: RecordingProcessorWorker.enqueue_simple(
                temp_file_path="x.aac", call_log_id="c", filename="x.aac"
            ),
            ValueError,
            "absolute",
        ),
        (
            lambda: RecordingProcessorWorker.enqueue_simple(
                temp_file_path="/tmp/x.aac", call_log_id=7, filename="x.aac"
            ),
            TypeError,
            "call_log_id",
        ),
    ],
)
def test_what_cannot_be_a_recording_is_refused_where_it_is_enqueued(queue, call, error, words):
    with pytest.raises(error, match=words):
        call()

    assert queue.jobs() == []
