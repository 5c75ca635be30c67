"""How answers look."""

import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from staffa.cli.printing import counted, distance, moment, printable, span

FITTED = """
from staffa.cli.printing import tell_table
tell_table(("ID", "PURPOSE"), [("1", "Mails to [red]customers[/red] and invitations " * 3), ("2", "Kurz")])
"""


def test_a_terminal_gets_a_table_that_fits_and_loses_nothing():
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "40", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", FITTED], stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        assert process.wait() == 0
    os.close(ours)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert all(len(line) <= 40 for line in plain.splitlines())
    assert "".join(plain.split()) == "IDPURPOSE1" + "Mailsto[red]customers[/red]andinvitations" * 3 + "2Kurz"


def test_nothing_is_loaded_for_terminals_where_there_is_none():
    loaded = f"import sys, staffa.cli\n{FITTED}\nassert not [each for each in sys.modules if each.startswith('rich.')]"
    subprocess.run([sys.executable, "-c", loaded], stdout=subprocess.PIPE, check=True)


def _read(descriptor):
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (61, "1m1s"),
        (3_600, "1h"),
        (3_661, "1h1m"),
        (3_605, "1h"),
        (90_000, "1d1h"),
        (864_000, "10d"),
    ],
)
def test_lengths_of_time_are_written_by_their_two_largest_units(seconds, text):
    assert span(timedelta(seconds=seconds)) == text


def test_instants_are_written_in_utc_with_their_distance():
    assert moment(None) == ""
    assert moment(datetime(2020, 1, 31, 9, 0, tzinfo=UTC)).startswith("2020-01-31 09:00:00 UTC (")
    assert distance(datetime.now(UTC) - timedelta(minutes=5, seconds=0.5)) == "5m ago"
    assert distance(datetime.now(UTC) + timedelta(hours=2, seconds=30)).startswith("in 2h")


def test_control_characters_are_shown_not_sent():
    assert printable("a\x1b[2J\x07\u202eb\n\tनमस्ते") == "a\\x1b[2J\\x07\\u202eb\n\tनमस्ते"


def test_numbers_agree_with_their_nouns():
    assert (counted(1, "job"), counted(0, "job"), counted(20_000, "job")) == (
        "1 job",
        "0 jobs",
        "20,000 jobs",
    )
