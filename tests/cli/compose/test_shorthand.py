"""A text that is short for a mapping: an override inside does what it does where the mapping is written."""

import shlex

import numpy as np
import pytest
import yaml
from command_line import weights
from safetensors.numpy import save_file

from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.sweeps.composed_variants import Variants

follows = pytest.mark.follows
LONG = {
    "source": {"path": "${vars.folder}/a b.npz"},
    "target": {"path": "t.npz"},
    "save": {"path": "o'1.npz"},
    "verify": {"parity": {"source": "source"}},
    "mapping": {"body": {"to": "hidden/(.*)", "from": {"name": r"hidden/\1"}}},
    "vars": {"folder": "in"},
}
SHORT = {
    **LONG,
    "source": "${vars.folder}/a b.npz",
    "target": "t.npz",
    "save": "o'1.npz",
    "verify": {"parity": "source"},
    "mapping": {"body": {"to": "hidden/(.*)", "from": r"hidden/\1"}},
}


@pytest.fixture
def compose(here):
    """Return a function that composes a recipe with overrides, and gives it as data."""

    def composed(recipe, *overrides):
        (here / "recipes" / "own.yaml").write_text("# @package _global_\n" + yaml.safe_dump(recipe))
        composer, words = Composer.of(["recipe=own", *overrides])
        direct = composer.compose(words).data
        varied = Variants(composer, ["recipe=own"]).compose(list(overrides)).recipe
        assert {k: direct[k] for k in LONG if k in direct} == {k: varied[k] for k in LONG if k in varied}
        return direct

    return composed


@pytest.mark.parametrize(
    "override",
    [
        "save.card=true",
        "save.also=[b.npz]",
        "+save.like.path=b.npz",
        "save.path=b.npz",
        "source.path=b.npz",
        "+source.layout=torch",
        "++source.format=npz",
        "+target.like=b.npz",
        "+verify.parity.atol=1e-3",
        "+mapping.body.from.transform=[{scale: 2}]",
    ],
)
def test_an_override_inside_of_a_text_is_one_inside_of_the_mapping(compose, override):
    key = override.lstrip("+").partition("=")[0].rpartition(".")[0]
    short, long = compose(SHORT, override), compose(LONG, override)
    for name in key.split("."):
        short, long = short[name], long[name]
    assert short == long


def test_several_sources_as_texts(compose):
    found = compose({"sources": {"a": "a.npz", "b": "b.npz"}, "target": "t.npz"}, "+sources.a.layout=torch")
    assert found["sources"] == {"a": {"path": "a.npz", "layout": "torch"}, "b": "b.npz"}


def test_overrides_count_in_their_order(compose):
    assert compose(SHORT, "save=z.npz", "save.card=true")["save"]["card"] is True
    assert compose(SHORT, "save=z.npz", "save.card=true")["save"]["path"] == "z.npz"
    assert compose(SHORT, "save.card=true", "save=z.npz")["save"] == "z.npz"


@follows("_unknown_key: to change it, write")
def test_what_is_advised_keeps_the_path(refuses, cli, here):
    save_file(weights(), here / "weights.safetensors")
    recipe = {
        "source": "weights.safetensors",
        "target": "weights.safetensors",
        "save": "out.npz",
        "mapping": {"all": {"to": ".*"}},
    }
    (here / "recipes" / "own.yaml").write_text("# @package _global_\n" + yaml.safe_dump(recipe))
    advice = refuses(2, ["run", "recipe=own", "+save.card=true"], "save.card: already set").err
    override = shlex.split(advice.partition("write ")[2])[0]
    answer = cli("run", "recipe=own", override)
    assert answer.status == 0, answer.err
    (written,) = here.glob("outputs/**/out.npz")
    assert (written.parent / "README.md").is_file()
    with np.load(written) as arrays:
        assert all(np.array_equal(arrays[k], v) for k, v in weights().items())
