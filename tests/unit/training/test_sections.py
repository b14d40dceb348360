"""Our configuration as fairseq2's sections."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

pytest.importorskip("fairseq2")

from fairseq2.recipe.config import CosineAnnealingLRConfig, PolynomialDecayLRConfig

from speechvq.models.build import create_pretrain_model
from speechvq.models.config import QuantizerConfig, SimVQConfig, VQConfig
from speechvq.models.presets import create_preset
from speechvq.training.config import OptimizerConfig, Schedule
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.sections import NO_DECAY, create_engine_config


@pytest.mark.parametrize(
    ("quantizer", "names"),
    [(SimVQConfig(), ["quantizer.shift"]), (VQConfig(), ["quantizer.codebook"])],
)
def test_gains_biases_and_entries_do_not_decay(
    quantizer: QuantizerConfig, names: list[str]
) -> None:
    model = create_pretrain_model(replace(create_preset("tiny"), quantizer=quantizer))
    exempt = {name for name, _ in model.named_parameters() if re.match(NO_DECAY, name)}
    assert exempt >= {"encoder.positions.magnitude", "encoder.mask_embedding", *names}
    for name, parameter in model.named_parameters():
        if (name.endswith("weight") and parameter.dim() > 1) or name == "quantizer.map":
            assert name not in exempt


@pytest.mark.parametrize("schedule", [Schedule.linear, Schedule.cosine])
@pytest.mark.parametrize(
    ("steps", "share", "expected"),
    [(1000, 0.08, 80), (1000, 0.0, 0), (3, 0.08, 1), (1, 0.08, 0), (10, 0.99, 9)],
)
def test_warm_up_leaves_a_step_for_the_decay(
    schedule: Schedule, steps: int, share: float, expected: int
) -> None:
    optimizer = OptimizerConfig(schedule=schedule, warmup_share=share)
    section = create_engine_config(PretrainConfig(steps=steps, optimizer=optimizer)).lr_scheduler
    assert isinstance(section.config, (CosineAnnealingLRConfig, PolynomialDecayLRConfig))
    assert section.config.num_warmup_steps == expected
