"""Which jobs repeat another one, and what becomes of the one that was there first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from staffa._clock import LONGEST_DELAY
from staffa._job import WAITING, AnyJob, Replacement, State, Unique, state_of
from staffa._lifecycle import updated
from staffa._spelling import hint
from staffa._texts import texts

FIELDS = ("args", "meta", "queue", "worker")
WITH_KEYS = ("args", "meta")
TIMESTAMPS = ("inserted_at", "scheduled_at")
REPLACEABLE = ("args", "max_attempts", "meta", "priority", "queue", "scheduled_at", "tags", "worker")
INCOMPLETE = WAITING | {State.EXECUTING}
GROUPS: Mapping[str, frozenset[State]] = {
    "all": frozenset(State),
    "incomplete": INCOMPLETE,
    "scheduled": frozenset({State.SCHEDULED}),
    "successful": INCOMPLETE | {State.COMPLETED},
}

FOREVER = Unique(period=None)
PLAIN = frozenset({str, int, bool, type(None)})
in_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
in_json_at_once = msgspec.json.Encoder(order="sorted").encode  # the same but for fractions


# What callers give


def unique_of(given: object) -> Unique | None:
    """Read the option `unique`: True means the default fields for all time. Raises `ValueError`."""
    if given is None or given is False:
        return None
    if given is True:
        return FOREVER
    if not isinstance(given, Unique):
        raise ValueError(f"unique must be True, False or a Unique(...), not {given!r}")
    if given is not FOREVER:
        _check(given)
    return given


def replacement_of(given: object) -> dict[State, tuple[str, ...]]:
    """Read the option `replace`: fields for all states, or for each state its own. Raises `ValueError`."""
    if not isinstance(given, Mapping):
        fields = _texts("replace", given, REPLACEABLE)
        return dict.fromkeys(State, fields) if fields else {}
    return {_state("replace", state): _texts("replace", each, REPLACEABLE) for state, each in given.items()}


def states_of(unique: Unique) -> frozenset[str]:
    """Name the states in which a job is in the way of others."""
    return GROUPS[unique.states] if isinstance(unique.states, str) else frozenset(unique.states)


def _check(given: Unique) -> None:
    _check_fields(given)
    _check_states(given.states)
    if given.period is not None and not _is_period(given.period):
        raise ValueError(
            f"unique: period must be a timedelta above 0, or None for all time, not {given.period!r}"
        )
    if given.timestamp not in TIMESTAMPS:
        raise ValueError(
            f'unique: timestamp must be "inserted_at" or "scheduled_at", not {given.timestamp!r}'
        )


def _check_fields(unique: Unique) -> None:
    fields = _texts("unique: fields", unique.fields, FIELDS)
    if not fields:
        raise ValueError("unique: fields must name at least one; as a rule they are args, queue and worker")
    keys = _texts("unique: keys", unique.keys)
    if keys and not {*fields} & {*WITH_KEYS}:
        raise ValueError("unique: keys are those of args or meta; add one of them to fields")


def _check_states(states: object) -> None:
    if isinstance(states, str):
        if states not in GROUPS:
            raise ValueError(
                f"unique: states has no group {states!r}; {hint(states, GROUPS)} (or give a list of states)"
            )
        return
    if not [_state("unique: states", each) for each in _texts("unique: states", states)]:
        raise ValueError("unique: states must name at least one; without any, no job would be in the way")


def _state(option: str, name: object) -> State:
    try:
        return state_of(name)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _texts(option: str, given: object, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """Read a list of texts, of which only some are known. Raises `ValueError`."""
    several = texts(option, given, ValueError)
    for each in several:
        if known is not None and each not in known:
            raise ValueError(f"{option} cannot hold {each!r}; {hint(each, known)}")
    return several


def _is_period(period: object) -> bool:
    return isinstance(period, timedelta) and period > timedelta(0)


# The key


def key_of(job: AnyJob, unique: Unique) -> str:
    """Return what equal jobs have in common: SHA-256, in hex, of their fields as JSON.

    The JSON is `{"keys": [...], "values": {field: value, ...}}`, with all keys sorted, no spaces, whole numbers
    without a fraction, in UTF-8. Raises `ValueError` where neither args nor meta have a key that is asked for.
    """
    values = {field: getattr(job, field) for field in unique.fields}
    if unique.keys:
        values |= {field: _narrowed(values[field], unique.keys) for field in WITH_KEYS if field in values}
        _refuse_missing(unique, values)
    keys = sorted({*unique.keys}) if unique.keys else []
    if all(map(_is_simple, values.values())):
        content = in_json_at_once({"keys": keys, "values": values})
    else:
        content = in_json({"keys": keys, "values": _canonical(values)}).encode()
    return hashlib.sha256(content).hexdigest()


def _is_simple(value: object) -> bool:
    """Tell whether a text or an object has neither numbers with a fraction nor anything that may hold one."""
    return type(value) is str or (type(value) is dict and PLAIN.issuperset(map(type, value.values())))


def _narrowed(value: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value[key] for key in keys if key in value}


def _refuse_missing(unique: Unique, values: Mapping[str, Any]) -> None:
    """Refuse a key that is nowhere: all jobs would be the same."""
    within = [field for field in WITH_KEYS if field in values]
    for key in unique.keys:
        if not any(key in values[field] for field in within):
            raise ValueError(
                f"unique: {' and '.join(within)} have no key {key!r}, which `keys` asks for; give it"
            )


def _canonical(value: Any) -> Any:
    """Write numbers as databases compare them: 1.0 is 1."""
    match value:
        case dict():
            return {key: _canonical(each) for key, each in value.items()}
        case list():
            return [_canonical(each) for each in value]
        case float():
            return int(value) if value.is_integer() else value
        case _:
            return value


# A conflict


def is_in_the_way(holder: AnyJob, unique: Unique, now: datetime) -> bool:
    """Tell whether the job that holds a key keeps a new one out."""
    if holder.state not in states_of(unique):
        return False
    since = getattr(holder, unique.timestamp)
    return unique.period is None or since is None or since >= now - min(unique.period, LONGEST_DELAY)


def replaced(holder: AnyJob, job: AnyJob, now: datetime) -> AnyJob:
    """Return the holder with the fields that the new job wants replaced in its state, as the new job has them."""
    fields = _fields_to_replace(holder, job.replace)
    changes = {field: getattr(job, field) for field in fields}
    if "scheduled_at" in changes:
        changes["scheduled_at"] = job.scheduled_at or now + (job.schedule_in or timedelta(0))
    return updated(holder, changes, now) if changes else holder


def _fields_to_replace(holder: AnyJob, replacement: Replacement | None) -> Sequence[str]:
    """Choose by state; a time to come is only for what waits."""
    asked = replacement.get(holder.state, ()) if isinstance(replacement, Mapping) else replacement or ()
    return [field for field in asked if field != "scheduled_at" or holder.state in WAITING]
