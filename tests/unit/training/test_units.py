"""What units make of a batch and of their sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.training.units import CTCEvalUnit, PretrainEvalUnit, PretrainObjective


def create_objective() -> PretrainObjective:
    return PretrainObjective(
        diversity_weight=0.1,
        feature_penalty_weight=0.0,
        num_codebooks=2,
        codebook_size=4,
        languages=("hin_Deva",),
    )


def fail(*args: object) -> Any:
    raise AssertionError("a validation that was cut short must not be judged")


@pytest.mark.parametrize(
    "create",
    [
        lambda: PretrainEvalUnit(
            torch.nn.Identity(), create_objective(), lambda step: 1.0, lambda: True
        ),
        lambda: CTCEvalUnit(
            torch.nn.Identity(), "hin_Deva", build_character_vocabulary(["a"]), fail, fail,
            lambda: True,
        ),
    ],
)  # fmt: skip
def test_validation_that_was_cut_short_leaves_no_values(create: Callable[[], Any]) -> None:
    values: dict[str, object] = {"_sums": torch.ones(5), "_errors": torch.zeros(4)}
    create().process_metric_values(values)
    assert values == {}


def test_validation_uses_the_temperature_of_its_step() -> None:
    seen = []

    class Model(torch.nn.Module):
        def forward(self, *args: object, temperature: float) -> None:
            seen.append(temperature)
            raise StopIteration

    unit = PretrainEvalUnit(Model(), create_objective(), lambda step: 1 / step, lambda: False)
    unit.set_train_step_nr(8)
    batch = torch.nn.Module()
    for name in ("waveform", "lengths", "masked_frames", "num_masked", "distractors"):
        setattr(batch, name, None)
    with pytest.raises(StopIteration):
        unit.process_batch(batch, None)  # type: ignore[arg-type]
    assert seen == [1 / 8]
