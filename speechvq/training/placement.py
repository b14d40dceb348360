"""Where a run's codebooks start: on the sounds of its own corpus."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from speechvq.data.index import CorpusIndex
from speechvq.data.randomness import create_generator
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.rows import RowReader
from speechvq.errors import DataError
from speechvq.models.pretrain_model import PretrainModel

PLACING_SECONDS = 1200.0
"""Audio that the codebooks are placed on: 30,000 frames of 40 ms, 90 for each of 320 entries."""

MIN_FRAMES_PER_ENTRY = 4
"""Large codebooks are placed on more audio, so that each entry has as many frames."""


@torch.no_grad()
def place_quantizer(
    model: PretrainModel, index: CorpusIndex, *, seed: int, alpha: float, max_samples: int
) -> None:
    """Place the quantiser of a new model on frames of random utterances; the same on every rank.

    Args:
        model: Its front end must give useful features from the start, as filter banks do.
        index: Training utterances.
        seed: Of the run.
        alpha: Languages are drawn with p ∝ hours^alpha, as in training.
        max_samples: Longer utterances count as this long.

    Raises:
        DataError: The corpus is smaller than a codebook.
    """
    features = collect_features(model, index, seed=seed, alpha=alpha, max_samples=max_samples)
    generator = torch.Generator("cpu").manual_seed(seed)
    try:
        model.quantizer.place(features, generator)
    except ValueError as error:
        raise DataError(
            f"The codebooks cannot be placed on so little audio: {error} Use a larger corpus, a "
            "smaller `architecture.quantizer.codebook_size`, or `quantizer_init=random`."
        ) from error


@torch.no_grad()
def collect_features(
    model: PretrainModel, index: CorpusIndex, *, seed: int, alpha: float, max_samples: int
) -> Tensor:
    """Features (N, C) of random utterances, on the CPU; the same on every rank.

    Args:
        model: Whose front end is asked.
        index: Training utterances.
        seed: Chooses the utterances.
        alpha: Languages are drawn with p ∝ hours^alpha.
        max_samples: Longer utterances count as this long.
    """
    device = next(model.parameters()).device
    frames = []
    rows = RowReader(index, capacity=1)
    seconds_per_frame = 100 / model.num_frames(100 * SAMPLE_RATE)
    num_frames = MIN_FRAMES_PER_ENTRY * model.quantizer.codebook_size
    seconds = max(PLACING_SECONDS, num_frames * seconds_per_frame)
    for position in draw_utterances(index, seed, alpha, max_samples, seconds):
        waveform = torch.from_numpy(rows.read_waveform(int(position)))[None, :max_samples]
        lengths = torch.tensor([waveform.size(1)], device="cpu")
        features, _, _ = model.encoder.compute_features(waveform.to(device), lengths)
        frames.append(features[0].cpu())  # (T, C)
    return torch.cat(frames)


def draw_utterances(
    index: CorpusIndex,
    seed: int,
    alpha: float,
    max_samples: int,
    max_seconds: float,
) -> np.ndarray:
    """Positions of about `max_seconds` of audio, in the order in which they are stored."""
    hours = np.array(list(index.hours_by_language().values()))
    weight = hours[index.language] ** (alpha - 1.0)
    # The largest of u^(1/w) are a weighted draw without replacement (Efraimidis and Spirakis 2006).
    keys = np.log(create_generator(seed, "place").random(len(index))) / weight
    order = np.argsort(-keys, kind="stable")
    seconds = np.cumsum(np.minimum(index.num_samples[order], max_samples)) / SAMPLE_RATE
    return np.sort(order[: np.searchsorted(seconds, max_seconds) + 1])
