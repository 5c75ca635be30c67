"""What nodes tell each other is understood in Oban's own words, and nonsense is passed over with a line in the log."""

import json
import logging
import re
from pathlib import Path

import pytest

from staffa._signals import Action, Signal, ident, understood
from staffa.config import LARGEST_INTEGER

MINE = "Staffa.worker-1"


def test_a_node_is_named_as_oban_names_it():
    assert ident("Oban", "sample-node") == "Oban.sample-node"


@pytest.mark.parametrize(
    ("payload", "signal"),
    [
        ('{"action":"pause","ident":"any","queue":"interop"}', Signal(action=Action.PAUSE, queue="interop")),
        ('{"action":"resume","ident":"any","queue":"*"}', Signal(action=Action.RESUME, queue="*")),
        (
            '{"action":"scale","ident":"any","limit":7,"queue":"interop"}',
            Signal(action=Action.SCALE, queue="interop", limit=7),
        ),
        (
            '{"action":"scale","ident":"Staffa.worker-1","limit":8,"node":"worker-1","queue":"interop"}',
            Signal(action=Action.SCALE, queue="interop", limit=8, to_everyone=False),
        ),
        (
            '{"action":"start","ident":"any","limit":4,"paused":true,"queue":"extra"}',
            Signal(action=Action.START, queue="extra", limit=4, paused=True),
        ),
        ('{"action":"stop","ident":"any","queue":"extra"}', Signal(action=Action.STOP, queue="extra")),
        ('{"action":"pkill","job_id":19}', Signal(action=Action.KILL, job_id=19)),
    ],
)
def test_what_oban_sends_is_understood(payload, signal, caplog):
    assert understood(json.loads(payload), MINE) == signal
    assert not caplog.records


@pytest.mark.parametrize("to", ["Oban.sample-node", "Staffa.worker-2", "Staffa", "worker-1", "", "ANY"])
def test_what_is_said_to_others_is_silently_passed_over(to, caplog):
    assert understood({"action": "pause", "queue": "a", "ident": to}, MINE) is None
    assert understood({"action": "nonsense", "ident": to}, MINE) is None
    assert not caplog.records


GOOD = {
    "pause": {"queue": "mail"},
    "scale": {"queue": "mail", "limit": 1},
    "start": {"queue": "mail", "limit": LARGEST_INTEGER},
    "stop": {"queue": "mail"},
    "pkill": {"job_id": 1},
}
BAD_LIMITS = ["7", None, 0, -1, True, 1.5, [], {}, LARGEST_INTEGER + 1, 10**40]
BAD = [
    ({}, "it has no action"),
    ({"queue": "mail"}, "it has no action"),
    *(
        ({"action": action, "queue": "mail"}, "its action is unknown")
        for action in ("", "PAUSE", 7, None, [])
    ),
    *(({"action": "pause", "queue": queue}, "its queue") for queue in (None, 7, "", [], "q" * 200)),
    *(({"action": action}, "it has no") for action in GOOD),
    *(({"action": "scale", "queue": "mail", "limit": limit}, "its limit") for limit in BAD_LIMITS),
    *(({"action": "start", "queue": "mail", "limit": limit}, "its limit") for limit in BAD_LIMITS),
    ({"action": "scale", "queue": "mail"}, "it has no limit"),
    *(
        ({"action": action, "queue": "*", "limit": 1}, "must be one queue")
        for action in ("scale", "start", "stop")
    ),
    *(({"action": "start", "queue": "a", "limit": 1, "paused": flag}, "paused") for flag in (0, "true", [])),
    *(({"action": "pkill", "job_id": job_id}, "its job_id") for job_id in ("19", None, True, [1])),
    ({"action": "pkill", "job_id": 1, "take": "3"}, "its take"),
    ({"action": "pause", "queue": "mail", "number": "7"}, "its number"),
    ({"action": "pause", "queue": "mail", "ident": 7}, "its ident"),
]


@pytest.mark.parametrize(("payload", "why"), BAD, ids=range(len(BAD)))
def test_nonsense_is_passed_over_with_one_line_that_says_why(payload, why, caplog):
    caplog.set_level(logging.WARNING, "staffa")
    assert understood(payload, MINE) is None
    [record] = caplog.records
    assert record.getMessage().startswith("a signal was ignored, as it")
    assert why in record.getMessage()


@pytest.mark.parametrize("action", GOOD)
def test_what_is_nonsense_above_is_so_for_its_one_fault(action):
    assert understood({"action": action, **GOOD[action]}, MINE) is not None


def test_a_payload_cannot_command_the_terminal_of_who_reads_the_log(caplog):
    understood({"action": "\x1b[31m" + "x" * 5_000}, MINE)
    [record] = caplog.records
    assert "\x1b" not in record.getMessage()
    assert len(record.getMessage()) < 300


def test_every_signal_that_was_recorded_of_a_real_oban_is_understood(caplog):
    recorded = (Path(__file__).parent / "oban_signals.txt").read_text().splitlines()
    for line in recorded:
        payload = json.loads(line)
        to = payload.get("ident", "any")
        assert understood(payload, MINE if to == "any" else to) is not None, line
    assert len(recorded) > 5
    assert not caplog.records
    assert all(re.search(r'"action":"(\w+)"', line) for line in recorded)
