"""What a pretraining run can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from speechvq.models.config import Features, GumbelConfig, SimVQConfig, VQConfig
from speechvq.training.config import Parallelism, TrainConfig, check_language


class QuantizerInit(Enum):
    """Where the codebooks of a new model start."""

    auto = "auto"
    random = "random"
    kmeans = "kmeans"


class HealthAction(Enum):
    """What a run does when its codebook collapses."""

    warn = "warn"
    stop = "stop"
    restart = "restart"
    slow = "slow"


@dataclass(kw_only=True)
class HealthConfig:
    """When a codebook counts as collapsing, and what happens then."""

    min_perplexity_share: float = 0.05
    """Alarm when a codebook's perplexity is below this share of its entries."""
    max_equal_share: float = 0.3
    """Alarm when a larger share of the distractors equal their target."""
    max_dead_share: float = 0.8
    """Alarm when a larger share of a codebook's entries is dead: never chosen by 20 frames an
    entry."""
    patience: int = 3
    """Unhealthy intervals of `log_every` steps in a row before the alarm."""
    action: HealthAction = HealthAction.warn
    """warn: say so; stop: end the run with exit code 3, its last healthy state kept; restart: put
    unused entries on frames of the corpus; slow: halve the learning rate."""

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = []
        for name in ("min_perplexity_share", "max_equal_share", "max_dead_share"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"`health.{name}` must be in [0, 1], but is {getattr(self, name)}.")
        if self.patience < 1:
            problems.append(f"`health.patience` must be at least 1, but is {self.patience}.")
        return problems


@dataclass(kw_only=True)
class PretrainConfig(TrainConfig):
    """Contrastive pretraining on untranscribed speech (wav2vec 2.0, section 3)."""

    languages: list[str] = field(default_factory=list)
    """Languages to use; empty for all."""
    init: str | None = None
    """Model directory to go on from, such as `speechvq import` makes; `architecture` follows it. A
    kept Gumbel quantiser stays at its `temperature_end`; the optimiser starts anew."""
    old_corpus: list[str] = field(default_factory=list)
    """With `init`: corpora of the earlier run, whose dev split is validated on as well, before the
    first update and to the end, to show what is forgotten."""
    quantizer_init: QuantizerInit = QuantizerInit.auto
    """New codebooks start on k-means centroids of the corpus's frames, or as published at random;
    auto: kmeans for filter banks and after `init`, random for waveforms, whose features mean
    nothing before training."""
    health: HealthConfig = field(default_factory=HealthConfig)
    """When a codebook counts as collapsing, and what happens then."""

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = [
            *super().validate(),
            *self.architecture.validate(),
            *self.health.validate(),
            *self._check_health(),
        ]
        found = (check_language("languages", code) for code in self.languages)
        problems.extend(problem for problem in found if problem is not None)
        is_kmeans = self.quantizer_init is QuantizerInit.kmeans
        if is_kmeans and self.features is Features.waveform and self.init is None:
            problems.append(
                "`quantizer_init` must be random with `features=waveform`, whose features mean "
                "nothing before training, but is kmeans."
            )
        if self.old_corpus and self.init is None:
            problems.append(
                "`old_corpus` must be empty without `init`: nothing was learned before."
            )
        layer_drop_prob = self.architecture.encoder.layer_drop_prob
        if self.parallelism is Parallelism.fsdp and layer_drop_prob:
            problems.append(
                "`architecture.encoder.layer_drop_prob` must be 0 with `parallelism=fsdp`, whose "
                f"ranks have to run the same layers, but is {layer_drop_prob}."
            )
        return problems

    def _check_health(self) -> list[str]:
        problems = []
        health = self.health
        quantizer = self.architecture.quantizer
        moves_entries = isinstance(quantizer, (GumbelConfig, VQConfig))
        if health.action is HealthAction.restart and (
            isinstance(quantizer, SimVQConfig) or not moves_entries
        ):
            problems.append(
                "`health.action` must not be restart with this `quantizer`, whose entries cannot "
                "be moved one by one."
            )
        if health.action is HealthAction.restart and self.parallelism is Parallelism.fsdp:
            problems.append(
                "`health.action` must not be restart with `parallelism=fsdp`, whose ranks hold "
                "parts of the codebooks."
            )
        span = health.patience * self.log_every
        kept = self.checkpoint_every * (self.keep_checkpoints - 1)
        if health.action is HealthAction.stop and span > kept:
            problems.append(
                "`health.patience` × `log_every` must be at most `checkpoint_every` × "
                f"(`keep_checkpoints` - 1) = {kept} with `health.action=stop`, so that a healthy "
                f"checkpoint is left, but is {span}."
            )
        return problems
