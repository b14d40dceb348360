"""What units make of a batch and of their sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("fairseq2")

from fairseq2.metrics import MetricBag

from speechvq.models.ctc_model import CTCOutput
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.training.batches import CTCBatch
from speechvq.training.units import CTCEvalUnit, CTCUnit, PretrainEvalUnit, PretrainObjective


def create_objective() -> PretrainObjective:
    return PretrainObjective(
        loss_name="contrastive_loss",
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
    values: dict[str, object] = {"_sums": torch.ones(6), "_errors": torch.zeros(4)}
    create().process_metric_values(values)
    assert values == {}


class Recognizer(torch.nn.Module):
    """Says blank in as many first frames as the waveform's first sample tells."""

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor, **_: object) -> CTCOutput:
        num_frames = int(lengths.max())
        frames = torch.arange(num_frames)
        is_blank = frames < waveform[:, :1]  # (B, T)
        logits = torch.stack([is_blank.float(), (~is_blank).float()], dim=-1)
        return CTCOutput(logits.requires_grad_(), lengths)


def create_ctc_batch(num_frames: list[int], num_blanks: list[int]) -> CTCBatch:
    return CTCBatch(
        waveform=torch.tensor(num_blanks, dtype=torch.float32)[:, None],
        lengths=torch.tensor(num_frames),
        languages=torch.zeros(len(num_frames), dtype=torch.int64),
        targets=torch.ones(len(num_frames), 1, dtype=torch.int64),
        target_lengths=torch.ones(len(num_frames), dtype=torch.int64),
        texts=["a"] * len(num_frames),
        ids=[str(number) for number in range(len(num_frames))],
        mask=None,
        channel_mask=None,
    )


def test_shares_count_frames_and_utterances_whatever_the_batches() -> None:
    unit = CTCUnit(Recognizer(), "hin_Deva", 0, lambda _: None, lambda _: None, lambda _: None)
    bag = MetricBag(device=torch.device("cpu"))
    unit.prepare_metric_bag(bag)
    unit.process_batch(create_ctc_batch([10, 10, 20], [10, 2, 5]), bag)  # one of three is empty
    unit.process_batch(create_ctc_batch([60], [60]), bag)  # one of one
    values = {name: metric.compute() for name, metric in bag.metrics.items()}
    unit.process_metric_values(values)
    assert values["blank_share"] == pytest.approx((10 + 2 + 5 + 60) / 100)
    assert values["empty_share"] == pytest.approx(2 / 4)


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
