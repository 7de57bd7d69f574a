"""The recipes from Hugging Face's folders to KerasHub's backbones, against KerasHub's own converters, bit for bit."""

import inspect
import io
import json
import re
import zipfile

import h5py
import pytest
from compact import catalog, structure
from hf_folders import write_bert, write_gpt2, write_llama, write_resnet, write_vit

from transferpipe.cli import main
from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.compose.folders import conf_folder
from transferpipe.errors import RecipeError
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.weights.formats import open_source

FOLDERS = {
    "bert": ("hf_bert", "BertBackbone", write_bert),
    "bert without a prefix": ("hf_bert", "BertBackbone", lambda f: write_bert(f, "", ("weight", "bias"), None)),
    "gpt2": ("hf_gpt2", "GPT2Backbone", write_gpt2),
    "gpt2 with a prefix": ("hf_gpt2", "GPT2Backbone", lambda f: write_gpt2(f, "transformer.")),
    "llama": ("hf_llama", "Llama3Backbone", write_llama),
    "llama, tied": ("hf_llama", "Llama3Backbone", lambda f: write_llama(f, tied=True)),
    "llama without a prefix": ("hf_llama", "Llama3Backbone", lambda f: write_llama(f, tied=True, prefix="")),
    "vit": ("hf_vit", "ViTBackbone", write_vit),
    "resnet": ("timm_resnet", "ResNetBackbone", write_resnet),
}


def arrays(path):
    """Return every array of a .keras file by its place, read with h5py."""
    found = {}
    with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


# KerasHub's converter asks for the prefix.
CONVERTED = {name: row for name, row in FOLDERS.items() if name != "llama without a prefix"}


@pytest.mark.parametrize(("recipe", "backbone", "write"), CONVERTED.values(), ids=CONVERTED)
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


def layer(name, kind, **shapes):
    return "".join(f"{name}/{own} {shape} float32 {kind}\n" for own, shape in shapes.items())


def norm(name, size=8):
    return layer(name, "LayerNormalization", gamma=size, beta=size)


def dense(name, inputs, outputs):
    return layer(name, "Dense", kernel=f"{inputs}x{outputs}", bias=outputs)


def attention(name, heads=2, key_heads=2, bias=True):
    size, text = 8 // heads, ""
    for part, count in (("query", heads), ("key", key_heads), ("value", key_heads)):
        shapes = {"kernel": f"8x{count}x{size}", **({"bias": f"{count}x{size}"} if bias else {})}
        text += layer(f"{name}/{part}", "EinsumDense", **shapes)
    return text + layer(
        f"{name}/attention_output", "EinsumDense", kernel=f"{heads}x{size}x8", **({"bias": 8} if bias else {})
    )


def embeddings(rows, *more):
    tables = (("token_embedding", 11, "ReversibleEmbedding"), ("position_embedding", 6, "PositionEmbedding"), *more)
    return "".join(layer(name, kind, embeddings=f"{n}x8") for name, n, kind in tables[:rows])


def bert():
    text = (
        embeddings(3, ("segment_embedding", 2, "Embedding"))
        + norm("embeddings_layer_norm")
        + dense("pooled_dense", 8, 8)
    )
    for block in ("transformer_layer_0", "transformer_layer_1"):
        text += attention(f"{block}/self_attention_layer") + norm(f"{block}/self_attention_layer_norm")
        text += dense(f"{block}/feedforward_intermediate_dense", 8, 16) + dense(
            f"{block}/feedforward_output_dense", 16, 8
        )
        text += norm(f"{block}/feedforward_layer_norm")
    return text


def gpt2():
    text = embeddings(2) + norm("layer_norm")
    for block in ("transformer_layer_0", "transformer_layer_1"):
        text += attention(f"{block}/_self_attention_layer") + norm(f"{block}/self_attention_layer_norm")
        text += dense(f"{block}/feedforward_intermediate_dense", 8, 32) + dense(
            f"{block}/feedforward_output_dense", 32, 8
        )
        text += norm(f"{block}/feedforward_layer_norm")
    return text


def llama():
    text = layer("token_embedding", "ReversibleEmbedding", embeddings="11x8", reverse_embeddings="8x11")
    text += layer("sequence_output_layernorm", "LlamaLayerNorm", scale=8)
    for block in ("transformer_layer_0", "transformer_layer_1"):
        text += attention(f"{block}/_self_attention_layer", 4, 2, bias=False)
        for name in ("_self_attention_layernorm", "_feedforward_layernorm"):
            text += layer(f"{block}/{name}", "LlamaLayerNorm", scale=8)
        for name, shape in (("gate", "8x16"), ("intermediate", "8x16"), ("output", "16x8")):
            text += layer(f"{block}/feedforward_{name}_dense", "Dense", kernel=shape)
    return text


def vit():
    start, text = "vit_patching_and_embedding", norm("vit_encoder/layer_norm")
    text += f"{start}/class_token 1x1x8\n" + layer(f"{start}/patch_embedding", "Conv2D", kernel="4x4x3x8", bias=8)
    text += layer(f"{start}/position_embedding", "Embedding", embeddings="5x8")
    for n in (1, 2):
        block = f"vit_encoder/encoder_layers/transformer_block_{n}"
        text += norm(f"{block}/layer_norm_1") + attention(f"{block}/mha") + norm(f"{block}/layer_norm_2")
        text += dense(f"{block}/mlp/dense_1", 8, 16) + dense(f"{block}/mlp/dense_2", 16, 8)
    return text


def resnet():
    def conv(name, kernel, inputs, outputs):
        sizes = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), outputs)
        text = layer(f"{name}_conv", "Conv2D", kernel=f"{kernel}x{kernel}x{inputs}x{outputs}")
        return text + layer(f"{name}_bn", "BatchNormalization", **sizes)

    text, inputs = conv("conv1", 7, 3, 64), 64
    for stack, outputs in enumerate((64, 128, 256, 512)):
        for n in range(2):
            block = f"stack{stack}_block{n}"
            text += conv(f"{block}_0", 1, inputs, outputs) if inputs != outputs else ""
            text += conv(f"{block}_1", 3, inputs, outputs) + conv(f"{block}_2", 3, outputs, outputs)
            inputs = outputs
    return text


BACKBONES = {"hf_bert": bert, "hf_gpt2": gpt2, "hf_llama": llama, "hf_vit": vit, "timm_resnet": resnet}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_rules_fill_a_backbone_and_use_all_of_the_folder(name, tmp_path):
    """The catalogs are those of KerasHub's backbones; where it is installed, the tests above build these."""
    recipe, _, write = FOLDERS[name]
    source = open_source(write(tmp_path / "original"))
    text = BACKBONES[recipe]()
    if name in ("llama, tied", "llama without a prefix"):
        text = re.sub("token_embedding/reverse_embeddings .*\n", "", text)
    data = Composer().compose([f"recipe={recipe}", f"source.path={tmp_path / 'original'}", "unused=error"]).data
    kept = {key: data[key] for key in ("mapping", "ignore", "unused")}
    written = read_recipe({**kept, "source": {"path": "m"}, "target": {"path": "t.keras"}})
    target = structure(catalog(text, "target"))
    plan = make_plan(written, {"source": source.catalog}, target, {"source": "m", "target": "t"}, {"source": "torch"})
    assert len(plan.assignments) == len(target.catalog)
    assert {w.code for w in plan.warnings} <= {"settings-differ"}


WRITERS = {
    "hf_llama": write_llama,
    "hf_bert": write_bert,
    "hf_gpt2": write_gpt2,
    "hf_vit": write_vit,
    "timm_resnet": write_resnet,
}
OTHERS = (
    ("hf_llama", {"model_type": "mistral"}),
    ("hf_llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ("hf_llama", {"head_dim": 8}),  # 8 values in 4 heads are 2 each
    ("hf_bert", {"model_type": "roberta"}),
    ("hf_bert", {"position_embedding_type": "relative_key"}),
    ("hf_gpt2", {"model_type": "openai-gpt"}),
    ("hf_gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ("hf_gpt2", {"tie_word_embeddings": False}),
    ("hf_vit", {"model_type": "deit"}),
    ("hf_vit", {"num_channels": 1}),
    ("hf_vit", {"qkv_bias": False}),  # KerasHub then has no bias behind the heads either, and the file has one
    ("timm_resnet", {"architecture": "resnext50_32x4d"}),
)


def change_config(folder, changes):
    """Give keys of the config.json in a folder other values."""
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


@pytest.mark.parametrize(("recipe", "other"), OTHERS)
def test_a_recipe_refuses_the_same_names_of_another_architecture(recipe, other, tmp_path):
    change_config(folder := WRITERS[recipe](tmp_path / "original"), other)
    with pytest.raises(RecipeError, match=r"source\.requires\..*and the recipe is for "):
        Composer().compose([f"recipe={recipe}", f"source.path={folder}"])


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_the_frequencies_of_llama_3_1_are_taken_wherever_they_stand(key, tmp_path):
    """transformers 5 writes `rope_parameters`, earlier versions `rope_scaling`."""
    config = write_llama(tmp_path / "original") / "config.json"
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 16
    config.write_text(json.dumps({**json.loads(config.read_text()), key: scaling}))
    target = Composer().compose(["recipe=hf_llama", f"source.path={tmp_path / 'original'}"]).data["target"]
    found = {name: value for name, value in target.items() if name.startswith("rope_") and "wavelength" not in name}
    assert found == {
        "rope_frequency_adjustment_factor": 8.0,
        "rope_low_freq_factor": 1.0,
        "rope_high_freq_factor": 4.0,
        "rope_pretraining_sequence_length": 16,
    }


@pytest.mark.parametrize(
    ("recipe", "changes", "sizes"),
    [
        ("hf_gpt2", {"n_inner": 20}, {"intermediate_dim": 20}),
        ("hf_gpt2", {"n_inner": None}, {"intermediate_dim": 32}),
        ("hf_gpt2", {}, {"intermediate_dim": 32}),
        ("hf_bert", {"type_vocab_size": 3}, {"num_segments": 3}),
        ("hf_bert", {}, {"num_segments": 2}),
    ],
)
def test_sizes_that_a_configuration_may_leave_out(recipe, changes, sizes, tmp_path):
    change_config(folder := WRITERS[recipe](tmp_path / "original"), changes)
    target = Composer().compose([f"recipe={recipe}", f"source.path={folder}"]).data["target"]
    assert {key: target[key] for key in sizes} == sizes
