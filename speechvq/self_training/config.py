"""What self-training can be told; imports neither torch nor Hydra."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from speechvq.training.finetune_config import ALL, FinetuneConfig

AGREEMENTS = ("auto", "lm", "speed", "none")
STARTS = ("pretrained", "teacher")
DECODERS = ("beam", "reference")
_SHARES = ("min_confidence", "min_word_confidence", "min_agreement")


@dataclass(kw_only=True)
class SelfTrainConfig(FinetuneConfig):
    """Rounds of labelling and finetuning; every key of `finetune` is that of each round."""

    model: str | None = None
    """Recogniser to begin with; null: one that is finetuned first on the transcribed speech."""
    pretrained: str | None = None
    """Pretrained model that finetuning starts from; null learns from scratch."""
    start: str = "pretrained"
    """What each round's student starts from: `pretrained`, or the encoder of its `teacher`."""
    rounds: int = 3
    """Rounds at most."""
    patience: int = 1
    """Rounds in a row without a lower CER on dev that end the run."""
    corrections: list[str] = field(default_factory=list)
    """Tables that people corrected, as `doubtful.html` saves them: transcripts of every round."""
    lm: str | None = None
    """Language model that `train_lm` left: labels come from beam search with it."""
    decoder: str = "beam"
    """With `lm`: `beam` (flashlight-text), or `reference` (slow, needs no package)."""
    agreement: str = "auto"
    """The second decoding: `lm`, the greedy one beside that with `lm`; `speed`, the audio a tenth
    faster; `none`; `auto`: `lm` where there is one, else `speed`."""
    keep_share: list[float] = field(default_factory=lambda: [0.4, 0.6, 0.8])
    """Share of the untranscribed audio, the surest first, that each round keeps at most; the last
    value holds for further rounds."""
    min_confidence: float = 0.3
    """Least mean probability of a segment's letters; recognisers differ in how sure they are of the
    same error rate, so that `keep_share` is the better measure."""
    min_word_confidence: float = 0.0
    """Least confidence of a segment's most doubtful word."""
    min_agreement: float = 0.4
    """Least share of letters that two decodings have in common."""
    min_lm_score: float | None = None
    """Least natural log-probability a letter, word boundaries included, with `lm`; null: that of
    letters drawn evenly."""
    rate_margin: float = 1.25
    """Letters a second may leave the range of the transcribed speech (its middle 98 %) by this
    factor."""
    recognize_seconds: float = 120.0
    """Seconds of audio that are recognised at a time; no result depends on it."""
    device: str = "auto"
    """Where segments are recognised: `cpu`, `cuda`, …; `auto` takes a GPU where there is one."""
    num_doubtful: int = 200
    """Most segments in `doubtful.html`."""
    doubtful_megabytes: float = 20.0
    """Most audio in `doubtful.html`."""

    @property
    def is_pretrained(self) -> bool:
        """Whether weights have learned before a round's finetuning."""
        return self.pretrained is not None or self.model is not None

    @property
    def code(self) -> str:
        """The language; there is one."""
        return self.language[0]

    @property
    def second_decoding(self) -> str:
        """`lm`, `speed` or `none`."""
        if self.agreement != "auto":
            return self.agreement
        return "lm" if self.lm is not None else "speed"

    def get_keep_share(self, number: int) -> float:
        """Return the share of a round, counted from 1."""
        return self.keep_share[min(number, len(self.keep_share)) - 1]

    def create_finetune_config(
        self, output: Path, *, model: str | None, labels: list[str]
    ) -> FinetuneConfig:
        """Return the finetuning of a round.

        Args:
            output: Directory of its run.
            model: What it starts from.
            labels: Tables of the texts that the corpus lacks.
        """
        values = {item.name: getattr(self, item.name) for item in fields(FinetuneConfig)}
        values |= {"output": str(output), "model": model, "labels": labels}
        return FinetuneConfig(**values)

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = super().validate()
        if len(self.language) > 1 or self.language == [ALL]:
            problems.append(
                f"`language` must be one language for self-training, but is {self.language}."
            )
        if self.keep_languages:
            problems.append("`keep_languages` must be false for self-training, but is true.")
        for name, values in (("agreement", AGREEMENTS), ("start", STARTS), ("decoder", DECODERS)):
            if getattr(self, name) not in values:
                problems.append(
                    f"`{name}` must be one of {', '.join(values)}, but is {getattr(self, name)!r}."
                )
        if self.agreement == "lm" and self.lm is None:
            problems.append("`agreement=lm` compares with a language model: give `lm=DIR`.")
        for name in ("rounds", "patience"):
            if getattr(self, name) < 1:
                problems.append(f"`{name}` must be at least 1, but is {getattr(self, name)}.")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"`{name}` must be in [0, 1], but is {getattr(self, name)}.")
        if not self.keep_share or any(not 0 < share <= 1 for share in self.keep_share):
            problems.append(f"`keep_share` must be in (0, 1], but is {self.keep_share}.")
        if self.min_lm_score is not None and not -math.inf < self.min_lm_score <= 0:
            problems.append(
                f"`min_lm_score` must be a logarithm, at most 0, but is {self.min_lm_score}."
            )
        if self.min_lm_score is not None and self.lm is None:
            problems.append("`min_lm_score` is the score of a language model: give `lm=DIR`.")
        if not 1 <= self.rate_margin < math.inf:
            problems.append(f"`rate_margin` must be at least 1, but is {self.rate_margin}.")
        if not self.recognize_seconds > 0:
            problems.append(
                f"`recognize_seconds` must be positive, but is {self.recognize_seconds}."
            )
        for name in ("num_doubtful", "doubtful_megabytes"):
            if not getattr(self, name) >= 0:
                problems.append(f"`{name}` must not be negative, but is {getattr(self, name)}.")
        if self.plan:
            problems.append(
                "`plan` is a key of `finetune`: `speechvq finetune … plan=true` says what each "
                "round costs."
            )
        return problems
