"""Fixtures for tests of applications, made only where a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from staffa._enqueuer import withdraw
from staffa.config import Testing
from staffa.instance import Staffa


@pytest.fixture
def staffa_url(tmp_path: Path) -> str:
    """The database of `staffa`, a new SQLite file; define a fixture of this name to use another."""
    return f"sqlite:///{tmp_path}/staffa.db"


@pytest.fixture
def staffa(staffa_url: str) -> Iterator[Staffa]:
    """An instance in manual mode that takes this test's jobs: it stores them and runs nothing."""
    yield from _default_instance(staffa_url, "manual")


@pytest.fixture
def staffa_inline(staffa_url: str) -> Iterator[Staffa]:
    """An instance in inline mode that takes this test's jobs: it runs them where they are enqueued."""
    yield from _default_instance(staffa_url, "inline")


def _default_instance(url: str, testing: Testing) -> Iterator[Staffa]:
    """Make an instance the default for one test, also where its own thread or task does not reach."""
    instance = Staffa(url, name=f"pytest ({testing})", default=True, testing=testing)
    try:
        with instance.as_default():
            yield instance
    finally:
        withdraw(instance)
        instance.close()
