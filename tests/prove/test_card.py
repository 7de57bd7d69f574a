"""Model cards: what strangers read beside the weights."""

import numpy as np
import pytest
import yaml

import transferpipe as tp
from transferpipe.errors import FileError
from transferpipe.prove.card import card_text

NAMES = ("head/kernel", "head/bias", "odd|`name`/kernel")


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "private" / "folder"
    folder.mkdir(parents=True)
    for number, name in enumerate(("a.npz", "b.npz")):
        np.savez(folder / name, **{n: np.full((2, 3), number, "float32") for n in NAMES})
    return folder


def transferred(files, **options):
    mapping = {"head": {"to": "head"}, "odd": {"to": "odd.*", "from": None}}
    save = {"path": "m.npz", "card": True, **options}
    return tp.transfer(files / "a.npz", files / "b.npz", mapping=mapping, folder=files.parent, save=save)


def front_matter(card):
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def test_it_says_what_came_from_where_and_no_folder_of_this_machine(files):
    report = transferred(files, also=["w.safetensors"])
    card = (files.parent / "README.md").read_text()
    assert front_matter(card) == {"tags": ["transferpipe"]}
    assert "| `head/{kernel,bias}` | 2 | `source:head/{kernel,bias}` |" in card
    assert "- 1 weight kept: `` odd\\|`name`/kernel ``" in card
    assert "weights: pass; 3 weights" in card
    assert "function: not checked" in card
    for artifact in report.manifest["artifacts"]:
        assert f"| `{artifact['path']}` | {artifact['bytes']:,} | `{artifact['sha256']}` |" in card
    assert "private" not in card
    assert str(files.parent) not in card


def test_what_it_says_of_loading_loads(files, monkeypatch):
    transferred(files, also=["w.safetensors"])
    monkeypatch.chdir(files.parent)
    code = (files.parent / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(code, names)
    assert set(names["tensors"]) == set(NAMES)


def test_repositories_of_the_hub_are_base_models(files):
    report = transferred(files)
    manifest = {**report.manifest}
    place = {"url": "hf://someone/base@0123456/model.safetensors", "label": "x", "sha256": "ab"}
    manifest["sources"] = {"source": place, "other": {**place, "url": "https://example.org/w.npz"}}
    assert front_matter(card_text(report.plan, manifest))["base_model"] == ["someone/base"]


def test_merged_models_are_called_so(files):
    sources = {"a": str(files / "a.npz"), "b": str(files / "b.npz")}
    mapping = {"all": {"to": ".*", "from": [r"a:\0", r"b:\0"], "merge": "mean"}}
    save = {"path": "m.npz", "card": True}
    tp.transfer(sources, files / "b.npz", mapping=mapping, folder=files.parent, save=save)
    card = (files.parent / "README.md").read_text()
    assert front_matter(card)["tags"] == ["transferpipe", "merge"]
    assert "merged by `mean`" in card


@pytest.mark.follows("check_card_free: move it, or allow")
def test_a_page_of_somebody_else_is_not_written_over(files):
    page = files.parent / "README.md"
    page.write_text("mine")
    with pytest.raises(FileError, match="was not written by transferpipe") as caught:
        transferred(files)
    assert page.read_text() == "mine"
    assert not (files.parent / "m.npz").exists()
    assert "save.overwrite=true" in caught.value.problems[0].fix
    transferred(files, overwrite=True)
    assert page.read_text() != "mine"
    transferred(files, overwrite=True)  # and its own


def test_its_own_page_is_replaced_where_the_model_is_another_one(files):
    transferred(files)
    transferred(files, path="n.npz")
    assert "`n.npz`" in (files.parent / "README.md").read_text()
