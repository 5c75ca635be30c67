"""A database that an Elixir node and ours share."""

import pytest

from elixir import Elixir


@pytest.fixture
def elixir(postgres_url):
    node = Elixir(postgres_url)
    yield node
    node.close()
