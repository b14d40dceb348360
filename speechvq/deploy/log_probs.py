"""Log-probabilities of labels, frame by frame, as a recogniser's decoders and aligners take them.

On a CPU every waveform is computed alone: no batch can change a bit of it, and it is as fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE
from speechvq.deploy.silence import blank_silence, find_silent_frames
from speechvq.models.ctc_model import CTCModel
from speechvq.models.vocabulary import BLANK_ID

_MIN_SAMPLES = SAMPLE_RATE // 10
"""Shorter audio is filled up with silence, so that every front end finds a frame."""


def pad_waveforms(waveforms: Sequence[Waveform]) -> tuple[Tensor, Tensor]:
    """Returns a batch (B, S) and its lengths (B,)."""
    lengths = [max(len(waveform), _MIN_SAMPLES) for waveform in waveforms]
    batch = np.zeros((len(waveforms), max(lengths)), dtype=np.float32)  # (B, S)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return torch.from_numpy(batch), torch.tensor(lengths)


@torch.inference_mode()
def compute_log_probs(
    model: CTCModel, waveforms: Sequence[Waveform], languages: Sequence[str]
) -> list[dict[str, Tensor]]:
    """Computes the log-probabilities of some heads.

    Args:
        model: In evaluation mode.
        waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
        languages: Heads that the model has.

    Returns:
        Of each waveform, (T_b, N) float32 on the CPU by language; where it is silent the blank is
        certain.
    """
    device = model.encoder.mask_embedding.device
    if device.type == "cpu" and len(waveforms) > 1:
        return [compute_log_probs(model, [one], languages)[0] for one in waveforms]
    batch, lengths = pad_waveforms(waveforms)
    batch = batch.to(device)
    rows: list[dict[str, Tensor]] = [{} for _ in waveforms]
    encoded = None
    for language in languages:
        adapters = model.get_adapters(language)
        if encoded is None or adapters is not None:  # without adapters all heads share one pass
            encoded = model.encoder(batch, lengths, adapters=adapters)
        for row, context, length, waveform in zip(
            rows, encoded.context, encoded.lengths.tolist(), waveforms, strict=True
        ):
            silent = find_silent_frames(waveform, length, model.frame_samples)
            logits = model.heads[language](context[:length]).float()
            row[language] = blank_silence(logits, silent, blank_id=BLANK_ID).log_softmax(-1).cpu()
    return rows


def score_languages(model: CTCModel, waveforms: Sequence[Waveform]) -> dict[str, float]:
    """Scores every head: the mean log-probability of the labels that it recognises.

    Args:
        model: In evaluation mode.
        waveforms: float32 (S,) at 16 kHz, of one language.

    Returns:
        By language, 0 at best; -inf for a head that recognises nothing.
    """
    languages = list(model.vocabularies)
    sums = dict.fromkeys(languages, 0.0)
    counts = dict.fromkeys(languages, 0)
    for row in compute_log_probs(model, waveforms, languages):
        for language, log_probs in row.items():
            best, labels = log_probs.max(dim=-1)  # (T,)
            is_label = labels != BLANK_ID
            sums[language] += float(best[is_label].double().sum())
            counts[language] += int(is_label.sum())
    return {
        language: sums[language] / count if count else -math.inf
        for language, count in counts.items()
    }


def choose_best(scores: Mapping[str, float]) -> str | None:
    """Returns the language with the best score, the first of equals; None where no head recognises
    anything.
    """
    best = max(sorted(scores), key=lambda language: scores[language])
    return best if scores[best] > -math.inf else None
