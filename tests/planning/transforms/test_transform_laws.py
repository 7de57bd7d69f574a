"""Our transforms under the laws that hold for every transform; `test_transforms_properties.py` draws their arguments."""

import ast
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import transferpipe as tp
from transferpipe.errors import TransferError
from transferpipe.planning.transforms import MERGES, TRANSFORMS, Goal, TransformError, apply_chain, infer
from transferpipe.testing import TransformLaws
from transferpipe.weights.spec import numpy_dtype

SQUARE, MAP = (3, 3), (2, 3, 4)
OLD, NEW = (str(Path(__file__).parent / "names" / name) for name in ("old.txt", "new.json"))
RECIPES = Path(__file__).parents[3] / "conf" / "recipe"
LEADING = {"dequantize": ("int8",)}  # what the first inputs are, whatever the rest
# By name: arguments, the shapes of inputs, what NumPy makes of them, and the shape that is wanted where it is asked for.
CASES = {
    "transpose": (
        (None, ((2, 3),), lambda a: a.T),
        ([2, 0, 1], (MAP,), lambda a: np.transpose(a, (2, 0, 1))),
    ),
    "reshape": (
        ([6, 4], (MAP,), lambda a: a.reshape(6, 4)),
        ([-1], ((2, 3),), np.ravel),
        ("target", ((6, 4),), lambda a: a.reshape(2, 3, 4), MAP),
    ),
    "slice": (
        ({"axis": 0, "start": "1/3", "stop": "2/3"}, ((6, 2),), lambda a: a[2:4]),
        ({"axis": 1, "start": 0.5}, ((2, 6),), lambda a: a[:, 3:]),
        ({"axis": -1, "size": "target", "at": "end"}, ((2, 6),), lambda a: a[:, 2:], (2, 4)),
        ({"axis": 0, "stop": "target"}, ((5, 2),), lambda a: a[:3], (3, 2)),
        ({"axis": 0, "start": 1, "size": "target"}, ((5, 2),), lambda a: a[1:4], (3, 2)),
        ({"size": "target", "at": "center"}, ((5, 4),), lambda a: a[1:4, 1:3], (3, 2)),
        ("target", ((5, 4),), lambda a: a[:3, :2], (3, 2)),
        (["0:2"], ((5, 2),), lambda a: a[:2]),
        ([1, ":"], ((3, 4),), lambda a: a[1]),
    ),
    "take": (({"axis": 1, "indices": [2, 0]}, ((2, 3),), lambda a: a[:, [2, 0]]),),
    "concat": ((0, ((2, 3), (4, 3)), lambda *a: np.concatenate(a)), (1, ((2, 3), (2, 1)), lambda *a: np.hstack(a))),
    "stack": ((0, ((2, 3), (2, 3)), lambda *a: np.stack(a)),),
    "sum": (
        (None, (SQUARE, SQUARE), lambda a, b: a + b),
        ({"axis": 1}, (MAP,), lambda a: a.astype("float64").sum(1)),
        ({"axis": [0, -1], "keep": True}, (MAP,), lambda a: a.astype("float64").sum((0, 2), keepdims=True)),
    ),
    "max": (
        (None, (SQUARE, SQUARE), np.maximum),
        ({"axis": -1}, (MAP,), lambda a: a.max(-1)),
        ({"axis": [0, 2], "keep": True}, (MAP,), lambda a: a.max((0, 2))[None, :, None]),
    ),
    "split": (
        ({"axis": 0, "parts": 3, "part": 1}, ((6, 2),), lambda a: np.split(a, 3)[1]),
        ({"axis": -1, "parts": [4, 1, 1], "part": -1}, ((2, 12),), lambda a: a[:, 10:]),
        ({"axis": 1, "parts": [1, 3], "part": 1}, ((2, 4),), lambda a: a[:, 1:]),
    ),
    "unstack": ((1, (MAP,), lambda a: a[1]), ({"axis": -1, "index": -2}, (MAP,), lambda a: a[..., 2])),
    "interleave": (
        ({"axis": 0}, ((2, 3), (2, 3)), lambda a, b: np.array([a[0], b[0], a[1], b[1]])),
        ({"axis": -1}, ((2,), (2,), (2,)), lambda a, b, c: np.array([a[0], b[0], c[0], a[1], b[1], c[1]])),
        ({"axis": 0, "parts": 2}, ((6, 2),), lambda a: a[[0, 3, 1, 4, 2, 5]]),
        ({"axis": 0, "parts": -2}, ((6, 2),), lambda a: a[[0, 2, 4, 1, 3, 5]]),
        ({"axis": 1, "parts": 2, "groups": 2}, ((2, 8),), lambda a: a[:, [0, 2, 1, 3, 4, 6, 5, 7]]),
    ),
    "repeat": (
        ({"axis": 1, "times": 2}, ((2, 3),), lambda a: np.repeat(a, 2, 1)),
        ({"axis": 0, "times": 3, "groups": 1}, ((2, 3),), lambda a: np.tile(a, (3, 1))),
        ({"axis": 0, "times": 2, "groups": 2}, ((4, 3),), lambda a: a[[0, 1, 0, 1, 2, 3, 2, 3]]),
        ({"axis": -1, "times": "target"}, ((2, 3),), lambda a: np.repeat(a, 2, 1), (2, 6)),
    ),
    "new_axis": ((0, ((2, 3),), lambda a: a[None]), ({"axis": -1}, ((2, 3),), lambda a: a[..., None])),
    "fuse_qkv": (
        (None, ((4, 2), (4, 2), (4, 2)), lambda *a: np.concatenate(a)),
        (None, ((4, 2), (2, 2), (2, 2)), lambda *a: np.concatenate(a)),
        (
            {"order": "by_head", "heads": 2},
            ((4, 2), (4, 2), (4, 2)),
            lambda q, k, v: np.concatenate([q[:2], k[:2], v[:2], q[2:], k[2:], v[2:]]),
        ),
        (
            {"order": "by_head", "heads": 4, "kv_heads": 2, "axis": 1},
            ((2, 4), (2, 2), (2, 2)),
            lambda q, k, v: np.stack([*q.T[:2], k.T[0], v.T[0], *q.T[2:], k.T[1], v.T[1]], 1),
        ),
    ),
    "unfuse_qkv": (
        ({"part": "k"}, ((6, 2),), lambda a: a[2:4]),
        ({"part": "v", "heads": 4, "kv_heads": 2, "axis": -1}, ((3, 16),), lambda a: a[:, 12:]),
        ({"part": "q", "heads": 4, "kv_heads": 2, "order": "by_head"}, ((8,),), lambda a: a[[0, 1, 4, 5]]),
        ({"part": "k", "heads": 4, "kv_heads": 2, "order": "by_head"}, ((8,),), lambda a: a[[2, 6]]),
        ({"part": "v", "heads": 2, "order": "by_head"}, ((12,),), lambda a: a[[4, 5, 10, 11]]),
    ),
    "weight_norm": ((None, ((3, 1), (3, 4)), None),),
    "pad": (({"axis": 0, "before": 1, "after": 2, "value": 9}, ((2, 3),), lambda a: np.pad(a, ((1, 2), (0, 0)), constant_values=9)),),
    "cast": (("float16", ((2, 3),), lambda a: a.astype("float16")), ("int8", ((2,),), lambda a: a.astype("int8"))),
    "scale": ((0.5, ((2, 3),), lambda a: a / 2), (-3, ((),), lambda a: a * -3), (1e30, ((2,),), None)),
    "fill": ((0.25, ((2, 3),), lambda a: np.full_like(a, 0.25)),),
    "identity": (
        (None, ((3, 4),), lambda a: np.eye(3), (3, 3)),
        (None, (SQUARE,), lambda a: np.eye(3)),
        (None, ((2, 3, 1, 2),), lambda a: np.array([[0, 1, 0], [0, 0, 0]])[..., None, None] * np.eye(2), (2, 3, 2, 2)),
    ),
    "same": ((None, ((2, 3),), lambda a: a),),
    "units": (
        ({"axis": -1, "size": 3, "indices": [2, 0, 0, 1]}, ((2, 3),), lambda a: a[:, [2, 0, 0, 1]]),
        ({"axis": 0, "size": 2, "indices": [1]}, ((6, 2),), lambda a: a[1::2]),
        ({"axis": 0, "size": 2, "indices": [0, 1, 0], "share": True}, ((4, 1),),
         lambda a: a[[0, 1, 0, 2, 3, 2]] / np.array([2, 1, 2, 2, 1, 2])[:, None]),
        ({"axis": 1, "size": 2, "indices": [1], "before": 1, "after": 2, "times": 2}, ((2, 14),),
         lambda a: a[:, [0, 2, 4, 5, 6, 7, 9, 11, 12, 13]]),
        ({"axis": 0, "size": 3, "indices": [2, 2], "each": 2, "share": True}, ((6, 1),), lambda a: a[[4, 5, 4, 5]] / 2),
    ),
    "add": ((0.5, ((2, 3),), lambda a: a + 0.5),),
    "zero": ((None, ((2, 3),), np.zeros_like),),
    "noise": ((0.25, (MAP,), None), ({"std": 0.5, "seed": 3}, (MAP,), None), ({"std": 0.5, "relative": True}, ((40, 30),), None)),
    "normalize": (
        (None, (MAP,), lambda a: a / np.sqrt((a**2).sum())),
        (0, ((2, 3),), lambda a: a / np.maximum(np.sqrt((a**2).sum(0)), 1)),
        ({"axis": [0, -1]}, (MAP,), None),
    ),
    "flatten_order": (([3, 2, 2], ((12, 5),), lambda a: a.reshape(3, 4, 5).swapaxes(0, 1).reshape(12, 5)),),
    "flip": (([0], (MAP,), np.flipud), ([0, 1], (MAP,), lambda a: a[::-1, ::-1])),
    "from_cudnn": (
        ({"part": "bias", "gates": 4}, ((16,),), lambda a: a[:8] + a[8:]),
        ({"part": "recurrent_kernel", "gates": 3}, ((2, 6),), None),
    ),
    "spectral_norm": ((None, ((3, 4), (3,), (4,)), None), ({"axis": 1}, ((3, 4), (4,), (3,)), None)),
    "classes": (
        (None, ((2, 3),), lambda a: np.hstack([a, a.mean(1, keepdims=True)]), (2, 4)),
        ({"new": "draw"}, ((3,),), None, (5,)),
        ({"indices": [2, None, 0], "new": "zero"}, ((2, 3),), lambda a: np.stack([a[:, 2], 0 * a[:, 0], a[:, 0]], 1)),
    ),
    "class_names": (
        ({"from": OLD, "to": NEW}, ((2, 3),), lambda a: np.stack([a[:, 2], a.mean(1), a[:, 0], a.mean(1)], 1)),
        ({"from": OLD, "to": NEW, "new": "draw", "axis": 0}, ((3, 3),), None),
    ),
    "vocabulary": (
        ({"from": OLD, "to": NEW, "new": "zero"}, ((3, 2),), lambda a: np.stack([a[2], 0 * a[0], a[0], 0 * a[0]])),
        ({"from": OLD, "to": NEW, "new": "sub_tokens", "reserved": 1}, ((4,),), None),
        ({"from": OLD, "to": NEW, "padded": True, "axis": 0}, ((8, 2),), None, (6, 2)),
    ),
    "fold_batchnorm": (
        (
            {"of": ["kernel", "gamma", "variance"], "epsilon": 0.25},
            ((3, 3, 2, 4), (4,), (4,)),
            lambda k, g, v: k * g / np.sqrt(v + 0.25),
        ),
        (
            {"of": ["gamma", "beta", "mean", "variance"], "epsilon": 1},
            ((4,),) * 4,
            lambda g, b, m, v: b - m * g / np.sqrt(v + 1),
        ),
        ({"of": [["kernel", "variance"], ["variance"]], "epsilon": [1, 2]}, ((3, 3, 2, 2), (2,), (2,)), None),
        ({"of": ["kernel", "variance"], "epsilon": 1, "axes": [-2, -1]}, ((3, 3, 2, 2), (4,)), None),
    ),
    "merge_lora": (
        ({"alpha": 4}, ((3, 5), (3, 2), (2, 5)), lambda w, a, b: w + 2 * a @ b),
        ({"alpha": 4, "style": "peft"}, ((3, 5), (2, 3), (5, 2)), lambda w, a, b: w + 2 * (b @ a).T),
        ({"alpha": 4, "style": "peft", "axes": "out_in"}, ((3, 3), (1, 3), (3, 1), (3,)), None),
    ),
    "dequantize": (
        (None, ((3, 4), (4,)), None),
        ({"axes": [0]}, ((3, 3), (3,)), None),
        ({"bits": 4}, ((3, 2), (3,)), None, (3, 3)),
    ),
    "channels": (
        ("sum", ((2, 2, 3, 4),), lambda a: a.sum(2, keepdims=True), (2, 2, 1, 4)),
        (None, ((3, 4),), lambda a: a[[0, 1, 2, 0, 1]] * 0.6, (5, 4)),
        ({"how": "mean", "axis": 1}, ((4, 2),), lambda a: np.hstack([a, a.mean(1, keepdims=True)]), (4, 3)),
        ("zero", ((3, 2),), lambda a: np.vstack([a, 0 * a[:1]]), (4, 2)),
        ({"how": "spread", "size": 2, "rescale": False}, ((3, 2),), lambda a: np.vstack([a.mean(0)] * 2)),
    ),
    "crop_or_pad": (
        (None, ((3, 3),), lambda a: np.pad(a, 1), (5, 5)),
        ("corner", ((2, 4),), lambda a: np.pad(a[:, :2], ((0, 1), (0, 0))), (3, 2)),
        ({"axes": [-1], "value": 2}, ((2, 3),), lambda a: np.pad(a, ((0, 0), (0, 1)), constant_values=2), (2, 4)),
        ({"sizes": [1, 1]}, ((3, 5),), lambda a: a[1:2, 2:3]),
    ),
    "resize": (
        ({"axes": [0], "method": "nearest"}, ((2, 3),), lambda a: a.repeat(2, 0), (4, 3)),
        ({"axes": [1], "method": "linear", "antialias": True}, ((3, 4),), None, (3, 2)),
        ({"axes": [0, -1], "sizes": [3, 5]}, ((2, 3),), None),
    ),
    "resize_patches": ((None, ((2, 2, 3, 4),), None, (4, 4, 3, 4)), ({"pseudoinverse": False}, ((4, 4, 1, 2),), None, (2, 2, 1, 2))),
    "resize_positions": (
        ({"prefix": 1, "method": "nearest"}, ((1, 5, 2),), lambda a: a[:, [0, 1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]], (1, 17, 2)),
        ({"grid": "line", "method": "linear", "antialias": True}, ((4, 3),), None, (6, 3)),
        ({"grid": [2, 3], "to": [3, 3], "suffix": [2, 1], "axis": 0}, ((8, 2),), None),
    ),
    "inflate": (
        (None, ((2, 3),), lambda a: np.stack([a / 4] * 4), (4, 2, 3)),
        ({"how": "center", "axis": -1}, ((2, 3),), lambda a: np.stack([0 * a, a, 0 * a, 0 * a], -1), (2, 3, 4)),
        ({"how": "centre", "size": 1}, ((2, 3),), lambda a: a[None]),
    ),
    "deflate": (
        (None, (MAP,), lambda a: a.sum(0)),
        ({"how": "mean", "axis": 1}, (MAP,), lambda a: a.mean(1)),
        ({"how": "centre", "axis": -1}, (MAP,), lambda a: a[..., 1]),
    ),
    "mean_along": (
        (None, (SQUARE, SQUARE), lambda a, b: (a + b) / 2),
        ({"axis": 0}, (MAP,), lambda a: a.astype("float64").mean(0)),
        ({"axis": [1, 2], "keep": True}, (MAP,), lambda a: a.astype("float64").mean((1, 2))[:, None, None]),
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


# Of those whose cases have no formula, where another's code or a forward pass is compared with what they give.
COMPARED = {
    "noise": "computing/test_arithmetic.py::test_noise_has_the_deviation_that_was_asked_for",
    "weight_norm": "computing/test_combine.py::test_weight_norm",
    "spectral_norm": "computing/test_combine.py::"
    "test_a_spectral_norm_of_torch_gives_the_weight_that_the_module_computes_with",
    "dequantize": "computing/test_dequantize.py::test_the_numbers_are_those_that_were_quantized",
    "resize_patches": "resizing/test_resize.py::test_a_larger_patch_has_the_product_that_the_smaller_had",
    "breadcrumbs": "merging/test_merge_reference.py::test_a_merge_gives_what_mergekit_gives",
    "della": "merging/test_task_vectors.py::test_della_keeps_large_numbers_more_often",
    "model_stock": "merging/test_task_vectors.py::test_model_stock_goes_as_far_as_the_models_agree",
}
SOURCE = re.compile(r"arXiv:\d{4}\.\d{5}|`numpy\.[a-z_.A-Z]+`|\b(?:torch|timm|Keras|keras|mergekit|Hugging Face)\b")
SHAPES = r"\((?:\d+,|\d+(?:, \d+)+)\)"
EXAMPLE = re.compile(rf"Example: ``(\{{.+?\}})``, ({SHAPES}(?:, {SHAPES})*) to ({SHAPES})\.")
BY_THE_GRAPH = {"units": "wider"}  # what a rule writes in another way, and the shipped recipe that is the example
KINDS = [pytest.param(kind, id=f"{place}{name}") for place, table in (("", TRANSFORMS), ("merge-", MERGES))
         for name, kind in table.items()]  # fmt: skip


@pytest.mark.parametrize("name", [*TRANSFORMS, *MERGES])
def test_every_transform_is_tried(name):
    assert name in CASES


def as_text(kind):
    """Return what the help says of a transform, without its breaks of lines."""
    return " ".join(kind.__doc__.split())


@pytest.mark.parametrize("kind", KINDS)
def test_every_transform_says_where_it_comes_from_and_gives_an_example_with_shapes(kind):
    """A paper, or the function of a library that does the same; a whole rule; and the shapes that go in and come out."""
    doc = as_text(kind)
    assert SOURCE.search(doc), "name a source"
    if kind.name in BY_THE_GRAPH:
        recipe = BY_THE_GRAPH[kind.name]
        assert f"recipe={recipe}" in doc and re.search(SHAPES, doc)
        assert re.search(rf"\b{kind.name}: ", (RECIPES / f"{recipe}.yaml").read_text())
    else:
        ((rule, _, _),) = EXAMPLE.findall(doc)
        written = yaml.safe_load(rule)
        assert re.search(rf"\b{kind.name}\b", str(written.get("transform", written.get("merge"))))


@pytest.mark.parametrize("kind", KINDS)
def test_every_transform_is_compared_with_code_that_is_not_its_own(kind):
    """By a formula of its cases, or by the test that `COMPARED` names, which is there and names it."""
    if any(compute for _, _, compute, *_ in CASES[kind.name]):
        assert kind.name not in COMPARED
    else:
        path, _, test = COMPARED[kind.name].partition("::")
        text = (Path(__file__).parent / path).read_text()
        assert re.search(rf"^def {test}\(", text, re.MULTILINE) and re.search(rf"\b{kind.name}\b", text)


def test_the_examples_of_the_help_are_recipes_that_run(tmp_path, monkeypatch):
    """All rules of the docstrings in one recipe, from files of their shapes to one of the shapes that they promise."""
    monkeypatch.chdir(tmp_path)
    for path in (OLD, NEW):
        shutil.copy(path, tmp_path)
    sources, target, mapping = {}, {}, {}
    rng = np.random.default_rng(0)
    for kind in dict.fromkeys([*TRANSFORMS.values(), *MERGES.values()]):
        for rule, shapes, result in EXAMPLE.findall(as_text(kind)):
            written, prefix = yaml.safe_load(rule), f"{len(mapping)}_{kind.name}"
            names = written["from"] if isinstance(written["from"], list) else [written["from"]]
            places = [name.rpartition(":")[::2] for name in names]
            for k, ((source, name), shape) in enumerate(zip(places, re.findall(SHAPES, shapes), strict=True)):
                dtype = "int8" if k < len(LEADING.get(kind.name, ())) else "float32"
                values = rng.uniform(1, 9, ast.literal_eval(shape)).astype(dtype)
                values = values if name != "lm_head" else sources["main"][f"{prefix}/wte"]
                sources.setdefault(source or "main", {})[f"{prefix}/{name}"] = values
            origins = [f"{source or 'main'}:{prefix}/{name}" for source, name in places]
            target[f"{prefix}/{written['to']}"] = np.zeros(ast.literal_eval(result), "float32")
            mapping[prefix] = {**written, "to": f"{prefix}/{written['to']}", "from": origins}
    for name, arrays in {**sources, "target": target}.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    report = tp.transfer({name: f"{name}.npz" for name in sources}, "target.npz", mapping=mapping, save="out.npz")
    made = np.load(tmp_path / "out.npz")
    assert report.compared == len(made) == len(mapping) == len(KINDS) - len(BY_THE_GRAPH)


def misfits(shapes):
    """Yield inputs that a case was not made for: without axes, empty, of sizes that do not divide, of more axes, too few."""
    yield tuple(() for _ in shapes)
    yield tuple((0,) * max(1, len(shape)) for shape in shapes)
    yield tuple((*shape[:-1], 0) if shape else (0,) for shape in shapes)
    yield tuple(tuple(size + 1 for size in shape) or (7,) for shape in shapes)
    yield tuple(tuple(2 * size + 1 for size in shape) or (1,) for shape in shapes)
    yield tuple((1, *shape) for shape in shapes)
    yield tuple(shape[1:] for shape in shapes)
    yield (*shapes[:-1], (*shapes[-1], 2))
    yield (*shapes, shapes[-1])
    yield shapes[:-1] or shapes[:1]


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_refused_by_the_plan(name):
    """What a plan accepts can be computed and has the planned shape: nothing is found out while values are written."""
    kind = {**TRANSFORMS, **MERGES, "mean_along": TRANSFORMS["mean"]}[name]
    refused = 0
    for arguments, given, _, *wanted in CASES[name]:
        for shapes in misfits(given):
            dtypes = [*LEADING.get(name, ()), *["float32"] * len(shapes)][: len(shapes)]
            goals = [Goal(wanted[0])] if wanted else [Goal(), Goal(shapes[0])] if shapes else [Goal()]
            for goal in goals:
                try:
                    step = kind.parse(arguments)
                    shape, dtype = infer([step], list(shapes), dtypes, goal)
                except TransformError as error:
                    assert error.what
                    refused += 1
                    continue
                arrays = [np.ones(s, numpy_dtype(d)) for s, d in zip(shapes, dtypes, strict=True)]
                result = apply_chain([step], arrays, goal)
                assert (result.shape, result.dtype) == (shape, numpy_dtype(dtype)), (arguments, shapes)
    assert refused or name == "same"  # which takes any number of inputs of any one shape


WORSE = [float("nan"), float("inf"), -1, 2, -(2**70), 2**70, 10**9, True, None, "", "x", [], [[]], {}, {"x": 1}, [None]]


@pytest.mark.parametrize("name", CASES)
def test_arguments_that_mean_nothing_are_refused_by_the_recipe(name):
    """Each argument in turn becomes something else: it is refused in words, or it can be planned and computed."""
    kind = {**TRANSFORMS, **MERGES, "mean_along": TRANSFORMS["mean"]}[name]
    refused = 0
    for arguments, shapes, _, *wanted in CASES[name]:
        named = (
            [{**arguments, key: bad} for key in arguments for bad in WORSE] if isinstance(arguments, dict) else WORSE
        )
        dtypes = [*LEADING.get(name, ()), *["float32"] * len(shapes)][: len(shapes)]
        goal = Goal(wanted[0]) if wanted else Goal()
        for written in named:
            try:
                step = kind.parse(written)
                shape, dtype = infer([step], list(shapes), dtypes, goal)
                if math.prod(shape) > 10**6:
                    continue
                arrays = [np.ones(s, numpy_dtype(d)) for s, d in zip(shapes, dtypes, strict=True)]
            except (TransformError, TransferError):
                refused += 1
                continue
            with np.errstate(all="ignore"):
                result = apply_chain([step], arrays, goal)
            assert (result.shape, result.dtype) == (shape, numpy_dtype(dtype)), written
    assert refused


def laws_of(name, cases):
    """Return the laws of the transform called `name`, as a class that pytest collects."""

    def formula(self, arguments, arrays):
        for given, shapes, compute, *_ in cases:
            if given == arguments and shapes == tuple(a.shape for a in arrays):
                return compute(*arrays) if compute else None
        raise AssertionError(arguments)

    known = {**TRANSFORMS, **MERGES, "mean_along": TRANSFORMS["mean"]}
    facts = {"kind": known[name], "cases": tuple((*case[:2], *case[3:]) for case in cases), "formula": formula}
    facts["leading"] = LEADING.get(name, ())
    return type(f"Test_{name}", (TransformLaws,), facts)


globals().update({f"Test_{name}": laws_of(name, cases) for name, cases in CASES.items()})
