"""Files name the weights of every class of `keras.layers` as the model does that was saved, whatever its options."""

import inspect

import keras
import pytest
from keras import layers as kl

import transferpipe as tp

pytestmark = pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")  # Keras advises another class


def _spectrogram(**options):
    return kl.STFTSpectrogram(frame_length=4, frame_step=2, fft_length=4, **options)


def _wrapped(cell, **options):
    return kl.Bidirectional(cell(2, **options))


# What is built of each class with weights, with the shapes of its inputs; the options decide which weights there are.
_BUILT: dict[str, list] = {
    "Dense": [(kl.Dense, {"units": 2}, (3,)), (kl.Dense, {"units": 2, "use_bias": False}, (3,))],
    "EinsumDense": [
        (kl.EinsumDense, {"equation": "ab,bc->ac", "output_shape": 2, "bias_axes": axes}, (3,)) for axes in ("c", None)
    ],
    **{
        name: [
            (getattr(kl, name), {"filters": 2, "kernel_size": 2, "use_bias": b}, (*(4,) * n, 3)) for b in (True, False)
        ]
        for n in (1, 2, 3)
        for name in (f"Conv{n}D", f"Conv{n}DTranspose")
    },
    **{
        f"DepthwiseConv{n}D": [
            (getattr(kl, f"DepthwiseConv{n}D"), {"kernel_size": 2, "use_bias": b}, (*(4,) * n, 3))
            for b in (True, False)
        ]
        for n in (1, 2)
    },
    **{
        f"SeparableConv{n}D": [
            (getattr(kl, f"SeparableConv{n}D"), {"filters": 2, "kernel_size": 2, "use_bias": b}, (*(4,) * n, 3))
            for b in (True, False)
        ]
        for n in (1, 2)
    },
    **{
        f"ConvLSTM{n}D": [
            (getattr(kl, f"ConvLSTM{n}D"), {"filters": 2, "kernel_size": 2, "use_bias": b}, (2, *(4,) * n, 3))
            for b in (True, False)
        ]
        for n in (1, 2, 3)
    },
    **{
        name: [(getattr(kl, name), {"units": 2, "use_bias": b}, (4, 3)) for b in (True, False)]
        for name in ("LSTM", "GRU", "SimpleRNN")
    },
    "RNN": [
        (kl.RNN, {"cell": lambda: kl.LSTMCell(2)}, (4, 3)),
        (kl.RNN, {"cell": lambda: kl.StackedRNNCells([kl.GRUCell(2, reset_after=False), kl.SimpleRNNCell(2)])}, (4, 3)),
    ],
    "Bidirectional": [(_wrapped, {"cell": cell}, (4, 3)) for cell in (kl.LSTM, kl.GRU)],
    "TimeDistributed": [(kl.TimeDistributed, {"layer": lambda: kl.Dense(2)}, (4, 3))],
    "BatchNormalization": [
        (kl.BatchNormalization, {"scale": s, "center": c, "renorm": r}, (3,))
        for s, c, r in ((1, 1, 0), (1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 1, 0))
    ],
    "LayerNormalization": [
        (kl.LayerNormalization, options, (3,))
        for options in ({}, {"scale": False}, {"center": False}, {"rms_scaling": True})
    ],
    "GroupNormalization": [
        (kl.GroupNormalization, {"groups": 1, **o}, (3,)) for o in ({}, {"scale": False}, {"center": False})
    ],
    "RMSNormalization": [(kl.RMSNormalization, {}, (3,))],
    "Normalization": [(kl.Normalization, {}, (3,))],
    "SpectralNormalization": [
        (kl.SpectralNormalization, {"layer": lambda: kl.Dense(2)}, (3,)),
        (kl.SpectralNormalization, {"layer": lambda: kl.Embedding(5, 2)}, (3,)),
    ],
    "Embedding": [(kl.Embedding, {"input_dim": 5, "output_dim": 2}, (3,))],
    "ReversibleEmbedding": [
        (kl.ReversibleEmbedding, {"input_dim": 5, "output_dim": 2, "tie_weights": t}, (3,)) for t in (True, False)
    ],
    "PReLU": [(kl.PReLU, {}, (3,))],
    "Attention": [
        (kl.Attention, options, [(4, 3), (4, 3)])
        for options in ({"use_scale": True}, {"score_mode": "concat"}, {"use_scale": True, "score_mode": "concat"})
    ],
    "AdditiveAttention": [(kl.AdditiveAttention, {}, [(4, 3), (4, 3)])],
    "MultiHeadAttention": [
        (kl.MultiHeadAttention, {"num_heads": 2, "key_dim": 2, **o}, [(4, 3), (4, 3)])
        for o in ({}, {"use_bias": False}, {"use_gate": True})
    ],
    "GroupedQueryAttention": [
        (kl.GroupQueryAttention, {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1, **o}, [(4, 3), (4, 3)])
        for o in ({}, {"use_bias": False}, {"use_gate": True})
    ],
    "STFTSpectrogram": [(_spectrogram, {"mode": mode}, (16, 1)) for mode in ("log", "real", "imag", "stft", "angle")],
}
# Cells are in the layers that they make up; the code of others is their maker's.
_ELSEWHERE = {"LSTMCell", "GRUCell", "SimpleRNNCell", "StackedRNNCells", "TFSMLayer", "TorchModuleWrapper", "JaxLayer"}
_ELSEWHERE |= {"FlaxLayer", "Layer", "Wrapper"}
# What a file without a configuration leaves open: which of these weights there are.
_OPEN = {"BatchNormalization", "LayerNormalization", "GroupNormalization", "Attention", "STFTSpectrogram"}


def _makes_weights(layer_class):
    ours = [c for c in layer_class.__mro__ if c not in (kl.Layer, kl.Wrapper) and issubclass(c, kl.Layer)]
    return any("add_weight(" in inspect.getsource(c) or issubclass(c, kl.Wrapper) for c in ours)


def test_every_class_that_makes_weights_is_built_here():
    classes = {c for c in vars(keras.layers).values() if inspect.isclass(c) and issubclass(c, kl.Layer)}
    making = {c.__name__ for c in classes if _makes_weights(c)}
    assert len(making) > 30
    assert making - _BUILT.keys() - _ELSEWHERE == set()


def _built(case):
    make, options, shapes = case
    options = {k: v() if k in ("cell", "layer") and inspect.isfunction(v) else v for k, v in options.items()}
    layer = make(**options)
    dtype = "int32" if "Embedding" in f"{type(layer).__name__} {options.get('layer')}" else "float32"
    inputs = [keras.Input(s, dtype=dtype) for s in (shapes if isinstance(shapes, list) else [shapes])]
    if "Query" in type(layer).__name__ or "MultiHead" in type(layer).__name__:
        return keras.Model(inputs, layer(*inputs))
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))


@pytest.mark.parametrize("name", _BUILT)
def test_files_of_every_class_name_its_weights_as_the_model_does(name, tmp_path):
    if name == "STFTSpectrogram":
        pytest.importorskip("scipy")  # Keras takes its windows from there
    for case in _BUILT[name]:
        keras.utils.clear_session()
        model = _built(case)
        model.save(tmp_path / "m.keras")
        model.save_weights(tmp_path / "m.weights.h5")
        ours = [(w.name, w.shape, w.dtype) for w in tp.catalog(model)]
        assert ours
        theirs = {
            f: [(w.name, w.shape, w.dtype) for w in tp.catalog(tmp_path / f)] for f in ("m.keras", "m.weights.h5")
        }
        assert theirs["m.keras"] == ours, case
        differing = [(o, t) for o, t in zip(ours, theirs["m.weights.h5"], strict=True) if o != t]
        for named, numbered in differing:
            assert name in _OPEN and case[1], case
            assert numbered[0].rpartition("/")[2].isdigit() and numbered[1:] == named[1:], case
