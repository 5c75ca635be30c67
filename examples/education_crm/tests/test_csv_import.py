"""What an import promises, each on both databases, the jobs stored and drained as a queue would run them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, insert, update
from sqlalchemy.exc import OperationalError

from education_crm import crm as process
from education_crm import imports
from education_crm.clock import utc_now
from education_crm.crm import Crm
from education_crm.csv_leads import MAX_ROWS
from education_crm.import_report import report_lines
from education_crm.schema import import_logs, leads, new_id, users
from education_crm.workers import CsvImportWorker

FOUR = "name,phone\nAsha,9876543210\nRavi,+91 98765 43211\nUma,09876543212\nZoya,98765-43213\n"
SAMPLE = Path(__file__).parents[1] / "data" / "leads-10000.csv"


def phones(count, first=6_000_000_000):
    return range(first, first + count)


def many(count):
    return "name,phone\n" + "".join(f"Student {number},{number}\n" for number in phones(count))


@pytest.fixture
def run(queue, office):
    """Import a file's content and give back the job as it ended."""

    def run(content=FOUR, **changes):
        path = changes.pop("path", None) or office.csv(content)
        job = queue.finish(CsvImportWorker, office.args(path, **changes))
        return job, path

    return run


def the_log(office):
    (log,) = office.rows(import_logs.select())
    return log


def assert_cancelled(office, job, code):
    """Cancelled at once, nothing imported, and the admins are told why."""
    assert (job.state, job.attempt) == ("cancelled", 1)
    assert job.errors[-1]["error"].startswith(f"{code}: ")
    assert office.leads() == []
    log = the_log(office)
    assert (log.status, log.error_code) == ("cancelled", code)
    assert (log.total_rows, log.successful_rows, log.failed_rows) == (0, 0, 0)


def assert_four_leads(office, job, path):
    assert job.state == "completed"
    assert [lead.student_name for lead in office.leads()] == ["Asha", "Ravi", "Uma", "Zoya"]
    assert not path.exists()


def test_c1_four_good_rows_become_leads_dealt_out_in_turn(run, office):
    job, path = run()
    assert_four_leads(office, job, path)
    first, second = office.telecallers[:2]
    made = office.leads()
    assert [lead.telecaller_id for lead in made] == [first, second, first, second]
    assert [lead.phone_e164 for lead in made] == [f"+9198765432{last}" for last in (10, 11, 12, 13)]
    assert [lead.phone_number for lead in made][1] == "+91 98765 43211"
    assert {(lead.status, lead.call_count, lead.branch_id) for lead in made} == {("new", 0, office.branch)}
    assert all(lead.assigned_at for lead in made)
    log = the_log(office)
    assert (log.total_rows, log.successful_rows, log.failed_rows) == (4, 4, 0)
    assert log.error_details is None
    assert (log.status, log.job_id, log.filename) == ("completed", job.id, "leads.csv")


def test_c2_ten_rows_for_three_telecallers_are_4_3_3_in_the_order_given(run, office):
    third, first, second = office.telecallers
    run(many(10), telecaller_ids=[third, first, second])
    dealt = [lead.telecaller_id for lead in office.leads()]
    assert dealt == [third, first, second] * 3 + [third]
    assert the_log(office).distribution == [
        {"telecaller_id": third, "leads": 4},
        {"telecaller_id": first, "leads": 3},
        {"telecaller_id": second, "leads": 3},
    ]


def test_c3_headers_in_any_order_and_case_make_no_difference(run, office):
    rows = [line.split(",") for line in FOUR.splitlines()[1:]]
    content = "Phone Number , Extra, STUDENT NAME \n" + "".join(f"{phone},x,{name}\n" for name, phone in rows)
    job, path = run(content)
    assert_four_leads(office, job, path)


def test_c4_bad_rows_fail_with_their_reasons_and_the_others_are_imported(run, office):
    job, _ = run("name,phone\nAsha,9876543210\n,9876543211\nUma,\nZoya,12345\n")
    log = the_log(office)
    assert job.state == "completed"
    assert len(office.leads()) == 1
    assert (log.total_rows, log.successful_rows, log.failed_rows) == (4, 1, 3)
    assert [(row["row"], row["codes"]) for row in log.error_details["errors"]] == [
        (3, ["name_required"]),
        (4, ["phone_required"]),
        (5, ["phone_invalid"]),
    ]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("phone,x", "missing_name_column"),
        ("name,x", "missing_phone_column"),
        ("x,y", "missing_name_column"),
    ],
)
def test_c5_a_missing_column_cancels_the_import_and_says_which(run, office, header, code):
    job, path = run(f"{header}\nAsha,9876543210\n")
    assert_cancelled(office, job, code)
    assert not path.exists()


def test_c6_a_missing_file_cancels_the_import(run, office):
    job, _ = run(path=office.crm.settings.imports / "never.csv")
    assert_cancelled(office, job, "file_not_found")


def test_c7_a_file_outside_the_temporary_folder_is_neither_read_nor_removed(run, office, tmp_path):
    outside = tmp_path / "outside.csv"
    outside.write_text(FOUR)
    job, _ = run(path=outside)
    assert_cancelled(office, job, "outside_temp_root")
    assert outside.exists()


def test_c7_a_link_that_leads_outside_is_refused_too(run, office, tmp_path):
    outside = tmp_path / "outside.csv"
    outside.write_text(FOUR)
    link = office.crm.settings.imports / "link.csv"
    link.symlink_to(outside)
    job, _ = run(path=link)
    assert_cancelled(office, job, "outside_temp_root")
    assert outside.exists()


def test_c7_a_folder_is_no_file(run, office):
    job, _ = run(path=office.crm.settings.imports)
    assert_cancelled(office, job, "not_a_file")


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf" + FOUR.replace("\n", "\r\n").encode(), FOUR.encode("utf-16")],
    ids=["utf-8 with bom and crlf", "utf-16 with bom"],
)
def test_c8_encodings_make_no_difference(run, office, content):
    job, path = run(content)
    assert_four_leads(office, job, path)


def test_c8_latin_1_is_cancelled_unless_a_fallback_is_configured(run, office):
    content = "name,phone\nJosé,9876543210\n".encode("cp1252")
    job, _ = run(content)
    assert_cancelled(office, job, "invalid_encoding")

    process.install(Crm(replace(office.crm.settings, fallback_encoding="cp1252"), office.crm.database))
    job, _ = run(content)
    assert job.state == "completed"
    assert [lead.student_name for lead in office.leads()] == ["José"]


@pytest.mark.parametrize(
    "content", [b"", b"name,phone\n", b"\n \n"], ids=["zero bytes", "header only", "blank"]
)
def test_c10_an_empty_file_completes_with_zero_rows(run, office, content):
    job, path = run(content)
    log = the_log(office)
    assert (job.state, log.status) == ("completed", "completed")
    assert (log.total_rows, log.successful_rows, log.failed_rows) == (0, 0, 0)
    assert office.leads() == []
    assert not path.exists()


def test_c10_blank_lines_are_ignored_and_row_numbers_stay_those_of_the_file(run, office):
    run("name,phone\n\nAsha,9876543210\n,,\n\nUma,bad\n")
    log = the_log(office)
    assert (log.total_rows, log.successful_rows, log.failed_rows) == (2, 1, 1)
    assert log.error_details["errors"][0]["row"] == 6
    assert office.leads()[0].import_row == 3


def test_c11_no_telecallers_cancels_the_job_and_is_refused_where_it_is_enqueued(run, office):
    job, path = run(telecaller_ids=[])
    assert_cancelled(office, job, "no_telecallers")
    assert not path.exists()

    with pytest.raises(ValueError, match="telecaller_ids must name at least one"):
        CsvImportWorker.enqueue(**office.args("/tmp/x.csv", telecaller_ids=[]))


@pytest.mark.parametrize("whose", ["unknown", "inactive", "elsewhere", "admin"])
def test_c11_a_telecaller_who_cannot_take_leads_of_the_branch_cancels_the_import(run, office, whose):
    stranger = "nobody-has-this-id" if whose == "unknown" else getattr(office, whose)
    job, _ = run(telecaller_ids=[office.telecallers[0], stranger])
    assert_cancelled(office, job, "telecaller_not_available")
    assert stranger in job.errors[-1]["error"]


def test_c11_a_telecaller_named_twice_gets_one_share(run, office):
    first, second = office.telecallers[:2]
    run(telecaller_ids=[first, first, second])
    assert [lead.telecaller_id for lead in office.leads()] == [first, second, first, second]


@pytest.mark.parametrize("which", ["missing", "closed"])
def test_c12_a_branch_that_is_missing_or_closed_cancels_the_import(run, office, which):
    job, _ = run(branch_id="no-such-branch" if which == "missing" else office.closed_branch)
    assert_cancelled(office, job, "branch_not_available")
    assert the_log(office).branch_id == (None if which == "missing" else office.closed_branch)


@pytest.mark.parametrize("who", ["missing", "telecaller", "inactive admin"])
def test_c12_an_admin_who_is_none_cancels_the_import(run, office, who):
    if who == "inactive admin":
        with office.crm.database.write() as connection:
            connection.execute(update(users).where(users.c.id == office.admin).values(active=False))

    admin = {"missing": "no-such-user", "telecaller": office.telecallers[0], "inactive admin": office.admin}[
        who
    ]
    job, _ = run(admin_id=admin)
    assert_cancelled(office, job, "admin_not_available")


def test_a_duplicate_in_the_file_fails_and_names_the_first_row(run, office):
    run("name,phone\nAsha,9876543210\nUma,+91 98765-43210\n")
    log = the_log(office)
    assert (log.successful_rows, log.failed_rows) == (1, 1)
    assert log.error_details["errors"] == [
        {"row": 3, "codes": ["duplicate_in_file"], "name": "Uma", "phone": "+91 98765-43210", "first_row": 2}
    ]


def test_a_lead_of_the_branch_fails_and_the_others_are_still_dealt_out_evenly(run, office):
    known = {"id": new_id(), "branch_id": office.branch, "student_name": "Uma", "phone_number": "9876543210"}

    with office.crm.database.write() as connection:
        connection.execute(insert(leads).values(**known, phone_e164="+919876543210", inserted_at=utc_now()))

    run()
    log = the_log(office)
    assert (log.total_rows, log.successful_rows, log.failed_rows) == (4, 3, 1)
    assert log.error_details["errors"] == [
        {"row": 2, "codes": ["lead_exists"], "name": "Asha", "phone": "9876543210"}
    ]
    first, second = office.telecallers[:2]
    assert [lead.telecaller_id for lead in office.leads() if lead.import_row] == [first, second, first]


def test_another_branch_may_have_the_same_number(run, office):
    run()
    job, _ = run(branch_id=office.other_branch, telecaller_ids=[office.elsewhere])
    assert job.state == "completed"
    assert len(office.leads()) == 8


def test_the_same_file_again_imports_nothing_again(run, office):
    run()
    job, _ = run()
    assert job.state == "completed"
    assert len(office.leads()) == 4
    assert sorted((log.successful_rows, log.failed_rows) for log in office.rows(import_logs.select())) == [
        (0, 4),
        (4, 0),
    ]


def test_c16_ten_thousand_rows_for_seven_telecallers_are_balanced(run, office, report_time):
    with office.crm.database.write() as connection:
        more = [
            {
                "id": new_id(),
                "username": f"more-{number}",
                "full_name": "x",
                "password_hash": "x",
                "role": "telecaller",
                "branch_id": office.branch,
            }
            for number in range(4)
        ]
        connection.execute(insert(users), more)

    seven = [*office.telecallers, *(one["id"] for one in more)]

    with report_time("10,000 rows"):
        job, _ = run(many(10_000), telecaller_ids=seven)

    assert job.state == "completed"
    log = the_log(office)
    assert [share["leads"] for share in log.distribution] == [1429, 1429, 1429, 1429, 1428, 1428, 1428]
    dealt = [lead.telecaller_id for lead in office.leads()]
    assert [dealt.count(one) for one in seven] == [1429, 1429, 1429, 1429, 1428, 1428, 1428]
    assert log.successful_rows == 10_000


def test_c16_the_bundled_sample_is_imported_with_every_row_counted(run, office, report_time):
    with report_time("the sample"):
        job, _ = run(SAMPLE.read_bytes())

    log = the_log(office)
    assert job.state == "completed"
    assert (log.total_rows, log.successful_rows, log.failed_rows) == (10_000, 9_700, 300)


def test_a_file_with_too_many_rows_is_cancelled(run, office):
    job, _ = run("name,phone\n" + "a,1\n" * (MAX_ROWS + 1))
    assert_cancelled(office, job, "too_large")


@pytest.fixture
def break_database(office):
    """Make the database fail where the leads are inserted, as often as asked."""
    left = {"times": 0}

    def fail(_connection, _cursor, statement, *_):
        if statement.startswith("INSERT INTO leads") and left["times"]:
            left["times"] -= 1
            raise OperationalError(statement, {}, Exception("the server closed the connection unexpectedly"))

    engine = office.crm.database.engine
    event.listen(engine, "before_cursor_execute", fail)
    yield lambda times: left.update(times=times)
    event.remove(engine, "before_cursor_execute", fail)


def test_c19_a_database_error_is_retried_with_the_file_kept_until_it_works(queue, office, break_database):
    break_database(2)
    path = office.csv(many(2_500))
    job = queue.insert(CsvImportWorker, office.args(path))

    for attempt in (1, 2):
        job = queue.run_once(job)
        assert (job.state, job.attempt) == ("retryable", attempt)
        assert "server closed the connection" in job.errors[-1]["error"]
        assert path.exists()
        assert office.leads() == []
        assert office.rows(import_logs.select()) == []

    job = queue.run_once(job)
    assert (job.state, job.attempt) == ("completed", 3)
    assert len(office.leads()) == 2_500
    assert the_log(office).status == "completed"
    assert not path.exists()


def test_c19_an_import_that_fails_three_times_is_given_up_and_the_admins_are_told(
    queue, office, break_database
):
    break_database(3)
    path = office.csv(FOUR)
    job = queue.insert(CsvImportWorker, office.args(path))

    for _ in range(3):
        job = queue.run_once(job)

    assert (job.state, job.attempt) == ("discarded", 3)
    assert office.leads() == []
    assert not path.exists()
    log = the_log(office)
    assert (log.status, log.error_code) == ("failed", "attempts_used_up")
    assert "server closed the connection" in log.error_message

    queue.staffa.retry(job.id)
    job = queue.run_once(job)
    assert job.state == "cancelled"
    assert job.errors[-1]["error"].startswith("file_not_found: ")
    assert the_log(office).status == "failed"


def test_an_import_retried_by_hand_with_its_file_back_succeeds_and_replaces_the_log(
    queue, office, break_database
):
    break_database(3)
    path = office.csv(FOUR)
    job = queue.insert(CsvImportWorker, office.args(path))

    for _ in range(3):
        job = queue.run_once(job)

    path.write_text(FOUR)
    queue.staffa.retry(job.id)
    job = queue.run_once(job)
    assert_four_leads(office, job, path)
    assert (the_log(office).status, the_log(office).successful_rows) == ("completed", 4)


@pytest.mark.parametrize("key", imports.KEYS)
def test_c22_missing_arguments_cancel_the_import(queue, office, key):
    args = office.args(office.csv(FOUR))
    del args[key]
    job = queue.finish(CsvImportWorker, args)
    assert_cancelled(office, job, "bad_args")
    assert key in job.errors[-1]["error"]


@pytest.mark.parametrize(
    "change", [{"filename": 7}, {"telecaller_ids": "tc"}, {"branch_id": None}, {"file_path": ""}]
)
def test_c22_arguments_of_the_wrong_kind_cancel_the_import(run, office, change):
    job, _ = run(**change) if "file_path" not in change else (None, None)

    if job:
        assert_cancelled(office, job, "bad_args")


def test_c23_a_formula_is_stored_as_text_and_escaped_in_the_report(run, office):
    run("name,phone\n=cmd(),9876543210\n=cmd(),12345\n")
    assert office.leads()[0].student_name == "=cmd()"
    lines = list(report_lines(the_log(office).error_details["errors"]))
    assert lines[1].startswith("3,'=cmd(),12345,phone_invalid,")


def test_a_job_that_runs_again_after_its_commit_inserts_nothing(queue, office):
    path = office.csv(FOUR)
    job = queue.finish(CsvImportWorker, office.args(path))
    path.write_text(FOUR)
    queue.staffa.retry(job.id)
    job = queue.run_once(job)
    assert_four_leads(office, job, path)
    assert len(office.rows(import_logs.select())) == 1


def test_hooks_may_repeat(queue, office):
    path = office.csv("x,y\n1,2\n")
    job = queue.finish(CsvImportWorker, office.args(path))
    CsvImportWorker().on_cancelled(job)
    CsvImportWorker().on_discarded(job)
    assert the_log(office).status == "cancelled"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"file_path": "leads.csv"}, ValueError, "absolute"),
        ({"file_path": 7}, TypeError, "file_path must be text"),
        ({"telecaller_ids": "tc1"}, TypeError, "list of ids"),
        ({"telecaller_ids": [7]}, TypeError, "telecaller_ids must be text"),
        ({"telecaller_ids": [""]}, ValueError, "telecaller_ids must not be empty"),
        ({"branch_id": None}, TypeError, "branch_id must be text"),
        ({"admin_id": ""}, ValueError, "admin_id must not be empty"),
        ({"filename": b"x"}, TypeError, "filename must be text"),
    ],
)
def test_what_cannot_be_an_import_is_refused_where_it_is_enqueued(queue, office, change, error, words):
    with pytest.raises(error, match=words):
        CsvImportWorker.enqueue(**office.args("/tmp/x.csv", **change))

    assert queue.jobs() == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_c16_a_hundred_thousand_rows_take_little_memory(crm, office, capsys):
    path = office.csv(many(MAX_ROWS))
    told = [crm.settings.database_url, str(crm.settings.temp_root), json.dumps(office.args(path))]
    ended = subprocess.run([sys.executable, "-c", ALONE, *told], check=True, capture_output=True, text=True)
    leads_made, seconds, kibibytes = json.loads(ended.stdout)
    assert leads_made == MAX_ROWS
    assert kibibytes < 500 * 1024

    with capsys.disabled():
        print(f"\n  100,000 rows: {seconds:.1f} s, {kibibytes // 1024} MiB at most")


ALONE = f"""
import json, resource, sys, time
from pathlib import Path
sys.path.insert(0, {str(SAMPLE.parents[1])!r})
from education_crm import crm as process
from education_crm.crm import Crm
from education_crm.settings import Settings
from education_crm.workers import CsvImportWorker
from sqlalchemy import text

url, temp, args = sys.argv[1:]
crm = Crm.open(Settings(database_url=url, temp_root=Path(temp)))
process.install(crm)
began = time.perf_counter()
assert CsvImportWorker().perform(CsvImportWorker.new(**json.loads(args))) is None
seconds = time.perf_counter() - began
with crm.database.read() as connection:
    leads = connection.execute(text("select count(*) from leads")).scalar_one()
print(json.dumps([leads, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
