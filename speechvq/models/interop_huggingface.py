"""Names and configurations of transformers' Wav2Vec2 models, in both directions.

Pure functions on dictionaries: transformers itself is not needed. The parity tests and
`speechvq import`/`export` use the same tables. Files are read and written elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.config import (
    CTCModelConfig,
    EncoderConfig,
    FeatureNorm,
    Features,
    GumbelConfig,
    Objective,
    PretrainModelConfig,
    WaveformConfig,
)
from speechvq.models.config_json import config_to_json

_POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv"
_NAMES = [
    ("encoder.feature_norm.", "wav2vec2.feature_projection.layer_norm."),
    ("encoder.projection.", "wav2vec2.feature_projection.projection."),
    ("encoder.mask_embedding", "wav2vec2.masked_spec_embed"),
    ("encoder.positions.direction", f"{_POSITIONS}.parametrizations.weight.original1"),
    ("encoder.positions.magnitude", f"{_POSITIONS}.parametrizations.weight.original0"),
    ("encoder.positions.bias", f"{_POSITIONS}.bias"),
    ("encoder.transformer.norm.", "wav2vec2.encoder.layer_norm."),
    ("quantizer.projection.", "quantizer.weight_proj."),
    ("quantizer.codebook", "quantizer.codevectors"),
    ("task.context_projection.", "project_hid."),
    ("task.target_projection.", "project_q."),
]
"""Prefixes: ours, theirs."""
_LAYER_NAMES = [
    ("attention.output.", "attention.out_proj."),
    ("attention_norm.", "layer_norm."),
    ("feed_forward.input.", "feed_forward.intermediate_dense."),
    ("feed_forward.output.", "feed_forward.output_dense."),
    ("feed_forward_norm.", "final_layer_norm."),
]
"""Prefixes inside a Transformer layer: ours, theirs."""
_LAYER = ("encoder.transformer.layers.", "wav2vec2.encoder.layers.")
_CONV = ("encoder.front_end.layers.", "wav2vec2.feature_extractor.conv_layers.")
_OLD_NAMES = {
    f"{_POSITIONS}.weight_g": f"{_POSITIONS}.parametrizations.weight.original0",
    f"{_POSITIONS}.weight_v": f"{_POSITIONS}.parametrizations.weight.original1",
}
"""Names in files that were written before torch 2.0."""
_QKV = ("q_proj", "k_proj", "v_proj")


MIN_PRETRAINING_MASK_PROB = 0.2
"""transformers has one `mask_time_prob` for two things: the masks of pretraining (published: 0.65)
and the augmentation of finetuning (0.05 by default, and in most published models). Below
this it is taken for the second."""


def state_from_huggingface(
    state: Mapping[str, Tensor], *, num_codebooks: int = 1, language: str | None = None
) -> dict[str, Tensor]:
    """Renames the weights of a Wav2Vec2ForPreTraining or Wav2Vec2ForCTC.

    Args:
        state: transformers' state dict.
        num_codebooks: G, which their codebook's shape does not say.
        language: The head's language in our recogniser; needed for Wav2Vec2ForCTC.

    Returns:
        State dict of our model. Models fine-tuned without masking have no mask embedding; it is
        zeros then.

    Raises:
        ModelError: A weight has no counterpart.
    """
    source = {_OLD_NAMES.get(name, name): tensor for name, tensor in state.items()}
    is_layer_norm = f"{_CONV[1]}1.layer_norm.weight" in source
    result: dict[str, Tensor] = {}
    for name, tensor in source.items():
        if ".q_proj." in name:
            names = [name.replace("q_proj", part) for part in _QKV]
            if missing := [part for part in names if part not in source]:
                raise ModelError(f"The weight {missing[0]!r} is missing beside {name!r}.")
            parts = [source[part] for part in names]
            ours = name.replace("q_proj", "qkv").replace(_LAYER[1], _LAYER[0])
            result[ours] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            ours = _rename_from(name, is_layer_norm, language)
            result[ours] = tensor
    if "quantizer.codebook" in result:
        codebook = result["quantizer.codebook"]  # (1, G*V, C/G)
        if codebook.dim() != 3 or codebook.size(1) % num_codebooks:
            raise ModelError(
                f"The entries of {num_codebooks} codebooks cannot have the shape "
                f"{tuple(codebook.shape)}."
            )
        result["quantizer.codebook"] = codebook.reshape(num_codebooks, -1, codebook.size(-1))
    if "encoder.projection.bias" in result:
        empty = torch.zeros_like(result["encoder.projection.bias"])
        result.setdefault("encoder.mask_embedding", empty)
    return result


def state_to_huggingface(
    state: Mapping[str, Tensor], *, language: str | None = None
) -> dict[str, Tensor]:
    """Renames the weights of our models for Wav2Vec2ForPreTraining or Wav2Vec2ForCTC.

    Args:
        state: Our state dict, of a model with the waveform front end.
        language: Whose head is taken; other heads are left out.

    Returns:
        State dict of transformers' model.

    Raises:
        ModelError: A weight has no counterpart.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".qkv." in name:
            for part, piece in zip(_QKV, tensor.chunk(3), strict=True):
                theirs = name.replace("qkv", part).replace(_LAYER[0], _LAYER[1])
                result[theirs] = piece.contiguous()
        elif name == "quantizer.codebook":
            result["quantizer.codevectors"] = tensor.reshape(1, -1, tensor.size(-1))
        elif not name.startswith("heads."):
            result[_rename_to(name)] = tensor
        elif name.startswith(f"heads.{language}."):
            result[f"lm_head.{name.rsplit('.', 1)[1]}"] = tensor
    return result


def pretrain_config_from_huggingface(document: Mapping[str, Any]) -> PretrainModelConfig:
    """Reads the config.json of a Wav2Vec2ForPreTraining.

    Args:
        document: Parsed JSON, complete (as transformers' `to_dict` gives it).

    Returns:
        Our configuration; what transformers does not know (temperatures) has its default, and so
        have masks where the document's are not those of pretraining.

    Raises:
        ModelError: The model uses something that ours have not.
    """
    masks = {}
    if has_pretraining_masks(document):
        # The same definition as ours: spans times their length over frames, overlaps not counted.
        names = (("mask_prob", "prob"), ("mask_length", "length"), ("mask_min_spans", "min_masks"))
        theirs = {ours: document.get(f"mask_time_{name}") for ours, name in names}
        masks = {ours: value for ours, value in theirs.items() if value is not None}
    return PretrainModelConfig(
        features=Features.waveform,
        waveform=_read_waveform(document),
        encoder=_read_encoder(document),
        quantizer=GumbelConfig(
            num_codebooks=document["num_codevector_groups"],
            codebook_size=document["num_codevectors_per_group"],
            code_dim=document["codevector_dim"],
        ),
        final_dim=document["proj_codevector_dim"],
        num_distractors=document["num_negatives"],
        logit_temperature=document["contrastive_logits_temperature"],
        diversity_weight=document["diversity_loss_weight"],
        dropout_input=document["feat_proj_dropout"],
        dropout_features=document["feat_quantizer_dropout"],
        **masks,
    )


def has_pretraining_masks(document: Mapping[str, Any]) -> bool:
    """Whether config.json holds masks of pretraining; see `MIN_PRETRAINING_MASK_PROB`.

    Args:
        document: Parsed JSON.

    Raises:
        ModelError: `mask_time_prob` is no number.
    """
    prob = document.get("mask_time_prob", 0.0)
    if isinstance(prob, bool) or not isinstance(prob, (int, float)):
        raise ModelError(f"config.json: mask_time_prob must be a number, but is {prob!r}.")
    return prob >= MIN_PRETRAINING_MASK_PROB


def config_to_huggingface(
    config: PretrainModelConfig | CTCModelConfig, *, num_labels: int | None = None
) -> dict[str, Any]:
    """Writes the config.json of a Wav2Vec2 model.

    Args:
        config: Our configuration, with the waveform front end.
        num_labels: N of the head that is exported; for recognisers.

    Returns:
        JSON values, to be given to transformers' `Wav2Vec2Config`.

    Raises:
        ModelError: transformers has no model like this.
    """
    if config.features is not Features.waveform:
        raise ModelError(
            "`features` must be waveform for an export to transformers, but is "
            f"{config.features.value}: Wav2Vec2 has no filter banks. Train with features=waveform."
        )
    encoder, waveform = config.encoder, config.waveform
    if isinstance(config, PretrainModelConfig):
        if config.objective is not Objective.contrastive:
            raise ModelError(
                "`objective` must be contrastive for an export to transformers, but is "
                f"{config.objective.value}: Wav2Vec2ForPreTraining has no other."
            )
        if not isinstance(config.quantizer, GumbelConfig):
            raise ModelError(
                "`quantizer` must be gumbel for an export to transformers, but is "
                f"{config_to_json(config.quantizer)['kind']}: Wav2Vec2ForPreTraining has no other."
            )
    if encoder.conv_kernel:
        raise ModelError(
            "`encoder.conv_kernel` must be 0 for an export to transformers, but is "
            f"{encoder.conv_kernel}: Wav2Vec2 has no convolution in its layers. Train with "
            "architecture.encoder.conv_kernel=0."
        )
    document: dict[str, Any] = {
        "model_type": "wav2vec2",
        "hidden_size": encoder.model_dim,
        "num_hidden_layers": encoder.num_layers,
        "num_attention_heads": encoder.num_heads,
        "intermediate_size": encoder.ffn_dim,
        "do_stable_layer_norm": encoder.norm_first,
        "hidden_dropout": encoder.dropout,
        "attention_dropout": encoder.attention_dropout,
        "activation_dropout": encoder.activation_dropout,
        "layerdrop": encoder.layer_drop_prob,
        "num_conv_pos_embeddings": encoder.position_kernel,
        "num_conv_pos_embedding_groups": encoder.position_groups,
        "feat_extract_norm": waveform.norm.value,
        "conv_dim": list(waveform.dims),
        "conv_kernel": list(waveform.kernels),
        "conv_stride": list(waveform.strides),
        "conv_bias": waveform.bias,
        "feat_proj_dropout": config.dropout_input,
    }
    if isinstance(config, CTCModelConfig):
        return document | {
            "architectures": ["Wav2Vec2ForCTC"],
            "adapter_attn_dim": config.adapter_dim or None,
            "final_dropout": config.dropout_final,
            "vocab_size": num_labels,
            "pad_token_id": 0,
        }
    return document | {
        "architectures": ["Wav2Vec2ForPreTraining"],
        "num_codevector_groups": config.quantizer.num_codebooks,
        "num_codevectors_per_group": config.quantizer.codebook_size,
        "codevector_dim": config.quantizer.code_dim,
        "proj_codevector_dim": config.final_dim,
        "num_negatives": config.num_distractors,
        "contrastive_logits_temperature": config.logit_temperature,
        "diversity_loss_weight": config.diversity_weight,
        "feat_quantizer_dropout": config.dropout_features,
        "mask_time_prob": config.mask_prob,
        "mask_time_length": config.mask_length,
        "mask_time_min_masks": config.mask_min_spans,
    }


def _read_waveform(document: Mapping[str, Any]) -> WaveformConfig:
    _check_supported(document)
    return WaveformConfig(
        dims=list(document["conv_dim"]),
        kernels=list(document["conv_kernel"]),
        strides=list(document["conv_stride"]),
        norm=FeatureNorm(document["feat_extract_norm"]),
        bias=document["conv_bias"],
        # Their processor normalises waveforms for models with layer norm, not the model; the caller
        # sets `normalize` from preprocessor_config.json.
        normalize=False,
        masked_statistics=False,
    )


def _read_encoder(document: Mapping[str, Any]) -> EncoderConfig:
    return EncoderConfig(
        num_layers=document["num_hidden_layers"],
        model_dim=document["hidden_size"],
        num_heads=document["num_attention_heads"],
        ffn_dim=document["intermediate_size"],
        norm_first=document["do_stable_layer_norm"],
        dropout=document["hidden_dropout"],
        attention_dropout=document["attention_dropout"],
        activation_dropout=document["activation_dropout"],
        layer_drop_prob=document["layerdrop"],
        position_kernel=document["num_conv_pos_embeddings"],
        position_groups=document["num_conv_pos_embedding_groups"],
    )


def _check_supported(document: Mapping[str, Any]) -> None:
    expected = {
        "model_type": "wav2vec2",
        "hidden_act": "gelu",
        "feat_extract_activation": "gelu",
        "layer_norm_eps": 1e-5,
        "add_adapter": False,
        "adapter_attn_dim": None,
    }
    for key, value in expected.items():
        if document.get(key, value) != value:
            raise ModelError(
                f"config.json: {key} must be {value!r} to be read as a speechvq model, "
                f"but is {document[key]!r}."
            )


def _rename_from(name: str, is_layer_norm: bool, language: str | None) -> str:
    if name.startswith(_CONV[1]):
        norm = "channel_norm" if is_layer_norm else "time_norm"
        return name.replace(_CONV[1], _CONV[0]).replace("layer_norm", norm)
    if name.startswith("lm_head.") and language is not None:
        return name.replace("lm_head", f"heads.{language}")
    return _rename(name, from_index=1)


def _rename_to(name: str) -> str:
    if name.startswith(_CONV[0]):
        name = name.replace(_CONV[0], _CONV[1])
        return re.sub(r"(channel|time)_norm", "layer_norm", name)
    return _rename(name, from_index=0)


def _rename(name: str, from_index: int) -> str:
    to_index = 1 - from_index
    prefix, names, target = "", _NAMES, ""
    if match := re.match(re.escape(_LAYER[from_index]) + r"\d+\.", name):
        prefix, names = match.group(), _LAYER_NAMES
        target = prefix.replace(_LAYER[from_index], _LAYER[to_index])
    rest = name[len(prefix) :]
    for pair in names:
        if rest.startswith(pair[from_index]):
            return target + pair[to_index] + rest[len(pair[from_index]) :]
    raise ModelError(f"The weight {name!r} has no counterpart; the model is of another kind.")
