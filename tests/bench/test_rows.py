"""Every row of the table can be measured; how fast anything is, no test judges."""

import math
import os

import pytest

from bench.rows import ROWS

MAY_BE_NOTHING = {"idle"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_a_row_is_measured_on_each_database_it_names(lab, row):
    if row.key == "idle" and "STAFFA_TEST_POSTGRES_URL" in os.environ:
        pytest.skip("the log of a server that is not ours is somewhere else")

    found = row.measure(lab, row.key, row.what)

    assert (found.key, found.what) == (row.key, row.what)
    assert found.checks
    for each in (*found.checks, *found.figures):
        assert all(math.isfinite(value) for value in each.values), each
        assert len(each.values) == lab.scale.rounds
        if row.key not in MAY_BE_NOTHING:
            assert min(each.values) > 0, each


def test_a_peer_that_cannot_be_had_is_told_and_the_rest_is_measured(lab):
    [row] = (row for row in ROWS if row.key == "drain-sqlite")

    found = row.measure(lab, row.key, row.what)

    assert lab.missing == {"huey": "huey is not here"}
    assert [figure.name for figure in found.figures] == ["Staffa", "raw exchange loop"]
