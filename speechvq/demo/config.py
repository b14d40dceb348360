"""What a user may set in the demo, and how large its two sizes are.

Torch-free. `speechvq.demo.stages` turns a `DemoPlan` into commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DemoPreset(StrEnum):
    """Size of the demo."""

    full = "full"
    """About ten minutes on two cores; the recognisers learn something."""
    ci = "ci"
    """About two minutes; proves that every stage runs, and nothing else."""


@dataclass(kw_only=True)
class DemoConfig:
    """Keys of `python -m recipes.demo`."""

    output: str = "demo"
    """Directory of everything that the demo makes; started again, it goes on where it stopped."""
    preset: DemoPreset = DemoPreset.full
    """`full` (about ten minutes on two cores) or `ci` (about two minutes)."""
    workers: int = 2
    """Processes that synthesise and prepare; changes nothing in the results."""
    seed: int = 1
    """Seed of sentences, voices and training."""

    def validate(self) -> list[str]:
        """One sentence for every value that cannot work."""
        problems = []
        if not self.output:
            problems.append("`output` must name a directory, but is empty.")
        if self.workers < 1:
            problems.append(f"`workers` must be at least 1, but is {self.workers}.")
        if self.seed < 0:
            problems.append(f"`seed` must not be negative, but is {self.seed}.")
        return problems


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """Amounts of one preset.

    Attributes:
        languages: Languages that are spoken and pretrained on.
        finetuned: Those of them that get a recogniser.
        num_train: Sentences per language in the train split.
        num_train_finetuned: The same for the finetuned languages.
        num_dev: Sentences per language in the dev split.
        num_test: Sentences per language in the test split.
        num_voices: Speakers per language and split, at most.
        pretrain: Keys of `pretrain` beyond the directories.
        finetune: Keys of `finetune` beyond the directories.
        expected_seconds: Wall time of each stage on two cores, for the progress line.
    """

    languages: tuple[str, ...]
    finetuned: tuple[str, ...]
    num_train: int
    num_train_finetuned: int
    num_dev: int
    num_test: int
    num_voices: int
    pretrain: tuple[str, ...]
    finetune: tuple[str, ...]
    expected_seconds: dict[str, float]


_INTERVALS_FULL = ("log_every=10", "validate_every=100", "checkpoint_every=100")
_INTERVALS_CI = ("log_every=4", "validate_every=8", "checkpoint_every=8")
_SHORT_BATCHES = ("batch.batch_seconds=24", "batch.max_seconds=10")

PLANS = {
    DemoPreset.full: DemoPlan(
        languages=(
            *("hin_Deva", "ben_Beng", "mar_Deva", "tam_Taml", "tel_Telu", "kan_Knda"),
            *("eng_Latn", "spa_Latn", "deu_Latn", "tur_Latn"),
        ),
        finetuned=("hin_Deva", "spa_Latn"),
        num_train=160,
        num_train_finetuned=320,
        num_dev=16,
        num_test=40,
        num_voices=16,
        pretrain=("preset=tiny", "features=fbank", "steps=300", *_SHORT_BATCHES, *_INTERVALS_FULL),
        finetune=("steps=350", *_SHORT_BATCHES, *_INTERVALS_FULL),
        expected_seconds={
            "synthesize": 15,
            "prepare": 30,
            "pretrain": 155,
            "finetune": 160,
            "evaluate": 10,
            "codes": 10,
        },
    ),
    DemoPreset.ci: DemoPlan(
        languages=(
            *("hin_Deva", "ben_Beng", "tam_Taml", "tel_Telu"),
            *("eng_Latn", "spa_Latn", "deu_Latn", "tur_Latn"),
        ),
        finetuned=("hin_Deva", "spa_Latn"),
        num_train=16,
        num_train_finetuned=32,
        num_dev=4,
        num_test=8,
        num_voices=6,
        pretrain=("preset=tiny", "features=fbank", "steps=8", *_SHORT_BATCHES, *_INTERVALS_CI),
        finetune=("steps=8", "freeze_steps=4", *_SHORT_BATCHES, *_INTERVALS_CI),
        expected_seconds={
            "synthesize": 3,
            "prepare": 8,
            "pretrain": 22,
            "finetune": 24,
            "evaluate": 8,
            "codes": 10,
        },
    ),
}
"""Amounts of each preset, set so that the whole stays within the preset's time on two cores."""
