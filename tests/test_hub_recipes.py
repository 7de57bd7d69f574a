"""The recipes from Hugging Face's folders to KerasHub's backbones, against KerasHub's own converters, bit for bit."""

import inspect
import io
import re
import zipfile

import h5py
import pytest
from hf_folders import write_bert, write_gpt2, write_llama, write_resnet, write_vit

from transferpipe.cli import main
from transferpipe.cli.compose.folders import conf_folder

FOLDERS = {
    "bert": ("hf_bert", "BertBackbone", write_bert),
    "bert without a prefix": ("hf_bert", "BertBackbone", lambda f: write_bert(f, "", ("weight", "bias"), None)),
    "gpt2": ("hf_gpt2", "GPT2Backbone", write_gpt2),
    "gpt2 with a prefix": ("hf_gpt2", "GPT2Backbone", lambda f: write_gpt2(f, "transformer.")),
    "llama": ("hf_llama", "Llama3Backbone", write_llama),
    "llama, tied": ("hf_llama", "Llama3Backbone", lambda f: write_llama(f, tied=True)),
    "vit": ("hf_vit", "ViTBackbone", write_vit),
    "resnet": ("timm_resnet", "ResNetBackbone", write_resnet),
}


def arrays(path):
    """Return every array of a .keras file by its place, read with h5py."""
    found = {}
    with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.parametrize(("recipe", "backbone", "write"), FOLDERS.values(), ids=FOLDERS)
def test_a_recipe_gives_what_kerashubs_own_converter_gives(recipe, backbone, write, tmp_path, monkeypatch, capsys):
    models = pytest.importorskip("keras_hub").models
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "original")
    status = main(["run", f"recipe={recipe}", f"source.path={folder}", "hydra.run.dir=out", "unused=error"])
    assert status == 0, capsys.readouterr().err
    expected = getattr(models, backbone).from_preset(str(folder))
    expected.save(tmp_path / "expected.keras")
    ours, theirs = arrays(tmp_path / "out" / "model.keras"), arrays(tmp_path / "expected.keras")
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if ours[key].tobytes() != theirs[key].tobytes()] == []


@pytest.mark.parametrize("recipe", ["hf_bert", "hf_gpt2", "hf_llama", "hf_vit", "timm_resnet"])
def test_a_recipe_has_a_fifth_of_the_lines_of_the_converter(recipe):
    pytest.importorskip("keras_hub")
    from keras_hub.src.utils.timm import convert_resnet
    from keras_hub.src.utils.transformers import convert_bert, convert_gpt2, convert_llama3, convert_vit

    modules = {"hf_bert": convert_bert, "hf_gpt2": convert_gpt2, "hf_llama": convert_llama3, "hf_vit": convert_vit}
    code = inspect.getsource(modules.get(recipe, convert_resnet).convert_weights)
    text = (conf_folder() / "recipe" / f"{recipe}.yaml").read_text()
    rules = re.search(r"^mapping:\n((  .*\n)+)", text, re.MULTILINE)[1].splitlines()
    assert 5 * sum(not line.lstrip().startswith("#") for line in rules) <= len(code.splitlines())
