"""The demo shows what it promises, as often as it is asked."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

HOME = Path(__file__).parents[1]
PATIENCE = 30


def demo(*arguments, folder):
    """Run it as somebody would, with its output in a file."""
    command, environment = prepared(*arguments)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def prepared(*arguments):
    command = [sys.executable, "-W", "error", "-m", "education_crm", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("STAFFA_", "CRM_"))}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, [HOME, *sys.path])), "COLUMNS": "100"}
    return command, environment


def test_the_demo_imports_and_joins_and_ends_as_often_as_it_is_asked(tmp_path):
    for _ in range(2):
        ended = demo("demo", folder=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "9,677 leads created from 10,000 rows" in ended.stdout
        assert "The branch has a lead with this phone number already." in ended.stdout
        assert "Anjali Reddy" in ended.stdout
        assert "csv_import: completed" in ended.stdout
        assert "the same" in ended.stdout

    assert list(tmp_path.iterdir()) == []


def test_the_demo_may_be_shown_again_on_the_same_postgresql(postgres_url, tmp_path):
    for _ in range(2):
        ended = demo("demo", "--database", postgres_url, folder=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "9,677 leads created" in ended.stdout


def test_on_a_terminal_the_demo_serves_until_ctrl_c(tmp_path):
    ours, terminal = pty.openpty()
    command, environment = prepared("demo")

    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = read_until(ours, rb"password \S+\r\n")
        address = re.search(rb"Serving on (http://127\.0\.0\.1:\d+)", shown)[1].decode()
        assert "Log in" in when_it_answers(f"{address}/login")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0

    os.close(ours)


def read_until(terminal, pattern):
    """What a terminal shows, up to a pattern and without its colours."""
    shown = plain = b""

    while not re.search(pattern, plain):
        ready, _, _ = select.select([terminal], [], [], PATIENCE)
        assert ready, plain.decode()
        shown += os.read(terminal, 4096)
        plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown)

    return plain


def when_it_answers(address):
    """The page at an address, asked for until there is a server."""
    deadline = time.monotonic() + PATIENCE

    while True:
        try:
            return httpx.get(address).text
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_setting_up(tmp_path):
    database = ["--database", f"sqlite:///{tmp_path / 'crm.db'}"]
    ended = demo("setup", "--password", "correct horse", *database, folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "log in as admin" in ended.stdout
    again = demo("setup", "--password", "correct horse", *database, folder=tmp_path)
    assert again.returncode == 2
    assert "is taken already" in again.stderr
    ended = demo("setup", "--sample", *database, folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "log in as admin-2" in ended.stdout
