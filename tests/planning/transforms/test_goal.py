"""What a step is told of the target: the shape that its own result should have, through the steps behind it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from transferpipe.planning.transforms import (
    Goal,
    Transform,
    TransformError,
    apply_chain,
    fit_chain,
    goal_before,
    infer,
    parse_transforms,
)


@dataclass(frozen=True)
class FirstRows(Transform):
    """As many rows as the target has, of a step of an installed package."""

    count: int | None = None
    name: ClassVar[str] = "first_rows"

    @classmethod
    def parse(cls, data):
        return cls(data)

    def fit(self, shapes, goal):
        return self if self.count is not None else FirstRows(goal.size(self, 0, len(shapes[0])))

    def shape(self, shapes):
        return (self.count, *shapes[0][1:])

    def apply(self, arrays):
        return arrays[0][: self.count]


SIX_ROWS = np.arange(24.0, dtype="float32").reshape(6, 4)


@pytest.mark.parametrize(
    ("behind", "target", "wanted"),
    [
        ([], (3, 4), 3),
        ([{"transpose": [1, 0]}], (4, 3), 3),
        (["transpose", {"scale": 2}, {"flip": [0]}], (4, 2), 2),
        ([{"pad": {"axis": 0, "before": 1, "after": 2}}], (5, 4), 2),
        ([{"pad": {"widths": [[0, 1], [1, 1]]}}], (5, 6), 4),
        ([{"slice": [":", "0:2"]}], (5, 2), None),
        ([{"take": {"axis": 1, "indices": [0]}}], (5, 1), 5),
        ([{"flatten_order": [2, 1, 2]}, "transpose"], (4, 4), 4),
        ([{"stack": 0}], (1, 2, 4), 2),
        ([{"sum": {"axis": 1}}], (5,), 5),
        ([{"concat": 1}], (5, 4), 5),
    ],
)
def test_a_step_is_given_the_size_that_leads_to_the_target(behind, target, wanted):
    steps = [FirstRows(), *parse_transforms(behind)]
    goal = Goal(target)
    if wanted is None:
        with pytest.raises(TransformError, match="hide that -> write the size, or make it the last step"):
            fit_chain(steps, [(6, 4)], goal)
        return
    assert fit_chain(steps, [(6, 4)], goal)[0] == FirstRows(wanted)
    assert infer(steps, [(6, 4)], ["float32"], goal) == (target, "float32")
    by_hand = apply_chain(steps[1:], [SIX_ROWS[:wanted]])
    assert np.array_equal(apply_chain(steps, [SIX_ROWS], goal), by_hand)


@pytest.mark.parametrize("behind", [[{"reshape": [-1]}], [{"slice": [0]}], ["weight_norm"], [{"sum": {"axis": 5}}]])
def test_where_the_steps_behind_hide_every_size_none_is_known(behind):
    assert goal_before(parse_transforms(behind), Goal((6,), "w", 3)) == Goal(None, "w", 3)


def test_a_size_of_another_number_of_axes_is_not_taken():
    with pytest.raises(TransformError, match=r"its result has 2 axes, where \(6,\) is wanted"):
        fit_chain([FirstRows()], [(6, 4)], Goal((6,)))


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 3_000_000), (3_000_000, 1), (3000, 700)])
def test_calling_a_step_with_blocks_gives_the_same_bits(shape):
    step, array = parse_transforms({"scale": 1 / 3})[0], np.random.default_rng(0).normal(size=shape).astype("float32")
    wanted = (array.astype("float64") * (1 / 3)).astype("float32")
    assert step(array).tobytes() == step.apply([array]).tobytes() == wanted.tobytes()
