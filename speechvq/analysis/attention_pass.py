"""Watches the attention of drawn utterances while a corpus goes by, and keeps a few to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.analysis.attention import AttentionTally, capture_attention
from speechvq.analysis.forward import compute_frames
from speechvq.analysis.frame_times import find_window_samples
from speechvq.analysis.phone_intervals import PhoneInterval
from speechvq.analysis.representations import seed_by_name
from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.data.spectrum import compute_power
from speechvq.models.ctc_model import CTCModel
from speechvq.models.pretrain_model import PretrainModel

MAX_EXAMPLES = 3
MAX_SECONDS = 40.0
"""Longer utterances are not watched: a layer's weights are heads × frames² numbers."""
_EXAMPLE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class AttentionExample:
    """The attention of one utterance within a short span.

    Attributes:
        utterance: Its id.
        language: Its language.
        span: Begin and end, seconds from the begin of the utterance.
        weights: (L, H, T, T) float16, queries by keys; rows sum to 1 over the whole utterance.
        power: (F, K) power spectrogram of the span.
        phones: Phones of the utterance; none where unknown.
        draw: Its random number, 0 to 1: the least of a language is shown.
    """

    utterance: str
    language: str
    span: tuple[float, float]
    weights: NDArray[np.float16]
    power: NDArray[np.float32]
    phones: list[PhoneInterval]
    draw: float


class AttentionPass:
    """Draws utterances by their id, so that batches and order change nothing.

    Args:
        model: In evaluation mode, on its device.
        counts: Utterances that will come, by language.
        num_utterances: About how many are watched, the same number in each language.
        seed: Of the draw.
    """

    def __init__(
        self,
        model: PretrainModel | CTCModel,
        counts: Mapping[str, int],
        num_utterances: int,
        seed: int,
    ) -> None:
        self._model, self._seed = model, seed
        self._shares = {
            language: num_utterances / len(counts) / count for language, count in counts.items()
        }
        self.tally = AttentionTally()
        self.num_too_long = 0
        self.examples: dict[str, AttentionExample] = {}

    def add(
        self, utterance: Utterance, waveform: Waveform, phones: list[PhoneInterval] | None
    ) -> None:
        """Watches an utterance if it is drawn; it runs through the model once more, by itself.

        Args:
            utterance: Which one, of at least one frame.
            waveform: Its audio.
            phones: Its phones, None where unknown.
        """
        draw = seed_by_name(f"attention\0{utterance.id}", self._seed).random()
        if draw >= self._shares[utterance.language]:
            return
        if len(waveform) > MAX_SECONDS * SAMPLE_RATE:
            self.num_too_long += 1
            return
        num_frames = self._model.num_frames(len(waveform))
        wanted = num_frames >= self.tally.min_frames and self._prefers(
            utterance.language, has_phones=bool(phones), draw=draw
        )
        front_end = self._model.encoder.front_end
        hop = front_end.frame_samples
        first, last = _choose_span(num_frames, hop)
        kept: list[NDArray[np.float16]] = []

        def receive(layer: int, weights: Tensor) -> None:
            self.tally.add(layer, weights, [num_frames])
            if wanted:
                part = weights[0, :, first:last, first:last]
                kept.append(part.to(device="cpu", dtype=torch.float16).numpy())

        with capture_attention(self._model, receive):
            compute_frames(self._model, [waveform], [0], language=utterance.language)
        if wanted:
            shift = (find_window_samples(front_end) - hop) // 2  # half a hop around each centre
            begin, end = first * hop + shift, last * hop + shift
            self.examples[utterance.language] = AttentionExample(
                utterance=utterance.id,
                language=utterance.language,
                span=(begin / SAMPLE_RATE, end / SAMPLE_RATE),
                weights=np.stack(kept),
                power=compute_power(waveform[begin:end]),
                phones=phones or [],
                draw=draw,
            )

    def _prefers(self, language: str, *, has_phones: bool, draw: float) -> bool:
        """Whether an utterance is shown rather than the one that is kept, in whatever order they
        come: those with phones first, then the least draw.
        """
        known = self.examples.get(language)
        if known is None:
            return len(self.examples) < MAX_EXAMPLES
        return (not has_phones, draw) < (not known.phones, known.draw)


def _choose_span(num_frames: int, frame_samples: int) -> tuple[int, int]:
    """The first and the last frame, excluded, of two seconds in the middle."""
    width = min(num_frames, round(_EXAMPLE_SECONDS * SAMPLE_RATE / frame_samples))
    first = (num_frames - width) // 2
    return first, first + width
