"""Units of CTC finetuning: what one step and one validation mean.

A batch goes in; a loss, its number of labels and sums for the metrics come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence

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
from speechvq.models.vocabulary import Vocabulary
from speechvq.training.batches import CTCBatch
from speechvq.training.metrics import LANGUAGE_PREFIX, TensorSum, pop_tensor

CTC_SUMS = ("loss", "labels", "blank frames", "frames", "empty hypotheses", "utterances")
"""What a CTC unit sums over batches and ranks."""


class CTCUnit(TrainUnit[CTCBatch]):
    """One step of CTC finetuning.

    Args:
        model: A `CTCModel`, wrapped for data parallelism or not.
        on_step: Called at the start of each step with its number.
        on_values: Called with the readable values of an interval.
    """

    def __init__(
        self,
        model: Module,
        on_step: Callable[[int], None],
        on_values: Callable[[MutableMapping[str, object]], None],
    ) -> None:
        self._model = model
        self._on_step = on_step
        self._on_values = on_values

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        metric_bag.add("_sums", TensorSum((len(CTC_SUMS),)))
        metric_bag.add("total_audio_hours", TensorSum(()))

    @override
    def set_step_nr(self, step_nr: int) -> None:
        self._on_step(step_nr)

    @override
    def process_batch(self, batch: CTCBatch, metric_bag: MetricBag) -> tuple[Tensor, int]:
        output = self._model(
            batch.waveform,
            batch.lengths,
            language=batch.language,
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

    With several languages `cer` and `wer` are means of the languages' rates, each weighing the
    same; the languages' own are beside them.

    Args:
        model: A `CTCModel`.
        vocabularies: By language.
        count_errors: (references, hypotheses) to (character errors, characters, word errors,
            words).
        on_values: Called with the step and the readable values.
        is_cancelled: Whether a signal cut the validation short, so that its sums mean nothing.
    """

    def __init__(
        self,
        model: Module,
        vocabularies: Mapping[str, Vocabulary],
        count_errors: Callable[[list[str], list[str]], tuple[int, int, int, int]],
        on_values: Callable[[int, MutableMapping[str, object]], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._model = model
        self._vocabularies = vocabularies
        self._languages = sorted(vocabularies)
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
        metric_bag.add("_errors", TensorSum((len(self._languages), 4)))

    @override
    def process_batch(self, batch: CTCBatch, metric_bag: MetricBag) -> None:
        output = self._model(batch.waveform, batch.lengths, language=batch.language)
        _update_ctc_sums(metric_bag, batch, output, compute_ctc_loss(output, batch))
        vocabulary = self._vocabularies[batch.language]
        hypotheses = decode_greedy(output.logits.float(), output.lengths, vocabulary)
        errors = torch.zeros(len(self._languages), 4, dtype=torch.float64)
        counts = self._count_errors(batch.texts, hypotheses)
        errors[self._languages.index(batch.language)] = torch.tensor(counts, dtype=torch.float64)
        metric_bag.get("_errors", TensorSum).update(errors)

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        if self._is_cancelled():
            values.clear()
            return
        _compute_ctc_values(values)
        compute_error_values(values, self._languages)
        self._on_values(self._step, values)


def compute_error_values(values: MutableMapping[str, object], languages: Sequence[str]) -> None:
    """Turn the counts of errors of an interval into rates.

    Args:
        values: `_errors` (L, 4) is taken out; `cer`, `wer` and `words` are put in, of several
            languages their own as well.
        languages: L codes.
    """
    errors = pop_tensor(values, "_errors")
    rates = {}
    for code, (character_errors, characters, word_errors, words) in zip(
        languages, errors.tolist(), strict=True
    ):
        if words:
            rates[code] = {"cer": character_errors / characters, "wer": word_errors / words}
    for name in ("cer", "wer"):
        values[name] = sum(rate[name] for rate in rates.values()) / max(len(rates), 1)
        if len(languages) > 1:
            for code, rate in rates.items():
                values[f"{LANGUAGE_PREFIX}{code}/{name}"] = rate[name]
    values["words"] = float(errors[:, 3].sum())


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
    loss, labels, blank, frames, empty, utterances = pop_tensor(values, "_sums").tolist()
    values["loss"] = loss / max(labels, 1)
    values["blank_share"] = blank / max(frames, 1)
    values["empty_share"] = empty / max(utterances, 1)
    hours = values.pop("total_audio_hours", None)
    if isinstance(hours, Tensor):
        values["audio_hours"] = float(hours)
