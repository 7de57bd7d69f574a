"""What a pattern brings: layers first, outermost first, then single weights."""

from compact import catalog
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.planning.claims import find_units
from transferpipe.recipe.patterns import Pattern

NAMES = """
    enc/conv/kernel
    enc/conv/bias
    enc/norm/gamma
    enc/enc/kernel
    head/kernel
    head/bias
    scale
"""


def found(pattern, excepts=(), names=NAMES):
    units = find_units(Pattern(pattern), catalog(names), [Pattern(e) for e in excepts])
    return [(u.name, "layer" if u.is_layer else "weight", " ".join(u.weights)) for u in units]


ENC_CONV = "enc/conv/kernel enc/conv/bias"
ENC = f"{ENC_CONV} enc/norm/gamma enc/enc/kernel"


def test_a_layer_brings_everything_below():
    assert found("enc") == [("enc", "layer", ENC)]
    assert found("enc/conv") == [("enc/conv", "layer", ENC_CONV)]


def test_the_outermost_layer_wins():
    assert found("enc(/.*)?") == [("enc", "layer", ENC)]
    assert found(".*enc") == [("enc", "layer", ENC)]
    assert found("enc|enc/conv|enc/conv/kernel") == [("enc", "layer", ENC)]


def test_what_lies_deeper_is_tried_where_nothing_above_matched():
    assert found("enc/.*") == [
        ("enc/conv", "layer", ENC_CONV),
        ("enc/norm", "layer", "enc/norm/gamma"),
        ("enc/enc", "layer", "enc/enc/kernel"),
    ]


def test_weights_come_after_layers_and_keep_the_catalogs_order():
    assert found("head|scale|enc/conv/bias") == [
        ("enc/conv/bias", "weight", "enc/conv/bias"),
        ("head", "layer", "head/kernel head/bias"),
        ("scale", "weight", "scale"),
    ]
    assert found(".*/kernel") == [(n, "weight", n) for n in ("enc/conv/kernel", "enc/enc/kernel", "head/kernel")]
    assert found(".*") == [
        ("enc", "layer", ENC),
        ("head", "layer", "head/kernel head/bias"),
        ("scale", "weight", "scale"),
    ]


def test_whole_names_only():
    assert found("en") == found("enc/con") == found("conv") == found("kernel") == found("") == []


def test_excepts_by_weight_by_layer_and_by_layer_above():
    assert found("enc/conv", ["enc/conv/bias"]) == [("enc/conv", "layer", "enc/conv/kernel")]
    assert found("enc", ["enc/conv", ".*/gamma"]) == [("enc", "layer", "enc/enc/kernel")]
    assert found("enc/conv", ["enc"]) == found("scale", ["scale"]) == found(".*", [".*"]) == []
    assert found("enc/.*", ["enc/conv"])[0] == ("enc/norm", "layer", "enc/norm/gamma")


def test_a_layer_with_something_taken_out_is_still_the_outermost():
    assert found("enc|enc/conv", ["enc/conv"]) == [("enc", "layer", "enc/norm/gamma enc/enc/kernel")]


def test_relative_names():
    layer, weight = find_units(Pattern("enc|scale"), catalog(NAMES))
    assert [layer.relative(w) for w in layer.weights] == ["conv/kernel", "conv/bias", "norm/gamma", "enc/kernel"]
    assert weight.relative("scale") == ""


def test_a_layer_and_a_weight_of_one_name():
    assert found("a", names="a/b\n a") == [("a", "layer", "a/b"), ("a", "weight", "a")]


segments = st.lists(st.sampled_from(["a", "b", "ab", "c_1"]), min_size=1, max_size=4).map("/".join)
patterns = st.sampled_from([".*", "a.*", ".*b", "a/.*", "(a|b)", ".*/c_1", "a/b", "[ab]/.*", ".*/a(/.*)?", "x"])


@given(st.lists(segments, unique=True), patterns, st.lists(patterns, max_size=2))
def test_every_weight_is_brought_at_most_once_and_for_a_reason(names, pattern, excepts):
    weights = catalog("\n".join(names))
    units = find_units(Pattern(pattern), weights, [Pattern(e) for e in excepts])
    brought = [w for u in units for w in u.weights]
    assert len(set(brought)) == len(brought)
    nodes = {n: [n, *_above(n)] for n in names}
    out = {n for n in names if any(Pattern(e).match(x) for e in excepts for x in nodes[n])}
    assert set(brought) == {n for n in names if any(Pattern(pattern).match(x) for x in nodes[n])} - out
    position = {n: i for i, n in enumerate(names)}
    assert [position[u.weights[0]] for u in units] == sorted(position[u.weights[0]] for u in units)
    for unit in units:
        assert not any(Pattern(pattern).match(x) for x in _above(unit.name))


def _above(name):
    parts = name.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
