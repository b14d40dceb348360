"""What a run that puts bottlenecks of codes into a model can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from speechvq.models.config import PretrainModelConfig
from speechvq.nn.places import Place, Site
from speechvq.training.config import Parallelism, TrainConfig, check_language
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.pretrain_config import PretrainConfig


@dataclass(kw_only=True)
class BottleneckTrainConfig(TrainConfig):
    """Finetuning with codebooks (Tamkin et al. 2023): a pretrained model by its contrastive loss, a
    recogniser by CTC with the heads that it has. `architecture` and `features` are the model's.
    """

    model: str | None = None
    """Model directory without bottlenecks, a pretrained one or a recogniser."""
    language: list[str] = field(default_factory=list)
    """Languages to learn from; empty: all of the recogniser, or of the corpus."""
    layers: list[int] = field(default_factory=list)
    """Layers that get bottlenecks, from 0; empty: all."""
    sites: list[Site] = field(default_factory=lambda: list(Site))
    """Where in a layer: `heads`, a codebook for each head; `feed_forward`; or both."""
    codebook_size: int = 512
    """Codes of each codebook (V)."""
    num_active: int = 8
    """Codes of each codebook that stand for a frame (k)."""
    num_active_start: int | None = None
    """k of the first update, from which it goes to `num_active` in equal ratios; null: no
    schedule."""
    num_active_steps: int = 1000
    """With `num_active_start`: updates until k is `num_active`."""
    kmeans_frames: int = 8192
    """Frames whose k-means centres the codes start on, and of which unused codes get some; 0: codes
    start at random."""
    restart_every: int = 200
    """Updates after which codes that no frame of a sample chooses are put on frames; 0: never."""
    restart_share: float = 0.6
    """Share of the steps in which codes restart, so that the last can settle."""
    auxiliary_weight: float = 1.0
    """Weight of the square distance of frames to means of codes (λ)."""
    dense: bool = False
    """The control: the same run without bottlenecks, so that what codes cost is not mistaken for
    what more training gives."""
    mask_prob: float = 0.0
    """Recognisers: share of frames that are starts of masked spans × span length."""
    channel_mask_prob: float = 0.0
    """Recognisers: the same over the channels of the encoder's input."""
    max_train_seconds: float | None = None
    """Recognisers: learn from a random, fixed subset with this much audio; null for all."""

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = super().validate()
        if self.model is None:
            problems.append("`model` is required: a model directory to put bottlenecks into.")
        if self.plan:
            problems.append("`plan` must be false: `finetune` or `pretrain` can plan such a run.")
        found = (check_language("language", code) for code in self.language)
        problems += [problem for problem in found if problem is not None]
        if self.parallelism is Parallelism.fsdp:
            problems.append("`parallelism` must be ddp for bottlenecks, but is fsdp.")
        if not self.sites or len(set(self.sites)) != len(self.sites):
            problems.append("`sites` must name heads, feed_forward, or both, each once.")
        if len(set(self.layers)) != len(self.layers) or min(self.layers, default=0) < 0:
            problems.append(
                f"`layers` must be numbers from 0, each once, or empty for all, but are "
                f"{self.layers}."
            )
        for name in ("num_active", "num_active_start"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= self.codebook_size:
                problems.append(
                    f"`{name}` must be from 1 to `codebook_size` ({self.codebook_size}), but is "
                    f"{value}."
                )
        if self.num_active_start is not None and not 1 <= self.num_active_steps <= self.steps:
            problems.append(
                f"`num_active_steps` must be from 1 to `steps` ({self.steps}) with "
                f"`num_active_start`, but is {self.num_active_steps}."
            )
        least = max(1, self.codebook_size)
        if self.kmeans_frames < least and (self.kmeans_frames or self.restart_every):
            problems.append(
                f"`kmeans_frames` must be at least `codebook_size` ({least}), or 0 with "
                f"`restart_every=0`, but is {self.kmeans_frames}."
            )
        if self.restart_every < 0:
            problems.append(f"`restart_every` must not be negative, but is {self.restart_every}.")
        if not 0 <= self.auxiliary_weight < math.inf:
            problems.append(
                f"`auxiliary_weight` must not be negative, but is {self.auxiliary_weight}."
            )
        if not 0 <= self.restart_share <= 1:
            problems.append(f"`restart_share` must be in [0, 1], but is {self.restart_share}.")
        for name in ("mask_prob", "channel_mask_prob"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"`{name}` must be in [0, 1), but is {getattr(self, name)}.")
        if self.max_train_seconds is not None and not 0 < self.max_train_seconds < math.inf:
            problems.append(
                f"`max_train_seconds` must be positive, or null, but is {self.max_train_seconds}."
            )
        return problems

    def list_places(self, num_layers: int) -> list[Place]:
        """The places of the bottlenecks in an encoder of so many layers; none if `dense`."""
        if self.dense:
            return []
        layers = sorted(self.layers) or range(num_layers)
        return [Place(layer, site) for layer in layers for site in Site if site in self.sites]

    def derive_pretraining(self, architecture: PretrainModelConfig) -> PretrainConfig:
        """The same run as pretraining that goes on from a model of this architecture."""
        shared = {one.name: getattr(self, one.name) for one in fields(TrainConfig)}
        shared |= {"architecture": architecture, "features": architecture.features}
        return PretrainConfig(**shared, init=self.model, languages=list(self.language))

    def derive_finetuning(self, languages: list[str], adapter_dim: int) -> FinetuneConfig:
        """The same run as finetuning of a recogniser that keeps its languages."""
        shared = {one.name: getattr(self, one.name) for one in fields(TrainConfig)}
        return FinetuneConfig(
            **shared,
            model=self.model,
            language=languages,
            adapter_dim=adapter_dim,
            keep_languages=True,
            freeze_steps=0,
            mask_prob=self.mask_prob,
            channel_mask_prob=self.channel_mask_prob,
            max_train_seconds=self.max_train_seconds,
        )
