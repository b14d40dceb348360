"""The bridge to fairseq2: our job runs on its trainer.

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
from dataclasses import dataclass
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
from fairseq2.recipe.run import run
from fairseq2.runtime.dependency import DependencyContainer
from fairseq2.task import Task
from fairseq2.trainer import Trainer, TrainUnit
from torch.distributed import DistError
from torch.nn import Module
from typing_extensions import override

from speechvq.errors import InterruptedRunError, LostRankError
from speechvq.training.checkpoint_writer import CheckpointWriter, Committing
from speechvq.training.config import Precision, TrainConfig
from speechvq.training.freezing import RateGroup
from speechvq.training.guards import FiniteGuard, StopRequest
from speechvq.training.rank_watch import RankWatch, describe_loss
from speechvq.training.run_ends import RunEnds
from speechvq.training.sections import FAMILY, EngineConfig, FamilyConfig, create_engine_config
from speechvq.training.wrapping import (
    apply_checkpointing,
    apply_fsdp,
    compile_layers,
    unshard_model,
)


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

    @property
    def rate_groups(self) -> Sequence[RateGroup]:
        """Parameters that learn at a rate of their own."""

    def is_enough(self, step: int) -> bool:
        """Tell whether the run ends early, after the validation of a step; asked on rank 0."""

    def finish(self, step: int) -> None:
        """Object to what the last step left; on all ranks, before it is saved."""

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
            is_enough=self._job.is_enough,
            save=functools.partial(self._save, model, data_parallel_model, gangs),
        )
        ends.install(trainer)
        return trainer

    def _save(self, model: Module, data_parallel_model: Module, gangs: Gangs, step: int) -> None:
        """Save the model on rank 0; all ranks bring their parameters."""
        self._job.finish(step)
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
                create_engine_config(config, job.rate_groups),
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
