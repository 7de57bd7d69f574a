"""One short rule folds a whole network: what is taken of the layers that are folded, and when it is refused."""

import json
import warnings

import numpy as np
import pytest

import transferpipe as tp
from transferpipe.errors import RecipeError

keras = pytest.importorskip("keras")
from keras import layers  # noqa: E402

follows = pytest.mark.follows
RANDOM = np.random.default_rng(4)
FOLD = {"trunk": {"to": r"conv(\d)", "from": r"conv\1", "fold": r"bn\1"}}


def drawn(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def filled(model):
    """Give a model random weights, variances above 0."""
    for weight in model.weights:
        values = drawn(*weight.shape)
        weight.assign(np.abs(values) + 0.5 if weight.name == "moving_variance" else values)
    return model


def network(norms, activation=None, bias=True, order="conv bn relu", **conv):
    """Return a convolution and a depthwise one, with normalizations, or with what is folded in their place."""
    keras.utils.clear_session()
    x = images = keras.Input((6, 6, 2))
    for number, make in ((1, lambda **k: layers.Conv2D(4, 3, **k)), (2, lambda **k: layers.DepthwiseConv2D(2, **k))):
        parts = {
            "conv": make(
                name=f"conv{number}", use_bias=bias and (not norms or number == 2), activation=activation, **conv
            ),
            "bn": layers.BatchNormalization(epsilon=0.01 * number, name=f"bn{number}"),
            "relu": layers.ReLU(name=f"relu{number}"),
        }
        for part in order.split():
            x = x if part == "bn" and not norms else parts[part](x)
    return keras.Model(images, x)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a network with normalizations, and its file."""
    model = filled(network(norms=True))
    path = tmp_path_factory.mktemp("source") / "source.keras"
    model.save(path)
    return model, str(path)


def test_one_rule_folds_a_network_with_the_epsilon_of_each_layer(source):
    model, path = source
    target = network(norms=False)
    report = tp.transfer(path, target, mapping=FOLD, strict=True)
    x = drawn(2, 6, 6, 2)
    np.testing.assert_allclose(target(x), model(x), rtol=1e-4, atol=1e-4)
    steps = {a.target: a.transforms for a in report.plan.assignments}
    assert steps["conv1/kernel"] == ({"fold_batchnorm": {"of": ["kernel", "gamma", "variance"], "epsilon": 0.01}},)
    assert steps["conv2/kernel"][0]["fold_batchnorm"]["axes"] == [-2, -1]
    assert steps["conv2/bias"][0]["fold_batchnorm"]["of"] == ["bias", "gamma", "beta", "mean", "variance"]
    assert {w.fate for w in report.plan.source_weights} == {"used"}


def test_an_activation_that_moves_into_the_layer_is_compared_behind_the_normalization(source):
    _, path = source
    fused = network(norms=False, activation="relu", order="conv")
    assert tp.plan(path, fused, mapping=FOLD).settings.differing == 0
    with pytest.warns(tp.TransferWarning, match="activation relu -> tanh"):
        tp.plan(path, network(norms=False, activation="tanh", order="conv"), mapping=FOLD)


@follows("_Fold._epsilon: write fold_with: {epsilon: 0.001},")
def test_a_file_of_torch_is_folded_with_the_epsilon_that_is_stated(tmp_path):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        for value in (*module.parameters(), module[1].running_mean, module[1].running_var):
            value.copy_(torch.rand_like(value) + 0.5)
    save_file(module.state_dict(), tmp_path / "m.safetensors", metadata={"format": "pt"})
    keras.utils.clear_session()
    target = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(4, 3, name="conv")])
    rule = {"to": "conv", "from": "0", "fold": "1"}
    with pytest.raises(
        RecipeError, match=r"does not tell the epsilon of 1 -> write fold_with: \{epsilon: 0.001\}, Keras's default"
    ):
        tp.plan(str(tmp_path / "m.safetensors"), target, mapping={"c": rule})
    tp.transfer(str(tmp_path / "m.safetensors"), target, mapping={"c": {**rule, "fold_with": {"epsilon": "1e-5"}}})
    x = drawn(1, 6, 6, 2)
    expected = module(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(target(x), expected, rtol=1e-4, atol=1e-4)


@follows("_Fold.settle: name a BatchNormalization for", "_check_combination: name one for each,")
def test_branches_of_repvgg_become_one_layer():
    keras.utils.clear_session()
    images = keras.Input((5, 5, 3))
    big = layers.BatchNormalization(name="bn3")(layers.Conv2D(3, 3, padding="same", use_bias=False, name="c3")(images))
    small = layers.BatchNormalization(name="bn1")(layers.Conv2D(3, 1, use_bias=False, name="c1")(images))
    branches = filled(
        keras.Model(images, layers.Add(name="sum")([big, small, layers.BatchNormalization(name="bn0")(images)]))
    )
    target = keras.Sequential([keras.Input((5, 5, 3)), layers.Conv2D(3, 3, padding="same", name="conv")])
    rule = {"to": "conv", "from": ["c3", "c1"], "fold": ["bn3", "bn1", "bn0"]}
    for wrong, hint in (
        (["c3", "c1"], "name a BatchNormalization for each entry of `from`"),
        (["bn3"], "name one for each"),
    ):
        assert hint in refused(branches, target, {"block": {**rule, "fold": wrong}})
    tp.transfer(branches, target, mapping={"block": rule})
    x = drawn(2, 5, 5, 3)
    np.testing.assert_allclose(target(x), branches(x), rtol=1e-4, atol=1e-4)


# Low-rank factors -----------------------------------------------------------------------------------------------------


@pytest.fixture
def adapted(tmp_path):
    """Return a function that writes a base and its factors as peft does, and returns both paths and the merged weight."""
    save_file = pytest.importorskip("safetensors.numpy").save_file

    def write(square=False, magnitude=False, **config):
        inputs = 4 if square else 6
        base, a, b, m = drawn(4, inputs), drawn(2, inputs), drawn(4, 2), np.abs(drawn(4)) + 0.5
        factors = {"base_model.model.q.lora_A.weight": a, "base_model.model.q.lora_B.weight": b}
        factors |= {"base_model.model.q.lora_magnitude_vector": m} if magnitude else {}
        save_file(
            {"q.weight": base, "q.bias": drawn(4), "v.weight": drawn(3, 4), "v.bias": drawn(3)},
            tmp_path / "base.safetensors",
            metadata={"format": "pt"},
        )
        save_file(factors, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
        if config:
            (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, **config}))
        alpha = config.get("lora_alpha", 8)
        factor = alpha / np.sqrt(2) if config.get("use_rslora") else alpha / 2
        total = base + factor * (b @ a).astype(float)
        if magnitude:
            total = total * (m / np.linalg.norm(total, axis=1))[:, None]
        paths = {"base": str(tmp_path / "base.safetensors"), "adapter": str(tmp_path / "adapter_model.safetensors")}
        return {name: {"path": path} for name, path in paths.items()}, total.astype("float32")

    return write


LORA = {"to": "(.*)", "from": r"base:\1", "fold": r"adapter:base_model/model/\1"}


def dense(square=False):
    keras.utils.clear_session()
    inputs = 4 if square else 6
    return keras.Sequential([keras.Input((inputs,)), layers.Dense(4, name="q"), layers.Dense(3, name="v")])


@pytest.mark.parametrize(
    "case",
    [
        {"lora_alpha": 16},
        {"lora_alpha": 16, "use_rslora": True},
        {"lora_alpha": 16, "square": True},
        {"lora_alpha": 16, "magnitude": True, "use_dora": True},
        {"lora_alpha": 1, "alpha_pattern": {"q": 16}},
    ],
)
def test_factors_of_peft_are_merged_with_what_their_configuration_says(adapted, case):
    config = {k: v for k, v in case.items() if k not in ("square", "magnitude")}
    paths, merged = adapted(case.get("square", False), case.get("magnitude", False), **config)
    if "alpha_pattern" in case:
        _, merged = paths, None
    target = dense(case.get("square", False))
    report = tp.transfer(paths, target, mapping={"all": LORA}, strict=True)
    steps = {a.target: a.transforms for a in report.plan.assignments}
    assert steps["q/kernel"][0]["merge_lora"]["alpha"] == 16
    assert steps["v/kernel"] == () and steps["q/bias"] == ()
    if merged is not None:
        np.testing.assert_allclose(target.get_layer("q").kernel, merged.T, rtol=1e-4, atol=1e-5)


@follows("_Fold._factors: write fold_with: {alpha: 16},")
def test_an_alpha_that_no_file_tells_is_asked_for(adapted):
    paths, merged = adapted()
    with pytest.raises(RecipeError, match=r"does not tell the alpha of base_model/model/q's factors of rank 2"):
        tp.plan(paths, dense(), mapping={"all": LORA})
    target = dense()
    tp.transfer(paths, target, mapping={"all": {**LORA, "fold_with": {"alpha": 8}}})
    np.testing.assert_allclose(target.get_layer("q").kernel, merged.T, rtol=1e-4, atol=1e-5)


def test_files_of_torch_are_merged_into_one_of_torch(adapted, tmp_path):
    """The names and axes stay those of the base, also of a square weight; fan_in_fan_out says that it is (in, out)."""
    for transposed in (False, True):
        paths, merged = adapted(square=True, lora_alpha=8, fan_in_fan_out=transposed)
        folder = tmp_path / f"out{transposed}"
        folder.mkdir()
        report = tp.transfer(paths, paths["base"], mapping={"all": LORA}, save="m.safetensors", folder=folder)
        (step,) = next(a.transforms for a in report.plan.assignments if a.target == "q/weight")
        assert step["merge_lora"]["axes"] == ("in_out" if transposed else "out_in")
        if not transposed:
            from safetensors.numpy import load_file

            np.testing.assert_allclose(load_file(folder / "m.safetensors")["q.weight"], merged, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("fused", ["", "qkv", "query_key_value"])
def test_factors_lie_where_torch_has_the_projections_of_an_attention(fused, magnitude, tmp_path):
    from safetensors.numpy import save_file

    heads, size, width, rank = 2, 3, 5, 2
    outputs, names = heads * size, ("query", "key", "value")
    base, factors, merged = {"att.proj.weight": drawn(width, outputs)}, {}, {}
    for module in [fused] if fused else [f"{name[0]}_proj" for name in names]:
        rows = outputs * (3 if fused else 1)
        w, a, b, m = drawn(rows, width), drawn(rank, width), drawn(rows, rank), np.abs(drawn(rows)) + 0.5
        base |= {f"att.{module}.weight": w, f"att.{module}.bias": drawn(rows)}
        if module == "k_proj":  # peft adapts queries and values, if nobody says more
            merged[module] = w
            continue
        path = f"base_model.model.att.{module}.lora_"
        factors |= {f"{path}A.weight": a, f"{path}B.weight": b, **({f"{path}magnitude_vector": m} if magnitude else {})}
        total = w + 16 / rank * (b @ a)
        merged[module] = total * (m / np.linalg.norm(total, axis=1))[:, None] if magnitude else total
    base["att.proj.bias"] = drawn(width)
    whole = (
        merged[fused].reshape((heads, 3, size, width) if fused == "query_key_value" else (3, heads, size, width))
        if fused
        else None
    )
    save_file(base, tmp_path / "base.safetensors", metadata={"format": "pt"})
    save_file(factors, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 16}))

    keras.utils.clear_session()
    x = keras.Input((4, width))
    target = keras.Model(x, layers.MultiHeadAttention(heads, size, name="att")(x, x))
    paths = {"base": str(tmp_path / "base.safetensors"), "adapter": str(tmp_path / "adapter_model.safetensors")}
    tp.transfer(paths, target, mapping={"all": LORA}, unused="error")
    for k, name in enumerate(names):
        expected = whole[:, k] if fused == "query_key_value" else whole[k] if fused else merged[f"{name[0]}_proj"]
        kernel = np.asarray(getattr(target.get_layer("att"), f"{name}_dense").kernel)
        np.testing.assert_allclose(kernel.reshape(width, -1), expected.reshape(-1, width).T, rtol=1e-4, atol=1e-4)


# Quantized layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantized_network_goes_back_with_a_rule_for_all_of_it(mode, tmp_path):
    def make():
        keras.utils.clear_session()
        return keras.Sequential([
            keras.Input((5,)), layers.Embedding(9, 6, name="e"), layers.LayerNormalization(name="n"),
            layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de", name="q"),
            layers.EinsumDense("abde,def->abf", (None, 6), name="o"), layers.Dense(3, name="d"),
        ])  # fmt: skip

    source = filled(make())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of each layer that it leaves as it is
        source.quantize(mode)
    source.save(tmp_path / "q.keras")
    target = make()
    tp.transfer(str(tmp_path / "q.keras"), target, mapping={"all": {"to": ".*", "fold": r"\0"}})
    x = RANDOM.integers(0, 9, (2, 5))
    np.testing.assert_allclose(target(x), source(x), atol=1e-4 if mode == "int4" else 0.6)


# What is refused ------------------------------------------------------------------------------------------------------


def refused(path, target, mapping):
    with pytest.raises(RecipeError) as caught:
        tp.plan(path, target, mapping=mapping)
    return str(caught.value)


@follows("fold_rule: name a BatchNormalization, LoRA's", "_Fold._check_branch: did you mean …?")
@follows("_Fold._partners: correct the template")
def test_a_layer_without_its_normalization_is_refused(source):
    target = network(norms=False)
    for fold, said in (
        (r"batch\1", "names nothing that can be folded into conv1, conv2 -> name a BatchNormalization, LoRA's"),
        ("bn{3*k-2}", "has no BatchNormalization 'bn4' (for conv2/kernel) -> did you mean 'bn"),
        ("bn{k//(k-1)}", "'bn{k//(k-1)}' for conv1: division by zero in the template -> correct the template"),
    ):
        assert said in refused(source[1], target, {"t": {"to": r"conv(?P<k>\d)", "from": r"conv\1", "fold": fold}})
    assert tp.plan(source[1], target, mapping=FOLD)


@follows("_Fold._normalization: build the target's layer")
def test_a_target_without_a_bias_is_refused(source):
    said = refused(source[1], network(norms=False, bias=False), FOLD)
    assert "conv1 has no bias, which takes what bn1 adds -> build the target's layer with use_bias=True" in said
    assert tp.plan(source[1], network(norms=False, bias=True), mapping=FOLD)


@follows("_Fold._check_behind: fold each normalization into")
def test_a_normalization_of_another_layer_is_refused(source, tmp_path):
    crossed = {"t": {"to": r"conv(?P<k>\d)", "from": r"conv\1", "fold": "bn{3-k}"}}
    said = refused(source[1], network(norms=False), crossed)
    assert "bn2 does not stand behind conv1, but behind conv2 -> fold each normalization into the layer whose" in said
    assert tp.plan(source[1], network(norms=False), mapping=FOLD)
    filled(network(norms=True, order="conv relu bn")).save(tmp_path / "m.keras")
    said = refused(str(tmp_path / "m.keras"), network(norms=False), FOLD)
    assert "bn1 does not stand behind conv1, but behind relu1" in said


@follows("_Fold._check_behind: keep this normalization as #3")
def test_a_normalization_along_another_axis_than_the_channels_is_refused():
    def normed(axis, fold=False, **conv):
        keras.utils.clear_session()
        parts = [keras.Input((4, 4, 4)), layers.Conv2D(4, 1, name="conv1", **conv)]
        return filled(keras.Sequential(parts + [layers.BatchNormalization(axis=axis, name="bn1")] * (not fold)))

    # As many places along the wrong axis as there are channels: the shapes do not show it.
    for axis, conv in ((1, {}), (3, {"data_format": "channels_first"})):
        said = refused(normed(axis, **conv), normed(axis, fold=True, **conv), FOLD)
        assert f"bn1 normalizes along axis {axis}, and the channels of conv1 lie along axis {4 - axis} -> keep" in said
    for axis, conv in ((3, {}), (-1, {}), (1, {"data_format": "channels_first"})):
        assert tp.plan(normed(axis, **conv), normed(axis, fold=True, **conv), mapping=FOLD)
    assert tp.plan(normed(1), normed(1), mapping={"all": {"to": ".*"}})


@pytest.mark.parametrize("equation", ["abc,cd->abd", "abc,dc->abd"])
def test_the_equation_of_an_einsum_says_which_axis_of_its_kernel_the_channels_are(equation):
    def einsum(fold):
        keras.utils.clear_session()
        outputs = equation.partition("->")[2][2:]  # as many of each as there are inputs: no shape tells them apart
        parts = [layers.EinsumDense(equation, (3, *[4] * len(outputs)), bias_axes=outputs, name="conv1")]
        return filled(
            keras.Sequential([keras.Input((3, 4)), *parts, layers.BatchNormalization(name="bn1")][: 3 - fold])
        )

    model, target = einsum(fold=False), einsum(fold=True)
    inputs = drawn(2, 3, 4)
    outputs = model(inputs, training=False)
    tp.transfer(model, target, mapping=FOLD)
    np.testing.assert_allclose(target(inputs), outputs, rtol=1e-4, atol=1e-5)


@follows("_Fold._check_behind: keep this normalization as", "_Fold._check_behind: keep this normalization as #2")
def test_what_is_not_linear_or_goes_elsewhere_too_is_refused():
    keras.utils.clear_session()
    images = keras.Input((6, 6, 2))
    conv = layers.Conv2D(4, 1, name="conv1")(images)
    both = keras.Model(images, layers.Add(name="sum")([conv, layers.BatchNormalization(name="bn1")(conv)]))
    one = {"t": {"to": "conv(1)", "from": r"conv\1", "fold": r"bn\1"}}
    target = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(4, 1, name="conv1")])
    said = refused(both, target, one)
    assert "conv1 goes into sum as well as into bn1 -> keep this normalization as a layer: the other" in said
    seen = keras.Model(images, [conv, layers.BatchNormalization(name="bn1")(conv)])
    assert "conv1 goes into an output of the model as well as into bn1 -> keep" in refused(seen, target, one)
    curved = network(norms=True, activation="relu")
    said = refused(curved, network(norms=False), FOLD)
    assert "conv1 has the activation relu between its kernel and bn1 -> keep this normalization as a layer" in said
    assert tp.plan(curved, network(norms=True, activation="relu"), mapping={"all": {"to": ".*"}})


NONSENSE = [
    ({"from": None}, "has nothing to work on"),
    ({"from": ["conv1", "conv2"]}, "has 1 entries, `from` has 2"),
    ({"merge": "mean"}, "cannot go with `merge`, `pair: order`, or steps of single sources -> write the sources and a transform"),
    ({"fold_with": {"eps": 1}}, "eps: integer 1 is not a setting of folding -> write fold_with: {epsilon: 0.001}"),
    ({"fold_with": {"epsilon": "small"}}, "epsilon: text 'small' is not a setting of folding"),
    ({"fold": r"bn\2"}, r"'bn\\2' uses \2, but"),
]  # fmt: skip


@follows("_check_combination: write the sources and", "_parse_fold_with: write fold_with: {epsilon: 0.001},")
def test_rules_that_mean_nothing_are_refused(source):
    target = network(norms=False)
    for rule, said in NONSENSE:
        assert said in refused(source[1], target, {"t": {**FOLD["trunk"], **rule}})
    assert tp.plan(source[1], target, mapping={"t": {**FOLD["trunk"], "fold_with": {"epsilon": 0.001}}})
    written = {
        "k": {
            "to": r"(conv1)/kernel",
            "from": [r"\1/kernel", "bn1/gamma", "bn1/moving_variance"],
            "transform": [{"fold_batchnorm": {"of": ["kernel", "gamma", "variance"], "epsilon": 0.001}}],
        }
    }
    assert tp.plan(source[1], target, mapping=written, unmatched="keep")
