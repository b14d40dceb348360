"""Settings of a model from the shapes of its weights, for files that hold no settings.

Works on transformers' names, which the tables of the `interop_*` modules give. What shapes do not
tell (heads, strides, the order of norms in torchaudio's files, waveform normalisation) is what the
published wav2vec 2.0 models have, unless the caller says otherwise; dropout, temperatures, masks
and weights of losses are those of the preset with the same front end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.config import (
    FeatureNorm,
    GumbelConfig,
    PretrainModelConfig,
    WaveformConfig,
)
from speechvq.models.interop_names import THEIR_CONV, THEIR_LAYER
from speechvq.models.presets import create_preset

CHANNELS_PER_HEAD = 64
MAX_HEADS = 16
"""Published models have a head for 64 channels, but no more than 16 (XLS-R, omnilingual-asr)."""
KERNELS = [10, 3, 3, 3, 3, 2, 2]
STRIDES = [5, 2, 2, 2, 2, 2, 2]
"""The published convolutions."""
_POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv."


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a file may not say; None leaves it to the file, or to what published models have.

    Attributes:
        num_heads: Attention heads.
        strides: Of the convolutions.
        norm_first: Pre-norm layers (True) or post-norm.
        normalize: Whether the model was trained on waveforms of zero mean and unit variance.
    """

    num_heads: int | None = None
    strides: Sequence[int] | None = None
    norm_first: bool | None = None
    normalize: bool | None = None


@dataclass(frozen=True)
class DerivedConfig:
    """A configuration made from shapes.

    Attributes:
        config: The configuration.
        assumed: Key of the configuration → value, for what neither the file nor the caller said.
    """

    config: PretrainModelConfig
    assumed: dict[str, Any]


def derive_config(
    state: Mapping[str, Tensor], options: ImportOptions, *, norm_first: bool | None
) -> DerivedConfig:
    """Reads a model's settings off its weights.

    Args:
        state: Weights with transformers' names.
        options: What the caller knows.
        norm_first: The order of norms if the file tells it.

    Returns:
        The configuration. Without a quantiser in the file it has the preset's.

    Raises:
        ModelError: A weight is missing or has an impossible shape, or something has to be told.
    """
    convs = _read_convs(state)
    kernels = [shape[2] for shape in convs]
    is_layer_norm = f"{THEIR_CONV}1.layer_norm.weight" in state
    norm = FeatureNorm.layer if is_layer_norm else FeatureNorm.group
    preset = "large" if is_layer_norm else "base"
    assumed: dict[str, Any] = {"preset": preset}
    model_dim, _ = _read_shape(state, "wav2vec2.feature_projection.projection.weight", 2)
    base = create_preset(preset)
    encoder = replace(
        base.encoder,
        num_layers=_count(state, THEIR_LAYER),
        model_dim=model_dim,
        num_heads=_choose_heads(options, model_dim, assumed),
        ffn_dim=_read_shape(state, f"{THEIR_LAYER}0.feed_forward.intermediate_dense.weight", 2)[0],
        norm_first=_choose_norm_first(options, norm_first, is_layer_norm, assumed),
        **_read_positions(state, model_dim),
    )
    waveform = WaveformConfig(
        dims=[shape[0] for shape in convs],
        kernels=kernels,
        strides=_choose_strides(options, kernels, assumed),
        norm=norm,
        bias=f"{THEIR_CONV}0.conv.bias" in state,
        normalize=_choose_normalize(options, is_layer_norm, assumed),
        masked_statistics=False,
    )
    config = replace(base, waveform=waveform, encoder=encoder)
    return DerivedConfig(_add_quantizer(config, state), assumed)


def _read_convs(state: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    numbers = range(_count(state, THEIR_CONV))
    return [_read_shape(state, f"{THEIR_CONV}{number}.conv.weight", 3) for number in numbers]


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    )


def _read_shape(state: Mapping[str, Tensor], name: str, num_axes: int) -> tuple[int, ...]:
    if name not in state:
        raise ModelError(f"The model lacks the weight that transformers calls `{name}`.")
    shape = tuple(state[name].shape)
    if len(shape) != num_axes or min(shape) < 1:
        raise ModelError(
            f"The weight that transformers calls `{name}` must have {num_axes} axes, but has the "
            f"shape {shape}."
        )
    return shape


def _read_positions(state: Mapping[str, Tensor], model_dim: int) -> dict[str, int]:
    names = [f"{_POSITIONS}weight_v", f"{_POSITIONS}parametrizations.weight.original1"]
    name = next((name for name in names if name in state), names[0])
    _, width, kernel = _read_shape(state, name, 3)
    return {"position_kernel": kernel, "position_groups": max(model_dim // width, 1)}


def _choose_heads(options: ImportOptions, model_dim: int, assumed: dict[str, Any]) -> int:
    if options.num_heads is not None:
        if options.num_heads < 1 or model_dim % options.num_heads:
            raise ModelError(
                f"`--heads` must divide the model's width ({model_dim}), but is "
                f"{options.num_heads}."
            )
        return options.num_heads
    num_heads = min(model_dim // CHANNELS_PER_HEAD, MAX_HEADS)
    if num_heads < 1 or model_dim % num_heads:
        raise ModelError(
            f"`--heads` must be given: the file does not hold the number of attention heads, and "
            f"no published model is {model_dim} wide."
        )
    assumed["encoder.num_heads"] = num_heads
    return num_heads


def _choose_strides(
    options: ImportOptions, kernels: list[int], assumed: dict[str, Any]
) -> list[int]:
    if options.strides is not None:
        if len(options.strides) != len(kernels) or min(options.strides) < 1:
            raise ModelError(
                f"`--strides` must have {len(kernels)} positive numbers, one a convolution, but is "
                f"{','.join(map(str, options.strides))}."
            )
        return list(options.strides)
    if kernels != KERNELS:
        raise ModelError(
            "`--strides` must be given: the file does not hold the strides of the convolutions, "
            f"and no published model has the kernels {', '.join(map(str, kernels))}."
        )
    assumed["waveform.strides"] = list(STRIDES)
    return list(STRIDES)


def _choose_norm_first(
    options: ImportOptions, told: bool | None, is_layer_norm: bool, assumed: dict[str, Any]
) -> bool:
    if told is not None:
        if options.norm_first not in (None, told):
            raise ModelError(
                f"`--norm-order` must be left out: the weights are those of a "
                f"{'pre' if told else 'post'}-norm model."
            )
        return told
    if options.norm_first is not None:
        return options.norm_first
    # Published models with layer norm in the front end are pre-norm, and no others.
    assumed["encoder.norm_first"] = is_layer_norm
    return is_layer_norm


def _choose_normalize(options: ImportOptions, is_layer_norm: bool, assumed: dict[str, Any]) -> bool:
    if options.normalize is not None:
        return options.normalize
    assumed["waveform.normalize"] = is_layer_norm
    return is_layer_norm


def _add_quantizer(config: PretrainModelConfig, state: Mapping[str, Tensor]) -> PretrainModelConfig:
    if "quantizer.codevectors" not in state:
        return config
    _, num_entries, entry_dim = _read_shape(state, "quantizer.codevectors", 3)
    final_dim, code_dim = _read_shape(state, "project_q.weight", 2)
    num_codebooks, rest = divmod(code_dim, entry_dim)
    if rest or num_codebooks < 1 or num_entries % num_codebooks:
        raise ModelError(
            f"The quantiser's {num_entries} entries of {entry_dim} channels do not make vectors of "
            f"{code_dim} channels."
        )
    assert isinstance(config.quantizer, GumbelConfig)
    quantizer = replace(
        config.quantizer,
        num_codebooks=num_codebooks,
        codebook_size=num_entries // num_codebooks,
        code_dim=code_dim,
    )
    return replace(config, quantizer=quantizer, final_dim=final_dim)
