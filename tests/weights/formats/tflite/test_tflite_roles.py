"""What operators of TensorFlow Lite take tensors for: in loops, in parts of layers, behind moved axes."""

import pytest

from transferpipe.weights.formats.tflite.roles import TfliteOperation, find_roles

ADD, DEPTHWISE, CONV, FULLY_CONNECTED, RESHAPE, GATHER, TRANSPOSE = 0, 4, 3, 9, 22, 36, 39

CELL = {
    "m/l/while/cell/MatMul": (8, 3),
    "m/l/while/cell/MatMul_1": (8, 2),
    "m/l/while/cell/BiasAdd/ReadVariableOp": (8,),
}
IN_LOOP = [
    ("step", GATHER, ["list", "i"]),
    ("p", FULLY_CONNECTED, ["step", "m/l/while/cell/MatMul", ""]),
    ("q", FULLY_CONNECTED, ["state", "m/l/while/cell/MatMul_1", ""]),
    ("r", ADD, ["p", "q"]),
    ("s", ADD, ["r", "m/l/while/cell/BiasAdd/ReadVariableOp"]),
]
CASES = {
    "a recurrent cell": (
        CELL,
        IN_LOOP,
        {
            "m/l/while/cell/MatMul": "m/l/cell/kernel",
            "m/l/while/cell/MatMul_1": "m/l/cell/recurrent_kernel",
            "m/l/while/cell/BiasAdd/ReadVariableOp": "m/l/cell/bias",
        },
    ),
    "a product of the state alone": (
        {"m/w/while/d/MatMul": (4, 2)},
        [("q", FULLY_CONNECTED, ["state", "m/w/while/d/MatMul", ""])],
        {"m/w/while/d/MatMul": "m/w/d/kernel"},
    ),
    "a bias behind moved axes": (
        {"m/query/MatMul": (6, 4), "m/query/Add/ReadVariableOp": (2, 3), "positions": (5, 6)},
        [
            ("p", FULLY_CONNECTED, ["x", "m/query/MatMul", ""]),
            ("r", RESHAPE, ["p", "sizes"]),
            ("t", TRANSPOSE, ["r", "order"]),
            ("s", ADD, ["m/query/Add/ReadVariableOp", "t"]),
            ("u", ADD, ["p", "positions"]),
        ],
        {"m/query/MatMul": "m/query/kernel", "m/query/Add/ReadVariableOp": "m/query/bias"},
    ),
    "a separable convolution": (
        {"m/s/separable_conv2d/depthwise": (1, 3, 3, 4), "m/s/separable_conv2d": (5, 1, 1, 4)},
        [
            ("d", DEPTHWISE, ["x", "m/s/separable_conv2d/depthwise"]),
            ("c", CONV, ["d", "m/s/separable_conv2d"]),
        ],
        {
            "m/s/separable_conv2d/depthwise": "m/s/depthwise_kernel",
            "m/s/separable_conv2d": "m/s/pointwise_kernel",
        },
    ),
    "a Dense along the last axis": (
        {"m/d/Tensordot/MatMul": (5, 4)},
        [("p", FULLY_CONNECTED, ["x", "m/d/Tensordot/MatMul", ""])],
        {"m/d/Tensordot/MatMul": "m/d/kernel"},
    ),
    "what goes round": (
        {"m/d/MatMul": (5, 4), "b": (5,)},
        [("p", RESHAPE, ["q"]), ("q", RESHAPE, ["p"]), ("s", ADD, ["p", "b"])],
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_roles(case):
    shapes, operations, roles = CASES[case]
    inner = any("while" in name for name in shapes)
    assert find_roles(shapes, [TfliteOperation(n, op, tuple(i), inner) for n, op, i in operations]) == roles


def test_a_product_of_a_model_s_own_input_is_of_no_state():
    assert find_roles(CELL, [TfliteOperation(n, op, tuple(i)) for n, op, i in IN_LOOP]) == {
        "m/l/while/cell/MatMul": "m/l/cell/kernel",
        "m/l/while/cell/MatMul_1": "m/l/cell/kernel",
        "m/l/while/cell/BiasAdd/ReadVariableOp": "m/l/cell/bias",
    }
