"""Pairings that cross parallel branches are warned of, as far as the sides tell how their layers are connected."""

import dataclasses
import random
import re

import pytest
from compact import catalog, pairs, plan_of, structure
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.weights.network import Network, Node

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
TORCH_NORM = ("weight", "bias", "running_mean", "running_var")


def graph(text):
    """A network of lines such as ``sum Add main shortcut``: name, class, inputs."""
    nodes = [line.split() for line in text.splitlines() if line.strip()]
    return Network(tuple(Node(n, kind, inputs=tuple(inputs)) for n, kind, *inputs in nodes), connected=True)


def weights(network, listed=None):
    """The catalog of a network's layers, in another order if one is given."""
    lines = []
    for node in network.nodes:
        if node.layer_class == "BatchNormalization":
            lines.append((node.name, [f"{node.name}/{own} 4 float32 {node.layer_class}" for own in NORM]))
        elif node.layer_class in ("Conv2D", "Dense"):
            lines.append((node.name, [f"{node.name}/kernel 3x3x4x4 float32 {node.layer_class}"]))
    known = dict(lines)
    return "\n".join(line for name in listed or known for line in known[name])


def connected(network, listed=None, label="target"):
    return dataclasses.replace(catalog(weights(network, listed), label), network=network)


def crossed(target, source, pairing, pair=None):
    mapping = {f"r{i}": {"to": re.escape(t), "from": s} for i, (t, s) in enumerate(pairing.items())}
    plan = plan_of(structure(target), source, mapping)
    return [w for w in plan.warnings if w.code in ("crossed-branches", "names-disagree")]


def follow(warning):
    advice = re.search(r"(?:exchange them.*|by name): (.*)$", warning.text)[1]
    return dict(part.split(" from ") for part in advice.split(", "))


def renamed(network, names):
    return dataclasses.replace(
        network,
        nodes=tuple(
            dataclasses.replace(n, name=names[n.name], inputs=tuple(names[i] for i in n.inputs)) for n in network.nodes
        ),
    )


RESIDUAL = """
    x InputLayer
    c0 Conv2D x
    n0 BatchNormalization c0
    act0 ReLU n0
    c1 Conv2D act0
    sc Conv2D x
    n1 BatchNormalization c1
    scn BatchNormalization sc
    sum Add n1 scn
    act1 ReLU sum
    head Conv2D act1
"""
INCEPTION = """
    x InputLayer
    stem Conv2D x
    one Conv2D stem
    two Conv2D stem
    twice Conv2D two
    pool MaxPooling2D stem
    three Conv2D pool
    thrice Conv2D three
    all Concatenate one twice thrice
    head Conv2D all
"""
TOWERS = """
    x InputLayer
    a1 Conv2D x
    b1 Conv2D x
    a2 Conv2D a1
    b2 Conv2D b1
    a3 Conv2D a2
    b3 Conv2D b2
    diff Subtract a3 b3
"""
WRONG = {
    "the normalizations of main path and shortcut": (RESIDUAL, {"n1": "scn", "scn": "n1"}),
    "the convolutions of main path and shortcut": (RESIDUAL, {"c1": "sc", "sc": "c1"}),
    "both": (RESIDUAL, {"c1": "sc", "sc": "c1", "n1": "scn", "scn": "n1"}),
    "first and second of one path": (RESIDUAL, {"c0": "c1", "c1": "c0"}),
    "branches of one and of two": (INCEPTION, {"one": "two", "two": "one"}),
    "ends of branches": (INCEPTION, {"twice": "thrice", "thrice": "twice"}),
    "whole branches": (INCEPTION, {"two": "three", "twice": "thrice", "three": "two", "thrice": "twice"}),
    "the middle of two towers": (TOWERS, {"a2": "b2", "b2": "a2"}),
    "two towers that are subtracted": (
        TOWERS,
        {x: y for i in "123" for x, y in ((f"a{i}", f"b{i}"), (f"b{i}", f"a{i}"))},
    ),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.follows("code: crossed-branches")
def test_both_sides_tell_their_connections(kind):
    text, exchanged = WRONG[kind]
    target = graph(text)
    names = {n.name: f"layer{hash_of(n.name)}" for n in target.nodes}
    source = renamed(target, names)
    right = {n.name: names[n.name] for n in target.nodes if n.layer_class in ("Conv2D", "BatchNormalization")}
    assert crossed(connected(target), connected(source), right) == []
    wrong = {**right, **{t: names[s] for t, s in exchanged.items()}}
    found = crossed(connected(target), connected(source), wrong)
    assert {w.code for w in found} == {"crossed-branches"}
    repaired = dict(wrong)
    for warning in found:
        repaired.update(follow(warning))
    assert crossed(connected(target), connected(source), repaired) == []


def hash_of(name):
    return "".join(chr(ord("a") + (ord(c) * 7) % 26) for c in name)


def test_the_same_names_and_other_connections_are_left_alone():
    """Who pairs by the same name means it, whatever comes first."""
    target = graph("x InputLayer\n b/key Conv2D x\n b/query Conv2D b/key")
    source = graph("x InputLayer\n a/query Conv2D x\n a/key Conv2D a/query")
    assert crossed(connected(target), connected(source), {"b/key": "a/key", "b/query": "a/query"}) == []


def test_numbers_of_keras_say_nothing_where_connections_prove_the_pairs():
    """Who builds the shortcut first gives its layers the numbers that another gives those of the main path."""
    numbers = {"c0": "conv2d", "c1": "conv2d_1", "sc": "conv2d_2", "head": "conv2d_3"}
    numbers |= {"n0": "batch_normalization", "n1": "batch_normalization_1", "scn": "batch_normalization_2"}
    other = numbers | {"c1": "conv2d_2", "sc": "conv2d_1", "n1": numbers["scn"], "scn": numbers["n1"]}
    plain = {n.name: n.name for n in graph(RESIDUAL).nodes}
    target, source = (renamed(graph(RESIDUAL), plain | names) for names in (numbers, other))
    right = {numbers[name]: other[name] for name in numbers}
    assert crossed(connected(target), connected(source), right) == []
    # Without connections on both sides, numbers are all there is.
    assert crossed(connected(target), weights(source), right)


@pytest.mark.parametrize(
    "names",
    [
        {"c0": "conv1", "n0": "bn1", "c1": "conv2", "n1": "bn2", "sc": "downsample/0", "scn": "downsample/1"},
        {"c0": "b/conv1", "n0": "b/norm1", "c1": "b/conv2", "n1": "b/norm2", "sc": "b/down/0", "scn": "b/down/1"},
        {"c0": "conv_a", "n0": "norm_a", "c1": "conv_b", "n1": "norm_b", "sc": "proj", "scn": "proj_norm"},
        {
            "c0": "l/1/conv_a",
            "n0": "l/1/norm_a",
            "c1": "l/1/conv_b",
            "n1": "l/1/norm_b",
            "sc": "l/1/p",
            "scn": "l/1/p_norm",
        },
        {"c0": "residual/0", "n0": "residual/1", "c1": "residual/3", "n1": "residual/4", "sc": "sc/0", "scn": "sc/1"},
    ],
)
def test_the_target_alone_tells_its_connections(names):
    """A file of tensors has names, and an order: that in which the modules were defined."""
    target = graph(RESIDUAL)
    source = renamed(target, {n.name: names.get(n.name, f"other{n.name}") for n in target.nodes})
    right = {**names, "head": "otherhead"}
    plain = dataclasses.replace(connected(source, list(right.values())), network=None)
    assert crossed(connected(target), plain, right) == []
    (warning,) = crossed(connected(target), plain, {**right, "n1": right["scn"], "scn": right["n1"]})
    assert warning.code == "crossed-branches"
    assert follow(warning) == {"n1": right["n1"], "scn": right["scn"]}
    # The same where the source alone tells its connections, and the target is a file.
    there = dataclasses.replace(connected(target), network=target)
    back = {s: t for t, s in right.items()}
    assert crossed(plain, there, back) == []
    (warning,) = crossed(plain, there, {**back, right["n1"]: "scn", right["scn"]: "n1"})
    assert follow(warning) == {right["n1"]: "n1", right["scn"]: "scn"}


def test_no_side_tells_its_connections():
    """Names alone: x_conv and x_bn belong together, and so do downsample/0 and downsample/1."""
    names = {"b/1_conv": "l/conv1", "b/1_bn": "l/bn1", "b/2_conv": "l/conv2", "b/2_bn": "l/bn2"}
    names |= {"b/0_conv": "l/downsample/0", "b/0_bn": "l/downsample/1"}

    def text(layers, norms):
        return "\n".join(
            line
            for n in layers
            for line in ([f"{n}/{own} 4" for own in NORM] if n in norms else [f"{n}/kernel 3x3x4x4"])
        )

    target = text(names, [n for n in names if n.endswith("bn")])
    source = text(names.values(), [s for t, s in names.items() if t.endswith("bn")])
    assert crossed(catalog(target), catalog(source), names) == []
    wrong = {**names, "b/0_bn": names["b/2_bn"], "b/2_bn": names["b/0_bn"]}
    (warning,) = crossed(catalog(target), catalog(source), wrong)
    assert follow(warning) == {"b/0_bn": "l/downsample/1", "b/2_bn": "l/bn2"}


def test_a_residual_block_by_order_from_torch():
    """Functional models list layers by depth, torch by definition."""
    target = graph(
        "x InputLayer\n d0 Dense x\n n0 BatchNormalization d0\n d1 Dense n0\n sc Dense x\n scn BatchNormalization sc\n"
        " n1 BatchNormalization d1\n add Add scn n1"
    )
    source = catalog(
        "\n".join(
            f"{m}/{own} {'3x3x4x4' if own == 'kernel' else 4}"
            for m in ("fc1", "bn1", "fc2", "bn2", "down/0", "down/1")
            for own in (NORM if m in ("bn1", "bn2", "down/1") else ["kernel"])
        )
    )
    mapping = {
        "d": {"to": r"d(?P<k>\d)", "from": "fc{k+1}"},
        "sc": {"to": "sc", "from": "down/0"},
        "n": {"to": r"n\d|scn", "from": r"bn\d|down/1", "pair": "order"},
    }
    plan = plan_of(structure(connected(target)), source, mapping)
    (warning,) = [w for w in plan.warnings if w.code == "crossed-branches"]
    assert warning.where == "mapping.n"
    assert follow(warning) == {"scn": "down/1", "n1": "bn2"}
    repaired = {
        "n": {"to": "n0", "from": "bn1"},
        "m": {"to": "n1", "from": "bn2"},
        "o": {"to": "scn", "from": "down/1"},
    }
    plan = plan_of(structure(connected(target)), source, {**mapping, **repaired})
    assert [w for w in plan.warnings if w.code == "crossed-branches"] == []


def residual(block_name, blocks=6):
    """A residual network whose target names are `block_name(block, part)`."""
    lines, last = ["x InputLayer"], "x"
    for b in range(blocks):
        name = {part: block_name(b, part) for part in ("conv1", "bn1", "conv2", "bn2", "sc_conv", "sc_bn")}
        lines += [
            f"{name['conv1']} Conv2D {last}",
            f"{name['bn1']} BatchNormalization {name['conv1']}",
            f"{name['conv2']} Conv2D {name['bn1']}",
            f"{name['sc_conv']} Conv2D {last}",
            f"{name['sc_bn']} BatchNormalization {name['sc_conv']}",
            f"{name['bn2']} BatchNormalization {name['conv2']}",
            f"add{b} Add {name['sc_bn']} {name['bn2']}",
        ]
        last = f"add{b}"
    return graph("\n".join(lines))


OURS = {
    "stages and units": lambda b, part: f"layer{b // 2 + 1}_{b % 2}_{part}",
    "stages and units from 1": lambda b, part: f"stage{b // 2 + 1}_unit{b % 2 + 1}_{part}",
    "blocks": lambda b, part: f"res{b}_{part}",
}
THEIRS = {
    "torchvision": (lambda b: f"layer{b // 2 + 1}/{b % 2}", "conv1 bn1 conv2 bn2 downsample/0 downsample/1"),
    "timm": (lambda b: f"blocks/{b}", "conv1 norm1 conv2 norm2 shortcut/0 shortcut/1"),
}


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", OURS)
def test_any_two_layers_of_a_residual_network_from_torch_exchanged(ours, theirs):
    block, parts = THEIRS[theirs]
    ours_parts = ("conv1", "bn1", "conv2", "bn2", "sc_conv", "sc_bn")
    right = {
        OURS[ours](b, mine): f"{block(b)}/{other}"
        for b in range(6)
        for mine, other in zip(ours_parts, parts.split(), strict=True)
    }
    target = connected(residual(OURS[ours]))
    names = {n.name: right.get(n.name, f"other/{n.name}") for n in target.network.nodes}
    source = dataclasses.replace(connected(renamed(target.network, names), list(right.values())), network=None)
    assert crossed(target, source, right) == []
    rng, restored = random.Random(0), []
    for _ in range(12):
        kind = rng.choice([[n for n in right if ("conv" in n) == convolution] for convolution in (True, False)])
        a, b = rng.sample(kind, 2)
        wrong = {**right, a: right[b], b: right[a]}
        found = crossed(target, source, wrong)
        assert found, (a, b)
        for warning in found:
            wrong |= follow(warning)
        restored.append(wrong == right)
    assert sum(restored) >= 11  # where two of a few blocks are exchanged, their numbers can follow another law


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", OURS)
def test_all_normalizations_of_a_residual_network_from_torch_by_order(ours, theirs):
    """Every block crosses, so that what is wrong is as usual as what is right."""
    block, parts = THEIRS[theirs]
    conv1, bn1, conv2, bn2, sc_conv, sc_bn = parts.split()
    defined = (
        (conv1, bn1, conv2, bn2, sc_conv, sc_bn)
        if theirs == "torchvision"
        else (sc_conv, sc_bn, conv1, conv2, bn1, bn2)
    )
    norms = [f"{block(b)}/{part}" for b in range(6) for part in defined if part in (bn1, bn2, sc_bn)]
    right = {
        OURS[ours](b, mine): f"{block(b)}/{other}"
        for b in range(6)
        for mine, other in zip(("conv1", "bn1", "conv2", "bn2", "sc_conv", "sc_bn"), parts.split(), strict=True)
    }
    target = connected(residual(OURS[ours]))
    names = {n.name: right.get(n.name, f"other/{n.name}") for n in target.network.nodes}
    listed = [f"{block(b)}/{part}" for b in range(6) for part in defined]
    source = dataclasses.replace(connected(renamed(target.network, names), listed), network=None)
    explicit = {f"r{i}": {"to": t, "from": s} for i, (t, s) in enumerate(right.items()) if "conv" in t}
    by_order = {"to": "|".join(t for t in right if "bn" in t), "from": "|".join(norms), "pair": "order"}
    plan = plan_of(structure(target), source, {**explicit, "n": by_order})
    assert pairs(plan)[f"{OURS[ours](0, 'sc_bn')}/gamma"] != f"{block(0)}/{sc_bn}/gamma"
    assert {w.where for w in plan.warnings if w.code == "crossed-branches"} == {"mapping.n"}


def test_normalizations_before_their_convolutions():
    """A block that normalizes first has the numbers the other way round: bn2 follows conv1."""
    lines, last = ["x InputLayer", "stem Conv2D x"], "stem"
    for b in range(3):
        lines += [
            f"u{b}_bn1 BatchNormalization {last}",
            f"u{b}_conv1 Conv2D u{b}_bn1",
            f"u{b}_bn2 BatchNormalization u{b}_conv1",
            f"u{b}_conv2 Conv2D u{b}_bn2",
            f"add{b} Add {last} u{b}_conv2",
        ]
        last = f"add{b}"
    target = connected(graph("\n".join(lines)))
    right = {n.name: n.name.replace("u", "layer").replace("_", "/") for n in target.network.nodes}
    source = dataclasses.replace(connected(renamed(target.network, right)), network=None)
    right = {t: s for t, s in right.items() if "conv" in t or "bn" in t or t == "stem"}
    assert crossed(target, source, right) == []


# Random networks ----------------------------------------------------------------------------------------------------


@st.composite
def networks(draw):
    """A connected network of convolutions, normalizations, activations and merges, all of one shape."""
    rng = random.Random(draw(st.integers(0, 10**6)))
    nodes = [Node("n0", "InputLayer")]
    for k in range(1, draw(st.integers(3, 25))):
        kind = rng.choice(["Conv2D", "Conv2D", "BatchNormalization", "ReLU", "Add", "Concatenate"])
        wanted = 2 if kind in ("Add", "Concatenate") else 1
        recent = [n.name for n in nodes[-6:]]
        inputs = rng.sample(recent, min(wanted, len(recent)))
        nodes.append(Node(f"n{k}", kind if len(inputs) == wanted else "ReLU", inputs=tuple(inputs)))
    return Network(tuple(nodes), connected=True)


def paired(network, names):
    return {n.name: names[n.name] for n in network.nodes if n.layer_class in ("Conv2D", "BatchNormalization")}


@given(networks(), st.randoms(use_true_random=False))
def test_a_copy_in_another_order_under_other_names_is_not_warned_of(network, rng):
    """Also where the copy lists its layers in another order, and where only some of the layers are paired."""
    fresh = rng.sample([a + b for a in "bcdfghklm" for b in "aeiouy"], len(network.nodes))
    names = {n.name: fresh[i] for i, n in enumerate(network.nodes)}
    pairing = paired(network, names)
    chosen = {t: s for t, s in pairing.items() if rng.random() < 0.7}
    if not chosen:
        return
    copy = renamed(network, names)
    waiting, order = list(copy.nodes), []
    while waiting:
        ready = [n for n in waiting if all(i in {o.name for o in order} for i in n.inputs)]
        order.append(rng.choice(ready))
        waiting.remove(order[-1])
    copy = dataclasses.replace(copy, nodes=tuple(order))
    target, source = connected(network), connected(copy)
    mapping = {f"r{i}": {"to": t, "from": s} for i, (t, s) in enumerate(chosen.items())}
    plan = plan_of(structure(target), source, mapping, unmatched="keep")
    assert [w for w in plan.warnings if w.code in ("crossed-branches", "names-disagree")] == []


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_any_two_layers_of_a_row_exchanged(length, seed):
    rng = random.Random(seed)
    row = graph("x InputLayer\n" + "\n".join(f"l{i} Conv2D {f'l{i - 1}' if i else 'x'}" for i in range(length)))
    names = {n.name: f"{'abcdefgh'[i]}{'uvwxyz'[i % 6]}" for i, n in enumerate(row.nodes)}
    right = paired(row, names)
    a, b = rng.sample(sorted(right), 2)
    (warning,) = crossed(connected(row), connected(renamed(row, names)), {**right, a: right[b], b: right[a]})
    assert follow(warning) == {a: right[a], b: right[b]}
