"""The admins' pages, with the queues running behind them."""

import csv
import io
import threading
from datetime import timedelta

import pytest

from education_crm.queues import open_queues
from education_crm.workers import CsvImportWorker, csv_import_worker

FOUR = 'name,phone\nAsha,9876543210\nRavi,+91 98765 43211\n=cmd(),12345\n"<b>Uma</b>",\n'


@pytest.fixture
async def admin(visitor, office, let_in):
    await visitor.log_in(let_in(office.admin))
    return visitor


async def upload(person, office, content=FOUR, name="leads.csv", **changes):
    fields = {"branch_id": office.branch, "telecaller_ids": office.telecallers[:2], **changes}
    page = f"/imports/new?branch_id={office.branch}"
    return await person.send("/imports", page=page, files={"file": (name, content, "text/csv")}, **fields)


async def finished(person, address):
    return await person.until(f"{address}/status", lambda status: status["finished"])


async def test_a_file_gets_a_job_at_once_and_its_result_is_shown_when_it_is_there(admin, office):
    answer = await upload(admin, office)
    assert answer.status_code == 303
    assert (await admin.client.get(answer.headers["location"])).status_code == 200
    status = await finished(admin, answer.headers["location"])
    assert (status["state"], status["total"], status["successful"], status["failed"]) == (
        "completed",
        4,
        2,
        2,
    )
    page = (await admin.client.get(answer.headers["location"])).text
    assert "Leads created" in page
    assert "The phone number is missing." in page
    assert "&lt;b&gt;Uma&lt;/b&gt;" in page
    assert list(office.crm.settings.imports.iterdir()) == []
    assert "leads.csv" in (await admin.client.get("/imports")).text


async def test_progress_is_told_before_the_transaction_opens_and_shown_on_the_page(
    admin, office, monkeypatch
):
    reached, go_on = threading.Event(), threading.Event()
    save = csv_import_worker._save

    def wait_then_save(*args):
        reached.set()
        assert go_on.wait(30)
        save(*args)

    monkeypatch.setattr(csv_import_worker, "_save", wait_then_save)
    address = (await upload(admin, office)).headers["location"]

    try:
        status = await admin.until(f"{address}/status", lambda status: status.get("progress"))
        assert reached.is_set()
        assert status["state"] == "executing"
        assert status["progress"] == {"current": 4, "total": 4, "note": "saving"}
        assert "saving: 4 of about 4 rows" in (await admin.client.get(address)).text
        assert "leads.csv" in (await admin.client.get("/imports")).text
    finally:
        go_on.set()

    assert (await finished(admin, address))["state"] == "completed"


async def test_a_program_gets_202_and_the_job(admin, office):
    admin.client.headers["accept"] = "application/json"
    token = await admin.form_token("/imports/new?branch_id=" + office.branch)
    fields = {"csrf_token": token, "branch_id": office.branch, "telecaller_ids": office.telecallers}
    answer = await admin.client.post("/imports", data=fields, files={"file": ("x.csv", FOUR)})
    assert answer.status_code == 202
    assert answer.json()["url"] == f"/imports/{answer.json()['job_id']}"
    await finished(admin, answer.json()["url"])


async def test_leads_are_dealt_out_in_the_order_of_the_clicks(admin, office):
    first, second, third = office.telecallers
    order = [third, first, second]
    answer = await upload(admin, office, telecaller_ids=office.telecallers, order=",".join(order))
    await finished(admin, answer.headers["location"])
    assert [lead.telecaller_id for lead in office.leads()] == order[:2]


async def test_the_report_is_a_csv_file_without_formulas(admin, office):
    answer = await upload(admin, office)
    await finished(admin, answer.headers["location"])
    report = await admin.client.get(answer.headers["location"] + "/failed-rows.csv")
    assert report.headers["content-type"].startswith("text/csv")
    assert report.headers["content-disposition"].startswith("attachment")
    rows = list(csv.reader(io.StringIO(report.content.decode("utf-8-sig"), newline="")))
    assert [(row[0], row[1], row[3]) for row in rows[1:]] == [
        ("4", "'=cmd()", "phone_invalid"),
        ("5", "<b>Uma</b>", "phone_required"),
    ]


async def test_a_file_that_is_no_list_of_leads_says_why(admin, office):
    answer = await upload(admin, office, content="x,y\n1,2\n")
    status = await finished(admin, answer.headers["location"])
    assert status["state"] == "cancelled"
    page = (await admin.client.get(answer.headers["location"])).text
    assert "missing_name_column" in page
    assert "Nothing was imported" in page


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "leads.xlsx"}, "must be a CSV file"),
        ({"name": ""}, "Choose a CSV file"),
        ({"telecaller_ids": []}, "Choose at least one telecaller"),
    ],
)
async def test_what_is_missing_is_said_on_the_form_and_nothing_is_kept(admin, office, changes, complaint):
    answer = await upload(admin, office, **changes)
    assert answer.status_code == 422
    assert complaint in answer.text
    assert list(office.crm.settings.imports.iterdir()) == []
    assert office.rows("select * from oban_jobs") == []


async def test_a_file_beyond_the_limit_is_refused(admin, office):
    answer = await upload(admin, office, content="x" * 10_100_000)
    assert answer.status_code == 413
    assert office.rows("select * from oban_jobs") == []


async def test_a_form_from_elsewhere_is_refused(admin, office):
    fields = {"branch_id": office.branch, "telecaller_ids": office.telecallers, "csrf_token": "guessed"}
    answer = await admin.client.post("/imports", data=fields, files={"file": ("x.csv", FOUR)})
    assert answer.status_code == 403
    assert "expired" in answer.text
    assert office.rows("select * from oban_jobs") == []


async def test_nobody_sees_a_page_without_logging_in(visitor):
    for page in ("/", "/imports", "/imports/new", "/imports/1", "/leads"):
        answer = await visitor.client.get(page)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")


async def test_programs_without_a_login_get_401(visitor):
    answer = await visitor.client.get("/imports/1/status", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "login_needed")


async def test_telecallers_do_not_import(visitor, office, let_in):
    await visitor.log_in(let_in(office.telecallers[0]))
    assert (await visitor.client.get("/imports/new")).status_code == 403


async def test_a_wrong_password_lets_nobody_in(visitor, office, let_in):
    username = let_in(office.admin)
    answer = await visitor.log_in(username, "wrong")
    assert answer.status_code == 422
    assert "nobody with this name and password" in answer.text
    assert (await visitor.client.get("/imports")).status_code == 303


async def test_somebody_who_was_made_inactive_is_out_at_once(visitor, office, let_in):
    assert (await visitor.log_in(let_in(office.inactive))).status_code == 422


async def test_logging_out_ends_the_session(admin):
    await admin.send("/logout", page="/imports")
    assert (await admin.client.get("/imports")).status_code == 303


async def test_an_unknown_import_is_not_found(admin):
    assert (await admin.client.get("/imports/4711")).status_code == 404
    assert (await admin.client.get("/nowhere")).status_code == 404


async def test_an_import_cancelled_while_it_waited_has_ended(admin, office):
    staffa = open_queues(office.crm.settings.database_url)
    later = CsvImportWorker.using(instance=staffa, schedule_in=timedelta(hours=1))
    job = await later.aenqueue(**office.args(office.csv(FOUR)))
    await staffa.acancel(job.id)
    status = (await admin.client.get(f"/imports/{job.id}/status")).json()
    assert (status["state"], status["finished"]) == ("cancelled", True)
    assert (await admin.client.get(f"/imports/{job.id}")).status_code == 200
    staffa.close()


async def test_odd_addresses_break_nothing(admin):
    for address in ("/imports/99999999999999999999", "/leads/%00", "/imports/new?branch_id=%00"):
        assert (await admin.client.get(address)).status_code in {200, 404}


async def test_odd_names_break_nothing(visitor):
    assert (await visitor.log_in("a\0b", "\0")).status_code == 422
    odd = b'{"username": "\\ud800", "password": "\\ud800"}'
    assert (await visitor.client.post("/api/login", content=odd)).status_code == 400
    odd = b'{"username": "somebody", "password": "\\ud800"}'
    assert (await visitor.client.post("/api/login", content=odd)).status_code == 400


async def test_browsers_are_told_to_load_nothing_from_elsewhere(visitor):
    headers = (await visitor.client.get("/login")).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "httponly" in headers["set-cookie"].lower()
    assert "samesite=lax" in headers["set-cookie"].lower()
