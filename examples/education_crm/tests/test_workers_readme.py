"""The workers' README does what it says."""

import re
from pathlib import Path

import pytest
from sqlalchemy import text
from staffa import Staffa

import education_crm
from education_crm import uploads
from education_crm.clock import utc_now
from education_crm.queues import CONFIG, open_queues
from education_crm.schema import import_logs

README = (Path(education_crm.__file__).parent / "workers" / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_configuration_is_the_one_that_is_used():
    assert blocks("toml") == [CONFIG.read_text("utf-8")]


def test_the_limits_are_those_of_the_configuration():
    staffa = open_queues("sqlite://")
    assert {name: queue.limit for name, queue in staffa.queues.items()} == {
        "default": 10,
        "csv_import": 5,
        "recordings": 3,
    }
    assert "`csv_import`, 5 jobs at once" in README
    assert "`recordings`, 3 jobs at once" in README


def test_the_snippets_run(office, database_url):
    importing, recording, testing = blocks("python")
    call = office.call()
    csv = office.csv("name,phone\nAsha,9876543210\nUma,9876543211\n")
    sound = office.crm.settings.simple_uploads / "recording.aac"
    sound.write_bytes(b"in one file")

    with office.crm.database.write() as connection:
        upload_id = uploads.open_session(connection, office.crm.settings, call, "call.aac", utc_now())

    for index in range(5):
        chunk = uploads.store_chunk(office.crm.settings, upload_id, index, b"chunk")

        with office.crm.database.write() as connection:
            uploads.record_chunk(connection, upload_id, chunk)

    names = {
        "tc1_id": office.telecallers[0],
        "tc2_id": office.telecallers[1],
        "branch_id": office.branch,
        "admin_id": office.admin,
        "upload_id": upload_id,
        "call_log_id": call,
    }
    exec(testing, names)
    staffa = names["staffa"]
    assert isinstance(staffa, Staffa)

    with staffa.as_default():
        exec(importing.replace("/tmp/leads.csv", str(csv)), names)
        exec(recording.replace("/tmp/recording.aac", str(sound)), names)

    staffa.close()
    assert len(office.leads()) == 3
    assert office.rows(import_logs.select())[0].status == "completed"
    assert (office.crm.settings.recordings_root / office.recording_of(call)).read_bytes() == b"in one file"


@pytest.mark.parametrize("query", blocks("sql"))
def test_the_queries_run(queue, office, query):
    office.rows(text(query))
