"""The commands of the README are recipes, and continuous integration runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
READY = re.search(r"^READY := (.*)$", MAKEFILE, re.MULTILINE).group(1)


def make(*arguments):
    return subprocess.run(
        ["make", "-C", str(ROOT), *arguments],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def in_this_environment(recipe):
    """Run a recipe with the Python that runs the tests, which has everything already."""
    environment = Path(sys.prefix)
    return make("--old-file", READY.replace("$(VENV)", str(environment)), f"VENV={environment}", recipe)


def commands_of(page):
    """The commands for this repository; those after a change of the folder are for another project."""
    consoles = [each.text for each in blocks((ROOT / page).read_text("utf-8")) if each.language == "console"]
    shown = [text for text in consoles if "$ cd " not in text]
    return [
        line.removeprefix("$ ") for text in shown for line in text.splitlines() if line.startswith("$ make")
    ]


def recipes():
    return set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))


def test_make_alone_lists_its_recipes():
    listed = make()

    assert listed.returncode == 0
    assert {line.split()[1] for line in listed.stdout.splitlines() if line.startswith("make ")} == recipes()


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_recipes_that_a_page_names_exist(page):
    named = {command.split()[1] for command in commands_of(page) if command.split()[1:2] not in ([], ["#"])}

    assert named
    assert named <= recipes()


def test_continuous_integration_runs_the_checks_and_the_test_command_of_the_readme():
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()

    assert "make test" in commands_of("README.md")
    assert "set -euo pipefail" in lines
    assert lines[-4:] == ["status=0", "make check || status=$?", "make test || status=$?", 'exit "$status"']


def test_make_demo_imports_the_leads_and_joins_the_recording():
    shown = in_this_environment("demo")

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "9,677 leads created from 10,000 rows of leads-10000.csv" in shown.stdout
    assert re.search(r"stored\s+sha256 \w{64} the same", shown.stdout)


def test_an_old_python_is_refused_by_name(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac\n')
    old.chmod(0o755)

    refused = make("check", f"PYTHON={old}", f"VENV={tmp_path}/venv")

    assert refused.returncode != 0
    assert f"Staffa needs Python 3.11 or newer, but {old} is Python 3.9.2" in refused.stderr
