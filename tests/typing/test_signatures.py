"""What type checkers see: a job keeps the signature of its function."""

from pathlib import Path

import pytest
from mypy import api

PRELUDE = """
from datetime import timedelta
from typing_extensions import assert_type

from staffa import Job, JobFilter, Staffa, Worker, job
from staffa._job import AnyJob
from staffa.testing import assert_enqueued, drain, perform_job


@job
def add(left: int, right: int = 1) -> int:
    return left + right


@job(queue="mail", max_attempts=5, backoff=lambda failed: failed.attempt * 2)
async def send(user_id: int, *, locale: str = "en") -> str:
    return locale


class Import(Worker, queue="imports", max_attempts=3):
    def perform(self, job: Job) -> None:
        print(job.args["path"])


async def use() -> None:
"""

RIGHT = """
    assert_type(add(1), int)
    assert_type(add(1, right=2), int)
    assert_type(await send(1, locale="hi"), str)
    assert_type(add.enqueue(1, 2), AnyJob)
    assert_type(add.new(left=1), AnyJob)
    assert_type(await send.aenqueue(user_id=1, locale="hi"), AnyJob)
    assert_type(add.using(priority=1, tags=["a"]).enqueue(1), AnyJob)
    assert_type(await send.using(schedule_in=timedelta(hours=1), connection=object()).aenqueue(1), AnyJob)
    add.using(instance=Staffa("sqlite://")).enqueue(1)
    Import.enqueue(path="a")
    Import.using(meta={"by": 1}, queue="other", max_attempts=2).enqueue({"path": "a"})
    await Import.aenqueue(path="a")
    staffa = Staffa("sqlite://", testing="manual")
    assert_type(drain(staffa, with_scheduled=True).completed, int)
    assert_type(assert_enqueued(staffa, worker=add, args={"left": 1}, timeout=1), AnyJob)
    perform_job(Import, {"path": "a"}, attempt=2)
    perform_job(add, {"left": 1})
    assert_type(staffa.jobs(workers=[Import, add, "w"], states="available", args={"a": 1}), list[AnyJob])
    assert_type(staffa.update(1, priority=1, tags=["a"]), AnyJob | None)
    assert_type(staffa.update_all(JobFilter(queues="mail"), lambda job: {"meta": job.meta}), list[int])
    assert_type(await staffa.acancel_all(queues=["mail"], connection=object()), list[int])
"""

WRONG = {
    'staffa.count(queue="mail")': 'Unexpected keyword argument "queue" for "count" of "JobCalls"',
    'staffa.update(1, state="completed")': 'Unexpected keyword argument "state" for "update" of "JobCalls"',
    'add("x")': 'Argument 1 to "__call__" of "JobFunction" has incompatible type "str"; expected "int"',
    "add()": 'Missing positional argument "left" in call to "__call__" of "JobFunction"',
    "add(1, wrong=2)": 'Unexpected keyword argument "wrong" for "__call__" of "JobFunction"',
    "(await send(1)).missing": '"str" has no attribute "missing"',
    'add.enqueue("x")': 'Argument 1 to "enqueue" of "JobFunction" has incompatible type "str"; expected "int"',
    "add.enqueue()": 'Missing positional argument "left" in call to "enqueue" of "JobFunction"',
    "add.enqueue(1, wrong=2)": 'Unexpected keyword argument "wrong" for "enqueue" of "JobFunction"',
    'add.new("x")': 'Argument 1 to "new" of "JobFunction" has incompatible type "str"; expected "int"',
    'await send.aenqueue("x")': 'Argument 1 to "aenqueue" of "JobFunction" has incompatible type "str"',
    "await send.aenqueue()": 'Missing positional argument "user_id" in call to "aenqueue" of "JobFunction"',
    'await send.aenqueue(1, "hi")': 'Too many positional arguments for "aenqueue" of "JobFunction"',
    "await send.aenqueue(1, local=2)": 'Unexpected keyword argument "local" for "aenqueue" of "JobFunction"',
    'add.using(priority=1).enqueue("x")': 'Argument 1 to "enqueue" of "Using" has incompatible type "str"',
    "add.using().enqueue()": 'Missing positional argument "left" in call to "enqueue" of "Using"',
    "add.using().enqueue(1, wrong=2)": 'Unexpected keyword argument "wrong" for "enqueue" of "Using"',
    'await send.using().aenqueue(user_id="x")': (
        'Argument "user_id" to "aenqueue" of "Using" has incompatible type "str"; expected "int"'
    ),
    "add.using(scheduled_in=1)": 'Unexpected keyword argument "scheduled_in" for "using" of "JobFunction"',
    'add.using(priority="high")': 'Argument "priority" to "using" of "JobFunction" has incompatible type "str"',
    "add.using(schedule_in=60)": 'Argument "schedule_in" to "using" of "JobFunction" has incompatible type "int"',
    "add.using(instance=3)": 'Argument "instance" to "using" of "JobFunction" has incompatible type "int"',
    "Import.using(quue=1)": 'Unexpected keyword argument "quue" for "using" of "Worker"',
    "job(quue=1)": 'Unexpected keyword argument "quue" for overloaded function "job"',
    'job(max_attempts="x")': 'No overload variant of "job" matches argument type "str"',
    'assert_enqueued(staffa, quue="mail")': 'Unexpected keyword argument "quue" for "assert_enqueued"',
    "drain(staffa, with_schedule=True)": 'Unexpected keyword argument "with_schedule" for "drain"',
    "perform_job(print, {})": 'Argument 1 to "perform_job" has incompatible type',
    "send.aenqueue(1)": "Are you missing an await?",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything mypy says, by the line of code it speaks of; one run, since each is slow."""
    folder = tmp_path_factory.mktemp("typing")
    code = PRELUDE + RIGHT + "".join(f"    {line}\n" for line in WRONG)
    snippet = Path(folder) / "snippet.py"
    snippet.write_text(code)
    (Path(folder) / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nenable_error_code = unused-awaitable, unused-coroutine\n"
    )

    output, errors, _ = api.run(
        ["--config-file", f"{folder}/mypy.ini", "--cache-dir", f"{folder}/cache", str(snippet)]
    )
    assert not errors

    lines = code.splitlines()
    said: dict[str, str] = {}
    for message in output.splitlines():
        place, _, text = message.partition(": ")
        if place.startswith(str(snippet)):
            line = lines[int(place.rpartition(":")[2]) - 1].strip()
            said[line] = said.get(line, "") + text + "\n"
    return said


def test_right_calls_pass(told: dict[str, str]):
    assert {line: text for line, text in told.items() if line not in WRONG} == {}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_call_is_an_error(told: dict[str, str], line: str):
    assert WRONG[line] in told.get(line, "")
