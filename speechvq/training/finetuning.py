"""CTC finetuning of a run: transcribed speech in, recogniser and report out.

Source: wav2vec 2.0, section 3.3.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import Module

from speechvq.data.index import CorpusIndex
from speechvq.data.rows import RowReader
from speechvq.decoding.alignment import Unit, count_edits
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import save_model
from speechvq.training.batches import CTCAugmentation, CTCLoader
from speechvq.training.blank_watch import NOTHING_BUT_BLANK, BlankWatch, describe_blanks
from speechvq.training.ctc_units import CTCEvalUnit, CTCUnit
from speechvq.training.engine import (
    Parts,
    Ranks,
    choose_precision,
    get_rank,
    get_world_size,
)
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.freezing import FreezingSchedule, RateGroup, create_rate_groups
from speechvq.training.job import RecordedJob, run_recorded
from speechvq.training.metrics import read_metrics
from speechvq.training.reader import PlannedReader
from speechvq.training.recognition_data import (
    RecognitionData,
    create_recognizer_model,
    load_recognition_data,
)
from speechvq.training.run_directory import RunDirectory
from speechvq.training.selection import describe_corpus


class FinetuneJob(RecordedJob):
    """Finetuning, as the engine runs it.

    Args:
        config: The run's configuration.
        data: Utterances and vocabulary.
        directory: Its files.
    """

    def __init__(
        self, config: FinetuneConfig, data: RecognitionData, directory: RunDirectory
    ) -> None:
        super().__init__(config, directory)
        self._config = config
        self._data = data
        self._model: CTCModel | None = None
        self._freezing = FreezingSchedule.of(config)
        self._blank_watch = BlankWatch(config.steps)
        self._step = 0

    @property
    def has_static_graph(self) -> bool:
        """Whether every parameter takes part in every step: not while the encoder is frozen."""
        return False

    @property
    def rate_groups(self) -> Sequence[RateGroup]:
        """Layers that learn at a rate of their own."""
        return create_rate_groups(self._data.encoder, self._config.layer_decay)

    def create_model(self) -> Module:
        """Create the recogniser, on a pretrained encoder or from weights drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._config.seed)
            return create_recognizer_model(self._config, self._data.vocabularies)

    def build(self, model: Module, data_parallel_model: Module, ranks: Ranks) -> Parts:
        """Create unit, readers and validation."""
        assert isinstance(model, CTCModel)
        self._model = model
        unit = CTCUnit(data_parallel_model, self._on_step, self._on_values)
        augmentation = CTCAugmentation(
            mask_prob=self._config.mask_prob,
            mask_length=self._config.mask_length,
            channel_mask_prob=self._config.channel_mask_prob,
            channel_mask_length=self._config.channel_mask_length,
            num_channels=model.config.encoder.model_dim,
            speeds=tuple(self._config.speeds),
        )
        reader = self._create_ctc_reader(model, self._data.train, ranks, augmentation)
        if len(self._data.dev) == 0:
            return Parts(unit, reader, [], [])
        dev_unit = CTCEvalUnit(
            model,
            self._data.vocabularies,
            _count_errors,
            self._on_validation,
            self._is_cancelled,
        )
        return Parts(
            unit, reader, [dev_unit], [self._create_ctc_reader(model, self._data.dev, ranks, None)]
        )

    def _create_ctc_reader(
        self,
        model: CTCModel,
        index: CorpusIndex,
        ranks: Ranks,
        augmentation: CTCAugmentation | None,
    ) -> PlannedReader[Any]:
        """Create the reader of the training data, or of the dev data if nothing is augmented."""
        is_training = augmentation is not None
        order = self._plan_order(
            self._config.batch.language_alpha, is_training=is_training, mixes_languages=False
        )
        assert index.texts is not None
        loader = CTCLoader(
            index=index,
            texts=index.texts,
            rows=RowReader(index, capacity=2 * order.window),
            vocabularies=self._data.vocabularies,
            num_frames=model.num_frames,
            seed=order.seed,
            augmentation=augmentation,
        )
        return self._create_reader(index, order, loader, ranks, is_training=is_training)

    def _on_step(self, step: int) -> None:
        super()._on_step(step)
        self._step = step
        assert self._model is not None
        self._freezing.apply(self._model, step, self._data.vocabularies)

    def _on_values(self, values: MutableMapping[str, object]) -> None:
        super()._on_values(values)
        if sentence := self._blank_watch.check(self._step, values):
            print(f"  {sentence}", flush=True)

    def is_enough(self, step: int) -> bool:
        """Tell whether dev has been without a better CER for `early_stop_patience` validations.

        Those before all layers learn do not count, nor those at which nothing is recognised yet.
        """
        first_step = self._freezing.find_full_step(self._data.encoder.num_layers)
        rates = [
            line["cer"]
            for line in read_metrics(self._directory.metrics)
            if line["split"] == "dev" and first_step <= line["step"] <= step
            and line["blank_share"] < NOTHING_BUT_BLANK
        ]  # fmt: skip
        patience = self._config.early_stop_patience
        return bool(patience and rates) and len(rates) - 1 - rates.index(min(rates)) >= patience

    def _on_validation(self, step: int, values: MutableMapping[str, object]) -> None:
        """Keep the model if it is the best so far; on rank 0."""
        cer = float(str(values["cer"]))
        best = self._directory.read_json("best.json")
        if best is None or cer < best["cer"] or step == best["step"]:
            self._save(step, {"cer": cer, "wer": float(str(values["wer"]))})
            self._directory.write_json("best.json", {"step": step, "cer": cer})

    def _save(self, step: int, metrics: dict[str, Any]) -> None:
        assert self._model is not None
        save_model(
            self._directory.model,
            self._model,
            metrics={"dev": metrics, "step": step},
            training=self._directory.describe_training(step),
            corpus=describe_corpus(self._data.train),
        )

    def is_saved(self, step: int) -> bool:
        """Tell whether the model directory is that of a step, or of the best validation."""
        best = self._directory.read_json("best.json")
        return self._directory.read_model_step() == (step if best is None else best["step"])

    def save_final(self, model: Module, step: int) -> None:
        """Save the model directory if no validation did."""
        if not (self._directory.path / "best.json").exists():
            self._save(step, {})


def _count_errors(references: list[str], hypotheses: list[str]) -> tuple[int, int, int, int]:
    """Count character errors, characters, word errors and words."""
    characters = count_edits(references, hypotheses, Unit.CHARACTER)
    words = count_edits(references, hypotheses, Unit.WORD)
    return (
        int(characters.errors.sum()),
        int(characters.reference_lengths.sum()),
        int(words.errors.sum()),
        int(words.reference_lengths.sum()),
    )


def run_finetuning(config: FinetuneConfig) -> RunDirectory:
    """Finetune a recogniser of one language or of several.

    Args:
        config: The run's configuration, validated.

    Returns:
        The run's directory, with `model/` (the best by dev CER), `summary.json` and `report.html`.

    Raises:
        ConfigError: `output` holds another run.
        DataError: The corpus has no transcribed speech of a language.
        ModelError: `model` cannot be read.
        InterruptedRunError: A signal ended the run; its state is saved.
        TrainingDivergedError: Updates were not finite; the last checkpoint is kept.
    """
    config = replace(config, precision=choose_precision(config.precision))
    directory = RunDirectory(config, "finetune", rank=get_rank(), num_ranks=get_world_size())
    directory.check()
    data = load_recognition_data(config)
    languages = sorted(data.vocabularies)
    run_recorded(
        FinetuneJob(config, data, directory),
        config,
        directory,
        index=data.train,
        notes=data.notes,
        title=f"Finetuning {', '.join(languages)}",
        facts=lambda: {
            "verb": "finetune",
            "languages": languages,
            "num_labels": {code: len(labels) for code, labels in data.vocabularies.items()},
            "best": directory.read_json("best.json"),
            "blank": describe_blanks(read_metrics(directory.metrics)),
        },
    )
    return directory
