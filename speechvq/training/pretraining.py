"""Contrastive pretraining of a run: corpus and configuration in, model directory and report out.

Source: wav2vec 2.0, section 3.
"""

from __future__ import annotations

import functools
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import torch
from fairseq2.gang import Gang
from fairseq2.optim.lr_schedulers import AbstractLRScheduler
from torch.nn import Module

from speechvq.data.index import CorpusIndex
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.rows import RowReader
from speechvq.errors import ConfigError
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import Features, GumbelConfig
from speechvq.models.directory import load_pretrain_model, save_model
from speechvq.models.pretrain_model import PretrainModel
from speechvq.nn.gumbel_quantizer import gumbel_temperature
from speechvq.training.batches import PretrainLoader
from speechvq.training.continuation import (
    check_init,
    find_kept,
    load_kept,
    read_fresh,
    summarize_forgetting,
)
from speechvq.training.engine import (
    Parts,
    Ranks,
    choose_precision,
    get_rank,
    get_world_size,
)
from speechvq.training.health import CodebookHealth, HealthGuard, describe_remedies
from speechvq.training.job import RecordedJob, find_last_lines, run_recorded
from speechvq.training.metrics import read_metrics
from speechvq.training.placement import collect_features, place_quantizer
from speechvq.training.pretrain_config import PretrainConfig, QuantizerInit
from speechvq.training.pretrain_data import PretrainData, load_pretrain_data
from speechvq.training.pretrain_units import PretrainEvalUnit, PretrainObjective, PretrainUnit
from speechvq.training.reader import PlannedReader
from speechvq.training.run_directory import RunDirectory
from speechvq.training.sampling import summarize_sampling
from speechvq.training.selection import describe_corpus


class PretrainJob(RecordedJob):
    """Pretraining, as the engine runs it.

    Args:
        config: The run's configuration.
        data: Its utterances.
        directory: Its files.
        source: The model of `init`.
    """

    def __init__(
        self,
        config: PretrainConfig,
        data: PretrainData,
        directory: RunDirectory,
        source: PretrainModel | None = None,
    ) -> None:
        super().__init__(config, directory)
        self._config = config
        self._data = data
        self._source = source
        self._keeps_quantizer = False
        self._model: PretrainModel | None = None
        self._health = CodebookHealth(config.health, config.architecture.quantizer.codebook_size)
        self._health_guard: HealthGuard | None = None
        self._last_step = directory.find_last_checkpoint()
        self._last_healthy_step = 0

    @property
    def has_static_graph(self) -> bool:
        """Whether every parameter gets a gradient in every step.

        Dropped layers get zeros; only a waveform front end whose gradient is off gets none.
        """
        architecture = self._config.architecture
        return architecture.features is Features.fbank or architecture.feature_grad_scale > 0

    def create_model(self) -> Module:
        """Create the model, from `init` or from random weights of the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._config.seed)
            model = create_pretrain_model(self._config.architecture)
        if self._source is not None:
            fresh = read_fresh(str(self._config.init))
            self._keeps_quantizer = load_kept(self._source, model, fresh).quantizer
        if self._places_quantizer() and self._directory.find_last_checkpoint() == 0:
            place_quantizer(
                model,
                self._data.train,
                seed=self._config.seed,
                alpha=self._config.batch.language_alpha,
                max_samples=round(self._config.batch.max_seconds * SAMPLE_RATE),
            )
        return model

    @property
    def validates_start(self) -> bool:
        """Whether there is something to forget."""
        return self._source is not None

    def _places_quantizer(self) -> bool:
        if self._keeps_quantizer:
            return False
        if self._config.quantizer_init is QuantizerInit.auto:
            return self._config.features is Features.fbank or self._source is not None
        return self._config.quantizer_init is QuantizerInit.kmeans

    def build(self, model: Module, data_parallel_model: Module, ranks: Ranks) -> Parts:
        """Create unit, readers and validation."""
        assert isinstance(model, PretrainModel)
        self._model = model
        languages = self._data.train.languages
        architecture = self._config.architecture
        objective = PretrainObjective(
            diversity_weight=architecture.diversity_weight,
            feature_penalty_weight=architecture.feature_penalty_weight,
            num_codebooks=architecture.quantizer.num_codebooks,
            codebook_size=architecture.quantizer.codebook_size,
            languages=languages,
            loss_name=f"{architecture.objective.value}_loss",
        )
        unit = PretrainUnit(
            data_parallel_model, objective, self._get_temperature, self._on_step, self._on_values
        )
        reader = self._create_pretrain_reader(model, self._data.train, ranks, is_training=True)
        splits = {"dev": self._data.dev, "old": self._data.old}
        splits = {name: index for name, index in splits.items() if len(index)}
        self._eval_splits = set(splits)
        eval_units = [
            PretrainEvalUnit(
                model,
                replace(objective, languages=index.languages),
                self._get_temperature,
                self._is_cancelled,
                name,
            )
            for name, index in splits.items()
        ]
        eval_readers = [
            self._create_pretrain_reader(model, index, ranks, is_training=False)
            for index in splits.values()
        ]
        return Parts(unit, reader, eval_units, eval_readers)

    def _create_pretrain_reader(
        self, model: PretrainModel, index: CorpusIndex, ranks: Ranks, *, is_training: bool
    ) -> PlannedReader[Any]:
        order = self._plan_order(self._config.batch.language_alpha, is_training=is_training)
        loader = PretrainLoader(
            index=index,
            rows=RowReader(index, capacity=2 * order.window),
            num_frames=model.num_frames,
            seed=order.seed,
            max_samples=order.max_samples,
            mask_prob=self._config.architecture.mask_prob,
            mask_length=self._config.architecture.mask_length,
            mask_min_spans=self._config.architecture.mask_min_spans,
            num_distractors=self._config.architecture.num_distractors,
        )
        return self._create_reader(index, order, loader, ranks, is_training=is_training)

    def _get_temperature(self, step: int) -> float:
        quantizer = self._config.architecture.quantizer
        if not isinstance(quantizer, GumbelConfig):
            return 1.0  # no other quantiser has a temperature
        if self._keeps_quantizer:
            return quantizer.temperature_end
        return gumbel_temperature(
            step,
            start=quantizer.temperature_start,
            end=quantizer.temperature_end,
            decay=quantizer.temperature_decay,
        )

    def connect(self, gang: Gang, scheduler: AbstractLRScheduler) -> None:
        """Guard the codebook on all ranks."""
        self._health_guard = HealthGuard(
            gang,
            self._config.health.action,
            self._config.log_every,
            slow_down=functools.partial(_halve_rate, scheduler),
            restart=self._restart_unused,
            roll_back=self._roll_back,
        )
        if gang.rank == 0:
            self._recall_health()

    def _recall_health(self) -> None:
        """Judge again what the run had judged when its last checkpoint was saved, so that it goes
        on as if it had not been interrupted; an alarm of that very step has not been acted on.
        """
        for line in read_metrics(self._directory.metrics):
            if line["split"] == "train" and line["step"] <= self._last_step:
                judgement = self._health.judge(line)
                if judgement.is_healthy:
                    self._last_healthy_step = line["step"]
                if judgement.is_alarm and line["step"] == self._last_step:
                    assert self._health_guard is not None
                    self._health_guard.raise_alarm(judgement.problems)

    def _on_step(self, step: int) -> None:
        self._last_step = step
        if self._health_guard is not None:
            self._health_guard.check(step)
        super()._on_step(step)

    def finish(self, step: int) -> None:
        """Act on an alarm of the last interval."""
        if self._health_guard is not None:
            self._health_guard.finish(step)

    def _on_values(self, values: MutableMapping[str, object]) -> None:
        """Judge the interval that ends at this step; on rank 0."""
        super()._on_values(values)
        if isinstance(self._config.architecture.quantizer, GumbelConfig):
            values["temperature"] = self._get_temperature(self._last_step)
        judgement = self._health.judge(values)
        if judgement.is_healthy:
            self._last_healthy_step = self._last_step
        if not judgement.is_alarm:
            return
        values["alarm"] = 1
        action = self._config.health.action
        print(
            f"  alarm: the codebook is collapsing: {'; '.join(judgement.problems)}. "
            f"`health.action={action.value}`. What helps: "
            f"{describe_remedies(self._config)}",
            flush=True,
        )
        if self._health_guard is not None:
            self._health_guard.raise_alarm(judgement.problems)

    def _restart_unused(self) -> None:
        """Put entries that no frame of a sample chooses on frames of it; the same on all ranks."""
        assert self._model is not None
        batch = self._config.batch
        features = collect_features(
            self._model,
            self._data.train,
            seed=self._config.seed + self._last_step,
            alpha=batch.language_alpha,
            max_samples=round(batch.max_seconds * SAMPLE_RATE),
        )
        quantizer = self._model.quantizer
        device = next(self._model.parameters()).device
        codes = quantizer.encode(features[None].to(device))[0].cpu()  # (N, G)
        counts = torch.stack(
            [torch.bincount(part, minlength=quantizer.codebook_size) for part in codes.t()]
        )
        generator = torch.Generator("cpu").manual_seed(self._config.seed + self._last_step)
        quantizer.restart(counts == 0, features, generator)

    def _roll_back(self) -> str:
        """Remove what was saved since the codebook was last healthy."""
        step = self._directory.drop_checkpoints(self._last_healthy_step)
        remedies = describe_remedies(self._config)
        if step == 0:
            return f"No state that was saved was healthy. In another `output`: {remedies}"
        return (
            f"The state of step {step}, when it was healthy, is kept in {self._directory.path}; "
            "`resume=extend` goes on from there with another `architecture.diversity_weight`. In "
            f"another `output`: {remedies}"
        )

    def is_saved(self, step: int) -> bool:
        """Tell whether the model directory is that of a step."""
        return self._directory.read_model_step() == step

    def save_final(self, model: Module, step: int) -> None:
        """Save the model directory."""
        assert isinstance(model, PretrainModel)
        save_model(
            self._directory.model,
            model,
            metrics=find_last_lines(self._directory),
            training=self._directory.describe_training(step),
            corpus=describe_corpus(self._data.train),
        )


def _halve_rate(scheduler: AbstractLRScheduler) -> None:
    """Halve the rate from now on; the scheduler's state keeps it over a resume."""
    scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]


def run_pretraining(config: PretrainConfig) -> RunDirectory:
    """Pretrain a model.

    Args:
        config: The run's configuration, validated.

    Returns:
        The run's directory, with `model/`, `summary.json` and `report.html`.

    Raises:
        ConfigError: `output` holds another run, or `init` does not fit `architecture`.
        DataError: There is nothing to learn from.
        InterruptedRunError: A signal ended the run; its state is saved.
        TrainingDivergedError: Updates were not finite; the last checkpoint is kept.
    """
    config = replace(config, precision=choose_precision(config.precision))
    directory = RunDirectory(config, "pretrain", rank=get_rank(), num_ranks=get_world_size())
    directory.check()
    source = None if config.init is None else load_pretrain_model(config.init)
    data = load_pretrain_data(config)
    notes = data.notes
    keeps_task = False  # losses of another task cannot be compared
    if source is not None:
        init = str(config.init)
        check_init(source.config, config.architecture, init)
        new_model = create_pretrain_model(config.architecture)
        kept = find_kept(source, new_model, read_fresh(init))
        if kept.quantizer and config.quantizer_init is QuantizerInit.kmeans:
            raise ConfigError(
                [
                    "`quantizer_init` must be auto with this `init`, whose codebooks are kept, but "
                    "is kmeans."
                ]
            )
        keeps_task = kept.task
        notes = [kept.describe(init), *notes]

    def describe() -> dict[str, Any]:
        lines = read_metrics(directory.metrics)
        facts: dict[str, Any] = {
            "verb": "pretrain",
            "sampling": summarize_sampling(lines, data.train, config.batch.language_alpha),
        }
        if keeps_task:
            facts["forgetting"] = summarize_forgetting(lines)
        return facts

    run_recorded(
        PretrainJob(config, data, directory, source),
        config,
        directory,
        index=data.train,
        notes=notes,
        title="Pretraining",
        facts=describe,
    )
    return directory
