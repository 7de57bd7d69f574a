"""A small configuration of every backbone that KerasHub exports, made of its own signature.

Most arguments mean the same in all backbones, so one table of small values by the argument's name serves them; what a
class needs beside is written down for it. A class that a later version adds is tried with the table alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

IMAGE = (32, 32, 3)

# Small values for arguments by their names. Heads divide widths, and rotary embeddings need even parts.
_COMMON: dict[str, Any] = {
    **dict.fromkeys(("vocabulary_size", "vocab_size"), 30),
    **dict.fromkeys(("num_layers", "num_decoder_layers", "encoder_num_layers", "decoder_num_layers"), 2),
    **dict.fromkeys(("num_layers_enc", "num_layers_dec"), 1),
    **dict.fromkeys(("num_heads", "num_attention_heads", "num_query_heads", "num_decoder_heads"), 2),
    **dict.fromkeys(("encoder_num_heads", "decoder_num_heads"), 2),
    **dict.fromkeys(("encoder_num_attention_heads", "decoder_num_attention_heads"), 2),
    **dict.fromkeys(("encoder_num_key_value_heads", "decoder_num_key_value_heads"), 1),
    **dict.fromkeys(("encoder_head_dim", "decoder_head_dim"), 8),
    **dict.fromkeys(("encoder_hidden_dim", "decoder_hidden_dim"), 16),
    **dict.fromkeys(("encoder_intermediate_dim", "decoder_intermediate_dim"), 24),
    "encoder_layer_types": ["full_attention", "full_attention"],
    "decoder_layer_types": ["full_attention", "full_attention"],
    "num_key_value_heads": 1,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "mlp_dim": 24,
    "moe_intermediate_dim": 12,
    **dict.fromkeys(("shared_expert_intermediate_dim", "shared_expert_intermediate_size"), 12),
    "num_experts": 3,
    "top_k": 2,
    "head_dim": 8,
    "embedding_dim": 16,
    **dict.fromkeys(("max_sequence_length", "max_position_embeddings"), 12),
    "image_shape": IMAGE,
    "patch_size": 16,
    "projection_dim": 8,
    "image_size": 32,
}

_RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 8, 8],
    "stackwise_num_blocks": [1, 2, 1],
    "stackwise_num_strides": [1, 2, 2],
    "block_type": "bottleneck_block",
}
_MOBILENET = {
    "stackwise_expansion": [[8, 12], [16]],
    "stackwise_num_blocks": [2, 1],
    "stackwise_num_filters": [[8, 8], [12]],
    "stackwise_kernel_size": [[3, 3], [5]],
    "stackwise_num_strides": [[2, 1], [2]],
    "stackwise_se_ratio": [[0.25, None], [0.25]],
    "stackwise_activation": [["relu6", "relu6"], ["hard_swish"]],
    "stackwise_padding": [[1, 1], [2]],
    "output_num_filters": 16,
    "depthwise_filters": 8,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "squeeze_and_excite": 0.5,
    "last_layer_filter": 24,
    "input_num_filters": 8,
}
_HGNET = {
    "depths": [1, 1],
    "embedding_size": 8,
    "hidden_sizes": [8, 12],
    "stem_channels": [3, 8, 8],
    "hidden_act": "relu",
    "use_learnable_affine_block": True,
    "stackwise_stage_filters": [[8, 8, 12, 1, 2, 3], [12, 8, 16, 1, 2, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, True],
}


def _models() -> Any:
    import keras_hub

    return keras_hub.models


def _resnet() -> Any:
    return _models().ResNetBackbone(**_RESNET, image_shape=IMAGE)


def _part(kind: str, **more: Any) -> Any:
    return build(kind, **more)


def _vit_encoder_of_gemma() -> Any:
    from keras_hub.src.models.gemma3.gemma3_vision_encoder import Gemma3VisionEncoder

    return Gemma3VisionEncoder(
        image_size=32,
        patch_size=8,
        num_heads=2,
        hidden_dim=8,
        num_layers=1,
        intermediate_dim=12,
        output_dim=16,
        pool_size=2,
    )


def _sam() -> dict[str, Any]:
    from keras_hub.src.models.sam.sam_mask_decoder import SAMMaskDecoder
    from keras_hub.src.models.sam.sam_prompt_encoder import SAMPromptEncoder

    encoder = _part("ViTDetBackbone", num_output_channels=8)
    prompts = SAMPromptEncoder(
        hidden_size=8, image_embedding_size=(2, 2), input_image_size=(32, 32), mask_in_channels=16
    )
    masks = SAMMaskDecoder(
        num_layers=2,
        hidden_size=8,
        intermediate_dim=16,
        num_heads=2,
        embedding_dim=8,
        num_multimask_outputs=3,
        iou_head_depth=2,
        iou_head_hidden_dim=8,
    )
    return {"image_encoder": encoder, "prompt_encoder": prompts, "mask_decoder": masks}


def _small(kind: Any, **more: Any) -> Any:
    return kind(**{**_arguments(kind), **more})


def _sam3() -> dict[str, Any]:
    import keras_hub

    layers = keras_hub.layers
    image = {"image_shape": (64, 64, 3), "patch_size": 8}
    return {
        "vision_encoder": _small(
            layers.SAM3VisionEncoder,
            **image,
            fpn_hidden_dim=16,
            fpn_scale_factors=[4.0, 2.0, 1.0, 0.5],
            pretrain_image_shape=(32, 32, 3),
            window_size=2,
            global_attn_indexes=[1],
        ),
        "text_encoder": _small(layers.SAM3TextEncoder),
        "geometry_encoder": _small(layers.SAM3GeometryEncoder, roi_size=3),
        "detr_encoder": _small(layers.SAM3DetrEncoder),
        "detr_decoder": _small(layers.SAM3DetrDecoder, **image, num_queries=3),
        "mask_decoder": _small(layers.SAM3MaskDecoder, num_upsampling_stages=3),
    }


def _blip2() -> dict[str, Any]:
    from keras_hub.src.models.blip2 import blip2_custom_opt, blip2_qformer, blip2_vision_encoder

    seen = {"use_patch_bias": True, "use_class_token": True, "use_mha_bias": True, "use_mlp_bias": True}
    seen |= {"dropout_rate": 0.0, "layer_norm_epsilon": 1e-6, "initializer_range": 0.02}
    return {
        "vision_encoder": _small(blip2_vision_encoder.BLIP2VisionEncoder, **seen),
        "qformer": _small(
            blip2_qformer.BLIP2QFormer,
            num_query_tokens=2,
            vision_dim=16,
            cross_attention_frequency=1,
            dropout=0.0,
            layer_norm_epsilon=1e-6,
        ),
        "language_model": _small(
            blip2_custom_opt.BLIP2CustomOPT,
            num_query_tokens=2,
            qformer_hidden_dim=16,
            dropout=0.0,
        ),
    }


def _diffusion() -> dict[str, Any]:
    vae = _part("VAEBackbone")
    clip = {"vocabulary_size": 30, "intermediate_output_index": 0}
    return {
        "mmdit_patch_size": 2, "mmdit_hidden_dim": 16, "mmdit_num_layers": 1, "mmdit_num_heads": 2,
        "mmdit_position_size": 8, "mmdit_qk_norm": None, "mmdit_dual_attention_indices": None, "vae": vae,
        "clip_l": _part("CLIPTextEncoder", **clip, name="clip_l"),
        "clip_g": _part("CLIPTextEncoder", **clip, name="clip_g"),
        "t5": None, "latent_channels": 4, "output_channels": 3,
    }  # fmt: skip


# What a class needs beside the common values.
_OWN: dict[str, Callable[[], dict[str, Any]]] = {
    "AlbertBackbone": lambda: {"embedding_dim": 8, "num_groups": 1},
    "BASNetBackbone": lambda: {"image_encoder": _models().ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[1, 1, 1, 1], stackwise_num_strides=[1, 2, 2, 2], block_type="basic_block"),
        "image_shape": (64, 64, 3), "num_classes": 1, "projection_filters": 64},
    "BLIP2Backbone": _blip2,
    "CLIPBackbone": lambda: {"vision_encoder": _part("CLIPVisionEncoder", name="vision_encoder"),
                             "text_encoder": _part("CLIPTextEncoder", name="text_encoder")},
    "CSPNetBackbone": lambda: {
        "stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 2, "stackwise_depth": [1, 2],
        "stackwise_strides": [2, 2], "stackwise_num_filters": [8, 16], "block_type": "dark_block", "stage_type": "csp", "bottle_ratio": [0.5], "block_ratio": [0.5], "stem_padding": "same"},
    "DINOV3Backbone": lambda: {"num_register_tokens": 2},
    "DINOV2Backbone": lambda: {"position_embedding_shape": IMAGE, "num_register_tokens": 2},
    "DeepLabV3Backbone": lambda: {"image_encoder": _resnet(), "spatial_pyramid_pooling_key": "P4",
                                  "low_level_feature_key": "P2", "upsampling_size": 4, "dilation_rates": [2, 3],
                                  "projection_filters": 8},
    "DenseNetBackbone": lambda: {"stackwise_num_repeats": [1, 2], "growth_rate": 4},
    "DepthAnythingBackbone": lambda: {
        "image_encoder": _part("DINOV2Backbone", num_layers=4, num_register_tokens=0, patch_size=8,
            image_shape=(64, 64, 3), position_embedding_shape=(64, 64, 3)), "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_dims": [8, 8, 8, 8], "fusion_hidden_dim": 8, "head_hidden_dim": 8, "head_in_index": -1,
        "feature_keys": ["stage1", "stage2", "stage3", "stage4"]},
    "DebertaV3Backbone": lambda: {"bucket_size": 4},
    "ElectraBackbone": lambda: {"embedding_dim": 8},
    "EfficientNetBackbone": lambda: {
        "stackwise_width_coefficients": [1.0, 1.0], "stackwise_depth_coefficients": [1.0, 1.0],
        "stackwise_kernel_sizes": [3, 5], "stackwise_num_repeats": [1, 2], "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16], "stackwise_expansion_ratios": [1, 4], "stackwise_strides": [1, 2],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25], "stackwise_block_types": ["v1", "fused"],
        "stackwise_force_input_filters": [0, 0], "stackwise_nores_option": [False, False], "num_features": 32,
        "input_shape": IMAGE},
    "FluxBackbone": lambda: {
        "input_channels": 4, "hidden_size": 16, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [2, 2, 4], "theta": 100, "use_bias": True, "image_shape": (6, 4),
        "text_shape": (6, 16), "image_ids_shape": (6, 3), "text_ids_shape": (6, 3), "y_shape": (16,)},
    "Gemma3Backbone": lambda: {"vision_encoder": _vit_encoder_of_gemma(), "use_post_ffw_norm": True,
                               "use_post_attention_norm": True, "pooling_intermediate_dim": None,
                               "embedding_dim": None},
    "Gemma3nBackbone": lambda: {
        "text_vocab_size": 30, "text_hidden_size": 8, "num_hidden_layers": 2, "pad_token_id": 0,
        "intermediate_size": [12, 12], "hidden_activation": "gelu_approximate", "rope_theta": 100.0,
        "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4, "vocab_size_per_layer_input": 30,
        "hidden_size_per_layer_input": 4, "altup_num_inputs": 2, "laurel_rank": 2},
    "Gemma4Backbone": lambda: {"embedding_dim": None},
    "HGNetV2Backbone": lambda: _HGNET,
    "DFineBackbone": lambda: {
        "backbone": _models().HGNetV2Backbone(**_HGNET, image_shape=IMAGE, name="hgnet", out_features=["stage1", "stage2"]),
        "decoder_in_channels": [16, 16], "encoder_hidden_dim": 16, "num_labels": 3, "num_denoising": 0,
        "learn_initial_query": False, "num_queries": 5, "anchor_image_size": (32, 32), "feat_strides": [4, 8],
        "num_feature_levels": 2, "encoder_in_channels": [12, 16], "encode_proj_layers": [1], "encoder_ffn_dim": 16,
        "num_encoder_layers": 1, "hidden_expansion": 0.5, "depth_multiplier": 0.5, "eval_idx": -1,
        "num_decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "decoder_n_points": [2, 2],
        "lqe_hidden_dim": 8, "num_lqe_layers": 2, "out_features": ["stage1", "stage2"], "seed": 1},
    "MetaCLIP2Backbone": lambda: {"vision_encoder": _part("MetaCLIP2VisionEncoder", name="vision_encoder"),
                                  "text_encoder": _part("MetaCLIP2TextEncoder", name="text_encoder")},
    "MiTBackbone": lambda: {
        "layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2], "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3], "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16]},
    "MobileNetBackbone": lambda: _MOBILENET,
    "MobileNetV5Backbone": lambda: {
        "stackwise_block_types": [["er"], ["uir", "mqa"]], "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [16, 16]], "stackwise_strides": [[2], [2, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"]], "stackwise_exp_ratios": [[2.0], [2.0, 1.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0]], "stackwise_dw_kernel_sizes": [[0], [3, 3]],
        "stackwise_dw_start_kernel_sizes": [[0], [3, 0]], "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [1, 1]], "stackwise_pw_kernel_sizes": [[1], [1, 1]],
        "stackwise_num_heads": [[0], [0, 2]], "stackwise_key_dims": [[0], [0, 8]],
        "stackwise_value_dims": [[0], [0, 8]], "stackwise_kv_strides": [[1], [1, 1]],
        "stackwise_use_cpe": [[False], [False, False]], "stem_size": 8, "num_features": 16,
        "msfa_output_resolution": 8, "layer_scale_init_value": 1e-5, "use_msfa": False},
    "MoonshineBackbone": lambda: {"filter_dim": 16, "hidden_dim": 16},
    "PARSeqBackbone": lambda: {"image_encoder": _part("ViTBackbone", use_class_token=False, name="encoder"),
                               "max_label_length": 5, "decoder_hidden_dim": 16, "num_decoder_layers": 1,
                               "decoder_mlp_dim": 24},
    "PaliGemmaBackbone": lambda: {"vit_patch_size": 16, "vit_num_heads": 2, "vit_hidden_dim": 8, "vit_num_layers": 1},
    "Qwen3_5Backbone": lambda: {
        "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        "linear_key_head_dim": 4, "linear_value_head_dim": 4, "linear_conv_kernel_dim": 2},
    "Qwen3_5MoeBackbone": lambda: {
        "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        "linear_key_head_dim": 4, "linear_value_head_dim": 4, "linear_conv_kernel_dim": 2},
    "RWKV7Backbone": lambda: {"hidden_size": 16, "head_size": 8, "gate_lora": 4, "mv_lora": 4, "aaa_lora": 4,
                              "decay_lora": 4},
    "ResNetBackbone": lambda: _RESNET,
    "RetinaNetBackbone": lambda: {"image_encoder": _models().ResNetBackbone(
        **{**_RESNET, "stackwise_num_filters": [64, 8, 8, 8], "stackwise_num_blocks": [1] * 4,
           "stackwise_num_strides": [1, 2, 2, 2]}, image_shape=(64, 64, 3)), "min_level": 3, "max_level": 5,
        "use_p5": False, "use_fpn_batch_norm": True, "image_shape": (64, 64, 3)},
    "RoformerV2Backbone": lambda: {"head_size": 8},
    "SAMBackbone": _sam,
    "SAM3PromptableConceptBackbone": _sam3,
    "SegFormerBackbone": lambda: {"image_encoder": _models().MiTBackbone(
        layerwise_depths=[1] * 4, num_layers=4, layerwise_num_heads=[1, 2, 2, 2], layerwise_sr_ratios=[2, 1, 1, 1],
        max_drop_path_rate=0.1, layerwise_patch_sizes=[7, 3, 3, 3], layerwise_strides=[4, 2, 2, 2],
        hidden_dims=[8, 16, 24, 32], image_shape=(64, 64, 3)), "projection_filters": 8},
    "SigLIPBackbone": lambda: {"vision_encoder": _part("SigLIPVisionEncoder", name="vision_encoder"),
                               "text_encoder": _part("SigLIPTextEncoder", name="text_encoder")},
    "SigLIPTextEncoder": lambda: {"projection_dim": 16},
    **dict.fromkeys(("SmolLM3Backbone", "SmolLMBackbone"), lambda: {
        "attention_bias": False, "attention_dropout": 0.0, "rope_layer_enabled_list": [True, False],
        "layer_types": ["full_attention", "full_attention"], "mlp_bias": False, "layer_norm_epsilon": 1e-5,
        "rope_theta": 100.0, "partial_rotary_factor": 1.0}),
    "StableDiffusion3Backbone": _diffusion,
    "SwinTransformerBackbone": lambda: {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 2},
    "VAEBackbone": lambda: {
        "encoder_num_filters": [32, 32], "encoder_num_blocks": [1, 1], "decoder_num_filters": [32, 32],
        "decoder_num_blocks": [1, 1]},
    "VGGBackbone": lambda: {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [4, 8]},
    "ViTDetBackbone": lambda: {"hidden_size": 16, "global_attention_layer_indices": [1], "num_output_channels": 8,
                               "window_size": 2},
    "VideoPrismBackbone": lambda: {"num_frames": 2, "num_spatial_layers": 1, "num_temporal_layers": 1,
                                   "num_auxiliary_layers": 1, "num_text_layers": 1},
    "WhisperBackbone": lambda: {"num_mels": 8, "max_encoder_sequence_length": 8, "max_decoder_sequence_length": 8},
    "XceptionBackbone": lambda: {"stackwise_conv_filters": [[4, 8], [8, 8]], "stackwise_pooling": [True, False]},
}  # fmt: skip

# Options that bring other weights or parts than the above, by their class.
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("DINOV2Backbone", {"use_swiglu_ffn": True, "num_register_tokens": 0, "use_mask_token": False}),
    ("DINOV3Backbone", {"use_gated_mlp": True, "num_register_tokens": 0, "use_mask_token": False}),
    ("GemmaBackbone", {"use_post_ffw_norm": True, "use_post_attention_norm": True}),
    ("Gemma3Backbone", {"vision_encoder": None, "is_embedding_model": True, "pooling_intermediate_dim": 12,
                        "embedding_dim": 8}),
    ("Gemma4Backbone", {"enable_moe_block": True, "expert_intermediate_dim": 12, "num_experts_per_token": 2,
                        "hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 30}),
    ("LlamaBackbone", {"tie_word_embeddings": True}),
    ("Qwen3Backbone", {"tie_word_embeddings": False}),
    ("T5Backbone", {"tie_embedding_weights": False, "use_gated_activation": False}),
    ("ResNetBackbone", {"block_type": "basic_block", "use_pre_activation": True}),
    ("CSPNetBackbone", {"stage_type": "cs3"}),
    ("CSPNetBackbone", {"stage_type": "dark", "block_ratio": [1.0]}),
    ("ESM2Backbone", {"use_pre_layer_norm": True, "position_embedding_type": "absolute"}),
    ("ViTBackbone", {"use_class_token": False, "use_mha_bias": False, "use_mlp_bias": False}),
    ("RoformerV2Backbone", {"use_bias": True}),
    ("MoonshineBackbone", {"encoder_use_swiglu_activation": True, "decoder_use_swiglu_activation": False}),
    ("AlbertBackbone", {"num_groups": 2, "num_inner_repetitions": 2}),
    ("VideoPrismBackbone", {"vocabulary_size": 0, "num_text_layers": 0, "num_auxiliary_layers": 0}),
    ("SigLIPTextEncoder", {"projection_dim": 8}),
    ("StableDiffusion3Backbone", {"mmdit_qk_norm": "rms_norm", "mmdit_dual_attention_indices": (0,)}),
    ("FluxBackbone", {"guidance_embed": True, "use_bias": False}),
)  # fmt: skip

# These are no backbones by themselves: a mixin of others, and an old spelling of another class.
_LEFT_OUT = ("FeaturePyramidBackbone", "SmolLMBackbone", "ESMBackbone", "QwenBackbone")


def _arguments(kind: type) -> dict[str, Any]:
    """Return small values for the arguments that `kind` needs, and for those optional ones that are sizes."""
    names = inspect.signature(kind.__init__).parameters
    return {name: value for name, value in _COMMON.items() if name in names}


def backbone_names() -> Iterator[str]:
    """Yield the names of the backbone classes of the installed KerasHub."""
    models = _models()
    for name in sorted(dir(models)):
        kind = getattr(models, name)
        known = inspect.isclass(kind) and issubclass(kind, models.Backbone) and kind is not models.Backbone
        if known and name not in _LEFT_OUT:
            yield name
    yield "VAEBackbone"


def _class_of(name: str) -> type:
    if name == "VAEBackbone":
        from keras_hub.src.models.vae.vae_backbone import VAEBackbone

        return VAEBackbone
    found: type = getattr(_models(), name)
    return found


def build(kind: str, /, **more: Any) -> Any:
    """Return a small backbone of the class called `kind`; arguments in `more` stand in for those of its own."""
    made = _class_of(kind)
    return made(**{**_arguments(made), **_OWN.get(kind, dict)(), **more})


def task_names() -> Iterator[str]:
    """Yield the names of the classes of tasks whose backbone KerasHub names, without old spellings."""
    models = _models()
    for name in sorted(dir(models)):
        kind = getattr(models, name)
        known = inspect.isclass(kind) and issubclass(kind, models.Task) and kind.__name__ == name
        if known and isinstance(getattr(kind, "backbone_cls", None), type):
            yield name


_TASK_ARGUMENTS: dict[str, Any] = {
    "num_classes": 3, "preprocessor": None, "depth_estimation_type": "relative", "num_features": 8,
    "pooling_hidden_dim": 8, "head_hidden_size": 8,
    "backbone_hidden_size": 16, "num_centroids": 3, "centroid_intermediate_top_k": 2, "use_ordered_embeddings": True,
}  # fmt: skip


def build_task(name: str) -> Any:
    """Return a small task of the class called `name` on a small backbone."""
    kind = getattr(_models(), name)
    names = inspect.signature(kind.__init__).parameters
    arguments = {key: value for key, value in _TASK_ARGUMENTS.items() if key in names}
    backbones = {"ESMBackbone": "ESM2Backbone"}
    backbone = kind.backbone_cls.__name__
    return kind(backbone=build(backbones.get(backbone, backbone)), **arguments)
