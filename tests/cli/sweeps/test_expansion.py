"""From axes and variants to overrides, in Hydra's grammar."""

import pytest
from omegaconf import OmegaConf

from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.sweeps.expansion import (
    Axes,
    as_override,
    count,
    expand,
    read_axes,
    split_axes,
    unmet,
    values_by_key,
)
from transferpipe.errors import RecipeError


@pytest.fixture
def composer(here):
    for name in ("small", "large", "other"):
        (here / "recipes" / "mapping").mkdir(exist_ok=True)
        (here / "recipes" / "mapping" / f"{name}.yaml").write_text("{}\n")
    return Composer()


@pytest.mark.parametrize(
    "text, values",
    [
        ("seed=1,2", ("1", "2")),
        ("seed=range(3)", ("0", "1", "2")),
        ("freeze=[],[a,'b c'],null", ("[]", "[a,'b c']", "null")),
        ("freeze='a,b','c d'", ("'a,b'", "'c d'")),
        ("target={a:1},{a:2}", ("{a:1}", "{a:2}")),
        ("mapping=glob(*)", ("large", "none", "other", "small")),
        ("mapping=glob(*, exclude=l*)", ("none", "other", "small")),
        ("seed=choice(3,1)", ("3", "1")),
        ("seed=sort(3,1,2)", ("1", "2", "3")),
    ],
)
def test_values_of_an_axis(composer, text, values):
    assert split_axes(composer, [text]) == Axes((), {text.partition("=")[0]: values}, {})


@pytest.mark.parametrize("text", ["seed=1", "freeze=[a,b]", "freeze='a,b'", "target={a:1,b:2}", "~mapping.x", "+a.b=1"])
def test_one_value_is_no_axis(composer, text):
    assert split_axes(composer, [text]) == Axes((text,), {}, {})


def test_an_interval_is_left_to_a_sweeper(composer):
    assert split_axes(composer, ["vars.x=interval(0,1)"]).open == {"vars.x": "interval(0,1)"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("seed=range(0)", "has no values"),
        ("seed=range(1000000000)", "more than 10,000 values"),
        ("hydra.sweep.dir=a,b", "cannot be varied"),
        ("+hydra.x=a,b", "cannot be varied"),
        ("sweep=a,b", "cannot be varied"),
        ("seed=range(", "bracket that is not closed$"),
    ],
)
def test_refused_axes(composer, text, words):
    with pytest.raises(RecipeError, match=words):
        split_axes(composer, [text])


def test_axes_of_a_file(composer):
    axes = {
        "seed": "range(2)",
        "freeze": [["a"], None, "b c"],
        "vars.x": 1,
        "mapping": "small",
        "vars.y": "interval(0,1)",
    }
    found = read_axes(composer, axes)
    assert found.axes == {
        "seed": ("0", "1"),
        "freeze": ("[a]", "null", "'b c'"),
        "vars.x": ("1",),
        "mapping": ("small",),
    }
    assert found.open == {"vars.y": "interval(0,1)"}


def test_all_that_is_wrong_with_the_axes_of_a_file(composer):
    with pytest.raises(RecipeError) as caught:
        read_axes(composer, {"seed": [], "freeze": "range(0)"})
    assert len(caught.value.problems) == 2


def test_every_combination_and_every_named_variant():
    variants = {"one": {"freeze": ["a"]}, "two": {"freeze": []}}
    found = expand(Axes((), {"seed": ("0", "1")}), variants, [])
    assert found == [
        (("variant", "one"), ("freeze", "[a]"), ("seed", "0")),
        (("variant", "two"), ("freeze", "[]"), ("seed", "0")),
        (("variant", "one"), ("freeze", "[a]"), ("seed", "1")),
        (("variant", "two"), ("freeze", "[]"), ("seed", "1")),
    ]
    assert count({"seed": ("0", "1")}, variants) == 4


@pytest.mark.parametrize(
    "rule, left",
    [
        ({"seed": 0}, 2),
        ({"seed": "0"}, 4),
        ({"seed": [0, 1]}, 0),
        ({"seed": 0, "vars.on": True}, 3),
        ({"vars.on": 1}, 4),
        ({"recipe": "own", "seed": 1}, 2),
        ({"recipe": "other"}, 4),
    ],
)
def test_dropped_combinations(rule, left):
    axes = Axes(("recipe=own",), {"seed": ("0", "1"), "vars.on": ("true", "False")})
    if left:
        assert len(expand(axes, {}, [rule])) == left
    else:
        with pytest.raises(RecipeError, match="leaves no variant"):
            expand(axes, {}, [rule])


@pytest.mark.parametrize("rule", [{"seed": 2}, {"seed": 2.0}, {"seed": [2, 7]}])
@pytest.mark.parametrize("values", [("1", "2"), ("1.0", "2.0")])
def test_a_number_is_the_same_number_however_it_is_written(rule, values):
    axes = Axes((), {"seed": values, "x": ("0.1", "0.2")})
    assert len(expand(axes, {}, [], {"x": rule})) == 3
    assert len(expand(axes, {}, [rule])) == 2
    assert list(unmet(axes, {}, [rule], {"x": rule})) == []


@pytest.mark.parametrize(
    ("drop", "when", "said"),
    [
        ([], {"x": {"seed": 7}}, "sweep.when.x: no variant has seed=7; it is 1, 2 in this sweep"),
        (
            [],
            {"x": {"freeze": ["all", "some"]}},
            "sweep.when.x: no variant has freeze=all or some; it is none in this sweep",
        ),
        ([{"x": 0.1}, {"x": 0.3, "seed": 1}], {}, "sweep.drop.1: no variant has x=0.3; it is 0.1, 0.2 in this sweep"),
        (
            [{"units": ["a"]}],
            {},
            "sweep.drop.0: no variant has units=a; it is [a], b in this sweep. A list stands for one of its values; "
            "for the list, write [[a]]",
        ),
        ([{"variant": "c"}], {}, "sweep.drop.0: no variant has variant=c; it is a, b in this sweep"),
    ],
)
def test_a_condition_that_nothing_meets_is_told(drop, when, said):
    """It is a slip, or a part of a larger sweep, so that nothing is refused."""
    axes = Axes(("freeze=none",), {"seed": ("1", "2"), "x": ("0.1", "0.2"), "units": ("[a]", "b")})
    assert list(unmet(axes, {"a": {"y": 1}, "b": {"y": 2}}, drop, when)) == [said]


@pytest.mark.parametrize("name", ["ü.h5", "名.h5", "a²1.h5", "²", "a b", "m[1].h5", "g'h.h5", "e=f.h5", "b$x", "٣.h5"])
def test_files_of_any_name_are_an_axis(composer, here, name):
    (here / "found").mkdir()
    (here / "found" / name).touch()
    (value,) = split_axes(composer, ["vars.v=glob(found/*)"]).axes["vars.v"]
    assert composer.parse([f"+vars.v={value}"])[0].value() in (f"found/{name}", f"found/{name}".replace("'", "\\'"))


def test_a_rule_about_a_key_that_nothing_gives():
    with pytest.raises(RecipeError, match="did you mean 'freeze'"):
        expand(Axes((), {"freeze": ("a", "b")}), {}, [{"freezee": "a"}])


def test_a_key_cannot_vary_twice():
    with pytest.raises(RecipeError, match=r"sweep.variants.one.seed: is an axis"):
        expand(Axes((), {"seed": ("0", "1")}), {"one": {"seed": 1}}, [])


@pytest.mark.parametrize("value", ["a b", "null", "true", "1", "1e3", "it's", "^enc/(.*)", "", "a,b", ["x", {"k": None}], 1.5, None, "inf", "a\\d", "b\\'c", "\\", float("-inf"), {r"enc/(\d+)\.w": {"[ab]{2}": "x"}, " a:b=c, d ": 1, "\\": 2}])  # fmt: skip
def test_overrides_mean_what_a_file_says(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(f"key={as_override(value)}").value()
    assert OmegaConf.create({"key": read}) == OmegaConf.create({"key": value})
    assert not isinstance(value, str) or isinstance(read, str)


def test_equal_values_are_equal_texts():
    found = values_by_key(
        ["freeze=[a,  b]", "+x.y={a: 1}", "~mapping.q", "hydra.sweep.dir=x", "sweep.limit=3", "hydra/launcher=joblib"]
    )
    assert found == {"freeze": "[a,b]", "+x.y": "{a:1}", "~mapping.q": "null"}
