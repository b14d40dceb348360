"""The bridge to fairseq2: our configuration becomes its sections, our job runs on its trainer.

fairseq2 supplies process groups, DDP and FSDP2, mixed precision, the step loop, checkpoints and
metric recorders. What it lacks is put in here: a finite guard, an end on SIGTERM, metrics in one
file, and logs without the environment's secrets. References: fairseq2 0.8.1, `Recipe`, `Trainer`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

# fairseq2.evaluator and fairseq2.recipe import each other; only this order works.
import fairseq2.recipe  # noqa: F401  # isort: split
import torch
from fairseq2.composition import register_model_family
from fairseq2.datasets import DataReader
from fairseq2.evaluator import EvalUnit
from fairseq2.gang import Gang, GangError, Gangs
from fairseq2.metrics.recorders import MetricRecorder
from fairseq2.nn.data_parallel import get_data_parallel_facade
from fairseq2.optim.lr_schedulers import AbstractLRScheduler
from fairseq2.recipe.base import Recipe, RecipeContext
from fairseq2.recipe.config import (
    ADAMW_OPTIMIZER,
    COSINE_ANNEALING_LR,
    POLYNOMIAL_DECAY_LR,
    TRI_STAGE_LR,
    ActivationCheckpointingConfig,
    AdamWConfig,
    AdamWGroupConfig,
    CommonSection,
    CompileOptions,
    CosineAnnealingLRConfig,
    GangSection,
    GradAccumulationConfig,
    LRSchedulerSection,
    MetricRecordersConfig,
    MixedPrecisionConfig,
    ModelSection,
    OptimizerSection,
    PolynomialDecayLRConfig,
    RegimeSection,
    TensorBoardConfig,
    TorchConfig,
    TrainerSection,
    TriStageLRConfig,
    WandbConfig,
)
from fairseq2.recipe.run import run
from fairseq2.runtime.dependency import DependencyContainer
from fairseq2.task import Task
from fairseq2.trainer import Trainer, TrainUnit
from torch.distributed import DistError
from torch.nn import Module
from typing_extensions import override

from speechvq.errors import InterruptedRunError, LostRankError
from speechvq.training.checkpoint_writer import CheckpointWriter, Committing
from speechvq.training.config import OptimizerConfig, Precision, Schedule, TrainConfig
from speechvq.training.guards import FiniteGuard, StopRequest
from speechvq.training.rank_watch import RankWatch, describe_loss
from speechvq.training.run_ends import RunEnds
from speechvq.training.wrapping import (
    apply_checkpointing,
    apply_fsdp,
    compile_layers,
    unshard_model,
)

FAMILY = "speechvq"
"""Name of our model family inside fairseq2."""

NO_DECAY = r"(.*bias$)|(.*norm.*)|(.*mask_embedding.*)|(.*weight_g$)|(.*original0$)"
"""Parameters without weight decay.

Biases, norms, the mask embedding, and gains of weight-normed convolutions.
"""


@dataclass
class FamilyConfig:
    """What fairseq2 knows of our model; the model itself is built by the job."""

    description: str = "see ../config.json"


@dataclass(kw_only=True)
class EngineConfig:
    """fairseq2's sections of a training recipe."""

    model: ModelSection
    gang: GangSection = field(default_factory=GangSection)
    trainer: TrainerSection
    optimizer: OptimizerSection
    lr_scheduler: LRSchedulerSection
    regime: RegimeSection
    common: CommonSection


@dataclass(frozen=True)
class Parts:
    """What a job hands to the trainer."""

    unit: TrainUnit[Any]
    reader: DataReader[Any]
    eval_units: Sequence[EvalUnit[Any]]
    eval_readers: Sequence[DataReader[Any]]


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the data."""

    rank: int
    world_size: int
    device: torch.device


class Job(Protocol):
    """A training task, told to the engine."""

    stop: StopRequest | None
    """Set by the engine before `build` is called."""
    guard: FiniteGuard | None
    """Set by the engine before the first step."""

    @property
    def has_static_graph(self) -> bool:
        """Whether every parameter takes part in every step."""

    @property
    def validates_start(self) -> bool:
        """Whether to validate before the first step as well."""

    def create_model(self) -> Module:
        """Create the model with its first weights, the same on every rank."""

    def build(self, model: Module, data_parallel_model: Module, ranks: Ranks) -> Parts:
        """Create unit, readers and validation."""

    def connect(self, gang: Gang, scheduler: AbstractLRScheduler) -> None:
        """Receive what acts on all ranks, before the first step."""

    def save_final(self, model: Module, step: int) -> None:
        """Save what the run leaves, at its last step; on rank 0."""

    def is_validated(self, step: int) -> bool:
        """Tell whether the metrics hold the validation of a step."""

    def is_saved(self, step: int) -> bool:
        """Tell whether the run has left what it leaves after its last step."""


def get_rank() -> int:
    """Return the rank of this process, as torchrun and Slurm say."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def get_world_size() -> int:
    """Return the number of processes of this run, as torchrun and Slurm say."""
    return int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))


def choose_precision(precision: Precision) -> Precision:
    """Return what `auto` means on this machine: bf16 where it has hardware of its own.

    A CPU without AMX multiplies bf16 matrices slower than fp32 ones (docs/results.md).
    """
    if precision is not Precision.auto:
        return precision
    if torch.cuda.is_available() or torch.cpu._is_amx_tile_supported():
        return Precision.bf16
    return Precision.fp32


def create_engine_config(config: TrainConfig) -> EngineConfig:
    """Map our configuration to fairseq2's sections."""
    is_fp32 = config.precision is Precision.fp32
    return EngineConfig(
        model=ModelSection(
            family=FAMILY,
            compile=config.compile,
            compile_options=CompileOptions(dynamic=True),  # batches differ in length
        ),
        trainer=TrainerSection(
            activation_checkpointing=ActivationCheckpointingConfig(
                mode="layerwise" if config.activation_checkpointing else "off"
            ),
            data_parallelism=config.parallelism.value,
            mixed_precision=MixedPrecisionConfig(
                mode="off" if is_fp32 else "auto",
                dtype=torch.float32 if is_fp32 else torch.bfloat16,
            ),
            grad_accumulation=GradAccumulationConfig(num_batches=config.batch.num_accumulate),
            max_grad_norm=config.optimizer.max_grad_norm,
        ),
        optimizer=OptimizerSection(
            name=ADAMW_OPTIMIZER, config=_create_adamw_config(config.optimizer)
        ),
        lr_scheduler=_create_schedule(config.optimizer, config.steps),
        regime=RegimeSection(
            num_steps=config.steps,
            validate_every_n_steps=config.validate_every,
            checkpoint_every_n_steps=config.checkpoint_every,
            keep_last_n_checkpoints=config.keep_checkpoints,
            publish_metrics_every_n_steps=config.log_every,
        ),
        common=CommonSection(
            seed=config.seed,
            no_sweep_dir=True,
            torch=TorchConfig(num_threads=config.num_threads),
            metric_recorders=MetricRecordersConfig(
                tensorboard=TensorBoardConfig(enabled=config.tensorboard),
                wandb=WandbConfig(
                    enabled=config.wandb_project is not None, project=config.wandb_project
                ),
            ),
        ),
    )


def _create_adamw_config(optimizer: OptimizerConfig) -> AdamWConfig:
    return AdamWConfig(
        lr=optimizer.lr,
        betas=(optimizer.beta1, optimizer.beta2),
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        groups=[AdamWGroupConfig(params=NO_DECAY, weight_decay=0.0)],
    )


def _create_schedule(optimizer: OptimizerConfig, steps: int) -> LRSchedulerSection:
    num_warmup = max(1, round(optimizer.warmup_share * steps)) if optimizer.warmup_share else 0
    num_warmup = min(num_warmup, steps - 1)  # fairseq2 wants a step left for the decay
    scale = optimizer.final_lr_scale
    match optimizer.schedule:
        case Schedule.linear:
            return LRSchedulerSection(
                name=POLYNOMIAL_DECAY_LR,
                config=PolynomialDecayLRConfig(
                    num_warmup_steps=num_warmup, final_lr=scale * optimizer.lr
                ),
            )
        case Schedule.cosine:
            return LRSchedulerSection(
                name=COSINE_ANNEALING_LR,
                config=CosineAnnealingLRConfig(
                    num_warmup_steps=num_warmup,
                    final_lr=scale * optimizer.lr,
                    final_lr_scale=None,
                ),
            )
        case Schedule.tri_stage:
            shares = (optimizer.warmup_share, optimizer.hold_share)
            return LRSchedulerSection(
                name=TRI_STAGE_LR,
                config=TriStageLRConfig(
                    stage_ratio=(*shares, 1 - sum(shares)), final_lr_scale=scale
                ),
            )


class EngineRecipe(Recipe):
    """Runs a job as a fairseq2 recipe.

    Args:
        job: What to train.
        config: Our configuration.
        recorder: Receives the metrics on rank 0.
    """

    def __init__(self, job: Job, config: TrainConfig, recorder: MetricRecorder) -> None:
        self._job = job
        self._config = config
        self._recorder = recorder
        self.trainer: Trainer | None = None
        self.watch: RankWatch | None = None

    @property
    @override
    def config_kls(self) -> type[object]:
        return EngineConfig

    @override
    def has_static_autograd_graph(self, context: RecipeContext) -> bool:
        return self._job.has_static_graph

    @override
    def register(self, container: DependencyContainer) -> None:
        # fairseq2 logs the whole environment, tokens included, before the task is made.
        _set_log_level(logging.WARNING)
        register_model_family(
            container,
            FAMILY,
            Module,
            FamilyConfig,
            factory=lambda config: self._job.create_model(),
            supports_meta=False,
            compiler=compile_layers,
            fsdp_applier=apply_fsdp,
            layerwise_ac_applier=apply_checkpointing,
        )
        container.collection.register(
            MetricRecorder,  # type: ignore[type-abstract]
            lambda resolver: self._recorder,
        )

    @override
    def create_task(self, context: RecipeContext) -> Task:
        _set_log_level(logging.INFO)
        gangs = context.gangs
        self.watch = RankWatch(gangs.root.rank, gangs.root.size)
        self.watch.start()
        stop = StopRequest(gangs.root)
        self._job.stop = stop
        model = context.get_model()
        data_parallel_model = context.get_data_parallel_model()
        ranks = Ranks(gangs.dp.rank, gangs.dp.size, gangs.device)
        parts = self._job.build(model, data_parallel_model, ranks)
        trainer = context.create_trainer(
            parts.unit, parts.reader, list(parts.eval_units), list(parts.eval_readers)
        )
        self.trainer = trainer
        stop.install(trainer)
        CheckpointWriter(gangs.root).install(cast(Committing, context.get_checkpoint_manager()))
        guard = FiniteGuard(
            gangs.root,
            self._config.max_skipped_updates,
            lambda: f"step {trainer.step_nr}",
        )
        self._job.guard = guard
        context.get_optimizer().register_step_pre_hook(guard)
        scheduler = context.get_lr_scheduler()
        assert isinstance(scheduler, AbstractLRScheduler)
        self._job.connect(gangs.root, scheduler)
        ends = RunEnds(
            gangs.root,
            self._config.steps,
            scheduler,
            needs_validation=lambda step: (
                bool(parts.eval_units) and self._has_lost_validation(step)
            ),
            needs_start=lambda: (
                bool(parts.eval_units)
                and self._job.validates_start
                and not self._job.is_validated(0)
            ),
            needs_model=lambda step: not self._job.is_saved(step),
            save=functools.partial(self._save, model, data_parallel_model, gangs),
        )
        ends.install(trainer)
        return trainer

    def _save(self, model: Module, data_parallel_model: Module, gangs: Gangs, step: int) -> None:
        """Save the model on rank 0; all ranks bring their parameters."""
        with get_data_parallel_facade(data_parallel_model).summon_full_parameters():
            if gangs.root.rank == 0:
                self._job.save_final(unshard_model(model, self._job.create_model), step)

    def _has_lost_validation(self, step: int) -> bool:
        """Tell whether a kill came between a step's checkpoint and the end of its validation."""
        if step % self._config.validate_every and step < self._config.steps:
            return False
        return not self._job.is_validated(step)


def run_job(job: Job, config: TrainConfig, recorder: MetricRecorder, output: Path) -> int:
    """Train until the configured step, or until a signal or a guard ends the run.

    Args:
        job: What to train.
        config: Our configuration.
        recorder: Receives the metrics on rank 0.
        output: Directory of the run; fairseq2's files go to `engine` below it.

    Returns:
        The last step.

    Raises:
        InterruptedRunError: SIGTERM or SIGINT ended the run; its state is saved.
        LostRankError: Another rank is gone; the last checkpoint is kept.
        TrainingDivergedError: The finite guard ended the run.
    """
    recipe = EngineRecipe(job, config, recorder)
    _set_log_level(logging.WARNING)
    has_failed = True
    try:
        with _hide_own_deprecations():
            run(
                recipe,
                create_engine_config(config),
                output / "engine",
                no_rich=True,
                no_progress=True,
            )
        has_failed = False
    except Exception as error:
        if get_world_size() > 1 and is_lost_rank(error):
            raise LostRankError(describe_loss([])) from error
        raise
    finally:
        if recipe.watch is not None:
            recipe.watch.stop(has_failed=has_failed)
        _close_log_files()
        if job.stop is not None:
            job.stop.restore()
    step = recipe.trainer.step_nr if recipe.trainer is not None else 0
    if job.stop is not None and job.stop.is_agreed and step < config.steps:
        raise InterruptedRunError(
            job.stop.signal_number,
            f"Stopped by signal {job.stop.signal_number} at step {step} of {config.steps}; "
            f"everything is saved in {output}. The same command goes on from there.",
        )
    return step


def is_lost_rank(error: BaseException | None) -> bool:
    """Tell whether a collective operation that failed is behind an error."""
    while error is not None:
        if isinstance(error, (GangError, DistError)) or "gloo/transport" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _set_log_level(level: int) -> None:
    """Set the level of fairseq2's log files; the console shows its warnings only."""
    logging.getLogger("fairseq2").setLevel(level)
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)


@contextlib.contextmanager
def _hide_own_deprecations() -> Iterator[None]:
    """Keep fairseq2's deprecations of its own code off the terminal: no user can mend them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_others(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not (issubclass(category, DeprecationWarning) and "fairseq2" in filename):
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_others
        yield


def _close_log_files() -> None:
    """Close this run's log files, so that a next one in this process does not write to them."""
    logger = logging.getLogger("fairseq2")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
