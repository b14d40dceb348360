"""The letter of each frame: forced alignment of the transcript, each frame the nearest label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.analysis.frame_times import compute_frame_times
from speechvq.data.audio import Waveform
from speechvq.decoding.forced_alignment import LabelSpan, align_labels, find_spans
from speechvq.errors import DataError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.vocabulary import BLANK_ID, UNKNOWN_ID

MAX_SECONDS = 0.2
"""Frames farther than this from every label have none: CTC marks labels by short peaks, and beyond
them lies silence."""


def align_letters(
    model: CTCModel,
    text: str,
    language: str,
    waveform: Waveform,
    times: NDArray[np.float32],
    *,
    logits: Tensor | None = None,
) -> list[str | None] | None:
    """Finds the letters of frames.

    Args:
        model: The recogniser that aligns, in evaluation mode.
        text: The transcript.
        language: Whose head is used.
        waveform: float32 (S,), 16 kHz.
        times: (T,) centres of the frames that want letters, which may be another model's, seconds.
        logits: (T', N) what the model says of the waveform, where it was asked already.

    Returns:
        T labels of the vocabulary, None where no label is near, or one that the vocabulary lacks;
        None where the text does not fit.
    """
    vocabulary = model.vocabularies[language]
    if logits is None:
        if model.num_frames(len(waveform)) < 1:
            return None
        batch = torch.from_numpy(waveform)[None].to(model.encoder.mask_embedding.device)
        with torch.inference_mode():
            logits = model(batch, torch.tensor([batch.size(1)]), language=language).logits[0]
    log_probs = logits.float().log_softmax(-1).cpu()
    try:
        path = align_labels(log_probs, vocabulary.encode(text), blank_id=BLANK_ID)
    except DataError:
        return None
    spans = find_spans(log_probs, path, blank_id=BLANK_ID)
    own_times = compute_frame_times(model.encoder.front_end, len(log_probs))
    labels = [None if span.label == UNKNOWN_ID else vocabulary.labels[span.label] for span in spans]
    return spread_labels(labels, spans, own_times, times)


def spread_labels(
    labels: Sequence[str | None],
    spans: Sequence[LabelSpan],
    own_times: NDArray[np.float32],
    times: NDArray[np.float32],
) -> list[str | None]:
    """Gives every frame the label that is nearest in time.

    Args:
        labels: One a span; None for a letter that the vocabulary lacks.
        spans: In order of time.
        own_times: Centres of the frames that spans count, seconds.
        times: (T,) centres of the frames that want labels.
    """
    if not spans:
        return [None] * len(times)
    begins = np.array([own_times[span.begin_frame] for span in spans], dtype=np.float64)
    ends = np.array([own_times[span.end_frame - 1] for span in spans], dtype=np.float64)
    centres = np.asarray(times, dtype=np.float64)
    after = np.searchsorted(begins, centres, "right").clip(1, len(spans)) - 1  # began before
    following = np.minimum(after + 1, len(spans) - 1)
    gaps = np.maximum(np.stack([centres - ends[after], begins[after] - centres]).max(0), 0)
    next_gaps = np.maximum(begins[following] - centres, 0)
    is_next = (following != after) & (next_gaps < gaps)
    nearest = np.where(is_next, following, after)
    distance = np.where(is_next, next_gaps, gaps)
    return [
        labels[place] if gap <= MAX_SECONDS else None
        for place, gap in zip(nearest.tolist(), distance.tolist(), strict=True)
    ]
