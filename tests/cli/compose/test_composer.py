"""A composer owns what it reads; what Hydra keeps for the whole process is as it was, whoever uses it beside us."""

import copy
import os
import threading

import pytest
from command_line import RECIPE
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf import OmegaConf
from omegaconf.base import Container
from omegaconf.basecontainer import BaseContainer

from transferpipe.cli.compose.composing import Composer, without_hydra
from transferpipe.cli.compose.hydra_private import source_types
from transferpipe.cli.compose.resolving import resolve, yaml_text
from transferpipe.cli.sweeps.composed_variants import Variants
from transferpipe.errors import RecipeError, UnsafeError
from transferpipe.models.building.build import import_keras

TOUCHING = "defaults: [/recipe/own, _self_]\nhydra: {job: {chdir: true}}\n"


def state():
    """Return what Hydra and OmegaConf keep for the process, objects by identity and tables by content."""
    return {
        "hydra": GlobalHydra.instance().hydra,
        "config": HydraConfig.instance().cfg,
        "job": OmegaConf.to_container(JobRuntime.instance().conf),
        "version": VersionBase.instance().version_base,
        "store": copy.deepcopy(ConfigStore.instance().repo),
        "sources": dict(source_types()),
        "resolvers": dict(BaseContainer._resolvers),
        "environment": dict(os.environ),
    }


@pytest.fixture
def notebook(here):
    """Return the configuration of an application that runs on Hydra in this process, and is about to go on with it."""
    (here / "app").mkdir()
    (here / "app" / "main.yaml").write_text("lr: 0.1\nuser: ${oc.env:USER_OF_APP,nobody}\n")
    OmegaConf.register_new_resolver("times", lambda a, b: a * b, replace=True)
    with initialize_config_dir(str(here / "app"), version_base="1.2", job_name="app"):
        HydraConfig.instance().set_config(compose("main", return_hydra_config=True))
        yield lambda *words: compose("main", list(words))
    HydraConfig.instance().cfg = None
    BaseContainer._resolvers.pop("times")


def test_an_application_on_hydra_keeps_all_of_its_own(notebook, here, cli):
    import_keras()  # which sets up TensorFlow through the environment, once
    before = state()
    composer = Composer()
    composer.compose(["recipe=own", "seed=3"])
    Variants(composer, ["recipe=own"]).compose(["seed=4"])
    for bad in (
        ["recipe=onw"],
        ["recipe=own", "sed=1"],
        ["recipe=own", "seed=[1"],
        ["recipe=own", "name=${oc.env:HOME}"],
    ):
        with pytest.raises((RecipeError, UnsafeError)):
            composer.compose(bad)
    assert cli("run", "recipe=own", "hydra.run.dir=out").status == 0
    sweep = ("sweep", "recipe=own", "seed=0,1", "hydra.sweep.dir=sweep")
    assert cli(*sweep).status == 0
    after = state()
    assert {key for key in before if before[key] != after[key]} == set()
    assert notebook("lr=0.2").lr == 0.2
    assert OmegaConf.create({"x": "${times:2,3}"}).x == 6


@pytest.mark.parametrize(
    ("fixed", "choices"),
    [
        ([], [["seed=1", "freeze=[hidden]"], ["seed=2", "freeze=[]"]]),
        (["score={_target_: my_scores.score, k: 0}"], [["score.k=1"], ["score.k=2"], ["+score.other=3"]]),
        (["score=linear_probe"], [["score.epochs=2"], ["score.epochs=4", "seed=1"]]),
        (["score=linear_probe", "score.epochs=8"], [["score.patience=2"], ["~score.patience"]]),
        (["+score._target_=my_scores.score"], [["+score.k={a: 1}"], ["+score.k=[1, 2]"]]),
    ],
)
def test_variants_that_set_values_compose_files_once(fixed, choices, here, monkeypatch):
    """Each is what composing it by itself gives, or is refused as there, what is fixed before what varies."""
    composer = Composer()
    alone = [_composed(composer, [*fixed, *words]) for words in choices]
    counted = []
    whole = Composer.configuration
    monkeypatch.setattr(Composer, "configuration", lambda *a: counted.append(a) or whole(*a))
    variants = Variants(composer, ["recipe=own", *fixed])
    for words, by_itself in zip(choices, alone, strict=True):
        found = _composed(variants, words, whole=False)
        assert by_itself.startswith(found) if isinstance(by_itself, str) else found == by_itself
    refused = sum(isinstance(found, str) for found in alone)
    assert len(counted) <= 1 + refused  # to say what is wrong, it is looked at once more


def _composed(composer, words, whole=True):
    try:
        found = composer.compose(["recipe=own", *words] if whole else words)
        return found.data if whole else found.recipe
    except RecipeError as error:
        return str(error)


def test_two_composers_do_not_disturb_each_other(here):
    for name, seed in (("one", 1), ("two", 2)):
        (here / name / "recipe").mkdir(parents=True)
        (here / name / "recipe" / "both.yaml").write_text(f"{RECIPE}seed: {seed}\n")
    first, second = Composer("one"), Composer("two")
    assert [c.compose(["recipe=both"]).data["seed"] for c in (first, second, first)] == [1, 2, 1]
    (here / "recipes" / "touching.yaml").write_text(TOUCHING)
    with pytest.raises(UnsafeError, match="cannot set keys of hydra"):
        second.compose(["recipe=touching"])
    # What the other has loaded is nothing to this one, nor to itself later.
    assert first.compose(["recipe=both"]).data["seed"] == 1
    assert second.compose(["recipe=both"]).data["seed"] == 2


def test_composers_in_threads_beside_somebody_who_reads_the_environment(here, monkeypatch):
    monkeypatch.setenv("USER_OF_APP", "somebody")
    stop, seen, failed = threading.Event(), set(), []

    def application():
        while not stop.is_set():
            seen.add(OmegaConf.to_container(OmegaConf.create({"u": "${oc.env:USER_OF_APP}"}), resolve=True)["u"])

    def work(seed):
        try:
            composer = Composer()
            for _ in range(3):
                found = composer.compose(["recipe=own", f"seed={seed}", "name=n${seed}"]).data
                assert (found["seed"], found["name"]) == (seed, f"n{seed}")
                with pytest.raises(UnsafeError, match="reads the environment"):
                    composer.compose(["recipe=own", "name=${oc.env:USER_OF_APP}"])
        except BaseException as error:
            failed.append(error)

    before = state()
    reader = threading.Thread(target=application)
    workers = [threading.Thread(target=work, args=(seed,)) for seed in (11, 12)]
    for thread in (reader, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    reader.join()
    assert failed == []
    assert seen == {"somebody"}
    assert state() == before


def test_composing_does_not_copy_all_that_is_registered(monkeypatch):
    def refuse(store, memo):
        raise AssertionError("Hydra's store is copied, with everything that it and its plug-ins register")

    monkeypatch.setattr(ConfigStore, "__deepcopy__", refuse, raising=False)
    assert Composer().compose(["recipe=same_layer"]).data["mapping"]


def test_the_recipes_part_is_copied_as_omegaconf_would():
    data = {"a": [1, None, "${b.c}", {"d": [[]], "e": "???"}], "b": {"c": 1e5, 3: True}, "n": None, "hydra": {"x": [1]}}
    config = OmegaConf.create(data)
    OmegaConf.set_readonly(config.b, value=True)
    config.l = "${a}"
    copied, wanted = without_hydra(config), OmegaConf.masked_copy(config, ["a", "b", "n", "l"])
    assert OmegaConf.to_yaml(copied) == OmegaConf.to_yaml(wanted)
    assert OmegaConf.to_container(copied, resolve=True) == OmegaConf.to_container(wanted, resolve=True)
    assert OmegaConf.is_readonly(copied.b)
    copied.a[3].d.append(5)  # of its own
    assert config.a[3].d == [[]]
    assert (copied._get_node("a")[3]._get_full_key("d"), copied.l[0]) == ("a[3].d", 1)


@pytest.mark.parametrize("odd", ["\u202ea", "a\x1b[31m", "a\u2028b", "é"])
def test_what_a_terminal_takes_for_a_command_is_escaped_in_yaml(odd):
    data = {"a": [odd, "1e5", "yes", 1e5, None], odd: {"b": "${a}"}}
    text = yaml_text(OmegaConf.create(data))
    assert all(line.isprintable() for line in text.split("\n"))
    assert OmegaConf.to_container(OmegaConf.create(text)) == data


def test_a_text_is_resolved_once_however_often_others_have_it(monkeypatch):
    resolved, original = [], Container.resolve_parse_tree

    def note(self, parse_tree, node, *args, **kwargs):
        resolved.append(node._get_full_key(None))
        return original(self, parse_tree, node, *args, **kwargs)

    monkeypatch.setattr(Container, "resolve_parse_tree", note)
    texts = {f"t{i}": f"${{t{i - 1}}}" * 3 for i in range(1, 7)}
    data = resolve(OmegaConf.create({"t0": "ab", **texts, "inner": {"t": "${.u}-${t1}", "u": "v"}}))
    assert data["t6"] == "ab" * 3**6
    assert data["inner"]["t"] == "v-ababab"
    assert sorted(resolved) == sorted([*texts, "inner.t"])
