"""Folders as the Hub of Hugging Face has them, by the names that the shipped recipes use."""

import json


def write_folders(at):
    """Write the folders that recipes for the models of Hugging Face name, their configurations alone."""
    sizes = {
        "vocab_size": 9,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 4,
        "intermediate_size": 8,
    }
    gpt2 = {"vocab_size": 9, "n_layer": 2, "n_head": 2, "n_embd": 4, "resid_pdrop": 0.1, "n_positions": 5}
    llama = {**sizes, "num_key_value_heads": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-5}
    vit = {**sizes, "image_size": 8, "patch_size": 4, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    for name, config in {
        "bert-base-uncased": {**sizes, "max_position_embeddings": 5},
        "gpt2": gpt2,
        "Llama-3.2-1B": llama,
        "vit-base-patch16-224": {**vit, "layer_norm_eps": 1e-12, "qkv_bias": True},
        "resnet50.a1_in1k": {"architecture": "resnet50"},
    }.items():
        (at / name).mkdir()
        (at / name / "config.json").write_text(json.dumps(config))
