"""What units make of a batch and of their sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("fairseq2")

from fairseq2.metrics import MetricBag

from speechvq.models.ctc_model import CTCOutput
from speechvq.models.pretrain_model import PretrainOutput
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.nn.contrastive import TaskOutput
from speechvq.training.batches import CTCBatch, PretrainBatch
from speechvq.training.ctc_units import CTCEvalUnit, CTCUnit
from speechvq.training.metrics import TensorSum
from speechvq.training.pretrain_units import (
    PretrainEvalUnit,
    PretrainObjective,
    PretrainSums,
    PretrainUnit,
)


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
            torch.nn.Identity(), {"hin_Deva": build_character_vocabulary(["a"])}, fail, fail,
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
        language="hin_Deva",
        targets=torch.ones(len(num_frames), 1, dtype=torch.int64),
        target_lengths=torch.ones(len(num_frames), dtype=torch.int64),
        texts=["a"] * len(num_frames),
        ids=[str(number) for number in range(len(num_frames))],
        mask=None,
        channel_mask=None,
    )


def test_shares_count_frames_and_utterances_whatever_the_batches() -> None:
    unit = CTCUnit(Recognizer(), lambda _: None, lambda _: None)
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


class Pretrainer(torch.nn.Module):
    """Gives the codes that it is told."""

    def __init__(self, codes: torch.Tensor) -> None:
        super().__init__()
        self.codes = codes  # (B, M, G)

    def forward(self, *args: object, temperature: float) -> PretrainOutput:
        shape = self.codes.shape[:2]
        zero, one = torch.zeros(()), torch.ones(())
        valid = torch.ones(shape, dtype=torch.bool)
        task = TaskOutput(
            torch.ones(shape), torch.ones(shape), torch.zeros(shape), valid, torch.zeros(*shape, 1)
        )
        return PretrainOutput(
            loss_sum=one * valid.sum(),
            num_targets=valid.sum(),
            diversity_loss=zero,
            feature_penalty=zero,
            vq_loss=None,
            task=task,
            codes=self.codes,
            soft_perplexity=torch.ones(2),
        )


def create_pretrain_batch(languages: list[int]) -> PretrainBatch:
    size = len(languages)
    return PretrainBatch(
        waveform=torch.zeros(size, 1),
        lengths=torch.full((size,), 16_000),
        languages=torch.tensor(languages),
        masked_frames=torch.zeros(size, 1, dtype=torch.int64),
        num_masked=torch.ones(size, dtype=torch.int64),
        distractors=torch.zeros(size, 1, 1, dtype=torch.int64),
    )


def run_unit(codes: list[torch.Tensor], batches: list[PretrainBatch]) -> dict[str, Any]:
    model = Pretrainer(codes[0])
    objective = replace(create_objective(), languages=("hin_Deva", "tam_Taml"))
    unit = PretrainUnit(model, objective, lambda _: 1.0, lambda _: None, lambda _: None)
    bag = MetricBag(device=torch.device("cpu"))
    unit.prepare_metric_bag(bag)
    for part, batch in zip(codes, batches, strict=True):
        model.codes = part
        unit.process_batch(batch, bag)
    values: dict[str, Any] = {name: metric.compute() for name, metric in bag.metrics.items()}
    unit.process_metric_values(values)
    return values


def test_joint_codes_are_tuples_counted_per_language_and_in_total() -> None:
    # Each codebook has two entries in use, but only two of the four tuples occur in Hindi.
    hindi = torch.tensor([[0, 0], [1, 1], [0, 0], [1, 1]])
    tamil = torch.tensor([[0, 1], [0, 1], [0, 1], [0, 1]])
    values = run_unit([torch.stack([hindi, tamil])], [create_pretrain_batch([0, 1])])
    assert values["language/hin_Deva/joint_perplexity"] == pytest.approx(2.0)
    assert values["language/tam_Taml/joint_perplexity"] == pytest.approx(1.0)
    assert values["used_joint_codes"] == 3
    assert values["joint_perplexity"] == pytest.approx(2 ** (0.25 * 2 + 0.25 * 2 + 0.5 * 1))


def test_batches_of_one_language_are_counted() -> None:
    codes = torch.zeros(2, 1, 2, dtype=torch.int64)
    batches = [create_pretrain_batch(languages) for languages in ([0, 1], [1, 1], [0, 1], [1, 0])]
    values = run_unit([codes] * 4, batches)
    assert values["single_language_batches"] == pytest.approx(1 / 4)


def test_joint_codes_of_large_codebooks_are_counted_in_total_or_not_at_all() -> None:
    objective = replace(create_objective(), languages=("hin_Deva",) * 40, codebook_size=320)
    bag = MetricBag(device=torch.device("cpu"))
    PretrainSums(objective).prepare(bag)
    assert bag.get("_joint_counts", TensorSum).total.shape == (1, 320**2)
    bag = MetricBag(device=torch.device("cpu"))
    PretrainSums(replace(objective, codebook_size=2000)).prepare(bag)
    assert "_joint_counts" not in bag.metrics
