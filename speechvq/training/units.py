"""Units: what one step means.

A batch goes in; a loss, its number of targets and sums for the metrics come out.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

# fairseq2.evaluator and fairseq2.recipe import each other; only this order works.
import fairseq2.recipe  # noqa: F401  # isort: split
import torch
from fairseq2.evaluator import EvalUnit
from fairseq2.metrics import MetricBag
from fairseq2.trainer import TrainUnit
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F
from typing_extensions import override

from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.greedy import decode_greedy
from speechvq.models.ctc_model import CTCOutput
from speechvq.models.pretrain_model import PretrainOutput
from speechvq.models.vocabulary import Vocabulary
from speechvq.training.batches import CTCBatch, PretrainBatch
from speechvq.training.metrics import LANGUAGE_PREFIX, TensorSum, compute_perplexity

CTC_SUMS = ("loss", "labels", "blank frames", "frames", "empty hypotheses", "utterances")
"""What a CTC unit sums over batches and ranks."""


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


class PretrainSums:
    """Sums that pretraining and its validation keep, and what is computed from them."""

    NUM_COLUMNS = 5
    """Sums of loss, accuracy, equal share, targets and seconds of a language."""

    def __init__(self, objective: PretrainObjective) -> None:
        self._objective = objective

    def prepare(self, bag: MetricBag) -> None:
        """Add the metrics to a bag."""
        size = len(self._objective.languages)
        bag.add("_by_language", TensorSum((size, self.NUM_COLUMNS)))
        codebooks = (self._objective.num_codebooks, self._objective.codebook_size)
        bag.add("_code_counts", TensorSum((size, *codebooks)))
        bag.add("_scalars", TensorSum((4,)))
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
        bag.get("_code_counts", TensorSum).update(self._count_codes(batch, output, valid))
        num_targets = valid.sum().double()
        vq_loss = output.diversity_loss * 0.0 if output.vq_loss is None else output.vq_loss
        scalars = (output.diversity_loss, output.feature_penalty, vq_loss)
        bag.get("_scalars", TensorSum).update(
            torch.stack([num_targets, *(value.double() * num_targets for value in scalars)])
        )
        bag.get("total_audio_hours", TensorSum).update(seconds.sum() / 3600)

    def _count_codes(self, batch: PretrainBatch, output: PretrainOutput, valid: Tensor) -> Tensor:
        """Count the codes of each language: (L, G, V)."""
        num_codebooks, size = self._objective.num_codebooks, self._objective.codebook_size
        languages = batch.languages[:, None].expand_as(valid)[valid]  # (N,)
        codes = output.codes[valid]  # (N, G)
        groups = torch.arange(num_codebooks, device=codes.device)
        places = (languages[:, None] * num_codebooks + groups) * size + codes
        total = len(self._objective.languages) * num_codebooks * size
        counts = torch.bincount(places.flatten(), minlength=total)
        return counts.view(-1, num_codebooks, size)

    def compute(self, values: MutableMapping[str, object]) -> None:
        """Replace the sums in `values` by readable numbers."""
        by_language = _pop_tensor(values, "_by_language")
        counts = _pop_tensor(values, "_code_counts")
        num_targets, diversity, penalty, vq_loss = _pop_tensor(values, "_scalars").tolist()
        total = by_language.sum(0)
        num_targets = max(num_targets, 1.0)
        objective = self._objective
        values.update(self._name_columns(total, counts.sum(0)))
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


class PretrainUnit(TrainUnit[PretrainBatch]):
    """One step of contrastive pretraining.

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
        self._sums = PretrainSums(objective)
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
        values["temperature"] = self._temperature
        self._on_values(values)


class PretrainEvalUnit(EvalUnit[PretrainBatch]):
    """Validation of pretraining: the same sums over dev, with fixed masks and without noise.

    Args:
        model: A `PretrainModel`.
        objective: Weights and sizes.
        temperature: The quantiser's temperature at a step.
        is_cancelled: Whether a signal cut the validation short, so that its sums mean nothing.
    """

    def __init__(
        self,
        model: Module,
        objective: PretrainObjective,
        temperature: Callable[[int], float],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._model = model
        self._sums = PretrainSums(objective)
        self._get_temperature = temperature
        self._temperature = temperature(1)
        self._is_cancelled = is_cancelled

    @property
    @override
    def name(self) -> str:
        return "dev"

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


class CTCUnit(TrainUnit[CTCBatch]):
    """One step of CTC finetuning.

    Args:
        model: A `CTCModel`, wrapped for data parallelism or not.
        language: The head to train.
        freeze_steps: Steps during which only the head learns.
        set_frozen: Freezes or thaws everything but the head.
        on_step: Called at the start of each step with its number.
        on_values: Called with the readable values of an interval.
    """

    def __init__(
        self,
        model: Module,
        language: str,
        freeze_steps: int,
        set_frozen: Callable[[bool], None],
        on_step: Callable[[int], None],
        on_values: Callable[[MutableMapping[str, object]], None],
    ) -> None:
        self._model = model
        self._language = language
        self._freeze_steps = freeze_steps
        self._set_frozen = set_frozen
        self._on_step = on_step
        self._on_values = on_values

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        metric_bag.add("_sums", TensorSum((len(CTC_SUMS),)))
        metric_bag.add("total_audio_hours", TensorSum(()))

    @override
    def set_step_nr(self, step_nr: int) -> None:
        self._set_frozen(step_nr <= self._freeze_steps)
        self._on_step(step_nr)

    @override
    def process_batch(self, batch: CTCBatch, metric_bag: MetricBag) -> tuple[Tensor, int]:
        output = self._model(
            batch.waveform,
            batch.lengths,
            language=self._language,
            mask=batch.mask,
            channel_mask=batch.channel_mask,
        )
        loss = compute_ctc_loss(output, batch)
        num_labels = int(batch.target_lengths.sum())
        _update_ctc_sums(metric_bag, batch, output, loss)
        seconds = batch.lengths.sum().double() / SAMPLE_RATE
        metric_bag.get("total_audio_hours", TensorSum).update(seconds / 3600)
        return loss, max(num_labels, 1)

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        _compute_ctc_values(values)
        self._on_values(values)


class CTCEvalUnit(EvalUnit[CTCBatch]):
    """Validation of finetuning: CTC loss, CER and WER of greedy decoding on the dev split.

    Args:
        model: A `CTCModel`.
        language: The head to use.
        vocabulary: Its vocabulary.
        count_errors: (references, hypotheses) to (character errors, characters, word errors,
            words).
        on_values: Called with the step and the readable values.
        is_cancelled: Whether a signal cut the validation short, so that its sums mean nothing.
    """

    def __init__(
        self,
        model: Module,
        language: str,
        vocabulary: Vocabulary,
        count_errors: Callable[[list[str], list[str]], tuple[int, int, int, int]],
        on_values: Callable[[int, MutableMapping[str, object]], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._model = model
        self._language = language
        self._vocabulary = vocabulary
        self._count_errors = count_errors
        self._on_values = on_values
        self._is_cancelled = is_cancelled
        self._step = 0

    @property
    @override
    def name(self) -> str:
        return "dev"

    @override
    def set_train_step_nr(self, step_nr: int) -> None:
        self._step = step_nr

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        metric_bag.add("_sums", TensorSum((len(CTC_SUMS),)))
        metric_bag.add("_errors", TensorSum((4,)))

    @override
    def process_batch(self, batch: CTCBatch, metric_bag: MetricBag) -> None:
        output = self._model(batch.waveform, batch.lengths, language=self._language)
        _update_ctc_sums(metric_bag, batch, output, compute_ctc_loss(output, batch))
        hypotheses = decode_greedy(output.logits.float(), output.lengths, self._vocabulary)
        counts = self._count_errors(batch.texts, hypotheses)
        metric_bag.get("_errors", TensorSum).update(torch.tensor(counts, dtype=torch.float64))

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        if self._is_cancelled():
            values.clear()
            return
        _compute_ctc_values(values)
        character_errors, characters, word_errors, words = _pop_tensor(values, "_errors").tolist()
        values["cer"] = character_errors / max(characters, 1)
        values["wer"] = word_errors / max(words, 1)
        values["words"] = words
        self._on_values(self._step, values)


def compute_ctc_loss(output: CTCOutput, batch: CTCBatch) -> Tensor:
    """Compute the CTC loss summed over the batch, in fp32 (Graves et al. 2006).

    Args:
        output: Logits (B, T, N) and lengths (B,).
        batch: Targets (B, U) and their lengths (B,).

    Returns:
        Sum of the negative log-likelihoods in nats (); impossible alignments count zero.
    """
    log_probs = output.logits.float().log_softmax(-1).transpose(0, 1)  # (T, B, N)
    return F.ctc_loss(
        log_probs,
        batch.targets,
        output.lengths,
        batch.target_lengths,
        reduction="sum",
        zero_infinity=True,
    )


@torch.no_grad()
def _update_ctc_sums(bag: MetricBag, batch: CTCBatch, output: CTCOutput, loss: Tensor) -> None:
    is_blank = output.logits.argmax(-1) == 0  # (B, T)
    frames = torch.arange(is_blank.shape[1], device=is_blank.device)
    valid = frames < output.lengths.to(frames.device)[:, None]
    is_empty = (is_blank | ~valid).all(1)
    bag.get("_sums", TensorSum).update(
        torch.stack(
            [
                loss.double(),
                batch.target_lengths.sum().to(loss.device).double(),
                (is_blank & valid).sum().double(),
                valid.sum().double(),
                is_empty.sum().double(),
                torch.tensor(len(is_empty), dtype=torch.float64, device=loss.device),
            ]
        )
    )


def _compute_ctc_values(values: MutableMapping[str, object]) -> None:
    loss, labels, blank, frames, empty, utterances = _pop_tensor(values, "_sums").tolist()
    values["loss"] = loss / max(labels, 1)
    values["blank_share"] = blank / max(frames, 1)
    values["empty_share"] = empty / max(utterances, 1)
    hours = values.pop("total_audio_hours", None)
    if isinstance(hours, Tensor):
        values["audio_hours"] = float(hours)


def _pop_tensor(values: MutableMapping[str, Any], name: str) -> Tensor:
    value = values.pop(name)
    assert isinstance(value, Tensor)
    return value.cpu()
