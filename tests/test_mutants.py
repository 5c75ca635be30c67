"""Every mutant still takes away a safeguard that is there, so that seeing its tests fail means something."""

import ast
from dataclasses import replace

import pytest

from scripts.mutants import MUTANTS, ROOT, TESTS, Stale, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.promise} - {mutant.safeguard}")
def test_every_mutant_takes_away_what_is_there_and_leaves_code_that_compiles(mutant):
    for name, text in mutated(mutant).items():
        assert text != (ROOT / name).read_text()
        if name.endswith(".py"):
            ast.parse(text, name)


@pytest.mark.parametrize("old", ["no such text", "import"])
def test_a_mutant_is_stale_whose_text_is_gone_or_there_more_than_once(old):
    stale = replace(MUTANTS[0], changes=(("src/staffa/_producer.py", old, ""),))
    with pytest.raises(Stale, match=old):
        mutated(stale)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.promise} - {mutant.safeguard}")
def test_the_words_by_which_a_mutant_chooses_its_tests_are_in_their_files(mutant):
    sources = "".join((ROOT / name).read_text().lower() for name in TESTS)
    chosen = set(mutant.tests.lower().split()) - {"and", "or"}
    assert not {word for word in chosen if word not in sources}
