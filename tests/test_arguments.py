"""A job's arguments on their way to JSON and back."""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffa._arguments import Parameters, json_object, shape_of
from staffa.errors import InvalidArguments, InvalidWorker

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


def refused(value: object) -> str:
    with pytest.raises(InvalidArguments) as refusal:
        json_object({"value": value})
    return str(refusal.value)


# Untyped


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -(2**63), 2**64 - 1, 0.5, -0.0, "", "naïve 😀 \n", [], {}, [1, [2, {"a": None}]]],
    ids=repr,
)
def test_what_json_holds_is_kept_as_it_is(value):
    kept = json_object({"value": value})
    assert kept == {"value": value}
    assert json.loads(msgspec.json.encode(kept)) == kept


def test_what_json_holds_in_another_form_is_kept_in_that_form():
    given = OrderedDict(pair=(1, 2), colour=Colour.RED, level=Level.HIGH, word=Word.YES)
    kept = json_object(given)
    assert kept == {"pair": [1, 2], "colour": "red", "level": 3, "word": "yes"}
    assert [type(value) for value in kept.values()] == [list, str, int, str]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(json_values)
def test_whatever_is_admitted_comes_back_the_same(value):
    kept = json_object({"value": value})
    assert msgspec.json.decode(msgspec.json.encode(kept)) == kept == {"value": value}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (NOON, "args['value'] is a datetime, which JSON cannot hold: convert it to text or a number first"),
        (date(2026, 1, 1), "args['value'] is a date, which JSON cannot hold"),
        (timedelta(1), "args['value'] is a timedelta, which JSON cannot hold"),
        (Decimal(1), "args['value'] is a Decimal, which JSON cannot hold"),
        (UUID(int=1), "args['value'] is a UUID, which JSON cannot hold"),
        ({1}, "args['value'] is a set, which JSON cannot hold"),
        (b"x", "args['value'] is a bytes, which JSON cannot hold"),
        (object(), "args['value'] is a object, which JSON cannot hold"),
        (float("nan"), "args['value'] is nan, which JSON cannot hold: use None or text"),
        (float("-inf"), "args['value'] is -inf, which JSON cannot hold"),
        (2**64, "args['value'] does not fit 64 bits: keep it as text"),
        (-(2**63) - 1, "args['value'] does not fit 64 bits"),
        ("a\0b", "args['value'] contains a NUL character, which databases cannot hold: remove it"),
        ("\ud800", "args['value'] contains a lone surrogate, which is no text: decode it properly first"),
        ({1: 2}, "args['value'] has the key 1 of type int: JSON keys are text"),
        ({None: 2}, "args['value'] has the key None of type NoneType: JSON keys are text"),
        ({"a\0": 2}, "the key 'a\\x00' of args['value'] contains a NUL character"),
        ([1, {"deep": [NOON]}], "args['value'][1]['deep'][0] is a datetime"),
    ],
)
def test_what_json_cannot_hold_faithfully_is_refused_by_its_place(value, told: str):
    assert refused(value).startswith(told)


@pytest.mark.parametrize(
    "value",
    [NOON, {1}, b"x", float("inf"), 2**64, "a\0b", "\ud800", "ä\ud800", {1: 2}, {"\udfff": 1}],
    ids=repr,
)
def test_what_is_refused_alone_is_refused_among_the_rest(value):
    with pytest.raises(InvalidArguments, match=r"args\['b'\]\[1\]\['c'\]"):
        json_object({"a": 1, "b": ["x", {"a": None, "c": value}]})


def test_a_hundred_levels_are_kept_and_one_more_is_refused():
    deep: Any = 1
    for _ in range(99):
        deep = [deep]
    assert json_object({"value": deep}) == {"value": deep}
    assert refused([deep]).endswith("is nested deeper than 100 levels")


def test_lists_and_objects_that_are_kept_are_copies():
    given: dict[str, Any] = {"list": [[1]], "object": {"in": {"it": 1}}, "text": "ä"}
    kept = json_object(given)
    given["list"][0].append(2)
    given["object"]["in"]["it"] = given["text"] = 2
    assert kept == {"list": [[1]], "object": {"in": {"it": 1}}, "text": "ä"}


def test_what_contains_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    assert "is nested deeper than 100 levels" in refused(endless)


def test_arguments_are_an_object_with_text_keys():
    with pytest.raises(InvalidArguments, match=r"^args must be an object with string keys, not list$"):
        json_object([1])
    with pytest.raises(InvalidArguments, match=r"^args has the key 1 of type int: JSON keys are text$"):
        json_object({1: 2})


def test_untyped_arguments_stay_as_they_are():
    shape = shape_of(None)
    assert shape.load(shape.store({"a": (1,)})) == {"a": [1]}


# Declared types


@dataclass
class Line:
    amount: int


@dataclass
class Invoice:
    customer: int
    due: datetime
    price: Decimal = Decimal("1.50")
    lines: list[Line] = field(default_factory=list)


class Point(msgspec.Struct):
    x: int
    labels: set[str] = msgspec.field(default_factory=set)
    far: float = 0.0


class Place(TypedDict):
    city: str
    at: datetime


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1)
    born: date | None = None


@pytest.mark.parametrize(
    ("type_", "given", "stored"),
    [
        (
            Invoice,
            Invoice(1, NOON, lines=[Line(2)]),
            {"customer": 1, "due": "2026-05-01T12:00:00Z", "price": "1.50", "lines": [{"amount": 2}]},
        ),
        (Point, Point(1, {"a"}), {"x": 1, "labels": ["a"], "far": 0.0}),
        (Place, {"city": "Pune", "at": NOON}, {"city": "Pune", "at": "2026-05-01T12:00:00Z"}),
        (Person, Person(name="A", born=date(2000, 1, 1)), {"name": "A", "born": "2000-01-01"}),
    ],
    ids=["dataclass", "struct", "typed dict", "pydantic"],
)
def test_an_object_of_the_type_is_stored_as_json_and_comes_back_equal(type_, given, stored):
    shape = shape_of(type_)
    assert shape.store(given) == stored
    assert shape.load(json.loads(json.dumps(stored))) == given


def test_keywords_may_be_given_in_python_s_types_or_in_json_s():
    shape = shape_of(Invoice)
    assert shape.store({"customer": 1, "due": NOON}) == shape.store({"customer": 1, "due": NOON.isoformat()})
    assert shape.load(shape.store({"customer": 1, "due": NOON})).price == Decimal("1.50")


@pytest.mark.parametrize(
    ("type_", "given", "told"),
    [
        (
            Invoice,
            {"customer": "x", "due": NOON},
            "args do not fit Invoice: Expected `int`, got `str` - at `$.customer`",
        ),
        (Invoice, {"customer": 1}, "args do not fit Invoice: Object missing required field `due`"),
        (Invoice, {"customer": 1, "due": NOON, "dew": 1}, "args do not fit Invoice: it has no dew"),
        (Invoice, Invoice("x", NOON), "args do not fit Invoice: Expected `int`, got `str` - at `$.customer`"),
        (Invoice, 7, "args do not fit Invoice: Expected `object`, got `int`"),
        (Point, Point("x"), "args do not fit Point: Expected `int`, got `str` - at `$.x`"),
        (Point, Point(1, far=float("nan")), "args['far'] is nan, which JSON cannot hold"),
        (Place, {"city": "a\0", "at": NOON}, "args['city'] contains a NUL character"),
        (Place, {"city": "Pune", "at": NOON, "x": object()}, "args holds what JSON cannot: "),
        (Person, {"name": ""}, "Person: 1 validation error for Person\nname\n"),
    ],
)
def test_what_does_not_fit_the_type_is_refused_when_stored(type_, given, told: str):
    with pytest.raises(InvalidArguments) as refusal:
        shape_of(type_).store(given)
    assert str(refusal.value).startswith(told)


@pytest.mark.parametrize("type_", [Invoice, Point, Place, Person])
def test_what_does_not_fit_the_type_is_refused_when_loaded(type_):
    with pytest.raises(InvalidArguments, match=type_.__name__):
        shape_of(type_).load({"nothing": "fits"})


@pytest.mark.parametrize("type_", [int, dict, "Invoice", 3])
def test_only_types_of_objects_are_types_of_arguments(type_):
    with pytest.raises(InvalidWorker, match=r"is no type for arguments: give a dataclass, a msgspec Struct"):
        shape_of(type_)


# Parameters of functions


def send(user_id: int, *, locale: Literal["en", "hi"] = "en", at: datetime | None = None) -> None: ...


def untyped(a, b=2): ...


def open_ended(a: int, **more: Any) -> None: ...


def with_a_list(ids: list[int] = [1]) -> None: ...  # noqa: B006 - a default that msgspec would refuse


def test_a_call_is_stored_by_name_and_only_what_was_given():
    parameters = Parameters(send)
    stored = parameters.store(parameters.bind(7, at=NOON))
    assert stored == {"user_id": 7, "at": "2026-05-01T12:00:00Z"}
    assert parameters.load(stored) == {"user_id": 7, "at": NOON}


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "send: missing a required argument: 'user_id'"),
        ((1, 2), {}, "send: too many positional arguments"),
        ((1,), {"user": 2}, "send: got an unexpected keyword argument 'user'"),
        (("x",), {}, "args do not fit send: Expected `int`, got `str` - at `$.user_id`"),
        ((1,), {"locale": "fr"}, "args do not fit send: Invalid enum value 'fr' - at `$.locale`"),
        ((True,), {}, "args do not fit send: Expected `int`, got `bool` - at `$.user_id`"),
    ],
)
def test_a_call_that_python_or_the_annotations_refuse_is_refused(args, kwargs, told: str):
    parameters = Parameters(send)
    with pytest.raises(InvalidArguments) as refusal:
        parameters.store(parameters.bind(*args, **kwargs))
    assert str(refusal.value) == told


def test_stored_arguments_are_checked_again_when_they_run():
    parameters = Parameters(send)
    with pytest.raises(InvalidArguments, match=r"Expected `int`, got `str` - at `\$\.user_id`"):
        parameters.load({"user_id": "x"})
    with pytest.raises(InvalidArguments, match="user"):
        parameters.load({"user": 1})
    with pytest.raises(InvalidArguments, match="user_id"):
        parameters.load({})


def test_parameters_without_annotations_take_what_json_holds():
    parameters = Parameters(untyped)
    assert parameters.store({"a": [1]}) == {"a": [1]}
    with pytest.raises(InvalidArguments, match=r"args\['a'\]"):
        parameters.store({"a": object()})


def test_a_function_may_take_any_keywords():
    parameters = Parameters(open_ended)
    stored = parameters.store(parameters.bind(1, x=2))
    assert stored == parameters.load(stored) == {"a": 1, "x": 2}


def test_a_filled_default_is_allowed_and_not_stored():
    parameters = Parameters(with_a_list)
    assert parameters.store({}) == {}
    assert parameters.load({}) == {}


def before_its_type(it: "Later") -> None: ...


BEFORE = Parameters(before_its_type)


@dataclass
class Later:
    amount: int


def test_annotations_may_name_classes_that_come_later():
    assert BEFORE.load({"it": {"amount": 1}}) == {"it": Later(1)}


def starred(*ids: int) -> None: ...


def positional(a: int, /) -> None: ...


@pytest.mark.parametrize("function", [starred, positional])
def test_arguments_without_names_are_refused_where_the_function_is_declared(function):
    with pytest.raises(
        InvalidWorker, match=r"arguments are stored by name, so the parameter .* cannot be positional"
    ):
        Parameters(function)
