"""Units of pretraining: what one step and one validation mean.

A batch goes in; a loss, its number of targets and sums for the metrics come out.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

# fairseq2.evaluator and fairseq2.recipe import each other; only this order works.
import fairseq2.recipe  # noqa: F401  # isort: split
import torch
from fairseq2.evaluator import EvalUnit
from fairseq2.metrics import MetricBag
from fairseq2.trainer import TrainUnit
from torch import Tensor
from torch.nn import Module
from typing_extensions import override

from speechvq.data.records import SAMPLE_RATE
from speechvq.models.pretrain_model import PretrainOutput
from speechvq.training.batches import PretrainBatch
from speechvq.training.health import CodeWindow
from speechvq.training.metrics import LANGUAGE_PREFIX, TensorSum, compute_perplexity, pop_tensor


@dataclass(frozen=True)
class PretrainObjective:
    """Weights of the pretraining loss and sizes of its codebook.

    Attributes:
        diversity_weight: Weight of the diversity loss (wav2vec 2.0, equation 2: 0.1).
        feature_penalty_weight: Weight of the mean square of the front end's features.
        num_codebooks: G.
        codebook_size: V.
        languages: Codes, in the order of the batches' language numbers.
        loss_name: What the loss of the task is called in the metrics.
    """

    diversity_weight: float
    feature_penalty_weight: float
    num_codebooks: int
    codebook_size: int
    languages: tuple[str, ...]
    loss_name: str


MAX_JOINT_ENTRIES = 1 << 21
"""Counts of joint codes that are kept: 16 MiB. Where those of all languages are more, only the
total's are kept, and none where these are more, too."""


class PretrainSums:
    """Sums that pretraining and its validation keep, and what is computed from them.

    A joint code is the tuple of a frame's codes: there are V^G of them.

    Args:
        objective: Weights and sizes.
        window: Finds dead entries over several intervals; None leaves them out.
    """

    NUM_COLUMNS = 5
    """Sums of loss, accuracy, equal share, targets and seconds of a language."""
    NUM_SCALARS = 6
    """Targets; diversity, feature penalty and codebook loss, each times targets; batches, and
    batches of one language."""

    def __init__(self, objective: PretrainObjective, window: CodeWindow | None = None) -> None:
        self._objective = objective
        self._window = window
        num_joint = objective.codebook_size**objective.num_codebooks
        num_languages = len(objective.languages)
        self._num_joint = num_joint if objective.num_codebooks > 1 else 0
        self._splits_joint = num_languages * num_joint <= MAX_JOINT_ENTRIES
        if num_joint > MAX_JOINT_ENTRIES:
            self._num_joint = 0

    def prepare(self, bag: MetricBag) -> None:
        """Add the metrics to a bag."""
        size = len(self._objective.languages)
        bag.add("_by_language", TensorSum((size, self.NUM_COLUMNS)))
        codebooks = (self._objective.num_codebooks, self._objective.codebook_size)
        bag.add("_code_counts", TensorSum((size, *codebooks)))
        if self._num_joint:
            bag.add(
                "_joint_counts", TensorSum((size if self._splits_joint else 1, self._num_joint))
            )
        bag.add("_scalars", TensorSum((self.NUM_SCALARS,)))
        bag.add("total_audio_hours", TensorSum(()))

    @torch.no_grad()
    def update(self, bag: MetricBag, batch: PretrainBatch, output: PretrainOutput) -> None:
        """Add one batch."""
        task = output.task
        valid = task.valid
        seconds = batch.lengths.to(valid.device).double() / SAMPLE_RATE
        columns = torch.stack(
            [
                (task.loss_per_frame * valid).sum(1).double(),
                (task.correct * valid).sum(1).double(),
                (task.equal_share * valid).sum(1).double(),
                valid.sum(1).double(),
                seconds,
            ],
            dim=1,
        )  # (B, columns)
        by_language = columns.new_zeros(len(self._objective.languages), columns.shape[1])
        bag.get("_by_language", TensorSum).update(
            by_language.index_add(0, batch.languages, columns)
        )
        languages = batch.languages[:, None].expand_as(valid)[valid]  # (N,)
        codes = output.codes[valid]  # (N, G)
        bag.get("_code_counts", TensorSum).update(self._count_codes(languages, codes))
        if self._num_joint:
            bag.get("_joint_counts", TensorSum).update(self._count_joint_codes(languages, codes))
        is_single = (batch.languages == batch.languages[0]).all()
        num_targets = valid.sum().double()
        vq_loss = output.diversity_loss * 0.0 if output.vq_loss is None else output.vq_loss
        scalars = (output.diversity_loss, output.feature_penalty, vq_loss)
        bag.get("_scalars", TensorSum).update(
            torch.stack(
                [
                    num_targets,
                    *(value.double() * num_targets for value in scalars),
                    torch.ones_like(num_targets),
                    is_single.to(num_targets),
                ]
            )
        )
        bag.get("total_audio_hours", TensorSum).update(seconds.sum() / 3600)

    def _count_codes(self, languages: Tensor, codes: Tensor) -> Tensor:
        """Count the codes of each language: (N,) and (N, G) → (L, G, V)."""
        num_codebooks, size = self._objective.num_codebooks, self._objective.codebook_size
        groups = torch.arange(num_codebooks, device=codes.device)
        places = (languages[:, None] * num_codebooks + groups) * size + codes
        total = len(self._objective.languages) * num_codebooks * size
        counts = torch.bincount(places.flatten(), minlength=total)
        return counts.view(-1, num_codebooks, size)

    def _count_joint_codes(self, languages: Tensor, codes: Tensor) -> Tensor:
        """Count the tuples of codes: (N,) and (N, G) → (L or 1, V^G)."""
        joint = torch.zeros_like(languages)
        for group in range(codes.shape[1]):
            joint = joint * self._objective.codebook_size + codes[:, group]
        if not self._splits_joint:
            return torch.bincount(joint, minlength=self._num_joint)[None]
        total = len(self._objective.languages) * self._num_joint
        counts = torch.bincount(languages * self._num_joint + joint, minlength=total)
        return counts.view(-1, self._num_joint)

    def compute(self, values: MutableMapping[str, object]) -> None:
        """Replace the sums in `values` by readable numbers."""
        by_language = pop_tensor(values, "_by_language")
        counts = pop_tensor(values, "_code_counts")
        joint = pop_tensor(values, "_joint_counts") if self._num_joint else None
        num_targets, diversity, penalty, vq_loss, num_batches, num_single = pop_tensor(
            values, "_scalars"
        ).tolist()
        total = by_language.sum(0)
        num_targets = max(num_targets, 1.0)
        objective = self._objective
        values.update(self._name_columns(total, counts.sum(0)))
        if joint is not None:
            values.update(_name_joint(joint.sum(0)))
        if len(objective.languages) > 1:
            values["single_language_batches"] = num_single / max(num_batches, 1)
        found = self._window.add(counts.sum(0)) if self._window is not None else None
        if found is not None:
            values["dead_codes"], values["dead_window"] = found
        values["diversity_loss"] = diversity / num_targets
        values["feature_penalty"] = penalty / num_targets
        if vq_loss:
            values["vq_loss"] = vq_loss / num_targets
        values["loss"] = (
            float(str(values[objective.loss_name]))
            + objective.diversity_weight * diversity / num_targets
            + objective.feature_penalty_weight * penalty / num_targets
            + vq_loss / num_targets
        )
        for number, code in enumerate(objective.languages):
            if by_language[number, 3] > 0:
                named = self._name_columns(by_language[number], counts[number])
                if joint is not None and self._splits_joint:
                    named.update(_name_joint(joint[number]))
                values.update({f"{LANGUAGE_PREFIX}{code}/{key}": v for key, v in named.items()})
        hours = values.pop("total_audio_hours", None)
        if isinstance(hours, Tensor):
            values["audio_hours"] = float(hours)

    def _name_columns(self, columns: Tensor, counts: Tensor) -> dict[str, object]:
        loss, correct, equal, num_targets, seconds = columns.tolist()
        denominator = max(num_targets, 1.0)
        return {
            self._objective.loss_name: loss / denominator,
            "accuracy": correct / denominator,
            "equal_share": equal / denominator,
            "perplexity": compute_perplexity(counts).tolist(),
            "used_codes": (counts > 0).sum(-1).tolist(),
            "targets": num_targets,
            "seconds": seconds,
        }


def _name_joint(counts: Tensor) -> dict[str, object]:
    return {
        "joint_perplexity": float(compute_perplexity(counts)),
        "used_joint_codes": int((counts > 0).sum()),
    }


class PretrainUnit(TrainUnit[PretrainBatch]):
    """One step of pretraining.

    Args:
        model: A `PretrainModel`, wrapped for data parallelism or not.
        objective: Weights and sizes.
        temperature: The quantiser's temperature at a step.
        on_step: Called at the start of each step with its number.
        on_values: Called with the readable values of an interval.
    """

    def __init__(
        self,
        model: Module,
        objective: PretrainObjective,
        temperature: Callable[[int], float],
        on_step: Callable[[int], None],
        on_values: Callable[[MutableMapping[str, object]], None],
    ) -> None:
        self._model = model
        self._objective = objective
        self._sums = PretrainSums(objective, CodeWindow())
        self._get_temperature = temperature
        self._temperature = temperature(1)
        self._on_step = on_step
        self._on_values = on_values

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        self._sums.prepare(metric_bag)

    @override
    def set_step_nr(self, step_nr: int) -> None:
        self._temperature = self._get_temperature(step_nr)
        self._on_step(step_nr)

    @override
    def process_batch(self, batch: PretrainBatch, metric_bag: MetricBag) -> tuple[Tensor, int]:
        output = self._model(
            batch.waveform,
            batch.lengths,
            batch.masked_frames,
            batch.num_masked,
            batch.distractors,
            temperature=self._temperature,
        )
        self._sums.update(metric_bag, batch, output)
        num_targets = int(output.num_targets)
        loss = output.loss_sum + num_targets * (
            self._objective.diversity_weight * output.diversity_loss
            + self._objective.feature_penalty_weight * output.feature_penalty
        )
        if output.vq_loss is not None:
            loss = loss + num_targets * output.vq_loss
        # A rank without targets must still take part in the all-reduce of their number.
        return loss, max(num_targets, 1)

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        self._sums.compute(values)
        self._on_values(values)


class PretrainEvalUnit(EvalUnit[PretrainBatch]):
    """Validation of pretraining: the same sums over dev, with fixed masks and without noise.

    Args:
        model: A `PretrainModel`.
        objective: Weights and sizes.
        temperature: The quantiser's temperature at a step.
        is_cancelled: Whether a signal cut the validation short, so that its sums mean nothing.
        split: What the validation is called in the metrics.
    """

    def __init__(
        self,
        model: Module,
        objective: PretrainObjective,
        temperature: Callable[[int], float],
        is_cancelled: Callable[[], bool],
        split: str = "dev",
    ) -> None:
        self._model = model
        self._split = split
        self._sums = PretrainSums(objective)
        self._get_temperature = temperature
        self._temperature = temperature(1)
        self._is_cancelled = is_cancelled

    @property
    @override
    def name(self) -> str:
        return self._split

    @override
    def set_train_step_nr(self, step_nr: int) -> None:
        self._temperature = self._get_temperature(step_nr)

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        self._sums.prepare(metric_bag)

    @override
    def process_batch(self, batch: PretrainBatch, metric_bag: MetricBag) -> None:
        output = self._model(
            batch.waveform,
            batch.lengths,
            batch.masked_frames,
            batch.num_masked,
            batch.distractors,
            temperature=self._temperature,
        )
        self._sums.update(metric_bag, batch, output)

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        if self._is_cancelled():
            values.clear()
            return
        self._sums.compute(values)
