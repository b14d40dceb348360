"""Everything that is measured on one segment, in one pass over its samples.

Stands between cutting and the table of segments; deciding (`speechvq.data.decide`) looks at these
numbers only, and never at audio again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from speechvq.data.audio import to_pcm
from speechvq.data.loudness import (
    CLIPPED_SHARE,
    estimate_vad_snr,
    measure_dropouts,
    measure_integrated_loudness,
    measure_loudness,
)
from speechvq.data.spectrum import measure_spectrum
from speechvq.data.vad import (
    WINDOW_SAMPLES,
    Probabilities,
    compute_speech_ratio,
    find_samples_near_speech,
)

DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """Numbers of one segment; None where a measure is undefined, never NaN.

    Units and meanings stand in `speechvq.data.records.Utterance` under the same names.
    """

    snr_db: float | None
    vad_snr_db: float | None
    speech_ratio: float | None
    speech_probability: float | None
    loudness_lufs: float | None
    clipped_share: float | None
    zero_share: float | None
    dropout_share: float | None
    dc_offset: float | None
    bandwidth_hz: float | None
    variation_db: float | None
    tone_share: float | None
    peak_dbfs: float | None
    rms_dbfs: float | None
    digest: bytes
    """Of the 16 bit samples: equal for equal sound, whatever file it came from."""
    fingerprint: bytes | None
    """128 bits that copies share but for some twenty."""

    @property
    def is_clipped(self) -> bool:
        """Whether more than 0.1 % of the samples stand at full scale."""
        return (self.clipped_share or 0.0) > CLIPPED_SHARE


MEASURE_NAMES = tuple(
    field.name for field in fields(Measurements) if field.name not in ("digest", "fingerprint")
)
"""The measures that are numbers."""


def measure_segment(
    waveform: npt.NDArray[np.float32],
    probabilities: Probabilities,
    offset: int,
    *,
    threshold: float,
    silence_dbfs: float,
) -> Measurements:
    """Measures a segment.

    Args:
        waveform: float32 (S,), 16 kHz, finite, S > 0.
        probabilities: Speech probability of the windows that it touches, (W,).
        offset: Where in the first window it begins, in samples.
        threshold: Probability from which a window is speech.
        silence_dbfs: Level under which a frame is no sound.
    """
    near = find_samples_near_speech(probabilities, offset + len(waveform), threshold)[offset:]
    loudness = measure_loudness(waveform, silence_dbfs=silence_dbfs, near_speech=near)
    spectrum = measure_spectrum(waveform)
    return Measurements(
        snr_db=loudness.snr_db,
        vad_snr_db=estimate_vad_snr(_measure_windows(waveform, offset), probabilities),
        speech_ratio=compute_speech_ratio(probabilities, threshold),
        speech_probability=float(probabilities.mean()) if len(probabilities) else None,
        loudness_lufs=measure_integrated_loudness(waveform),
        clipped_share=loudness.clipped_share,
        zero_share=loudness.zero_share,
        dropout_share=measure_dropouts(waveform),
        dc_offset=loudness.dc_offset,
        bandwidth_hz=spectrum.bandwidth_hz,
        variation_db=spectrum.variation_db,
        tone_share=spectrum.tone_share,
        peak_dbfs=loudness.peak_dbfs,
        rms_dbfs=loudness.rms_dbfs,
        digest=digest_samples(waveform),
        fingerprint=spectrum.fingerprint,
    )


def digest_samples(waveform: npt.NDArray[np.float32]) -> bytes:
    """Returns a digest of the samples as 16 bit, whatever their container was."""
    return hashlib.blake2b(to_pcm(waveform).tobytes(), digest_size=DIGEST_BYTES).digest()


def _measure_windows(waveform: npt.NDArray[np.float32], offset: int) -> npt.NDArray[np.float64]:
    """Returns the mean power of each window of 32 ms, (W,); those at the ends are partial."""
    num_windows = -(-(offset + len(waveform)) // WINDOW_SAMPLES)
    padded = np.zeros(num_windows * WINDOW_SAMPLES, np.float32)
    padded[offset : offset + len(waveform)] = waveform
    windows = padded.reshape(num_windows, WINDOW_SAMPLES)
    return np.asarray(np.einsum("ij,ij->i", windows, windows, dtype=np.float64) / WINDOW_SAMPLES)
