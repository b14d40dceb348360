"""Named model sizes. `base` and `large` carry wav2vec 2.0's published hyper-parameters; `tiny` and
`small` are ours, for CPUs and single GPUs.
"""

from __future__ import annotations

from dataclasses import replace

from speechvq.errors import ConfigError
from speechvq.models.config import (
    EncoderConfig,
    FbankConfig,
    FeatureNorm,
    Features,
    GumbelConfig,
    PretrainModelConfig,
    SimVQConfig,
    WaveformConfig,
)

PRESETS = ("tiny", "small", "base", "large")


def create_preset(name: str) -> PretrainModelConfig:
    """Configuration of a named size, fresh for each call.

    Args:
        name: One of `PRESETS`.

    Returns:
        The configuration.

    Raises:
        ConfigError: There is no such preset.
    """
    match name:
        case "tiny":
            return _create_tiny()
        case "small":
            return _create_small()
        case "base":
            return _create_base()
        case "large":
            return _create_large()
    raise ConfigError([f"`preset` must be one of {', '.join(PRESETS)}, but is {name!r}."])


def create_gumbel(name: str) -> GumbelConfig:
    """Gumbel quantiser that fits a named size, whether it is that size's own or not.

    Args:
        name: One of `PRESETS`.
    """
    quantizer = create_preset(name).quantizer
    if isinstance(quantizer, GumbelConfig):
        return quantizer
    return GumbelConfig(temperature_decay=0.999)  # for runs of a few thousand updates


def _create_tiny() -> PretrainModelConfig:
    """6.5 M parameters: minutes on two CPU cores.

    Frames of 40 ms: half the work of 20 ms, and a recogniser learns from far fewer updates. No
    dropout, as a run this short sees little twice; attention dropout would cost 40 % of a step.
    SimVQ, as recognisers learn better from it than from Gumbel's quantiser after the same few
    updates (docs/results.md, "Quantisers on real speech: error rates after finetuning").
    """
    return PretrainModelConfig(
        features=Features.fbank,
        fbank=FbankConfig(stack=4),
        waveform=replace(
            _create_narrow_waveform([64, 96, 128, 192, 256, 256, 256]),
            kernels=[10, 4, 3, 3, 3, 2, 2],
            strides=[5, 4, 2, 2, 2, 2, 2],
        ),
        encoder=EncoderConfig(
            num_layers=6,
            model_dim=256,
            num_heads=4,
            ffn_dim=1024,
            norm_first=True,
            dropout=0.0,
            attention_dropout=0.0,
            layer_drop_prob=0.0,
            position_kernel=64,
            conv_kernel=15,
        ),
        quantizer=SimVQConfig(),
        mask_length=5,
        feature_penalty_weight=0.0,
        feature_grad_scale=1.0,
        dropout_input=0.0,
        dropout_features=0.0,
    )


def _create_small() -> PretrainModelConfig:
    """About 23 M parameters: one GPU, or a patient CPU."""
    return PretrainModelConfig(
        features=Features.fbank,
        waveform=_create_narrow_waveform([128, 128, 192, 256, 384, 384, 384]),
        encoder=EncoderConfig(
            num_layers=12,
            model_dim=384,
            num_heads=6,
            ffn_dim=1536,
            norm_first=True,
            dropout=0.1,
            attention_dropout=0.0,
            layer_drop_prob=0.05,
        ),
        quantizer=GumbelConfig(temperature_decay=0.9999),
        feature_penalty_weight=0.0,
        feature_grad_scale=1.0,
    )


def _create_base() -> PretrainModelConfig:
    """95 M parameters: fairseq's `wav2vec2_base_librispeech` (wav2vec 2.0, section 4.2 and appendix
    B).
    """
    return PretrainModelConfig(
        features=Features.waveform,
        waveform=WaveformConfig(norm=FeatureNorm.group, bias=False, normalize=False),
        encoder=EncoderConfig(
            num_layers=12,
            model_dim=768,
            num_heads=12,
            ffn_dim=3072,
            norm_first=False,
            dropout=0.1,
            attention_dropout=0.1,
            activation_dropout=0.0,
            layer_drop_prob=0.05,
        ),
        quantizer=GumbelConfig(
            num_codebooks=2,
            codebook_size=320,
            code_dim=256,
            temperature_start=2.0,
            temperature_end=0.5,
            temperature_decay=0.999995,
        ),
        final_dim=256,
        feature_penalty_weight=10.0,
        feature_grad_scale=0.1,
        dropout_input=0.1,
        dropout_features=0.1,
    )


def _create_large() -> PretrainModelConfig:
    """317 M parameters: fairseq's `wav2vec2_large_librivox` (LV-60k; the recipe that XLSR and
    IndicWav2Vec's large model start from).
    """
    return PretrainModelConfig(
        features=Features.waveform,
        waveform=WaveformConfig(norm=FeatureNorm.layer, bias=True, normalize=True),
        encoder=EncoderConfig(
            num_layers=24,
            model_dim=1024,
            num_heads=16,
            ffn_dim=4096,
            norm_first=True,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            layer_drop_prob=0.0,
        ),
        quantizer=GumbelConfig(
            num_codebooks=2,
            codebook_size=320,
            code_dim=768,
            temperature_start=2.0,
            temperature_end=0.1,
            temperature_decay=0.999995,
        ),
        final_dim=768,
        feature_penalty_weight=0.0,
        feature_grad_scale=1.0,
        dropout_input=0.0,
        dropout_features=0.0,
    )


def _create_narrow_waveform(dims: list[int]) -> WaveformConfig:
    """wav2vec 2.0's kernels and strides with few channels where frames are many: each layer costs
    about the same.
    """
    return WaveformConfig(dims=dims, norm=FeatureNorm.layer, bias=True, normalize=True)
