"""What is said of a transform that is written wrongly, followed: the printed hint is what is written instead."""

import ml_dtypes  # noqa: F401  (its dtypes are among those that are offered)
import numpy as np
import pytest
from advice import braces, offered, written

from transferpipe.planning.transforms import (
    MERGES,
    TRANSFORMS,
    Goal,
    TransformError,
    apply_chain,
    fit_chain,
    infer,
    parse_merge,
    parse_transform,
    parse_transforms,
)

follows = pytest.mark.follows
RANDOM = np.random.default_rng(7)


def drawn(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def hint_of(parse, data):
    with pytest.raises(TransformError) as caught:
        parse(data)
    return caught.value.fix


def result(step, *arrays):
    """Return what a step makes of arrays, having planned it."""
    shape, dtype = infer([step], [a.shape for a in arrays], [a.dtype.name for a in arrays])
    found = apply_chain([step], arrays)
    assert (found.shape, found.dtype.name) == (shape, dtype)
    return found


X, Y, CUBE, MAP = drawn(4, 3), drawn(4, 3), drawn(5, 4, 3), drawn(64 * 7 * 7, 2)
PARTS = drawn(64 * 7 * 7 + 10, 2)
PADDED = np.concatenate([X, np.zeros((1, 3), "float32")])
JOINED = np.concatenate([X, Y], -1)
CASES = [
    ("parse_integer: write …", {"concat": "x"}, [X, Y], [JOINED]),
    ("parse_integer: write …", {"stack": None}, [X, Y], [np.stack([X, Y], -1)]),
    ("parse_integer: write … #2", {"concat": 2**80}, [X, Y], [JOINED]),
    ("parse_named: write … #2", {"concat": {}}, [X, Y], [JOINED]),
    ("parse_named: write …", {"take": 3}, [X], [X[:, ::-1]]),
    ("parse_list: write …", {"transpose": 3}, [X], [X.T]),
    ("parse_list: write …", {"reshape": "x"}, [X], [X.reshape(-1, 4)]),
    ("parse_number: write …", {"scale": "x"}, [X], [X * np.float32(0.5)]),
    ("parse_number: write … #3", {"scale": float("inf")}, [X], [X * np.float32(0.5)]),
    ("parse_number: write …", {"fill": "x"}, [X], [np.zeros_like(X)]),
    ("FlattenOrder.__post_init__: give the channels, then", {"flatten_order": [64]}, [MAP], [
        MAP.reshape(64, 7, 7, 2).transpose(1, 2, 0, 3).reshape(-1, 2)]),
    ("Take.__post_init__: list at least one", {"take": {"axis": 0, "indices": []}}, [X], [X[:, ::-1]]),
    ("Pad.__post_init__: write {pad: {widths: [[0,", {"pad": {"widths": []}}, [X], [PADDED]),
    ("_parse_pair: write {pad: {widths: [[0,", {"pad": {"widths": [[0, 1, 2]]}}, [X], [PADDED]),
    ("_parse_one_axis: write {pad: {axis: 0,", {"pad": {"axis": 0}}, [X], [PADDED]),
    ("parse_range: write …", {"slice": ["a"]}, [CUBE], [CUBE[:3, :, 2], CUBE[:3]]),
    ("_refuse_arguments: write …", {"weight_norm": 3}, [np.ones((4, 1), "float32"), X], [
        X / np.sqrt((X**2).sum(1, keepdims=True))]),
    ("Cast.__post_init__: did you mean …?", {"cast": 9}, [X], [X.astype(d) for d in ("float16", "float32", "float64", "bfloat16")]),
    ("_parse: write …", 3, [X], [X.T]),
    ("parse_number: write … #2", {"scale": 10**40}, [X], [X * np.float32(0.5)]),
    ("Slice.parse: write {slice: ['0:3', ':',", {"slice": {"axis": 0}}, [CUBE], [CUBE[:3, :, 2], CUBE[:3]]),
    ("Slice.parse: write {slice: ['0:3', ':', #2", {"slice": []}, [CUBE], [CUBE[:3, :, 2], CUBE[:3]]),
    ("FlattenOrder.__post_init__: leave it out: {flatten_order:", {"flatten_order": [[64, 7, 7], 0]}, [PARTS], [
        np.concatenate([PARTS[:-10].reshape(64, 7, 7, 2).transpose(1, 2, 0, 3).reshape(-1, 2), PARTS[-10:]])]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "arrays", "wanted"),
    [pytest.param(*case, id=f"{key} {case[0]}", marks=follows(key)) for key, *case in CASES],
)
def test_what_is_written_instead_computes_the_right_values(wrong, arrays, wanted):
    advised = written(hint_of(parse_transform, wrong))
    if isinstance(wrong, dict) and "cast" in wrong:
        advised = [{"cast": dtype} for dtype in advised]
    assert len(advised) == len(wanted)
    for data, expected in zip(advised, wanted, strict=True):
        assert np.allclose(result(parse_transform(data), *arrays).astype("float64"), expected.astype("float64"))


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        pytest.param({"mean": 3}, [(X + Y) / 2], marks=follows("Mean.parse: write mean")),
        pytest.param(3, [(X + Y) / 2, np.float32(0.3) * X + np.float32(0.7) * Y], marks=follows("_parse: write …")),
        pytest.param({"linear": 3}, [np.float32(0.3) * X + np.float32(0.7) * Y], marks=follows("parse_list: write …")),
    ],
)
def test_merges_that_are_written_instead(wrong, wanted):
    hint = hint_of(parse_merge, wrong)
    advised = written(hint)
    assert len(advised) >= 1
    for data, expected in zip(["mean", *advised] if hint.startswith("write mean or") else advised, wanted, strict=True):
        assert np.allclose(result(parse_merge(data), X, Y), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param({"concatt": -1}, "concat", marks=follows("_parse: did you mean …?")),
        pytest.param({"concat": {"axs": -1}}, "axis", marks=follows("parse_named: did you mean …?")),
        pytest.param({"cast": "flot32"}, "float32", marks=follows("Cast.__post_init__: did you mean …?")),
    ],
)
def test_names_that_were_meant(wrong, right):
    assert offered(hint_of(parse_transform, wrong))[0] == right


@follows("_parse: write it under …:")
def test_transforms_and_merges_are_sent_where_they_belong():
    assert hint_of(parse_transform, {"linear": [0.5, 0.5]}) == "write it under merge:"
    assert np.allclose(result(parse_merge({"linear": [0.5, 0.5]}), X, Y), (X + Y) / 2, atol=1e-6)
    assert hint_of(parse_merge, {"concat": -1}) == "write it under transform:"
    assert np.array_equal(result(parse_transform({"concat": -1}), X, Y), JOINED)


WHOLE = np.arange(12, dtype="int32").reshape(4, 3)


def refusal(steps, *arrays):
    with pytest.raises(TransformError) as caught:
        infer(steps, [a.shape for a in arrays], [a.dtype.name for a in arrays])
    return caught.value.fix


@pytest.mark.parametrize(
    ("wrong", "arrays", "expected"),
    [
        pytest.param({"pad": {"widths": [[0, 1]]}}, [X], PADDED, marks=follows("Pad._all_widths: give … pairs of")),
    ],
)
def test_what_is_written_for_a_shape(wrong, arrays, expected):
    fix = refusal([parse_transform(wrong)], *arrays)
    (advised,) = written(fix)
    assert np.allclose(result(parse_transform(advised), *arrays), expected, atol=1e-6)
    if "pad" in wrong:
        count = int(fix.split()[1])
        pairs = [[0, 1], *[[0, 0]] * (count - 1)]
        assert np.array_equal(result(parse_transform({"pad": {"widths": pairs}}), *arrays), expected)


@pytest.mark.parametrize(
    ("wrong", "arrays", "expected"),
    [
        pytest.param({"scale": 0.5}, [WHOLE], WHOLE * np.float32(0.5), marks=follows("Scale.dtype: put a cast before")),
        pytest.param({"fill": 0.5}, [WHOLE], np.full((4, 3), 0.5), marks=follows("Fill.dtype: put a cast before")),
        pytest.param("sum", [WHOLE, WHOLE], 2 * WHOLE, marks=follows("Sum.dtype: put a cast before")),
        pytest.param({"sum": {"axis": 0}}, [WHOLE], WHOLE.sum(0), marks=follows("SumAlong.dtype: put a cast before")),
        pytest.param({"mean": {"axis": 0}}, [WHOLE], WHOLE.mean(0), marks=follows("MeanAlong.dtype: put a cast before")),
        pytest.param({"max": {"axis": 0}}, [WHOLE], WHOLE.max(0), marks=follows("MaxAlong.dtype: put a cast before")),
        pytest.param("max", [WHOLE, WHOLE], WHOLE, marks=follows("Max.dtype: put a cast before")),
        pytest.param("weight_norm", [np.ones((4, 1), "int32"), WHOLE + 1],
                     (WHOLE + 1) / np.sqrt(((WHOLE + 1) ** 2).sum(1, keepdims=True)),
                     marks=follows("WeightNorm.dtype: put a cast before")),
    ],
)  # fmt: skip
def test_a_cast_that_is_put_before(wrong, arrays, expected):
    step = parse_transform(wrong)
    (cast,) = written(refusal([step], *arrays))
    before = parse_transform(cast)
    found = result(step, *(apply_chain([before], [a]) for a in arrays))
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)


@follows("Concat.shape: give it sources whose")
def test_sources_that_can_be_joined():
    step = parse_transform({"concat": 1})
    axis = int(refusal([step], X, drawn(3, 2)).split()[-1])
    other = np.moveaxis(drawn(4, 5), 1, axis)
    assert np.array_equal(result(step, X, other), np.concatenate([X, other], axis))


@follows("Merge.dtype: save the sources as")
def test_sources_of_integers_are_saved_as_floats_before_they_are_merged():
    step = parse_merge("mean")
    dtype = refusal([step], WHOLE, WHOLE).split()[4]
    assert np.array_equal(result(step, WHOLE.astype(dtype), (WHOLE + 2).astype(dtype)), WHOLE + 1.0)


@follows("FlattenOrder.shape: give …, and give")
def test_a_flatten_order_is_for_the_kernel(tmp_path):
    import transferpipe as tp
    from transferpipe.errors import TransferError

    kernel = drawn(8, 3)
    np.savez(tmp_path / "s.npz", **{"d/kernel": kernel, "d/bias": drawn(3)})
    np.savez(tmp_path / "t.npz", **{"d/kernel": np.zeros((8, 3), "float32"), "d/bias": np.zeros(3, "float32")})
    step, files = {"flatten_order": [2, 2, 2]}, (str(tmp_path / "s.npz"), str(tmp_path / "t.npz"))
    with pytest.raises(TransferError) as caught:
        tp.transfer(*files, mapping={"r": {"to": "d", "transform": [step]}}, folder=tmp_path, save="o.npz")
    (advised,) = written(caught.value.problems[0].fix)
    transform = {name: [step] for name in advised}
    tp.transfer(*files, mapping={"r": {"to": "d", "transform": transform}}, folder=tmp_path, save="o.npz")
    expected = kernel.reshape(2, 2, 2, 3).transpose(1, 2, 0, 3).reshape(8, 3)
    assert np.array_equal(np.load(tmp_path / "o.npz")["d/kernel"], expected)


@pytest.mark.parametrize("data", ["scale", "fill", "linear"])
@follows("check_step: use a smaller number,")
def test_numbers_that_do_not_overflow(data, tmp_path):
    import transferpipe as tp
    from transferpipe.errors import VerificationError

    half = np.array([[1, 60000]], "float16")
    np.savez(tmp_path / "s.npz", **{"d/k": half})
    source = str(tmp_path / "s.npz")
    np.savez(tmp_path / "t.npz", **{"d/k": np.zeros((1, 2), "float16")})
    if data == "linear":
        rule = {"to": "d", "from": ["a:d", "b:d"], "merge": {"linear": [1.0, 1.0]}}
        sources = {"a": source, "b": source}
    else:
        rule, sources = {"to": "d", "transform": [{data: 2.0 if data == "scale" else 1e6}]}, source
    target = str(tmp_path / "t.npz")
    with pytest.raises(VerificationError) as caught:
        tp.transfer(sources, target, mapping={"r": rule}, folder=tmp_path, save="o.npz")
    fix = caught.value.problems[0].fix
    if data == "linear":
        assert fix == "use smaller factors"
        rule["merge"] = {"linear": [0.5, 0.5]}
        expected = half
    else:
        assert f"a wider dtype than {half.dtype.name} and cast to that before it" in fix
        np.savez(target, **{"d/k": np.zeros((1, 2), "float32")})
        rule["transform"] = [{"cast": "float32"}, *rule["transform"]]
        expected = half.astype("float32") * 2 if data == "scale" else np.full((1, 2), 1e6, "float32")
    tp.transfer(sources, target, mapping={"r": rule}, folder=tmp_path, save="o.npz")
    assert np.array_equal(np.load(tmp_path / "o.npz")["d/k"], expected)


@pytest.mark.parametrize("merge", [False, True])
def test_every_example_in_a_hint_can_be_read(merge):
    """Each transform and merge hands its own example to what reads its arguments."""
    parse, count = (parse_merge if merge else parse_transform), 0
    for wrong in [{name: value} for name in (MERGES if merge else TRANSFORMS)
                  for value in (3, "x", None, {}, [], {"zzz": 1}, [[0]])]:  # fmt: skip
        try:
            parse(wrong)
        except TransformError as error:
            for example in braces(error.fix):
                parse(example)
                count += 1
    assert count > (3 if merge else 30)


def by_head(**more):
    return {"order": "by_head", "heads": 4, **more}


# By the hint: what is refused, the shapes it is given and what is wanted of it, and what the hint makes of it.
ARRANGED = [
    ("Split.parse: write from 1 to", {"split": {"axis": 0, "parts": 0, "part": 0}}, [(6,)], None,
     {"split": {"axis": 0, "parts": 3, "part": 1}}),
    ("Split.__post_init__: write …", {"split": {"axis": 0, "parts": [2, 0], "part": 0}}, [(6,)], None,
     {"split": {"axis": 0, "parts": 3, "part": 1}}),
    ("Split.__post_init__: count from 0, the", {"split": {"axis": 0, "parts": 3, "part": 3}}, [(6,)], None,
     {"split": {"axis": 0, "parts": 3, "part": 2}}),
    ("Split.bounds: choose parts whose sum", {"split": {"axis": 0, "parts": 4, "part": 1}}, [(6,)], None,
     {"split": {"axis": 0, "parts": [1, 2], "part": 1}}),
    ("InterleaveParts.__post_init__: write …, groups from", {"interleave": {"axis": 0, "parts": 1}}, [(6,)], None,
     {"interleave": {"axis": -1, "parts": 2}}),
    ("InterleaveParts._sizes: choose parts and groups", {"interleave": {"axis": 0, "parts": 4}}, [(6,)], None,
     {"interleave": {"axis": 0, "parts": 3, "groups": 2}}),
    ("Repeat.__post_init__: write …", {"repeat": {"axis": 0, "times": 0}}, [(2,)], None,
     {"repeat": {"axis": 0, "times": 3}}),
    ("Repeat.fit: write how many times,", {"repeat": {"axis": 0, "times": "target"}}, [(2,)], (5,),
     [{"repeat": {"axis": 0, "times": 3}}, {"slice": ["0:5"]}]),
    ("Repeat._blocks: choose groups that divide", {"repeat": {"axis": 0, "times": 2, "groups": 4}}, [(6,)], None,
     {"repeat": {"axis": 0, "times": 2, "groups": 3}}),
    ("NewAxis.shape: use an axis from", {"new_axis": 3}, [(2,)], None, {"new_axis": 1}),
    ("_parse_heads: did you mean …?", {"unfuse_qkv": {"part": "q", "order": "by_heads"}}, [(12,)], None,
     {"unfuse_qkv": {"part": "q", "order": "by_head", "heads": 4}}),
    ("_parse_heads: write …, heads: 12", {"fuse_qkv": {"axis": 0, "order": "by_head"}}, [(12,)] * 3, None,
     {"fuse_qkv": {"axis": 0, "order": "by_head", "heads": 12}}),
    ("_parse_heads: write heads, and kv_heads", {"unfuse_qkv": {"part": "q", "heads": 4, "kv_heads": 3}}, [(8,)], None,
     {"unfuse_qkv": {"part": "q", "heads": 4, "kv_heads": 2}}),
    ("UnfuseQkv.parse: its parts are …", {"unfuse_qkv": {"part": "query"}}, [(12,)], None, {"unfuse_qkv": {"part": "q"}}),
    ("UnfuseQkv.shape: check axis, heads and", {"unfuse_qkv": {"part": "q", "axis": 1}}, [(12, 4)], None,
     {"unfuse_qkv": {"part": "q", "axis": 0}}),
    ("FuseQkv._heads: name three sources", "fuse_qkv", [(12,)] * 2, None, None),
    ("FuseQkv._heads: give it weights that", "fuse_qkv", [(4, 2), (4, 3), (4, 3)], None, {"fuse_qkv": {"axis": 1}}),
    ("FuseQkv._heads: check axis, heads and", {"fuse_qkv": by_head()}, [(8,), (4,), (4,)], None,
     {"fuse_qkv": by_head(kv_heads=2)}),
    ("Reshape.fit: write the sizes, or", [{"reshape": "target"}, {"reshape": [-1]}], [(2, 3)], (6,),
     [{"reshape": [3, 2]}, {"reshape": [-1]}]),
    ("Goal.size: change the number of", {"slice": {"axis": 0, "size": "target"}}, [(3, 2)], (4,),
     [{"reshape": [-1]}, {"slice": {"axis": 0, "size": "target"}}]),
    ("Goal.size: write the size, or", [{"slice": {"axis": 0, "size": "target"}}, {"reshape": [-1]}], [(3, 2)], (4,),
     [{"slice": {"axis": 0, "size": 2}}, {"reshape": [-1]}]),
    ("Along.shape: name every axis once", {"sum": {"axis": [0, -2]}}, [(3, 2)], None, {"sum": {"axis": [0, -1]}}),
    ("Along.shape: leave the empty weight", {"mean": {"axis": 0}}, [(0, 2)], None, None),
    ("SizedSlice.parse: at is one of", {"slice": {"axis": 0, "size": 2, "at": "middle"}}, [(4,)], None,
     {"slice": {"axis": 0, "size": 2, "at": "center"}}),
    ("SizedSlice.parse: write {slice: {axis: 0,", {"slice": {"axis": 0, "stop": 0.5, "size": 2}}, [(6,)], (4,),
     {"slice": {"axis": 0, "start": "1/3", "stop": "2/3"}}),
    ("SizedSlice.parse: write {slice: {axis: 0, #2", {"slice": {"start": 0.5}}, [(6,)], (4,),
     {"slice": {"axis": 0, "size": "target"}}),
    ("SizedSlice._range.count: write a share such", {"slice": {"axis": 0, "stop": 0.333}}, [(6,)], None,
     {"slice": {"axis": 0, "stop": "1/3"}}),
    ("SizedSlice._range: use pad where the", {"slice": {"axis": 0, "size": "target"}}, [(4,)], (6,),
     {"pad": {"axis": 0, "after": 2}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "wrong", "shapes", "wanted", "right"), [pytest.param(*c, id=c[0], marks=follows(c[0])) for c in ARRANGED]
)
def test_what_is_advised_of_parts_and_sizes_can_be_planned(key, wrong, shapes, wanted, right):
    goal, dtypes = Goal(wanted), ["float32"] * len(shapes)
    with pytest.raises(TransformError) as caught:
        infer(parse_transforms(wrong), shapes, dtypes, goal)
    if "…" not in key:
        assert caught.value.fix.startswith(key.partition(": ")[2].partition(" #")[0])
    if right is None:  # there is nothing to write: other weights are needed
        return
    found = fit_chain(parse_transforms(right), shapes, goal)
    arrays = [np.zeros(shape, "float32") for shape in shapes]
    assert apply_chain(found, arrays).shape == infer(found, shapes, dtypes)[0]
