"""Laws between numbers in names, where many hold for the same pairs."""

import itertools

import pytest

from transferpipe.planning.suggest.laws import Term, find_laws


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_the_law_that_copies_every_number_comes_first_where_all_pairs_are_possible(count: int) -> None:
    names = list(itertools.product((0, 1), repeat=count))

    laws = find_laws([(ours, theirs) for ours in names for theirs in names])

    assert laws[0] == tuple(Term(place, 1, 0) for place in range(count))
