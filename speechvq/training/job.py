"""What pretraining and finetuning tell the engine alike, and how a run begins and ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from fairseq2.gang import Gang
from fairseq2.optim.lr_schedulers import AbstractLRScheduler

from speechvq.data.index import CorpusIndex
from speechvq.data.order import OrderConfig, PlannedBatch, plan_epoch
from speechvq.data.records import SAMPLE_RATE
from speechvq.training.config import TrainConfig
from speechvq.training.engine import Job, Ranks, get_rank, run_job
from speechvq.training.freezing import RateGroup
from speechvq.training.guards import FiniteGuard, StopRequest
from speechvq.training.metrics import MetricsFile, find_validations, read_metrics
from speechvq.training.reader import PlannedReader
from speechvq.training.recorder import RunRecorder
from speechvq.training.report import write_run_report
from speechvq.training.run_directory import RunDirectory
from speechvq.training.selection import describe_index


class RecordedJob:
    """The parts of an engine's `Job` that do not depend on what is learned.

    Args:
        config: The run's configuration.
        directory: Its files.
    """

    def __init__(self, config: TrainConfig, directory: RunDirectory) -> None:
        self._batch = config.batch
        self._seed = config.seed
        self._directory = directory
        self.stop: StopRequest | None = None
        self.guard: FiniteGuard | None = None
        self._eval_splits = {"dev"}

    @property
    def validates_start(self) -> bool:
        """Whether to validate before the first step as well: new weights have nothing to show."""
        return False

    def is_validated(self, step: int) -> bool:
        """Tell whether the metrics hold all validations of a step."""
        return self._eval_splits <= find_validations(self._directory.metrics, step)

    def connect(self, gang: Gang, scheduler: AbstractLRScheduler) -> None:
        """Receive what acts on all ranks; nothing is needed of it by default."""

    @property
    def rate_groups(self) -> Sequence[RateGroup]:
        """Parameters that learn at a rate of their own; none by default."""
        return ()

    def is_enough(self, step: int) -> bool:
        """Tell whether to end after the validation of a step; never by default."""
        return False

    def finish(self, step: int) -> None:
        """Object to what the last step left; nothing is wrong with it by default."""

    def _plan_order(
        self, alpha: float, *, is_training: bool, mixes_languages: bool = True
    ) -> OrderConfig:
        """Return the order of training, or that of validation, the same for all runs."""
        return OrderConfig(
            seed=self._seed if is_training else 0,
            alpha=alpha if is_training else 1.0,
            batch_samples=round(self._batch.batch_seconds * SAMPLE_RATE),
            max_samples=round(self._batch.max_seconds * SAMPLE_RATE),
            window=self._batch.shuffle_window,
            mixes_languages=mixes_languages,
        )

    def _create_reader(
        self,
        index: CorpusIndex,
        order: OrderConfig,
        load: Callable[[PlannedBatch], Any],
        ranks: Ranks,
        *,
        is_training: bool,
    ) -> PlannedReader[Any]:
        return PlannedReader(
            functools.partial(plan_epoch, index, order),
            load,
            rank=ranks.rank,
            world_size=ranks.world_size,
            num_accumulate=self._batch.num_accumulate if is_training else 1,
            num_workers=self._batch.num_workers,
            num_prefetch=self._batch.num_prefetch,
            is_endless=is_training,
            is_cancelled=lambda: self.stop is not None and self.stop.agree(),
        )

    def _on_step(self, step: int) -> None:
        if self.stop is not None:
            self.stop.check(step)

    def _is_cancelled(self) -> bool:
        return self.stop is not None and self.stop.is_agreed

    def _on_values(self, values: MutableMapping[str, object]) -> None:
        if self.guard is not None and (number := self.guard.take_num_skipped()):
            values["skipped_updates"] = number


def run_recorded(
    job: Job,
    config: TrainConfig,
    directory: RunDirectory,
    *,
    index: CorpusIndex,
    notes: list[str],
    title: str,
    facts: Callable[[], dict[str, Any]],
) -> None:
    """Run a job from its first or last step to its end, then write its summary and its report.

    Args:
        job: What is learned.
        config: The run's configuration.
        directory: Its files, checked.
        index: Its training utterances.
        notes: What was left out or looks wrong, one sentence each.
        title: Heading of the report.
        facts: What the summary says of this kind of run, asked at the end.

    Raises:
        InterruptedRunError: A signal ended the run; its state is saved.
        TrainingDivergedError: Updates were not finite; the last checkpoint is kept.
    """
    directory.write_config()
    first_step = directory.find_last_checkpoint()
    is_main = get_rank() == 0
    if is_main:
        for note in notes:
            print(f"  note: {note}", flush=True)
    file = MetricsFile(directory.metrics, first_step + 1) if is_main else None
    step = run_job(job, config, RunRecorder(file, config.steps, first_step), directory.path)
    if not is_main:
        return
    lines = find_last_lines(directory)
    directory.write_summary(
        {
            **facts(),
            "steps": step,
            "seconds": lines.get("train", {}).get("total_time"),
            "corpus": describe_index(index),
            "notes": notes,
            **lines,
        }
    )
    write_run_report(directory.path, title=title)


def find_last_lines(directory: RunDirectory) -> dict[str, Any]:
    """Return the last line of metrics of each split."""
    return {line["split"]: line for line in read_metrics(directory.metrics)}
