"""Pairings that cross by their names are warned of; consistent renamings are not."""

import random
import re
import time

import pytest
from compact import pairs, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

CROSSED = ("names-disagree", "crossed-branches")


def catalog_text(layers, sizes=None):
    return "\n".join(f"{x}/kernel {(sizes or {}).get(x, '4x4')}\n{x}/bias 4" for x in layers)


def rules(pairing):
    """One explicit rule a layer."""
    return {f"r{i}": {"to": re.escape(t), "from": s.replace("\\", r"\\")} for i, (t, s) in enumerate(pairing.items())}


def plan_for(pairing, sizes=None, extra=()):
    """The plan that takes each layer as `pairing` says, of sources listed in the order of their names."""
    sources = sorted({*pairing.values(), *extra})
    mapping = rules(pairing)
    theirs = {pairing[t]: size for t, size in (sizes or {}).items()}
    return plan_of(catalog_text(pairing, sizes), catalog_text(sources, theirs), mapping)


def crossings(plan):
    return [w for w in plan.warnings if w.code in CROSSED]


def follow(warning):
    """What the warning advises: which layer should take which."""
    advice = re.search(r"(?:exchange them|by name): (.*)$", warning.text)[1]
    return dict(part.split(" from ") for part in advice.split(", "))


def swap(pairing, a, b):
    return {**pairing, a: pairing[b], b: pairing[a]}


def same(*names):
    return {n: n for n in names}


BERT = {
    f"encoder/layer_{i}/{part}": f"bert/encoder/layer/{i}/attention/self/{word}"
    for i in range(3)
    for part, word in {"q_proj": "query", "k_proj": "key", "v_proj": "value"}.items()
}
WRONG = {
    "two same names": (same("a", "b", "c"), "a", "b"),
    "two of a row": (same(*"abcdefg"), "c", "f"),
    "names inside longer ones": (
        {"net_z_mean": "z_mean", "net_z_log_var": "z_log_var", "net_h": "h"},
        "net_z_mean",
        "net_z_log_var",
    ),
    "names inside other models": ({"net/a": "a", "net/b": "b"}, "net/a", "net/b"),
    "parts of two blocks": (
        {"block_b/query": "block_a/query", "block_b/key": "block_a/key"},
        "block_b/query",
        "block_b/key",
    ),
    "directions": (
        {f"pair/{d}_layer/cell": f"bidirectional/{d}_layer/cell" for d in ("forward", "backward")},
        "pair/forward_layer/cell",
        "pair/backward_layer/cell",
    ),
    "parts called otherwise": (BERT, "encoder/layer_1/q_proj", "encoder/layer_1/k_proj"),
    "parts of two layers": (BERT, "encoder/layer_1/q_proj", "encoder/layer_2/q_proj"),
    "a row renamed": ({f"c{i}": f"conv{i}" for i in range(1, 6)}, "c3", "c5"),
    "two renamed": ({f"c{i}": f"conv{i}" for i in range(1, 3)}, "c1", "c2"),
    "a row counted from another number": ({f"c{i}": f"conv{i + 1}" for i in range(5)}, "c2", "c4"),
    "every second layer": ({f"c{i}": f"l{2 * i}" for i in range(6)}, "c1", "c4"),
    "blocks renamed": (
        {f"block{b}_conv{c}": f"features/{b + 2}/{c}" for b in range(1, 4) for c in range(1, 4)},
        "block2_conv1",
        "block3_conv1",
    ),
    "places in a row with gaps": (
        {f"conv{i}": f"features/{n}" for i, n in enumerate((0, 2, 5, 7, 10, 12, 14, 17, 19))},
        "conv3",
        "conv6",
    ),
    "containers renamed": (
        {f"{ours}/{x}": f"{theirs}/{x}" for ours, theirs in (("left", "first"), ("right", "second")) for x in "pqrs"},
        "left/q",
        "right/q",
    ),
    "whole halves": ({"enc/x": "net/encoder/x", "dec/x": "net/decoder/x"}, "enc/x", "dec/x"),
    "depthwise and pointwise": ({"s/depthwise": "t/dw", "s/pointwise": "t/pw"}, "s/depthwise", "s/pointwise"),
    "a word before every name, block by block": (
        {
            f"s{i}_block/s{i}_{part}": f"net_s{i}_block/net_s{i}_{part}"
            for i in (0, 1)
            for part in ("main_conv1", "main_conv2", "short_conv")
        },
        "s1_block/s1_main_conv1",
        "s0_block/s0_short_conv",
    ),
    "stages and blocks in one word": (
        {f"s{s}b{b}_last": f"layer{s}/{b}/norm_b" for s in (1, 2) for b in (0, 1)},
        "s1b0_last",
        "s1b1_last",
    ),
    "parts of other words, of two stages": (
        {
            f"s{i}_{ours}": f"s{i}/{theirs}"
            for i in range(3)
            for ours, theirs in {"main_bn1": "residual/norm1", "main_bn2": "residual/norm2", "skip": "down"}.items()
        },
        "s1_main_bn1",
        "s2_skip",
    ),
    "nested blocks": (same(*(f"m/b{i}/{x}" for i in range(2) for x in "uv")), "m/b0/u", "m/b1/v"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_layers_exchanged_by_explicit_rules(kind):
    pairing, a, b = WRONG[kind]
    assert crossings(plan_for(pairing)) == []
    (warning,) = crossings(plan_for(swap(pairing, a, b)))
    assert warning.code == "names-disagree"
    assert f"{a} takes {pairing[b]}" in warning.text
    assert f"{b} takes {pairing[a]}" in warning.text
    assert {**swap(pairing, a, b), **follow(warning)} == pairing


@pytest.mark.parametrize("kind", WRONG)
def test_other_shapes_cannot_be_exchanged(kind):
    pairing, a, b = WRONG[kind]
    assert crossings(plan_for(swap(pairing, a, b), {a: "4x5"})) == []


def test_three_in_a_ring():
    (warning,) = crossings(plan_for({"a": "b", "b": "c", "c": "a", "d": "d"}))
    assert follow(warning) == same("a", "b", "c")


def test_single_weights():
    mapping = {"x": {"to": "a/kernel", "from": "b/kernel"}, "y": {"to": "b/kernel", "from": "a/kernel"}}
    text = catalog_text("ab")
    (warning,) = crossings(plan_of(text, text, {**mapping, "z": {"to": ".*/bias"}}))
    assert warning.where == "mapping.x, mapping.y"


def test_one_rule_has_one_warning():
    layers = [f"b{i}/c{j}" for i in range(1, 7) for j in range(1, 7)]
    mapping = {"all": {"to": r"b(\d)/c(\d)", "from": r"b\2/c\1"}}
    (warning,) = crossings(plan_of(catalog_text(layers), catalog_text(layers), mapping))
    assert warning.where == "mapping.all"
    assert warning.text.count(" takes ") == 4
    assert "and 26 more" in warning.text  # of 36, the six on the diagonal are right


def test_rules_beside_same_name():
    text = catalog_text("abc")
    mapping = {"x": {"to": "a", "from": "b"}, "y": {"to": "b", "from": "a"}}
    (warning,) = crossings(plan_of(text, text, mapping, unmatched="same_name"))
    assert follow(warning) == same("a", "b")


RIGHT = {
    "the same": same(*"abcd"),
    "counted one up": {f"c{i}": f"c{i + 1}" for i in range(8)},
    "counted two down": {f"b{i + 2}/c": f"b{i}/c" for i in range(8)},
    "every second layer": {f"layer_{i}": f"layer_{2 * i}" for i in range(6)},
    "the last layers": {f"layer_{i}": f"layer_{i + 6}" for i in range(6)},
    "first and last": dict(zip([f"l{i}" for i in range(4)], ["l0", "l1", "l10", "l11"], strict=True)),
    "a namesake that is left out": {"a": "b", "c": "c"},
    "a chain": {"a": "b", "b": "c"},
    "indices in another order": {f"b{i}_c{j}": f"s{j}_t{i}" for i in range(4) for j in range(4)},
    "torchvision's ResNet": {
        f"conv{s + 1}_block{b + 1}_{c}_conv": f"layer{s}/{b}/conv{c}"
        for s, n in ((1, 3), (2, 4), (3, 6), (4, 3))
        for b in range(n)
        for c in (1, 2, 3)
    },
    "torchvision's VGG": {
        f"block{b}_conv{c}": f"features/{n}"
        for (b, c), n in zip(
            [(b, c) for b, most in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for c in range(1, most + 1)],
            (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
            strict=True,
        )
    },
    "BERT": BERT,
    "letters that count": {
        "res4a": "block4/b",
        "res4b": "block4/a",
        "conv2d1_x": "conv1d2_y",
        "conv1d1_x": "conv1d1_y",
    },
    "a row and one layer more": {f"c{i}": f"net/c{i}" for i in range(3)} | {"top": "net/c3"},
    "words that both sides have, elsewhere": {"left_1": "upper_1", "right_2": "left_2", "mid_3": "right_3"},
    "an encoder for a decoder": {f"decoder/layer_{i}": f"encoder/layer_{i}" for i in range(4)},
}


@pytest.mark.parametrize("kind", RIGHT)
def test_right_pairings(kind):
    extra = ["a"] if kind == "a namesake that is left out" else ()
    assert crossings(plan_for(RIGHT[kind], extra=extra)) == []


def test_a_mirror_that_is_computed():
    """A decoder from its encoder, the last layer first: arithmetic is meant."""
    layers = catalog_text([f"l{i}" for i in range(5)])
    mapping = {"all": {"to": r"l(?P<i>\d)", "from": "l{4-i}"}}
    assert crossings(plan_of(layers, layers, mapping)) == []
    copied = {"all": {"to": r"l(?P<i>\d)m(?P<j>\d)", "from": "l{j}m{i}"}}
    square = catalog_text([f"l{i}m{j}" for i in range(2) for j in range(2)])
    assert len(crossings(plan_of(square, square, copied))) == 1


def test_one_source_for_several():
    mapping = {"x": {"to": "a|b", "from": "b"}, "y": {"to": "c", "from": "a"}}
    assert crossings(plan_of(catalog_text("abc"), catalog_text("ab"), mapping)) == []


def test_means_of_several_layers():
    mapping = {
        "x": {"to": "a", "from": ["a", "b"], "merge": "mean"},
        "y": {"to": "b", "from": ["b", "a"], "merge": "mean"},
    }
    assert crossings(plan_of(catalog_text("ab"), catalog_text("ab"), mapping)) == []


def test_two_sources_that_hold_the_same_names():
    text = catalog_text("ab")
    mapping = {"x": {"to": "a", "from": "s:b"}, "y": {"to": "b", "from": "t:a"}}
    assert crossings(plan_of(text, {"s": text, "t": text}, mapping)) == []


# By order -----------------------------------------------------------------------------------------------------------


def by_order(target, source, to=".*", theirs=".*"):
    return plan_of(catalog_text(target), catalog_text(source), {"all": {"to": to, "from": theirs, "pair": "order"}})


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("abc", "acb"),
        (["block_b/key", "block_b/query"], ["block_a/query", "block_a/key"]),
        (["p/left/x", "p/right/x"], ["q/right/x", "q/left/x"]),
        (["c1", "c2", "c3"], ["conv1", "conv3", "conv2"]),
    ],
)
def test_an_order_that_crosses(target, source):
    plan = by_order(target, source, *(("[^/]*", "[^/]*") if "/" not in target[0] else ("[^/]*/.*", "[^/]*/.*")))
    (warning,) = crossings(plan)
    assert warning.where == "mapping.all"
    pairing = {t.rpartition("/")[0]: s.rpartition("/")[0] for t, s in pairs(plan).items()}
    assert crossings(plan_for({**pairing, **follow(warning)})) == []


def test_an_order_that_gives_a_layer_its_neighbours_source():
    (warning,) = crossings(by_order(["stem", "mid", "end"], ["mid", "end", "last"], "stem|mid|end", "mid|end|last"))
    assert warning.text == (
        "by order, stem takes mid, though the target has a layer of that name; and 1 more layer like this: pair these"
        " layers by name, in rules of their own"
    )


@pytest.mark.parametrize(
    ("target", "source"),
    [
        (["dense_3", "dense_1", "dense_2"], ["dense_1", "dense_3", "dense_2"]),  # counted up in another order
        (
            ["bidirectional_1/forward_layer", "bidirectional/forward_layer"],
            ["bidirectional/forward_layer", "bidirectional_1/forward_layer"],
        ),
        (["conv1", "conv2", "conv3"], ["conv2", "conv3", "conv4"]),
        (["first", "second"], ["q", "r"]),
    ],
)
def test_orders_that_names_do_not_speak_against(target, source):
    assert crossings(by_order(target, source)) == []


# Random networks ----------------------------------------------------------------------------------------------------

WORDS = ["conv", "fc", "stem", "enc", "mid", "up", "attn", "query", "key", "value", "norm", "left", "right", "head"]


@st.composite
def names(draw):
    depth = draw(st.integers(1, 3))
    blocks = draw(st.integers(1, 5))
    parts = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True))
    style = draw(st.sampled_from(["{w}{i}", "b{i}/{w}", "b{i}_{w}", "net/{w}_{i}/x", "{w}/{i}"]))
    found = [style.format(w=w, i=i) for i in range(blocks) for w in parts]
    return [f"{'outer/' * (depth - 1)}{n}" for n in dict.fromkeys(found)]


@st.composite
def renamings(draw):
    """A renaming that gives equal words and numbers equal new ones, in the order of the numbers."""
    layers = draw(names())
    rng = random.Random(draw(st.integers(0, 10**6)))
    fresh = rng.sample([f"{a}{b}" for a in ("alpha", "beta", "layer", "unit", "mod") for b in "xyzuvw"], 20)
    words = {w: (fresh.pop() if rng.random() < 0.7 else w) for w in sorted(set(re.findall("[a-z]+", " ".join(layers))))}
    factor, offset = rng.choice([1, 1, 2]), rng.choice([0, 1, 3])
    separator = rng.choice(["/", "_", "."])

    def rename(name):
        found = re.sub("[a-z]+", lambda m: words[m[0]], name)
        found = re.sub(r"\d+", lambda m: str(int(m[0]) * factor + offset), found)
        return found.replace("_", separator)

    return {n: rename(n) for n in layers}


@settings(max_examples=2 * settings().max_examples)
@given(renamings())
def test_consistent_renamings_are_not_warned_of(pairing):
    assert len(set(pairing.values())) == len(pairing)
    assert crossings(plan_for(pairing)) == []


@given(names().filter(lambda n: len(n) > 1), st.randoms(use_true_random=False))
def test_any_two_layers_of_the_same_names_exchanged(layers, rng):
    a, b = rng.sample(layers, 2)
    (warning,) = crossings(plan_for(swap(same(*layers), a, b)))
    assert follow(warning) == {a: a, b: b}


def test_ten_thousand_weights_take_no_second():
    layers = [f"stage{i}/block{j}/part{k}" for i in range(10) for j in range(50) for k in range(10)]
    text = catalog_text(layers)
    mapping = {"all": {"to": r"stage(\d+)/block(\d+)/part(\d+)", "from": r"stage\1/block\2/part\3"}}
    from compact import catalog

    from transferpipe.planning.crossings import lint_crossings

    found = catalog(text)
    plan = plan_of(text, text, mapping)
    start = time.process_time()
    assert list(lint_crossings(plan, found, {"source": found})) == []
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "odd", ["²", "1" * 5000, "conv" + "1" * 5000], ids=["a power", "digits", "digits behind a word"]
)
def test_names_with_digits_that_are_not_numbers_are_words(odd):
    layers = [f"block/{odd}", "block/conv", "block/bn"]
    text = "\n".join(f"{x}/gamma 4\n{x}/beta 4" for x in layers)
    plan = plan_of(text, text.replace("block", "old"), {"r": {"to": "block/(.*)", "from": r"old/\1"}})
    assert len(plan.assignments) == 6
    assert crossings(plan) == []
