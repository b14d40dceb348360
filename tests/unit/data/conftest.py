"""Input directories that the tests make themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

Rows = Sequence[Mapping[str, object]]
RATE = 16_000


def make_voice(seconds: float, *, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A buzz with moving formants and syllables: Silero takes it for speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 15 * np.sin(2 * np.pi * 0.7 * time + seed) + rng.normal(0, 1)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros_like(time)
    for harmonic in range(1, 28):
        frequency = harmonic * pitch
        first = 500 + 250 * np.sin(2 * np.pi * 1.9 * time + seed)
        second = 1500 + 600 * np.sin(2 * np.pi * 1.3 * time)
        gain = np.exp(-(((frequency - first) / 150) ** 2)) + 0.6 * np.exp(
            -(((frequency - second) / 220) ** 2)
        )
        voice += (gain + 0.02 / harmonic) * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.6, 0, 1)
    voice = voice * syllables + 0.002 * rng.standard_normal(len(time))
    return (0.4 * voice / np.abs(voice).max()).astype(np.float32)


def write_manifest(directory: Path, rows: Rows) -> Path:
    """Writes `manifest.tsv` with the union of the rows' keys."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["\t".join(columns)]
    lines += ["\t".join(str(row.get(key, "")) for key in columns) for row in rows]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def voice() -> Callable[..., np.ndarray]:
    return make_voice


@pytest.fixture(scope="session")
def manifest() -> Callable[[Path, Rows], Path]:
    return write_manifest
