"""Workers: how they are declared, found and named, and who takes their jobs."""

import asyncio
import contextvars
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from staffa import Cancel, Error, Job, Snooze, Staffa, Worker, job
from staffa._enqueuer import default_instance, overridden, withdraw
from staffa.errors import InvalidArguments, InvalidJob, InvalidWorker, NoInstance, UnknownWorker
from staffa.worker import find, is_async, registered

NOON = datetime(2030, 5, 1, 12, tzinfo=UTC)


@dataclass
class Invoice:
    customer: int


class Mail(Worker, queue="mail", max_attempts=3, priority=2, tags=["out"], timeout=timedelta(seconds=5)):
    def perform(self, job):
        return job.args


class UrgentMail(Mail, priority=0, name="urgent", aliases=["pressing"]):
    pass


class Bill(Worker, args=Invoice):
    async def perform(self, job):
        return job.args.customer


@job
def plain(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@job(
    queue="mail",
    max_attempts=7,
    priority=4,
    tags=["x"],
    name="test_worker.wave",
    aliases=["test_worker.hail"],
)
async def wave(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


@pytest.fixture
def manual() -> Iterator[Staffa]:
    instance = Staffa("sqlite://", testing="manual")
    withdraw(instance)
    with instance.as_default():
        yield instance
    instance.close()


def declared(**options):
    """Declare a worker that exists for one test."""
    return type(
        "Declared", (Worker,), {"perform": lambda self, job: None}, name="test_worker.Declared", **options
    )


# Declaring


def test_a_worker_says_where_its_jobs_go():
    job = Mail.new(to="a@b.c")
    assert (job.worker, job.queue, job.max_attempts, job.priority) == (f"{__name__}.Mail", "mail", 3, 2)
    assert (job.tags, job.args, job.id) == (["out"], {"to": "a@b.c"}, None)


def test_a_subclass_inherits_all_but_its_name():
    job = UrgentMail.new()
    assert (job.worker, job.queue, job.max_attempts, job.priority) == ("urgent", "mail", 3, 0)
    assert UrgentMail.options.timeout == timedelta(seconds=5)
    assert UrgentMail.options.tags == ("out",)


def test_defaults_are_those_of_oban():
    options = declared().options
    assert (options.queue, options.max_attempts, options.priority, options.tags) == ("default", 20, 0, ())
    assert (options.timeout, options.aliases) == (None, ())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"quue": "mail"}, "Declared has no option 'quue'; did you mean 'queue'?"),
        (
            {"colour": 1},
            "Declared has no option 'colour'; known are aliases, args, cron, executor",
        ),
        ({"max_attempts": 0}, "Declared: max_attempts must be a whole number above 0, not 0"),
        ({"max_attempts": True}, "Declared: max_attempts must be a whole number above 0, not True"),
        ({"priority": 10}, "Declared: priority must be a whole number from 0 to 9, not 10"),
        ({"queue": ""}, "Declared: queue must be text of 1 to 127 characters, not ''"),
        ({"queue": "x" * 128}, "Declared: queue must be text of 1 to 127 characters"),
        ({"timeout": 5}, "Declared: timeout must be a timedelta above 0, not 5"),
        (
            {"timeout": timedelta(0)},
            "Declared: timeout must be a timedelta above 0, not datetime.timedelta(0)",
        ),
        ({"tags": "abc"}, "Declared: tags must be a list of texts, not 'abc'"),
        ({"aliases": "abc"}, "Declared: aliases must be a list of texts, not 'abc'"),
        ({"aliases": ["x" * 128]}, "Declared: aliases must be text of 1 to 127 characters"),
        ({"args": int}, "args=<class 'int'> is no type for arguments: give a dataclass, a msgspec Struct"),
    ],
    ids=repr,
)
def test_a_wrong_declaration_is_refused_where_it_stands(options, told: str):
    with pytest.raises(InvalidWorker) as refusal:
        declared(**options)
    assert str(refusal.value).startswith(told)
    assert isinstance(refusal.value, TypeError)


def test_async_hooks_of_a_plain_worker_are_refused():
    async def hook(self, job): ...

    for name in ("on_discarded", "on_cancelled", "backoff"):
        with pytest.raises(InvalidWorker, match=f"{name} is async but perform is not; make both alike"):
            type(
                "Hooked",
                (Worker,),
                {name: hook, "perform": lambda self, job: None},
                name="test_worker.Hooked",
            )


def test_an_async_backoff_is_refused_for_every_worker():
    async def both(self, job): ...

    with pytest.raises(InvalidWorker, match="backoff must be a plain function"):
        type("Slow", (Worker,), {"backoff": both, "perform": both}, name="test_worker.Slow")


def test_a_worker_without_perform_says_so():
    class Empty(Worker, name="test_worker.Empty"):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no perform"):
        Empty().perform(Job())


def test_a_worker_runs_on_the_loop_where_its_perform_is_async():
    assert is_async(Bill)
    assert is_async(wave.worker)
    assert not is_async(Mail)
    assert not is_async(plain.worker)


def test_the_default_backoff_is_oban_s():
    failed = Job(attempt=3, max_attempts=20)
    assert timedelta(seconds=23) <= Mail().backoff(failed) <= timedelta(seconds=23 * 1.1)


def test_answers_are_values():
    assert Cancel("x") == Cancel("x")
    assert repr(Snooze(timedelta(seconds=5))) == "Snooze(delay=datetime.timedelta(seconds=5))"
    assert Error("x") != Cancel("x")


# Building jobs


def test_arguments_go_by_keyword_or_as_one_object():
    assert Mail.new(to="a").args == Mail.new({"to": "a"}).args == {"to": "a"}
    assert Bill.new(customer=1).args == Bill.new(Invoice(1)).args == {"customer": 1}
    with pytest.raises(TypeError, match="give a job's arguments by keyword, or all of them as one object"):
        Mail.new({"to": "a"}, subject="b")


def test_typed_arguments_are_checked_when_a_job_is_built():
    with pytest.raises(InvalidArguments, match="Expected `int`, got `str`"):
        Bill.new(customer="x")


def test_using_sets_options_of_the_next_job():
    delay = timedelta(hours=1)
    job = Mail.using(queue="q", priority=9, max_attempts=1, meta={"a": 1}, schedule_in=delay).new(to="x")
    assert (job.queue, job.priority, job.max_attempts, job.meta) == ("q", 9, 1, {"a": 1})
    assert (job.schedule_in, job.args) == (delay, {"to": "x"})
    assert Mail.using(scheduled_at=NOON).new().scheduled_at == NOON
    assert Mail.new().queue == "mail"


def test_tags_are_added_to_those_of_the_worker():
    assert Mail.using(tags=["more"]).new().tags == ["out", "more"]
    with pytest.raises(InvalidJob, match="tags must be a list of texts, not 'more'"):
        Mail.using(tags="more").new()


def test_options_never_collide_with_arguments():
    job = Mail.using(queue="q").new(queue="an argument", priority=3, connection=1, instance=2)
    assert job.args == {"queue": "an argument", "priority": 3, "connection": 1, "instance": 2}
    assert (job.queue, job.priority) == ("q", 2)


@pytest.mark.parametrize(
    ("option", "hint"), [("scheduled_in", "did you mean 'schedule_in'"), ("zzz", "known are")]
)
def test_an_unknown_option_is_refused_at_once(option: str, hint: str):
    for worker in (Mail, plain):
        with pytest.raises(TypeError, match=rf"\.?using\(\) has no option '{option}'; {hint}"):
            worker.using(**{option: 1})


def test_enqueue_gives_back_the_stored_job(manual: Staffa):
    stored = Mail.enqueue(to="x")
    assert manual.get(stored.id) == stored
    stored = plain.using(priority=1).enqueue(1, b=3)
    assert (stored.args, stored.priority) == ({"a": 1, "b": 3}, 1)


async def test_aenqueue_gives_back_the_stored_job(manual: Staffa):
    stored = await wave.aenqueue("you", loud=True)
    assert await manual.aget(stored.id) == stored
    assert stored.args == {"name": "you", "loud": True}


# Functions


def test_a_job_function_is_still_the_function():
    assert plain(1) == 3
    assert plain(a=1, b=1) == 2
    assert asyncio.run(_awaited(wave("you", loud=True))) == "YOU"
    assert (plain.__name__, plain.__doc__, plain.__module__) == ("plain", "Add two numbers.", __name__)
    assert str(inspect.signature(plain)) == "(a: int, b: int = 2) -> int"
    assert repr(plain) == f"<job {__name__}.plain>"


async def _awaited(awaitable):
    return await awaitable


def test_a_job_function_says_where_its_jobs_go():
    job = wave.new("you")
    assert (job.worker, job.queue, job.max_attempts, job.priority) == ("test_worker.wave", "mail", 7, 4)
    assert (job.tags, job.args) == (["x"], {"name": "you"})
    assert plain.new(1).worker == f"{__name__}.plain"


def test_a_job_function_runs_with_its_arguments():
    assert plain.worker().perform(Job(args={"a": 1, "b": 5})) == 6


def test_a_job_function_may_bring_its_backoff():
    @job(name="test_worker.backs_off", backoff=lambda failed: failed.attempt * 10)
    def backs_off() -> None: ...

    assert backs_off.worker().backoff(Job(attempt=4)) == 40


def test_wrong_calls_are_refused_before_anything_is_stored(manual: Staffa):
    with pytest.raises(InvalidArguments, match="plain: missing a required argument: 'a'"):
        plain.enqueue()
    with pytest.raises(InvalidArguments, match="Expected `int`, got `str`"):
        plain.enqueue("1")
    with pytest.raises(InvalidArguments, match="got an unexpected keyword argument 'c'"):
        plain.enqueue(1, c=2)
    assert manual.jobs() == []


def test_only_functions_become_jobs():
    with pytest.raises(
        InvalidWorker, match=r"@job is for functions, not <class .*>; subclass Worker instead"
    ):
        job(Invoice)
    with pytest.raises(InvalidWorker, match=r"has no option 'args'"):
        job(args=Invoice)(lambda: None)
    with pytest.raises(InvalidWorker, match=r"has no option 'quue'; did you mean 'queue'\?"):
        job(quue="x")(lambda: None)


# Names


def test_workers_are_found_by_name_and_by_alias():
    assert find(f"{__name__}.Mail") is Mail
    assert find("urgent") is find("pressing") is UrgentMail
    assert find("test_worker.hail") is wave.worker
    assert registered()["urgent"] is UrgentMail


def test_an_unknown_name_is_never_imported():
    with pytest.raises(UnknownWorker, match=r"unknown worker 'this\.Anything'") as refusal:
        find("this.Anything")
    assert "name its module in `modules`, or its former name in `aliases`" in str(refusal.value)
    assert isinstance(refusal.value, LookupError)
    assert "this" not in sys.modules


def test_two_workers_cannot_have_one_name():
    with pytest.raises(
        InvalidWorker, match=r"Impostor and .*UrgentMail are both named 'urgent': rename one of them"
    ):
        type("Impostor", (Worker,), {}, name="urgent")
    with pytest.raises(InvalidWorker, match="are both named 'pressing'"):
        type("Impostor", (Worker,), {}, name="test_worker.Impostor", aliases=["pressing"])


def test_a_module_that_is_imported_again_replaces_its_workers():
    first = declared()
    second = declared()
    assert first is not second
    assert find("test_worker.Declared") is second


def test_a_name_that_does_not_fit_its_column_is_refused():
    with pytest.raises(InvalidWorker, match=r"name must be text of 1 to 127 characters.*give name="):
        type("X" * 128, (Worker,), {})


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["script.py"], "script.Greet"),
        (["-m", "package"], "package.Greet"),
        (["-m", "package.tool"], "package.tool.Greet"),
    ],
    ids=["script", "package", "module"],
)
def test_a_worker_of_the_main_module_has_the_name_others_import_it_by(tmp_path: Path, command, name: str):
    program = "from staffa import Worker\nclass Greet(Worker): ...\nprint(Greet.options.name)\n"
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    for file in ("script.py", "package/__main__.py", "package/tool.py"):
        (tmp_path / file).write_text(program)
    ended = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == name


def test_a_worker_that_nobody_could_import_is_refused():
    program = "from staffa import Worker\nclass Greet(Worker): ...\n"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Greet is defined where no other process can import it: give it a name" in ended.stderr


# Who takes the jobs


def test_instances_take_jobs_by_themselves_by_default_or_by_choice():
    program = textwrap.dedent("""
        from staffa import Staffa, StaffaError, Worker
        from staffa._enqueuer import withdraw

        class Greet(Worker, name="greet"): ...

        def told():
            try:
                return Greet.enqueue().id
            except StaffaError as error:
                return error

        print(told())
        first = Staffa("sqlite://", name="first")
        print(told())
        second = Staffa("sqlite://", name="second")
        print(told())
        print(Greet.using(instance=second).enqueue().id)
        third = Staffa("sqlite://", name="third", default=True)
        print(told())
        fourth = Staffa("sqlite://", name="fourth", default=True)
        print(told())
        with second.as_default():
            print(told())
        del fourth, third, second
        print(told())
        withdraw(first)
        print(told())
        print(Greet.using(instance=first).enqueue().id)
    """)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    several = "make one with default=True, or choose with using(instance=...)"
    none = "there is no Staffa instance to take this job: make one, as in staffa = Staffa('sqlite:///app.db')"
    assert ended.stdout.splitlines() == [
        none,
        "1",
        f"several instances could take this job (first, second): {several}",
        "1",
        "1",
        f"several instances could take this job (fourth, third): {several}",
        "2",
        "2",
        none,
        "3",
    ]


def test_an_override_holds_in_its_context_alone(manual: Staffa):
    other = Staffa("sqlite://", name="other")
    elsewhere = contextvars.copy_context()
    with overridden(other):
        assert default_instance() is other
        assert elsewhere.run(default_instance) is manual
    assert default_instance() is manual


def chosen_elsewhere() -> object:
    """Find the default instance where no override is seen, if there is one."""
    with ThreadPoolExecutor(1) as elsewhere, suppress(NoInstance):
        return elsewhere.submit(default_instance).result()
    return None


def test_a_new_thread_does_not_see_the_override(manual: Staffa):
    assert default_instance() is manual
    assert chosen_elsewhere() is not manual
