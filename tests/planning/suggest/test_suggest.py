"""Proposed mappings: what each target weight takes, the rules that say so, and what is left open."""

import html
import itertools
import re

import keras
import numpy as np
import pytest
import yaml
from keras import layers
from named_files import torch_resnet, write_tensors
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe import RecipeError
from transferpipe.planning.suggest.words import words_of

RANDOM = np.random.default_rng(0)


def keras_resnet(depths=(2, 2, 2, 2), width=8, classes=10):
    """Return the network of `torch_resnet` under other names, counted from 0."""

    def conv(x, filters, size, stride, name):
        x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
        return layers.Conv2D(filters, size, stride, use_bias=False, name=name)(x)

    def norm(x, name):
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    inputs = keras.Input((32, 32, 3))
    x = layers.MaxPooling2D(2)(layers.ReLU()(norm(conv(inputs, width, 7, 2, "stem_conv"), "stem_bn")))
    before = width
    for stage, count in enumerate(depths):
        for block in range(count):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            channels = width << stage
            y = layers.ReLU()(norm(conv(x, channels, 3, stride, f"{name}_conv0"), f"{name}_bn0"))
            y = norm(conv(y, channels, 3, 1, f"{name}_conv1"), f"{name}_bn1")
            if before != channels:
                x = norm(conv(x, channels, 1, stride, f"{name}_sc_conv"), f"{name}_sc_bn")
            x, before = layers.ReLU()(layers.Add()([x, y])), channels
    return keras.Model(inputs, layers.Dense(classes, name="fc")(layers.GlobalAveragePooling2D()(x)))


def torch_name(layer):
    """Return what `torch_resnet` calls a layer of `keras_resnet`, and a weight of it."""
    if layer.startswith("stem"):
        return layer.removeprefix("stem_") + "1"
    if layer == "fc":
        return "fc"
    block, kind = layer.split("_", 1)
    stage, number = int(block[1]) + 1, block[3]
    if kind.startswith("sc"):
        return f"layer{stage}/{number}/downsample/{0 if kind == 'sc_conv' else 1}"
    return f"layer{stage}/{number}/{kind[:-1]}{int(kind[-1]) + 1}"


def taken(found):
    """Return by target layer the source layers that it takes."""
    pairs = {}
    for a in found.plan.assignments:
        pairs.setdefault(a.target.rpartition("/")[0], set()).update(r.name.rpartition("/")[0] for r in a.sources)
    return pairs


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return write_tensors(tmp_path_factory.mktemp("resnet") / "resnet.safetensors", torch_resnet())


def test_a_torch_file_in_the_order_of_letters_is_paired_by_five_rules(resnet):
    model = keras_resnet()
    found = tp.suggest(resnet, model)
    assert taken(found) == {layer.name: {torch_name(layer.name)} for layer in model.layers if layer.weights}
    assert found.undecided == ()
    assert len(found.rules) == 5
    assert tp.plan(resnet, model, mapping=found.mapping).checksum == found.plan.checksum


def test_the_text_is_the_recipe(resnet):
    found = tp.suggest(resnet, keras_resnet(classes=3))
    text = str(found)
    assert max(len(line) for line in text.splitlines() if not line.startswith("source:")) <= 80
    assert yaml.safe_load(text)["mapping"] == found.mapping
    assert "fc: {to: fc, from: null}" in text
    assert html.unescape(found._repr_html_()) == f"<pre style='font-family: monospace'>{text}</pre>"
    assert "# kept: no weight of the source has its shapes: fc/kernel (64, 3)" in text


def test_nothing_is_changed(resnet):
    model = keras_resnet()
    before = model.get_weights()
    tp.suggest(resnet, model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def twin(left, right):
    """Return two branches of one shape, and what joins them."""
    inputs = keras.Input((6,))
    a, b = (layers.Dense(5, name=name)(inputs) for name in (left, right))
    return keras.Model(inputs, layers.Dense(2, name="join")(layers.Add()([a, b])))


def test_branches_that_nothing_tells_apart_are_left_open():
    found = tp.suggest(twin("wolf", "bear"), twin("iron", "gold"))
    assert [(c.target, set(c.candidates)) for c in found.undecided] == [
        ("iron", {"wolf", "bear"}),
        ("gold", {"wolf", "bear"}),
    ]
    assert taken(found) == {"join": {"join"}}
    assert yaml.safe_load(str(found))["unmatched"] == "keep"


def branching(names):
    """Return a network of branches of equal shapes, told apart only by what they are joined with and what is between."""
    called = iter(names)

    def conv(x, size=1):
        return layers.Conv2D(4, size, padding="same", name=next(called))(x)

    inputs = keras.Input((6, 6, 4))
    plain, pooled = conv(inputs), conv(layers.AveragePooling2D(3, 1, "same")(inputs))
    joined = layers.Add()([conv(inputs, 5), conv(plain, 3)])
    other = layers.Add()([conv(plain, 3), layers.MaxPooling2D(3, 1, "same")(pooled)])
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()([plain, pooled, joined, other]))
    return keras.Model(inputs, layers.Dense(2, name=next(called))(x))


def test_branches_are_told_apart_by_what_they_are_joined_with():
    source, target = branching(["ka", "ru", "mi", "to", "se", "lo"]), branching(["xu", "ye", "zo", "we", "va", "qi"])
    found = tp.suggest(source, target)
    assert not found.undecided
    tp.transfer(source, target, mapping=found.mapping)
    data = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
    np.testing.assert_array_equal(target(data), source(data))


@pytest.mark.parametrize("pair", range(0, 12, 4))
def test_few_values_that_are_alike_by_chance_decide_nothing(pair):
    """Two of some hundred fresh kernels of 30 values each have nearly the same mean, spread and bounds."""
    bound = np.sqrt(6 / 11)  # Glorot's
    fresh = np.random.default_rng(0).uniform(-bound, bound, (2000, 30))
    known = np.stack([fresh.mean(1), fresh.std(1), fresh.min(1), fresh.max(1)], axis=1)
    apart = np.abs(known[:1000, None] - known[None, 1000:]).max(-1) / fresh.std()
    source, target = (twin(*names) for names in (("wolf", "bear"), ("iron", "gold")))
    ours, theirs = np.unravel_index(np.argsort(apart, axis=None)[2000 + 40 * pair], apart.shape)
    far = np.argmax(np.abs(known - known[theirs + 1000]).max(-1))
    for model, values in ((source, (ours, far)), (target, (theirs + 1000, far - 1))):
        for layer, k in zip(model.layers[1:3], values, strict=True):
            layer.kernel.assign(fresh[k].reshape(6, 5))
    assert {c.target for c in tp.suggest(source, target).undecided} >= {"iron"}


@pytest.mark.parametrize("hint", [{"iron": "bear"}, {"gold": "wolf"}, {"iron": "bear", "gold": "wolf"}])
def test_one_hint_decides_both(hint):
    found = tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints=hint)
    assert taken(found) == {"iron": {"bear"}, "gold": {"wolf"}, "join": {"join"}}


def test_a_hint_keeps_what_it_names():
    found = tp.suggest(twin("left", "right"), twin("left", "right"), hints={"join": None})
    assert [k.target for k in found.plan.kept] == ["join/kernel", "join/bias"]
    assert "kept: your hint" in str(found)


@pytest.mark.follows("read_hints: did you mean …?")
def test_a_hint_must_name_what_is_there():
    with pytest.raises(RecipeError, match=r"hints.irn: the target has nothing of that name -> did you mean 'iron'\?"):
        tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints={"irn": "wolf"})
    assert tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints={"iron": "wolf"}).undecided == ()


@pytest.mark.follows("propose: write hints={TARGET: SOURCE}")
def test_hints_are_pairs():
    with pytest.raises(RecipeError, match=r"hints: must be pairs, not list \['iron'\] -> write hints={TARGET: SOURCE}"):
        tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints=["iron"])
    assert not tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints={"iron": "wolf"}).undecided


@pytest.mark.follows("_refuse: did you mean …?")
def test_a_hint_must_pair_what_fits():
    with pytest.raises(
        RecipeError, match=r"iron \(kernel \(6, 5\), bias \(5,\)\) cannot take join \(kernel \(5, 2\), bias"
    ):
        tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints={"iron": "join"})
    with pytest.raises(
        RecipeError,
        match=r"bias \(5,\)\) cannot take wof: the source has nothing of that name -> did you mean 'wolf'\?",
    ):
        tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints={"iron": "wof"})
    assert taken(tp.suggest(twin("wolf", "bear"), twin("iron", "gold"), hints={"iron": "wolf"}))["iron"] == {"wolf"}


def test_values_decide_where_nothing_else_does(tmp_path):
    """The target was trained on from the source, under other names: its values are nearly those of the source."""
    keras.utils.set_random_seed(0)
    source = twin("wolf", "bear")
    source.get_layer("bear").set_weights([w * 3 + 1 for w in source.get_layer("bear").get_weights()])
    target = twin("iron", "gold")
    for ours, theirs in (("iron", "bear"), ("gold", "wolf")):
        weights = source.get_layer(theirs).get_weights()
        target.get_layer(ours).set_weights([w + np.float32(1e-3) * np.sign(w) for w in weights])
    found = tp.suggest(source, target)
    assert taken(found) == {"iron": {"bear"}, "gold": {"wolf"}, "join": {"join"}}
    assert str(found).count("# doubt: by the statistics of the values") == 2


def test_a_flattened_map_of_torch_gets_its_transform(tmp_path):
    shapes = {"features.0.weight": (4, 3, 3, 3), "features.0.bias": (4,), "classifier.0.weight": (6, 64)}
    path = write_tensors(tmp_path / "flat.safetensors", shapes | {"classifier.0.bias": (6,)})
    inputs = keras.Input((4, 4, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, padding="same", name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(6, name="dense")(x))
    found = tp.suggest(path, model)
    assert found.mapping["dense"]["transform"] == {"kernel": [{"flatten_order": [4, 4, 4]}]}
    tp.transfer(path, model, mapping=found.mapping)
    stored = load_file(path)["classifier.0.weight"]
    expected = stored.reshape(6, 4, 4, 4).transpose(2, 3, 1, 0).reshape(64, 6)
    assert np.array_equal(model.get_layer("dense").get_weights()[0], expected)


def test_one_projection_of_query_key_and_value_is_cut_in_three(tmp_path):
    shapes = {"attn.qkv.weight": (24, 8), "attn.qkv.bias": (24,), "attn.proj.weight": (8, 8), "attn.proj.bias": (8,)}
    path = write_tensors(tmp_path / "timm.safetensors", shapes)
    inputs = keras.Input((3, 8))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4, name="mha")(inputs, inputs))
    found = tp.suggest(path, model)
    assert found.mapping == {"mha": {"to": "mha", "from": "attn"}}
    tp.transfer(path, model, mapping=found.mapping)
    stored = load_file(path)["attn.qkv.weight"]
    for k, head in enumerate(("query", "key", "value")):
        kernel = next(w for w in model.weights if w.path.endswith(f"{head}/kernel")).numpy()
        assert np.array_equal(kernel.reshape(8, 8), stored[8 * k : 8 * k + 8].T)


def test_an_onnx_file_whose_names_say_nothing_is_paired_by_its_graph(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, rng = onnx.helper, np.random.default_rng(0)
    values = {
        f"onnx::Conv_{number}": rng.random(shape, dtype=np.float32)
        for number, shape in ((31, (4, 4, 3, 3)), (32, (4,)), (28, (4, 4, 3, 3)), (29, (4,)))
    }
    a, a_bias, b, b_bias = values
    nodes = [
        helper.make_node("Conv", ["x", a, a_bias], ["h"], pads=[1] * 4),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", b, b_bias], ["y"], pads=[1] * 4),
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4, 8, 8]) for n in "xy"]
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in values.items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), tmp_path / "model.onnx")
    inputs = keras.Input((8, 8, 4))
    x = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="zebra")(inputs))
    model = keras.Model(inputs, layers.Conv2D(4, 3, padding="same", name="apple")(x))
    found = tp.suggest(tmp_path / "model.onnx", model)
    assert found.undecided == ()
    tp.transfer(tmp_path / "model.onnx", model, mapping=found.mapping)
    for layer, kernel, bias in (("zebra", a, a_bias), ("apple", b, b_bias)):
        given = model.get_layer(layer).get_weights()
        assert np.array_equal(given[0], values[kernel].transpose(2, 3, 1, 0))
        assert np.array_equal(given[1], values[bias])


def test_what_happens_to_be_as_large_in_a_wider_network_is_left_out(tmp_path):
    """Of four stages one has the channels of another stage of the source: most of its kind fit nothing."""
    shapes = {f"stage.{k}.weight": (8 << k, 4 << k, 3, 3) for k in range(4)}
    path = write_tensors(tmp_path / "narrow.safetensors", shapes)
    inputs = x = keras.Input((8, 8, 8))
    for k in range(3):
        filters = (16, 24, 36)[k]
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"wide{k}")(x)
    found = tp.suggest(path, keras.Model(inputs, x))
    assert taken(found) == {}
    assert [(c.target, c.reason) for c in found.undecided] == [
        ("wide0", "most layers of these words have other shapes in the source")
    ]


def test_blocks_are_not_shifted_where_one_more_obeys_another_law(tmp_path):
    """Forty blocks of one shape: a law that is off by one holds for thirty-nine."""
    shapes = {f"blocks.{k}.fc.{own}": s for k in range(40) for own, s in (("weight", (6, 6)), ("bias", (6,)))}
    path = write_tensors(tmp_path / "deep.safetensors", shapes)
    inputs = x = keras.Input((6,))
    for k in range(1, 41):
        x = layers.Dense(6, name=f"row{k}")(x)
    found = tp.suggest(path, keras.Model(inputs, x))
    assert taken(found) == {f"row{k}": {f"blocks/{k - 1}/fc"} for k in range(1, 41)}
    assert found.mapping["row"]["from"] == "blocks/{i-1}/fc"


def test_a_deeper_chain_whose_names_say_nothing_is_left_open():
    """Which three of the four layers of one shape are meant, nothing tells."""

    def chain(names):
        inputs = x = keras.Input((4,))
        for name in names:
            x = layers.Dense(4, name=name)(x)
        return keras.Model(inputs, layers.Dense(2, name="end")(x))

    found = tp.suggest(chain(("iron", "gold", "zinc", "lead")), chain(("wolf", "bear", "lynx")))
    assert taken(found) == {"end": {"end"}}
    assert {c.target for c in found.undecided} == {"wolf", "bear", "lynx"}
    same = tp.suggest(chain(("iron", "gold", "zinc")), chain(("wolf", "bear", "lynx")))
    assert taken(same) == {"wolf": {"iron"}, "bear": {"gold"}, "lynx": {"zinc"}, "end": {"end"}}


def test_what_has_its_sizes_along_other_axes_is_left_to_the_user(tmp_path):
    """Files of flat names tell no class: that a kernel is kept would be said of one that the source may well have."""
    shapes = {"features.0.weight": (8, 3, 3, 3), "features.0.bias": (8,), "fc.weight": (5, 8), "fc.bias": (5,)}
    ours = {"conv/kernel": (3, 3, 3, 8), "conv/bias": (8,), "fc/kernel": (8, 5), "fc/bias": (5,), "head/kernel": (5, 7)}
    for name, sizes in (("torch", shapes), ("ours", ours)):
        save_file({k: np.zeros(v, "float32") for k, v in sizes.items()}, tmp_path / f"{name}.safetensors")
    found = tp.suggest(tmp_path / "torch.safetensors", tmp_path / "ours.safetensors")
    assert {c.target: c.candidates for c in found.undecided} == {
        "conv/kernel": ("features/0/weight",),
        "fc/kernel": ("fc/weight",),
    }
    assert {w for r in found.rules if r.keeps for w in r.weights} == {"head/kernel"}


def test_what_is_open_alike_in_many_layers_is_said_once(tmp_path):
    for name, parts in (("ours", ("wi_0", "wi_1")), ("theirs", ("gate", "input"))):
        save_file(
            {f"block{k}/{part}/kernel": np.zeros((4, 6), "float32") for k in range(3) for part in parts},
            tmp_path / f"{name}.safetensors",
        )
    text = " ".join(str(tp.suggest(tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors")).split())
    text = text.replace("# ", "")
    assert len(re.findall("fit equally well", text)) == 2
    assert "likewise block{1..2}/gate" in text and "likewise block{1..2}/input" in text


@pytest.mark.parametrize(
    ("inside", "across"),
    [("layer.0.SelfAttention", "layer.1.EncDecAttention"), ("self_attn", "encoder_attn")],
    ids=["T5", "BART"],
)
def test_the_attentions_of_a_decoder_are_told_apart_by_their_words(inside, across, tmp_path):
    parts = {"self_attention": inside, "cross_attention": across}
    ours = {
        f"decoder.block.{k}.{their}.{q}": (k, own, q) for k in range(3) for own, their in parts.items() for q in "qk"
    }
    save_file({f"{name}.weight": np.zeros((6, 6), "float32") for name in ours}, tmp_path / "torch.safetensors")
    names = {f"decoder_layer_{k}/{own}/{q}_dense/kernel": n for n, (k, own, q) in ours.items()}
    save_file(dict.fromkeys(names, np.zeros((6, 6), "float32")), tmp_path / "ours.safetensors")
    found = tp.suggest({"path": tmp_path / "torch.safetensors", "layout": "keras"}, tmp_path / "ours.safetensors")
    assert not found.undecided


@pytest.mark.parametrize(
    ("attention", "mlp"),
    [("ln_1", "ln_2"), ("input_layernorm", "post_attention_layernorm"), ("0.layer_norm", "1.layer_norm")],
    ids=["GPT-2", "Llama", "T5"],
)
def test_the_norms_of_a_block_belong_to_its_parts_in_their_order(attention, mlp, tmp_path):
    """Files of safetensors are in the order of letters, and so are these weights: nothing else tells them apart."""
    ones = np.ones(6, "float32")
    save_file({f"h.{k}.{n}.weight": ones for k in range(4) for n in (attention, mlp)}, tmp_path / "torch.safetensors")
    parts = {"mlp": mlp, "self_attention": attention}
    expected = {
        f"block{k}/{part}_layer_norm/gamma": f"h/{k}/{theirs.replace('.', '/')}/weight"
        for k in range(4)
        for part, theirs in parts.items()
    }
    save_file(dict.fromkeys(expected, ones), tmp_path / "ours.safetensors")
    found = tp.suggest(tmp_path / "torch.safetensors", tmp_path / "ours.safetensors")
    pairs = {a.target: a.sources[0].name for a in found.plan.assignments}
    assert pairs == expected


def test_norms_behind_both_parts_of_a_block_are_theirs(tmp_path):
    """Four norms a block, as in Gemma 2: there ``post_attention`` is no norm of what comes next."""
    own = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    ones = np.ones(6, "float32")
    save_file({f"h.{k}.{n}.weight": ones for k in range(3) for n in own}, tmp_path / "torch.safetensors")
    ours = ("pre_attention_norm", "post_attention_norm", "pre_ffw_norm", "post_ffw_norm")
    save_file({f"block{k}/{n}/scale": ones for k in range(3) for n in ours}, tmp_path / "ours.safetensors")
    found = tp.suggest(tmp_path / "torch.safetensors", tmp_path / "ours.safetensors")
    pairs = {a.target: a.sources[0].name for a in found.plan.assignments}
    right = {f"block{k}/{o}/scale": f"h/{k}/{t}/weight" for k in range(3) for o, t in zip(ours, own, strict=True)}
    assert pairs.items() <= right.items()


def test_heads_that_lie_side_by_side_are_put_on_axes_of_their_own(tmp_path):
    """BERT of TensorFlow 1: each projection is one matrix, of which Keras has an axis of heads and one of their width."""
    shapes = {f"self/{n}": ((12, 12), (12,)) for n in ("query", "key", "value")} | {"output/dense": ((12, 12), (12,))}
    values = {
        f"layer_{k}/attention/{n}/{own}": RANDOM.random(shape, np.float32)
        for k in range(2)
        for n, two in shapes.items()
        for own, shape in zip(("kernel", "bias"), two, strict=True)
    }
    np.savez(tmp_path / "bert.npz", **values)
    x = inputs = keras.Input((5, 12))
    for k in range(2):
        x = layers.MultiHeadAttention(3, 4, name=f"l{k}_attention")(x, x)
    model = keras.Model(inputs, x)
    found = tp.suggest(tmp_path / "bert.npz", model)
    assert not found.undecided and not found.plan.kept
    tp.transfer(str(tmp_path / "bert.npz"), model, mapping=found.mapping)
    for k, n in itertools.product(range(2), ("query", "key", "value")):
        kernel = values[f"layer_{k}/attention/self/{n}/kernel"]
        ours = getattr(model.get_layer(f"l{k}_attention"), f"{n}_dense").kernel
        np.testing.assert_array_equal(np.asarray(ours), kernel.reshape(12, 3, 4))
        np.testing.assert_array_equal(np.asarray(getattr(model.get_layer(f"l{k}_attention"), f"{n}_dense").bias),
                                      values[f"layer_{k}/attention/self/{n}/bias"].reshape(3, 4))  # fmt: skip
    out = model.get_layer("l1_attention").output_dense.kernel
    np.testing.assert_array_equal(np.asarray(out), values["layer_1/attention/output/dense/kernel"].reshape(3, 4, 12))


def test_a_table_of_positions_that_is_added_to_one_sample_loses_its_axis(tmp_path):
    table = RANDOM.random((1, 17, 6), np.float32)
    tensors = {
        "embeddings.position_embeddings": table,
        "embeddings.proj.weight": table[0, :6],
        "proj.bias": table[0, 0],
    }
    save_file(tensors, tmp_path / "vit.safetensors")
    ours = {"embed/position_embedding/embeddings": (17, 6), "embed/proj/kernel": (6, 6)}
    save_file({n: np.zeros(s, np.float32) for n, s in ours.items()}, tmp_path / "ours.safetensors")
    found = tp.suggest(tmp_path / "vit.safetensors", tmp_path / "ours.safetensors")
    (rule,) = [r for r in found.rules if "position" in str(r.data["to"]) and not r.keeps]
    assert rule.data["transform"] == {"embeddings": [{"reshape": "target"}]}


def write_in_order(path, names, width=8):
    """Write square kernels and scales as torch has them, in an order that is not that of letters."""
    np.savez(
        path, **{n: RANDOM.random((width, width) if n.endswith("fc.weight") else width, np.float32) for n in names}
    )
    return {"path": path, "layout": "torch"}


def two_norms(names, width=8, depth=3):
    """Return blocks of two norms and two layers, called by `names`."""
    inputs = x = keras.Input((width,))
    for k in range(depth):
        for norm, dense in (names[:2], names[2:]):
            y = layers.LayerNormalization(name=norm.format(k))(x)
            x = layers.Add()([x, layers.Dense(width, use_bias=False, name=dense.format(k))(y)])
    return keras.Model(inputs, x)


def test_two_norms_of_a_block_go_by_the_order_in_the_file_which_is_doubtful(tmp_path):
    """Words tell nothing of which of the two it is."""
    own = ("attn.fc.weight", "mlp.fc.weight", "iron_layernorm.{}", "gold_layernorm.{}")
    files = [o.format(w) for o in own for w in (("weight", "bias") if "{}" in o else ("",))]
    names = [f"layers.{k}.{o}" for k in range(3) for o in files]
    source = write_in_order(tmp_path / "metals.npz", names)
    found = tp.suggest(source, two_norms(("l{}_attention_norm", "l{}_attention", "l{}_mlp_norm", "l{}_mlp")))
    assert not found.undecided
    pairs = taken(found)
    for k in range(3):
        assert pairs[f"l{k}_attention_norm"] == {f"layers/{k}/iron_layernorm"}
        assert pairs[f"l{k}_mlp_norm"] == {f"layers/{k}/gold_layernorm"}
    doubts = {d for rule in found.rules if any("norm" in w for w in rule.weights) for d in rule.doubts}
    assert doubts == {"by the order in the file alone"}


def test_of_numbers_that_all_could_be_meant_those_at_the_same_place_are(tmp_path):
    """All blocks have one shape and the file has no order: only the law of the numbers tells them apart."""
    parts = [(s, u, q) for s in range(1, 4) for u in range(1, 4) for q in (1, 2)]
    names = [f"layer{s}.{u - 1}.bn{q}.{own}" for s, u, q in parts for own in ("weight", "bias")]
    source = write_in_order(tmp_path / "file.npz", RANDOM.permutation(names).tolist())
    inputs = x = keras.Input((8,))
    for s, u, q in parts:
        x = layers.LayerNormalization(name=f"stage{s}_unit{u}_bn{q}")(x)
    found = tp.suggest(source, keras.Model(inputs, x))
    assert taken(found) == {f"stage{s}_unit{u}_bn{q}": {f"layer{s}/{u - 1}/bn{q}"} for s, u, q in parts}


def test_layers_whose_names_tell_nothing_of_their_numbers_are_left_open_or_doubted(tmp_path):
    """Left and right are 1 and 2, or 2 and 1; first, second and third are 0, 3 and 5, which no step makes of 1, 2, 3."""
    names = [
        f"stage{s}.branch{b}.{n}.{o}" for s in (2, 3) for b in (1, 2) for n in (1, 4, 6) for o in ("weight", "bias")
    ]
    source = write_in_order(tmp_path / "file.npz", names)
    inputs = keras.Input((8,))
    x = inputs
    for s in (2, 3):
        sides = []
        for side in "rl":
            y = x
            for n in (1, 2, 3):
                y = layers.LayerNormalization(name=f"s{s}_{side}_norm{n}")(y)
            sides.append(y)
        x = layers.Add()(sides)
    found = tp.suggest(source, keras.Model(inputs, x))
    doubtful = {w.rpartition("/")[0] for rule in found.rules if rule.doubts for w in rule.weights}
    for name, sources in taken(found).items():
        number = {"1": "1", "2": "4", "3": "6"}[name[-1]]
        right = f"stage{name[1]}/branch{1 + (name[3] == 'r')}/{number}"
        assert sources == {right} or name in doubtful


def test_tables_and_kernels_that_are_one_weight_of_a_scope_are_paired(tmp_path):
    """A checkpoint of TensorFlow 1: BERT's tables lie side by side in a scope, slim says weights and biases."""
    shapes = {"bert/embeddings/word_embeddings": (9, 4), "bert/embeddings/token_type_embeddings": (2, 4)}
    shapes |= {"net/conv1/weights": (3, 3, 1, 4), "net/conv1/BatchNorm/gamma": (4,), "net/logits/biases": (5,)}
    shapes |= {"net/conv1/BatchNorm/beta": (4,), "net/logits/weights": (4, 5)}
    np.savez(tmp_path / "tf1.npz", **{n: np.ones(s, "float32") for n, s in shapes.items()})
    ids, image = keras.Input((3,), dtype="int32"), keras.Input((8, 8, 1))
    tables = [layers.Embedding(n, 4, name=name)(ids) for n, name in ((9, "word_table"), (2, "type_table"))]
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, use_bias=False, name="conv1")(image))
    x = layers.Add()([x, *(layers.GlobalAveragePooling1D()(t) for t in tables)])
    model = keras.Model([ids, image], layers.Dense(5, name="logits")(x))
    found = tp.suggest({"path": tmp_path / "tf1.npz", "layout": "keras"}, model)
    assert {a.target: [r.name for r in a.sources] for a in found.plan.assignments} == {
        "word_table/embeddings": ["bert/embeddings/word_embeddings"],
        "type_table/embeddings": ["bert/embeddings/token_type_embeddings"],
        "conv1/kernel": ["net/conv1/weights"],
        "logits/kernel": ["net/logits/weights"],
        "logits/bias": ["net/logits/biases"],
    }


def test_a_scale_is_not_the_bias_of_a_layer_that_is_taken_as_a_whole(tmp_path):
    """ConvNeXt: each block has a scale as long as the bias of its last layer."""

    class Scale(layers.Layer):
        def build(self, shape):
            self.gamma = self.add_weight(shape=(shape[-1],), name="factor")

        def call(self, x):
            return x * self.gamma

    own = {"gamma": (4,), "pw1.weight": (8, 4), "pw1.bias": (8,), "pw2.weight": (4, 8), "pw2.bias": (4,)}
    path = write_tensors(tmp_path / "c.safetensors", {f"stages.{k}.{n}": s for k in range(3) for n, s in own.items()})
    inputs = x = keras.Input((4,))
    for k in range(3):
        y = layers.Dense(4, name=f"stage{k}_pw2")(layers.Dense(8, name=f"stage{k}_pw1")(x))
        x = layers.Add()([x, Scale(name=f"stage{k}_scale")(y)])
    found = tp.suggest(path, keras.Model(inputs, x))
    pairs = {a.target: [r.name for r in a.sources] for a in found.plan.assignments}
    assert [pairs[f"stage{k}_scale/factor"] for k in range(3)] == [[f"stages/{k}/gamma"] for k in range(3)]
    assert len(pairs) == 15


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("mixed_3b_1x1_conv", ("mixed", "3", "1", "1", "x", "1", "conv")),
        ("s2b1_bn", ("block", "2", "block", "1", "norm")),
        ("block1a_dwconv", ("block", "1", "0", "depthwise")),
        ("block6h_expand_conv", ("block", "6", "7", "expand", "conv")),
        ("post_attention_layernorm", ("post", "norm")),
        ("layer.0.layernorm_after", ("block", "0", "norm", "2")),  # of ViT in transformers: its norm2
        ("fc_logvar", ("dense", "var")),
    ],
)
def test_letters_count_unless_a_number_follows_them_at_once(name, tokens):
    assert words_of(name).tokens == tokens
