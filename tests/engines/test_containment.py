"""One JSON value contains another alike on both databases: as `@>` of PostgreSQL tells."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import scalar_row

from contract import job
from staffa import Staffa
from staffa._filter import JobFilter
from staffa.engines._containment import contains_text, teach

KEYS = st.sampled_from(["a", "b", "", "a.b", '"', "$", "é", "\\", "0", "id"])
NUMBERS = (
    st.integers(-3, 3)
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from(
        [2**53, 2**53 + 1, 2**63, 2**64 - 1, 10**19, 1e19, 1e22, 1.5e300, 5e-324, -0.0, 1.0, 0.1]
    )
    | st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = st.sampled_from(["", "a", "A", "1", "true", "null", "é", "😀", "'", '"', "\\u0041", "\n"])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


@st.composite
def parts(draw: st.DrawFn, whole: Any) -> Any:
    """Take a part of a value, which it then contains, or something near to that."""
    if draw(st.integers(0, 11)) == 0:
        return draw(VALUES)
    if isinstance(whole, dict):
        return {key: draw(parts(value)) for key, value in whole.items() if draw(st.booleans())}
    if isinstance(whole, list) and whole:
        chosen = draw(st.lists(st.sampled_from(range(len(whole))), max_size=4))
        return [draw(parts(whole[index])) for index in chosen]
    if type(whole) is int and draw(st.booleans()):
        return float(whole)
    return whole


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    whole = draw(OBJECTS)
    part = draw(parts(whole))
    return whole, part if isinstance(part, dict) else {"a": part}


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


@pytest.fixture(scope="module")
def judge(shared_postgres_url: str) -> Iterator[psycopg.Cursor[bool]]:
    """PostgreSQL, whose word is the last."""
    with psycopg.connect(shared_postgres_url, autocommit=True) as connection:
        yield connection.cursor(row_factory=scalar_row)


@pytest.fixture(scope="module")
def pupil() -> Iterator[sqlite3.Connection]:
    """A connection to SQLite that learned what containing means."""
    with closing(sqlite3.connect(":memory:")) as connection:
        teach(connection, connection.execute)
        yield connection


@given(st.lists(pairs(), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_sqlite_answers_as_postgres_does(
    judge: psycopg.Cursor[bool], pupil: sqlite3.Connection, asked: list[tuple[Any, Any]]
):
    texts = [(_text(whole), _text(part)) for whole, part in asked]
    judged = judge.execute(
        "select whole::jsonb @> part::jsonb from unnest(%s::text[], %s::text[]) with ordinality as t(whole, part, n)"
        " order by n",
        [[whole for whole, _ in texts], [part for _, part in texts]],
    ).fetchall()
    answered = [pupil.execute("select staffa_contains(?, ?)", each).fetchone()[0] for each in texts]
    assert list(zip(texts, map(bool, answered), strict=True)) == list(zip(texts, judged, strict=True))


@pytest.mark.parametrize(
    ("whole", "part", "answer"),
    [
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1.10}', '{"a": 1.1}', True),
        ('{"a": 100}', '{"a": 1e2}', True),
        ('{"a": 18446744073709551615}', '{"a": 18446744073709551614}', False),
        ('{"a": 9007199254740993}', '{"a": 9007199254740992}', False),
        ('{"a": true}', '{"a": 1}', False),
        ('{"a": 0}', '{"a": false}', False),
        ('{"a": "1"}', '{"a": 1}', False),
        ('{"a": null}', '{"a": null}', True),
        ("{}", '{"a": null}', False),
        ('{"a": [1, 2]}', '{"a": 1}', False),
        ('{"a": [1, 2]}', '{"a": [2, 2]}', True),
        ('{"a": [1, [2, 3]]}', '{"a": [[3]]}', True),
        ('{"a": [1, [2, 3]]}', '{"a": [2]}', False),
        ('{"a": [{"b": 1, "c": 2}, {"b": 3}]}', '{"a": [{"b": 3}, {"c": 2}]}', True),
        ('{"a": [{"b": 1}, {"c": 2}]}', '{"a": [{"b": 1, "c": 2}]}', False),
        ('{"a": []}', '{"a": {}}', False),
        ('{"a": "\\u00e9"}', '{"a": "é"}', True),
        ('{"a": 1, "a": 2}', '{"a": 1}', False),
    ],
)
def test_what_contains_what(judge: psycopg.Cursor[bool], whole: str, part: str, answer: bool):
    assert judge.execute("select %s::jsonb @> %s::jsonb", [whole, part]).fetchone() is answer
    assert contains_text(whole, part) is answer


def test_both_databases_find_the_same_jobs(sqlite_url: str, postgres_url: str):
    """What is stored and asked for is drawn, and PostgreSQL's operator is not the one who is asked twice."""
    instances = [Staffa(url, run_queues=False) for url in (sqlite_url, postgres_url)]

    @given(st.lists(OBJECTS, min_size=1, max_size=12), st.data())
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def check(stored: list[dict[str, Any]], data: st.DataObject) -> None:
        part = data.draw(parts(data.draw(st.sampled_from(stored))))
        wanted = {"args": part} if isinstance(part, dict) and part else {"meta": {"a": part}}
        found = []
        for instance in instances:
            ids = [
                each.id
                for each in instance.insert_all(
                    [job(args=each, meta={"a": each.get("a")}) for each in stored]
                )
            ]
            hits = instance.jobs(JobFilter(ids=ids, **wanted))
            found.append([ids.index(each.id) for each in hits])
        assert found[0] == found[1]

    try:
        check()
    finally:
        for instance in instances:
            instance.close()
