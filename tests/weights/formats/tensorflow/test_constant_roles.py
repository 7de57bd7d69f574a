"""Roles of constants: what operations take them for, in any order, through loops and functions, in parts of layers."""

import pytest

from transferpipe.weights.formats.tensorflow.constant_names import name_constants
from transferpipe.weights.formats.tensorflow.constant_roles import ConstantRoles, GraphOperation

# By what is tried: the constants with their shapes, the operations as (name, operation, inputs), and the names.
CASES = {
    "nodes behind those that take them": (
        {"w": (3, 2)},
        [("d/MatMul", "MatMul", "x read"), ("read", "Identity", "other"), ("other", "Cast", "w")],
        {"w": "d/kernel"},
    ),
    "a loop as branches": (
        {"m/r/cell/Cast/ReadVariableOp": (3, 2), "m/r/cell/Cast_1/ReadVariableOp": (2, 2), "m/r/cell/b/ReadVariableOp": (2,)},
        [
            ("m/r/while/item", "TensorListGetItem", "list i"),
            ("m/r/while/body/_9/m/r/while/cell/MatMul", "MatMul", "m/r/while/item enter"),
            ("enter", "Enter", "m/r/cell/Cast/ReadVariableOp"),
            ("merged", "Merge", "enter_1 next"),
            ("enter_1", "Enter", "m/r/cell/Cast_1/ReadVariableOp"),
            ("switch", "Switch", "merged condition"),
            ("m/r/while/body/_9/m/r/while/cell/MatMul_1", "MatMul", "state switch:1"),
            ("m/r/while/cell/add", "AddV2",
             "m/r/while/body/_9/m/r/while/cell/MatMul m/r/while/body/_9/m/r/while/cell/MatMul_1"),
            ("m/r/while/cell/add_1", "AddV2", "m/r/while/cell/add m/r/cell/b/ReadVariableOp"),
        ],
        {
            "m/r/cell/Cast/ReadVariableOp": "m/r/cell/kernel",
            "m/r/cell/Cast_1/ReadVariableOp": "m/r/cell/recurrent_kernel",
            "m/r/cell/b/ReadVariableOp": "m/r/cell/b/bias",
        },
    ),
    "parts of a constant": (
        {"r/split/ReadVariableOp": (2, 6), "r/Read/ReadVariableOp": (2, 6)},
        [
            ("r/split", "Split", "axis r/split/ReadVariableOp"),
            ("r/Squeeze", "Squeeze", "r/split:1"),
            ("r/BiasAdd", "BiasAdd", "y r/Squeeze"),
            ("r/strided_slice", "StridedSlice", "r/Read/ReadVariableOp a b c"),
            ("r/MatMul", "MatMul", "x r/strided_slice"),
        ],
        {"r/split/ReadVariableOp": "r/bias", "r/Read/ReadVariableOp": "r/kernel"},
    ),
    "a bias behind moved axes": (
        {"a/query/Add/ReadVariableOp": (2, 3), "a/query/Cast/ReadVariableOp": (4, 2, 3)},
        [
            ("a/query/Reshape", "Reshape", "a/query/Cast/ReadVariableOp s"),
            ("a/query/MatMul", "BatchMatMulV2", "x a/query/Reshape"),
            ("a/query/Reshape_1", "Reshape", "a/query/MatMul s"),
            ("a/query/transpose", "Transpose", "a/query/Reshape_1 p"),
            ("a/query/Add", "AddV2", "a/query/transpose a/query/Add/ReadVariableOp"),
        ],
        {"a/query/Add/ReadVariableOp": "a/query/bias", "a/query/Cast/ReadVariableOp": "a/query/kernel"},
    ),
    "positions behind a product": (
        {"p/table": (7, 4), "p/MatMul/ReadVariableOp": (3, 4)},
        [("p/MatMul", "MatMul", "x p/MatMul/ReadVariableOp"), ("p/add", "AddV2", "p/MatMul p/table")],
        {"p/table": "p/table", "p/MatMul/ReadVariableOp": "p/kernel"},
    ),
    "a separable convolution": (
        {"s/separable_conv2d/ReadVariableOp": (3, 3, 4, 1), "s/separable_conv2d/ReadVariableOp_1": (1, 1, 4, 5)},
        [
            ("s/separable_conv2d/depthwise", "DepthwiseConv2dNative", "x s/separable_conv2d/ReadVariableOp"),
            ("s/separable_conv2d", "Conv2D", "s/separable_conv2d/depthwise s/separable_conv2d/ReadVariableOp_1"),
        ],
        {
            "s/separable_conv2d/ReadVariableOp": "s/depthwise_kernel",
            "s/separable_conv2d/ReadVariableOp_1": "s/pointwise_kernel",
        },
    ),
    "a depthwise convolution before another": (
        {"dw/depthwise/ReadVariableOp": (3, 3, 4, 1), "c/Conv2D/ReadVariableOp": (1, 1, 4, 5)},
        [
            ("dw/depthwise", "DepthwiseConv2dNative", "x dw/depthwise/ReadVariableOp"),
            ("c/Conv2D", "Conv2D", "dw/depthwise c/Conv2D/ReadVariableOp"),
        ],
        {"dw/depthwise/ReadVariableOp": "dw/kernel", "c/Conv2D/ReadVariableOp": "c/kernel"},
    ),
    "a slope": (
        {"p/ReadVariableOp": (1, 4)},
        [
            ("p/Relu", "Relu", "x"), ("p/Neg_1", "Neg", "x"), ("p/Relu_1", "Relu", "p/Neg_1"),
            ("p/Neg", "Neg", "p/ReadVariableOp"), ("p/mul", "Mul", "p/Neg p/Relu_1"),
        ],
        {"p/ReadVariableOp": "p/alpha"},
    ),
    "a normalization that an optimizer rewrote": (
        {"n/Reshape_1": (1, 4), "n/Reshape": (1, 4)},
        [
            ("n/Rsqrt", "Rsqrt", "v"), ("n/mul", "Mul", "n/Rsqrt n/Reshape"), ("n/mul_1", "Mul", "mean n/mul"),
            ("n/mul_2", "Mul", "x n/mul"), ("n/sum", "AddN", "n/mul_2 n/mul_1"), ("n/add", "AddV2", "n/Reshape_1 n/sum"),
        ],
        {"n/Reshape_1": "n/beta", "n/Reshape": "n/gamma"},
    ),
    "what goes round": (
        {"d/MatMul/ReadVariableOp": (3, 2)},
        [("a", "Identity", "b"), ("b", "Identity", "a"), ("d/MatMul", "MatMul", "x a")],
        {"d/MatMul/ReadVariableOp": "d/kernel"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_names(case):
    shapes, operations, names = CASES[case]
    assert name_constants(shapes, [GraphOperation(n, op, tuple(i.split())) for n, op, i in operations]) == names


def test_long_chains_take_no_square_of_time():
    """A square of it would take more than a minute."""
    chain = [GraphOperation(f"n{k}", "Identity", (f"n{k - 1}",)) for k in range(30_000)]
    roles = ConstantRoles([*chain, GraphOperation("d/MatMul", "MatMul", ("x", "w"))], {"w": (3, 2)})
    assert roles.uses == {"w": [("kernel", "d/MatMul")]}
