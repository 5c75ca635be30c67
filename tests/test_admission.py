"""What may enter the table."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from staffa import Job, State
from staffa._admission import admitted, all_admitted
from staffa.errors import InvalidArguments, InvalidJob, JobError

INDIA = timezone(timedelta(hours=5, minutes=30))
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def refused(**fields) -> str:
    with pytest.raises(JobError) as refusal:
        admitted(Job(**{"worker": "app.Mail", **fields}))
    return str(refusal.value)


def test_a_plain_job_is_admitted_as_it_is():
    job = Job(worker="app.Mail", args={"id": 1}, meta={"by": "x"}, tags=["a"], queue="mail", priority=9)
    assert admitted(job) == job


def test_what_is_stored_is_a_copy():
    args, meta, tags = {"ids": [1]}, {"by": {}}, ["a"]
    job = admitted(Job(worker="app.Mail", args=args, meta=meta, tags=tags))
    args["ids"].append(2)
    meta["by"]["x"] = 1
    tags.append("b")
    assert (job.args, job.meta, job.tags) == ({"ids": [1]}, {"by": {}}, ["a"])


def test_tags_are_trimmed_lowered_and_without_doubles():
    job = admitted(Job(worker="app.Mail", tags=[" New ", "new", "", "  ", "VIP"]))
    assert job.tags == ["new", "vip"]


def test_instants_are_kept_in_utc():
    job = admitted(Job(worker="app.Mail", scheduled_at=NOON.astimezone(INDIA)))
    assert job.scheduled_at == NOON
    assert job.scheduled_at.tzinfo is UTC


@pytest.mark.parametrize("state", [State.AVAILABLE, State.SCHEDULED, State.SUSPENDED])
def test_new_jobs_may_wait_in_three_states(state: State):
    assert admitted(Job(worker="app.Mail", state=state)).state is state


@pytest.mark.parametrize(
    "state", [State.EXECUTING, State.RETRYABLE, State.COMPLETED, State.DISCARDED, State.CANCELLED]
)
def test_new_jobs_cannot_be_in_the_other_states(state: State):
    assert refused(state=state) == f"a new job cannot be {state}"


@pytest.mark.parametrize("option", ["worker", "queue"])
@pytest.mark.parametrize("name", ["", "x" * 128, None, 7, "a\0b", "\ud800"], ids=repr)
def test_names_are_texts_that_fit(option: str, name):
    assert refused(**{option: name}) == f"{option} must be text of 1 to 127 characters, not {name!r}"


def test_the_longest_name_fits():
    assert admitted(Job(worker="x" * 127)).worker == "x" * 127


@pytest.mark.parametrize("priority", [-1, 10, 1.0, True, "1", None], ids=repr)
def test_priorities_go_from_zero_to_nine(priority):
    assert refused(priority=priority) == f"priority must be a whole number from 0 to 9, not {priority!r}"


@pytest.mark.parametrize("max_attempts", [0, -1, 2**31, 1.5, True, None], ids=repr)
def test_a_job_has_at_least_one_attempt(max_attempts):
    assert refused(max_attempts=max_attempts).startswith(
        f"max_attempts must be a whole number from 1 to {2**31 - 1}, not "
    )


@pytest.mark.parametrize("tags", ["abc", [1], None, 5, ["a\0"], ["\udfff"]], ids=repr)
def test_tags_are_a_list_of_texts(tags):
    assert refused(tags=tags) == f"tags must be a list of texts, not {tags!r}"


@pytest.mark.parametrize("at", ["2026-05-01", 17, datetime(2026, 5, 1)], ids=repr)  # noqa: DTZ001 - that is the point
def test_an_instant_needs_a_time_zone(at):
    assert refused(scheduled_at=at) == f"scheduled_at must be a datetime with a time zone, not {at!r}"


def test_an_instant_must_be_one_in_utc_too():
    beyond = datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))
    assert refused(scheduled_at=beyond).startswith("scheduled_at is beyond what a date can hold in UTC: ")


@pytest.mark.parametrize("delay", [5, 5.0, "5s"], ids=repr)
def test_a_delay_is_a_timedelta(delay):
    assert refused(schedule_in=delay) == f"schedule_in must be a timedelta, not {delay!r}"


@pytest.mark.parametrize("delay", [timedelta.max, timedelta.min])
def test_a_delay_has_a_limit(delay: timedelta):
    assert refused(schedule_in=delay) == f"schedule_in must be less than a thousand years, not {delay}"


def test_a_time_is_given_once():
    assert (
        refused(schedule_in=timedelta(1), scheduled_at=NOON) == "give schedule_in or scheduled_at, not both"
    )


def test_only_jobs_are_stored():
    with pytest.raises(InvalidJob, match="only jobs can be stored"):
        admitted("app.Mail")  # type: ignore[arg-type]


def test_a_stored_job_is_not_stored_again():
    assert refused(id=7) == "job 7 is stored already; build a new one with Worker.new(...)"


def test_args_and_meta_are_objects_of_json():
    assert refused(args=[1]) == "args must be an object with string keys, not list"
    assert refused(meta=None) == "meta must be an object with string keys, not NoneType"
    assert refused(meta={"at": NOON}).startswith("meta['at'] is a datetime, which JSON cannot hold: ")


def test_refusals_are_also_python_s_own_errors():
    with pytest.raises(ValueError, match="priority") as refusal:
        admitted(Job(worker="app.Mail", priority=10))
    assert isinstance(refusal.value, InvalidJob)
    with pytest.raises(TypeError, match="args") as refusal:
        admitted(Job(worker="app.Mail", args={1: 2}))
    assert isinstance(refusal.value, InvalidArguments)


# Many at once


def test_jobs_admitted_together_are_what_each_would_be_alone():
    jobs = [
        Job(worker="app.Mail", args={"id": 1}),
        Job(worker="app.Mail", args={"id": 2}, tags=[" A "], meta={"by": "x"}),
        Job(worker="app.Mail", args={"id": 3}, unique=True),
        Job(worker="app.Mail", args={"id": 4}, scheduled_at=NOON.astimezone(INDIA)),
        Job(worker="app.Mail", args={"id": 5}),
    ]
    assert all_admitted(jobs) == [admitted(job) for job in jobs]
    assert all_admitted([]) == []


WRONG = [{"priority": True}, {"queue": ""}, {"max_attempts": 0}, {"state": State.COMPLETED}, {"id": 7}]
WRONG += [{"schedule_in": 5}, {"unique": 5}, {"replace": ["args"]}, {"args": {"x": {1}}}, {"meta": None}]
WRONG += [{"tags": "x"}, {"worker": "\0"}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_job_is_refused_behind_others_as_it_is_alone(wrong: dict):
    job = Job(**{"worker": "app.Mail", **wrong})
    with pytest.raises(JobError) as refusal:
        all_admitted([*(Job(worker="app.Mail", args={"id": each}, priority=1) for each in range(3)), job])
    assert str(refusal.value) == refused(**wrong)


def test_what_is_no_job_is_refused_behind_jobs():
    with pytest.raises(InvalidJob, match="only jobs can be stored"):
        all_admitted([Job(worker="app.Mail"), "app.Mail"])


def test_jobs_that_share_a_list_are_stored_with_one_each():
    args, tags = {"ids": [1]}, ["a"]
    first, second = all_admitted([Job(worker="app.Mail", args=args, tags=tags)] * 2)
    first.args["ids"].append(2)
    first.tags.append("b")
    assert (second.args, second.tags, args, tags) == ({"ids": [1]}, ["a"], {"ids": [1]}, ["a"])
