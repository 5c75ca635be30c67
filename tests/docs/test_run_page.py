"""The reader of pages believes nothing that it did not see."""

import subprocess
import sys
from pathlib import Path

import pytest


def read(page, tmp_path):
    file = tmp_path / "page.md"
    file.write_text(page)
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_page.py")), str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```python\nraise ValueError('no')\n```\n", "page.md, line 1: ValueError"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "page.md, line 5: AssertionError"),
        ("```console\n$ false\n```\n", "'false' exited with 1"),
        ("```console fails\n$ true\n```\n", "'true' exited with 0"),
        ("```console\n$ echo one\ntwo\n```\n", "the page shows\ntwo"),
        ("```toml\ndatabse = 'x'\n```\n", "did you mean 'database'?"),
        ("```python\n# jobs.py\nvalue = 1\n```\n\n```python\nfrom jobs import other\n```\n", "ImportError"),
        ("```python\nprint(1)\n", "has no end"),
    ],
    ids=[
        "raises",
        "other output",
        "fails",
        "does not fail",
        "says otherwise",
        "wrong key",
        "no such name",
        "no end",
    ],
)
def test_a_page_that_is_wrong_is_found_out(page, complaint, tmp_path):
    done = read(page, tmp_path)

    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def test_a_page_that_is_right_is_believed(tmp_path):
    done = read(
        "```python\n# jobs.py\nvalue = 1\n```\n\n"
        "```python\nimport asyncio\nfrom jobs import value\nawait asyncio.sleep(0)\nprint('value', value)\n```\n\n"
        "```text\nvalue ...\n```\n\n"
        "```console\n$ ls jobs.py \\\n  jobs.py\njobs.py\n...\n$ echo done\n```\n\n"
        "```python no-run: it would never end\nwhile True: ...\n```\n",
        tmp_path,
    )

    assert done.returncode == 0, done.stdout + done.stderr
