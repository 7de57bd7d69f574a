"""What feeds the paired layers is compared where both sides tell it."""

import dataclasses
import time

import keras
import numpy as np
import pytest
from compact import catalog, plan_of
from keras import layers as kl

import transferpipe as tp
from transferpipe.planning.lint.connections import lint_connections
from transferpipe.weights.network import Network, Node

ALL = {"all": {"to": ".*"}}
CODES = ("connected-otherwise", "kept-between")


def dense(name, units=4, **settings):
    return kl.Dense(units, name=name, activation="tanh", **settings)


def net(connect, shape=(4,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, connect(inputs))


def chain(*names):
    def connect(x):
        for name in names:
            x = dense(name)(x)
        return x

    return net(connect)


def merged(merge, swap=False, tail=True):
    def connect(x):
        a, b = dense("a")(x), dense("b")(x)
        both = merge([b, a] if swap else [a, b])
        return dense("top")(both) if tail else both

    return net(connect)


def residual(short):
    def connect(x):
        a = dense("a")(x)
        b = dense("b")(a)
        return dense("top")(kl.Add()([{"a": a, "x": x}[short], b]))

    return net(connect)


def normed(before):
    def connect(x):
        n, d = kl.LayerNormalization(name="n"), dense("d")
        return dense("top")(kl.Add()([x, d(n(x))]) if before else n(kl.Add()([x, d(x)])))

    return net(connect)


def attention(swap):
    def connect(x):
        a, b = dense("a")(x), dense("b")(x)
        mixed = kl.MultiHeadAttention(2, 2, name="att")(*((b, a) if swap else (a, b)))
        return dense("top")(mixed)

    return net(connect, (5, 4))


def looped(times):
    def connect(x):
        a = dense("a")
        for _ in range(times):
            x = a(x)
        return dense("top")(x)

    return net(connect)


def three(nested):
    def connect(x):
        a, b, c = dense("a")(x), dense("b")(x), dense("c")(x)
        return dense("top")(kl.Add()([kl.Add()([c, a]), b]) if nested else kl.Add()([a, b, c]))

    return net(connect)


def twice_inside(times):
    body = chain("a", "b")
    body.name = "body"

    def connect(x):
        for _ in range(times):
            x = body(x)
        return dense("top")(x)

    return net(connect)


PAIRS = {
    "order": lambda: (chain("a", "b", "c"), chain("b", "a", "c")),
    "same order": lambda: (chain("a", "b", "c"), chain("a", "b", "c")),
    "concatenate": lambda: (merged(kl.Concatenate()), merged(kl.Concatenate(), swap=True)),
    "add": lambda: (merged(kl.Add()), merged(kl.Add(), swap=True)),
    "plus": lambda: (merged(lambda x: x[0] + x[1]), merged(lambda x: x[0] + x[1], swap=True)),
    "subtract": lambda: (merged(kl.Subtract()), merged(kl.Subtract(), swap=True)),
    "shortcut": lambda: (residual("a"), residual("x")),
    "same shortcut": lambda: (residual("a"), residual("a")),
    "no shortcut": lambda: (residual("a"), chain("a", "b", "top")),
    "normalized first": lambda: (normed(True), normed(False)),
    "attention": lambda: (attention(False), attention(True)),
    "same attention": lambda: (attention(True), attention(True)),
    "called twice": lambda: (looped(2), looped(1)),
    "both called twice": lambda: (looped(2), looped(2)),
    "adds in adds": lambda: (three(True), three(False)),
    "a model called twice": lambda: (twice_inside(2), twice_inside(1)),
}


def says(source, target, **recipe):
    plan = tp.plan(source, target, **({"mapping": ALL} | recipe))
    return {w.code: w.text for w in plan.warnings if w.code in CODES}


@pytest.mark.parametrize("form", ["live", "keras", "h5"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_warning_where_the_same_weights_compute_something_else(name, form, tmp_path):
    source, target = PAIRS[name]()
    rng = np.random.default_rng(0)
    for weight in source.weights:
        weight.assign(rng.normal(size=weight.shape))
    given = {w.path: w for w in source.weights}
    for weight in target.weights:
        weight.assign(given[weight.path])
    x = rng.normal(size=(3, *source.input_shape[1:])).astype("float32")
    same = np.allclose(source(x), target(x), atol=1e-5)
    told = source
    if form != "live":
        told = str(tmp_path / f"s.{form}")
        source.save(told)
    assert says(told, target) == {} if same else set(says(told, target)) == {"connected-otherwise"}


def test_it_names_what_feeds_the_layer_on_both_sides():
    text = says(chain("a", "b", "c"), chain("b", "a", "c"))["connected-otherwise"]
    assert "a takes an input in the source, b in the target" in text
    text = says(merged(kl.Concatenate()), merged(kl.Concatenate(), swap=True))["connected-otherwise"]
    assert "top takes Concatenate of (a, b) in the source, Concatenate of (b, a) in the target" in text
    assert "a is called twice in the source, once in the target" in says(looped(2), looped(1))["connected-otherwise"]


@pytest.mark.parametrize(
    ("source", "target", "recipe"),
    [
        (chain("a"), chain("a1", "a2", "a3"), {"mapping": {"all": {"to": ".*", "from": "a"}}}),
        (chain("a", "b", "c", "d"), chain("a", "c"), {"mapping": ALL}),
        (chain("a", "b"), chain("new", "a", "b"), {"mapping": {"m": {"to": "a|b"}}, "unmatched": "keep"}),
        (chain("a", "b", "c"), chain("b", "c", "head"), {"mapping": {"m": {"to": "b|c"}}, "unmatched": "keep"}),
    ],
    ids=["one into several", "every second", "an adapter before", "a tail under a new head"],
)
def test_what_is_arranged_otherwise_by_intention_is_not_warned_of(source, target, recipe):
    assert says(source, target, **recipe) == {}


KEPT = {"mapping": {"m": {"to": "a|b"}}, "unmatched": "keep"}


def stacked(*names):
    cells = {name: kl.GRUCell(3, name=name) for name in ("c0", "c1", "c2")}
    stack = kl.StackedRNNCells([cells[name] for name in names], name="stack")
    return net(lambda x: dense("top")(kl.RNN(stack, name="r")(x)), (5, 3))


@pytest.mark.parametrize("form", ["live", ".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize(("order", "right"), [(("c0", "c1", "c2"), True), (("c0", "c2", "c1"), False)])
def test_the_order_of_stacked_cells(form, order, right, tmp_path):
    source, target, x = stacked("c0", "c1", "c2"), stacked(*order), np.ones((2, 5, 3), "f4")
    path = tmp_path / f"model{form}"
    if form != "live":
        source.save_weights(path) if form == ".weights.h5" else source.save(path)
    found = tp.transfer(source if form == "live" else path, target, mapping=ALL)
    assert np.allclose(source(x), target(x), atol=1e-5) == right
    texts = [w.text for w in found.warnings if w.code == "connected-otherwise"]
    assert len(texts) == (not right)
    assert right or (" c0, c2, c1, " in texts[0] and " c0, c1, c2;" in texts[0])


def test_fewer_stacked_cells_in_the_source_s_order():
    assert says(stacked("c0", "c1", "c2"), stacked("c0", "c2"), mapping=ALL, ignore=["r/stack/cells/c1"]) == {}


def test_a_layer_that_is_kept_between_transferred_ones():
    source, target = chain("a", "b"), chain("a", "new", "b")
    text = says(source, target, **KEPT)["kept-between"]
    assert text.startswith("1 layer keeps its initial values between layers that are transferred: new;")
    # Followed: said to be meant.
    mapping = KEPT["mapping"] | {"new": {"to": "new", "from": None}}
    assert says(source, target, mapping=mapping) == {}
    # Followed: transferred.
    other = chain("a", "new", "b")
    assert says(other, target, mapping=ALL) == {}


def test_a_file_without_a_graph_is_enough_for_that(tmp_path):
    source = chain("a", "b")
    path = tmp_path / "s.npz"
    np.savez(path, **{f"{x.name}/{w.name}": w.numpy() for x in source.layers for w in x.weights})
    assert set(says(str(path), chain("a", "b", "c", "head"), mapping=None, unmatched="same_name_or_keep")) == set()
    found = says(str(path), chain("a", "c", "b"), mapping=None, unmatched="same_name_or_keep")
    assert set(found) == {"kept-between"}


def merges(kind, depth):
    """A Dense, merges that each take the one before twice, and another Dense, as a catalog with its network."""
    nodes = [Node("in", "InputLayer"), Node("a", "Dense", inputs=("in",))]
    for i in range(depth):
        nodes.append(Node(f"m{i}", kind, inputs=(nodes[-1].name,) * 2))
    nodes.append(Node("b", "Dense", inputs=(nodes[-1].name,)))
    weights = catalog("a/kernel 3x3 float32 Dense\nb/kernel 3x3 float32 Dense", kind)
    return dataclasses.replace(weights, network=Network(tuple(nodes), connected=True))


@pytest.mark.parametrize("kind", ["Add", "Average", "Concatenate"])
def test_merges_that_take_one_input_twice_cost_no_more_than_others(kind):
    ours, theirs = merges(kind, 90), merges(kind, 90)
    plan = plan_of("a/kernel 3x3\nb/kernel 3x3", "a/kernel 3x3\nb/kernel 3x3", {"r": {"to": "a|b"}})
    began = time.process_time()
    assert list(lint_connections(plan, {next(iter(plan.sources)): theirs}, ours)) == []
    assert time.process_time() - began < 5, "written out, the last merge has 2 to the 90th inputs"


def test_few_merges_of_that_kind_are_compared():
    ours, theirs = merges("Add", 3), merges("Add", 2)
    plan = plan_of("a/kernel 3x3\nb/kernel 3x3", "a/kernel 3x3\nb/kernel 3x3", {"r": {"to": "a|b"}})
    (warning,) = lint_connections(plan, {next(iter(plan.sources)): theirs}, ours)
    assert warning.text.startswith("b takes Add of (a, a, a, a) in the source, Add of (a, a, a, a, a, a, a, a) in")
