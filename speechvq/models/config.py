"""Configurations of the models. No torch, no Hydra: these classes answer `--help`, type the YAML
files, and are stored in every model directory.

Each `validate` returns all problems as sentences that name the key as the user typed it; `prefix`
is the path to the section, for example "model.".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

LATER = "later"
"""Marks a field, in its metadata, that model directories of its format version may lack: it came
later, and its default is what they mean."""


class Features(Enum):
    """Front ends."""

    fbank = "fbank"
    waveform = "waveform"


class FeatureNorm(Enum):
    """Normalisation inside the waveform front end."""

    group = "group"
    layer = "layer"


class Objective(Enum):
    """Tasks of pretraining over the same codebooks."""

    contrastive = "contrastive"
    prediction = "prediction"


@dataclass(kw_only=True)
class FbankConfig:
    """Stacked log-mel front end."""

    num_mels: int = 80
    """Mel filters."""
    stack: int = 2
    """Frames of 10 ms that make one frame of the model (2: 20 ms)."""
    normalize: bool = True
    """Zero mean and unit variance per utterance and channel."""

    def validate(self, prefix: str = "fbank.") -> list[str]:
        """All problems of this section."""
        return [
            *_check_at_least(prefix, self, "num_mels", 1),
            *_check_at_least(prefix, self, "stack", 1),
        ]


@dataclass(kw_only=True)
class WaveformConfig:
    """Convolution front end of wav2vec 2.0."""

    dims: list[int] = field(default_factory=lambda: [512] * 7)
    """Channels of each convolution."""
    kernels: list[int] = field(default_factory=lambda: [10, 3, 3, 3, 3, 2, 2])
    """Kernel sizes."""
    strides: list[int] = field(default_factory=lambda: [5, 2, 2, 2, 2, 2, 2])
    """Strides; their product is the number of samples from frame to frame (320: 20 ms)."""
    norm: FeatureNorm = FeatureNorm.group
    """Norm over time after the first convolution (group), or layer norm after each (layer)."""
    bias: bool = False
    """Whether convolutions have a bias."""
    normalize: bool = False
    """Zero mean and unit variance of each waveform."""
    masked_statistics: bool = True
    """Whether the group norm's statistics leave padding out; false gives what fairseq and
    transformers compute."""

    def validate(self, prefix: str = "waveform.") -> list[str]:
        """All problems of this section."""
        problems = []
        if not (len(self.dims) == len(self.kernels) == len(self.strides)) or not self.dims:
            problems.append(
                f"`{prefix}dims`, `{prefix}kernels` and `{prefix}strides` must have the same "
                "number of entries, at least one, "
                f"but have {len(self.dims)}, {len(self.kernels)} and {len(self.strides)}."
            )
        for name, values in [
            ("dims", self.dims),
            ("kernels", self.kernels),
            ("strides", self.strides),
        ]:
            if any(value < 1 for value in values):
                problems.append(f"`{prefix}{name}` must be positive, but is {list(values)}.")
        return problems


@dataclass(kw_only=True)
class EncoderConfig:
    """Convolutional positions and Transformer."""

    num_layers: int = 12
    """Transformer layers."""
    model_dim: int = 768
    """Width of the Transformer."""
    num_heads: int = 12
    """Attention heads; must divide `model_dim`."""
    ffn_dim: int = 3072
    """Width of the feed-forward parts."""
    norm_first: bool = False
    """Layer norm before each part (pre-norm) instead of after it (post-norm)."""
    dropout: float = 0.1
    """Dropout of the input and of what each part adds."""
    attention_dropout: float = 0.1
    """Dropout of attention weights; above 0 it is slow on the CPU."""
    activation_dropout: float = 0.0
    """Dropout inside the feed-forward parts."""
    layer_drop_prob: float = 0.05
    """Probability of leaving a layer out in a training step."""
    position_kernel: int = 128
    """Frames that the positional convolution sees."""
    position_groups: int = 16
    """Groups of the positional convolution; must divide `model_dim`."""
    conv_kernel: int = 0
    """Frames that a depthwise convolution in every layer sees (Conformer), an odd number; 0: none,
    as in wav2vec 2.0."""

    def validate(self, prefix: str = "encoder.") -> list[str]:
        """All problems of this section."""
        problems = []
        for name in ("num_layers", "model_dim", "num_heads", "ffn_dim"):
            problems += _check_at_least(prefix, self, name, 1)
        for name in ("position_kernel", "position_groups"):
            problems += _check_at_least(prefix, self, name, 1)
        for name in ("dropout", "attention_dropout", "activation_dropout", "layer_drop_prob"):
            problems += _check_prob(prefix, self, name)
        if self.conv_kernel != 0 and (self.conv_kernel < 0 or self.conv_kernel % 2 == 0):
            problems.append(
                f"`{prefix}conv_kernel` must be odd, or 0 for none, but is {self.conv_kernel}."
            )
        problems += _check_divides(prefix, self, "num_heads", "model_dim")
        problems += _check_divides(prefix, self, "position_groups", "model_dim")
        return problems


@dataclass(kw_only=True)
class QuantizerConfig:
    """What all quantisers have in common."""

    num_codebooks: int = 2
    """Codebooks, each of which describes every frame (G)."""
    codebook_size: int = 320
    """Entries of a codebook (V)."""
    code_dim: int = 256
    """Channels of the quantised vector, all codebooks together; a multiple of `num_codebooks`."""

    def validate(self, prefix: str = "quantizer.") -> list[str]:
        """All problems of this section."""
        return [
            *_check_at_least(prefix, self, "num_codebooks", 1),
            *_check_at_least(prefix, self, "codebook_size", 2),
            *_check_at_least(prefix, self, "code_dim", 1),
            *_check_divides(prefix, self, "num_codebooks", "code_dim"),
        ]


@dataclass(kw_only=True)
class GumbelConfig(QuantizerConfig):
    """Gumbel product quantiser of wav2vec 2.0, with its temperature schedule."""

    temperature_start: float = 2.0
    """Temperature of the first step."""
    temperature_end: float = 0.5
    """Smallest temperature."""
    temperature_decay: float = 0.999995
    """Factor of one step."""

    def validate(self, prefix: str = "quantizer.") -> list[str]:
        """All problems of this section."""
        problems = super().validate(prefix)
        if not 0.0 < self.temperature_end <= self.temperature_start:
            problems.append(
                f"`{prefix}temperature_end` must be above 0 and at most "
                f"`{prefix}temperature_start` ({self.temperature_start}), "
                f"but is {self.temperature_end}."
            )
        if not 0.0 < self.temperature_decay <= 1.0:
            problems.append(
                f"`{prefix}temperature_decay` must be above 0 and at most 1, "
                f"but is {self.temperature_decay}."
            )
        return problems


@dataclass(kw_only=True)
class VQConfig(QuantizerConfig):
    """Straight-through vector quantisation: entries learn one by one."""

    commitment: float = 0.25
    """Weight of what draws features to their entries."""
    rotates: bool = False
    """Rotation trick instead of a plain straight-through gradient."""

    def validate(self, prefix: str = "quantizer.") -> list[str]:
        """All problems of this section."""
        problems = super().validate(prefix)
        if self.commitment < 0:
            problems.append(f"`{prefix}commitment` must not be negative, but is {self.commitment}.")
        return problems


@dataclass(kw_only=True)
class SimVQConfig(VQConfig):
    """SimVQ: a frozen random basis under one learned linear map a codebook."""

    learns_basis: bool = False
    """Lets the basis learn as well (the paper's ablation)."""
    shares_basis: bool = False
    """One basis for all codebooks."""


@dataclass(kw_only=True)
class EMAConfig(VQConfig):
    """Entries follow moving averages of their frames; unused ones are put elsewhere."""

    decay: float = 0.99
    """Share of the old average that a step keeps."""
    restart_share: float = 0.05
    """An entry chosen less than this share of an even choice restarts; 0 never."""

    def validate(self, prefix: str = "quantizer.") -> list[str]:
        """All problems of this section."""
        problems = super().validate(prefix)
        problems += _check_prob(prefix, self, "decay")
        problems += _check_prob(prefix, self, "restart_share")
        return problems


@dataclass(kw_only=True)
class FSQConfig(QuantizerConfig):
    """Finite scalar quantisation: a grid of rounded numbers."""

    code_dim: int = 6
    """Numbers of all codebooks together: `num_codebooks` × the count of `levels`."""
    levels: list[int] = field(default_factory=lambda: [8, 8, 5])
    """Levels of each number of a codebook; their product is `codebook_size`."""

    def validate(self, prefix: str = "quantizer.") -> list[str]:
        """All problems of this section."""
        problems = super().validate(prefix)
        if any(count < 2 for count in self.levels) or not self.levels:
            problems.append(f"`{prefix}levels` must be at least 2 each, but are {self.levels}.")
            return problems
        if math.prod(self.levels) != self.codebook_size:
            problems.append(
                f"`{prefix}codebook_size` must be the product of `{prefix}levels` "
                f"({math.prod(self.levels)}), but is {self.codebook_size}."
            )
        if self.num_codebooks * len(self.levels) != self.code_dim:
            problems.append(
                f"`{prefix}code_dim` must be `{prefix}num_codebooks` × the count of "
                f"`{prefix}levels` ({self.num_codebooks * len(self.levels)}), but is "
                f"{self.code_dim}."
            )
        return problems


@dataclass(kw_only=True)
class RandomProjectionConfig(QuantizerConfig):
    """BEST-RQ's frozen random projection and entries: the control that learns nothing."""

    code_dim: int = 32
    """Channels of the projection, all codebooks together (BEST-RQ: 16 for one)."""


@dataclass(kw_only=True)
class PretrainModelConfig:
    """A model that is pretrained without labels, and the task that it learns from."""

    features: Features = Features.waveform
    """Front end: stacked log-mel filter banks, or convolutions on the waveform."""
    fbank: FbankConfig = field(default_factory=FbankConfig)
    """Used with features=fbank."""
    waveform: WaveformConfig = field(default_factory=WaveformConfig)
    """Used with features=waveform."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Positions and Transformer."""
    quantizer: QuantizerConfig = field(default_factory=GumbelConfig)
    """Where the targets come from."""
    objective: Objective = Objective.contrastive
    """Find the target among distractors (wav2vec 2.0), or name its codes (BEST-RQ, HuBERT)."""
    final_dim: int = 256
    """Channels in which context and targets are compared."""
    mask_prob: float = 0.65
    """Share of frames that spans would mask if they did not overlap."""
    mask_length: int = 10
    """Frames of a masked span."""
    mask_min_spans: int = 2
    """Smallest number of masked spans of an utterance."""
    num_distractors: int = 100
    """Distractors of each masked frame (K)."""
    logit_temperature: float = 0.1
    """Divides the cosine similarities."""
    diversity_weight: float = 0.1
    """Weight of the diversity loss, per masked frame."""
    feature_penalty_weight: float = 10.0
    """Weight of the mean square of convolution features, per masked frame; filter banks have
    none."""
    feature_grad_scale: float = 0.1
    """Factor of the gradient that reaches the convolutions."""
    dropout_input: float = 0.1
    """Dropout of the projected features that enter the Transformer."""
    dropout_features: float = 0.1
    """Dropout of the features that enter the quantiser."""

    def validate(self, prefix: str = "") -> list[str]:
        """All problems of the model."""
        problems = _check_front_end(prefix, self)
        problems += self.quantizer.validate(f"{prefix}quantizer.")
        for name in ("final_dim", "mask_length", "num_distractors"):
            problems += _check_at_least(prefix, self, name, 1)
        for name in ("mask_min_spans", "diversity_weight", "feature_penalty_weight"):
            problems += _check_at_least(prefix, self, name, 0)
        problems += _check_at_least(prefix, self, "feature_grad_scale", 0)
        for name in ("mask_prob", "dropout_input", "dropout_features"):
            problems += _check_prob(prefix, self, name)
        if self.logit_temperature <= 0:
            problems.append(
                f"`{prefix}logit_temperature` must be above 0, but is {self.logit_temperature}."
            )
        return problems


@dataclass(kw_only=True)
class CTCModelConfig:
    """A recogniser: the same encoder with one CTC head a language. The vocabularies are kept
    apart.
    """

    features: Features = Features.waveform
    """Front end."""
    fbank: FbankConfig = field(default_factory=FbankConfig)
    """Used with features=fbank."""
    waveform: WaveformConfig = field(default_factory=WaveformConfig)
    """Used with features=waveform."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Positions and Transformer."""
    feature_grad_scale: float = 0.0
    """Factor of the gradient that reaches the convolutions (0 keeps them as pretrained; from
    scratch they need 1)."""
    dropout_input: float = 0.0
    """Dropout of the projected features that enter the Transformer."""
    dropout_final: float = 0.0
    """Dropout before the head."""
    adapter_dim: int = field(default=0, metadata={LATER: True})
    """Width of the adapters that each language has after every layer; 0: none."""

    def validate(self, prefix: str = "") -> list[str]:
        """All problems of the model."""
        problems = _check_front_end(prefix, self)
        problems += _check_at_least(prefix, self, "feature_grad_scale", 0)
        problems += _check_at_least(prefix, self, "adapter_dim", 0)
        for name in ("dropout_input", "dropout_final"):
            problems += _check_prob(prefix, self, name)
        return problems


def _check_front_end(prefix: str, config: PretrainModelConfig | CTCModelConfig) -> list[str]:
    problems = config.encoder.validate(f"{prefix}encoder.")
    if config.features is Features.fbank:
        return problems + config.fbank.validate(f"{prefix}fbank.")
    return problems + config.waveform.validate(f"{prefix}waveform.")


def _check_at_least(prefix: str, config: object, name: str, smallest: int) -> list[str]:
    value = getattr(config, name)
    if value >= smallest:
        return []
    return [f"`{prefix}{name}` must be at least {smallest}, but is {value}."]


def _check_prob(prefix: str, config: object, name: str) -> list[str]:
    value = getattr(config, name)
    if 0.0 <= value < 1.0:
        return []
    return [f"`{prefix}{name}` must be at least 0 and below 1, but is {value}."]


def _check_divides(prefix: str, config: object, divisor: str, name: str) -> list[str]:
    number, value = getattr(config, divisor), getattr(config, name)
    if number < 1 or value % number == 0:
        return []
    return [
        f"`{prefix}{name}` must be a multiple of `{prefix}{divisor}` ({number}), but is {value}."
    ]
