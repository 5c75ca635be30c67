"""The rules of uniqueness, without a database."""

import hashlib
import json
from datetime import timedelta

import pytest

from contract import NOW, SECOND, job
from staffa import Job, State, Unique, Worker
from staffa import job as declared
from staffa._admission import admitted
from staffa._unique import REPLACEABLE, is_in_the_way, key_of, replaced
from staffa.errors import InvalidJob, InvalidWorker

FOREVER = Unique(period=None)
GROUPS = {
    "all": set(State),
    "incomplete": {"suspended", "available", "scheduled", "executing", "retryable"},
    "scheduled": {"scheduled"},
    "successful": {"suspended", "available", "scheduled", "executing", "retryable", "completed"},
}
WRONG = {
    "unique must be True, False or a Unique(...), not 60": {"unique": 60},
    "fields must be a list of texts, not 'args'": {"unique": Unique(fields="args")},
    "fields cannot hold 'arg'; did you mean 'args'?": {"unique": Unique(fields=["arg"])},
    "fields must name at least one": {"unique": Unique(fields=[])},
    "fields must be a list of texts, not [1]": {"unique": Unique(fields=[1])},
    "keys must be a list": {"unique": Unique(keys="id")},
    "keys are those of args or meta": {"unique": Unique(fields=["worker"], keys=["id"])},
    "no group 'succesful'; did you mean 'successful'?": {"unique": Unique(states="succesful")},
    "unknown state 'done'": {"unique": Unique(states=["done"])},
    "states must name at least one": {"unique": Unique(states=[])},
    "period must be a timedelta above 0": {"unique": Unique(period=60)},
    "period must be a timedelta above 0, or None for all time": {"unique": Unique(period=timedelta(0))},
    'timestamp must be "inserted_at" or "scheduled_at"': {"unique": Unique(timestamp="attempted_at")},
    "replace must be a list": {"unique": True, "replace": "args"},
    "replace cannot hold 'state'": {"unique": True, "replace": ["state"]},
    "replace: unknown state 'scheduld'; did you mean 'scheduled'?": {
        "unique": True,
        "replace": {"scheduld": ["args"]},
    },
    "replace is for unique": {"replace": ["args"]},
}


@pytest.mark.parametrize("told", WRONG)
def test_a_worker_refuses_a_rule_that_means_nothing(told):
    with pytest.raises(InvalidWorker) as refusal:
        type("Wrong", (Worker,), {}, name="wrong", **WRONG[told])
    assert told in str(refusal.value)
    assert str(refusal.value).startswith("Wrong: ")


@pytest.mark.parametrize("told", WRONG)
def test_a_job_refuses_a_rule_that_means_nothing(told):
    with pytest.raises(InvalidJob) as refusal:
        admitted(job(**WRONG[told]))
    assert told in str(refusal.value)


def test_a_key_that_is_nowhere_is_refused_because_all_jobs_would_be_the_same():
    by_id = Unique(fields=["args", "meta"], keys=["user_id"])
    with pytest.raises(InvalidJob, match="args and meta have no key 'user_id', which `keys` asks for"):
        admitted(job(args={"usr_id": 1}, unique=by_id))
    assert admitted(job(meta={"user_id": 1}, unique=by_id)).unique_key


def test_options_of_a_worker_are_inherited_until_a_subclass_says_otherwise():
    class Parent(Worker, name="unique.parent", unique=FOREVER, replace=["args"]): ...

    class Child(Parent, name="unique.child"): ...

    class Free(Parent, name="unique.free", unique=False): ...

    assert (Child.options.unique, Child.options.replace) == (Parent.options.unique, Parent.options.replace)
    assert (Free.options.unique, Free.options.replace) == (None, None)


def test_a_function_is_unique_as_a_class_is():
    @declared(name="unique.function", unique=True, replace={"scheduled": ["args"]})
    def send(user_id: int) -> None: ...

    new = send.new(user_id=1)
    assert new.unique == Unique(period=None)
    assert new.replace == {State.SCHEDULED: ("args",)}


def test_using_chooses_another_rule_or_none():
    class Chosen(Worker, name="unique.chosen", unique=True, replace=["args"]): ...

    assert Chosen.using(unique=Unique(states="all")).new().unique == Unique(states="all")
    for nothing in (None, False):
        free = admitted(Chosen.using(unique=nothing).new())
        assert (free.unique, free.replace, free.unique_key) == (None, None, None)


def test_a_key_given_by_hand_is_not_kept():
    assert admitted(job(unique_key="mine")).unique_key is None
    assert admitted(job(unique_key="mine", unique=True)).unique_key == admitted(job(unique=True)).unique_key


# The key


def key(unique: Unique = FOREVER, **options) -> str:
    return key_of(job(**options), unique)


def test_the_key_is_made_as_documented():
    written = '{"keys":[],"values":{"args":{"b":0.5,"ä":[1,null]},"queue":"default","worker":"w"}}'
    assert key(args={"ä": [1.0, None], "b": 0.5}) == hashlib.sha256(written.encode()).hexdigest()


@pytest.mark.parametrize(
    "args", [{}, {"n": 2**64 - 1, "t": 'ä\n\x01\x7f\u2028😀"/', "é": None, "Z": True, "a": -1}]
)
def test_the_key_of_simple_arguments_is_made_as_documented_too(args):
    content = {"keys": [], "values": {"args": args, "queue": "default", "worker": "w"}}
    written = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert key(args=args) == hashlib.sha256(written.encode()).hexdigest()


def test_the_order_in_which_things_are_said_does_not_matter():
    assert key(args={"a": 1, "b": {"c": 1, "d": 2}}) == key(args={"b": {"d": 2, "c": 1}, "a": 1})
    by_both = {"fields": ["args", "worker"], "keys": ["a", "b"]}
    turned = {field: list(reversed(given)) for field, given in by_both.items()}
    both = {"args": {"a": 1, "b": 2}}
    assert key(Unique(**by_both), **both) == key(Unique(**turned), **both)


@pytest.mark.parametrize(
    "other",
    [
        {"args": {"a": 2}},
        {"args": {"a": "1"}},
        {"args": {"a": True}},
        {"args": {"a": 1, "b": None}},
        {"args": {}},
        {"queue": "other"},
        {"worker": "other"},
    ],
)
def test_jobs_that_differ_in_a_field_have_different_keys(other):
    assert key(args={"a": 1}) != key(**{"args": {"a": 1}, **other})


def test_numbers_that_are_equal_are_the_same():
    assert key(args={"a": 1.0, "b": [-0.0]}) == key(args={"a": 1, "b": [0]})


@pytest.mark.parametrize(
    "other", [{"meta": {"trace": 1}}, {"priority": 5}, {"tags": ["x"]}, {"max_attempts": 1}]
)
def test_what_is_no_field_of_the_rule_does_not_matter(other):
    assert key() == key(**other)


def test_keys_narrow_args_and_meta_down():
    by_user = Unique(fields=["args", "meta"], keys=["user_id"])
    assert key(by_user, args={"user_id": 1, "at": 1}) == key(
        by_user, args={"user_id": 1, "at": 2}, worker="x"
    )
    assert key(by_user, args={"user_id": 1}) != key(by_user, args={"user_id": 2})
    assert key(by_user, args={"user_id": 1}) != key(by_user, meta={"user_id": 1})


def test_the_same_values_under_another_rule_are_another_key():
    assert key(Unique(keys=["a"]), args={"a": 1}) != key(args={"a": 1})
    assert key(Unique(fields=["worker"])) != key(Unique(fields=["worker", "queue"]))


@pytest.mark.parametrize("rule", [{"period": SECOND}, {"states": "all"}, {"timestamp": "scheduled_at"}])
def test_how_long_and_in_which_states_a_job_is_in_the_way_is_not_part_of_the_key(rule):
    assert key(Unique(**rule)) == key(Unique())


# Who is in the way


def stands(holder: Job, unique: Unique) -> bool:
    return is_in_the_way(holder, unique, NOW)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("state", State)
def test_a_group_of_states_is_that_of_oban(group, state):
    assert stands(job(state=state), Unique(states=group, period=None)) == (state in GROUPS[group])


@pytest.mark.parametrize(
    "given", [["executing"], [State.EXECUTING], {"executing"}, ("executing", "executing")]
)
def test_states_may_be_listed(given):
    [checked] = [admitted(job(unique=Unique(states=given)))]
    assert stands(job(state=State.EXECUTING), checked.unique)
    assert not stands(job(state=State.AVAILABLE), checked.unique)


@pytest.mark.parametrize("timestamp", ["inserted_at", "scheduled_at"])
@pytest.mark.parametrize(
    ("age", "expected"),
    [(SECOND * 60, True), (SECOND * 60 + timedelta(microseconds=1), False), (-SECOND, True)],
)
def test_a_period_reaches_back_from_now_to_its_very_end(timestamp, age, expected):
    times = {"inserted_at": NOW - 1_000 * SECOND, "scheduled_at": NOW - 1_000 * SECOND, timestamp: NOW - age}
    assert stands(job(**times), Unique(timestamp=timestamp)) is expected


def test_the_longest_period_there_can_be_reaches_back_to_everything():
    assert stands(job(inserted_at=NOW.replace(year=1970)), Unique(period=timedelta.max))


# What becomes of it

EVERYTHING = {
    "args": {"new": 1},
    "max_attempts": 9,
    "meta": {"new": 2},
    "priority": 8,
    "queue": "new",
    "scheduled_at": NOW + SECOND,
    "tags": ["new"],
    "worker": "new",
}


@pytest.mark.parametrize("field", REPLACEABLE)
def test_only_the_fields_asked_for_are_replaced(field):
    holder = job(id=1, state=State.RETRYABLE, scheduled_at=NOW)
    after = replaced(holder, admitted(job(**EVERYTHING, unique=True, replace=[field])), NOW)
    assert {each for each in REPLACEABLE if getattr(after, each) != getattr(holder, each)} == {field}
    assert getattr(after, field) == EVERYTHING[field]


def test_each_state_may_have_its_own_fields():
    new = admitted(job(**EVERYTHING, unique=True, replace={"scheduled": ["args"], "executing": []}))
    assert replaced(job(state=State.SCHEDULED), new, NOW) == job(state=State.SCHEDULED, args={"new": 1})
    for untouched in (State.EXECUTING, State.AVAILABLE):
        assert replaced(job(state=untouched), new, NOW) == job(state=untouched)


@pytest.mark.parametrize(
    ("state", "delay", "after"),
    [
        ("scheduled", SECOND, "scheduled"),
        ("scheduled", -SECOND, "scheduled"),
        ("scheduled", None, "scheduled"),
        ("available", SECOND, "scheduled"),
        ("available", None, "available"),
        ("retryable", -SECOND, "retryable"),
    ],
)
def test_a_job_that_waits_for_its_time_waits_for_the_new_one(state, delay, after):
    new = admitted(job(schedule_in=delay, unique=True, replace=["scheduled_at"]))
    changed = replaced(job(state=State(state), scheduled_at=NOW + 60 * SECOND), new, NOW)
    assert (changed.state, changed.scheduled_at) == (after, NOW + (delay or timedelta(0)))


@pytest.mark.parametrize("state", ["executing", "completed", "discarded", "cancelled"])
def test_a_job_that_no_longer_waits_keeps_the_time_it_had(state):
    new = admitted(job(schedule_in=SECOND, unique=True, replace=["scheduled_at", "priority"], priority=5))
    holder = job(state=State(state), scheduled_at=NOW)
    assert replaced(holder, new, NOW) == job(state=State(state), scheduled_at=NOW, priority=5)


def test_attempts_that_were_made_stay_possible():
    new = admitted(job(max_attempts=1, unique=True, replace=["max_attempts"]))
    assert replaced(job(attempt=3, max_attempts=5), new, NOW).max_attempts == 3


def test_that_a_job_was_there_already_takes_no_part_in_comparing_it():
    assert job(id=1, conflict=True) == job(id=1)
    assert "conflict=True" in repr(job(id=1, conflict=True))
