"""What the siblings of every kernel have in common, against Python's own statistics of the others."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from transferpipe.values.suspicious import leave_each_out

GAINS = st.lists(st.one_of(st.sampled_from([0.0, 0.5, 3.0]), st.floats(0, 1e6)), min_size=1, max_size=12)


@given(GAINS)
def test_each_is_left_out_of_its_own_siblings(numbers):
    gains = {str(k): number for k, number in enumerate(numbers)}
    found = dict(leave_each_out(gains))
    assert found.keys() == gains.keys()
    for name, siblings in found.items():
        others = [gain for other, gain in gains.items() if other != name]
        assert siblings.count == len(others)
        if others:
            expected = (statistics.median(others), min(others), max(others))
            assert (siblings.median, siblings.least, siblings.most) == expected


def test_ten_thousand_are_sorted_once():
    compared = 0

    class Counted(float):
        def __lt__(self, other):
            nonlocal compared
            compared += 1
            return float(self) < float(other)

    found = dict(leave_each_out({str(k): Counted((k * 7919) % 10_007) for k in range(10_000)}))
    assert len(found) == 10_000
    assert compared < 200_000, "n log n, not n squared"
