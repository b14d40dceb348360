"""Names and settings of fairseq's wav2vec 2.0 checkpoints (IndicWav2Vec's among them).

Pure functions on dictionaries: fairseq is not needed. Weights go by way of the names that
transformers gives them; `speechvq.models.interop_huggingface` knows those.
"""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.config import GumbelConfig, PretrainModelConfig
from speechvq.models.interop_names import NameTable

PRETRAINING_TASKS = frozenset({"audio_pretraining", "temp_sampled_audio_pretraining"})
"""fairseq's own, and IndicWav2Vec's with temperature sampling."""

_TABLE = NameTable(
    # Position in fairseq's Sequential: norm over time stands at 2, over channels at 2.1.
    conv="feature_extractor.conv_layers.",
    conv_names={"0": "conv", "2": "layer_norm", "2.1": "layer_norm"},
    layer="encoder.layers.",
    layer_names={
        "self_attn.q_proj": "attention.q_proj",
        "self_attn.k_proj": "attention.k_proj",
        "self_attn.v_proj": "attention.v_proj",
        "self_attn.out_proj": "attention.out_proj",
        "self_attn_layer_norm": "layer_norm",
        "fc1": "feed_forward.intermediate_dense",
        "fc2": "feed_forward.output_dense",
        "final_layer_norm": "final_layer_norm",
    },
    names={
        "layer_norm": "wav2vec2.feature_projection.layer_norm",
        "post_extract_proj": "wav2vec2.feature_projection.projection",
        "encoder.pos_conv.0": "wav2vec2.encoder.pos_conv_embed.conv",
        "encoder.layer_norm": "wav2vec2.encoder.layer_norm",
        "quantizer.weight_proj": "quantizer.weight_proj",
        "project_q": "project_q",
        "final_proj": "project_hid",
    },
    whole_names={
        "mask_emb": "wav2vec2.masked_spec_embed",
        "quantizer.vars": "quantizer.codevectors",
    },
)


def state_from_fairseq(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of a fairseq Wav2Vec2Model to those of Wav2Vec2ForPreTraining.

    Args:
        state: The checkpoint's `model`.

    Returns:
        State dict with transformers' names.

    Raises:
        ModelError: A weight has no counterpart.
    """
    return {_TABLE.rename(name): tensor for name, tensor in state.items()}


def find_settings(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Finds the model's settings, in new checkpoints (`cfg`) and old ones (`args`).

    Args:
        checkpoint: The whole file, with `cfg` and `args` made plain.

    Returns:
        Flat settings of the model.

    Raises:
        ModelError: The file is no wav2vec 2.0 pretraining checkpoint of fairseq.
    """
    settings = checkpoint.get("args")
    task = None
    if isinstance(config := checkpoint.get("cfg"), Mapping):
        settings = config.get("model")
        task = config.get("task")
        task = task.get("_name") if isinstance(task, Mapping) else task
    elif isinstance(settings, Mapping):
        task = settings.get("task")
    if not isinstance(settings, Mapping) or "model" not in checkpoint:
        keys = sorted(map(str, checkpoint))
        found = ", ".join([*keys[:5], *(["…"] if len(keys) > 5 else [])]) or "nothing"
        raise ModelError(
            "This is no wav2vec 2.0 model of fairseq2 or torchaudio, and a fairseq checkpoint must "
            f"have `model` and `cfg` or `args`, but this file has {found}."
        )
    if task is not None and not (isinstance(task, str) and task in PRETRAINING_TASKS):
        raise ModelError(
            f"The checkpoint's task must be one of {', '.join(sorted(PRETRAINING_TASKS))}, but is "
            f"{_shorten(task)}. Take the pretrained checkpoint, not a finetuned one."
        )
    return dict(settings)


def config_from_fairseq(settings: Mapping[str, Any], num_layers: int) -> dict[str, Any]:
    """Writes fairseq's settings as transformers' config.json.

    Args:
        settings: What `find_settings` returned; what is missing has fairseq's default.
        num_layers: Transformer layers that the weights have.

    Returns:
        JSON values for `pretrain_config_from_huggingface`.

    Raises:
        ModelError: The settings cannot be understood.
    """
    layers = _read_layers(str(_get(settings, "conv_feature_layers", _DEFAULT_CONV)))
    if not _get_switch(settings, "quantize_targets", True):
        raise ModelError("The checkpoint does not quantise its targets; speechvq needs that.")
    _get_word(settings, "activation_fn", ("gelu",))
    front_end = _get_word(settings, "extractor_mode", ("default", "layer_norm"))
    dim, embed = (
        _get_count(settings, "latent_dim", 0),
        _get_count(settings, "encoder_embed_dim", 768),
    )
    final = _get_count(settings, "final_dim", 0) or embed
    return {
        "model_type": "wav2vec2",
        "hidden_size": embed,
        "num_hidden_layers": num_layers,
        "num_attention_heads": _get_count(settings, "encoder_attention_heads", 12),
        "intermediate_size": _get_count(settings, "encoder_ffn_embed_dim", 3072),
        "do_stable_layer_norm": _get_switch(settings, "layer_norm_first", False),
        "hidden_dropout": _get_number(settings, "dropout", 0.1),
        "attention_dropout": _get_number(settings, "attention_dropout", 0.1),
        "activation_dropout": _get_number(settings, "activation_dropout", 0.0),
        "layerdrop": _get_number(settings, "encoder_layerdrop", 0.0),
        "num_conv_pos_embeddings": _get_count(settings, "conv_pos", 128),
        "num_conv_pos_embedding_groups": _get_count(settings, "conv_pos_groups", 16),
        "feat_extract_norm": "layer" if front_end == "layer_norm" else "group",
        "conv_dim": [layer[0] for layer in layers],
        "conv_kernel": [layer[1] for layer in layers],
        "conv_stride": [layer[2] for layer in layers],
        "conv_bias": _get_switch(settings, "conv_bias", False),
        "feat_proj_dropout": _get_number(settings, "dropout_input", 0.0),
        "feat_quantizer_dropout": _get_number(settings, "dropout_features", 0.0),
        "num_codevector_groups": _get_count(settings, "latent_groups", 2),
        "num_codevectors_per_group": _get_count(settings, "latent_vars", 320),
        "codevector_dim": dim or final,
        "proj_codevector_dim": final,
        "num_negatives": _get_count(settings, "num_negatives", 100),
        "contrastive_logits_temperature": _get_number(settings, "logit_temp", 0.1),
        "diversity_loss_weight": 0.1,
    }


def apply_training_settings(
    config: PretrainModelConfig, settings: Mapping[str, Any], criterion: Mapping[str, Any]
) -> PretrainModelConfig:
    """Adds what fairseq knows of training and transformers does not.

    Args:
        config: The model's configuration.
        settings: What `find_settings` returned.
        criterion: Settings of the loss, empty where the checkpoint has none.

    Returns:
        The configuration with fairseq's masks, temperatures, weights of losses and gradient scale;
        what is missing keeps its value.

    Raises:
        ModelError: A setting cannot be understood.
    """
    changes: dict[str, Any] = {}
    for ours, theirs in (("mask_prob", "mask_prob"), ("feature_grad_scale", "feature_grad_mult")):
        changes[ours] = _get_number(settings, theirs, getattr(config, ours))
    changes["mask_length"] = _get_count(settings, "mask_length", config.mask_length)
    if settings.get("latent_temp") is not None:
        start, end, decay = _read_numbers(settings, "latent_temp", 3)
        changes["quantizer"] = GumbelConfig(
            num_codebooks=config.quantizer.num_codebooks,
            codebook_size=config.quantizer.codebook_size,
            code_dim=config.quantizer.code_dim,
            temperature_start=start,
            temperature_end=end,
            temperature_decay=decay,
        )
    if criterion.get("loss_weights"):
        weights = _read_numbers(criterion, "loss_weights", None)
        names = ("diversity_weight", "feature_penalty_weight")
        changes.update(zip(names, weights, strict=False))
    return replace(config, **changes)


def find_normalize(checkpoint: Mapping[str, Any]) -> bool | None:
    """Whether waveforms had zero mean and unit variance, if the checkpoint says it.

    Args:
        checkpoint: `cfg` and `args` of the file, made plain.

    Raises:
        ModelError: It says something else than yes or no.
    """
    config = checkpoint.get("cfg")
    task = config.get("task") if isinstance(config, Mapping) else checkpoint.get("args")
    if not isinstance(task, Mapping) or task.get("normalize") is None:
        return None
    return _get_switch(task, "normalize", False)


def _get(settings: Mapping[str, Any], name: str, default: Any) -> Any:
    """A setting, with fairseq's default where it is missing or null."""
    value = settings.get(name)
    return default if value is None else value


def _get_switch(settings: Mapping[str, Any], name: str, default: bool) -> bool:
    value = _get(settings, name, default)
    if not isinstance(value, bool):
        raise ModelError(f"`{name}` must be true or false, but is {_shorten(value)}.")
    return value


def _get_number(settings: Mapping[str, Any], name: str, default: float) -> float:
    """A number, or the text of one."""
    value = _get(settings, name, default)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise ModelError(f"`{name}` must be a number, but is {_shorten(value)}.")


def _get_count(settings: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number, or the text of one."""
    value = _get(settings, name, default)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return int(value)
    raise ModelError(f"`{name}` must be a whole number, but is {_shorten(value)}.")


def _get_word(settings: Mapping[str, Any], name: str, known: Sequence[str]) -> str:
    """One of the words that speechvq knows, the first of which is fairseq's default."""
    value = _get(settings, name, known[0])
    if not isinstance(value, str) or value not in known:
        words = " or ".join(known)
        raise ModelError(
            f"`{name}` must be {words} to be read as a speechvq model, but is {_shorten(value)}."
        )
    return value


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_numbers(settings: Mapping[str, Any], name: str, count: int | None) -> list[float]:
    """Numbers, or the text of numbers that old checkpoints have."""
    value = settings[name]
    try:
        if isinstance(value, str):
            value = ast.literal_eval(value)
        items = value if isinstance(value, (list, tuple)) else [value]
        numbers = [float(item) for item in items]
    except (*_NO_LITERAL, TypeError, OverflowError) as error:
        raise ModelError(f"`{name}` cannot be understood: {_shorten(settings[name])}.") from error
    if not all(math.isfinite(number) for number in numbers):
        raise ModelError(f"`{name}` must be finite, but is {_shorten(settings[name])}.")
    if count is not None and len(numbers) != count:
        raise ModelError(f"`{name}` must have {count} numbers, but is {_shorten(settings[name])}.")
    return numbers


_NO_LITERAL = (ValueError, SyntaxError, RecursionError, MemoryError)
"""What `ast` raises for text that is no literal of Python, or nested without end."""
_MAX_CONVS = 64
_DEFAULT_CONV = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"


def _read_layers(text: str) -> list[tuple[int, int, int]]:
    """Evaluates an expression of lists of three whole numbers, `+` and `*`, and nothing else."""
    try:
        return _evaluate(ast.parse(text, mode="eval").body)
    except _NO_LITERAL as error:
        raise ModelError(
            f"`conv_feature_layers` cannot be understood: {_shorten(text)}."
        ) from error


def _evaluate(node: ast.expr) -> list[tuple[int, int, int]]:
    found: list[Any] = []
    match node:
        case ast.List(elts=items):
            found = [ast.literal_eval(item) for item in items]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = _evaluate(left) + _evaluate(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(count))):
            if count <= _MAX_CONVS:
                found = _evaluate(left) * count
    if not 0 < len(found) <= _MAX_CONVS or any(
        not isinstance(item, tuple) or [type(part) for part in item] != [int] * 3 for item in found
    ):
        raise ValueError("not a list of layers")
    return found
