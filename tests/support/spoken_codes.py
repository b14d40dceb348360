"""Codes of a spoken corpus's audio: k-means of MFCC, with channels put over the recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from speechvq.analysis.code_table import CodeTable, CodeTableWriter, open_code_table
from speechvq.analysis.mfcc_codes import MfccExtractor, fit_kmeans_codes
from speechvq.data.records import SAMPLE_RATE
from tests.support.planted_worlds import create_frames
from tests.support.spoken_corpus import SpokenUtterance

NUM_CENTROIDS = 128
_SHARE_FITTED = 0.3
_NUM_KNOTS = 8


@dataclass(frozen=True, kw_only=True)
class Channel:
    """What a recording does to speech.

    Attributes:
        name: Decides the filter's shape and the noise's colour.
        ripple_db: Standard deviation of the filter's gain, drawn at 8 points from 0 to 8 kHz.
        cutoff_hertz: Above it all is lost.
        snr_db: Level of speech over noise; None without noise.
    """

    name: str
    ripple_db: float = 8.0
    cutoff_hertz: float = 8000.0
    snr_db: float | None = None

    def apply(self, waveform: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        """(S,) to (S,); `seed` is of the noise."""
        shape = np.random.default_rng([7, *self.name.encode()])
        size = len(waveform)
        hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
        knots = np.linspace(0, SAMPLE_RATE / 2, _NUM_KNOTS)
        gains, colours = shape.normal(0, self.ripple_db, (2, _NUM_KNOTS))
        heard = (hertz <= self.cutoff_hertz) * 10 ** (np.interp(hertz, knots, gains) / 20)
        result = np.fft.irfft(np.fft.rfft(waveform) * heard, size)
        if self.snr_db is not None:
            white = np.random.default_rng([8, seed]).normal(size=size)
            colour = 10 ** (np.interp(hertz, knots, colours) / 20)
            noise = np.fft.irfft(np.fft.rfft(white) * colour, size)
            level = np.sqrt((result**2).mean() / (noise**2).mean()) * 10 ** (-self.snr_db / 20)
            result = result + level * noise
        return np.asarray(result, dtype=np.float32)


def write_acoustic_table(
    path: Path,
    directory: Path,
    utterances: Sequence[SpokenUtterance],
    *,
    channel: Callable[[str, int], Channel | None] = lambda language, voice: None,
    source: Callable[[str, int], str] = lambda language, voice: "studio",
    seed: int = 1,
) -> CodeTable:
    """Writes the code table of the audio.

    Args:
        path: Of the table.
        directory: Of the corpus.
        utterances: Of the corpus.
        channel: (language, voice) to the channel of their recordings.
        source: (language, voice) to the name of their source.
        seed: Of the centroids and of which frames they are fitted to.
    """
    extractor, rng = MfccExtractor(), np.random.default_rng(seed)
    features = []
    for number, one in enumerate(utterances):
        waveform = one.load(directory)
        put = channel(one.language, one.voice)
        if put is not None:
            waveform = put.apply(waveform, number)
        features.append(extractor.compute(waveform, one.times))
    kept = [one[torch.from_numpy(rng.random(len(one)) < _SHARE_FITTED)] for one in features]
    quantizer = fit_kmeans_codes(kept, num_codebooks=1, codebook_size=NUM_CENTROIDS, seed=seed)
    with CodeTableWriter(path, {"group": 1}) as writer:
        for one, frames in zip(utterances, features, strict=True):
            name = source(one.language, one.voice)
            speaker = f"{name}/v{one.voice}"
            writer.add([create_frames(one, name, speaker, quantizer.encode(frames)[:, 0])])
    return open_code_table(path)
