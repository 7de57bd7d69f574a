"""KerasHub's backbones, where keras-hub is installed; the whole measurement is `python -m tests.kerashub_suite.run`."""

import json

import pytest

pytest.importorskip("keras_hub")

from .checks import CHECKS, IN_SHORT, Checks, verdict_of
from .classes import TABLE, read_classes
from .configurations import VARIANTS, backbone_names, build, build_task
from .run import GOOD, kind_of, tasks_of_backbones, try_backbone

pytestmark = pytest.mark.filterwarnings("ignore")  # KerasHub's own


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    return Checks(lambda: build("BertBackbone"), folder, lambda: build_task("BertTextClassifier"))


@pytest.mark.parametrize("check", [c for c in CHECKS if c not in ("int8", "from_preset")])
def test_a_backbone_is_right(bert, check):
    assert verdict_of(bert, check) == "right"


def test_the_table_of_classes_is_that_of_the_installed_version():
    """A class of a newer KerasHub with other weights fails here: run with --write-classes."""
    models = [build("BertBackbone"), build("ViTBackbone"), build("LlamaBackbone"), build("MixtralBackbone")]
    known = json.loads(TABLE.read_text())
    for name, entry in read_classes(models).items():
        assert all(names in known[name]["weights"] for names in entry["weights"]), name
        assert all(set(k) <= set(known[name]["parts"][a]) for a, k in entry["parts"].items()), name


# The first task of Gemma4 is a subclassed model: no file tells the names of what it holds in its own attributes.
KNOWN = {"Gemma4Backbone": {"task_names"}}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*backbone_names()])
def test_every_backbone(name):
    verdicts = try_backbone((name, {}, tasks_of_backbones().get(name)))
    assert {check for check, v in verdicts if kind_of(v) not in GOOD} == KNOWN.get(name, set()), verdicts


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), VARIANTS, ids=str)
def test_every_variant(name, more):
    verdicts = try_backbone((name, more, None))
    assert [check for check, _ in verdicts] == list(IN_SHORT)
    assert {check: v for check, v in verdicts if kind_of(v) not in GOOD} == {}
