"""The tables live in any schema that PostgreSQL can name; others are refused before anything is opened."""

import pytest

from nodes import finished, quick
from staffa import Staffa, State, Worker
from staffa.errors import ConfigError


class Anywhere(Worker, name="schema.Anywhere"):
    async def perform(self, job: object) -> None: ...


@pytest.mark.parametrize("schema", ['we"ird %s :x %(y)s', "it's 100%", "s" * 51])
async def test_jobs_run_in_a_schema_of_any_name(empty_postgres_url: str, schema: str) -> None:
    staffa = quick(empty_postgres_url, schema=schema)
    try:
        await staffa.amigrate()
        assert await staffa.amigrate() == []
        async with staffa:
            [done] = await finished(staffa, [await staffa.ainsert(Anywhere.new())])
    finally:
        staffa.close()
    assert done.state == State.COMPLETED


@pytest.mark.parametrize("schema", ["", "s" * 52, "é" * 26, "a\0b"])
def test_a_schema_that_cannot_be_named_or_listened_to_is_refused_at_once(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema: a name of 1 to 51 bytes"):
        Staffa("postgresql://nowhere/db", schema=schema)
