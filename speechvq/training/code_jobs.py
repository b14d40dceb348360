"""The jobs of pretraining and finetuning, with bottlenecks of codes; `run_bottleneck`."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch.nn import Module

from speechvq.errors import ConfigError
from speechvq.models.bottlenecks import bottlenecks_to_json
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_model
from speechvq.models.pretrain_model import PretrainModel
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.training.bottleneck_config import BottleneckTrainConfig
from speechvq.training.code_training import CodeTraining
from speechvq.training.engine import Parts, Ranks, choose_precision, get_rank, get_world_size
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.finetuning import FinetuneJob
from speechvq.training.job import run_recorded
from speechvq.training.label_overlay import note_unknown_letters
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.pretrain_data import PretrainData, load_pretrain_data
from speechvq.training.pretraining import PretrainJob
from speechvq.training.recognition_data import (
    RecognitionData,
    create_recognizer_model,
    load_recognition_data,
    select_language,
)
from speechvq.training.run_directory import RunDirectory


class CodePretrainJob(PretrainJob):
    """Contrastive pretraining that goes on with bottlenecks; see `PretrainJob` for the others.

    Args:
        codes: What the bottlenecks need.
    """

    def __init__(
        self,
        config: PretrainConfig,
        data: PretrainData,
        directory: RunDirectory,
        source: PretrainModel,
        codes: CodeTraining,
    ) -> None:
        super().__init__(config, data, directory, source)
        self._codes = codes

    def create_model(self) -> Module:
        """Create the model with its bottlenecks."""
        model = super().create_model()
        self._codes.attach(model, is_placed=self._directory.find_last_checkpoint() == 0)
        return model

    def build(self, model: Module, data_parallel_model: Module, ranks: Ranks) -> Parts:
        """Create unit, readers and validation."""
        parts = super().build(model, data_parallel_model, ranks)
        return self._codes.wrap(parts, model, self._directory.find_last_checkpoint())

    def _on_step(self, step: int) -> None:
        super()._on_step(step)
        assert self._model is not None
        self._codes.begin_step(self._model, step)


class CodeFinetuneJob(FinetuneJob):
    """Finetuning of a recogniser, with the heads that it has; see `FinetuneJob` for the others.

    Args:
        codes: What the bottlenecks need.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        data: RecognitionData,
        directory: RunDirectory,
        codes: CodeTraining,
    ) -> None:
        # Without adapters the encoder learns; `adapter_dim` would keep it frozen.
        super().__init__(replace(config, adapter_dim=0), data, directory)
        self._model_config = config
        self._codes = codes

    def create_model(self) -> Module:
        """Create the recogniser with its bottlenecks."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._config.seed)
            model = create_recognizer_model(self._model_config, {})
        self._codes.attach(model, is_placed=self._directory.find_last_checkpoint() == 0)
        return model

    def build(self, model: Module, data_parallel_model: Module, ranks: Ranks) -> Parts:
        """Create unit, readers and validation."""
        parts = super().build(model, data_parallel_model, ranks)
        return self._codes.wrap(parts, model, self._directory.find_last_checkpoint())

    def _on_step(self, step: int) -> None:
        super()._on_step(step)
        assert self._model is not None
        self._codes.begin_step(self._model, step)

    def _on_validation(self, step: int, values: MutableMapping[str, object]) -> None:
        """Keep the best model of those with the last k."""
        if self._codes.is_full(step):
            super()._on_validation(step, values)


def run_bottleneck(config: BottleneckTrainConfig) -> RunDirectory:
    """Finetune a pretrained model or a recogniser with bottlenecks of codes.

    Args:
        config: The run's configuration, validated.

    Returns:
        The run's directory, with `model/`, `summary.json` and `report.html`.

    Raises:
        ConfigError: `output` holds another run, or the model has bottlenecks, or no room for them.
        DataError: There is nothing to learn from.
        ModelError: `model` cannot be read.
        InterruptedRunError: A signal ended the run; its state is saved.
        TrainingDivergedError: Updates were not finite; the last checkpoint is kept.
    """
    config = replace(config, precision=choose_precision(config.precision))
    directory = RunDirectory(config, "bottleneck", rank=get_rank(), num_ranks=get_world_size())
    directory.check()
    source = load_model(str(config.model))
    if list_bottlenecks(source):
        raise ConfigError([f"`model` must have no bottlenecks yet, but {config.model} has some."])
    num_layers = source.config.encoder.num_layers
    if max(config.layers, default=0) >= num_layers:
        raise ConfigError(
            [f"`layers` must be from 0 to {num_layers - 1}, but are {config.layers}."]
        )
    job: CodePretrainJob | CodeFinetuneJob
    data: PretrainData | RecognitionData
    if isinstance(source, CTCModel):
        job, data = _create_finetuning(config, directory, source)
    else:
        job, data = _create_pretraining(config, directory, source)
    run_recorded(
        job,
        config,
        directory,
        index=data.train,
        notes=data.notes,
        title="Codebook features",
        facts=lambda: {"verb": "bottleneck", **_describe(directory)},
    )
    return directory


def _create_pretraining(
    config: BottleneckTrainConfig, directory: RunDirectory, source: PretrainModel
) -> tuple[CodePretrainJob, PretrainData]:
    pretraining = config.derive_pretraining(source.config)
    data = load_pretrain_data(pretraining)
    codes = CodeTraining(config, data.train)
    return CodePretrainJob(pretraining, data, directory, source, codes), data


def _create_finetuning(
    config: BottleneckTrainConfig, directory: RunDirectory, source: CTCModel
) -> tuple[CodeFinetuneJob, RecognitionData]:
    languages = sorted(config.language or source.vocabularies)
    unknown = [code for code in languages if code not in source.vocabularies]
    if unknown:
        raise ConfigError(
            [
                f"`language` must be among those of the recogniser "
                f"({', '.join(sorted(source.vocabularies))}), but is {', '.join(unknown)}."
            ]
        )
    finetuning = config.derive_finetuning(languages, source.config.adapter_dim)
    # The recogniser's own labels take the place of those of the corpus.
    data = load_recognition_data(replace(finetuning, keep_languages=False))
    vocabularies = {code: source.vocabularies[code] for code in sorted(data.vocabularies)}
    for code, vocabulary in vocabularies.items():
        index = select_language(data.train, code)
        assert index.texts is not None
        texts = dict(zip(index.ids, index.texts, strict=True))
        note_unknown_letters(texts, vocabulary, data.notes)
    data = replace(data, vocabularies=vocabularies)
    codes = CodeTraining(config, data.train)
    return CodeFinetuneJob(finetuning, data, directory, codes), data


def _describe(directory: RunDirectory) -> dict[str, Any]:
    model = load_model(directory.model)
    return {
        "bottlenecks": bottlenecks_to_json(model),
        "best": directory.read_json("best.json"),
    }
