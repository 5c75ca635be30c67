"""The demo shows what it promises, as often as it is asked."""

import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[1]


def demo(*arguments, folder):
    """Run it as somebody would, with its output in a file."""
    command = [sys.executable, "-W", "error", "-m", "education_crm", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("STAFFA_", "CRM_"))}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, [HOME, *sys.path])), "COLUMNS": "100"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


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


def test_setting_up_and_sweeping(tmp_path):
    database = ["--database", f"sqlite:///{tmp_path / 'crm.db'}"]
    ended = demo("setup", "--password", "correct horse", *database, folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "log in as admin" in ended.stdout
    ended = demo("sweep", *database, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "uploads 0, temporary files 0, recordings 0\n")
