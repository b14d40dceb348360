"""Which parts of a recogniser learn at a step, and how fast: freezing, thawing, adapters, rates.

Sources: wav2vec 2.0, section 4.3 (the head alone first, the front end never); gradual unfreezing,
Howard & Ruder 2018, section 3.3; a rate that falls from layer to layer, Clark et al. 2020
(ELECTRA), appendix B; adapters on a frozen encoder, Bapna & Firat 2019, section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from torch import nn

from speechvq.models.config import EncoderConfig
from speechvq.models.ctc_model import CTCModel
from speechvq.training.finetune_config import FinetuneConfig


@dataclass(frozen=True, kw_only=True)
class FreezingSchedule:
    """Which layers of an encoder learn at a step.

    Attributes:
        is_pretrained: Whether the weights have learned before: otherwise all learns always.
        num_head_steps: First steps, in which the encoder does not learn.
        thaw_every: Steps until the next layer from the top learns; 0: all at once.
        num_fixed_layers: Layers from the bottom that never learn.
        has_adapters: Whether the whole encoder never learns.
    """

    is_pretrained: bool
    num_head_steps: int = 0
    thaw_every: int = 0
    num_fixed_layers: int = 0
    has_adapters: bool = False

    @classmethod
    def of(cls, config: FinetuneConfig) -> Self:
        """Return the schedule of a run."""
        return cls(
            is_pretrained=config.is_pretrained,
            num_head_steps=config.freeze_steps,
            thaw_every=config.thaw_every,
            num_fixed_layers=config.freeze_layers,
            has_adapters=config.adapter_dim > 0,
        )

    def count_learning_layers(self, step: int, num_layers: int) -> int:
        """Return how many layers learn at a step, counted from the top.

        Args:
            step: Number of the step, from 1.
            num_layers: L.

        Returns:
            0 to L. What is below the first layer learns with the last of L only.
        """
        if not self.is_pretrained:
            return num_layers
        if self.has_adapters or step <= self.num_head_steps:
            return 0
        most = max(0, num_layers - self.num_fixed_layers)
        if not self.thaw_every:
            return most
        return min(most, 1 + (step - self.num_head_steps - 1) // self.thaw_every)

    def find_full_step(self, num_layers: int) -> int:
        """Return the first step at which all learns that ever will."""
        if not self.is_pretrained or self.has_adapters:
            return 1
        waves = max(0, num_layers - self.num_fixed_layers - 1) if self.thaw_every else 0
        return self.num_head_steps + 1 + waves * self.thaw_every

    def apply(self, model: CTCModel, step: int, languages: Iterable[str]) -> None:
        """Let the parts of a model learn that shall at a step, and no others.

        Args:
            model: Its `requires_grad` are set.
            step: Number of the step, from 1.
            languages: Those that are learned; heads and adapters of others stay as they are.
        """
        model.requires_grad_(False)
        for language in languages:
            for part in model.get_parts(language):
                part.requires_grad_(True)
        layers = model.encoder.transformer.layers
        num_learning = self.count_learning_layers(step, len(layers))
        for number, layer in enumerate(layers):
            layer.requires_grad_(number >= len(layers) - num_learning)
        norm_first = model.encoder.transformer.norm_first
        if num_learning > 0 and norm_first:  # the norm after the last layer
            model.encoder.transformer.norm.requires_grad_(True)
        if num_learning == len(layers):
            self._let_bottom_learn(model.encoder)

    def _let_bottom_learn(self, encoder: nn.Module) -> None:
        for name, parameter in encoder.named_parameters():
            is_front_end = name.startswith("front_end.")
            if not name.startswith("transformer.layers.") and not (
                is_front_end and self.is_pretrained
            ):
                parameter.requires_grad_(True)


@dataclass(frozen=True)
class RateGroup:
    """Parameters that learn at a rate of their own.

    Attributes:
        pattern: Regular expression that matches the beginning of their names.
        scale: Their rate as a share of `optimizer.lr`.
    """

    pattern: str
    scale: float


def create_rate_groups(encoder: EncoderConfig, decay: float) -> list[RateGroup]:
    """Return the groups of an encoder whose rate falls from layer to layer.

    Args:
        encoder: Its shape.
        decay: Rate of a layer as a share of that of the layer above; 1 for no groups.

    Returns:
        Layer i of L, from 1, at decay^(L + 1 - i); what is below at decay^(L + 1).
    """
    if decay == 1:
        return []
    num_layers = encoder.num_layers
    layers = [
        RateGroup(rf".*encoder\.transformer\.layers\.{number}\.", decay ** (num_layers - number))
        for number in range(num_layers)
    ]
    below = r".*encoder\.(?!transformer\.)" if encoder.norm_first else r".*encoder\."
    return [*layers, RateGroup(below, decay ** (num_layers + 1))]
