"""Our configuration as fairseq2's sections."""

from __future__ import annotations

import pytest

pytest.importorskip("fairseq2")

from fairseq2.recipe.config import CosineAnnealingLRConfig, PolynomialDecayLRConfig

from speechvq.training.config import OptimizerConfig, PretrainConfig, Schedule
from speechvq.training.sections import create_engine_config


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
