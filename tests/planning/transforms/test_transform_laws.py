"""Our transforms under the laws that hold for every transform; `test_transforms_properties.py` draws their arguments."""

import numpy as np
import pytest

from transferpipe.planning.transforms import MERGES, TRANSFORMS
from transferpipe.testing import TransformLaws

SQUARE, MAP = (3, 3), (2, 3, 4)
# By name: arguments, the shapes of inputs, what NumPy makes of them, and the shape that is wanted where it is asked for.
CASES = {
    "transpose": (
        (None, ((2, 3),), lambda a: a.T),
        ([2, 0, 1], (MAP,), lambda a: np.transpose(a, (2, 0, 1))),
    ),
    "reshape": (([6, 4], (MAP,), lambda a: a.reshape(6, 4)), ([-1], ((2, 3),), np.ravel)),
    "slice": ((["0:2"], ((5, 2),), lambda a: a[:2]), ([1, ":"], ((3, 4),), lambda a: a[1])),
    "take": (({"axis": 1, "indices": [2, 0]}, ((2, 3),), lambda a: a[:, [2, 0]]),),
    "concat": ((0, ((2, 3), (4, 3)), lambda *a: np.concatenate(a)), (1, ((2, 3), (2, 1)), lambda *a: np.hstack(a))),
    "stack": ((0, ((2, 3), (2, 3)), lambda *a: np.stack(a)),),
    "sum": ((None, (SQUARE, SQUARE), lambda a, b: a + b),),
    "weight_norm": ((None, ((3, 1), (3, 4)), None),),
    "pad": (({"axis": 0, "before": 1, "after": 2, "value": 9}, ((2, 3),), lambda a: np.pad(a, ((1, 2), (0, 0)), constant_values=9)),),
    "cast": (("float16", ((2, 3),), lambda a: a.astype("float16")), ("int8", ((2,),), lambda a: a.astype("int8"))),
    "scale": ((0.5, ((2, 3),), lambda a: a / 2), (-3, ((),), lambda a: a * -3), (1e30, ((2,),), None)),
    "fill": ((0.25, ((2, 3),), lambda a: np.full_like(a, 0.25)),),
    "flatten_order": (([3, 2, 2], ((12, 5),), lambda a: a.reshape(3, 4, 5).swapaxes(0, 1).reshape(12, 5)),),
    "flip": (([0], (MAP,), np.flipud), ([0, 1], (MAP,), lambda a: a[::-1, ::-1])),
    "from_cudnn": (
        ({"part": "bias", "gates": 4}, ((16,),), lambda a: a[:8] + a[8:]),
        ({"part": "recurrent_kernel", "gates": 3}, ((2, 6),), None),
    ),
    "mean": ((None, (SQUARE, SQUARE), lambda a, b: (a + b) / 2),),
    "linear": (([2, -1], (SQUARE, SQUARE), lambda a, b: 2 * a - b),
               ({"weights": [1, 3], "normalize": True}, (SQUARE, SQUARE), lambda a, b: (a + 3 * b) / 4)),
    "lerp": ((0.25, (SQUARE, SQUARE), lambda a, b: a + (b - a) / 4),),
    "slerp": ((0.25, (SQUARE, SQUARE), None), ({"t": 1}, (MAP, MAP), lambda a, b: b)),
    "task_arithmetic": (
        ({"base": 0}, (SQUARE, SQUARE, SQUARE), lambda a, b, c: b + c - a),
        ({"base": 1, "weights": [2], "scale": 0.5}, (MAP, MAP), lambda a, b: a),
    ),
    "ties": (({"base": 0, "density": 1}, (SQUARE, SQUARE), lambda a, b: b), ({"base": 0, "density": 0.5}, (MAP, MAP, MAP), None)),
    "breadcrumbs": (({"base": 0, "density": 0.5}, (MAP, MAP, MAP), None),),
    "dare": (({"base": 0, "density": 0.5, "seed": 3}, (MAP, MAP), None), ({"base": 0, "density": 1}, (MAP, MAP), lambda a, b: b)),
    "della": (({"base": 0, "density": 0.5, "seed": 3}, (MAP, MAP), None), ({"base": 1, "density": 0.3}, (SQUARE, SQUARE), None)),
    "model_stock": (({"base": 0}, (SQUARE, SQUARE, SQUARE), None),),
    "fisher": ((None, (SQUARE, SQUARE), lambda a, b: a), ({"weights": [1, 2]}, (MAP,) * 4, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*TRANSFORMS, *MERGES])
def test_every_transform_is_tried(name):
    assert name in CASES


def laws_of(name, cases):
    """Return the laws of the transform called `name`, as a class that pytest collects."""

    def formula(self, arguments, arrays):
        for given, shapes, compute, *_ in cases:
            if given == arguments and shapes == tuple(a.shape for a in arrays):
                return compute(*arrays) if compute else None
        raise AssertionError(arguments)

    known = {**TRANSFORMS, **MERGES}
    facts = {"kind": known[name], "cases": tuple((*case[:2], *case[3:]) for case in cases), "formula": formula}
    return type(f"Test_{name}", (TransformLaws,), facts)


globals().update({f"Test_{name}": laws_of(name, cases) for name, cases in CASES.items()})
