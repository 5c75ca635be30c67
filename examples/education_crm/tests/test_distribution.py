from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from education_crm.distribution import deal, shares


def test_leads_go_round_in_the_order_given():
    assert list(deal(5, ["c", "a", "b"])) == ["c", "a", "b", "c", "a"]


def test_the_first_telecallers_take_what_is_left_over():
    assert shares(10, ["x", "y", "z"]) == [("x", 4), ("y", 3), ("z", 3)]


def test_no_leads_leave_everybody_with_nothing():
    assert list(deal(0, ["x"])) == []
    assert shares(0, ["x", "y"]) == [("x", 0), ("y", 0)]


def test_leads_without_telecallers_are_refused():
    with pytest.raises(ValueError, match="no telecallers"):
        deal(1, [])


@given(st.integers(0, 500), st.lists(st.text(min_size=1), min_size=1, max_size=20, unique=True))
def test_shares_tell_what_dealing_does_and_differ_by_one_at_most(leads, telecallers):
    counted = Counter(deal(leads, telecallers))
    told = shares(leads, telecallers)
    assert [one for one, _ in told] == telecallers
    assert all(counted[one] == share for one, share in told)
    assert max(share for _, share in told) - min(share for _, share in told) <= 1
