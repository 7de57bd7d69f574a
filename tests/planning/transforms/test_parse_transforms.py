"""The tables of names, and chains of transforms."""

import numpy as np
import pytest

from transferpipe.planning.transforms import (
    MERGES,
    TRANSFORMS,
    TransformError,
    apply_chain,
    infer,
    parse_merge,
    parse_transform,
    parse_transforms,
)

EVERY = [
    {"transpose": [1, 0]},
    {"reshape": [-1]},
    {"slice": ["0:1"]},
    {"take": {"axis": 0, "indices": [0]}},
    {"concat": -1},
    {"stack": 0},
    {"same": None},
    {"split": {"axis": 0, "parts": 2, "part": 0}},
    {"unstack": 0},
    {"interleave": {"axis": 0}},
    {"repeat": {"axis": 0, "times": 2}},
    {"new_axis": 0},
    {"fuse_qkv": None},
    {"unfuse_qkv": {"part": "q"}},
    {"sum": None},
    {"mean": {"axis": 0}},
    {"max": None},
    {"weight_norm": None},
    {"spectral_norm": None},
    {"pad": {"axis": 0, "after": 1}},
    {"cast": "float16"},
    {"scale": 0.5},
    {"fill": 0},
    {"identity": None},
    {"add": 0.5},
    {"noise": {"std": 0.1}},
    {"normalize": {"axis": 0}},
    {"zero": None},
    {"flatten_order": [2, 3, 3]},
    {"flip": [0, 1]},
    {"from_cudnn": {"part": "kernel", "gates": 4}},
    {"classes": None},
    {"class_names": {"from": "a.txt", "to": "b.txt"}},
    {"vocabulary": {"from": "a.txt", "to": "b.txt"}},
    {"fold_batchnorm": {"of": ["kernel", "variance"], "epsilon": 0.001}},
    {"merge_lora": {"alpha": 1}},
    {"dequantize": None},
    {"channels": "sum"},
    {"crop_or_pad": "centre"},
    {"resize": {"axes": [0]}},
    {"resize_patches": None},
    {"resize_positions": {"prefix": 1}},
    {"inflate": "mean"},
    {"deflate": "sum"},
    {"units": {"axis": -1, "size": 3, "indices": [0, 2]}},
]


def test_every_transform_can_be_named():
    assert [next(iter(item)) for item in EVERY] == list(TRANSFORMS)
    assert [str(t).partition("(")[0] for t in parse_transforms(EVERY)] == list(TRANSFORMS)
    arguments = {"linear": [1], "lerp": 0.5, "slerp": 0.5, "mean": None, "fisher": None}
    merges = [{name: arguments.get(name, {"base": 0} | ({"density": 0.5} if "density" in kind.arguments else {}))}
              for name, kind in MERGES.items()]  # fmt: skip
    assert [str(parse_merge(item)).partition("(")[0] for item in merges] == list(MERGES)


def test_a_single_transform_needs_no_list():
    assert parse_transforms("transpose") == parse_transforms(["transpose"])
    assert parse_transforms({"scale": 2}) == (parse_transform({"scale": 2}),)
    assert parse_transforms([]) == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("transpos", "there is no transform 'transpos' -> did you mean 'transpose'?"),
        (
            {"mirror": 0},
            "there is no transform 'mirror' -> there are " + ", ".join(TRANSFORMS),
        ),
        ("linear", "linear is no transform, but a merge -> write it under merge:"),
        (None, "a transform is one name with its arguments, not None -> write {transpose: [1, 0]}"),
        ({}, "a transform is one name with its arguments, not {} -> write {transpose: [1, 0]}"),
        ({1: 2}, "a transform is one name with its arguments, not {1: 2} -> write {transpose: [1, 0]}"),
        (
            {"cast": "int8", "scale": 2},
            "a transform is one name with its arguments, not {'cast': 'int8', 'scale': 2} -> write {transpose: [1, 0]}",
        ),
    ],
)
def test_what_is_no_transform(data, message):
    with pytest.raises(TransformError) as error:
        parse_transforms([data])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("men", "there is no merge 'men' -> did you mean 'mean'?"),
        ("fishr", "there is no merge 'fishr' -> did you mean 'fisher'?"),
        ({"concat": 0}, "concat is no merge, but a transform -> write it under transform:"),
        (None, "a merge is one name with its arguments, not None -> write mean or {linear: [0.3, 0.7]}"),
    ],
)
def test_what_is_no_merge(data, message):
    with pytest.raises(TransformError) as error:
        parse_merge(data)
    assert str(error.value) == message


def test_long_arguments_are_shown_by_their_beginning():
    with pytest.raises(TransformError) as error:
        parse_transform({"scale": list(range(10000))})
    assert error.value.what == "the factor of scale must be a number, not [0, 1, 2, 3, 4, 5, ...]"


def test_a_chain_passes_its_result_on():
    chain = parse_transforms([{"concat": 0}, "transpose", {"cast": "float16"}, {"scale": 2}])
    arrays = [np.ones((2, 3), np.float32), np.full((1, 3), 2, np.float32)]
    assert infer(chain, [(2, 3), (1, 3)], ["float32", "float32"]) == ((3, 3), "float16")
    result = apply_chain(chain, arrays)
    assert result.dtype == np.float16
    assert result.tolist() == [[2, 2, 4]] * 3


def test_a_merge_can_begin_a_chain():
    chain = (parse_merge("mean"), *parse_transforms("transpose"))
    assert infer(chain, [(2, 3)] * 3, ["bfloat16"] * 3) == ((3, 2), "bfloat16")


def test_an_empty_chain_changes_nothing():
    array = np.ones((2, 3))
    assert infer((), [(2, 3)], ["float64"]) == ((2, 3), "float64")
    assert apply_chain((), [array]) is array


def test_the_first_transform_that_does_not_fit_is_the_one_reported():
    chain = parse_transforms([{"transpose": [1, 0]}, {"cast": "int8"}, {"scale": 2}, {"reshape": [5]}])
    with pytest.raises(TransformError, match=r"^scale\(2\.0\) works on floating-point values, not on int8"):
        infer(chain, [(2, 3)], ["float32"])


@pytest.mark.parametrize(
    ("chain", "what"),
    [
        ((), "nothing combines the inputs, but there are 3"),
        (["transpose", {"concat": 0}], "transpose takes one input, but there are 3"),
    ],
)
def test_several_inputs_need_something_that_combines_them(chain, what):
    transforms = parse_transforms(chain)
    message = f"{what} -> begin with concat or stack, set `merge`, or name one source"
    with pytest.raises(TransformError) as error:
        infer(transforms, [(2, 3)] * 3, ["float32"] * 3)
    assert str(error.value) == message
    with pytest.raises(TransformError) as error:
        apply_chain(transforms, [np.ones((2, 3))] * 3)
    assert str(error.value) == message


@pytest.mark.follows("Same.parse: write same")
def test_same_takes_no_arguments():
    with pytest.raises(TransformError, match="same takes no arguments") as caught:
        parse_transform({"same": 3})
    assert str(parse_transform(caught.value.fix.removeprefix("write "))) == "same"
