"""What steering works on: a recogniser with bottlenecks, and utterances aligned with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.decoding.forced_alignment import LabelSpan, align_labels, find_spans
from speechvq.errors import DataError, ModelError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_model
from speechvq.models.vocabulary import UNKNOWN_ID
from speechvq.nn.activation_additions import Addition, apply_additions
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.code_edits import CodeChange, apply_edits
from speechvq.steering.measures import Span
from speechvq.steering.recall import find_letters

_MAX_GAP_SECONDS = 0.1
"""A label reaches no farther than this into blanks beside its peak."""


def load_steerable(directory: str, device: torch.device) -> CTCModel:
    """Loads a recogniser with bottlenecks, in evaluation mode.

    Raises:
        ModelError: It is no recogniser, or has no bottlenecks.
    """
    model = load_model(Path(directory))
    if not isinstance(model, CTCModel):
        raise ModelError(
            f"`model` must be a recogniser, but {directory} holds a pretrained encoder, which "
            f"writes nothing: `speechvq finetune model={directory} …` makes one."
        )
    if not list_bottlenecks(model):
        raise ModelError(
            f"`model` must have bottlenecks of codes, but {directory} has none: `speechvq "
            f"bottleneck model={directory} …` puts them in."
        )
    return model.eval().to(device)


def choose_head(model: CTCModel, language: str | None, key: str = "language") -> str:
    """The head of a language; without one, the model's only one.

    Raises:
        ModelError: There is no such head, or several to choose from.
    """
    heads = ", ".join(model.heads)
    if language is None:
        if len(model.heads) == 1:
            return next(iter(model.heads))
        raise ModelError(f"`{key}` must be given: the model has heads for {heads}.")
    if language not in model.heads:
        raise ModelError(
            f"`{key}` must be one that the model has a head for ({heads}), but is {language!r}."
        )
    return language


@dataclass(frozen=True, kw_only=True)
class AlignedUtterance:
    """An utterance and when its labels are said.

    Attributes:
        utterance: Without its audio.
        head: Whose labels they are.
        labels: Of its transcript.
        spans: Of each label but those that write nothing known, widened (`widen_spans`).
        path: (T,) the label of each frame on the aligned path, with blanks.
        best_path: (T,) the same of greedy decoding.
        label_texts: N labels of the head.
        letters: Numbers of those that write something.
    """

    utterance: Utterance
    head: str
    labels: list[int]
    spans: list[LabelSpan]
    path: Tensor
    best_path: Tensor
    label_texts: tuple[str, ...]
    letters: frozenset[int]


class UtterancePass:
    """One utterance in the model: all of it once, then with edits from the first edited layer on.

    Args:
        model: In evaluation mode.
        waveform: (S,) at 16 kHz, of at least a frame.
        head: Whose labels are scored.
    """

    def __init__(self, model: CTCModel, waveform: Waveform, head: str) -> None:
        self._model, self._head = model, head
        device = model.encoder.mask_embedding.device
        batch = torch.from_numpy(waveform)[None].to(device)
        with torch.inference_mode():
            encoded = model.encoder(
                batch,
                torch.tensor([batch.size(1)]),
                adapters=model.get_adapters(head),
                return_layers=True,
            )
            self._layers: list[Tensor] = encoded.layers
            self.log_probs = self._score(encoded.context)[0]
        """(T, N) float32 on the CPU, without edits."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.log_probs)

    @torch.inference_mode()
    def run(
        self, num_rows: int, edits: Sequence[CodeChange], additions: Sequence[Addition] = ()
    ) -> Tensor:
        """Scores copies of the utterance, each with edits of its own.

        Args:
            num_rows: R copies; an edit's `row` says to which it belongs.
            edits: What is switched.
            additions: What is added.

        Returns:
            (R, T, N) log-probabilities, float32 on the CPU.
        """
        transformer = self._model.encoder.transformer
        first = min(
            (one.layer for one in (*edits, *(addition.edit for addition in additions))),
            default=len(transformer.layers),
        )
        adapters = self._model.get_adapters(self._head)
        frames = self._layers[first].expand(num_rows, -1, -1)
        with apply_edits(self._model, edits), apply_additions(self._model, additions):
            for number in range(first, len(transformer.layers)):
                frames = transformer.layers[number](frames, None, None)
                if adapters is not None:
                    frames = adapters[number](frames)
        if transformer.norm_first:
            frames = transformer.norm(frames)
        return self._score(frames)

    def _score(self, context: Tensor) -> Tensor:
        logits: Tensor = self._model.heads[self._head](context)
        return logits.float().log_softmax(-1).cpu()


def align_utterance(
    model: CTCModel, utterance: Utterance, log_probs: Tensor, head: str
) -> AlignedUtterance | None:
    """Aligns a transcript with what the unedited recogniser scores; None where it does not fit.

    Args:
        model: Whose vocabulary it is.
        utterance: With its text.
        log_probs: (T, N), `UtterancePass.log_probs`.
        head: Whose labels they are.
    """
    vocabulary = model.vocabularies[head]
    labels = vocabulary.encode(utterance.text or "")
    if not labels:
        return None
    try:
        path = align_labels(log_probs, labels)
    except DataError:
        return None
    max_gap = math.ceil(_MAX_GAP_SECONDS * SAMPLE_RATE / model.frame_samples)
    spans = widen_spans(find_spans(log_probs, path), len(path), max_gap)
    return AlignedUtterance(
        utterance=replace(utterance, audio=b""),
        head=head,
        labels=labels,
        spans=[span for span in spans if span.label != UNKNOWN_ID],
        path=path,
        best_path=log_probs.argmax(-1),
        label_texts=vocabulary.labels,
        letters=frozenset(find_letters(vocabulary.labels).tolist()),
    )


def widen_spans(spans: Sequence[LabelSpan], num_frames: int, max_gap: int) -> list[LabelSpan]:
    """Widens the short peaks of CTC to the middles between them.

    Args:
        spans: Labels of an utterance in order.
        num_frames: T.
        max_gap: Blanks that a label may take to each side.
    """
    widened = []
    for number, one in enumerate(spans):
        left = spans[number - 1].end_frame if number else 0
        right = spans[number + 1].begin_frame if number + 1 < len(spans) else num_frames
        begin = max((left + one.begin_frame + 1) // 2, one.begin_frame - max_gap)
        end = min((one.end_frame + right + 1) // 2, one.end_frame + max_gap)
        widened.append(LabelSpan(one.label, begin, end, one.probability))
    return widened


def get_span(span: LabelSpan) -> Span:
    """First frame, and the one after the last."""
    return span.begin_frame, span.end_frame
