"""The telecallers' API, with the queues running behind it."""

import asyncio
import hashlib

import pytest

from education_crm.schema import call_logs
from visitors import PASSWORD, PATIENCE

PARTS = [bytes([65 + index]) * 1000 for index in range(5)]
WHOLE = b"".join(PARTS)


@pytest.fixture
async def phone(visitor, office, let_in):
    """The first telecaller's phone."""
    await hold(visitor, let_in(office.telecallers[0]))
    return visitor


async def hold(person, username):
    answer = await person.client.post("/api/login", json={"username": username, "password": PASSWORD})
    person.client.headers["authorization"] = f"Bearer {answer.json()['token']}"


@pytest.fixture
def call(office):
    return office.call()


@pytest.fixture
def base(office, call):
    return f"/api/leads/{office.lead_of(call)}/recordings"


async def begin(phone, base, call, filename="call.aac"):
    answer = await phone.client.post(f"{base}/uploads", json={"call_log_id": call, "filename": filename})
    assert answer.status_code == 201
    return f"{base}/uploads/{answer.json()['upload_id']}"


async def append(phone, upload, index, content=None):
    return await phone.client.put(
        f"{upload}/chunks/{index}", content=PARTS[index] if content is None else content
    )


async def finalize(phone, upload, expected=5):
    return await phone.client.post(f"{upload}/finalize", json={"expected_chunks": expected})


async def done(phone, answer):
    return await phone.until(
        answer.json()["status_url"], lambda job: job["state"] in {"completed", "cancelled"}
    )


def code(answer):
    return answer.json()["error"]["code"]


async def test_d17_chunks_become_a_recording_that_can_be_listened_to_in_parts(phone, office, base, call):
    upload = await begin(phone, base, call)

    for index in (3, 0, 4, 1, 2):
        answer = await append(phone, upload, index)
        assert answer.status_code == 202

    assert answer.json() | {"upload_id": ""} == {
        "upload_id": "",
        "chunks_received": 5,
        "total_size": len(WHOLE),
    }
    answer = await finalize(phone, upload)
    assert answer.status_code == 202
    assert isinstance(answer.json()["job_id"], int)
    assert (await done(phone, answer))["state"] == "completed"

    whole = await phone.client.get(f"{base}/{call}")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/aac")
    assert hashlib.sha256(whole.content).digest() == hashlib.sha256(WHOLE).digest()
    part = await phone.client.get(f"{base}/{call}", headers={"range": "bytes=990-1009"})
    assert (part.status_code, part.content) == (206, b"A" * 10 + b"B" * 10)
    assert part.headers["content-range"] == f"bytes 990-1009/{len(WHOLE)}"
    beyond = await phone.client.get(f"{base}/{call}", headers={"range": "bytes=9999-"})
    assert beyond.status_code == 416


async def test_d17_the_status_of_an_upload_tells_what_arrived_and_how_its_job_stands(phone, base, call):
    upload = await begin(phone, base, call)
    await append(phone, upload, 0)
    status = (await phone.client.get(upload)).json()
    assert (status["status"], status["chunks_received"], status["job"]) == ("open", 1, None)
    await done(phone, await finalize(phone, upload, 1))
    status = await phone.until(upload, lambda answer: answer["status"] == "done")
    assert status["job"]["state"] in {"executing", "completed"}


async def test_d17_another_telecallers_lead_is_forbidden(visitor, office, let_in, base, call):
    await hold(visitor, let_in(office.telecallers[1]))
    asked = {"call_log_id": call, "filename": "x.aac"}
    upload = f"{base}/uploads/{'x' * 22}"
    answers = [
        await visitor.client.post(f"{base}/uploads", json=asked),
        await visitor.client.put(f"{upload}/chunks/0", content=b"x"),
        await visitor.client.post(f"{upload}/finalize", json={"expected_chunks": 1}),
        await visitor.client.post(base, data={"call_log_id": call}, files={"file": ("x.aac", b"x")}),
        await visitor.client.get(f"{base}/{call}"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 5
    assert code(answers[0]) == "not_your_lead"


async def test_another_telecaller_does_not_see_the_job(phone, office, let_in, base, call):
    answer = await phone.client.post(base, data={"call_log_id": call}, files={"file": ("x.aac", WHOLE)})
    await done(phone, answer)
    await hold(phone, let_in(office.telecallers[1]))
    assert (await phone.client.get(answer.json()["status_url"])).status_code == 403


async def test_a_recording_in_one_piece_is_stored_by_a_job(phone, office, base, call):
    answer = await phone.client.post(base, data={"call_log_id": call}, files={"file": ("x.MP3", WHOLE)})
    assert answer.status_code == 202
    assert (await done(phone, answer))["state"] == "completed"
    heard = await phone.client.get(f"{base}/{call}")
    assert (heard.content, heard.headers["content-type"]) == (WHOLE, "audio/mpeg")
    assert list(office.crm.settings.simple_uploads.iterdir()) == []


async def test_a_chunk_sent_again_is_fine_and_with_other_bytes_refused(phone, office, base, call):
    upload = await begin(phone, base, call)
    assert (await append(phone, upload, 0)).status_code == 202
    assert (await append(phone, upload, 0)).json()["chunks_received"] == 1
    refused = await append(phone, upload, 0, b"other")
    assert (refused.status_code, code(refused)) == (409, "chunk_conflict")
    folder = office.crm.settings.chunked_uploads / upload.rpartition("/")[2]
    assert len(list(folder.iterdir())) == 1
    await done(phone, await finalize(phone, upload, 1))
    assert (await phone.client.get(f"{base}/{call}")).content == PARTS[0]


async def test_a_missing_chunk_can_still_be_sent_after_finalize_was_refused(phone, base, call):
    upload = await begin(phone, base, call)
    await append(phone, upload, 0)
    refused = await finalize(phone, upload, 2)
    assert (refused.status_code, code(refused)) == (400, "incomplete_upload")
    await append(phone, upload, 1)
    assert (await done(phone, await finalize(phone, upload, 2)))["state"] == "completed"


async def test_finalize_asked_twice_gives_the_same_job(phone, office, base, call):
    upload = await begin(phone, base, call)
    await append(phone, upload, 0)
    first, second = await finalize(phone, upload, 1), await finalize(phone, upload, 1)
    assert first.json() == second.json()
    assert len(office.rows("select * from oban_jobs")) == 1


async def test_a_finalized_upload_takes_no_more_chunks(phone, base, call):
    upload = await begin(phone, base, call)
    await append(phone, upload, 0)
    await done(phone, await finalize(phone, upload, 1))
    late = await append(phone, upload, 1)
    assert (late.status_code, code(late)) == (409, "upload_closed")


async def test_an_unknown_upload_is_not_found(phone, base):
    assert (await append(phone, f"{base}/uploads/{'x' * 22}", 0)).status_code == 404
    assert (await append(phone, f"{base}/uploads/..%2f..%2fx", 0)).status_code == 404


async def test_a_body_that_says_too_little_is_refused(phone, base):
    bodies = [b"", b"[]", b"{", b'{"call_log_id": 7, "filename": "x.aac"}', b'{"filename": "x.aac"}']

    for body in bodies:
        answer = await phone.client.post(f"{base}/uploads", content=body)
        assert (answer.status_code, code(answer)) == (400, "validation_error")


async def test_a_number_of_chunks_that_cannot_be_is_refused(phone, base, call):
    upload = await begin(phone, base, call)

    for expected in (0, -1, 10_001, True, "5", None):
        assert code(await finalize(phone, upload, expected)) == "validation_error"


async def test_other_kinds_of_files_are_refused(phone, office, base, call):
    asked = {"call_log_id": call, "filename": "virus.exe"}
    assert (await phone.client.post(f"{base}/uploads", json=asked)).status_code == 415
    answer = await phone.client.post(base, data={"call_log_id": call}, files={"file": ("x.exe", b"x")})
    assert answer.status_code == 415
    assert office.rows("select * from oban_jobs") == []


async def test_a_chunk_beyond_the_limit_is_refused(phone, office, base, call):
    upload = await begin(phone, base, call)
    answer = await append(phone, upload, 0, bytes(office.crm.settings.largest_chunk + 1))
    assert (answer.status_code, code(answer)) == (413, "too_large")


async def test_calls_are_logged_for_own_leads_only(phone, office, let_in, base):
    address = base.replace("recordings", "calls")
    busy = {"outcome": "busy", "duration_seconds": 0}
    answer = await phone.client.post(address, json=busy)
    assert answer.status_code == 201
    (stored,) = office.rows(call_logs.select().where(call_logs.c.id == answer.json()["call_log_id"]))
    assert stored.outcome == "busy"
    for wrong in ({"outcome": "asleep", "duration_seconds": 0}, {"outcome": "busy", "duration_seconds": -1}):
        assert (await phone.client.post(address, json=wrong)).status_code == 400

    await hold(phone, let_in(office.telecallers[1]))
    assert (
        await phone.client.post(address, json={"outcome": "busy", "duration_seconds": 0})
    ).status_code == 403


async def test_a_call_without_a_recording_has_none(phone, base, call):
    answer = await phone.client.get(f"{base}/{call}")
    assert (answer.status_code, code(answer)) == (404, "no_recording")


async def test_nothing_is_done_without_a_token(visitor, base, call):
    for headers in ({}, {"authorization": "Bearer guessed"}, {"authorization": "Basic eDp5"}):
        answer = await visitor.client.post(f"{base}/uploads", json={}, headers=headers)
        assert (answer.status_code, code(answer)) == (401, "login_needed")


async def test_a_telecallers_pages_lead_from_the_leads_to_a_heard_recording(visitor, office, let_in, call):
    lead = office.lead_of(call)
    await visitor.log_in(let_in(office.telecallers[0]))
    assert f"/leads/{lead}" in (await visitor.client.get("/leads")).text
    page = f"/leads/{lead}"
    await visitor.send(f"{page}/calls", page=page, outcome="connected", minutes="2.5")
    assert "2 min 30 s" in (await visitor.client.get(page)).text
    sent = await visitor.send(f"{page}/calls/{call}/recording", page=page, files={"file": ("x.wav", WHOLE)})
    assert sent.status_code == 303

    async with asyncio.timeout(PATIENCE):
        while "<audio" not in (text := (await visitor.client.get(page)).text):
            await asyncio.sleep(0.02)

    assert f'src="/api/leads/{lead}/recordings/{call}"' in text
    assert (await visitor.client.get(f"/api/leads/{lead}/recordings/{call}")).content == WHOLE


async def test_a_call_without_a_length_is_refused_on_its_page(visitor, office, let_in, call):
    page = f"/leads/{office.lead_of(call)}"
    await visitor.log_in(let_in(office.telecallers[0]))
    answer = await visitor.send(f"{page}/calls", page=page, outcome="connected", minutes="soon")
    assert answer.status_code == 422
