"""Codes that know no more than the spectrum: the controls that a model's codes have to beat.

Cepstra as HuBERT's first targets (Hsu et al. 2021, arXiv 2106.07447, section IV-B): 13 MFCCs and
their first and second differences, here with zero mean and unit variance per utterance, taken at
the 10 ms window whose centre is nearest to the model's frame. Two quantisers of the model's size
stand on them: k-means, and a random projection that has learned nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE
from speechvq.errors import DataError
from speechvq.nn.fbank_features import HOP_SAMPLES, WINDOW_SAMPLES, FbankFeatureExtractor
from speechvq.nn.kmeans import fit_kmeans
from speechvq.nn.random_projection import RandomProjectionQuantizer

NUM_CEPSTRA = 13
NUM_MFCCS = 3 * NUM_CEPSTRA
_NUM_MELS = 40
_DELTA_REACH = 2
_RANDOM_ENTRY_DIM = 16


class MfccExtractor:
    """Computes 39 cepstral features."""

    def __init__(self) -> None:
        self._fbank = FbankFeatureExtractor(_NUM_MELS, 1)
        mel = torch.arange(_NUM_MELS, dtype=torch.float32, device="cpu") + 0.5
        order = torch.arange(NUM_CEPSTRA, dtype=torch.float32, device="cpu")[:, None]
        cosines = torch.cos(math.pi / _NUM_MELS * order * mel) * math.sqrt(2 / _NUM_MELS)
        cosines[0] /= math.sqrt(2)
        self._cosines = cosines.T  # (mels, cepstra), orthonormal DCT-II

    @torch.inference_mode()
    def compute(self, waveform: Waveform, times: NDArray[np.float32]) -> Tensor:
        """Computes the features of some moments.

        Args:
            waveform: (S,) at 16 kHz.
            times: (T,) seconds.

        Returns:
            (T, 39) float32.
        """
        samples = torch.from_numpy(np.asarray(waveform, dtype=np.float32))[None]
        if samples.size(1) < WINDOW_SAMPLES:
            samples = torch.nn.functional.pad(samples, (0, WINDOW_SAMPLES - samples.size(1)))
        cepstra = (self._fbank.compute_log_mel(samples) @ self._cosines)[0]  # (N, 13)
        first = _differentiate(cepstra)
        features = torch.cat([cepstra, first, _differentiate(first)], dim=1)
        features = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
        places = (torch.from_numpy(times) * SAMPLE_RATE - WINDOW_SAMPLES / 2) / HOP_SAMPLES
        return features[places.round().long().clamp(0, len(features) - 1)]


def _differentiate(features: Tensor) -> Tensor:
    """Slope of the line through 5 windows, (N, C); the ends are repeated."""
    last = len(features) - 1
    index = torch.arange(len(features), dtype=torch.long, device="cpu")
    slope = torch.zeros_like(features)
    for step in range(1, _DELTA_REACH + 1):
        later, earlier = (index + step).clamp(max=last), (index - step).clamp(min=0)
        slope += step * (features[later] - features[earlier])
    return slope / (2 * sum(step**2 for step in range(1, _DELTA_REACH + 1)))


class TooFewFramesError(DataError):
    """K-means has fewer frames than centroids."""


class ControlQuantizer(Protocol):
    """What gives codes for MFCCs."""

    def encode(self, features: Tensor) -> NDArray[np.int64]:
        """(T, 39) → (T, G)."""
        ...


class RandomCodes:
    """BEST-RQ's random projection of MFCCs.

    Args:
        num_codebooks: G.
        codebook_size: V.
        seed: Of projection and entries.
    """

    def __init__(self, *, num_codebooks: int, codebook_size: int, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._quantizer = RandomProjectionQuantizer(
                NUM_MFCCS,
                _RANDOM_ENTRY_DIM * num_codebooks,
                num_codebooks=num_codebooks,
                codebook_size=codebook_size,
            )

    def encode(self, features: Tensor) -> NDArray[np.int64]:
        """See `ControlQuantizer`."""
        return np.asarray(self._quantizer.encode(features[None])[0].numpy(), dtype=np.int64)


class KMeansCodes:
    """Nearest centroids of MFCCs; each codebook sees all channels and starts from other frames.

    Args:
        centroids: (G, V, 39).
    """

    def __init__(self, centroids: Tensor) -> None:
        self._centroids = centroids

    def encode(self, features: Tensor) -> NDArray[np.int64]:
        """See `ControlQuantizer`."""
        codes = [torch.cdist(features, one).argmin(1) for one in self._centroids]
        return np.asarray(torch.stack(codes, dim=1).numpy(), dtype=np.int64)


def fit_kmeans_codes(
    frames: Iterable[Tensor], *, num_codebooks: int, codebook_size: int, seed: int
) -> KMeansCodes:
    """Fits centroids.

    Args:
        frames: (T, 39) of each utterance.
        num_codebooks: G.
        codebook_size: V.
        seed: Where the centroids start.

    Raises:
        TooFewFramesError: There are fewer frames than centroids.
    """
    points = torch.cat([torch.empty(0, NUM_MFCCS), *frames])
    if len(points) < codebook_size:
        raise TooFewFramesError(
            f"k-means with {codebook_size} centroids needs as many frames, but there are "
            f"{len(points)}: give more audio."
        )
    centroids = []
    for g in range(num_codebooks):
        generator = torch.Generator("cpu").manual_seed(seed + g)
        centroids.append(fit_kmeans(points, codebook_size, generator=generator)[0])
    return KMeansCodes(torch.stack(centroids))
