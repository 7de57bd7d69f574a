"""Whatever names and order a network's twin has: what is proposed is right, or nothing is; and the rules give just that."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.suggest.sides import Sides
from transferpipe.planning.suggest.suggest import suggest_mapping
from transferpipe.planning.suggest.templates import Pair, cluster, drafts_of
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import Catalog, WeightSpec

WORDS = st.text(alphabet="abkpqvwxz_", min_size=2, max_size=6).filter(lambda w: w.strip("_"))
NUMBERED = st.builds(
    "{}{}".format, st.sampled_from(["conv", "bn", "layer", "q", "k", "block1_", "fc"]), st.integers(0, 12)
)
NAMES = st.one_of(WORDS, NUMBERED)
BLOCKS = st.lists(
    st.tuples(st.sampled_from(["line", "norm", "branches", "skip"]), st.sampled_from([4, 5])), min_size=1, max_size=6
)
ORIGINS = {"source": {"path": "source.keras"}, "target": {"path": "target.keras"}}
LABELS = {"source": "source.keras", "target": "target.keras"}
FEW = settings(max_examples=25, deadline=None)


def made(blocks):
    """Return a network as its layers: name, class, inputs, shapes of the weights by their names."""
    found, width, before = [], 4, ("in",)

    def add(kind, inputs, size):
        shapes = {"kernel": (width, size), "bias": (size,)}
        if kind == "BatchNormalization":
            shapes = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (size,))
        found.append((f"made{len(found)}", kind, inputs, shapes))
        return (found[-1][0],)

    for kind, size in blocks:
        first = add("Dense", before, size)
        if kind == "branches":
            first += add("Dense", before, size)
        width = size
        if kind == "norm":
            first = add("BatchNormalization", first, size)
        elif kind == "skip":
            first += add("Dense", first, size)
        before = first
    add("Dense", before, 3)
    return found


def catalog_of(layers, names=None, order=None, is_connected=True):
    """Return the layers as a catalog: under other names, in another order, with or without the connections."""
    names = names or {}
    ordered = [layers[k] for k in order] if order else layers
    weights = [
        WeightSpec(f"{names.get(name, name)}/{own}", shape, "float32", kind)
        for name, kind, _, shapes in ordered
        for own, shape in shapes.items()
    ]
    nodes = [Node("in", "InputLayer")] + [
        Node(names.get(name, name), kind, inputs=tuple(names.get(i, i) for i in inputs))
        for name, kind, inputs, _ in layers
    ]
    return Catalog(tuple(weights), "a", Network(tuple(nodes), connected=True) if is_connected else None)


def propose(source, target, hints=None):
    return suggest_mapping(Sides(source, TargetStructure("target", target), "keras", ORIGINS, LABELS), hints)


def taken(found):
    return {a.target: [r.name for r in a.sources] for a in found.plan.assignments}


def alike(blocks):
    """Return by layer the layers that no connection tells from it: the two branches of one block."""
    found = {name: {name} for name, *_ in made(blocks)}
    layers = iter(found)
    for kind, _ in blocks:
        pair = [next(layers) for _ in range(1 if kind == "line" else 2)]
        if kind == "branches":
            found |= {name: set(pair) for name in pair}
    return found


def unique_names(data, layers):
    names = data.draw(st.lists(NAMES, min_size=len(layers), max_size=len(layers), unique=True))
    return dict(zip([name for name, *_ in layers], names, strict=True))


@FEW
@given(BLOCKS, st.data())
def test_a_twin_of_names_that_say_nothing_is_paired_by_its_graph_or_left_open(blocks, data):
    layers = made(blocks)
    words = data.draw(st.lists(WORDS, min_size=len(layers), max_size=len(layers), unique=True))
    names = dict(zip([name for name, *_ in layers], words, strict=True))
    source, target = catalog_of(layers), catalog_of(layers, names)
    found = propose(source, target)
    old = {new: name for name, new in names.items()}
    right = {w.name: f"{old[w.layer]}/{w.own_name}" for w in target}
    assert all(names == [right[w]] for w, names in taken(found).items())
    branches = {names[n] for n, others in alike(blocks).items() if len(others) > 1}
    assert {c.target for c in found.undecided} <= branches
    assert {w.partition("/")[0] for w in right.keys() - taken(found).keys()} <= branches


@FEW
@given(BLOCKS, st.data())
def test_a_shuffled_file_of_other_names_is_never_paired_wrongly(blocks, data):
    layers = made(blocks)
    words = data.draw(st.lists(WORDS, min_size=len(layers), max_size=len(layers), unique=True))
    names = dict(zip([name for name, *_ in layers], words, strict=True))
    order = data.draw(st.permutations(range(len(layers))))
    source, target = catalog_of(layers, names, order, is_connected=False), catalog_of(layers)
    found = propose(source, target)
    for weight, sources in taken(found).items():
        layer, _, own = weight.rpartition("/")
        assert sources == [f"{names[layer]}/{own}"]


@FEW
@given(BLOCKS, st.data())
def test_the_same_names_are_paired_whatever_the_order_of_the_file(blocks, data):
    layers = made(blocks)
    names = unique_names(data, layers)
    order = data.draw(st.permutations(range(len(layers))))
    source = catalog_of(layers, names, order, is_connected=data.draw(st.booleans()))
    target = catalog_of(layers, names)
    assert taken(propose(source, target)) == {w.name: [w.name] for w in target}


@FEW
@given(BLOCKS, st.data())
def test_the_rules_that_are_written_give_the_plan_that_is_shown(blocks, data):
    layers = made(blocks)
    source, target = catalog_of(layers, unique_names(data, layers)), catalog_of(layers, unique_names(data, layers))
    found = propose(source, target)
    recipe = read_recipe(found.recipe)
    again = make_plan(recipe, {"source": source}, TargetStructure("target", target), LABELS)
    assert again.checksum == found.plan.checksum
    crossing = [w for w in again.warnings if w.code in ("names-disagree", "crossed-branches")]
    assert not crossing
    claimed = {w for rule in found.rules for w in rule.weights} | {w for c in found.undecided for w in c.weights}
    assert claimed == {w.name for w in target}


@FEW
@given(BLOCKS, st.data())
def test_a_hint_is_always_followed(blocks, data):
    layers = made(blocks)
    words = data.draw(st.lists(WORDS, min_size=len(layers), max_size=len(layers), unique=True))
    names = dict(zip([name for name, *_ in layers], words, strict=True))
    chosen = data.draw(st.sampled_from(layers))[0]
    source, target = catalog_of(layers), catalog_of(layers, names)
    found = propose(source, target, {names[chosen]: chosen})
    given_ones = {w: sources for w, sources in taken(found).items() if w.startswith(f"{names[chosen]}/")}
    assert given_ones and all(sources[0].startswith(f"{chosen}/") for sources in given_ones.values())
    kept = propose(source, target, {names[chosen]: None})
    assert not any(w.startswith(f"{names[chosen]}/") for w in taken(kept))


def test_a_layer_of_the_same_name_and_other_shapes_takes_nothing_of_others():
    """In a wider network what is as large as a layer belongs to another one."""
    layers = made([("line", 4), ("line", 5)])
    wider = [
        (n, k, i, {own: tuple(5 if s == 4 else 4 for s in shape) for own, shape in sh.items()})
        for n, k, i, sh in layers
    ]
    target = catalog_of(wider, is_connected=False)
    found = propose(dataclasses.replace(catalog_of(layers), network=None), target)
    assert taken(found) == {}


def test_a_layer_whose_namesake_has_other_shapes_is_taken_by_no_other():
    """In a deeper DenseNet the norm behind a stage is wider, and the stage's further block as wide as that was."""

    def stage(blocks):
        names = [*(f"conv4_block{k}_bn" for k in range(1, blocks + 1)), "pool4_bn"]
        own = ("gamma", "beta", "moving_mean", "moving_variance")
        return [
            (name, "BatchNormalization", (["in", *names][k],), dict.fromkeys(own, (4 + k,)))
            for k, name in enumerate(names)
        ]

    pairs = taken(propose(catalog_of(stage(3)), catalog_of(stage(4))))
    assert {name.partition("/")[0]: [*{s.partition("/")[0] for s in sources}] for name, sources in pairs.items()} == {
        f"conv4_block{k}_bn": [f"conv4_block{k}_bn"] for k in (1, 2, 3)
    }


@pytest.mark.parametrize(
    "hash_", ["12345678901234567890", "7" * 5000], ids=["beyond 64 bits", "beyond what Python reads"]
)
def test_long_rows_of_digits_are_words(hash_):
    layers = made([("line", 4), ("line", 5), ("line", 4)])
    names = {name: f"conv_{hash_}/part{k}" for k, (name, *_) in enumerate(layers)}
    theirs = {name: f"old_{hash_}/part{k}" for k, (name, *_) in enumerate(layers)}
    found = propose(catalog_of(layers, theirs), catalog_of(layers, names))
    assert len(found.plan.assignments) == 2 * len(layers)


def test_names_of_many_numbers_that_all_shift_get_a_rule():
    ours = ["/".join(f"p{i + k}" for k in range(25)) for i in range(4)]
    pairs = [Pair(name, re.sub(r"\d+", lambda m: str(int(m[0]) + 1), name), (f"{name}/kernel",)) for name in ours]
    drafts = [draft for shape, members in cluster(pairs) for draft in drafts_of(shape, members)]
    best = max(drafts, key=lambda draft: len(draft.pairs))
    for pair in pairs:
        assert Template(best.source).fill(Pattern(best.to).match(pair.to), lambda name: True) == pair.source


@pytest.mark.parametrize("names", ["層 積 卷", "² ³ ¹", "Σ Ω Π", "- + !"])
def test_names_of_other_alphabets_are_paired_by_what_else_is_known(names):
    layers = made([("line", 4), ("line", 5)])
    called = dict(zip([name for name, *_ in layers], names.split(), strict=True))
    found = propose(catalog_of(layers), catalog_of(layers, called))
    assert len(found.plan.assignments) == 2 * len(layers)


def test_kept_layers_are_claimed_by_numbers_with_zeros_before_them():
    sizes = {"head_01": (7, 3), "head_02": (9, 3), "head_03": (4, 3)}
    target = Catalog(
        tuple(WeightSpec(f"{name}/kernel", shape, "float32", "Dense") for name, shape in sizes.items()), "a"
    )
    source = Catalog((WeightSpec("head_03/kernel", (4, 3), "float32", "Dense"),), "b")
    found = propose(source, target)
    assert list(taken(found)) == ["head_03/kernel"]
    assert {k.target for k in found.plan.kept} == {"head_01/kernel", "head_02/kernel"}
