"""What the name of an operation of a TensorFlow graph tells: the layer that it belongs to, as Keras names scopes."""

from __future__ import annotations

import re

# What operations of TensorFlow and layers of Keras are both called.
_LIKE_LAYERS = re.compile(r"((depthwise_|separable_)?conv[123]d(_transpose)?)(_\d+)?")
# The operations of a layer, by the names that Keras gives them inside of it; tf.raw_ops, and Keras's own backends.
_OPERATION = re.compile(
    r"(MatMul|Conv[123]D|Conv[23]DTranspose|conv[123]d(_transpose)?|convolution|conv_transpose|depthwise|separable_conv2d"
    r"|DepthwiseConv2dNative|Tensordot|BiasAdd|Reshape|Cast|Squeeze|ExpandDims|FusedBatchNorm(V\d)?|Scaled|Offset"
    r"|batchnorm|embedding_lookup|GatherV2|mul|add|sub|Mul|Add|AddV2|Sub|Relu6?|Sigmoid|Tanh|einsum|Einsum|transpose"
    r"|Shape|Read|split|strided_slice|Neg)(_\d+)?"
)
# The body of a loop repeats the whole scope behind its own name, lowered to branches or as a function of the graph.
_BODY = re.compile(r"^(.*/while(_\d+)?/(body|cond)/_\d+|\w+_while_(body|cond)_\d+)/")
_LOOP = re.compile(r"/while(_\d+)?(?=/)")


def is_operation(segment: str) -> bool:
    """Tell whether a segment of a name is an operation's, not a layer's."""
    return bool(_OPERATION.fullmatch(segment))


def strip_operations(path: str) -> str:
    """Return what is before the operations that a path ends with, behind one operation.

    Keras calls its layers like some of them: ``conv2d/Conv2D`` is of ``conv2d``, ``separable_conv2d_1/separable_conv2d/
    depthwise`` of ``separable_conv2d_1``.
    """
    before, _, own = path.rpartition("/")
    while own and is_operation(own):
        if _LIKE_LAYERS.fullmatch(own) and not _LIKE_LAYERS.fullmatch(before.rpartition("/")[2]):
            break
        path = before
        before, _, own = path.rpartition("/")
    return path


def strip_loops(path: str) -> str:
    """Return a path without the loops that it leads through.

    >>> strip_loops("m/g/while/body/_89/m/g/while/gru_cell/MatMul"), strip_loops("m_g_while_body_9/m/g/while/MatMul")
    ('m/g/gru_cell/MatMul', 'm/g/MatMul')
    """
    return _LOOP.sub("", _BODY.sub("", path))


def layer_of(operation: str) -> str:
    """Return the layer that an operation belongs to, by its name.

    >>> layer_of("m/d/Tensordot/MatMul"), layer_of("MatMul")
    ('m/d', 'MatMul')
    """
    layer, _, own = strip_loops(operation).rpartition("/")
    return strip_operations(layer) or own
