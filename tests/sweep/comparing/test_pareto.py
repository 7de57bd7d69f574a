"""Which settings nothing beats in score and cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard
from transferpipe.sweep.comparing.pareto import cost_of, pareto_front

NUMBERS = st.integers(-3, 3).map(float)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12), st.booleans())
def test_a_point_is_on_the_front_unless_another_beats_it(points, higher):
    def beats(one, other):
        better = one[1] >= other[1] if higher else one[1] <= other[1]
        return one[0] <= other[0] and better and one != other

    expected = [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]
    front = pareto_front(points, higher)
    assert sorted(front) == expected
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_what_a_setting_costs_is_the_mean_over_its_seeds():
    def entry(seed, **result):
        score = {"value": 0.5, "name": "accuracy"}
        return Entry({"seed": seed}, None, seed, "p", {"status": "done", "score": score, **result})

    board = leaderboard([entry("0", seconds=1.0, trainable_parameters=4), entry("1", seconds=4.0), entry("2")])
    (row,) = board.rows
    assert cost_of(row, "seconds") == pytest.approx(2.5) and cost_of(row, "trainable parameters") == 4
