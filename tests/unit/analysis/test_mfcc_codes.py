from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft

from speechvq.analysis.mfcc_codes import (
    NUM_CEPSTRA,
    NUM_MFCCS,
    MfccExtractor,
    RandomCodes,
    fit_kmeans_codes,
)
from speechvq.errors import DataError
from speechvq.nn.fbank_features import FbankFeatureExtractor


def test_cepstra_are_the_cosine_transform_of_log_mel():
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    times = (0.0125 + 0.01 * np.arange(98)).astype(np.float32)
    found = MfccExtractor().compute(waveform, times).numpy()
    mel = FbankFeatureExtractor(40, 1).compute_log_mel(torch.from_numpy(waveform)[None])[0].numpy()
    expected = fft.dct(mel, type=2, norm="ortho", axis=1)[:, :NUM_CEPSTRA]
    padded = np.pad(expected, ((2, 2), (0, 0)), mode="edge")
    slopes = (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10
    assert found.shape == (98, NUM_MFCCS)
    np.testing.assert_allclose(found[:, :13], _standardize(expected), atol=1e-3)
    np.testing.assert_allclose(found[:, 13:26], _standardize(slopes), atol=1e-3)


def _standardize(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)


def test_moments_take_the_nearest_window():
    waveform = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    extractor = MfccExtractor()
    windows = extractor.compute(waveform, (0.0125 + 0.01 * np.arange(48)).astype(np.float32))
    found = extractor.compute(waveform, np.array([0.0175 - 1e-4, 0.0525, 9.0], dtype=np.float32))
    assert torch.equal(found, windows[[0, 4, 47]])
    assert MfccExtractor().compute(waveform[:10], np.array([0.0], np.float32)).shape == (1, 39)


def test_kmeans_finds_clusters_and_random_codes_are_the_seeds():
    rng = np.random.default_rng(1)
    centres = rng.normal(0, 5, (4, NUM_MFCCS))
    names = rng.integers(0, 4, 400)
    points = torch.from_numpy(centres[names] + rng.normal(0, 0.1, (400, NUM_MFCCS))).float()
    codes = fit_kmeans_codes([points], num_codebooks=2, codebook_size=12, seed=1).encode(points)
    assert codes.shape == (400, 2)
    for code in np.unique(codes[:, 0]):
        assert len(np.unique(names[codes[:, 0] == code])) == 1
    state = torch.get_rng_state()
    first = RandomCodes(num_codebooks=2, codebook_size=12, seed=1).encode(points)
    again = RandomCodes(num_codebooks=2, codebook_size=12, seed=1).encode(points)
    other = RandomCodes(num_codebooks=2, codebook_size=12, seed=2).encode(points)
    assert (first == again).all()
    assert (first != other).any()
    assert torch.equal(state, torch.get_rng_state())
    assert first.max() < 12
    with pytest.raises(DataError, match="12 centroids needs as many frames, but there are 5"):
        fit_kmeans_codes([points[:5]], num_codebooks=2, codebook_size=12, seed=1)
