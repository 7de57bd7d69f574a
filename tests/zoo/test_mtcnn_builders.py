"""The three networks of MTCNN: sizes as in the paper, names, and what `by_columns` changes."""

import numpy as np
import pytest

from transferpipe.zoo import mtcnn_onet, mtcnn_pnet, mtcnn_rnet

PARAMETERS = {mtcnn_pnet: 6_632, mtcnn_rnet: 100_178, mtcnn_onet: 389_040}


@pytest.mark.parametrize("builder", PARAMETERS)
def test_sizes(builder):
    assert builder().count_params() == PARAMETERS[builder]


def test_outputs():
    images = np.zeros((2, 48, 48, 3), "float32")
    assert [tuple(y.shape) for y in mtcnn_onet()(images)] == [(2, 2), (2, 4), (2, 10)]
    assert [tuple(y.shape) for y in mtcnn_rnet()(images[:, :24, :24])] == [(2, 2), (2, 4)]
    # A window of 12 gives one place, and every 2 pixels more another, a last one in part.
    for size, places in ((12, 1), (14, 2), (15, 3), (48, 19)):
        assert [tuple(y.shape) for y in mtcnn_pnet()(images[:, :size, :size])] == [
            (2, places, places, n) for n in (2, 4)
        ]


def test_names():
    names = " ".join(x.name for x in mtcnn_onet().layers if x.weights)
    assert names == "conv1 prelu1 conv2 prelu2 conv3 prelu3 conv4 prelu4 dense5 prelu5 face box landmarks"


@pytest.mark.parametrize(("builder", "size", "channels", "dense"), [(mtcnn_rnet, 24, 64, "dense4"), (mtcnn_onet, 48, 128, "dense5")])  # fmt: skip
def test_by_columns_is_an_order_of_rows(builder, size, channels, dense):
    columns, rows = builder(), builder(by_columns=False)
    rows.set_weights(columns.get_weights())
    kernel, bias = columns.get_layer(dense).get_weights()
    rows.get_layer(dense).set_weights(
        [kernel.reshape(3, 3, channels, -1).transpose(1, 0, 2, 3).reshape(kernel.shape), bias]
    )
    images = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype("float32")
    for one, other in zip(columns(images), rows(images), strict=True):
        assert np.allclose(one, other, atol=1e-6)
