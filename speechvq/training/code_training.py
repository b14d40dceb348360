"""Finetuning with bottlenecks of codes: model directory in, model directory with bottlenecks out.

The jobs are those of pretraining and finetuning; here they get codes. Source: Tamkin et al. 2023,
section 2.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import Module

from speechvq.data.index import CorpusIndex
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.rows import RowReader
from speechvq.errors import ConfigError, DataError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.pretrain_model import PretrainModel
from speechvq.nn.bottleneck_sites import (
    attach_bottleneck,
    capture_codes,
    compute_num_active,
    list_bottlenecks,
    set_num_active,
)
from speechvq.nn.code_placement import FrameSample, place_codebooks, restart_unused
from speechvq.nn.code_tally import CodeTally
from speechvq.training.bottleneck_config import BottleneckTrainConfig
from speechvq.training.code_units import CodeEvalUnit, CodeUnit
from speechvq.training.engine import Parts
from speechvq.training.placement import draw_utterances


class CodeTraining:
    """What bottlenecks need before and between the updates of a run. It has no state: a resumed run
    does the same as an undisturbed one.

    Args:
        config: The run's configuration.
        index: Its training utterances.
    """

    def __init__(self, config: BottleneckTrainConfig, index: CorpusIndex) -> None:
        self._config = config
        self._index = index

    def attach(self, model: Module, *, is_placed: bool) -> None:
        """Give a model its bottlenecks.

        Args:
            model: Has none; on the CPU.
            is_placed: Whether to put the codes on frames; a checkpoint would replace them.

        Raises:
            ConfigError: The model has no room for them.
            DataError: There is too little audio to put codes on.
        """
        config = self._config
        num_layers = len(model.get_submodule("encoder.transformer.layers")._modules)
        generator = self._create_generator(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            for place in config.list_places(num_layers):
                try:
                    attach_bottleneck(
                        model,
                        place,
                        codebook_size=config.codebook_size,
                        num_active=self.get_num_active(1),
                    )
                except ValueError as error:
                    raise ConfigError([f"`layers` and `model` do not fit: {error}"]) from error
        if config.dense or not is_placed or not config.kmeans_frames:
            return
        try:
            place_codebooks(
                model,
                lambda: self._run(model, 0),
                generator=generator,
                max_frames=config.kmeans_frames,
            )
        except ValueError as error:
            raise DataError(
                f"The codes cannot be placed on so little audio: {error} Use a larger corpus or a "
                "smaller `codebook_size`."
            ) from error

    def get_num_active(self, step: int) -> int:
        """Return k of a step, from 1."""
        config = self._config
        if config.num_active_start is None:
            return config.num_active
        return compute_num_active(
            step,
            start=config.num_active_start,
            end=config.num_active,
            num_steps=config.num_active_steps,
        )

    def is_full(self, step: int) -> bool:
        """Whether k has reached its last value."""
        return (
            self._config.dense
            or self._config.num_active_start is None
            or step >= self._config.num_active_steps
        )

    def begin_step(self, model: Module, step: int) -> None:
        """Set k; restart unused codes if it is time to."""
        if self._config.dense:
            return
        set_num_active(model, self.get_num_active(step))
        config, before = self._config, step - 1
        is_early = before <= config.restart_share * config.steps
        if config.restart_every and before and before % config.restart_every == 0 and is_early:
            self._restart(model, before)

    def wrap(self, parts: Parts, model: Module, step: int) -> Parts:
        """Let units train and watch the codes of a model that a step has left."""
        if self._config.dense:
            return parts
        set_num_active(model, self.get_num_active(max(1, step)))
        return replace(
            parts,
            unit=CodeUnit(parts.unit, model, self._config.auxiliary_weight),
            eval_units=[CodeEvalUnit(unit, model) for unit in parts.eval_units],
        )

    def _restart(self, model: Module, step: int) -> None:
        generator = self._create_generator(step)
        tally, sample = CodeTally(model), FrameSample(self._config.kmeans_frames, generator)
        with capture_codes(model, tally.receive), capture_codes(model, sample.receive):
            self._run(model, step)
        number = 0
        for place, one in list_bottlenecks(model).items():
            number += restart_unused(
                one, tally.get_counts(place), sample.get_frames(place), generator
            )
        if number:
            print(f"  {number} unused codes were put on frames after step {step}", flush=True)

    @torch.no_grad()
    def _run(self, model: Module, step: int) -> None:
        """Run the model in evaluation mode over utterances drawn for a step, one at a time."""
        assert isinstance(model, (PretrainModel, CTCModel))
        batch = self._config.batch
        max_samples = round(batch.max_seconds * SAMPLE_RATE)
        seconds_per_frame = 100 / model.num_frames(100 * SAMPLE_RATE)
        positions = draw_utterances(
            self._index,
            self._config.seed + step,
            batch.language_alpha,
            max_samples,
            self._config.kmeans_frames * seconds_per_frame,
        )
        rows = RowReader(self._index, capacity=1)
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        for position in positions.tolist():
            waveform = torch.from_numpy(rows.read_waveform(position))[None, :max_samples]
            lengths = torch.tensor([waveform.size(1)], dtype=torch.long, device="cpu")
            adapters = None
            if isinstance(model, CTCModel):
                language = self._index.languages[int(self._index.language[position])]
                adapters = model.get_adapters(language)
            model.encoder(waveform.to(device), lengths, adapters=adapters)
        model.train(was_training)

    def _create_generator(self, step: int) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self._config.seed + step)
