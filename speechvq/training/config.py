"""What a training run can be told.

Torch-free dataclasses, composed by Hydra, mapped to fairseq2's by `training.engine`.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field
from enum import Enum

from speechvq.errors import DataError
from speechvq.languages import parse_language
from speechvq.models.config import (
    Features,
    PretrainModelConfig,
)
from speechvq.models.presets import create_preset

MISSING_VALUE = "???"
"""What a required key holds until the user gives it (the mark that OmegaConf uses, too)."""


class Precision(Enum):
    """Number format of the forward and backward pass; the weights stay in fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Schedule(Enum):
    """Learning-rate schedules, each after a linear warm-up."""

    linear = "linear"
    cosine = "cosine"
    tri_stage = "tri_stage"


class Resume(Enum):
    """What may change when a run directory is used again."""

    same = "same"
    extend = "extend"


class Parallelism(Enum):
    """How a model is spread over ranks."""

    ddp = "ddp"
    fsdp = "fsdp"


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW and its schedule."""

    lr: float = 1e-3
    """Peak learning rate."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.98
    """Decay of the second moment."""
    eps: float = 1e-6
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled weight decay, on matrices only (biases, norms and embeddings are left out)."""
    schedule: Schedule = Schedule.linear
    """Shape after the warm-up."""
    warmup_share: float = 0.08
    """Share of the steps over which the rate grows linearly (wav2vec 2.0: 8 %)."""
    hold_share: float = 0.0
    """`tri_stage` only: share of the steps at the peak rate."""
    final_lr_scale: float = 0.0
    """Rate at the last step, as a share of the peak."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = []
        # Written so that NaN, which compares false with everything, is refused as well.
        for name in ("lr", "eps", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                problems.append(f"`optimizer.{name}` must be positive, but is {value}.")
        if not 0 <= self.weight_decay < math.inf:
            problems.append(
                f"`optimizer.weight_decay` must not be negative, but is {self.weight_decay}."
            )
        for name in ("beta1", "beta2", "warmup_share", "hold_share"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                problems.append(f"`optimizer.{name}` must be in [0, 1), but is {value}.")
        if self.warmup_share + self.hold_share >= 1:
            problems.append(
                "`optimizer.warmup_share` + `optimizer.hold_share` must be below 1, but are "
                f"{self.warmup_share} + {self.hold_share}."
            )
        if not 0 <= self.final_lr_scale <= 1:
            problems.append(
                f"`optimizer.final_lr_scale` must be in [0, 1], but is {self.final_lr_scale}."
            )
        if self.schedule is Schedule.tri_stage and self.final_lr_scale == 0:
            problems.append(
                "`optimizer.final_lr_scale` must be positive with `optimizer.schedule=tri_stage`, "
                "whose decay is exponential, but is 0; fairseq's value is 0.05."
            )
        return problems


@dataclass(kw_only=True)
class BatchConfig:
    """Which utterances make a batch."""

    batch_seconds: float = 100.0
    """Seconds of audio in one batch on one rank, padding included."""
    num_accumulate: int = 1
    """Batches whose gradients are summed before an update."""
    min_seconds: float = 0.5
    """Shorter utterances are left out, and counted."""
    max_seconds: float = 15.6
    """Pretraining crops longer utterances to this; finetuning leaves them out, and counts them."""
    language_alpha: float = 0.7
    """Languages are drawn with p ∝ hours^alpha: 1 as they are, 0 all alike (IndicWav2Vec: 0.7)."""
    shuffle_window: int = 32
    """Row groups of the corpus that are shuffled together; more mixes better, costs memory."""
    num_workers: int = 1
    """Threads that decode and collate."""
    num_prefetch: int = 4
    """Batches kept ready."""

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = []
        for name in ("batch_seconds", "max_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                problems.append(f"`batch.{name}` must be positive, but is {getattr(self, name)}.")
        if not 0 <= self.min_seconds < self.max_seconds:
            problems.append(
                f"`batch.min_seconds` must be in [0, `batch.max_seconds` ({self.max_seconds})), "
                f"but is {self.min_seconds}."
            )
        if self.batch_seconds < self.max_seconds:
            problems.append(
                f"`batch.batch_seconds` must be at least `batch.max_seconds` ({self.max_seconds}), "
                f"so that one utterance fits, but is {self.batch_seconds}."
            )
        for name in ("num_accumulate", "shuffle_window", "num_workers", "num_prefetch"):
            if getattr(self, name) < 1:
                problems.append(f"`batch.{name}` must be at least 1, but is {getattr(self, name)}.")
        if not 0 <= self.language_alpha < math.inf:
            problems.append(
                f"`batch.language_alpha` must not be negative, but is {self.language_alpha}."
            )
        return problems


@dataclass(kw_only=True)
class TrainConfig:
    """What pretraining and finetuning have in common."""

    output: str = MISSING_VALUE
    """Directory of the run; the same command goes on where it stopped."""
    corpus: list[str] = field(default_factory=list)
    """Directories made by `prepare`."""
    train_split: str = "train"
    """Split to learn from."""
    dev_split: str = "dev"
    """Split to validate on; when the corpus has none, validation is left out, and said."""
    where: str | None = None
    """Rows to use, such as `source=noa_hindi`."""
    steps: int = 1000
    """Updates of the weights."""
    seed: int = 1
    """Decides initial weights, order, crops, masks, distractors, dropout."""
    precision: Precision = Precision.auto
    """Arithmetic of forward and backward pass; auto: bf16 on GPUs and CPUs with AMX, else fp32."""
    features: Features = Features.fbank
    """Front end: stacked log-mel filter banks, or convolutions on the waveform."""
    architecture: PretrainModelConfig = field(default_factory=lambda: create_preset("tiny"))
    """The model; a preset sets all of it, single fields can be overridden."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """Batches and sampling."""
    log_every: int = 25
    """Steps between lines of metrics."""
    validate_every: int = 250
    """Steps between validations; a multiple of `log_every`."""
    checkpoint_every: int = 250
    """Steps between checkpoints; a multiple of `log_every`."""
    keep_checkpoints: int = 2
    """Latest checkpoints kept for resuming."""
    max_dev_seconds: float = 1200.0
    """Validation uses at most this much audio per language, always the same."""
    parallelism: Parallelism = Parallelism.ddp
    """How ranks share the model when there are several."""
    activation_checkpointing: bool = False
    """Compute the insides of encoder layers again in the backward pass: the same result from less
    memory in about a third more time."""
    compile: bool = False
    """Compile encoder layers with `torch.compile`, which needs a C++ compiler and takes minutes to
    begin; numbers differ in the last digits."""
    num_threads: int | None = None
    """Threads of torch's own operations on the CPU; null lets fairseq2 divide the cores."""
    max_skipped_updates: int = 10
    """Non-finite updates in a row that end the run with exit code 3."""
    resume: Resume = Resume.same
    """`extend` lets a finished run go on with more `steps`."""
    tensorboard: bool = True
    """Write TensorBoard files to `engine/tb`."""
    wandb_project: str | None = None
    """Send metrics to this Weights & Biases project."""
    plan: bool = False
    """Say what the run would do and cost, and write nothing."""
    plan_gpus: int | None = None
    """Let the plan also speak of so many GPUs."""
    plan_gpu_hours_per_hour: float | None = None
    """Hours of audio that one such GPU trains on in an hour, as you have measured."""
    plan_efficiency: float = 0.9
    """Share of linear scaling that the plan assumes of several GPUs."""

    def validate(self) -> list[str]:
        """Return one sentence per impossible value."""
        problems = [*self.optimizer.validate(), *self.batch.validate()]
        if self.architecture.features is not self.features:
            features = self.architecture.features.value
            problems.append(
                f"`architecture.features` must be what `features` is ({self.features.value}), but "
                f"is {features}: set `features={features}` instead."
            )
        if self.output == MISSING_VALUE:
            problems.append("`output` is required: the directory of this run.")
        if not self.corpus:
            problems.append("`corpus` is required: a directory that `speechvq prepare` made.")
        for name in (
            "steps",
            "log_every",
            "validate_every",
            "checkpoint_every",
            "keep_checkpoints",
            "max_skipped_updates",
        ):
            if getattr(self, name) < 1:
                problems.append(f"`{name}` must be at least 1, but is {getattr(self, name)}.")
        if self.num_threads is not None and self.num_threads < 1:
            problems.append(
                f"`num_threads` must be at least 1, or null, but is {self.num_threads}."
            )
        if not 0 <= self.seed < 2**31:
            problems.append(f"`seed` must be in [0, {2**31}), but is {self.seed}.")
        if self.compile and not _has_compiler():
            problems.append(
                "`compile` needs a C++ compiler, but neither g++ nor clang++ is on the PATH: "
                "install one, or use `compile=false`."
            )
        problems.extend(self._check_plan())
        if not self.max_dev_seconds > 0:
            problems.append(f"`max_dev_seconds` must be positive, but is {self.max_dev_seconds}.")
        if self.log_every >= 1:
            for name in ("validate_every", "checkpoint_every"):
                if getattr(self, name) % self.log_every:
                    problems.append(
                        f"`{name}` must be a multiple of `log_every` ({self.log_every}), but is "
                        f"{getattr(self, name)}."
                    )
        return problems

    def _check_plan(self) -> list[str]:
        problems = []
        gpus, speed = self.plan_gpus, self.plan_gpu_hours_per_hour
        if (gpus is None) != (speed is None):
            problems.append(
                "`plan_gpus` and `plan_gpu_hours_per_hour` belong together: no GPU's speed is "
                "guessed."
            )
        if gpus is not None and gpus < 1:
            problems.append(f"`plan_gpus` must be at least 1, or null, but is {gpus}.")
        if speed is not None and not 0 < speed < math.inf:
            problems.append(f"`plan_gpu_hours_per_hour` must be positive, but is {speed}.")
        if not 0 < self.plan_efficiency <= 1:
            problems.append(f"`plan_efficiency` must be in (0, 1], but is {self.plan_efficiency}.")
        return problems


def check_language(key: str, code: str) -> str | None:
    """Return what is wrong with a language code, or None."""
    try:
        parse_language(code)
    except DataError as error:
        return f"`{key}`: {error}"
    return None


def _has_compiler() -> bool:
    """Tell whether there is a compiler that `torch.compile` can build its kernels with."""
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++"))
