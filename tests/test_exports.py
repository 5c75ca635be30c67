"""The public names are a sorted list, and nothing beside it."""

import subprocess
import sys

import staffa


def test_public_names_are_sorted():
    assert staffa.__all__ == sorted(staffa.__all__)


def test_public_names_exist():
    assert [name for name in staffa.__all__ if not hasattr(staffa, name)] == []


def test_nothing_else_looks_public():
    modules = {name for name, value in vars(staffa).items() if type(value) is type(staffa)}
    looks_public = {name for name in vars(staffa) if not name.startswith("_")} - modules

    assert looks_public == set(staffa.__all__)


def test_the_base_install_needs_no_extra():
    extras = {"psycopg", "psycopg_pool", "sqlalchemy", "starlette", "jinja2", "uvicorn", "pydantic", "pytest"}
    asked = "import sys, staffa, staffa.cli.app, staffa.testing; print(*{n.partition('.')[0] for n in sys.modules})"

    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert extras & set(loaded.stdout.split()) == set()
