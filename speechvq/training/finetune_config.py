"""What a finetuning run can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from speechvq.training.config import (
    MISSING_VALUE,
    Parallelism,
    Schedule,
    TrainConfig,
    check_language,
)

ALL = "all"
"""Instead of languages: all of which the corpus has transcripts."""

VOCABULARIES = ("character", "grapheme", "sentencepiece")
"""Kinds of labels."""


@dataclass(kw_only=True)
class FinetuneConfig(TrainConfig):
    """CTC finetuning of one language, or of several with a head each (wav2vec 2.0, section 3.3)."""

    model: str | None = None
    """Model directory to start from, a pretrained one or a recogniser; null trains from scratch,
    with `preset` and `features`."""
    language: list[str] = field(default_factory=list)
    """Language to recognise, such as `hin_Deva`; several get a head each on one encoder; `all`: all
    that the corpus has transcripts of."""
    vocabulary: str = "character"
    """Labels: `character` (code points), `grapheme` (clusters: what readers of Indic scripts take
    for one character), or `sentencepiece`."""
    grapheme_min_count: int = 3
    """Rarer clusters are spelled by their code points."""
    sentencepiece_size: int = 500
    """Pieces of a sentencepiece vocabulary."""
    adapter_dim: int = 0
    """Width of adapters, small bottlenecks a layer and language; the encoder stays frozen, so that
    one encoder serves many languages. 0: no adapters, all learns."""
    keep_languages: bool = False
    """With `adapter_dim` and a recogniser as `model`: keep its languages, which stay as they are
    to the bit."""
    freeze_steps: int = 200
    """Updates during which only the heads learn (with a pretrained model)."""
    thaw_every: int = 0
    """After `freeze_steps` one layer more learns every so many updates, from the top (Howard &
    Ruder 2018); 0: all at once."""
    freeze_layers: int = 0
    """So many layers from the bottom, and what is below, never learn (with a pretrained model)."""
    layer_decay: float = 1.0
    """Each layer learns at so many times the rate of the one above it; heads and adapters at
    `optimizer.lr` (Clark et al. 2020)."""
    reset_layers: int = 0
    """Top Transformer layers of a pretrained model that start from random weights: the last layers
    of a contrastive model serve its own task (Pasad et al. 2021)."""
    early_stop_patience: int = 0
    """End after so many validations without a better CER on dev; 0: never."""
    mask_prob: float = 0.5
    """Share of frames that are starts of masked spans × span length."""
    mask_length: int = 10
    """Frames in a masked span."""
    channel_mask_prob: float = 0.1
    """The same over the channels of the encoder's input."""
    channel_mask_length: int = 64
    """Channels in a masked span."""
    speeds: list[float] = field(default_factory=lambda: [1.0])
    """Training audio is played at one of these speeds, drawn per utterance and epoch."""
    dropout: float | None = None
    """Dropout of encoder and head; null: the encoder keeps the model's own, the head has none."""
    layer_drop_prob: float | None = None
    """LayerDrop of the encoder; null keeps the model's own."""
    max_train_seconds: float | None = None
    """Learn from a random, fixed subset with this much transcribed audio; null for all."""
    labels: list[str] = field(default_factory=list)
    """Tables of `id` and `text` that give text to further utterances of the training split; the
    vocabulary stays that of the transcribed ones."""
    allow_digits: bool = False
    """Use transcripts flagged for digits or literal pipes, too."""

    @property
    def is_pretrained(self) -> bool:
        """Whether weights have learned before."""
        return self.model is not None

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = [*super().validate(), *self._check_languages(), *self._check_freezing()]
        if self.parallelism is Parallelism.fsdp:
            # Tried with fairseq2 0.8.1 and torch 2.9.1: on a frozen encoder no head learns.
            problems.append("`parallelism` must be ddp for finetuning, but is fsdp.")
        if self.model is None:
            problems.extend(self.architecture.validate())
        if self.vocabulary not in VOCABULARIES:
            problems.append(
                f"`vocabulary` must be one of {', '.join(VOCABULARIES)}, but is "
                f"`{self.vocabulary}`."
            )
        for name in ("mask_prob", "channel_mask_prob", "dropout", "layer_drop_prob"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                problems.append(f"`{name}` must be in [0, 1), but is {value}.")
        for name in ("mask_length", "channel_mask_length", "grapheme_min_count"):
            if getattr(self, name) < 1:
                problems.append(f"`{name}` must be at least 1, but is {getattr(self, name)}.")
        if not self.speeds or any(not 0.5 <= speed <= 2 for speed in self.speeds):
            problems.append(f"`speeds` must be between 0.5 and 2, but are {self.speeds}.")
        if self.max_train_seconds is not None and not 0 < self.max_train_seconds < math.inf:
            problems.append(
                f"`max_train_seconds` must be positive, or null, but is {self.max_train_seconds}."
            )
        return problems

    def _check_languages(self) -> list[str]:
        if not self.language or MISSING_VALUE in self.language:
            return ["`language` is required, such as `language=hin_Deva`."]
        if self.language == [ALL]:
            return []
        found = [check_language("language", code) for code in self.language]
        problems = [problem for problem in found if problem is not None]
        if len(set(self.language)) != len(self.language):
            problems.append(f"`language` must name each language once, but is {self.language}.")
        return problems

    def _check_freezing(self) -> list[str]:
        problems = [
            f"`{name}` must not be negative, but is {getattr(self, name)}."
            for name in (
                "adapter_dim", "freeze_steps", "thaw_every", "freeze_layers", "reset_layers",
                "early_stop_patience",
            )
            if getattr(self, name) < 0
        ]  # fmt: skip
        if not 0 < self.layer_decay <= 1:
            problems.append(f"`layer_decay` must be in (0, 1], but is {self.layer_decay}.")
        optimizer = self.optimizer
        if (
            self.layer_decay != 1
            and optimizer.final_lr_scale > 0
            and optimizer.schedule is not Schedule.tri_stage
        ):
            problems.append(
                "`optimizer.final_lr_scale` must be 0 with `layer_decay`, unless "
                f"`optimizer.schedule` is tri_stage, but is {optimizer.final_lr_scale}."
            )
        if not self.is_pretrained:
            problems += [
                f"`{name}` must be 0 without `model`: weights that never learned are not kept as "
                f"they are, but it is {getattr(self, name)}."
                for name in ("adapter_dim", "thaw_every", "freeze_layers", "reset_layers")
                if getattr(self, name) > 0
            ]
        if self.adapter_dim > 0:
            problems += [
                f"`{name}` must be {rest} with `adapter_dim`, which keeps the encoder frozen, but "
                f"is {getattr(self, name)}."
                for name, rest in (
                    ("thaw_every", 0), ("freeze_layers", 0), ("reset_layers", 0), ("layer_decay", 1)
                )
                if getattr(self, name) != rest
            ]  # fmt: skip
        elif self.keep_languages:
            problems.append(
                "`keep_languages` needs `adapter_dim`: an encoder that learns leaves the heads of "
                "other languages behind."
            )
        return problems
